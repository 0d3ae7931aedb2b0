//! Which words may follow `baseload tasks`?

use clap::{Subcommand, ValueEnum};
use domain::Money;

use super::Place;

#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// List the latest runs, with what each used
    #[command(after_help = "Examples:
  baseload tasks list
  baseload tasks list --account acme/research --state handing-back")]
    List {
        #[command(flatten)]
        place: Place,
        /// Only runs that this account opened, or one below it
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
        /// Only runs that have a task in this state
        #[arg(long, value_enum)]
        state: Option<TaskState>,
        /// How many, the latest first
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Draw a task and all inside of it: cost, tokens, calls, time
    #[command(after_help = "Examples:
  baseload tasks show acme/run-42
  baseload tasks show run-42                         where one organisation has a run of this name")]
    Show {
        #[command(flatten)]
        place: Place,
        /// The task's path
        task: String,
    },
    /// Let a task, and all inside of it, go on, with more budget or without
    #[command(after_help = "Examples:
  baseload tasks approve acme/run-42 --usd 0.50
  baseload tasks approve acme/run-42/plan --calls 20 --reason \"nearly there\"")]
    Approve {
        #[command(flatten)]
        place: Place,
        /// The task's path
        task: String,
        /// So much more money
        #[arg(long, value_name = "USD")]
        usd: Option<Money>,
        /// So many more tokens
        #[arg(long, value_name = "N")]
        tokens: Option<u64>,
        /// So many more calls
        #[arg(long, value_name = "N")]
        calls: Option<u64>,
        /// So many more seconds
        #[arg(long, value_name = "N")]
        seconds: Option<u64>,
        /// Why, for whoever looks at the task later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Stop a task and all inside of it
    #[command(after_help = "Example:
  baseload tasks stop acme/run-42 --reason \"it writes the wrong report\"")]
    Stop {
        #[command(flatten)]
        place: Place,
        /// The task's path
        task: String,
        /// Why; the agent reads it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskState {
    Running,
    HandingBack,
    Stopped,
    Approved,
}
