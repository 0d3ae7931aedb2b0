//! Which words may follow `baseload admin`?

use clap::{Args, Subcommand, ValueEnum};

use super::Place;

/// Where the work is done: on the ledger of this machine, or by a server elsewhere.
#[derive(Clone, Debug, Default, Args)]
pub struct Office {
    #[command(flatten)]
    pub place: Place,
    /// Ask this running server, with --key, instead of opening the ledger
    #[arg(long, value_name = "URL", env = "BASELOAD_URL", global = true)]
    pub url: Option<String>,
    /// A key with a role, for --url
    #[arg(long, value_name = "KEY", env = "BASELOAD_KEY", hide_env_values = true, global = true)]
    pub key: Option<String>,
    /// How answers look
    #[arg(long, value_enum, default_value = "table", global = true)]
    pub format: AdminFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AdminFormat {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct AdminArgs {
    #[command(flatten)]
    pub office: Office,
    #[command(subcommand)]
    pub command: AdminCommand,
}

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    pub office: Office,
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make, describe, list and close accounts
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin accounts create acme --kind organisation --name \"Acme Ltd\"
  baseload admin accounts create acme/research/chatbot --parents --cost-centre K-17
  baseload admin accounts list acme --format json
  baseload admin accounts set acme/research --cost-centre K-18
  baseload admin accounts close acme/research"
    )]
    Accounts(AccountsCommand),
    /// Make, list, rotate and revoke API keys
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin keys create --name me --role owner
  baseload admin keys create --name bot --account acme/research --models small,gpt-5* --expires 90d
  baseload admin keys list --within acme
  baseload admin keys rotate key-1f0c2a7b3d4e --overlap 24h
  baseload admin keys revoke key-1f0c2a7b3d4e --url https://inference.acme.example --key bl-…"
    )]
    Keys(KeysCommand),
    /// Set, list and end limits on accounts and tasks
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin limits set acme/research --measure money --amount 250 --window month
  baseload admin limits set \"each end_user of acme\" --measure requests --amount 60 --window minute
  baseload admin limits set acme --measure money --amount 20 --window day --action \"downgrade small\" --thresholds 50,80,100
  baseload admin limits list --within acme
  baseload admin limits end \"money of acme/research per month\""
    )]
    Limits(LimitsCommand),
    /// List prices, and set them from a file
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin prices list --model small
  baseload admin prices set prices.toml"
    )]
    Prices(PricesCommand),
    /// Show what was used and what it cost, in the subtree of the key
    #[command(after_help = "Examples:
  baseload admin usage --by account,model --since 2026-11-01T00:00:00Z
  baseload admin usage --within acme/research --by day")]
    Usage {
        /// This account and all below it
        #[arg(long, value_name = "ACCOUNT")]
        within: Option<String>,
        /// Group by these, comma-separated: account, model, day, end
        #[arg(long, default_value = "account")]
        by: String,
        /// From this instant on
        #[arg(long, value_name = "INSTANT")]
        since: Option<String>,
        /// To before this instant
        #[arg(long, value_name = "INSTANT")]
        until: Option<String>,
    },
    /// List, show, approve and stop agents' tasks
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin tasks list --within acme/research --state stopped
  baseload admin tasks show acme/run-42
  baseload admin tasks approve acme/run-42 --usd 5 --calls 20
  baseload admin tasks stop acme/run-42 --reason \"it goes in circles\""
    )]
    Tasks(AdminTasksCommand),
    /// Show why requests went where they went
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin decisions show req-1f0c2a7b3d4e5f60718293a4b5c6d7e8
  baseload admin decisions list --within acme/eu --model smart --limit 20"
    )]
    Decisions(DecisionsCommand),
    /// Show the configuration in force on a server, and what is wrong with a newer one
    #[command(after_help = "Example:
  baseload admin configuration --url http://127.0.0.1:8080 --key bl-…")]
    Configuration,
    /// Check that the ledger balances
    #[command(after_help = "Example:
  baseload admin check")]
    Check,
    /// Show what a key may do
    #[command(after_help = "Example:
  baseload admin whoami --url http://127.0.0.1:8080 --key bl-…")]
    Whoami,
    /// Print the OpenAPI document of the admin API
    #[command(after_help = "Example:
  baseload admin openapi > baseload-admin.json")]
    Openapi,
}

#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// Make an account
    Create {
        /// Its path, such as acme/research/chatbot
        account: String,
        /// What it is [default: what usually stands at its depth]
        #[arg(long, value_enum)]
        kind: Option<KindWord>,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        cost_centre: Option<String>,
        /// Make what is missing above it, too
        #[arg(long)]
        parents: bool,
    },
    /// List accounts
    List {
        /// This account and all below it
        within: Option<String>,
        /// Closed ones, too
        #[arg(long)]
        closed: bool,
    },
    /// Show one account
    Show { account: String },
    /// Describe an account anew; what is not named stays, and "" takes it away
    Set {
        account: String,
        #[arg(long, value_enum)]
        kind: Option<KindWord>,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        cost_centre: Option<String>,
    },
    /// Serve an account, and all below it, no more
    Close { account: String },
    /// Serve a closed account again
    Reopen { account: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindWord {
    Organisation,
    Team,
    App,
    User,
    Service,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; its secret is shown once
    Create(CreateKeyArgs),
    /// List keys, without their secrets
    List {
        /// Keys of this account and of all below it
        #[arg(long, value_name = "ACCOUNT")]
        within: Option<String>,
    },
    /// Show one key, without its secret
    Show {
        /// The key's id, from `baseload keys list`
        id: String,
    },
    /// Give a key a new secret; the old one opens for a while longer
    Rotate {
        /// The key's id, from `baseload keys list`
        id: String,
        /// How long both open, such as 30m, 24h or 7d [default: 24h]
        #[arg(long, value_name = "SPAN")]
        overlap: Option<String>,
    },
    /// End a key at once
    Revoke {
        /// The key's id, from `baseload keys list`
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct CreateKeyArgs {
    /// What to call it
    #[arg(long)]
    pub name: String,
    /// The account that its requests are booked to; made if it is missing [default: the name; for other roles than member, the
    /// root]
    #[arg(long)]
    pub account: Option<String>,
    /// What its holder may do: call models; look; run what lies below its account; decide over its account
    #[arg(long, value_enum, default_value = "member")]
    pub role: RoleChoice,
    /// Only these models, comma-separated; a * at the end stands for any rest
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub models: Option<Vec<String>>,
    /// Only these endpoints, such as /v1/chat/completions or /v1/*
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub endpoints: Option<Vec<String>>,
    /// Only answers from these, such as local
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub routes: Option<Vec<String>>,
    /// Only answers from these regions
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub regions: Option<Vec<String>>,
    /// Only these service tiers: standard, batch, flex, priority
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub service_tiers: Option<Vec<String>>,
    /// When it opens no more: a span from now (90d, 12h) or an instant (2027-01-31T00:00:00Z) [default: never]
    #[arg(long, value_name = "SPAN|INSTANT")]
    pub expires: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleChoice {
    Member,
    Viewer,
    Admin,
    Owner,
}

#[derive(Debug, Subcommand)]
pub enum AdminTasksCommand {
    /// List the latest runs
    List {
        /// Runs that this account, or one below it, opened
        #[arg(long, value_name = "ACCOUNT")]
        within: Option<String>,
        /// Those that have a task in this state: running, handing_back, stopped, approved
        #[arg(long)]
        state: Option<String>,
        /// The latest so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show a task and everything inside of it
    Show {
        /// Its path, such as acme/run-42
        task: String,
    },
    /// Let a task go on, with so much more than it had
    Approve {
        task: String,
        #[arg(long)]
        usd: Option<String>,
        #[arg(long)]
        tokens: Option<u32>,
        #[arg(long)]
        calls: Option<u32>,
        #[arg(long)]
        seconds: Option<u32>,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Stop a task, and everything inside of it
    Stop {
        task: String,
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum DecisionsCommand {
    /// List the latest, the latest first
    List {
        /// Those of this account and of all below it
        #[arg(long, value_name = "ACCOUNT")]
        within: Option<String>,
        /// From this instant on, such as 2026-11-20T23:13:05Z
        #[arg(long, value_name = "INSTANT")]
        since: Option<String>,
        /// What the client wrote as its model, or the route
        #[arg(long)]
        model: Option<String>,
        /// Those that chose or tried this unit: model@provider
        #[arg(long)]
        unit: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Show one: every unit that could have answered, its price, its speed, and why it was chosen or not
    Show {
        /// The request's id: its `x-request-id`
        request: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Set a limit, or give one of the same name another amount
    Set {
        /// An account, `task PATH`, or `each end_user of ACCOUNT`
        scope: String,
        /// money, tokens, requests, concurrency; of tasks also wall_clock, calls, depth
        #[arg(long)]
        measure: String,
        /// In USD for money, in milliseconds for wall_clock, else a count
        #[arg(long)]
        amount: String,
        /// minute, hour, day, week, month, total, …
        #[arg(long, default_value = "total")]
        window: String,
        /// refuse, warn, or `downgrade MODEL`
        #[arg(long, default_value = "refuse")]
        action: String,
        /// Percentages at which an alert is raised
        #[arg(long, value_delimiter = ',')]
        thresholds: Vec<u8>,
        /// What to call it [default: after its scope, measure and window]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the limits in force
    List {
        /// Limits on this account and on all below it
        #[arg(long, value_name = "ACCOUNT")]
        within: Option<String>,
    },
    /// End a limit
    End {
        /// Its name, from `baseload admin limits list`
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum PricesCommand {
    /// List price versions
    List {
        /// Versions of this model only
        #[arg(long)]
        model: Option<String>,
    },
    /// Record the `[[price]]`s of a TOML file; what is in force already is not recorded again
    Set {
        /// The file; - reads it from standard input
        file: String,
    },
}
