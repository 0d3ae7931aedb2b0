//! Which words a person may type after `baseload prices`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Place;

#[derive(Debug, Args)]
pub struct PriceArgs {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: PriceCommand,
}

#[derive(Debug, Subcommand)]
pub enum PriceCommand {
    /// List prices: those of the ledger, or of the catalogue that is built in
    #[command(after_help = "Examples:
  baseload prices list
  baseload prices list --from catalogue --provider anthropic
  baseload prices list --from catalogue --model gpt-oss --format csv")]
    List {
        #[arg(long, value_enum, default_value = "ledger")]
        from: PriceSource,
        /// Only this provider's
        #[arg(long)]
        provider: Option<String>,
        /// Only models whose names contain this
        #[arg(long)]
        model: Option<String>,
        #[arg(long, value_enum, default_value = "table")]
        format: PriceFormat,
    },
    /// Show everything that is known of a model's price
    #[command(after_help = "Examples:
  baseload prices show openai/gpt-6.1-terra
  baseload prices show main")]
    Show {
        /// `model` of this server, or `provider/model`
        model: String,
    },
    /// Say what in the prices somebody should look at: contradictions, disputes, stale dates, missing dimensions
    #[command(after_help = "Examples:
  baseload prices check
  baseload prices check --all                        missing dimensions too")]
    Check {
        /// Tell missing dimensions one by one
        #[arg(long)]
        all: bool,
    },
    /// Take prices over: the built-in catalogue, or a file of LiteLLM's, models.dev's or our own format
    #[command(after_help = "Examples:
  baseload prices import catalogue --provider openai
  baseload prices import litellm model_prices_and_context_window.json --model gpt-5
  baseload prices import models-dev api.json --provider anthropic --dry-run
  baseload prices import file our-prices.toml

Nothing is fetched: give a file that you have.")]
    Import {
        #[arg(value_enum)]
        format: ImportFormat,
        /// The file; the built-in catalogue needs none
        file: Option<PathBuf>,
        /// Only this provider's
        #[arg(long)]
        provider: Option<String>,
        /// Only models whose names contain this
        #[arg(long)]
        model: Option<String>,
        /// From when on they count, where the file does not say [default: now]
        #[arg(long, value_name = "DATE")]
        valid_from: Option<String>,
        /// Say what would be taken over, and take nothing over
        #[arg(long)]
        dry_run: bool,
    },
    /// Set a model's price, in USD per million tokens
    #[command(after_help = "Examples:
  baseload prices set main --input 0.25 --cached 0.025 --output 1
  baseload prices set openai/gpt-6.1-sol --input 2 --cached 0.1 --output 10 --batch 0.5
  baseload prices set main --compute-hour 2.69
  baseload prices set main --unpriced")]
    Set(Box<SetPriceArgs>),
}

#[derive(Debug, Args)]
pub struct SetPriceArgs {
    /// `model` of this server, or `provider/model`
    pub model: String,
    #[arg(long, value_name = "USD")]
    pub input: Option<String>,
    /// Input that was read from a cache
    #[arg(long, value_name = "USD")]
    pub cached: Option<String>,
    /// Input written to a cache for five minutes
    #[arg(long, value_name = "USD")]
    pub cache_write_5m: Option<String>,
    /// Input written to a cache for an hour
    #[arg(long, value_name = "USD")]
    pub cache_write_1h: Option<String>,
    #[arg(long, value_name = "USD")]
    pub output: Option<String>,
    /// What the batch tier multiplies prices by
    #[arg(long, value_name = "FACTOR")]
    pub batch: Option<String>,
    /// An hour of machine time
    #[arg(long, value_name = "USD")]
    pub compute_hour: Option<String>,
    /// Each request that used anything
    #[arg(long, value_name = "USD")]
    pub request: Option<String>,
    /// From when on it counts: a date, or a timestamp [default: now]
    #[arg(long, value_name = "DATE")]
    pub valid_from: Option<String>,
    /// From then on it has no price
    #[arg(long, conflicts_with_all = ["input", "output", "compute_hour"])]
    pub unpriced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PriceSource {
    Ledger,
    Catalogue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PriceFormat {
    Table,
    Csv,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// The prices that this binary carries
    Catalogue,
    /// LiteLLM's model_prices_and_context_window.json
    Litellm,
    /// The api.json of models.dev
    ModelsDev,
    /// A file in the format of the catalogue
    File,
}
