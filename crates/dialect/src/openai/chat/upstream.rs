//! How is a server asked that speaks OpenAI's chat dialect, and how is its answer read?

use domain::{Ask, EmbedAsk};

use super::DIALECT;
use super::asked;
use crate::openai::answer::ObjectReader;
use crate::openai::body::BodyReader;
use crate::openai::wire::{self, Manner};
use crate::openai::{embeddings, fault};
use crate::{ErrorAnswer, Fault, Reader, Target, Untellable, Upstream, WireRequest};

/// `POST …/chat/completions`, and `…/embeddings` beside it.
#[derive(Clone, Debug, Default)]
pub struct ChatUpstream {
    pub manner: Manner,
}

impl Upstream for ChatUpstream {
    fn name(&self) -> &'static str {
        DIALECT
    }
    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let body = asked::body(ask, target, &self.manner)?;
        Ok(self.manner.request(target.model, "chat/completions", body))
    }
    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let body = wire::passed(original, target, self.manner.is_compatible, true)?;
        Ok(self.manner.request(target.model, "chat/completions", body))
    }
    fn reader(&self, is_stream: bool) -> Box<dyn Reader> {
        Box::new(BodyReader::new(is_stream, ObjectReader::default()))
    }
    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault {
        fault::read(answer)
    }
    fn embed(&self, ask: &EmbedAsk, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        Ok(self.manner.request(target.model, "embeddings", embeddings::asked(ask, target, &self.manner)))
    }
}
