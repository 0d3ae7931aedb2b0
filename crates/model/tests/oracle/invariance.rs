//! Does an answer depend on anything but the sequence itself?

use model::{Forward, Model};

use crate::harness::{
    Expected, FAMILIES, Gap, Piece, folder, load, load_exact, log_probabilities, run, run_in_one_go,
};

/// Runs one sequence in steps of `rows` rows.
fn run_in_steps(model: &mut Model, tokens: &[u32], rows: usize, blocks: &[u32]) -> Vec<f32> {
    let steps = (0..tokens.len()).step_by(rows);
    let piece = |from: usize| Piece { tokens, from, to: tokens.len().min(from + rows), blocks };
    steps.flat_map(|from| run(model, &[piece(from)]).remove(0)).collect()
}

fn assert_same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let different = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    assert!(
        different.is_none(),
        "{what}: score {different:?} is {} instead of {}",
        found[different.unwrap()],
        expected[different.unwrap()]
    );
}

#[test]
fn steps_of_any_size_give_the_same_scores() {
    for family in FAMILIES {
        let tokens = Expected::read(family).tokens;
        let mut model = load_exact(&folder(family));
        let whole = run_in_one_go(&mut model, &tokens);
        for rows in [1, 7, 32] {
            let found = run_in_steps(&mut model, &tokens, rows, &[3, 2]);
            assert_same(&format!("{family} in steps of {rows}"), &found, &whole);
        }
    }
}

/// The fastest path for one row may round otherwise than that for many: then answers agree within the gate.
#[test]
fn steps_of_any_size_agree_in_the_fastest_arithmetic() {
    for family in FAMILIES {
        let expected = Expected::read(family);
        let mut model = load(&folder(family));
        let vocabulary = model.shape().vocabulary;
        for rows in [1, 7, 32] {
            let found = run_in_steps(&mut model, &expected.tokens, rows, &[3, 2]);
            let found = log_probabilities(&found, vocabulary);
            let gap = Gap::between(&found, &expected.log_probabilities, vocabulary);
            assert!(gap.passes(), "{family} in steps of {rows}: {gap:?}");
        }
    }
}

#[test]
fn neighbours_and_their_order_do_not_matter() {
    for family in FAMILIES {
        let tokens = Expected::read(family).tokens;
        let mut model = load_exact(&folder(family));
        // Four sequences of other lengths and tokens, each computed alone first.
        let sequences: Vec<Vec<u32>> = [(0, 56), (5, 40), (11, 33), (20, 21)]
            .map(|(from, to): (usize, usize)| tokens[from..to].to_vec())
            .to_vec();
        let alone: Vec<_> = sequences.iter().map(|tokens| run_in_one_go(&mut model, tokens)).collect();

        // A decode row, chunks and a whole prompt in one batch; blocks lie anywhere.
        let blocks: [&[u32]; 4] = [&[9, 4], &[15, 0], &[7, 8], &[2]];
        let done = [55, 13, 1, 0];
        for (i, tokens) in sequences.iter().enumerate().filter(|(i, _)| done[*i] > 0) {
            run(&mut model, &[Piece { tokens, from: 0, to: done[i], blocks: blocks[i] }]);
        }
        for order in [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]] {
            let piece = |i: usize| Piece {
                tokens: &sequences[i],
                from: done[i],
                to: sequences[i].len(),
                blocks: blocks[i],
            };
            let found = run(&mut model, &order.map(piece));
            for (scores, i) in found.iter().zip(order) {
                let from = done[i] * model.shape().vocabulary;
                assert_same(&format!("{family}, sequence {i} of {order:?}"), scores, &alone[i][from..]);
            }
        }
    }
}

#[test]
fn a_shared_prefix_is_as_good_as_an_own_one() {
    for family in FAMILIES {
        let tokens = Expected::read(family).tokens;
        let mut model = load_exact(&folder(family));
        let mut other = tokens.clone();
        other[40..].rotate_left(3);
        let alone = run_in_one_go(&mut model, &other);

        run(&mut model, &[Piece { tokens: &tokens, from: 0, to: 56, blocks: &[5, 6] }]);
        // The second sequence begins at the second block: the first block is the first sequence's.
        let found =
            run(&mut model, &[Piece { tokens: &other, from: 32, to: 56, blocks: &[5, 10] }]).remove(0);
        assert_same(family, &found, &alone[32 * model.shape().vocabulary..]);
    }
}

#[test]
fn only_wanted_rows_are_scored() {
    let tokens = Expected::read("qwen3").tokens;
    let mut model = load_exact(&folder("qwen3"));
    let vocabulary = model.shape().vocabulary;
    let whole = run_in_one_go(&mut model, &tokens);
    let piece = Piece { tokens: &tokens, from: 0, to: 56, blocks: &[0, 1] };
    for wanted in [vec![], vec![55], vec![0, 7, 8, 41]] {
        let mut batch = crate::harness::batch(&[piece]);
        batch.logit_rows = wanted.clone();
        let mut logits = vec![f32::NAN; 3];
        model.run(&batch, &mut logits).unwrap();
        let expected: Vec<f32> = wanted
            .iter()
            .flat_map(|row| whole[*row as usize * vocabulary..][..vocabulary].to_vec())
            .collect();
        assert_same(&format!("rows {wanted:?}"), &logits, &expected);
    }
}

/// More rows than are computed at once: the batch is cut inside its second sequence.
#[test]
fn a_batch_larger_than_the_buffers_gives_the_same_scores() {
    let seed = Expected::read("mistral").tokens;
    let tokens: Vec<u32> = seed.iter().cycle().copied().take(700).collect();
    let mut model = load_exact(&folder("mistral"));
    model.reserve(50).unwrap();
    let blocks: Vec<u32> = (0..44).collect();
    let piece = |blocks| Piece { tokens: &tokens, from: 0, to: 700, blocks };
    let alone = run(&mut model, &[piece(&blocks[..22])]).remove(0);
    let found = run(&mut model, &[piece(&blocks[22..]), piece(&blocks[..22])]);
    assert_same("first", &found[0], &alone);
    assert_same("second", &found[1], &alone);
}
