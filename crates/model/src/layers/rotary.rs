//! By which angles a position turns queries and keys.

use std::f64::consts::PI;

use crate::config::{Rope, RopeScaling};

/// Cosines and sines kept from step to step: 32,768 positions of a head of 128. Positions past the bound are computed
/// each time they occur.
const TABLE_BYTES_MAX: usize = 16 << 20;
/// The table grows by this many positions at a time.
const TABLE_GROWTH: usize = 512;

/// The rotation of one model, and a table of it.
///
/// Angles are products of doubles and rounded once, at the end: a product of floats is off by 0.004 radians at position
/// 100,000, which is where long contexts live.
pub(crate) struct Rotary {
    /// `rotary_dim / 2` angles a position.
    frequencies: Vec<f64>,
    dynamic: Option<Dynamic>,
    /// What cosines and sines are multiplied by.
    magnitude: f64,
    /// Rows of cosines, then sines, of positions 0, 1, 2, …
    table: Vec<f32>,
}

/// NTK scaling whose base grows with the sequence.
///
/// A position's angles depend on that position alone, as if the sequence ended there. That is what transformers does when
/// it decodes token by token, and the only reading under which chunks, cached prefixes and neighbours in a batch cannot
/// change an answer; for a prompt past the original length, transformers takes the prompt's length for all its positions.
struct Dynamic {
    factor: f64,
    original: f64,
}

impl Rotary {
    /// `divisors` are the values of the tensor that [`RopeScaling::Divisors`] asks for.
    pub(crate) fn new(rope: &Rope, divisors: Option<&[f32]>) -> Self {
        let mut rotary = Self {
            frequencies: plain(rope.theta, rope.rotary_dim),
            dynamic: None,
            magnitude: 1.0,
            table: Vec::new(),
        };
        match rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => rotary.frequencies.iter_mut().for_each(|f| *f /= factor),
            RopeScaling::Dynamic { factor, original } => {
                rotary.dynamic = Some(Dynamic { factor, original });
            }
            RopeScaling::Yarn { attention_factor, .. } => {
                rotary.magnitude = attention_factor;
                yarn(rope, &mut rotary.frequencies);
            }
            RopeScaling::Llama3 { factor, original, low_frequency_factor, high_frequency_factor } => {
                let borders = (low_frequency_factor, high_frequency_factor);
                rotary.frequencies.iter_mut().for_each(|f| *f = llama3(*f, factor, original, borders));
            }
            RopeScaling::Divisors => {
                let divisors =
                    divisors.expect("the loader reads the divisors that the configuration asks for");
                for (frequency, divisor) in rotary.frequencies.iter_mut().zip(divisors) {
                    *frequency /= f64::from(*divisor);
                }
            }
        }
        rotary
    }

    /// Dimensions of a head that are rotated.
    pub(crate) fn rotary_dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Writes the cosines and sines of consecutive positions: rows of `rotary_dim / 2` values each.
    pub(crate) fn fill(&mut self, first_position: usize, cos: &mut [f32], sin: &mut [f32]) {
        let half = self.frequencies.len();
        self.extend_table(first_position + cos.len() / half);
        for (i, (cos, sin)) in cos.chunks_exact_mut(half).zip(sin.chunks_exact_mut(half)).enumerate() {
            let position = first_position + i;
            match self.table.get(position * 2 * half..(position + 1) * 2 * half) {
                Some(row) => {
                    cos.copy_from_slice(&row[..half]);
                    sin.copy_from_slice(&row[half..]);
                }
                None => self.compute(position, cos, sin),
            }
        }
    }

    fn extend_table(&mut self, positions: usize) {
        let width = self.rotary_dim();
        let positions_max = TABLE_BYTES_MAX / (width * size_of::<f32>());
        let (have, wanted) = (self.table.len() / width, positions.next_multiple_of(TABLE_GROWTH));
        let wanted = wanted.min(positions_max);
        if have >= wanted {
            return;
        }
        self.table.reserve_exact((wanted - have) * width);
        let mut row = vec![0.0; width];
        for position in have..wanted {
            let (cos, sin) = row.split_at_mut(width / 2);
            self.compute(position, cos, sin);
            self.table.extend_from_slice(&row);
        }
    }

    fn compute(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        let stretch =
            self.dynamic.as_ref().map_or(0.0, |dynamic| dynamic.stretch(position, self.rotary_dim()));
        for (i, ((cos, sin), frequency)) in cos.iter_mut().zip(sin).zip(&self.frequencies).enumerate() {
            let share = 2.0 * i as f64 / self.rotary_dim() as f64;
            let angle = position as f64 * frequency * (-stretch * share).exp();
            *cos = (angle.cos() * self.magnitude) as f32;
            *sin = (angle.sin() * self.magnitude) as f32;
        }
    }
}

impl Dynamic {
    /// The logarithm of what the base is multiplied by at a position; 0 up to the original length.
    fn stretch(&self, position: usize, rotary_dim: usize) -> f64 {
        let dim = rotary_dim as f64;
        let length = self.original.max((position + 1) as f64);
        let growth = self.factor * length / self.original - (self.factor - 1.0);
        growth.ln() * dim / (dim - 2.0)
    }
}

fn plain(theta: f64, rotary_dim: usize) -> Vec<f64> {
    (0..rotary_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / rotary_dim as f64)).collect()
}

/// Long waves are stretched by the factor, short ones are left alone, and those between are mixed.
fn llama3(frequency: f64, factor: f64, original: f64, (low, high): (f64, f64)) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// A ramp over the dimensions, from those that turn often within the original length (left alone) to those that turn
/// less than once (stretched by the factor).
fn yarn(rope: &Rope, frequencies: &mut [f64]) {
    let RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } = rope.scaling else {
        return;
    };
    let dim = rope.rotary_dim as f64;
    let dimension_that_turns =
        |times: f64| dim * (original / (times * 2.0 * PI)).ln() / (2.0 * rope.theta.ln());
    let (mut low, mut high) = (dimension_that_turns(beta_fast), dimension_that_turns(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    for (i, frequency) in frequencies.iter_mut().enumerate() {
        let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * stretched + *frequency * (1.0 - stretched);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::ModelConfig;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope { theta: 10_000.0, rotary_dim: 16, scaling }
    }

    fn fill(rotary: &mut Rotary, first_position: usize, rows: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut cos, mut sin) = (vec![0.0; rows * 8], vec![0.0; rows * 8]);
        rotary.fill(first_position, &mut cos, &mut sin);
        (cos, sin)
    }

    #[test]
    fn every_scaling_has_the_frequencies_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/families/rope.json");
        let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let rows = fixture["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 12);
        for row in rows {
            let rotary = Rotary::new(&ModelConfig::parse(&row["config"]).unwrap().rope, None);
            let expected: Vec<f64> = serde_json::from_value(row["frequencies"].clone()).unwrap();
            assert_eq!(rotary.frequencies.len(), expected.len());
            for (found, expected) in rotary.frequencies.iter().zip(expected) {
                // Transformers computes in floats, each operation off by up to 6e-8. In the power, the exponent's error
                // is multiplied by ln(theta) < 14; about five operations follow, and the mixtures of Llama 3 multiply
                // what has gathered by at most 4 / (4 - 1): together less than 2e-6.
                assert!((found / expected - 1.0).abs() < 2e-6, "{}: {found} against {expected}", row["name"]);
            }
            let magnitude = row["magnitude"].as_f64().unwrap();
            assert!((rotary.magnitude - magnitude).abs() < 1e-12, "{}", row["name"]);
        }
    }

    #[test]
    fn positions_in_the_table_and_past_it_turn_alike() {
        let mut rotary = Rotary::new(&rope(RopeScaling::None), None);
        let end = TABLE_BYTES_MAX / (16 * size_of::<f32>());
        let (cos, sin) = fill(&mut rotary, end - 2, 4);
        assert_eq!(size_of_val(&*rotary.table), TABLE_BYTES_MAX);
        for (i, (cos, sin)) in cos.iter().zip(&sin).enumerate() {
            let angle = (end - 2 + i / 8) as f64 * 10_000f64.powf(-((i % 8) as f64) / 8.0);
            assert_eq!((*cos, *sin), (angle.cos() as f32, angle.sin() as f32));
        }
    }

    #[test]
    fn a_position_turns_alike_in_every_chunk() {
        let mut whole = Rotary::new(&rope(RopeScaling::Dynamic { factor: 4.0, original: 24.0 }), None);
        let mut parts = Rotary::new(&rope(RopeScaling::Dynamic { factor: 4.0, original: 24.0 }), None);
        let (cos, sin) = fill(&mut whole, 0, 64);
        for position in [63, 0, 24, 23, 25] {
            let at = position * 8..(position + 1) * 8;
            assert_eq!(fill(&mut parts, position, 1), (cos[at.clone()].to_vec(), sin[at].to_vec()));
        }
    }

    #[test]
    fn divisors_from_a_file_divide_each_frequency() {
        let divisors = [1.0, 1.0, 1.0, 2.0, 3.0, 8.0, 8.0, 8.0];
        let plain = Rotary::new(&rope(RopeScaling::None), None);
        let divided = Rotary::new(&rope(RopeScaling::Divisors), Some(&divisors));
        for ((plain, divided), divisor) in plain.frequencies.iter().zip(&divided.frequencies).zip(divisors) {
            assert_eq!(*divided, plain / f64::from(divisor));
        }
    }
}
