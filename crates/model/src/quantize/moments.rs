//! Which inputs of each product are large, on a text that was run?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// For each matrix, by its name in a packed file, the mean square of each of its inputs.
///
/// The error that rounding a weight makes in a product grows with the square of the input that it meets, so this is what the error of
/// a weight is weighted with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments(BTreeMap<String, Vec<f32>>);

impl Moments {
    pub(crate) fn of(&self, matrix: &str) -> Option<&[f32]> {
        self.0.get(matrix).map(Vec::as_slice)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a linear map tells of its inputs. One model's maps share the sums, each under its own name.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    name: Arc<str>,
    sums: Sums,
}

/// Sums of squares by matrix and input, and how many rows they are of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    sums: Mutex<BTreeMap<Arc<str>, Squares>>,
}

/// For each input, and over how many rows.
type Squares = (Vec<f64>, u64);

impl Observer {
    pub(crate) fn new(name: &str, sums: &Sums) -> Self {
        Self { name: name.into(), sums: sums.clone() }
    }

    /// Adds rows of `inputs` values.
    pub(crate) fn see(&self, x: &[f32], inputs: usize) {
        let Sums(shared) = &self.sums;
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let mut sums = shared.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let (squares, rows) = sums.entry(Arc::clone(&self.name)).or_insert_with(|| (vec![0.0; inputs], 0));
        for row in x.chunks_exact(inputs) {
            *rows += 1;
            squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
        }
    }
}

impl Sums {
    /// Nothing is added any more.
    pub(crate) fn stop(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn moments(&self) -> Moments {
        let sums = self.0.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = |(squares, rows): &Squares| {
            squares.iter().map(|sum| (sum / (*rows).max(1) as f64) as f32).collect()
        };
        Moments(sums.iter().map(|(name, sums)| (name.to_string(), mean(sums))).collect())
    }
}
