//! Whole requests and answers in Anthropic's words, and what must hold for all of them.

mod asked;
mod heard;
mod properties;
mod read;
mod refused;
mod written;

use serde_json::Value;

use domain::{Ask, Chat, Input};

use crate::{Target, Untellable, Upstream};

use super::Messages;

fn chat_of(ask: &Ask) -> &Chat {
    match &ask.input {
        Input::Chat(chat) => chat,
        Input::Completion(_) => panic!("a Messages request is a conversation"),
    }
}

/// Reads a body that must be a good request.
fn hear(body: &Value) -> Ask {
    super::read(body.to_string().as_bytes()).unwrap().ask
}

/// Writes an ask for a model of this name, which is told to answer at once.
fn written(ask: &Ask, model: &str) -> Result<Value, Untellable> {
    let request = Messages.request(ask, &Target { model, stream: false })?;
    Ok(serde_json::from_slice(&request.body).unwrap())
}
