//! How is a provider asked that speaks Anthropic's dialect?

use domain::Ask;

use super::{DIALECT, ask, fault, pass, reader};
use crate::{ErrorAnswer, Fault, Reader, Target, Untellable, Upstream, WireRequest};

/// The version of the API. A newer one (2026-10-21) only takes things away: `temperature`, `top_p` and `top_k`, which older models
/// still honour, documents in an assistant's message, citations in a user's. Every server of this dialect knows this one. A
/// client's own `anthropic-version` goes before it where its own bytes are passed.
pub const VERSION: &str = "2023-06-01";

/// Files that the provider keeps are named only with this.
const FILES: &str = "files-api-2025-04-14";

/// Anthropic, and whoever speaks like it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages;

impl Upstream for Messages {
    fn name(&self) -> &'static str {
        DIALECT
    }
    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let (body, has_files) = ask::write(ask, target)?;
        Ok(wire_request(body, has_files.then_some(FILES)))
    }
    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
        pass::passed(original, target)
    }
    fn reader(&self, is_stream: bool) -> Box<dyn Reader> {
        reader::reader(is_stream)
    }
    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault {
        fault::of_answer(answer)
    }
}

pub(super) fn wire_request(body: Vec<u8>, beta: Option<&str>) -> WireRequest {
    let mut headers = vec![("anthropic-version", VERSION.to_owned())];
    headers.extend(beta.map(|beta| ("anthropic-beta", beta.to_owned())));
    WireRequest { path: "/v1/messages".into(), headers, body }
}
