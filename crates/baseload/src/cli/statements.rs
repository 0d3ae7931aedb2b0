//! Which words a person may type after `baseload usage` and `baseload statements`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ledger::{Dimension, Month};

use super::Place;

#[derive(Debug, Args)]
pub struct UsageArgs {
    #[command(flatten)]
    pub place: Place,
    /// Group by these, comma-separated: organisation, team, app, user, cost-centre, account, model, task, day, month, end,
    /// provider, tier, region
    #[arg(long, value_name = "DIMENSIONS", value_delimiter = ',', default_value = "model")]
    pub by: Vec<Dimension>,
    /// From: a span back from now (90m, 24h, 7d) or a date (2026-01-31)
    #[arg(long)]
    pub since: Option<String>,
    /// To: a span back from now or a date
    #[arg(long)]
    pub until: Option<String>,
    /// Only this account and all below it
    #[arg(long, value_name = "PATH")]
    pub account: Option<String>,
    #[arg(long, value_enum, default_value = "table")]
    pub format: UsageFormat,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Who charges, in a FOCUS export
    #[arg(long, value_name = "NAME", default_value = "Baseload")]
    pub issuer: String,
    /// List the last N requests instead of sums
    #[arg(long, value_name = "N")]
    pub requests: Option<u32>,
    /// Prove that the ledger balances
    #[arg(long)]
    pub check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageFormat {
    Table,
    Csv,
    Json,
    Parquet,
    /// The FinOps specification FOCUS 1.2, as CSV
    FocusCsv,
    /// The FinOps specification FOCUS 1.2, as Parquet
    FocusParquet,
}

#[derive(Debug, Args)]
pub struct StatementArgs {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: StatementCommand,
}

#[derive(Debug, Subcommand)]
pub enum StatementCommand {
    /// List the months that are closed
    List,
    /// Show what each cost centre owes for a month
    #[command(after_help = "Examples:
  baseload statements show                           this month until now
  baseload statements show --month 2026-10 --format csv
  baseload statements show --month 2026-10 --reprice now
  baseload statements show --month 2026-10 --reprice our-prices.toml")]
    Show {
        /// The month [default: this one]
        #[arg(long, value_name = "YYYY-MM")]
        month: Option<Month>,
        /// A view at other prices: `now` for those in force today, `catalogue` for the built-in ones, or a file
        #[arg(long, value_name = "SHEET")]
        reprice: Option<String>,
        #[arg(long, value_enum, default_value = "table")]
        format: StatementFormat,
    },
    /// Close a month: its statement is kept as it is, and never changes again
    #[command(after_help = "Examples:
  baseload statements close --month 2026-10
  baseload statements close --month 2026-10 --allow-unallocated")]
    Close {
        #[arg(long, value_name = "YYYY-MM")]
        month: Month,
        /// Close although some use belongs to no cost centre
        #[arg(long)]
        allow_unallocated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatementFormat {
    Table,
    Csv,
    Json,
}
