//! What does the door serve, and what do all its requests share?

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use content::{AnswerCache, ResponseStore};
use domain::{ModelName, RequestId, Sampling};
use fleet::WarmIndex;
use ledger::{Journal, Region};
use parking_lot::Mutex;
use text::TextModel;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admit::{LivingHolds, now};
use crate::breaker::Breaker;
use crate::decisions::{DecisionBounds, Decisions};
use crate::estimate::Estimates;
use crate::limits::Limits;
use crate::metrics::{Metrics, Units};
use crate::prices::Prices;
use crate::repeat::Repeats;
use crate::router::Route;
use crate::spool::Spool;
use crate::supply::{Clock, Supply};
use crate::task::Tasks;
use crate::task::policy::TaskPolicy;
use crate::upstream::LocalUpstream;
use crate::who::{KeyCache, KeysPolicy};

/// One model, as clients may ask for it.
pub struct ServedModel {
    pub name: ModelName,
    /// Other names that mean the same model; answers and the ledger say `name`.
    pub aliases: Vec<ModelName>,
    pub text: Arc<TextModel>,
    pub upstream: Arc<LocalUpstream>,
    /// The longest sequence, prompt and answer together, that is offered.
    pub context_tokens: usize,
    /// What a request that says nothing is sampled with.
    pub sampling_defaults: Sampling,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    #[error("two models answer to the name {name:?}; give one of them another name or alias")]
    NameTaken { name: ModelName },
}

/// Everything that requests share. Prices are not here: the ledger has them, by model name.
pub struct App {
    /// Engines of our own.
    pub(crate) models: Vec<Arc<ServedModel>>,
    /// All that can answer: those engines, and what providers offer.
    pub(crate) supply: Arc<ArcSwap<Supply>>,
    pub(crate) clock: Clock,
    pub(crate) prices: Prices,
    /// Answers that may be given again, where routes want it.
    pub(crate) repeats: Option<Arc<Repeats>>,
    /// Turns of conversations, for clients that go on from them by name.
    pub(crate) responses: Option<ResponseStore>,
    /// Why requests went where they went.
    pub(crate) decisions: Arc<Decisions>,
    /// Which units have seen the beginning of which prompts.
    pub(crate) warm: Mutex<WarmIndex>,
    /// Drawn once: nobody outside can write prompts that collide in the index above.
    pub(crate) prefix_secret: u64,
    /// Routes of other rooms, behind the same door.
    pub(crate) mounted: Vec<Route>,
    pub(crate) journal: Journal,
    pub(crate) keys_policy: KeysPolicy,
    pub(crate) keys: Arc<KeyCache>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    /// Places for generations under way.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) holds: LivingHolds,
    /// Whether the ledger answers.
    pub(crate) breaker: Breaker,
    /// Where requests go that the ledger cannot take; without it, they are refused.
    pub(crate) spool: Option<Arc<Spool>>,
    /// How long answers were.
    pub(crate) estimates: Estimates,
    pub(crate) tasks: Tasks,
    /// Bytes for bodies.
    pub(crate) bodies: Semaphore,
    /// Places for long texts to be tokenized.
    pub(crate) tokenizers: Semaphore,
    /// The tasks that own answers and their settlements; they outlive connections.
    pub(crate) generations: TaskTracker,
    /// New work is refused from here on.
    pub(crate) drain: CancellationToken,
    /// Running work ends here.
    pub(crate) cut: CancellationToken,
}

/// How often responses that are kept are looked through.
const CLEAN_UP_PAUSE: Duration = Duration::from_secs(60);

impl App {
    /// Returns the door to these models, or which name is taken twice.
    pub fn new(
        models: Vec<ServedModel>,
        journal: Journal,
        keys_policy: KeysPolicy,
        limits: Limits,
    ) -> Result<App, AppError> {
        check_names(&models)?;
        let measured: Vec<_> =
            models.iter().map(|model| (model.name.to_string(), model.upstream.clone())).collect();
        let models: Vec<_> = models.into_iter().map(Arc::new).collect();
        let supply = Arc::new(ArcSwap::from_pointee(Supply::of_engines(&models, None)));
        let clock = Clock::default();
        let units = Units { supply: supply.clone(), clock };
        Ok(App {
            supply,
            clock,
            prices: Prices::default(),
            repeats: None,
            responses: None,
            decisions: Arc::new(Decisions::in_memory(DecisionBounds::default())),
            warm: Mutex::new(WarmIndex::with_bytes(limits.warm_index_bytes)),
            prefix_secret: rand::random(),
            models,
            mounted: Vec::new(),
            journal,
            keys_policy,
            keys: Arc::new(KeyCache::new(&limits)),
            metrics: Arc::new(Metrics::new(&measured, units)),
            places: Arc::new(Semaphore::new(limits.requests)),
            holds: LivingHolds::default(),
            breaker: Breaker::default(),
            spool: None,
            estimates: Estimates::default(),
            tasks: Tasks::default(),
            bodies: Semaphore::new(limits.bodies_bytes),
            tokenizers: Semaphore::new(limits.tokenizers),
            generations: TaskTracker::new(),
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            limits,
        })
    }

    /// Returns the app with routes of other rooms, which pass the same door.
    pub fn mounting(mut self, routes: Vec<Route>) -> App {
        self.mounted.extend(routes);
        self
    }

    /// Returns the app of a server that stands in this region, for keys that are narrowed to some.
    pub fn in_region(self, region: Option<Region>) -> App {
        self.supply.store(Arc::new(Supply::of_engines(&self.models, region.as_ref())));
        self
    }

    /// Replaces all that can answer. Requests under way go on with what they began with; what was learned of units that stay
    /// is kept.
    pub fn replace_supply(&self, supply: Supply) {
        let before = self.supply.load_full();
        self.supply.store(Arc::new(supply.learning_from(&before)));
    }

    /// Counts a changed configuration, taken or refused.
    pub fn count_configuration(&self, is_taken: bool) {
        self.metrics.configuration(is_taken);
    }

    /// Returns the engines of our own, to be put into a supply.
    pub fn engines(&self) -> &[Arc<ServedModel>] {
        &self.models
    }

    /// Forgets responses whose time is over, and the oldest where there are too many; for ever, beside the server.
    pub async fn keep_responses_bounded(&self) {
        let Some(store) = &self.responses else { return };
        loop {
            tokio::time::sleep(CLEAN_UP_PAUSE).await;
            while store.clean_up(now().millis()).await.is_ok_and(|gone| gone.expired + gone.crowded_out > 0) {
            }
        }
    }

    /// Keeps the prices that choices are made by as fresh as the book's; for ever, beside the server.
    pub async fn keep_prices_fresh(&self) {
        self.prices.keep_fresh(&self.journal).await;
    }

    /// Returns the app with what its operator lets agents do.
    pub fn with_task_policy(mut self, policy: TaskPolicy) -> App {
        self.tasks.policy = policy;
        self
    }

    /// Returns the app that keeps answers there, for routes that want it.
    pub fn keeping_answers_in(mut self, cache: AnswerCache) -> App {
        self.repeats = Some(Arc::new(Repeats::new(cache)));
        self
    }

    /// Returns the app that keeps responses there.
    pub fn keeping_responses_in(mut self, responses: ResponseStore) -> App {
        self.responses = Some(responses);
        self
    }

    /// Returns the app that keeps its decisions there.
    pub fn deciding_into(mut self, decisions: Arc<Decisions>) -> App {
        self.decisions = decisions;
        self
    }

    /// Returns the app that serves on while the ledger is unavailable, and books from this spool later; whoever runs the app
    /// must run [`crate::replay_spooled`] beside it.
    pub fn spooling_to(mut self, spool: Spool) -> App {
        self.spool = Some(Arc::new(spool));
        self
    }

    /// Returns what makes every key be looked up anew, so that a change through this process holds at once.
    pub fn key_forgetter(&self) -> impl Fn() + Send + Sync + use<> {
        let keys = self.keys.clone();
        move || keys.forget()
    }

    /// Whether this request's hold will still be ended by whoever opened it: what a sweep of forgotten holds must spare.
    pub fn is_alive(&self, request: &RequestId) -> bool {
        self.holds.contains(request) || self.spool.as_ref().is_some_and(|spool| spool.contains(request))
    }
}

fn check_names(models: &[ServedModel]) -> Result<(), AppError> {
    let mut seen: Vec<&ModelName> = Vec::new();
    for name in models.iter().flat_map(|model| model.aliases.iter().chain([&model.name])) {
        if seen.contains(&name) {
            return Err(AppError::NameTaken { name: name.clone() });
        }
        seen.push(name);
    }
    Ok(())
}
