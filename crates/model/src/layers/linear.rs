//! How rows are multiplied by a weight.

use kernels::{Matrix, Pool, add, matmul};

use crate::quantize::Observer;

/// A weight, or several that are multiplied at once, with the bias where the family has one.
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
    /// Sees the inputs, where a model was loaded to be calibrated on.
    pub(crate) observer: Option<Observer>,
}

impl Linear {
    pub(crate) fn run(&self, pool: &Pool, x: &[f32], rows: usize, out: &mut [f32]) {
        let outputs = self.matrix.outputs();
        if let Some(observer) = &self.observer {
            observer.see(&x[..rows * self.matrix.inputs()], self.matrix.inputs());
        }
        matmul(pool, &x[..rows * self.matrix.inputs()], rows, &self.matrix, &mut out[..rows * outputs]);
        if let Some(bias) = &self.bias {
            out[..rows * outputs].chunks_exact_mut(outputs).for_each(|row| add(row, bias));
        }
    }
}
