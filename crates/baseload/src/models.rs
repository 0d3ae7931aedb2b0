//! Which model a person means by a path, a name or a hub id, and how it gets from there into memory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use domain::{ModelName, Sampling};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::{KvPrecision, Numerics};
use model::weights::hub::{self, HubId, HubOptions, HubProgress};
use model::weights::{self, Checkpoint, PackedCache, TokenizerSource};
use model::{LoadOptions, LoadProgress, Model};
use sha2::{Digest, Sha256};

use crate::bundled::BUNDLED;
use crate::cli::Loading;
use crate::config::{
    Config, EngineSettings, HubSettings, KvPrecisionSetting, ModelConfig, ModelSetting, PrecisionSetting,
    SpeculateSetting,
};

/// Where a model is, once it has been understood what was meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Bundled(&'static str),
    Disk(PathBuf),
    Hub(String),
}

impl Source {
    pub fn of(text: &str) -> anyhow::Result<Self> {
        if let Some(name) = text.strip_prefix("bundled:") {
            let known = || {
                BUNDLED.iter().map(|model| format!("bundled:{}", model.name)).collect::<Vec<_>>().join(", ")
            };
            let found = BUNDLED.iter().find(|model| model.name == name);
            return Ok(Self::Bundled(
                found.with_context(|| format!("there is no {text:?}; the binary has {}", known()))?.name,
            ));
        }
        let path = Path::new(text);
        if path.exists() {
            return Ok(Self::Disk(path.to_owned()));
        }
        let looks_like_a_path =
            text.starts_with(['.', '/', '~']) || text.ends_with(".gguf") && !text.contains(':');
        if looks_like_a_path || HubId::parse(text).is_err() {
            anyhow::bail!(
                "there is no model at {text:?}; name a folder, a .gguf file, bundled:main, or a hub id such as organisation/name"
            );
        }
        Ok(Self::Hub(text.to_owned()))
    }

    /// Brings the model onto this machine's disk, and returns its folder or file.
    pub fn fetch(&self, data: &Path, hub: &HubSettings) -> anyhow::Result<PathBuf> {
        match self {
            Self::Disk(path) => Ok(path.clone()),
            Self::Bundled(name) => {
                let model =
                    BUNDLED.iter().find(|model| model.name == *name).expect("the name came from the list");
                model.unpack(data)
            }
            Self::Hub(id) => download(id, data, hub),
        }
    }
}

/// Returns the folder below which downloads are kept.
pub fn hub_cache(data: &Path) -> PathBuf {
    data.join("hub")
}

fn download(id: &str, data: &Path, settings: &HubSettings) -> anyhow::Result<PathBuf> {
    let mut options = HubOptions::new(hub_cache(data));
    options.endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| settings.endpoint.clone());
    options.token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
    let style = ProgressStyle::with_template(
        "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} (about {eta} left)",
    )
    .expect("the template is well-formed")
    .progress_chars("=> ");
    let bar = ProgressBar::new(0).with_style(style).with_prefix(format!("downloading {id}"));
    let folder = hub::fetch(id, &options, &mut |progress| show_download(&bar, progress));
    bar.finish_and_clear();
    Ok(folder?)
}

fn show_download(bar: &ProgressBar, progress: HubProgress<'_>) {
    match progress {
        HubProgress::Planned { bytes, .. } => bar.set_length(bytes),
        HubProgress::Bytes { there } => bar.set_position(there),
        HubProgress::Retrying { cause, pause, .. } => {
            bar.suspend(|| eprintln!("{cause}; trying again in {} s", pause.as_secs()));
        }
        HubProgress::Waiting => {
            bar.suspend(|| eprintln!("another process is downloading the same model; waiting for it"))
        }
        HubProgress::File { .. } | HubProgress::Checking { .. } | HubProgress::Done => {}
    }
}

/// Returns the models to load: those of the flags, else those of the configuration, else the bundled ones. A configuration whose
/// models are all at providers loads none.
pub fn wanted(config: &Config, loading: &Loading) -> anyhow::Result<Vec<ModelConfig>> {
    let mut models = wanted_without_draft(config, &loading.model, loading.precision);
    if let Some(draft) = &loading.draft {
        let [model] = &mut models[..] else {
            anyhow::bail!(
                "--draft is for one model, and {} are to be loaded; name the one with --model, or say `draft` in its [[model]]",
                models.len()
            );
        };
        model.draft = Some(draft.clone());
    }
    Ok(models)
}

fn wanted_without_draft(
    config: &Config,
    flags: &[String],
    precision: Option<PrecisionSetting>,
) -> Vec<ModelConfig> {
    let plain = |path: String| ModelConfig {
        name: None,
        path,
        aliases: Vec::new(),
        precision,
        context_tokens: None,
        kv_mib: None,
        draft: None,
        price: None,
    };
    if !flags.is_empty() {
        return flags.iter().cloned().map(plain).collect();
    }
    if !config.models.is_empty() {
        let mut models: Vec<ModelConfig> = config.models.iter().filter_map(ModelSetting::embedded).collect();
        models.iter_mut().for_each(|model| model.precision = precision.or(model.precision));
        return models;
    }
    BUNDLED.iter().map(|model| plain(format!("bundled:{}", model.name))).collect()
}

/// A model in memory, and the text around it.
pub struct LoadedModel {
    pub name: ModelName,
    pub model: Model,
    /// A smaller model that guesses ahead for it, and its name.
    pub draft: Option<(String, Model)>,
    pub text: text::TextModel,
    pub sampling_defaults: Sampling,
    pub file_bytes: u64,
    /// Stands for what keys and values depend on besides tokens, where they are to go to disk.
    pub kv_identity: Option<[u8; 32]>,
}

/// Loads weights and tokenizer, with a progress bar.
pub fn load(
    wanted: &ModelConfig,
    engine: &EngineSettings,
    data: &Path,
    hub: &HubSettings,
) -> anyhow::Result<LoadedModel> {
    let path = Source::of(&wanted.path)?.fetch(data, hub)?;
    let checkpoint = weights::open(&path)?;
    let name = wanted.name.clone().unwrap_or_else(|| ModelName::new(checkpoint.name.clone()));
    let options = load_options(wanted, engine);
    let model = load_weights(name.as_str(), &path, &checkpoint, &options, &packed_cache(engine, data))?;
    let draft = match &wanted.draft {
        Some(draft) if engine.speculate != SpeculateSetting::Off => Some(
            load_draft(draft, wanted, engine, data, hub)
                .with_context(|| format!("the draft model of {name}"))?,
        ),
        _ => None,
    };
    let text =
        text_model(&checkpoint).with_context(|| format!("the tokenizer of {name} in {}", path.display()))?;
    let sampling_defaults = sampling_defaults(&checkpoint);
    let kv_identity = (engine.kv_disk_mib > 0).then(|| kv_identity(&checkpoint, &options));
    Ok(LoadedModel {
        name,
        model,
        draft,
        text,
        sampling_defaults,
        file_bytes: checkpoint.file_bytes,
        kv_identity,
    })
}

/// Loads a model that only guesses: its text is that of the model it guesses for.
fn load_draft(
    draft: &str,
    wanted: &ModelConfig,
    engine: &EngineSettings,
    data: &Path,
    hub: &HubSettings,
) -> anyhow::Result<(String, Model)> {
    let path = Source::of(draft)?.fetch(data, hub)?;
    let checkpoint = weights::open(&path)?;
    // A folder that is quantized already is taken as it is.
    let precision = wanted.precision.filter(|_| checkpoint.packed.is_none());
    let options = load_options(&ModelConfig { precision, ..wanted.clone() }, engine);
    let name = checkpoint.name.clone();
    let model = load_weights(&name, &path, &checkpoint, &options, &packed_cache(engine, data))?;
    Ok((name, model))
}

/// Loads weights, or maps their packed copy, with a progress bar.
fn load_weights(
    name: &str,
    path: &Path,
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    cache: &PackedCache,
) -> anyhow::Result<Model> {
    let bar = bytes_bar(format!("loading {name}"));
    let model = Model::load_cached(checkpoint, options, cache, &mut |progress| show(&bar, &progress));
    bar.finish_and_clear();
    model.with_context(|| format!("loading {name} from {}", path.display()))
}

/// Of the options, some only change the last bits; keys and values of one answer shall not have several kinds of them.
fn kv_identity(checkpoint: &Checkpoint, options: &LoadOptions) -> [u8; 32] {
    let build = env!("CARGO_PKG_VERSION");
    let digest = Sha256::new().chain_update(checkpoint.fingerprint());
    digest.chain_update(format!("{build} {options:?}")).finalize().into()
}

/// Returns where packed copies of models are kept, and how many. A model below 64 MiB is packed in a tenth of a second.
fn packed_cache(engine: &EngineSettings, data: &Path) -> PackedCache {
    PackedCache {
        folder: data.join("packed"),
        bytes_max: engine.packed_cache_gib.saturating_mul(1 << 30),
        bytes_least: 64 << 20,
        verify: engine.packed_cache_verify,
    }
}

/// A bar that counts bytes, with this before it.
pub fn bytes_bar(prefix: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes}")
        .expect("the template is well-formed")
        .progress_chars("=> ");
    ProgressBar::new(0).with_style(style).with_prefix(prefix)
}

pub fn show(bar: &ProgressBar, progress: &LoadProgress<'_>) {
    bar.set_length(progress.total_bytes);
    bar.set_position(progress.done_bytes);
}

fn load_options(wanted: &ModelConfig, engine: &EngineSettings) -> LoadOptions {
    let precision = wanted.precision.map(PrecisionSetting::precision);
    let numerics = if engine.batch_invariant { Numerics::BatchInvariant } else { Numerics::Fast };
    let kv_precision = match engine.kv_precision {
        KvPrecisionSetting::Bf16 => KvPrecision::Bf16,
        KvPrecisionSetting::Int8 => KvPrecision::Int8,
    };
    let mut options = LoadOptions { precision, kv_precision, numerics, ..LoadOptions::default() };
    if engine.threads > 0 {
        options.threads = engine.threads;
    }
    options
}

pub fn text_model(checkpoint: &Checkpoint) -> anyhow::Result<text::TextModel> {
    match &checkpoint.tokenizer {
        TokenizerSource::Folder(folder) => Ok(text::TextModel::from_folder(folder)?),
        TokenizerSource::Gguf(vocabulary) => {
            let v = vocabulary.as_ref().clone();
            Ok(text::TextModel::from_gguf(text::GgufVocabulary {
                model: v.model,
                pre: v.pre,
                tokens: v.tokens,
                scores: v.scores,
                token_types: v.token_types,
                merges: v.merges,
                bos: v.bos,
                eos: v.eos,
                further_ends: v.eot.into_iter().collect(),
                unknown: v.unk,
                add_bos: v.add_bos,
                add_eos: v.add_eos,
                add_space_prefix: v.add_space_prefix,
                chat_template: checkpoint.chat_template.clone(),
            })?)
        }
    }
}

/// Reads what the model's authors recommend, from `generation_config.json`; a field they leave out is neutral.
fn sampling_defaults(checkpoint: &Checkpoint) -> Sampling {
    let mut sampling = Sampling::default();
    let Some(config) = &checkpoint.generation_config else { return sampling };
    let number = |field: &str| config[field].as_f64().map(|value| value as f32);
    sampling.temperature = number("temperature").unwrap_or(sampling.temperature);
    sampling.top_p = number("top_p").unwrap_or(sampling.top_p);
    sampling.min_p = number("min_p").unwrap_or(sampling.min_p);
    sampling.repetition_penalty = number("repetition_penalty").unwrap_or(sampling.repetition_penalty);
    sampling.top_k = config["top_k"].as_u64().map_or(sampling.top_k, |count| count as u32);
    if config["do_sample"].as_bool() == Some(false) {
        sampling.temperature = 0.0;
    }
    sampling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_bundled_on_disk_or_at_a_hub() {
        assert_eq!(Source::of("bundled:small").unwrap(), Source::Bundled("small"));
        assert_eq!(Source::of("src").unwrap(), Source::Disk("src".into()));
        assert_eq!(Source::of("Qwen/Qwen3-0.6B").unwrap(), Source::Hub("Qwen/Qwen3-0.6B".into()));
        for wrong in ["./nothing/here", "/nothing", "missing.gguf", "bundled:huge"] {
            assert!(Source::of(wrong).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn flags_win_over_the_configuration_and_the_bundle_is_the_default() {
        let config = Config::parse(Path::new("x"), "[[model]]\npath = 'a/b'\n").unwrap();
        let paths = |config: &Config, flags: &[String]| {
            wanted_without_draft(config, flags, None).into_iter().map(|model| model.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(&config, &["x/y".into()]), ["x/y"]);
        assert_eq!(paths(&config, &[]), ["a/b"]);
        assert_eq!(paths(&Config::default(), &[]), ["bundled:main", "bundled:small"]);
    }
}
