//! How text becomes tokens, and tokens text again: tokenizer, chat template, incremental detokenizer, stop strings.
//!
//! Policy for special tokens: what a chat template printed, and what a completion's prompt says, is encoded with special
//! tokens parsed, as the reference implementations do. A client that writes `<|im_end|>` into a message therefore ends
//! its own message; it gains nothing that the API would not give it. Text that must stay text is encoded with
//! [`Special::AsText`].

#![forbid(unsafe_code)]

mod answer;
mod chat_template;
mod detokenizer;
mod folder;
mod gguf;
mod marks;
mod model;
mod pieces;
mod python;
mod reasoning;
mod shared_model;
mod stop;
mod tokenizer;
mod tool_calls;

pub use answer::{AnswerPart, AnswerReader};
pub use chat_template::{ChatTemplate, RenderInput, TemplateError};
pub use detokenizer::Detokenizer;
pub use gguf::{GgufTokenType, GgufVocabulary};
pub use model::{ChatPrompt, PromptError, TextModel};
pub use reasoning::ReasoningSplitter;
pub use stop::{Matched, StopMatcher};
pub use tokenizer::{EncodeError, LoadError, Special, Tokenizer};
pub use tool_calls::{ToolCallReader, ToolPart};
