//! How is a response kept, so that a later one can go on from it?

use dialect::openai::responses::Continuation;
use dialect::openai::responses::stored::with_ids;
use dialect::{Form, Head};
use domain::{Account, Answer, AnswerEvent, Ask, ChatMessage, UsageReport};
use std::sync::Arc;

use content::{ChainError, ResponseId, ResponseStore, StoredResponse};

use crate::app::App;
use crate::events;
use crate::refusal::Refusal;

/// Hears an answer as it grows, and keeps the response before its end is told: whoever reads the end may ask on at once.
pub struct Keeper {
    store: ResponseStore,
    continuation: Continuation,
    /// The ask without what was said before.
    ask: Ask,
    form: Arc<dyn Form>,
    tenant: Account,
    answer: Answer,
}

impl Keeper {
    /// Returns what keeps a response to this ask; nothing where the client wants none kept.
    pub fn new(
        app: &App,
        continuation: &Continuation,
        ask: &Ask,
        form: &Arc<dyn Form>,
        tenant: &Account,
    ) -> Option<Self> {
        let store = app.responses.clone().filter(|_| continuation.store)?;
        let (continuation, ask, form) = (continuation.clone(), ask.clone(), form.clone());
        Some(Self { store, continuation, ask, form, tenant: tenant.clone(), answer: Answer::default() })
    }

    pub fn say(&mut self, event: &AnswerEvent) {
        self.answer.fold(event.clone());
    }

    pub async fn complete(self, head: &Head, report: &UsageReport) {
        let Self { store, continuation, ask, form, tenant, answer } = self;
        let created_ms = head.created as i64 * 1_000;
        let kept = StoredResponse {
            id: ResponseId(head.id.clone()),
            tenant,
            created_ms,
            expires_ms: store.expires_ms(created_ms),
            model: head.model.clone(),
            previous: continuation.previous_response_id.clone().map(ResponseId),
            input: with_ids(&head.id, &continuation.input_items),
            messages: continuation.turn(&ask, &answer),
            response: serde_json::from_slice(&form.whole(head, &answer, report)).unwrap_or_default(),
        };
        if let Err(error) = store.put(kept).await {
            events::ResponseNotKept { response: &head.id, error: &error }.emit();
        }
    }
}

/// Returns what was said before, in the turns that this one goes on from.
pub async fn earlier(
    app: &App,
    tenant: &Account,
    previous: &str,
    now_ms: i64,
) -> Result<Vec<ChatMessage>, Refusal> {
    let not_found = || {
        let message = format!("Previous response with id '{previous}' not found.");
        dialect::BadRequest::new(message).at("previous_response_id").code("previous_response_not_found")
    };
    let Some(store) = &app.responses else { return Err(not_found().into()) };
    match store.chain(tenant, &ResponseId(previous.to_owned()), now_ms).await {
        Ok(chain) => Ok(chain.messages),
        Err(ChainError::NotFound(_)) => Err(not_found().into()),
        Err(ChainError::Store(error)) => Err(unavailable(app, &error)),
        Err(too_much) => Err(dialect::BadRequest::new(too_much.to_string())
            .at("previous_response_id")
            .code("conversation_too_long")
            .into()),
    }
}

pub fn unavailable(app: &App, error: &content::StoreError) -> Refusal {
    events::ResponsesUnread { error }.emit();
    Refusal::ContentUnavailable { retry_after: app.limits.retry_after }
}
