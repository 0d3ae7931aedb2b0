//! `baseload quantize`: a smaller model in a folder that can be served, and what it costs in answers.

use std::fs;
use std::path::Path;

use anyhow::Context;
use domain::{ChatMessage, Role, TokenId};
use indicatif::{ProgressBar, ProgressStyle};
use model::quantize::{Comparison, Moments, compare, observe, write_folder};
use model::weights::{self, Checkpoint, PACKED};
use model::{BlockFormats, LoadOptions, LoadProgress, LoadReport, Model, Precision};
use serde_json::{Map, Value, json};
use text::{RenderInput, Special, TextModel};

use crate::cli::{QuantizeArgs, QuantizedPrecision};
use crate::models::{Source, bytes_bar, show, text_model};
use crate::roles::models::size;
use crate::{place, table};

/// Chats of the bundled models' text that they were not trained on.
const HELD_OUT: &str = include_str!("../../../../demo-model/corpus/heldout.jsonl");

/// The longest piece of a text that is read from its beginning: later tokens have more to go by, as in real use.
const WINDOW_TOKENS: usize = 512;

pub async fn quantize(args: QuantizeArgs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || run(&args)).await?
}

fn run(args: &QuantizeArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.tokens >= 2, "--tokens must be at least 2: one to begin with, one to predict");
    refuse_to_overwrite(&args.out)?;
    let config = place::config(&args.place)?;
    let path = Source::of(&args.model)?.fetch(&place::data_folder(&args.place, &config)?, &config.hub)?;
    let checkpoint = weights::open(&path)?;
    anyhow::ensure!(
        checkpoint.packed.is_none(),
        "{} is quantized already; quantize the original model: rounding twice loses more than rounding once",
        path.display()
    );
    let text = text_model(&checkpoint)
        .with_context(|| format!("the tokenizer of {} in {}", checkpoint.name, path.display()))?;
    let windows = if args.no_measure { Vec::new() } else { windows(args, &text)? };
    let precision = match args.precision {
        QuantizedPrecision::Int8 => Precision::Int8,
        QuantizedPrecision::Int4 => Precision::Int4,
    };
    let work = Work { args, checkpoint: &checkpoint, precision };
    write_folder(&checkpoint, &args.out)?;
    let (report, comparisons, kept) = work.go(&windows)?;
    work.tell(&report, &comparisons, kept)
}

/// What is there may be somebody's model.
fn refuse_to_overwrite(out: &Path) -> anyhow::Result<()> {
    match fs::read_dir(out) {
        Ok(mut entries) => {
            anyhow::ensure!(
                entries.next().is_none(),
                "{} is not empty; name a folder that is not there yet with --out",
                out.display()
            );
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("the folder of --out, {}", out.display())),
    }
}

struct Work<'a> {
    args: &'a QuantizeArgs,
    checkpoint: &'a Checkpoint,
    precision: Precision,
}

/// One way of rounding, and what it cost.
struct Compared {
    way: &'static str,
    comparison: Comparison,
}

impl Work<'_> {
    fn options(&self, precision: Option<Precision>) -> LoadOptions {
        let defaults = LoadOptions::default();
        let threads = self.args.threads.filter(|threads| *threads > 0).unwrap_or(defaults.threads);
        LoadOptions { precision, block_formats: BlockFormats::Bf16, threads, ..defaults }
    }

    /// Returns what was written last, what was measured, and which of the measured was kept.
    fn go(&self, windows: &[Vec<TokenId>]) -> anyhow::Result<(LoadReport, Vec<Compared>, usize)> {
        if windows.is_empty() {
            return Ok((self.write(None)?.report().clone(), Vec::new(), 0));
        }
        let bar = bytes_bar(format!("loading {}", self.checkpoint.name));
        let (options, progress) =
            (self.options(None), &mut |progress: LoadProgress<'_>| show(&bar, &progress));
        let mut reference = match self.args.calibrate {
            true => Model::load_observed(self.checkpoint, &options, progress)?,
            false => Model::load(self.checkpoint, &options, progress)?,
        };
        bar.finish_and_clear();
        let (taught, held) = windows.split_at(if self.args.calibrate { windows.len() / 4 } else { 0 });
        anyhow::ensure!(
            !self.args.calibrate || !taught.is_empty(),
            "the text is too short to calibrate on: {} piece(s) of it, and at least 4 are needed; give a longer --text or more \
             --tokens",
            windows.len()
        );
        let moments = match self.args.calibrate {
            true => {
                let bar = token_bar("calibrating", taught);
                let moments = observe(&mut reference, taught, &mut |tokens| bar.inc(tokens as u64))?;
                bar.finish_and_clear();
                Some(moments)
            }
            false => None,
        };
        let mut compared = vec![self.measure("nearest", None, &mut reference, held)?];
        let mut report = compared[0].1.clone();
        if let Some(moments) = &moments {
            compared.push(self.measure("calibrated", Some(moments), &mut reference, held)?);
            let is_better = compared[1].0.comparison.kl_mean < compared[0].0.comparison.kl_mean;
            report = if is_better { compared[1].1.clone() } else { self.write(None)?.report().clone() };
        }
        let compared: Vec<Compared> = compared.into_iter().map(|(compared, _)| compared).collect();
        let kept = (0..compared.len())
            .min_by(|a, b| compared[*a].comparison.kl_mean.total_cmp(&compared[*b].comparison.kl_mean));
        Ok((report, compared, kept.unwrap_or(0)))
    }

    fn measure(
        &self,
        way: &'static str,
        search: Option<&Moments>,
        reference: &mut Model,
        windows: &[Vec<TokenId>],
    ) -> anyhow::Result<(Compared, LoadReport)> {
        let mut quantized = self.write(search)?;
        let bar = token_bar("measuring", windows);
        let comparison = compare(reference, &mut quantized, windows, &mut |tokens| bar.inc(tokens as u64))?;
        bar.finish_and_clear();
        Ok((Compared { way, comparison }, quantized.report().clone()))
    }

    fn write(&self, search: Option<&Moments>) -> anyhow::Result<Model> {
        let bar = bytes_bar(format!("quantizing {}", self.checkpoint.name));
        let model = Model::quantize(
            self.checkpoint,
            &self.options(Some(self.precision)),
            search,
            &self.args.out,
            &mut |progress| {
                show(&bar, &progress);
            },
        );
        bar.finish_and_clear();
        model.with_context(|| format!("quantizing {} into {}", self.checkpoint.name, self.args.out.display()))
    }

    fn tell(&self, report: &LoadReport, compared: &[Compared], kept: usize) -> anyhow::Result<()> {
        let packed_bytes = self.args.out.join(PACKED).metadata().context("the packed weights")?.len();
        println!("{} ({}) in {}", self.checkpoint.name, name(self.precision), self.args.out.display());
        println!(
            "  {:.1} M parameters; {} before, {} on disk now; {} resident at {:.2} bits per weight",
            report.parameters as f64 / 1e6,
            size(self.checkpoint.file_bytes),
            size(packed_bytes),
            size(report.resident_bytes),
            report.bits_per_weight,
        );
        let text = match (&self.args.text, compared.is_empty()) {
            (_, true) => "not measured (--no-measure)".to_owned(),
            (Some(path), false) => path.display().to_string(),
            (None, false) => "held-out chats of the bundled models' text".to_owned(),
        };
        println!("  text: {text}");
        if !compared.is_empty() {
            print!("{}", self.table(compared, kept));
        }
        let json = json!({
            "model": self.checkpoint.name,
            "precision": name(self.precision),
            "parameters": report.parameters,
            "original_bytes": self.checkpoint.file_bytes,
            "packed_bytes": packed_bytes,
            "resident_bytes": report.resident_bytes,
            "bits_per_weight": report.bits_per_weight,
            "text": text,
            "measured": compared
                .iter()
                .enumerate()
                .map(|(number, one)| json!({"rounding": one.way, "kept": number == kept, "result": one.comparison}))
                .collect::<Vec<_>>(),
        });
        let path = self.args.out.join("report.json");
        fs::write(&path, serde_json::to_string_pretty(&json)? + "\n")
            .with_context(|| format!("writing {}", path.display()))?;
        println!("serve it:\n  baseload serve --model {}", self.args.out.display());
        Ok(())
    }

    fn table(&self, compared: &[Compared], kept: usize) -> String {
        let headings = [
            "",
            "rounding",
            "perplexity before",
            "after",
            "ratio",
            "mean KL",
            "99th KL",
            "same likeliest token",
            "tokens",
        ];
        table::text(
            &headings,
            compared.iter().enumerate().map(|(number, one)| {
                let found = &one.comparison;
                vec![
                    if number == kept { "kept" } else { "" }.to_owned(),
                    one.way.to_owned(),
                    format!("{:.4}", found.perplexity_reference),
                    format!("{:.4}", found.perplexity),
                    format!("{:.5}", found.perplexity_ratio),
                    format!("{:.6}", found.kl_mean),
                    format!("{:.5}", found.kl_p99),
                    format!("{:.2} %", found.agreement * 100.0),
                    found.tokens.to_string(),
                ]
            }),
        )
    }
}

fn name(precision: Precision) -> &'static str {
    if precision == Precision::Int4 { "int4" } else { "int8" }
}

fn token_bar(what: &str, windows: &[Vec<TokenId>]) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} tokens (about {eta} left)")
        .expect("the template is well-formed")
        .progress_chars("=> ");
    let tokens: usize = windows.iter().map(Vec::len).sum();
    ProgressBar::new(tokens as u64).with_style(style).with_prefix(what.to_owned())
}

/// Returns the text that is measured, as tokens, in pieces that are read from their beginning.
fn windows(args: &QuantizeArgs, text: &TextModel) -> anyhow::Result<Vec<Vec<TokenId>>> {
    let mut windows: Vec<Vec<TokenId>> = match &args.text {
        Some(path) => {
            let content = fs::read_to_string(path)
                .with_context(|| format!("the text {}; --text names a file of UTF-8 text", path.display()))?;
            let tokens = text.tokenizer().encode(&content, Special::AsText, false)?;
            let begin = text.tokenizer().bos();
            tokens.chunks(WINDOW_TOKENS).map(|piece| begin.iter().chain(piece).copied().collect()).collect()
        }
        None => chats(text, args.tokens)?,
    };
    let mut left = args.tokens;
    for window in &mut windows {
        window.truncate(left);
        left -= window.len();
    }
    windows.retain(|window| window.len() > 1);
    anyhow::ensure!(
        !windows.is_empty(),
        "the text has no two tokens to measure; give a longer one with --text, or --no-measure"
    );
    Ok(windows)
}

/// Held-out chats, of every kind, as this model's template writes them.
fn chats(text: &TextModel, tokens: usize) -> anyhow::Result<Vec<Vec<TokenId>>> {
    let chats: Vec<Vec<ChatMessage>> = HELD_OUT.lines().filter_map(plain_chat).collect();
    // Lines are sorted by kind, so that a few from everywhere are a better sample than the first; a chat is some 40 tokens.
    let step = (chats.len() * 40 / tokens.max(1)).max(1);
    let mut windows = Vec::new();
    for messages in chats.iter().step_by(step) {
        let rendered = text.chat_prompt(&RenderInput {
            messages,
            tools: &[],
            variables: &Map::new(),
            add_generation_prompt: false,
            now_seconds: 0,
        });
        windows.push(match rendered {
            Ok(prompt) => prompt.tokens,
            // A model without a template reads what was said, line by line.
            Err(_) => {
                let said: Vec<String> = messages.iter().map(ChatMessage::text).collect();
                text.tokenizer().encode(&said.join("\n"), Special::AsText, true)?
            }
        });
    }
    Ok(windows)
}

/// Returns the chat of a line, where it is words alone.
fn plain_chat(line: &str) -> Option<Vec<ChatMessage>> {
    let chat: Value = serde_json::from_str(line).ok()?;
    if chat.get("tools").is_some_and(|tools| !tools.is_null()) {
        return None;
    }
    let message = |message: &Value| {
        let role = match message["role"].as_str()? {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return None,
        };
        Some(ChatMessage::of_text(role, message["content"].as_str()?))
    };
    chat["messages"].as_array()?.iter().map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_our_own_has_chats_of_words_alone() {
        let chats: Vec<_> = HELD_OUT.lines().filter_map(plain_chat).collect();
        assert!(chats.len() > 900, "{}", chats.len());
        assert!(chats.iter().all(|chat| chat.last().is_some_and(|last| last.role == Role::Assistant)));
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_to_overwrite(folder.path()).is_ok());
        assert!(refuse_to_overwrite(&folder.path().join("new")).is_ok());
        fs::write(folder.path().join("mine"), "x").unwrap();
        assert!(refuse_to_overwrite(folder.path()).unwrap_err().to_string().contains("is not empty"));
    }
}
