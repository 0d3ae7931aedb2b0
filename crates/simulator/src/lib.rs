//! Development only: a toy model and a world in which the real engine can be driven, watched and hurt, on virtual time; and
//! replicas that share one book, and die; and units that are asked in merit order. Beside them, servers that play the providers.

#![forbid(unsafe_code)]

pub mod book;
pub mod disk;
pub mod merit;
pub mod random;
pub mod standin;
pub mod toy;
pub mod watch;
pub mod world;
