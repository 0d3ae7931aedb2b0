//! `baseload serve`: the gateway and the engines, joined in one process.
//!
//! This is the only place where the two sides meet: an engine's outbox is the upstream's inbox.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use control::admin_api::{self, AdminRoute, Desk};
use control::jobs::alerts::{self, Webhook};
use control::jobs::expire_holds::{self, SweepOptions};
use control::jobs::{every, heartbeat, retire, tend};
use domain::{EnginePort, ModelName};
use engine::{DiskConfig, DiskPlace, Engine, EngineConfig, EngineHandle, KvBudget, Speculate};
use gateway::decisions::{DecisionBounds, Decisions};
use gateway::{Admission, App, KeysPolicy, Limits, LocalUpstream, Route, ServedModel, exchange};
use ledger::{Journal, PriceChange};
use model::weights::CacheUse;
use model::{Forward, LoadReport};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::{Loading, Place, ServeArgs};
use crate::config::{
    AlertSettings, Config, EngineSettings, LimitSettings, LogSettings, ModelConfig, PriceSetting,
    SpeculateSetting,
};
use crate::events::PackedCopyTrouble;
use crate::models::{self, LoadedModel};
use crate::reload::{Apply, Watch};
use crate::roles::decisions::Kept;
use crate::roles::declare;
use crate::roles::models::size;
use crate::{keeping, now, place, prices, supply, telemetry};

pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let mut config = place::config(&args.place)?;
    override_by_flags(&mut config, &args.loading);
    config.listen = args.listen.unwrap_or(config.listen);
    config.log.format = args.log_format.unwrap_or(config.log.format);
    config.log.filter = args.log.unwrap_or(config.log.filter);
    telemetry::start(&config.log)?;
    let wanted = models::wanted(&config, &args.loading)?;
    let process = Process::start(&args.place, config, wanted, Callers::Anybody).await?;
    // Before the greeting: whoever reads it may stop the server at once, and then it must drain.
    let stop = stop_signal();
    process.greet();
    process.run(stop).await
}

/// A server for one command of this process, on a free loopback port.
pub struct LocalServer {
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl LocalServer {
    pub async fn start(place: &Place, loading: &Loading) -> anyhow::Result<Self> {
        let mut config = place::config(place)?;
        override_by_flags(&mut config, loading);
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        telemetry::start(&LogSettings { filter: "error".into(), ..config.log.clone() })?;
        let mut wanted = models::wanted(&config, loading)?;
        wanted.truncate(1);
        let process = Process::start(place, config, wanted, Callers::ThisProcess)
            .await
            .context("if a server is running already, talk to it with --url http://127.0.0.1:8080")?;
        let (address, stop) = (process.address, CancellationToken::new());
        let served = tokio::spawn(process.run(stop.clone().cancelled_owned()));
        Ok(Self { address, stop, served })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.served.await;
    }
}

/// Whom a server is for. One that a command starts for itself needs no key: it lives as briefly as the command, on a port
/// that nobody was told.
enum Callers {
    Anybody,
    ThisProcess,
}

/// Everything that runs while a server does.
struct Process {
    address: SocketAddr,
    listener: TcpListener,
    app: Arc<App>,
    journal: Journal,
    engines: Vec<EngineHandle>,
    webhook: Option<Webhook>,
    /// How long requests are kept one by one.
    keep_requests: Option<Duration>,
    watch: Arc<Watch>,
    decisions: Arc<Decisions>,
    greeting: Greeting,
}

impl Process {
    async fn start(
        place: &Place,
        config: Config,
        wanted: Vec<ModelConfig>,
        callers: Callers,
    ) -> anyhow::Result<Self> {
        let watch = Arc::new(Watch::begin(place.config.as_deref(), &config));
        let data = place::data_folder(place, &config)?;
        let ledger = place::ledger(place, &config)?;
        let journal = ledger.open(&config.ledger).await?;
        let policy = match callers {
            Callers::Anybody => keys_policy(&config, &journal).await?,
            Callers::ThisProcess => KeysPolicy::LoopbackOpen,
        };
        // Before the models: a taken port is told at once, and early callers wait in the backlog.
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!("cannot listen on {}; choose another address with --listen", config.listen)
        })?;
        let address = listener.local_addr()?;
        // What was served is booked before the holds of whoever served it are given up.
        let spool = keeping::spool(&data, &config.ledger, &journal).await?;
        let lost = heartbeat::bury_the_dead(&journal, now()).await?;
        declare::accounts(&journal, &config.accounts).await?;
        declare::prices(&journal, &config.prices, now()).await?;
        watch.tell_unpriced(prices::record(&journal, &config, now()).await?);
        declare::limits(&journal, &config.budgets, now()).await?;
        let webhook = webhook(&config.alerts)?;
        let (mut served, mut engines, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in wanted {
            let (settings, hub, folder) = (config.engine.clone(), config.hub.clone(), data.clone());
            let one = wanted.clone();
            let loaded =
                tokio::task::spawn_blocking(move || models::load(&one, &settings, &folder, &hub)).await??;
            record_price(&journal, &loaded.name, wanted.price.clone()).await?;
            let disk = kv_disk(&loaded, &config.engine, &data);
            let (model, engine, line) = start_engine(loaded, &wanted, &config, disk)?;
            served.push(model);
            engines.push(engine);
            lines.push(line);
        }
        let first = served.first().map(|model| model.name.clone());
        let first = first.or_else(|| config.routes.first().map(|route| route.name.clone()));
        let first = first
            .or_else(|| config.units().next().map(|unit| unit.name()))
            .context("there is no model to serve")?;
        let app = App::new(served, journal.clone(), policy, limits(&config.limits))?;
        // Every secret is there, or the server does not start.
        app.replace_supply(supply::of(&config, app.engines())?);
        let app = spool.into_iter().fold(app, App::spooling_to);
        let decisions = Arc::new(
            Decisions::open(&data, DecisionBounds::default()).context("opening the log of decisions")?,
        );
        let app =
            app.deciding_into(decisions.clone()).keeping_answers_in(keeping::answer_cache(&config.cache)?);
        let app = app.keeping_responses_in(keeping::response_store(&data, &config.responses).await?);
        let (log, watched) = (Arc::new(Kept(decisions.clone())), watch.clone());
        let desk = Desk::new(journal.clone())
            .telling(app.key_forgetter())
            .deciding(log)
            .configured(move || watched.view());
        let app = Arc::new(app.mounting(admin_routes(&desk)).with_task_policy(config.tasks.policy()));
        let units: Vec<String> =
            config.units().filter(|unit| unit.provider.is_some()).map(|unit| unit.title()).collect();
        let unpriced = watch.view().unpriced;
        let greeting = Greeting {
            address,
            first,
            lines,
            units,
            unpriced,
            ledger: ledger.to_string(),
            policy,
            lost: lost.len(),
        };
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        let keep_requests = config.ledger.keep_requests_days.map(days);
        Ok(Self {
            address,
            listener,
            app,
            journal,
            engines,
            webhook,
            keep_requests,
            watch,
            decisions,
            greeting,
        })
    }

    fn greet(&self) {
        self.greeting.print();
    }

    /// Serves until `stop`, drains, and leaves everything booked.
    async fn run(self, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let (sweeping, app) = (CancellationToken::new(), self.app.clone());
        let sweep = tokio::spawn(expire_holds::run(
            self.journal.clone(),
            SweepOptions::default(),
            move |request| app.is_alive(request),
            sweeping.clone().cancelled_owned(),
        ));
        // It goes on through the drain: whoever is silent is taken for dead, and running answers are cut.
        let beat = tokio::spawn(heartbeat::run(
            self.journal.clone(),
            heartbeat::PERIOD,
            sweeping.clone().cancelled_owned(),
        ));
        let tend = tokio::spawn(tend::run(self.journal.clone(), sweeping.clone().cancelled_owned()));
        let alert =
            tokio::spawn(alerts::run(self.journal.clone(), self.webhook, sweeping.clone().cancelled_owned()));
        let retire = tokio::spawn(retire::run(
            self.journal.clone(),
            self.keep_requests,
            sweeping.clone().cancelled_owned(),
        ));
        let replay =
            tokio::spawn(gateway::replay_spooled(self.app.clone(), sweeping.clone().cancelled_owned()));
        let priced = self.app.clone();
        let prices = tokio::spawn(async move { priced.keep_prices_fresh().await });
        let kept = self.app.clone();
        let responses = tokio::spawn(async move { kept.keep_responses_bounded().await });
        let giving = tokio::spawn(give_memory_back(sweeping.clone().cancelled_owned()));
        let (watch, stop_watching) = (self.watch, sweeping.clone());
        let take_over = TakeOver { journal: self.journal.clone(), app: self.app.clone() };
        let watching =
            tokio::spawn(async move { watch.run(take_over, stop_watching.cancelled_owned()).await });
        let served = gateway::serve(self.listener, self.app, stop).await;
        prices.abort();
        responses.abort();
        sweeping.cancel();
        watching.await?;
        sweep.await?;
        beat.await?;
        tend.await?;
        alert.await?;
        retire.await?;
        replay.await?;
        giving.await?;
        let decisions = self.decisions;
        tokio::task::spawn_blocking(move || decisions.close()).await?;
        let engines = self.engines;
        tokio::task::spawn_blocking(move || engines.iter().for_each(EngineHandle::stop)).await?;
        self.journal.close().await;
        Ok(served?)
    }
}

/// How often free memory goes back to the system.
const GIVE_BACK_PERIOD: Duration = Duration::from_secs(30);

/// A crowd's memory is for others when the crowd has gone. It takes some milliseconds, on a thread that may block.
async fn give_memory_back(stop: impl Future<Output = ()>) {
    let _ = tokio::task::spawn_blocking(kernels::let_start_go).await;
    every(GIVE_BACK_PERIOD, stop, || async {
        // It cannot fail but by a shutdown, which ends this, too.
        let _ = tokio::task::spawn_blocking(kernels::give_back).await;
    })
    .await;
}

/// Puts a changed configuration in force. What can fail comes first.
struct TakeOver {
    journal: Journal,
    app: Arc<App>,
}

impl Apply for TakeOver {
    async fn apply(&self, config: &Config) -> anyhow::Result<Vec<String>> {
        let supply = supply::of(config, self.app.engines())?;
        declare::accounts(&self.journal, &config.accounts).await?;
        declare::prices(&self.journal, &config.prices, now()).await?;
        declare::limits(&self.journal, &config.budgets, now()).await?;
        let unpriced = prices::record(&self.journal, config, now()).await?;
        self.app.replace_supply(supply);
        Ok(unpriced)
    }

    fn decided(&self, is_taken: bool) {
        self.app.count_configuration(is_taken);
    }
}

/// The secret is in the environment, so that a configuration file can be shown.
fn webhook(settings: &AlertSettings) -> anyhow::Result<Option<Webhook>> {
    let Some(url) = settings.webhook.clone() else { return Ok(None) };
    let secret = std::env::var("BASELOAD_WEBHOOK_SECRET").ok().filter(|secret| !secret.is_empty());
    let secret = secret
        .context("alerts.webhook is set, so BASELOAD_WEBHOOK_SECRET must be: alerts are signed with it")?;
    Ok(Some(Webhook { url, secret }))
}

fn override_by_flags(config: &mut Config, loading: &Loading) {
    let engine = &mut config.engine;
    engine.threads = loading.threads.unwrap_or(engine.threads);
    engine.kv_mib = loading.kv_mib.unwrap_or(engine.kv_mib);
    engine.kv_precision = loading.kv_precision.unwrap_or(engine.kv_precision);
    engine.kv_disk_mib = loading.kv_disk_mib.unwrap_or(engine.kv_disk_mib);
    engine.speculate = loading.speculate.unwrap_or(engine.speculate);
    engine.step_target_ms = loading.step_target_ms.unwrap_or(engine.step_target_ms);
    engine.batch_invariant |= loading.batch_invariant;
    if loading.no_packed_cache {
        engine.packed_cache_gib = 0;
    }
}

/// Elsewhere than on loopback everybody could call, so a key must exist.
async fn keys_policy(config: &Config, journal: &Journal) -> anyhow::Result<KeysPolicy> {
    if journal.any_key_exists().await? {
        return Ok(KeysPolicy::KeysRequired);
    }
    anyhow::ensure!(
        config.listen.ip().is_loopback(),
        "{} can be reached from other machines, and there is no key yet; make one with `baseload keys create --name alice` \
         (with the same --data), or listen on 127.0.0.1",
        config.listen
    );
    Ok(KeysPolicy::LoopbackOpen)
}

/// A model without a price in the configuration keeps the one that the ledger has: it may have been set there.
async fn record_price(
    journal: &Journal,
    model: &ModelName,
    price: Option<PriceSetting>,
) -> anyhow::Result<()> {
    let Some(price) = price else { return Ok(()) };
    let sheet = price.sheet().map_err(anyhow::Error::msg)?;
    journal.set_prices(vec![PriceChange { model: model.clone(), sheet, valid_from: now() }]).await?;
    Ok(())
}

/// The admin API passes the same door as everything else.
fn admin_routes(desk: &Desk) -> Vec<Route> {
    let route = |route: AdminRoute| {
        let admission = if route.is_open { Admission::Open } else { Admission::Role };
        Route::mounted(route.method, route.path, admission, route.handler)
    };
    admin_api::contents(desk).into_iter().map(route).collect()
}

/// Returns where a model's keys and values go that memory has no room for, if they go anywhere.
fn kv_disk(loaded: &LoadedModel, settings: &EngineSettings, data: &Path) -> Option<DiskConfig> {
    let identity = loaded.kv_identity?;
    let folder = settings.kv_disk_path.clone().unwrap_or_else(|| data.join("kv"));
    let place = match settings.kv_disk_keep {
        true => DiskPlace::Kept(folder.join(kv_file(&loaded.name))),
        false => DiskPlace::Nameless(folder),
    };
    Some(DiskConfig { bytes: (settings.kv_disk_mib as u64) << 20, place, identity })
}

/// A model's name may have characters that a file's may not.
fn kv_file(model: &ModelName) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let readable: String = model.as_str().chars().take(80).map(plain).collect();
    let digest = Sha256::digest(model.as_str());
    let unique: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{readable}-{unique}.blocks")
}

fn start_engine(
    loaded: LoadedModel,
    wanted: &ModelConfig,
    config: &Config,
    disk: Option<DiskConfig>,
) -> anyhow::Result<(ServedModel, EngineHandle, ModelLine)> {
    let settings = &config.engine;
    let defaults = EngineConfig::default();
    let kv_bytes = (wanted.kv_mib.unwrap_or(settings.kv_mib) as u64) << 20;
    let speculate = match settings.speculate {
        SpeculateSetting::Off => Speculate::Off,
        SpeculateSetting::Ngram if loaded.draft.is_some() => Speculate::Draft,
        SpeculateSetting::Ngram => Speculate::Ngram,
    };
    let engine_config = EngineConfig {
        kv: KvBudget::Bytes(kv_bytes),
        max_running: settings.max_running,
        max_waiting: settings.max_waiting,
        max_step_rows: defaults.max_step_rows.max(settings.max_running + defaults.chunk_tokens_min),
        step_target: Duration::from_millis(settings.step_target_ms),
        prefix_cache: settings.prefix_cache,
        disk,
        speculate,
        ..defaults
    };
    let shape = loaded.model.shape().clone();
    let report = loaded.model.report().clone();
    for warning in &report.warnings {
        PackedCopyTrouble { model: loaded.name.as_str(), warning }.emit();
    }
    let (outbox, inbox) = exchange();
    let deliver = Box::new(move |events| outbox.deliver(events));
    let (draft, drafter) = loaded.draft.unzip();
    let drafter = drafter.map(|model| Box::new(model) as Box<dyn Forward>);
    let engine = Engine::start_with_draft(Box::new(loaded.model), drafter, engine_config, deliver)
        .with_context(|| format!("starting the engine of {}", loaded.name))?;
    let status = engine.status();
    let kv_tokens = (status.blocks_total * status.block_tokens) as usize;
    let context_tokens = wanted.context_tokens.unwrap_or(usize::MAX).min(shape.context_tokens).min(kv_tokens);
    let line = ModelLine {
        name: loaded.name.clone(),
        file_bytes: loaded.file_bytes,
        report,
        context_tokens,
        kv_tokens,
        draft,
    };
    let model = ServedModel {
        name: loaded.name,
        aliases: wanted.aliases.clone(),
        text: Arc::new(loaded.text),
        upstream: Arc::new(LocalUpstream::new(Arc::new(engine.clone()), inbox)),
        context_tokens,
        sampling_defaults: loaded.sampling_defaults,
        created: now().millis() as u64 / 1_000,
    };
    Ok((model, engine, line))
}

fn limits(settings: &LimitSettings) -> Limits {
    let seconds = Duration::from_secs;
    Limits {
        connections: settings.connections,
        body_bytes: settings.body_mib << 20,
        header_timeout: seconds(settings.header_timeout_seconds),
        body_timeout: seconds(settings.body_timeout_seconds),
        request_timeout: seconds(settings.request_timeout_seconds),
        slow_reader_timeout: seconds(settings.slow_reader_timeout_seconds),
        drain: seconds(settings.drain_seconds),
        ..Limits::default()
    }
}

/// Completes at the first SIGTERM or Ctrl-C; the second one ends the process at once.
fn stop_signal() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut interrupt)) = signals else { return std::future::pending().await };
        tokio::select! { _ = term.recv() => (), _ = interrupt.recv() => () };
        eprintln!("stopping: running answers may finish; once more to stop at once");
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => (), _ = interrupt.recv() => () };
            std::process::exit(130);
        });
    }
}

/// What a person reads at the start.
struct Greeting {
    address: SocketAddr,
    first: ModelName,
    lines: Vec<ModelLine>,
    /// `model@provider`
    units: Vec<String>,
    unpriced: Vec<String>,
    ledger: String,
    policy: KeysPolicy,
    lost: usize,
}

struct ModelLine {
    name: ModelName,
    file_bytes: u64,
    report: LoadReport,
    context_tokens: usize,
    kv_tokens: usize,
    /// Who guesses ahead for it.
    draft: Option<String>,
}

impl Greeting {
    fn print(&self) {
        println!("baseload {} listens on http://{}", env!("CARGO_PKG_VERSION"), self.address);
        for line in &self.lines {
            line.print();
        }
        if !self.units.is_empty() {
            println!("  {}", self.units.join(", "));
        }
        if !self.unpriced.is_empty() {
            println!("  unpriced, which is not free: {}", self.unpriced.join(", "));
        }
        println!("  ledger {}", self.ledger);
        if self.lost > 0 {
            println!(
                "  {} open hold(s) of a process that died were closed; what they held is booked as an estimate",
                self.lost
            );
        }
        let key = match self.policy {
            KeysPolicy::LoopbackOpen => {
                println!("  no key is needed on this machine; requests are booked to the account `local`");
                ""
            }
            KeysPolicy::KeysRequired => {
                println!("  every request needs a key");
                "-H 'authorization: Bearer YOUR-KEY' "
            }
        };
        println!(
            "try:\n  curl -s http://{}/v1/chat/completions {key}-H 'content-type: application/json' -d \
             '{{\"model\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":\"What is a KV cache?\"}}]}}'",
            self.address, self.first
        );
    }
}

impl ModelLine {
    fn print(&self) {
        let report = &self.report;
        let paths: Vec<String> = report.paths.iter().map(|(what, path)| format!("{what} {path}")).collect();
        println!(
            "  {}: {:.1} M parameters, {} on disk, {} resident at {:.2} bits per weight; {}",
            self.name,
            report.parameters as f64 / 1e6,
            size(self.file_bytes),
            size(report.resident_bytes),
            report.bits_per_weight,
            paths.join(", "),
        );
        println!(
            "  {}  context {} tokens; room for {} tokens of keys and values ({} bytes each)",
            " ".repeat(self.name.as_str().len()),
            self.context_tokens,
            self.kv_tokens,
            report.kv_bytes_per_token,
        );
        for told in self.told() {
            println!("  {}  {told}", " ".repeat(self.name.as_str().len()));
        }
    }

    /// What is worth a line only where it happened.
    fn told(&self) -> Vec<String> {
        let report = &self.report;
        let mut told = Vec::new();
        match &report.cache {
            CacheUse::Mapped(path) => told.push(format!("weights mapped from {}", path.display())),
            CacheUse::Written { path, bytes } => {
                told.push(format!(
                    "weights packed, and kept for the next start: {} in {}",
                    size(*bytes),
                    path.display()
                ));
            }
            CacheUse::None | CacheUse::Failed => {}
        }
        told.extend(self.draft.iter().map(|draft| format!("{draft} guesses ahead for it")));
        if !report.requantized.is_empty() {
            let (all, wider): (Vec<_>, Vec<_>) =
                report.requantized.iter().partition(|matrix| matrix.refused.is_none());
            let worst = report.requantized.iter().map(|matrix| matrix.error).fold(0.0, f64::max);
            told.push(format!(
                "{} matrices in the file's own bits, {} kept wider because they would have lost too much; rounding anew moved \
                 no matrix by more than {:.2} %",
                all.len(),
                wider.len(),
                worst * 100.0
            ));
        }
        told
    }
}
