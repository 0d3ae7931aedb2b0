//! The fast twins of `reference`, one file for each operation of the same name.
//!
//! Each is written once over `Lanes`, sixteen floats, and compiled for every path that a processor may have.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
pub(crate) mod append;
pub(crate) mod attention;
pub(crate) mod dots;
pub(crate) mod gate;
pub(crate) mod lanes;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod product;
pub(crate) mod quantize;
pub(crate) mod rope;
pub(crate) mod words;
