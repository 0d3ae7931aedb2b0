//! What does the order in which units are asked cost, and what does it keep?
//!
//! A recorded hour of requests is replayed in virtual time through six units of different price, speed, capacity and
//! jurisdiction, which fail now and then. The real [`fleet`] decides; only the order that it is told to use differs.

pub mod audit;
mod engine;
pub mod policy;
pub mod replay;
pub mod report;
pub mod summary;
pub mod units;
pub mod workload;

pub use policy::Policy;
pub use replay::{Logged, Scenario, replay};
pub use summary::Summary;
