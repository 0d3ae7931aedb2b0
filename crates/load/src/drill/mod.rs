//! What does a drill ask of a gateway, and which answer proves that it came back whole?
//!
//! The generator writes an order into its prompt, the stand-in upstream obeys it, and both know the one right answer: so a
//! gateway that mixes up, repeats, cuts or miscounts answers is found out, whatever it does to the JSON around them.

pub mod http1;
pub mod order;
pub mod pool;
pub mod tally;

pub use order::Order;
