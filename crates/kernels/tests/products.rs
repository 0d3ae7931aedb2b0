//! Are products right on every path, at every shape, and the same for a row alone and in a crowd?

mod common;

use common::{BF16_ROUNDING, F32_ROUNDING, Numbers, bits, pools};
use kernels::{Int4Group, Isa, Matrix, Numerics, Pool, Precision, Storage, StorageError, matmul, reference};
use proptest::prelude::*;

const PRECISIONS: [Precision; 5] =
    [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8, Precision::Int4];

struct Case {
    x: Vec<f32>,
    rows: usize,
    matrix: Matrix,
    /// What the matrix really holds, row by row.
    weight: Vec<f32>,
}

/// Weights are drawn from -1..1; a scale that was rounded up may make one a little larger.
const LARGEST_WEIGHT: f64 = 1.001;

impl Case {
    fn new(precision: Precision, rows: usize, outputs: usize, inputs: usize, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let x = numbers.floats(rows * inputs);
        let matrix = Matrix::pack(precision, outputs, inputs, &mut |_, values| {
            values.iter_mut().for_each(|value| *value = numbers.float());
        });
        let mut weight = vec![0.0; outputs * inputs];
        weight.chunks_exact_mut(inputs).enumerate().for_each(|(i, row)| matrix.row(i, row));
        Self { x, rows, matrix, weight }
    }

    fn product(&self, pool: &Pool, rows: std::ops::Range<usize>) -> Vec<f32> {
        let (inputs, outputs) = (self.matrix.inputs(), self.matrix.outputs());
        let mut out = vec![f32::NAN; rows.len() * outputs];
        matmul(pool, &self.x[rows.start * inputs..rows.end * inputs], rows.len(), &self.matrix, &mut out);
        out
    }

    /// A sum of K products of f32, rounded once or twice at each of K steps and once more by a scale, is off by at most about
    /// 2(K + 1) roundings of Σ|x·w|. Tiles and pairs of bf16 also round each x to bf16, which moves each product by one bf16 rounding. With weights
    /// that are whole numbers each x may become a whole number, too: it is off by half of one of 127 steps up to the largest x of
    /// its group, which is at most the largest of its row. Int4 adds up minima and steps apart, each up to thrice the largest weight.
    fn check(&self, pool: &Pool) {
        let precision = self.matrix.precision();
        let (inputs, outputs) = (self.matrix.inputs(), self.matrix.outputs());
        let out = self.product(pool, 0..self.rows);
        let mut truth = vec![f32::NAN; out.len()];
        reference::matmul::matmul(&self.x, &self.weight, outputs, inputs, &mut truth);
        let magnitudes = |values: &[f32]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
        let mut size = vec![f32::NAN; out.len()];
        reference::matmul::matmul(
            &magnitudes(&self.x),
            &magnitudes(&self.weight),
            outputs,
            inputs,
            &mut size,
        );
        let halved = pool.isa() == Isa::Amx && pool.numerics() == Numerics::Fast
            || pool.path(precision).ends_with("-bf16-pairs");
        let halved = if halved { BF16_ROUNDING } else { 0.0 };
        let share = 2.0 * (inputs as f64 + 2.0) * F32_ROUNDING + halved;
        for (i, ((out, truth), size)) in out.iter().zip(&truth).zip(&size).enumerate() {
            let (row, output) = (i / outputs, i % outputs);
            let x = magnitudes(&self.x[row * inputs..][..inputs]);
            let weight = magnitudes(&self.weight[output * inputs..][..inputs]);
            let sum = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>();
            let largest = |values: &[f32]| f64::from(values.iter().fold(0.0, |a: f32, b| a.max(*b)));
            let steps = match precision {
                Precision::Int8 | Precision::Int4 => largest(&x) / 254.0 * sum(&weight) * (1.0 + 1e-5),
                _ => 0.0,
            };
            let apart = match precision {
                Precision::Int4 => 3.0 * LARGEST_WEIGHT * sum(&x) * share,
                _ => 0.0,
            };
            let (off, bound) = (f64::from((out - truth).abs()), share * f64::from(*size) + steps + apart);
            assert!(
                off <= bound,
                "{} {}×{outputs}×{inputs}: output {i} is {out}, not {truth}: off by {off:e}, bound {bound:e}",
                pool.path(self.matrix.precision()),
                self.rows,
            );
        }
    }
}

#[test]
fn products_are_right_on_every_path_for_one_to_forty_rows() {
    let pools = pools(Numerics::Fast);
    for precision in PRECISIONS {
        for rows in 1..=40 {
            let (outputs, inputs) = (33 + rows % 17, 61 + rows);
            let case = Case::new(precision, rows, outputs, inputs, rows as u64);
            pools.iter().for_each(|pool| case.check(pool));
        }
    }
}

#[test]
fn products_are_right_at_the_edges_of_panels_steps_and_tiles() {
    let pools = pools(Numerics::Fast);
    for precision in PRECISIONS {
        for outputs in [1, 15, 16, 17, 31, 32, 33, 64, 65, 130] {
            for inputs in [1, 2, 3, 4, 5, 31, 32, 33, 64, 100] {
                for rows in [1, 2, 3, 9, 16, 17, 32, 33] {
                    let case = Case::new(precision, rows, outputs, inputs, (outputs * 1000 + inputs) as u64);
                    pools.iter().for_each(|pool| case.check(pool));
                }
            }
        }
    }
}

#[test]
fn products_large_enough_to_be_shared_by_threads_are_right() {
    let pools = pools(Numerics::Fast);
    for precision in PRECISIONS {
        for (rows, outputs, inputs) in [(1, 700, 512), (5, 515, 300), (70, 200, 1030)] {
            let case = Case::new(precision, rows, outputs, inputs, 7);
            pools.iter().for_each(|pool| case.check(pool));
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_in_a_crowd() {
    for pool in pools(Numerics::BatchInvariant) {
        for precision in PRECISIONS {
            let case = Case::new(precision, 40, 83, 133, 11);
            let outputs = case.matrix.outputs();
            let whole = case.product(&pool, 0..40);
            for rows in [1, 2, 3, 5, 7, 8, 12, 31, 32] {
                for first in (0..40 - rows).step_by(rows) {
                    let part = case.product(&pool, first..first + rows);
                    let same = bits(&part) == bits(&whole[first * outputs..(first + rows) * outputs]);
                    assert!(same, "{} rows {first}..{}", pool.path(precision), first + rows);
                }
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_with_any_number_of_threads() {
    for precision in PRECISIONS {
        let case = Case::new(precision, 3, 700, 260, 5);
        let results: Vec<_> = [1, 2, 5].map(|threads| bits(&case.product(&Pool::new(threads), 0..3))).into();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{precision:?}");
    }
}

#[test]
fn tiles_give_a_row_the_same_bits_in_every_crowd_they_serve() {
    for pool in pools(Numerics::Fast).iter().filter(|pool| pool.isa() == Isa::Amx) {
        for precision in [Precision::Bf16, Precision::Int8] {
            let case = Case::new(precision, 100, 70, 100, 3);
            let outputs = case.matrix.outputs();
            let whole = case.product(pool, 0..100);
            for rows in [32, 33, 47, 64] {
                let part = case.product(pool, 20..20 + rows);
                assert_eq!(
                    bits(&part),
                    bits(&whole[20 * outputs..(20 + rows) * outputs]),
                    "{precision:?}, {rows} rows"
                );
            }
        }
    }
}

#[test]
fn a_nan_stays_in_its_row_and_reaches_all_its_outputs() {
    for pool in pools(Numerics::Fast) {
        for precision in PRECISIONS {
            for rows in [3, 35] {
                let mut case = Case::new(precision, rows, 20, 40, 1);
                case.x[40 + 7] = f32::NAN;
                for (i, row) in case.product(&pool, 0..rows).chunks_exact(20).enumerate() {
                    assert!(
                        row.iter().all(|value| value.is_nan() == (i == 1)),
                        "{}: row {i}",
                        pool.path(precision)
                    );
                }
            }
        }
    }
}

#[test]
fn what_an_earlier_product_left_behind_is_never_seen() {
    for pool in pools(Numerics::Fast) {
        for precision in PRECISIONS {
            let mut broken = Case::new(precision, 40, 20, 64, 1);
            broken.x.fill(f32::NAN);
            broken.product(&pool, 0..40);
            Case::new(precision, 37, 20, 43, 2).check(&pool);
        }
    }
}

#[test]
fn a_matrix_returns_the_rows_it_was_given_rounded_to_its_precision() {
    let (outputs, inputs) = (37, 45);
    let given = Numbers(9).floats(outputs * inputs);
    for precision in PRECISIONS {
        let matrix = Matrix::pack(precision, outputs, inputs, &mut |i, row| {
            row.copy_from_slice(&given[i * inputs..][..inputs])
        });
        let mut row = vec![0.0; inputs];
        for (i, given) in given.chunks_exact(inputs).enumerate() {
            matrix.row(i, &mut row);
            let largest = given.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let (low, high) =
                given.iter().fold((0.0_f32, 0.0_f32), |(low, high), v| (low.min(*v), high.max(*v)));
            for (kept, given) in row.iter().zip(given) {
                // Half a unit in the last place: of the float formats, or of 127 steps up to the row's largest value (a
                // hair more, because a step itself is rounded to f32).
                let bound = match precision {
                    Precision::F32 => 0.0,
                    Precision::F16 => given.abs() / 2048.0 + f32::from_bits(0x3300_0000),
                    Precision::Bf16 => given.abs() / 256.0,
                    Precision::Int8 => largest / 254.0 * 1.00001,
                    // Of fifteen steps; and the minimum and fifteen times the step are rounded to f16, each off by at most a
                    // 2048th of a number up to twice the largest.
                    Precision::Int4 => (high - low) / 30.0 + (largest + (high - low)) / 2048.0,
                };
                assert!((kept - given).abs() <= bound, "{precision:?}: {given} became {kept}");
            }
        }
    }
}

#[test]
fn every_way_to_pack_gives_the_same_matrix() {
    let pool = Pool::new(3);
    for (outputs, inputs) in [(1, 1), (16, 32), (50, 77), (129, 1030)] {
        let values: Vec<f32> = Numbers(4).floats(outputs * inputs);
        for precision in PRECISIONS {
            let rows = |matrix: &Matrix| {
                let mut all = vec![0.0; outputs * inputs];
                all.chunks_exact_mut(inputs).enumerate().for_each(|(i, row)| matrix.row(i, row));
                bits(&all)
            };
            let plain = Matrix::pack(precision, outputs, inputs, &mut |i, row| {
                row.copy_from_slice(&values[i * inputs..][..inputs]);
            });
            let with = Matrix::pack_with(&pool, precision, outputs, inputs, &|i, row| {
                row.copy_from_slice(&values[i * inputs..][..inputs]);
            });
            assert_eq!(rows(&plain), rows(&with), "{precision:?}");
            assert_eq!(plain.resident_bytes(), with.resident_bytes());
            let mut copy = Storage::zeroed(plain.bytes().len());
            copy.as_mut_slice().expect("memory of its own").copy_from_slice(plain.bytes());
            let stored = Matrix::from_storage(precision, outputs, inputs, copy).expect("the length is right");
            assert_eq!(rows(&plain), rows(&stored), "{precision:?}");
            assert_eq!(plain.bytes(), with.bytes(), "{precision:?}");
            if matches!(precision, Precision::Int8 | Precision::Int4) {
                continue;
            }
            // One byte in front puts the rows at odd addresses, as a file may.
            let mut file = vec![0_u8];
            for value in &values {
                match precision {
                    Precision::F32 => file.extend(value.to_le_bytes()),
                    Precision::F16 => file.extend(half::f16::from_f32(*value).to_le_bytes()),
                    _ => file.extend(half::bf16::from_f32(*value).to_le_bytes()),
                }
            }
            let row_bytes = (file.len() - 1) / outputs;
            let row = |i: usize| &file[1 + i * row_bytes..][..row_bytes];
            let from_bytes = Matrix::pack_bytes(&pool, precision, outputs, inputs, &row);
            assert_eq!(rows(&plain), rows(&from_bytes), "{precision:?}");
            let (mut a, mut b) = (vec![0.0; outputs], vec![0.0; outputs]);
            matmul(&pool, &values[..inputs], 1, &plain, &mut a);
            matmul(&pool, &values[..inputs], 1, &from_bytes, &mut b);
            assert_eq!(bits(&a), bits(&b), "{precision:?}");
        }
    }
}

#[test]
fn resident_bytes_are_the_padded_words_and_the_scales() {
    let bytes = |precision, outputs, inputs| {
        Matrix::pack(precision, outputs, inputs, &mut |_, _| {}).resident_bytes()
    };
    assert_eq!(bytes(Precision::F32, 32, 64), 32 * 64 * 4);
    assert_eq!(bytes(Precision::F16, 32, 64), 32 * 64 * 2);
    assert_eq!(bytes(Precision::Bf16, 17, 33), 32 * 64 * 2);
    assert_eq!(bytes(Precision::Int8, 32, 64), 32 * 64 + 32 * 4);
    // 4.25 bits a weight.
    assert_eq!(bytes(Precision::Int4, 32, 512), 32 * 512 * 17 / 32);
    assert_eq!(bytes(Precision::Int4, 17, 129), 32 * 256 * 17 / 32);
}

#[test]
fn storage_of_another_length_is_refused_with_both_lengths() {
    for precision in PRECISIONS {
        let expected = Matrix::storage_bytes(precision, 20, 40).unwrap();
        for bytes in [0, expected - 1, expected + 64] {
            let error = Matrix::from_storage(precision, 20, 40, Storage::zeroed(bytes)).err();
            assert_eq!(error, Some(StorageError::WrongLength { expected_bytes: Some(expected), bytes }));
        }
        for (outputs, inputs) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX / 8, usize::MAX / 8)] {
            let error = Matrix::from_storage(precision, outputs, inputs, Storage::zeroed(64)).err();
            assert_eq!(error, Some(StorageError::WrongLength { expected_bytes: None, bytes: 64 }));
        }
    }
}

#[test]
fn int4_rounded_by_somebody_else_is_kept_as_it_is() {
    let (outputs, inputs) = (19, 300);
    let step = |row: usize, i: usize| ((row * 7 + i * 5) % 16) as u8;
    let group =
        |row: usize, group: usize| Int4Group { scale: 0.25 * (row + 1) as f32, minimum: -2.0 + group as f32 };
    let matrix = Matrix::pack_int4(&Pool::new(2), outputs, inputs, &|row, steps, groups| {
        assert_eq!((steps.len(), groups.len()), (inputs, 3));
        steps.iter_mut().enumerate().for_each(|(i, place)| *place = step(row, i));
        groups.iter_mut().enumerate().for_each(|(i, place)| *place = group(row, i));
    });
    let mut values = vec![0.0; inputs];
    for row in 0..outputs {
        matrix.row(row, &mut values);
        for (i, value) in values.iter().enumerate() {
            let Int4Group { scale, minimum } = group(row, i / 128);
            assert_eq!(*value, minimum + scale * f32::from(step(row, i)));
        }
    }
}

#[test]
fn a_row_of_zeros_has_a_scale_and_stays_zero() {
    let matrix = Matrix::pack(Precision::Int8, 2, 8, &mut |i, row| row.fill(i as f32));
    let mut out = [f32::NAN; 2];
    matmul(&Pool::new(1), &[1.0; 8], 1, &matrix, &mut out);
    // Scales of a 127th: four roundings of the result.
    assert_eq!(out[0], 0.0);
    assert!((out[1] - 8.0).abs() <= 4.0 * 8.0 * F32_ROUNDING as f32, "{}", out[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn products_of_any_shape_are_right(
        rows in 1_usize..70, outputs in 1_usize..200, inputs in 1_usize..300, which in 0_usize..PRECISIONS.len(), seed: u64,
    ) {
        let case = Case::new(PRECISIONS[which], rows, outputs, inputs, seed);
        for numerics in [Numerics::Fast, Numerics::BatchInvariant] {
            pools(numerics).iter().for_each(|pool| case.check(pool));
        }
    }
}
