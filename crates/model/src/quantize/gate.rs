//! May the blocks of a GGUF file become our whole numbers?
//!
//! A block format is itself a rounding of the model that somebody trained. Rounding its numbers again adds an error of its own, which is
//! measured for each matrix against the numbers that the file means: `√(Σ error² / Σ number²)`. It is admitted where it stays
//! below a limit; what fails is kept wider, and told.

use kernels::{Matrix, Pool, Precision};
use std::sync::Mutex;

use crate::weights::{Encoding, Tensor};

/// Int8 has one scale for a row. For rows of 2,048 to 8,192 numbers that lie like a bell, the largest is about 4 deviations, a step 4/127 of
/// one, and the error of rounding 1/√12 of a step: 0.9 %. Twice that is admitted, which is what rows with larger outliers come to and what Q6_K
/// itself has lost (16 numbers share a step of 2.1/32 deviations: 1.9 %).
const INT8_ERROR_MAX: f64 = 0.02;

/// What a file of four bits has lost already: 32 numbers share a step of 2.3/8 deviations, 8.4 %. Int4 may add as much
/// again, so that the variance of the error at most doubles. Our groups of 128 span 5.2 deviations in 15 steps, 10 %, and
/// the search for better ends brings them near 8 %.
const INT4_ERROR_MAX: f64 = 0.084;

/// A matrix whose blocks became something else.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Requantized {
    pub matrix: String,
    /// As the file has it, such as `Q4_K`; several where several tensors make one matrix.
    pub stored: String,
    /// As it is kept, such as `int8`.
    pub kept: &'static str,
    /// Relative to the numbers that the file means.
    pub error: f64,
    /// The narrower form that failed, and its error.
    pub refused: Option<(&'static str, f64)>,
}

/// Returns the forms to try, the narrowest first, for tensors that make one matrix; none where they are not all blocks.
pub(crate) fn candidates(encodings: impl Iterator<Item = Encoding> + Clone) -> &'static [Precision] {
    let is_block =
        |encoding| matches!(encoding, Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q4K | Encoding::Q6K);
    let is_four_bits = |encoding| matches!(encoding, Encoding::Q4_0 | Encoding::Q4K);
    if !encodings.clone().all(is_block) {
        return &[];
    }
    if encodings.clone().all(is_four_bits) { &[Precision::Int4, Precision::Int8] } else { &[Precision::Int8] }
}

pub(crate) fn admits(precision: Precision, error: f64) -> bool {
    match precision {
        Precision::Int8 => error <= INT8_ERROR_MAX,
        Precision::Int4 => error <= INT4_ERROR_MAX,
        _ => true,
    }
}

pub(crate) fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::F16 => "f16",
        Precision::Bf16 => "bf16",
        Precision::Int8 => "int8",
        Precision::Int4 => "int4",
    }
}

pub(crate) fn stored(tensors: &[Tensor<'_>]) -> String {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.encoding().name()).collect();
    names.dedup();
    names.join(", ")
}

/// Returns the error of every number of a matrix, relative to their size; `fill` writes a row as it should be.
pub(crate) fn relative_error(pool: &Pool, matrix: &Matrix, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) -> f64 {
    /// Rows that one task takes.
    const ROWS: usize = 64;
    let sums = Mutex::new((0.0, 0.0));
    pool.run(matrix.outputs().div_ceil(ROWS), &|task| {
        let (mut wanted, mut found) = (vec![0.0; matrix.inputs()], vec![0.0; matrix.inputs()]);
        let (mut error, mut size) = (0.0, 0.0);
        for row in task * ROWS..((task + 1) * ROWS).min(matrix.outputs()) {
            fill(row, &mut wanted);
            matrix.row(row, &mut found);
            for (wanted, found) in wanted.iter().zip(&found) {
                error += f64::from(wanted - found).powi(2);
                size += f64::from(*wanted).powi(2);
            }
        }
        let mut sums = sums.lock().expect("nothing panics while it is held");
        *sums = (sums.0 + error, sums.1 + size);
    });
    let (error, size) = sums.into_inner().expect("nothing panics while it is held");
    if size > 0.0 { (error / size).sqrt() } else { 0.0 }
}
