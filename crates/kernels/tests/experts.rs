//! Do rows get what the experts they chose make of them, whoever else is there?

mod common;

use common::Numbers;
use kernels::{
    ExpertBuffers, ExpertPart, Experts, ExpertsShape, Isa, Matrix, Numerics, Pool, PoolOptions, Precision,
    Routes, reference,
};

const PRECISIONS: [Precision; 4] = [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8];

fn pools() -> Vec<Pool> {
    let numerics = Numerics::BatchInvariant;
    Isa::available().map(|isa| Pool::with(PoolOptions { threads: 2, isa, numerics })).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Weights of a size that keeps rows of the size they have, rounded so that every float format holds them.
struct Case {
    shape: ExpertsShape,
    gate: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
    x: Vec<f32>,
    scores: Vec<f32>,
    chosen: usize,
}

impl Case {
    fn new(shape: ExpertsShape, rows: usize, chosen: usize) -> Self {
        let ExpertsShape { count, hidden, width } = shape;
        let mut numbers = Numbers((count * hidden + width) as u64);
        let mut weights = |inputs: usize| -> Vec<f32> {
            let scale = 2.0_f32.powi(-(inputs.ilog2() as i32) / 2);
            let rounded = |value: &f32| half::bf16::from_f32((value * 64.0).round() / 64.0).to_f32() * scale;
            numbers.floats(count * hidden * width).iter().map(rounded).collect()
        };
        let (gate, up, down) = (weights(hidden), weights(hidden), weights(width));
        let (x, scores) = (numbers.floats(rows * hidden), numbers.floats(rows * count));
        Self { shape, gate, up, down, x, scores, chosen }
    }

    fn pack(&self, pool: &Pool, precision: Precision) -> Experts {
        let ExpertsShape { hidden, width, .. } = self.shape;
        let fill = |place: Option<(ExpertPart, usize, usize)>, values: &mut [f32]| {
            values.fill(0.0);
            let Some((part, expert, row)) = place else { return };
            let (from, rows, inputs) = match part {
                ExpertPart::Gate => (&self.gate, width, hidden),
                ExpertPart::Up => (&self.up, width, hidden),
                ExpertPart::Down => (&self.down, hidden, width),
            };
            values[..inputs].copy_from_slice(&from[(expert * rows + row) * inputs..][..inputs]);
        };
        let (outputs, inputs) = self.shape.gate_up();
        let gate_up = Matrix::pack_with(pool, precision, outputs, inputs, &|row, values| {
            fill(self.shape.of_gate_up(row), values);
        });
        let (outputs, inputs) = self.shape.down();
        let down = Matrix::pack_with(pool, precision, outputs, inputs, &|row, values| {
            fill(self.shape.of_down(row), values);
        });
        Experts::new(self.shape, gate_up, down)
    }

    fn run(&self, pool: &Pool, experts: &Experts, rows: std::ops::Range<usize>) -> Vec<f32> {
        let ExpertsShape { count, hidden, .. } = self.shape;
        let scores = &self.scores[rows.start * count..rows.end * count];
        let mut routes = Routes::default();
        routes.choose(pool, scores, count, self.chosen, true);
        let x = &self.x[rows.start * hidden..rows.end * hidden];
        let mut out = vec![0.0; x.len()];
        experts.run(pool, x, &routes, &mut ExpertBuffers::default(), &mut out);
        out
    }

    fn truth(&self) -> Vec<f32> {
        let ExpertsShape { count, hidden, width } = self.shape;
        let size = hidden * width;
        let rows = self.x.chunks_exact(hidden).zip(self.scores.chunks_exact(count));
        rows.flat_map(|(x, scores)| {
            let mut sum = vec![0.0; hidden];
            for (expert, weight) in reference::experts::route(scores, self.chosen, true) {
                let of = |weights: &'_ [f32]| weights[expert * size..][..size].to_vec();
                let made = reference::experts::expert(x, &of(&self.gate), &of(&self.up), &of(&self.down));
                sum.iter_mut().zip(made).for_each(|(sum, made)| *sum += weight * made);
            }
            sum
        })
        .collect()
    }
}

fn shape(count: usize, hidden: usize, width: usize) -> ExpertsShape {
    ExpertsShape { count, hidden, width }
}

/// Float weights are exact here and sums of at most a few hundred products of size one are off by 2^-24 of themselves each: 1e-4
/// of the largest result is far more. Int8 rounds weights and activations of both products to half of 1/127 of their largest, about
/// four times the typical one: 4 · 4/254/√3, that is 4 % of a typical result, of which the worst of some thousand is five.
#[test]
fn rows_get_the_weighted_sum_of_the_experts_they_chose() {
    for (shape, rows, chosen) in [
        (shape(8, 64, 32), 1, 2),
        (shape(8, 64, 32), 37, 3),
        (shape(5, 48, 20), 9, 5),
        (shape(3, 30, 7), 4, 1),
        (shape(128, 96, 32), 20, 8),
        (shape(4, 600, 80), 70, 2),
    ] {
        let case = Case::new(shape, rows, chosen);
        let truth = case.truth();
        let typical = (truth.iter().map(|value| value * value).sum::<f32>() / truth.len() as f32).sqrt();
        for pool in pools() {
            for precision in PRECISIONS {
                let experts = case.pack(&pool, precision);
                let out = case.run(&pool, &experts, 0..rows);
                let worst = out.iter().zip(&truth).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
                let bound = if precision == Precision::Int8 { 5.0 * 0.04 } else { 1e-4 };
                let path = experts.path(&pool);
                assert!(worst <= bound * typical, "{path} {shape:?}: {worst} of {typical}");
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_in_a_crowd_and_with_any_number_of_threads() {
    let case = Case::new(shape(8, 100, 48), 40, 3);
    for pool in pools() {
        for precision in PRECISIONS {
            let experts = case.pack(&pool, precision);
            let whole = case.run(&pool, &experts, 0..40);
            for rows in [0..1, 3..4, 5..12, 8..40] {
                let part = case.run(&pool, &experts, rows.clone());
                assert_eq!(
                    bits(&part),
                    bits(&whole[rows.start * 100..rows.end * 100]),
                    "{precision:?} {rows:?}"
                );
            }
            let alone = Pool::with(PoolOptions { threads: 1, isa: pool.isa(), numerics: pool.numerics() });
            assert_eq!(bits(&case.run(&alone, &experts, 0..40)), bits(&whole), "{precision:?}");
        }
    }
}

#[test]
fn experts_may_be_chosen_by_nobody_or_by_all() {
    for favourites in [[2, 5], [0, 1], [6, 7]] {
        let mut case = Case::new(shape(8, 64, 32), 33, 2);
        for scores in case.scores.chunks_exact_mut(8) {
            scores.fill(-50.0);
            favourites.iter().for_each(|expert| scores[*expert] = 1.0);
        }
        let pool = Pool::new(2);
        let out = case.run(&pool, &case.pack(&pool, Precision::F32), 0..33);
        let truth = case.truth();
        assert!(out.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-4), "{favourites:?}");
    }
}

#[test]
fn scores_that_are_not_numbers_spoil_their_own_row_only() {
    let sound = Case::new(shape(8, 64, 32), 6, 2);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::new(shape(8, 64, 32), 6, 2);
        case.scores[3 * 8..4 * 8].fill(bad);
        case.scores[3 * 8 + 5] = f32::NAN;
        for pool in pools() {
            let experts = sound.pack(&pool, Precision::Int8);
            let (out, expected) = (case.run(&pool, &experts, 0..6), sound.run(&pool, &experts, 0..6));
            for row in 0..6 {
                let (out, expected) = (&out[row * 64..][..64], &expected[row * 64..][..64]);
                match row {
                    3 => assert!(out.iter().all(|value| value.is_nan()), "{bad}"),
                    _ => assert_eq!(bits(out), bits(expected), "{bad}: row {row}"),
                }
            }
        }
    }
}

#[test]
fn all_experts_take_two_matrices_and_no_more() {
    let pool = Pool::new(1);
    let case = Case::new(shape(16, 64, 32), 1, 2);
    // Three weights of 64 × 32 for each expert, two bytes each; nothing to pad.
    assert_eq!(case.pack(&pool, Precision::Bf16).resident_bytes(), 16 * 3 * 64 * 32 * 2);
}
