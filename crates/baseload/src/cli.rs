//! Which words a person may type after `baseload`.

mod admin;
mod prices;
mod statements;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::admin::{
    AccountsCommand, AdminArgs, AdminCommand, AdminFormat, AdminTasksCommand, CreateKeyArgs,
    DecisionsCommand, KeysArgs, KeysCommand, KindWord, LimitsCommand, Office, PricesCommand, RoleChoice,
};
pub use self::prices::{ImportFormat, PriceArgs, PriceCommand, PriceFormat, PriceSource, SetPriceArgs};
pub use self::statements::{StatementArgs, StatementCommand, StatementFormat, UsageArgs, UsageFormat};
pub use self::tasks::{TaskState, TasksCommand};
use crate::config::{KvPrecisionSetting, LogFormat, PrecisionSetting, SpeculateSetting};

/// Runs AI inference like a utility: serves models, meters every token.
#[derive(Debug, Parser)]
#[command(name = "baseload", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  baseload serve                               serve the bundled model on 127.0.0.1:8080
  baseload serve --model ./Qwen3-0.6B          serve a Hugging Face folder
  baseload run \"What is a KV cache?\"           answer once, without a server
  baseload usage --by model,day                what was used, and what it cost")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve models over HTTP, compatible with the OpenAI API
    #[command(after_help = "Examples:
  baseload serve
  baseload serve --listen 127.0.0.1:9000 --model ./my-model --model ./other.gguf
  baseload serve --model Qwen/Qwen3-0.6B --precision int8
  baseload serve --config baseload.toml

Without --model and without models in the configuration, the bundled models are served.
On an address other than loopback, a key must exist first: baseload keys create --name alice")]
    Serve(ServeArgs),
    /// Talk with a model in the terminal
    #[command(after_help = "Examples:
  baseload chat
  baseload chat --model ./Qwen3-0.6B --system \"Answer in one sentence.\"
  baseload chat --url http://127.0.0.1:8080 --model main

Inside: /reset forgets the conversation, /quit (or Ctrl-D) leaves.")]
    Chat(ChatArgs),
    /// Answer one prompt and stop
    #[command(after_help = "Examples:
  baseload run \"What is TTFT?\"
  echo \"Summarise: …\" | baseload run -
  baseload run --url http://127.0.0.1:8080 --model main --max-tokens 64 \"Hello\"")]
    Run(RunArgs),
    /// Put load on any OpenAI-compatible endpoint and measure it
    #[command(after_help = "Examples:
  baseload bench --url http://127.0.0.1:8080 --model main --concurrency 1,8,32 --requests 64
  baseload bench --rate 5 --duration 60 --prompt-tokens 512 --output-tokens 128 --slo-ttft-ms 500 --slo-tpot-ms 50
  baseload bench --trace arrivals.jsonl --report report.html --json result.json

A trace is one JSON object a line: {\"arrival_ms\": 0, \"input_tokens\": 512, \"output_tokens\": 128}.")]
    Bench(Box<BenchArgs>),
    /// Make a model smaller, and measure what that costs in its answers
    #[command(after_help = "Examples:
  baseload quantize ./Qwen3-0.6B --precision int8 --out ./Qwen3-0.6B-int8
  baseload quantize Qwen/Qwen3-0.6B --precision int4 --calibrate --text manual.txt --out ./qwen-int4
  baseload quantize ./model-f16.gguf --precision int4 --out ./model-int4
  baseload quantize bundled:main --precision int4 --out /tmp/main-int4
  baseload serve --model ./Qwen3-0.6B-int8

The folder holds packed weights, configuration, tokenizer, chat template, and report.json.
Without --text, held-out chats of the bundled models' text are measured: short questions and answers in English.
They are the right text for the bundled models; for any other, give a text of the kind that it will see.")]
    Quantize(QuantizeArgs),
    /// List the models that can be served: bundled, configured, downloaded
    #[command(after_help = "Examples:
  baseload models
  baseload models --url http://127.0.0.1:8080        what a running server serves")]
    Models(ModelsArgs),
    /// Show requests, tokens and cost from the ledger
    #[command(after_help = "Examples:
  baseload usage
  baseload usage --by team,model --since 7d
  baseload usage --by day --format csv
  baseload usage --by cost-centre,month --format parquet --output usage.parquet
  baseload usage --since 2026-10-01 --until 2026-11-01 --format focus-csv --output october.csv
  baseload usage --requests 20                       the last twenty requests, one by one")]
    Usage(UsageArgs),
    /// Show and close the statements of months: what each cost centre owes
    #[command(after_help = "Examples:
  baseload statements show --month 2026-10
  baseload statements close --month 2026-10
  baseload statements list")]
    Statements(StatementArgs),
    /// List, check, import and set prices
    #[command(after_help = "Examples:
  baseload prices list --from catalogue --provider openai
  baseload prices show openai/gpt-6.1-terra
  baseload prices check
  baseload prices import catalogue --provider anthropic
  baseload prices set main --input 0.25 --output 1")]
    Prices(PriceArgs),
    /// Make, list, rotate and revoke API keys: `baseload admin keys`, for short
    #[command(after_help = "Examples:
  baseload keys create --name alice
  baseload keys create --name ci --account research --models small --expires 90d
  baseload keys list
  baseload keys rotate key-1f0c2a7b3d4e --overlap 24h
  baseload keys revoke key-1f0c2a7b3d4e")]
    Keys(KeysArgs),
    /// See what agents do and what it costs; let them go on, or stop them
    #[command(
        subcommand,
        after_help = "Examples:
  baseload tasks list
  baseload tasks show acme/run-42
  baseload tasks approve acme/run-42 --usd 0.50
  baseload tasks stop acme/run-42"
    )]
    Tasks(TasksCommand),
    /// Administer accounts, keys, limits and prices, here or on a server
    #[command(after_help = "Examples:
  baseload admin keys create --name me --role owner          the first key of a server
  baseload admin accounts create acme/research --parents
  baseload admin keys list --url http://127.0.0.1:8080 --key bl-…
  baseload admin openapi > baseload-admin.json")]
    Admin(AdminArgs),
    /// Check a configuration file, or import one
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a shell completion script
    #[command(after_help = "Example:
  baseload completions bash > /etc/bash_completion.d/baseload")]
    Completions { shell: Shell },
}

/// Where things are kept; the same for every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "BASELOAD_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Folder of the ledger and of downloads [default: the user's data folder]
    #[arg(long, value_name = "DIR", env = "BASELOAD_DATA", global = true)]
    pub data: Option<PathBuf>,
    /// The ledger: sqlite:PATH, or postgres://… to share it among servers [default: ledger.sqlite in the data folder]
    #[arg(long, value_name = "URL", env = "BASELOAD_LEDGER", hide_env_values = true, global = true)]
    pub ledger: Option<String>,
}

/// Which models to load and how; flags win over the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct Loading {
    /// A Hugging Face folder, a .gguf file, bundled:main, bundled:small, or a hub id; may be repeated
    #[arg(long, value_name = "PATH-OR-HUB-ID")]
    pub model: Vec<String>,
    /// How weights are kept in memory [default: as they are stored; a GGUF's own formats in 8 or 4 bits where that is as good]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionSetting>,
    /// Worker threads of the engine [default: every core this process may use]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Memory for keys and values of each model, in MiB
    #[arg(long, value_name = "MIB")]
    pub kv_mib: Option<usize>,
    /// How keys and values are kept in memory: int8 takes half of what bf16 does
    #[arg(long, value_enum)]
    pub kv_precision: Option<KvPrecisionSetting>,
    /// Room on disk for keys and values of each model that memory has no room for, in MiB [default: none]
    #[arg(long, value_name = "MIB")]
    pub kv_disk_mib: Option<usize>,
    /// Guess tokens ahead where that is faster; it never changes what is said [default: ngram]
    #[arg(long, value_enum)]
    pub speculate: Option<SpeculateSetting>,
    /// A smaller model of the same vocabulary that guesses ahead for the (one) model
    #[arg(long, value_name = "PATH-OR-HUB-ID")]
    pub draft: Option<String>,
    /// The longest that other prompts may hold back a running stream's next token, in milliseconds
    #[arg(long, value_name = "MS")]
    pub step_target_ms: Option<u64>,
    /// The same tokens whatever else runs, at some cost in speed
    #[arg(long)]
    pub batch_invariant: bool,
    /// Keep no packed copy of the weights on disk, and use none
    #[arg(long)]
    pub no_packed_cache: bool,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub place: Place,
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "BASELOAD_LISTEN")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub loading: Loading,
    /// How log lines look
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, or a filter such as info,gateway=debug
    #[arg(long, value_name = "FILTER", env = "BASELOAD_LOG")]
    pub log: Option<String>,
}

/// What to talk to: a running server, or a model loaded for this command alone.
#[derive(Debug, Args)]
pub struct Partner {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub loading: Loading,
    /// A running server to talk to, instead of loading a model; its models are named with --model
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub partner: Partner,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub partner: Partner,
    /// What to ask; - reads it from standard input
    pub prompt: String,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The endpoint, with or without /v1
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The model to ask [default: the first that the endpoint lists]
    #[arg(long)]
    pub model: Option<String>,
    /// Closed loop: how many clients at once; several numbers are run one after the other
    #[arg(long, value_delimiter = ',', default_value = "1", conflicts_with_all = ["rate", "trace"])]
    pub concurrency: Vec<usize>,
    /// Open loop: requests a second, arriving at random (Poisson)
    #[arg(long, value_name = "PER-SECOND", conflicts_with = "trace")]
    pub rate: Option<f64>,
    /// Replay a trace of arrivals and lengths (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// How many requests of each run
    #[arg(long, default_value_t = 32)]
    pub requests: usize,
    /// End each run after this many seconds, however many requests are done
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Prompt length in tokens: a number, or a range such as 100-500
    #[arg(long, value_name = "N|A-B", default_value = "128")]
    pub prompt_tokens: String,
    /// Answer length in tokens: a number, or a range
    #[arg(long, value_name = "N|A-B", default_value = "64")]
    pub output_tokens: String,
    /// Tokens at the start of each prompt that all requests share
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub shared_prefix_tokens: usize,
    /// Requests that run before measuring begins
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Time to first token that counts as good
    #[arg(long, value_name = "MS")]
    pub slo_ttft_ms: Option<f64>,
    /// Time per output token that counts as good
    #[arg(long, value_name = "MS")]
    pub slo_tpot_ms: Option<f64>,
    /// End-to-end time that counts as good
    #[arg(long, value_name = "MS")]
    pub slo_e2e_ms: Option<f64>,
    /// Time after which a request counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    pub timeout: f64,
    /// Let answers end by themselves, instead of asking for exactly --output-tokens with ignore_eos
    #[arg(long)]
    pub natural_end: bool,
    /// Draws lengths, words and arrivals
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write charts: .html or .svg
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Bearer key [default: the environment's OPENAI_API_KEY]
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

#[derive(Debug, Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    pub place: Place,
    /// A Hugging Face folder, a .gguf file, bundled:main, bundled:small, or a hub id
    pub model: String,
    /// How weights shall be kept
    #[arg(long, value_enum)]
    pub precision: QuantizedPrecision,
    /// The folder to write; it must not exist, or be empty
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// A text to measure on (UTF-8) [default: held-out chats of the bundled models' text]
    #[arg(long, value_name = "FILE", conflicts_with = "no_measure")]
    pub text: Option<PathBuf>,
    /// How many tokens of the text are measured
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub tokens: usize,
    /// Let a quarter of the text teach which weights matter, measure with and without on the rest, and keep the better
    #[arg(long, conflicts_with = "no_measure")]
    pub calibrate: bool,
    /// Do not measure: neither the original nor the quantized model is run
    #[arg(long)]
    pub no_measure: bool,
    /// Worker threads [default: every core this process may use]
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum QuantizedPrecision {
    /// One scale for each output: about 8 bits a weight
    Int8,
    /// A scale and a minimum for each 128 inputs of an output: about 4.3 bits a weight
    Int4,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(flatten)]
    pub place: Place,
    /// Ask a running server instead
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a configuration file and say what is wrong with it, or what it means
    #[command(after_help = "Examples:
  baseload config check baseload.toml
  baseload config check --secrets --unpriced baseload.toml      also: every secret is there, every unit has a price

Every mistake is told at once, with its line and column. Nothing is started and nothing is asked over the network.")]
    Check {
        /// The file to check
        #[arg(env = "BASELOAD_CONFIG")]
        file: PathBuf,
        /// Fail if a secret is missing; its value is not shown
        #[arg(long)]
        secrets: bool,
        /// Fail if a unit has no price
        #[arg(long)]
        unpriced: bool,
    },
    /// Write LiteLLM's config.yaml as a configuration of ours, to standard output
    #[command(after_help = "Example:
  baseload config import-litellm config.yaml > baseload.toml

What is not carried over is listed at the top of the result with its reason. Keys become names of environment variables.")]
    ImportLitellm {
        /// The config.yaml
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_or_stands_in_its_groups_examples() {
        fn check(command: &clap::Command, group: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                command.has_subcommands()
                    || help.contains("baseload")
                    || group.contains(&format!(" {} ", command.get_name()))
                    || ["list", "show", "reopen"].contains(&command.get_name()),
                "`baseload … {} --help` has no example",
                command.get_name()
            );
            command.get_subcommands().for_each(|below| check(below, &help));
        }
        check(&Cli::command(), "");
    }
}
