//! How rows are multiplied by a weight.

use kernels::{Matrix, Pool, add_to_rows, matmul};

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
        matmul(pool, self.seen(x, rows), rows, &self.matrix, &mut out[..rows * outputs]);
        if let Some(bias) = &self.bias {
            add_to_rows(pool, &mut out[..rows * outputs], bias);
        }
    }

    /// The rows, which whoever observes has seen.
    fn seen<'x>(&self, x: &'x [f32], rows: usize) -> &'x [f32] {
        let x = &x[..rows * self.matrix.inputs()];
        if let Some(observer) = &self.observer {
            observer.see(x, self.matrix.inputs());
        }
        x
    }
}
