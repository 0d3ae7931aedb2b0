//! How is a Gemini model asked, at Google's AI Studio or on Vertex AI?

mod answer;
mod conversation;
mod embed;
mod fault;
mod objects;
mod reader;
mod request;
mod tools;
mod usage;

pub mod token;

pub use embed::{Embedded, read_embeddings};

use domain::{Ask, EmbedAsk, Usage};

use crate::openai::embeddings::Embeddings;
use crate::{BadAnswer, ErrorAnswer, Fault, Reader, Target, Untellable, Upstream, WireRequest};

/// The dialect's name.
pub const NAME: &str = "google.generate";

/// Stands before a proof of reasoning that Gemini gave, so that neither Gemini's reach another maker, nor another's Gemini:
/// both refuse a whole conversation for one proof that is not their own.
pub const PROOF_MARK: &str = "gemini:";

/// `generateContent`, in one of its two homes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gemini {
    home: Home,
    /// What stands before `/models/…` in a path.
    prefix: String,
}

/// The homes differ in paths, in a few fields and in how a service tier is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Studio,
    Vertex,
}

impl Gemini {
    /// Google's AI Studio: a key in `x-goog-api-key`.
    pub fn studio() -> Self {
        Self { home: Home::Studio, prefix: "/v1beta".to_owned() }
    }

    /// Vertex AI: a bearer token, see [`token`].
    pub fn vertex(project: &str, location: &str) -> Self {
        let (project, location) = (escaped(project), escaped(location));
        let prefix = format!("/v1/projects/{project}/locations/{location}/publishers/google");
        Self { home: Home::Vertex, prefix }
    }

    fn path(&self, model: &str, verb: &str) -> String {
        // `tunedModels/x` and `models/x` say their collection themselves.
        match model.contains('/') {
            true => format!("{}/{}:{verb}", self.prefix, escaped(model)),
            false => format!("{}/models/{}:{verb}", self.prefix, escaped(model)),
        }
    }

    fn generate(
        &self,
        target: &Target<'_>,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> WireRequest {
        let verb = if target.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        WireRequest { path: self.path(target.model, verb), headers, body }
    }
}

impl Upstream for Gemini {
    fn name(&self) -> &'static str {
        NAME
    }

    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let said = request::said(ask, target.model, self.home)?;
        Ok(self.generate(target, said.headers, said.body))
    }

    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
        // The model is named in the path alone, and usage always comes.
        Ok(self.generate(target, request::headers(), original.to_vec()))
    }

    fn reader(&self, is_stream: bool) -> Box<dyn Reader> {
        Box::new(reader::AnswerReader::new(is_stream))
    }

    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault {
        fault::read(answer)
    }

    fn embedded(&self, body: &[u8], inputs: usize) -> Result<Embeddings, BadAnswer> {
        let Embedded { vectors, input_tokens } = read_embeddings(body)?;
        if vectors.len() != inputs {
            return Err(BadAnswer::Malformed(format!("{} vectors for {inputs} inputs", vectors.len())));
        }
        let usage = input_tokens.map(|input_uncached| Usage { input_uncached, ..Usage::default() });
        Ok(Embeddings::of(&vectors, usage))
    }
    fn embed(&self, ask: &EmbedAsk, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let (verb, body) = embed::said(ask, target.model, self.home)?;
        let path = self.path(target.model, verb);
        Ok(WireRequest { path, headers: request::headers(), body })
    }
}

fn untellable(what: impl Into<String>, why: impl Into<String>) -> Untellable {
    Untellable { what: what.into(), why: why.into() }
}

/// Returns `text` as it may stand in a path: slashes stay.
fn escaped(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'@' => {
                path.push(byte.into())
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}
