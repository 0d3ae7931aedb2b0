use crate::BadRequest;
use domain::{Ask, ModelName, Sampling};

#[derive(Clone, Debug)]
pub struct Request {}

impl Request {
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let _ = body;
        unimplemented!()
    }
    /// The model's name, as the client wrote it.
    pub fn model(&self) -> &ModelName {
        unimplemented!()
    }
    /// Fields that were accepted without any effect, in the order of the request: for a debug header.
    pub fn ignored(&self) -> &[String] {
        unimplemented!()
    }
    /// Returns the ask. What the request left open is taken from the model's `defaults`.
    pub fn into_ask(self, defaults: &Sampling) -> Ask {
        let _ = defaults;
        unimplemented!()
    }
}
