//! How everything is joined and started: one binary, one role a command.
#![forbid(unsafe_code)]

mod bundled;
mod cli;
mod config;
mod events;
mod keeping;
mod litellm;
mod models;
mod place;
mod prices;
mod reload;
mod remote;
mod roles;
mod supply;
mod table;
mod telemetry;

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    if let Command::Completions { shell } = command {
        clap_complete::generate(shell, &mut Cli::command(), "baseload", &mut std::io::stdout());
        return Ok(());
    }
    // TLS for the client roles; a second installation would only repeat the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve(args) => roles::serve::serve(args).await,
            Command::Chat(args) => roles::talk::chat(args).await,
            Command::Run(args) => roles::talk::run(args).await,
            Command::Bench(args) => roles::bench::bench(*args).await,
            Command::Quantize(args) => roles::quantize::quantize(args).await,
            Command::Models(args) => roles::models::models(args).await,
            Command::Usage(args) => roles::usage::usage(args).await,
            Command::Statements(args) => roles::statements::statements(args).await,
            Command::Prices(args) => roles::prices::prices(args).await,
            Command::Keys(args) => roles::admin::keys(args).await,
            Command::Tasks(command) => roles::tasks::tasks(command).await,
            Command::Admin(args) => roles::admin::admin(args).await,
            Command::Config(command) => roles::config::config(command).await,
            Command::Completions { .. } => unreachable!("completions need no runtime and were printed above"),
        }
    })
}

/// Returns the time as the ledger writes it.
fn now() -> ledger::Timestamp {
    SystemTime::now().into()
}
