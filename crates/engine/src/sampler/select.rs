//! Which few of a hundred thousand scores matter? Answered without sorting them all.

use std::cmp::Ordering;

use domain::TokenId;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scored {
    pub(super) token: TokenId,
    pub(super) score: f32,
}

/// Best first; equals in the order of their numbers.
pub(super) fn by_score(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.token.cmp(&b.token))
}

/// Independent lanes, so that the compiler can use vector registers.
const LANES: usize = 16;

/// Returns the highest score and the lowest token that has it; nothing if a score is NaN or +∞, or all are -∞.
pub(super) fn argmax(scores: &[f32]) -> Option<Scored> {
    /// Only the first block with the highest score is looked through for its place.
    const BLOCK: usize = 1024;
    let (mut score, mut first) = (f32::NEG_INFINITY, 0);
    for (number, block) in scores.chunks(BLOCK).enumerate() {
        let highest = highest_of(block)?;
        if highest > score {
            (score, first) = (highest, number * BLOCK);
        }
    }
    let place = scores[first..].iter().position(|&other| other == score)?;
    (score > f32::NEG_INFINITY).then(|| Scored { token: (first + place) as TokenId, score })
}

/// Nothing if a score is NaN or +∞.
fn highest_of(scores: &[f32]) -> Option<f32> {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let mut sound = [true; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            // False for NaN as well.
            sound[lane] &= chunk[lane] < f32::INFINITY;
            highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
        }
    }
    let mut score = f32::NEG_INFINITY;
    for &other in highest.iter().chain(rest) {
        score = if other > score { other } else { score };
    }
    let is_sound = sound.iter().all(|&sound| sound) && rest.iter().all(|&score| score < f32::INFINITY);
    is_sound.then_some(score)
}

/// Fills `weights` with `exp((score - highest) · scale)` and returns their sum, the same for the same scores.
pub(super) fn exp_sum(scores: &[f32], highest: f32, scale: f32, weights: &mut Vec<f32>) -> f64 {
    weights.clear();
    weights.extend(scores.iter().map(|&score| exp(((score - highest) * scale).max(EXP_LEAST))));
    // Each lane sums 64 numbers of at most 1 before they join a double: the error stays under 64 roundings of an f32.
    let mut total = 0.0f64;
    for block in weights.chunks(64 * LANES) {
        let mut sums = [0.0f32; LANES];
        let chunks = block.chunks_exact(LANES);
        total += chunks.remainder().iter().map(|&weight| f64::from(weight)).sum::<f64>();
        for chunk in chunks {
            for lane in 0..LANES {
                sums[lane] += chunk[lane];
            }
        }
        total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total
}

/// `exp` of less is 0 here: 10⁻³⁷ of the likeliest token, which no draw in the life of the machine will hit.
const EXP_LEAST: f32 = -87.0;

/// `eˣ` for x in -87‥0, to within 3·10⁻⁷ of its value, in a form that compilers turn into vector code; the library's is a call
/// a number, and a step may need ten million.
fn exp(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2. Adding 1.5·2²³ rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, of which the first has few bits, so that n times it is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    // The Taylor series to r⁶: what follows is below 0.3466⁷ / 5040 = 1.2·10⁻⁷.
    let series =
        1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x > EXP_LEAST { series * power } else { 0.0 }
}

/// Fills `kept` with the `count` highest scores of at least `least`, in any order; of equals, the lowest tokens.
pub(super) fn highest(scores: &[f32], count: usize, least: f32, kept: &mut Vec<Scored>) {
    kept.clear();
    if count == 0 {
        return;
    }
    // Four times what is wanted before the rest is thrown out: each round pays for itself, and raises the bar.
    let room = 4 * count.min(scores.len()) + 64;
    let mut bar = least;
    for (token, &score) in scores.iter().enumerate() {
        if score >= bar {
            kept.push(Scored { token: token as TokenId, score });
            if kept.len() >= room {
                bar = throw_out(kept, count);
            }
        }
    }
    if kept.len() > count {
        throw_out(kept, count);
    }
}

/// Leaves the best `count`, and returns the worst score among them.
fn throw_out(kept: &mut Vec<Scored>, count: usize) -> f32 {
    let (_, worst, _) = kept.select_nth_unstable_by(count - 1, by_score);
    let bar = worst.score;
    kept.truncate(count);
    bar
}

/// Returns the last, in order, of the fewest best whose scores add up to `wanted`; one always stays.
pub(super) fn nucleus_end(kept: &mut [Scored], wanted: f64) -> Scored {
    let (mut part, mut wanted) = (kept, wanted);
    // Halved like a search, so that every score is looked at about twice and none is sorted but the last few.
    while part.len() > 64 {
        let middle = part.len() / 2;
        part.select_nth_unstable_by(middle, by_score);
        let (better, worse) = part.split_at_mut(middle);
        let sum = sum_of(better);
        if sum >= wanted {
            part = better;
        } else {
            wanted -= sum;
            part = worse;
        }
    }
    part.sort_unstable_by(by_score);
    let reached = part.iter().position(|scored| {
        wanted -= f64::from(scored.score);
        wanted <= 0.0
    });
    // Rounding may leave the sum just short of all.
    reached.map_or_else(|| last_of(part), |place| part[place])
}

pub(super) fn sum_of(scored: &[Scored]) -> f64 {
    scored.iter().map(|scored| f64::from(scored.score)).sum()
}

/// Returns the last in order of scores that are some.
pub(super) fn last_of(scored: &[Scored]) -> Scored {
    *scored.iter().max_by(|a, b| by_score(a, b)).expect("the likeliest token is always among them")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fast_exponential_is_as_exact_as_it_says() {
        for step in 0..=100_000 {
            let x = -86.99 * step as f32 / 100_000.0;
            let (fast, exact) = (f64::from(exp(x)), f64::from(x).exp());
            // Subnormals begin at -87.3; above, every value has full precision.
            assert!((fast / exact - 1.0).abs() < 3e-7, "exp({x}) is {exact}, got {fast}");
        }
        assert_eq!((exp(0.0), exp(EXP_LEAST)), (1.0, 0.0));
    }

    #[test]
    fn the_lowest_of_equal_tokens_is_the_highest_score() {
        let mut scores = vec![0.0f32; 100];
        scores[97] = 2.0;
        scores[35] = 2.0;
        assert_eq!(argmax(&scores), Some(Scored { token: 35, score: 2.0 }));
        // In a block that is not the first, and again in a later one.
        let mut scores = vec![0.0f32; 5000];
        (scores[2050], scores[2071], scores[4000]) = (2.0, 2.0, 2.0);
        assert_eq!(argmax(&scores), Some(Scored { token: 2050, score: 2.0 }));
    }

    #[test]
    fn unsound_scores_have_no_highest() {
        for place in [0, 17, 39, 2047, 2999] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut scores = vec![1.0f32; if place < 40 { 40 } else { 3000 }];
                scores[place] = bad;
                assert_eq!(argmax(&scores), None, "{bad} at {place}");
            }
        }
        assert_eq!(argmax(&[f32::NEG_INFINITY; 40]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY, 1.0]), Some(Scored { token: 1, score: 1.0 }));
    }

    fn sorted(mut scored: Vec<Scored>) -> Vec<Scored> {
        scored.sort_by(by_score);
        scored
    }

    fn all(scores: &[f32]) -> Vec<Scored> {
        scores.iter().zip(0..).map(|(&score, token)| Scored { token, score }).collect()
    }

    proptest! {
        #[test]
        fn the_highest_are_those_that_sorting_would_find(
            // Few different values, so that there are many equals.
            scores in proptest::collection::vec((0u8..40).prop_map(f32::from), 1..700),
            count in 0usize..90,
        ) {
            let mut expected = sorted(all(&scores));
            expected.truncate(count);
            let mut kept = Vec::new();
            highest(&scores, count, f32::NEG_INFINITY, &mut kept);
            prop_assert_eq!(sorted(kept), expected);
        }

        #[test]
        fn the_nucleus_is_the_one_that_sorting_would_find(
            scores in proptest::collection::vec((1u8..200).prop_map(f32::from), 1..900),
            share in 0.0f64..1.0,
        ) {
            let total: f64 = scores.iter().map(|&score| f64::from(score)).sum();
            let mut sum = 0.0;
            let mut expected = sorted(all(&scores));
            let reached = expected.iter().position(|scored| {
                sum += f64::from(scored.score);
                sum >= share * total
            });
            expected.truncate(reached.unwrap() + 1);
            let end = nucleus_end(&mut all(&scores), share * total);
            prop_assert_eq!(end, *expected.last().unwrap());
        }
    }
}
