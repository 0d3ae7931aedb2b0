//! Which units may answer a request, and in which order are they asked?

use std::sync::Arc;

use dialect::BadRequest;
use domain::{Ask, ModelName, ServiceTier};
use fleet::{
    Caching, Candidate, Capabilities, DataClass, Decision, Need, Prefix, PrefixHasher, Reason, Residency,
    UnitState,
};

use crate::admit;
use crate::app::{App, ServedModel};
use crate::refusal::Refusal;
use crate::supply::{RouteRules, SupplyUnit, UnitKind};
use crate::who::Caller;
use crate::{guard, needs};

/// Who may answer, best first, and why.
pub struct Plan {
    pub units: Vec<Arc<SupplyUnit>>,
    /// The route that was asked for, where the name was one.
    pub route: Option<ModelName>,
    pub rules: RouteRules,
    pub need: Need,
    pub prefix: Prefix,
    pub decision: Decision,
    /// What the request takes, each with the field that asks for it.
    wanted: Vec<(fleet::Capability, &'static str)>,
}

/// The header by which a client says how sensitive its request is.
pub const DATA_CLASS: &str = "x-baseload-data-class";

/// Returns who may answer, best first; perhaps nobody may.
pub fn plan(app: &App, caller: &Caller, ask: &Ask, class: Option<DataClass>) -> Result<Plan, Refusal> {
    plan_for(app, caller, ask, class, needs::capabilities(ask))
}

/// Returns who may do this with the ask, best first; `wanted` is what it takes, each with the field that asks for it.
pub fn plan_for(
    app: &App,
    caller: &Caller,
    ask: &Ask,
    class: Option<DataClass>,
    wanted: Vec<(fleet::Capability, &'static str)>,
) -> Result<Plan, Refusal> {
    let supply = app.supply.load_full();
    let Some((units, rules)) = supply.meaning(&ask.model) else {
        return Err(unknown(app, caller, &ask.model));
    };
    let class = class.or_else(|| rules.data_class.clone());
    let tier = ask.service_tier.or(rules.service_tier).unwrap_or(ServiceTier::Standard);
    let first = units.first().map_or(&ask.model, |unit| &unit.facts.model);
    let input_tokens = needs::input_tokens(ask, app.estimates.bytes_per_token(first));
    let residency: Vec<Residency> =
        rules.residency.iter().chain(supply.residency(&caller.account, class.as_ref())).cloned().collect();
    let mut hasher = PrefixHasher::new(app.prefix_secret, caller.tenant.as_str());
    needs::write_prefix(ask, &mut hasher);
    let expected = u64::from(admit::expected_output(app, caller, first)) * u64::from(ask.choices);
    let need = Need {
        capabilities: wanted.iter().map(|(capability, _)| *capability).collect(),
        input_tokens,
        marked_tokens: (input_tokens as f64 * needs::marked_share(ask)) as u64,
        output_tokens: ask.max_output_tokens.map_or(expected, |max| expected.min(u64::from(max))),
        output_tokens_max: ask.max_output_tokens.map(u64::from),
        quality_min: rules.quality_min,
        slo: rules.slo,
        residency,
        data_class: class,
        tiers: rules.tiers.clone(),
        service_tier: tier,
        order: rules.order,
        budget: None,
        allow_unpriced: true,
        tried: Vec::new(),
    };
    let prefix = hasher.finish();
    let decision = decide(app, caller, &units, &need, &prefix);
    let route = supply.routes.iter().any(|route| route.name == ask.model).then(|| ask.model.clone());
    Ok(Plan { units, route, rules, need, prefix, decision, wanted })
}

impl Plan {
    /// Chooses again, without the units that have been tried.
    fn choose(&mut self, app: &App, caller: &Caller) {
        self.decision = decide(app, caller, &self.units, &self.need, &self.prefix);
    }

    /// Puts first whoever shall be asked after this unit has failed; false where nobody shall.
    pub fn fall_back(&mut self, app: &App, caller: &Caller, failed: &SupplyUnit) -> bool {
        self.need.tried.push(failed.facts.id.clone());
        self.choose(app, caller);
        let mut budget = failed.live.retries.lock();
        let Some(next) = fleet::fall_back(&self.decision, &mut budget, app.clock.now()) else { return false };
        let place = self.decision.choices.iter().position(|choice| choice.candidate == next.candidate);
        self.decision.choices[..=place.expect("it is one of them")].rotate_right(1);
        true
    }

    /// Returns the unit that shall be asked next.
    pub fn first(&self) -> Option<(Arc<SupplyUnit>, &fleet::Choice)> {
        let choice = self.decision.choices.first()?;
        Some((self.units[choice.candidate].clone(), choice))
    }

    /// Says why nobody may answer, by what would have to change first; nothing where somebody may.
    pub fn refusal(&self, app: &App, caller: &Caller, ask: &Ask) -> Option<Refusal> {
        self.decision.choices.is_empty().then(|| self.nobody(app, caller, ask))
    }

    fn nobody(&self, app: &App, caller: &Caller, ask: &Ask) -> Refusal {
        let reasons: Vec<&Reason> = self.decision.rejected.iter().map(|rejected| &rejected.reason).collect();
        if !reasons.is_empty() && reasons.iter().all(|reason| matches!(reason, Reason::KeyScope)) {
            let tier = self.need.service_tier;
            let lacks = self.units.iter().find_map(|unit| may_use(caller, unit, tier).err());
            return lacks.unwrap_or(Refusal::Internal);
        }
        let missing = reasons.iter().filter_map(|reason| match reason {
            Reason::Capability { missing } => Some(*missing),
            _ => None,
        });
        // What every unit lacks is the request's to change.
        if let Some(missing) = missing.clone().reduce(both)
            && missing.iter().next().is_some()
            && reasons.iter().all(|reason| matches!(reason, Reason::Capability { .. }))
        {
            return lacking(ask, missing, &self.wanted).into();
        }
        let told =
            self.decision.rejected.iter().map(|rejected| format!("{}: {}", rejected.unit, rejected.reason));
        let why = told.collect::<Vec<_>>().join("; ");
        let is_for_good = reasons.iter().all(|reason| {
            matches!(
                reason,
                Reason::Residency { .. }
                    | Reason::DataClass { .. }
                    | Reason::Tier { .. }
                    | Reason::KeyScope
                    | Reason::Capability { .. }
                    | Reason::Quality { .. }
                    | Reason::ServiceTier { .. }
                    | Reason::Unpriced
            )
        });
        let is_too_long =
            |reason: &&Reason| matches!(reason, Reason::Context { .. } | Reason::OutputLimit { .. });
        if !reasons.is_empty() && reasons.iter().all(is_too_long) {
            return BadRequest::new(format!(
                "no unit for {:?} takes this request: {why}",
                ask.model.as_str()
            ))
            .at("messages")
            .code("context_length_exceeded")
            .into();
        }
        let model = ask.model.clone();
        if is_for_good {
            return Refusal::NobodyMay { model, why };
        }
        let rests = |reason: &&Reason| matches!(reason, Reason::Resting { .. } | Reason::QuotaUsed { .. });
        let is_rate = reasons.iter().any(rests)
            && reasons.iter().all(|reason| rests(reason) || matches!(reason, Reason::Tried));
        let wait = self
            .decision
            .retry_at_us()
            .map(|at| std::time::Duration::from_micros(at).saturating_sub(app.clock.now()));
        Refusal::NobodyCan { model, why, retry_after: wait.unwrap_or(app.limits.retry_after), is_rate }
    }
}

fn decide(app: &App, caller: &Caller, units: &[Arc<SupplyUnit>], need: &Need, prefix: &Prefix) -> Decision {
    let now = app.clock.now();
    let tier = need.service_tier;
    let states: Vec<UnitState> = units.iter().map(|unit| state(unit)).collect();
    let warm = app.warm.lock();
    let candidate = |(unit, state)| {
        let unit: &Arc<SupplyUnit> = unit;
        Candidate {
            unit: &unit.facts,
            state,
            warm_tokens: {
                let seen = warm.warm_tokens(&unit.facts.id, prefix, need.input_tokens, now);
                // Who charges for writing keeps only what was marked.
                if unit.facts.caching == Caching::Charged { seen.min(need.marked_tokens) } else { seen }
            },
            in_key_scope: may_use(caller, unit, tier).is_ok(),
        }
    };
    let candidates: Vec<Candidate<'_>> = units.iter().zip(&states).map(candidate).collect();
    drop(warm);
    let cost = |place: usize, usage: &domain::Usage| {
        let unit = &units[place];
        app.prices.cost(&unit.facts.model, &unit.way(tier), usage)
    };
    fleet::choose(need, &candidates, cost, now, rand::random())
}

fn both(one: Capabilities, other: Capabilities) -> Capabilities {
    one.without(one.without(other))
}

/// Says which field no unit of this name can serve.
fn lacking(ask: &Ask, missing: Capabilities, wanted: &[(fleet::Capability, &'static str)]) -> BadRequest {
    let field =
        wanted.iter().find(|(capability, _)| missing.has(*capability)).map_or("model", |(_, field)| *field);
    let model = ask.model.as_str();
    let message = format!(
        "Unsupported parameter: '{field}' asks for {missing}, which no unit of the model '{model}' offers. Leave it out, or \
         choose a model that does; see GET /v1/models."
    );
    BadRequest::new(message).at(field).code("unsupported_parameter")
}

/// Returns the unit's state, with its queue as its engine now tells it.
fn state(unit: &SupplyUnit) -> UnitState {
    let mut state = unit.live.state.lock();
    if let UnitKind::Local(model) = &unit.kind {
        let status = model.upstream.status();
        state.queue(status.running, status.waiting);
    }
    state.clone()
}

fn unknown(app: &App, caller: &Caller, asked: &ModelName) -> Refusal {
    Refusal::ModelUnknown {
        asked: ModelName::new(asked.as_str().chars().take(128).collect::<String>()),
        known: seen(app, caller),
    }
}

/// Returns the names that the caller may use: all that a list shows it.
pub fn seen(app: &App, caller: &Caller) -> Vec<ModelName> {
    let supply = app.supply.load();
    let names = supply.names().into_iter().filter(|name| {
        let units = supply.meaning(name).map_or(Vec::new(), |(units, _)| units);
        units.iter().any(|unit| may_use(caller, unit, ServiceTier::Standard).is_ok())
    });
    names.cloned().collect()
}

/// Refuses a name that means nothing, or nothing that the caller may use.
pub fn check_seen(app: &App, caller: &Caller, name: &ModelName) -> Result<(), Refusal> {
    let supply = app.supply.load();
    let Some((units, _)) = supply.meaning(name) else { return Err(unknown(app, caller, name)) };
    let lacks: Vec<_> = units.iter().map(|unit| may_use(caller, unit, ServiceTier::Standard)).collect();
    if lacks.iter().any(Result::is_ok) {
        return Ok(());
    }
    lacks.into_iter().next().unwrap_or(Err(unknown(app, caller, name)))
}

/// Returns how many tokens the ask's prompt has: exactly, where an engine of ours would read it.
pub async fn count(app: &App, caller: &Caller, ask: &Ask) -> Result<u64, Refusal> {
    let plan = plan(app, caller, ask, None)?;
    if let Some(refusal) = plan.refusal(app, caller, ask) {
        return Err(refusal);
    }
    let local = plan.first().and_then(|(unit, _)| match &unit.kind {
        UnitKind::Local(model) => Some(model.text.clone()),
        UnitKind::Remote { .. } => None,
    });
    let Some(text) = local else { return Ok(plan.need.input_tokens) };
    let bytes = guard::input_bytes(&ask.input);
    guard::check_bytes(app, bytes)?;
    let input = ask.input.clone();
    let now = guard::unix_seconds() as i64;
    let counted =
        guard::off_thread(app, bytes > app.limits.tokenize_inline_bytes, move || text.prompts(&input, now));
    let prompts = counted.await?.map_err(guard::bad_prompt)?;
    Ok(prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum())
}

/// Returns the engine of ours that answers to this name, for what only an engine can say.
pub fn engine(app: &App, caller: &Caller, asked: &ModelName) -> Result<Arc<ServedModel>, Refusal> {
    let supply = app.supply.load();
    let Some((units, _)) = supply.meaning(asked) else { return Err(unknown(app, caller, asked)) };
    let local = units.iter().find_map(|unit| match &unit.kind {
        UnitKind::Local(model) => Some((unit, model.clone())),
        UnitKind::Remote { .. } => None,
    });
    let Some((unit, model)) = local else {
        let message = format!(
            "the model '{asked}' runs elsewhere; only models of this server's own engines can be tokenized"
        );
        return Err(BadRequest::new(message).at("model").code("not_tokenizable").into());
    };
    may_use(caller, unit, ServiceTier::Standard)?;
    Ok(model)
}

fn may_use(caller: &Caller, unit: &SupplyUnit, tier: ServiceTier) -> Result<(), Refusal> {
    caller.check_model(&unit.facts.model)?;
    caller.check_way(&unit.way(tier))
}
