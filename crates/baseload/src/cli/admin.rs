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
    /// List prices, and set them from a file
    #[command(
        subcommand,
        after_help = "Examples:
  baseload admin prices list --model small
  baseload admin prices set prices.toml"
    )]
    Prices(PricesCommand),
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
