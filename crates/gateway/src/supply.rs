//! What can answer, under which names, and who may send what where? The operator's configuration, as requests see it.
//!
//! A supply is replaced whole, never changed: a request that has begun goes on with the one it began with. Only what is
//! learned of units (their pace, their breakers) goes on from one supply to the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{Account, ModelName, Provider, ServiceTier};
use fleet::{
    DataClass, Jurisdiction, ModelClass, Order, Outcome, Reason, Residency, RetryBudget, Slo, Ticket, Tier,
    Unit, UnitId, UnitState,
};
use ledger::{Circumstances, Region};
use parking_lot::Mutex;

use crate::app::ServedModel;
use crate::upstream::HttpProvider;

#[derive(Default)]
pub struct Supply {
    pub units: Vec<Arc<SupplyUnit>>,
    pub routes: Vec<Route>,
    pub residency: Vec<ResidencyRule>,
}

/// One model at one provider, or in one engine of ours.
pub struct SupplyUnit {
    pub facts: Unit,
    /// Other names that mean the same model.
    pub aliases: Vec<ModelName>,
    /// Where its provider was told to process, for prices and keys that ask.
    pub region: Option<Region>,
    pub kind: UnitKind,
    /// Seconds since 1970.
    pub created: u64,
    pub live: Arc<Live>,
}

pub enum UnitKind {
    /// An engine of our own, in this process.
    Local(Arc<ServedModel>),
    /// A server that speaks a dialect over HTTP.
    Remote { model: String, provider: Arc<HttpProvider> },
}

/// What is learned of a unit while it works.
#[derive(Default)]
pub struct Live {
    pub state: Mutex<UnitState>,
    pub retries: Mutex<RetryBudget>,
}

/// A public name, and what its requests need. The candidates are the models listed and all of the classes named.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: ModelName,
    pub models: Vec<ModelName>,
    pub classes: Vec<ModelClass>,
    pub rules: RouteRules,
}

/// What a route asks of whoever answers.
#[derive(Clone, Debug)]
pub struct RouteRules {
    pub quality_min: Option<u8>,
    pub slo: Option<Slo>,
    pub residency: Option<Residency>,
    pub data_class: Option<DataClass>,
    pub tiers: Option<Vec<Tier>>,
    pub service_tier: Option<ServiceTier>,
    pub order: Order,
    /// Units that are tried before the client hears of a failure.
    pub attempts: usize,
    pub hedge_after: Option<Duration>,
    pub cache: Option<CacheRule>,
}

/// How long answers may be repeated, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRule {
    pub time_to_live: Duration,
    pub share: CacheShare,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheShare {
    /// Whoever asks on the same account.
    #[default]
    Account,
    /// Everybody in the same organisation.
    Organisation,
}

/// Where data of some accounts, or of some class, may be processed. Nothing gets around it.
#[derive(Clone, Debug)]
pub struct ResidencyRule {
    pub rule: Residency,
    /// The subtrees that it binds; empty binds everybody.
    pub accounts: Vec<Account>,
    /// The classes of data that it binds; empty binds all.
    pub data_classes: Vec<DataClass>,
}

impl Default for RouteRules {
    fn default() -> Self {
        Self {
            quality_min: None,
            slo: None,
            residency: None,
            data_class: None,
            tiers: None,
            service_tier: None,
            order: Order::Cost,
            attempts: 3,
            hedge_after: None,
            cache: None,
        }
    }
}

impl Supply {
    /// Returns the supply of engines alone, each under its own name.
    pub fn of_engines(models: &[Arc<ServedModel>], region: Option<&Region>) -> Self {
        let unit = |model: &Arc<ServedModel>| Arc::new(SupplyUnit::local(model.clone(), region.cloned()));
        Self { units: models.iter().map(unit).collect(), ..Self::default() }
    }

    /// Takes over what the supply before has learned of the same units.
    pub fn learning_from(mut self, before: &Supply) -> Self {
        let known: HashMap<&UnitId, &Arc<Live>> =
            before.units.iter().map(|unit| (&unit.facts.id, &unit.live)).collect();
        for unit in &mut self.units {
            if let Some(live) = known.get(&unit.facts.id)
                && let Some(unit) = Arc::get_mut(unit)
            {
                unit.live = (*live).clone();
            }
        }
        self
    }

    /// Returns what a name means: the units that may answer to it, in the order of configuration, and what is asked of them.
    /// `model@provider` names one unit.
    pub fn meaning(&self, name: &ModelName) -> Option<(Vec<Arc<SupplyUnit>>, RouteRules)> {
        if let Some(route) = self.routes.iter().find(|route| route.name == *name) {
            let listed = route.models.iter().flat_map(|model| self.named(model));
            let of_class = self
                .units
                .iter()
                .filter(|unit| unit.facts.classes.iter().any(|class| route.classes.contains(class)));
            let mut units: Vec<Arc<SupplyUnit>> = Vec::new();
            for unit in listed.chain(of_class) {
                if !units.iter().any(|known| known.facts.id == unit.facts.id) {
                    units.push(unit.clone());
                }
            }
            return Some((units, route.rules.clone()));
        }
        let units: Vec<_> = self.named(name).cloned().collect();
        (!units.is_empty()).then(|| (units, RouteRules::default()))
    }

    fn named<'a>(&'a self, name: &'a ModelName) -> impl Iterator<Item = &'a Arc<SupplyUnit>> {
        self.units.iter().filter(move |unit| unit.answers_to(name))
    }

    /// Returns every rule that binds data of this class on this account.
    pub fn residency(
        &self,
        account: &Account,
        class: Option<&DataClass>,
    ) -> impl Iterator<Item = &Residency> {
        let binds = move |rule: &&ResidencyRule| {
            let account_is_bound = rule.accounts.is_empty()
                || rule.accounts.iter().any(|bound| ledger::account::is_within(account, bound));
            let class_is_bound =
                rule.data_classes.is_empty() || class.is_some_and(|class| rule.data_classes.contains(class));
            account_is_bound && class_is_bound
        };
        self.residency.iter().filter(binds).map(|rule| &rule.rule)
    }

    /// Returns every public name with whether it is a route, routes first.
    pub fn names(&self) -> Vec<&ModelName> {
        let mut names: Vec<&ModelName> = self.routes.iter().map(|route| &route.name).collect();
        for unit in &self.units {
            if !names.contains(&&unit.facts.model) {
                names.push(&unit.facts.model);
            }
        }
        names
    }
}

impl SupplyUnit {
    pub fn local(model: Arc<ServedModel>, region: Option<Region>) -> Self {
        let mut facts = Unit::new(model.name.clone(), Provider::local());
        facts.tier = Tier::OnPremises;
        facts.jurisdictions = region.iter().map(|region| Jurisdiction::new(region.as_str())).collect();
        facts.capabilities = crate::needs::of_an_engine();
        facts.context_tokens = None; // The guard counts its tokens exactly.
        let (aliases, created) = (model.aliases.clone(), model.created);
        Self { facts, aliases, region, kind: UnitKind::Local(model), created, live: Arc::default() }
    }

    pub fn answers_to(&self, name: &ModelName) -> bool {
        self.facts.model == *name || self.aliases.contains(name) || self.facts.id.as_str() == name.as_str()
    }

    /// Returns under which circumstances it serves at this tier, as far as prices and keys depend on them.
    pub fn way(&self, service_tier: ServiceTier) -> Circumstances {
        let provider = match &self.kind {
            UnitKind::Local(_) => Provider::local(),
            UnitKind::Remote { provider, .. } => provider.vendor.clone(),
        };
        Circumstances { provider, service_tier, region: self.region.clone() }
    }
}

/// The time that units and decisions are measured in: since this process began.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One attempt at a unit, which counts as load there until it is said how it ended.
pub struct Attempt {
    live: Arc<Live>,
    clock: Clock,
    ticket: Option<Ticket>,
}

impl Attempt {
    pub fn begin(
        unit: &SupplyUnit,
        clock: Clock,
        input_tokens: u64,
        cold_tokens: u64,
    ) -> Result<Self, Reason> {
        let now = clock.now();
        let ticket = unit.live.state.lock().began(&unit.facts, input_tokens, cold_tokens, now)?;
        Ok(Self { live: unit.live.clone(), clock, ticket: Some(ticket) })
    }

    pub fn first_token(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            self.live.state.lock().first_token(ticket, self.clock.now());
        }
    }

    /// Notes how far a streamed answer has come.
    pub fn progressed(&mut self, output_tokens: u64) {
        if let Some(ticket) = &mut self.ticket {
            self.live.state.lock().progressed(ticket, output_tokens, self.clock.now());
        }
    }

    pub fn end(mut self, outcome: Outcome) {
        self.say(outcome);
    }

    fn say(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.live.state.lock().ended(ticket, outcome, self.clock.now());
        }
    }
}

/// An attempt that nobody ended says nothing of its unit, and holds no place there.
impl Drop for Attempt {
    fn drop(&mut self) {
        self.say(Outcome::Cancelled { output_tokens: 0 });
    }
}
