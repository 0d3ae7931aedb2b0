//! How is a model on Amazon Bedrock asked, through Converse?

mod answer;
mod conversation;
mod family;
mod fault;
mod frames;
mod reader;
mod request;
mod tools;
mod usage;

pub mod sign;

use domain::Ask;

use crate::{ErrorAnswer, Fault, Reader, Target, Untellable, Upstream, WireRequest};

/// The dialect's name.
pub const NAME: &str = "aws.converse";

/// `Converse` and `ConverseStream`. Requests are signed with [`sign`], or have a bearer key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Converse;

impl Upstream for Converse {
    fn name(&self) -> &'static str {
        NAME
    }

    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        Ok(wire(target, request::said(ask, target.model)?))
    }

    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
        // The model is named in the path alone, and usage always comes.
        Ok(wire(target, original.to_vec()))
    }

    fn reader(&self, is_stream: bool) -> Box<dyn Reader> {
        match is_stream {
            true => Box::<reader::StreamReader>::default(),
            false => Box::<reader::WholeReader>::default(),
        }
    }

    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault {
        fault::read(answer)
    }
}

fn wire(target: &Target<'_>, body: Vec<u8>) -> WireRequest {
    let verb = if target.stream { "converse-stream" } else { "converse" };
    let path = format!("/model/{}/{verb}", escaped(target.model));
    WireRequest { path, headers: vec![("content-type", "application/json".to_owned())], body }
}

/// Returns a model's name as one step of a path: an ARN has colons and slashes.
fn escaped(model: &str) -> String {
    let mut path = String::with_capacity(model.len());
    for byte in model.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn untellable(what: impl Into<String>, why: impl Into<String>) -> Untellable {
    Untellable { what: what.into(), why: why.into() }
}
