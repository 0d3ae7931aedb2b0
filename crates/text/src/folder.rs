//! What do the files of a Hugging Face folder say about text?

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{DecoderWrapper, ModelWrapper};

use domain::TokenId;

use crate::chat_template::ChatTemplate;
use crate::pieces::Spelling;
use crate::shared_model::SharedModel;
use crate::tokenizer::{Around, LoadError, Roles, Tokenizer, pipeline};

/// The small files, read; those that do not exist are empty.
pub(crate) struct Folder {
    path: PathBuf,
    tokenizer_config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    generation_config: Map<String, Value>,
    config: Map<String, Value>,
}

/// The templates of a model: one for all conversations, and maybe one for those with tools.
#[derive(Default)]
pub(crate) struct Templates {
    pub usual: Option<ChatTemplate>,
    pub with_tools: Option<ChatTemplate>,
}

/// The variables that templates use, where the configuration names their tokens.
const SPECIAL_TOKENS: [&str; 5] = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token"];

impl Folder {
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Ok(Self {
            tokenizer_config: read_object(&path.join("tokenizer_config.json"))?,
            special_tokens_map: read_object(&path.join("special_tokens_map.json"))?,
            generation_config: read_object(&path.join("generation_config.json"))?,
            config: read_object(&path.join("config.json"))?,
            path: path.to_owned(),
        })
    }
    pub fn tokenizer(&self) -> Result<Tokenizer, LoadError> {
        let file = self.path.join("tokenizer.json");
        let read = tokenizers::Tokenizer::from_file(&file).map_err(|error| problem(&file, error))?;
        let unsupported = |what| LoadError::Unsupported { file: file.display().to_string(), what };
        if !matches!(read.get_model(), ModelWrapper::BPE(_)) {
            return Err(unsupported(format!("of the kind {}", kind(read.get_model()))));
        }
        let spelling = spelling(read.get_decoder()).map_err(unsupported)?;
        // Truncation and padding stay behind: they are for training.
        let parsed = pipeline(
            SharedModel::new(read.get_model().clone()),
            read.get_normalizer().cloned(),
            read.get_pre_tokenizer().cloned(),
            read.get_post_processor().cloned(),
            read.get_added_vocabulary().clone(),
        )
        .map_err(|error| problem(&file, error))?;
        let id = |name: &str| self.special_token(name).and_then(|token| read.token_to_id(&token));
        let (bos, eos) = (id("bos_token"), id("eos_token"));
        let stop_tokens = self.stop_tokens();
        let eos = eos.or_else(|| stop_tokens.first().copied());
        Ok(Tokenizer::new(parsed, Roles { around: self.around(bos, eos), spelling, bos, eos, stop_tokens }))
    }
    pub fn templates(&self) -> Result<Templates, LoadError> {
        let file = self.path.join("chat_template.jinja");
        if let Some(source) = read(&file)? {
            return Ok(Templates { usual: Some(self.template(&file, &source)?), with_tools: None });
        }
        let file = self.path.join("tokenizer_config.json");
        let mut templates = Templates::default();
        match self.tokenizer_config.get("chat_template") {
            Some(Value::String(source)) => templates.usual = Some(self.template(&file, source)?),
            Some(Value::Array(named)) => {
                for entry in named {
                    match (entry["name"].as_str(), entry["template"].as_str()) {
                        (Some("default"), Some(source)) => {
                            templates.usual = Some(self.template(&file, source)?)
                        }
                        (Some("tool_use"), Some(source)) => {
                            templates.with_tools = Some(self.template(&file, source)?)
                        }
                        // Others, such as `rag`, are for requests that this server does not take.
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(templates)
    }
    fn template(&self, file: &Path, source: &str) -> Result<ChatTemplate, LoadError> {
        let named = SPECIAL_TOKENS
            .iter()
            .filter_map(|name| Some((name.to_string(), self.special_token(name)?.into())));
        ChatTemplate::new(source, named.collect()).map_err(|error| problem(file, error))
    }
    /// Returns the text of a token such as `bos_token`, written plainly or as an object with `content`.
    fn special_token(&self, name: &str) -> Option<String> {
        let texts = [&self.tokenizer_config, &self.special_tokens_map];
        let token = texts.iter().find_map(|file| file.get(name).filter(|token| !token.is_null()))?;
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    }
    /// Returns all ids that `eos_token_id` names, a number or a list, in either configuration.
    fn stop_tokens(&self) -> Vec<TokenId> {
        let ends =
            [&self.generation_config, &self.config].into_iter().filter_map(|file| file.get("eos_token_id"));
        let ids = ends.flat_map(|ends| match ends {
            Value::Array(list) => list.iter().collect(),
            single => vec![single],
        });
        ids.filter_map(|id| TokenId::try_from(id.as_u64()?).ok()).collect()
    }
    /// `add_bos_token` and `add_eos_token` overrule what `tokenizer.json` says, as they do in the reference.
    fn around(&self, bos: Option<TokenId>, eos: Option<TokenId>) -> Around {
        let flag = |name: &str| self.tokenizer_config.get(name).and_then(Value::as_bool);
        match (flag("add_bos_token"), flag("add_eos_token")) {
            (None, None | Some(false)) => Around::PostProcessor,
            (add_bos, add_eos) => Around::Tokens {
                before: bos.filter(|_| add_bos == Some(true)),
                after: eos.filter(|_| add_eos == Some(true)),
            },
        }
    }
}

/// Returns how the decoder's rules spell bytes, or what is not supported about them.
fn spelling(decoder: Option<&DecoderWrapper>) -> Result<Spelling, String> {
    let decoder = decoder.ok_or_else(|| "one without a decoder".to_owned())?;
    let rules = serde_json::to_value(decoder).unwrap_or_default();
    let steps = match rules["type"].as_str() {
        Some("Sequence") => rules["decoders"].as_array().cloned().unwrap_or_default(),
        _ => vec![rules],
    };
    if let [only] = steps.as_slice()
        && only["type"] == "ByteLevel"
    {
        return Ok(Spelling::ByteLevel);
    }
    let mut spaces_added = 0;
    for step in &steps {
        match step["type"].as_str().unwrap_or_default() {
            "Replace" if step["pattern"]["String"] == "▁" && step["content"] == " " => {}
            "ByteFallback" | "Fuse" => {}
            "Strip" if step["content"] == " " && step["stop"] == 0 => {
                spaces_added = step["start"].as_u64().unwrap_or(0) as usize;
            }
            "Metaspace" if step["replacement"] == "▁" => {
                spaces_added = usize::from(step["prepend_scheme"] != "never");
            }
            other => return Err(format!("one with the decoder {other:?}")),
        }
    }
    Ok(Spelling::Marked { spaces_added })
}

fn kind(model: &ModelWrapper) -> &'static str {
    match model {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::WordPiece(_) => "WordPiece",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::Unigram(_) => "Unigram",
    }
}

fn problem(file: &Path, problem: impl std::fmt::Display) -> LoadError {
    LoadError::File { file: file.display().to_string(), problem: problem.to_string() }
}

/// Returns the file's text, or nothing if there is no such file.
fn read(file: &Path) -> Result<Option<String>, LoadError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem(file, error)),
    }
}

fn read_object(file: &Path) -> Result<Map<String, Value>, LoadError> {
    match read(file)? {
        None => Ok(Map::new()),
        Some(text) => serde_json::from_str(&text).map_err(|error| problem(file, error)),
    }
}
