//! What a weight matrix is in memory, and its product with a few rows of activations.

use crate::Pool;

/// How a weight is kept in memory. `Int8` has one scale per output row (symmetric).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    F16,
    Bf16,
    Int8,
}

/// A weight matrix `[outputs][inputs]`, packed once for this machine.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    precision: Precision,
    values: Vec<f32>,
}

impl Matrix {
    /// Packs a matrix; `fill(row, values)` writes one row of `inputs` values, and is called once for each row, in order.
    pub fn pack(
        precision: Precision,
        outputs: usize,
        inputs: usize,
        fill: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Self {
        let mut values = vec![0.0; outputs * inputs];
        for (row, chunk) in values.chunks_exact_mut(inputs).enumerate() {
            fill(row, chunk);
        }
        Self { outputs, inputs, precision, values }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// Bytes this matrix really occupies, scales and padding included.
    pub fn resident_bytes(&self) -> usize {
        size_of_val(&*self.values)
    }
    /// The name of the code path that multiplies by it on this machine, such as `avx512-bf16` or `reference`.
    pub fn path(&self) -> &'static str {
        "reference"
    }
    /// Writes one row's values: the embedding of a token.
    pub fn row(&self, row: usize, values: &mut [f32]) {
        values.copy_from_slice(&self.values[row * self.inputs..(row + 1) * self.inputs]);
    }
}

/// `out[m][n] = Σ_k x[m][k] · weight[n][k]` for `rows` rows of `x`; both are dense and row-major.
pub fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    let _ = pool;
    for m in 0..rows {
        for n in 0..weight.outputs {
            let w = &weight.values[n * weight.inputs..(n + 1) * weight.inputs];
            let x = &x[m * weight.inputs..(m + 1) * weight.inputs];
            out[m * weight.outputs + n] = x.iter().zip(w).map(|(a, b)| a * b).sum();
        }
    }
}
