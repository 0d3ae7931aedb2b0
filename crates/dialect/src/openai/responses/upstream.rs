//! How is a server asked that speaks OpenAI's Responses dialect, and how is its answer read?

use domain::{Ask, EmbedAsk};

use super::DIALECT;
use super::answer::ResponseReader;
use super::asked;
use crate::openai::body::BodyReader;
use crate::openai::wire::{self, Manner};
use crate::openai::{embeddings, fault};
use crate::{ErrorAnswer, Fault, Reader, Target, Untellable, Upstream, WireRequest};

/// `POST …/responses`, and `…/embeddings` beside it.
#[derive(Clone, Debug, Default)]
pub struct ResponsesUpstream {
    pub manner: Manner,
}

impl Upstream for ResponsesUpstream {
    fn name(&self) -> &'static str {
        DIALECT
    }
    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        Ok(self.manner.request(target.model, "responses", asked::body(ask, target)?))
    }
    /// What was kept of earlier turns was kept here: a request that goes on from one must be written out.
    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(original)
            .map_err(|error| Untellable { what: "body".to_owned(), why: error.to_string() })?;
        for name in ["previous_response_id", "conversation"] {
            if fields.get(name).is_some_and(|id| !id.is_null()) {
                let why = "what it names is kept by this server, not by the upstream".to_owned();
                return Err(Untellable { what: name.to_owned(), why });
            }
        }
        let body = wire::passed(original, target, self.manner.is_compatible, false)?;
        Ok(self.manner.request(target.model, "responses", body))
    }
    fn reader(&self, is_stream: bool) -> Box<dyn Reader> {
        Box::new(BodyReader::new(is_stream, ResponseReader::default()))
    }
    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault {
        fault::read(answer)
    }
    fn embed(&self, ask: &EmbedAsk, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        Ok(self.manner.request(target.model, "embeddings", embeddings::asked(ask, target, &self.manner)))
    }
}
