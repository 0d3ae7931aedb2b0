//! Where does a sequence's randomness come from?
//!
//! From its seed and the place of the token, by a fixed function: no state to keep, restore or share. The function is written
//! here and not taken from a crate, because a seed promises the same answer after every update.

/// Scrambles 64 bits so that every input bit changes about half of the output's (the finalizer of SplitMix64).
pub(crate) fn mix(value: u64, salt: u64) -> u64 {
    let mut bits = value.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Returns a number in 0‥1 (never 1) for the token at that place.
pub(crate) fn uniform(seed: u64, output_index: u32) -> f64 {
    // 53 bits fill a double's fraction.
    (mix(mix(seed, 0), u64::from(output_index)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_seeds_spread_evenly() {
        let mut counts = [0u32; 10];
        for seed in 0..100 {
            for place in 0..100 {
                let point = uniform(seed, place);
                assert!((0.0..1.0).contains(&point));
                counts[(point * 10.0) as usize] += 1;
            }
        }
        // 10,000 draws over 10 bins: a standard deviation of 30 around 1,000; five of them.
        assert!(counts.iter().all(|&count| (850..1150).contains(&count)), "{counts:?}");
    }
}
