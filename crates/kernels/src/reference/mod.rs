//! What each operation means, in plain scalar Rust: the truth that the fast twins in `cpu/` are tested against.
//!
//! Sums are kept in f64, so that the reference's own rounding is far below any bound a test states.

pub mod attention;
pub mod experts;
pub mod gate;
pub mod matmul;
pub mod norm;
pub mod rope;
