//! What does one model need to speak: tokenizer, template, and how its answers are read?

use std::path::Path;
use std::sync::Arc;

use serde_json::Map;

use domain::{Input, Prompt, TokenId};

use crate::chat_template::{ChatTemplate, RenderInput, TemplateError};
use crate::folder::{Folder, Templates};
use crate::tokenizer::{EncodeError, Special};
use crate::{
    AnswerReader, Detokenizer, GgufVocabulary, LoadError, ReasoningSplitter, Tokenizer, ToolCallReader,
};

/// Everything between one model's tokens and its clients' text. Cheap to clone and free to share between threads.
#[derive(Clone, Debug)]
pub struct TextModel {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Some models have a template of their own for conversations with tools.
    tool_template: Option<ChatTemplate>,
    stop_tokens: Arc<[TokenId]>,
}

/// A conversation, ready for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatPrompt {
    pub text: String,
    pub tokens: Vec<TokenId>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(
        "this model has no chat template, and not the tokens <|im_start|> and <|im_end|> to fall back on; use /v1/completions, or a model tuned for chat"
    )]
    NoTemplate,
    #[error("token {token} is outside the vocabulary of {vocabulary_size} tokens")]
    UnknownToken { token: TokenId, vocabulary_size: usize },
}

/// For models with ChatML's tokens but no template: each message between its marks, and nothing else.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Tokens that end an answer in some family. One that the vocabulary has, and the template uses, ends this model's too,
/// though its files may forget to say so.
const ENDS_OF_TURN: [&str; 5] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_turn|>", "<end_of_turn>"];

impl TextModel {
    /// Reads the tokenizer and the chat template of a Hugging Face folder.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        let folder = Folder::open(folder)?;
        let Templates { usual, with_tools } = folder.templates()?;
        Ok(Self { tool_template: with_tools, ..Self::new(folder.tokenizer()?, usual) })
    }
    /// Builds tokenizer and template from a GGUF file's metadata.
    pub fn from_gguf(mut vocabulary: GgufVocabulary) -> Result<Self, LoadError> {
        let source = vocabulary.chat_template.take();
        let token = |id: Option<TokenId>| id.and_then(|id| vocabulary.tokens.get(id as usize).cloned());
        let roles = [("bos_token", token(vocabulary.bos)), ("eos_token", token(vocabulary.eos))];
        let special: Map<_, _> =
            roles.into_iter().filter_map(|(name, token)| Some((name.to_owned(), token?.into()))).collect();
        let template =
            source.map(|source| ChatTemplate::new(&source, special)).transpose().map_err(|error| {
                LoadError::File {
                    file: "tokenizer.chat_template of the GGUF metadata".to_owned(),
                    problem: error.to_string(),
                }
            })?;
        Ok(Self::new(Tokenizer::from_gguf(vocabulary)?, template))
    }
    /// Joins the two. Without a template, ChatML is used if the vocabulary has its tokens.
    pub fn new(tokenizer: Tokenizer, template: Option<ChatTemplate>) -> Self {
        let has = |token: &str| tokenizer.token_id(token).is_some();
        let template = template.or_else(|| {
            let is_chatml = has("<|im_start|>") && has("<|im_end|>");
            is_chatml.then(|| ChatTemplate::new(CHATML, Map::new()).expect("the fallback is a good template"))
        });
        let source = template.as_ref().map_or("", ChatTemplate::source);
        let ends = ENDS_OF_TURN
            .iter()
            .filter(|end| source.contains(**end))
            .filter_map(|end| tokenizer.token_id(end));
        let mut stop_tokens: Vec<TokenId> = tokenizer.stop_tokens().iter().copied().chain(ends).collect();
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        Self { tokenizer, template, tool_template: None, stop_tokens: stop_tokens.into() }
    }
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
    /// Returns the template for conversations without tools.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }
    /// Returns the tokens of a conversation: what the template printed, with special tokens parsed and none added.
    pub fn chat_prompt(&self, input: &RenderInput<'_>) -> Result<ChatPrompt, PromptError> {
        let with_tools = self.tool_template.as_ref().filter(|_| !input.tools.is_empty());
        let template = with_tools.or(self.template.as_ref()).ok_or(PromptError::NoTemplate)?;
        let text = template.render(input)?;
        let tokens = self.tokenizer.encode(&text, Special::Parsed, false)?;
        Ok(ChatPrompt { text, tokens })
    }
    /// Returns the tokens of a completion's prompt: a text with special tokens parsed and the begin-of-text token added
    /// where the model expects one; tokens as they are, if they all exist.
    pub fn completion_prompt(&self, prompt: &Prompt) -> Result<Vec<TokenId>, PromptError> {
        match prompt {
            Prompt::Text(text) => Ok(self.tokenizer.encode(text, Special::Parsed, true)?),
            Prompt::Tokens(tokens) => {
                match tokens.iter().find(|token| self.tokenizer.token_bytes(**token).is_none()) {
                    Some(token) => Err(PromptError::UnknownToken {
                        token: *token,
                        vocabulary_size: self.tokenizer.vocabulary_size(),
                    }),
                    None => Ok(tokens.clone()),
                }
            }
        }
    }
    /// Returns the text and tokens of each prompt in `input` (a chat is one), asking for an answer.
    pub fn prompts(&self, input: &Input, now_seconds: i64) -> Result<Vec<ChatPrompt>, PromptError> {
        match input {
            Input::Chat(chat) => {
                let input = RenderInput {
                    messages: &chat.messages,
                    tools: &chat.shown_tools(),
                    variables: &chat.template_variables,
                    add_generation_prompt: true,
                    now_seconds,
                };
                Ok(vec![self.chat_prompt(&input)?])
            }
            Input::Completion(prompts) => {
                let read = |prompt| {
                    let tokens = self.completion_prompt(prompt)?;
                    let text = match prompt {
                        Prompt::Text(text) => text.clone(),
                        Prompt::Tokens(_) => self.tokenizer.decode(&tokens, true),
                    };
                    Ok(ChatPrompt { text, tokens })
                };
                prompts.iter().map(read).collect()
            }
        }
    }
    /// Returns every token that ends an answer.
    pub fn stop_tokens(&self) -> Arc<[TokenId]> {
        self.stop_tokens.clone()
    }
    /// Returns a detokenizer for one answer.
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(&self.tokenizer)
    }
    /// Returns a reader for one chat answer to `prompt_text`: it tells reasoning, text and tool calls apart, as far as this
    /// model's template knows them. Tool calls are only looked for if the request had tools.
    pub fn answer_reader(&self, prompt_text: &str, has_tools: bool) -> AnswerReader {
        let template = self.tool_template.as_ref().filter(|_| has_tools).or(self.template.as_ref());
        let source = template.map_or("", ChatTemplate::source);
        let reasoning = source.contains("</think>").then(|| ReasoningSplitter::new(prompt_text));
        let tools = (has_tools && source.contains("<tool_call>")).then(ToolCallReader::new);
        AnswerReader::new(reasoning, tools)
    }
}
