//! How does a request for embeddings get its answer? It is whole or nothing, so each unit is asked in turn until one gives it.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use dialect::Target;
use dialect::openai::embeddings::{EmbedHeard, Embeddings};
use domain::{Ask, Input, RequestId, SamplingWish, Usage, UsageEnd, UsageSource};
use fleet::{Capability, Outcome};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use ledger::ReleaseReason;

use crate::admit::{self, Claim, NoHold};
use crate::app::App;
use crate::passage::{self, ATTEMPTS, COST, PROVIDER, UNIT};
use crate::place::{self, Plan};
use crate::refusal::Refusal;
use crate::start::Setback;
use crate::supply::{Attempt, SupplyUnit, UnitKind};
use crate::upstream::{Failure, HttpProvider};
use crate::visit::Visit;
use crate::who::Caller;
use crate::{events, why};

/// Returns the vectors, booked.
pub async fn answer(
    app: Arc<App>,
    visit: Arc<Visit>,
    caller: Caller,
    headers: &HeaderMap,
    heard: EmbedHeard,
) -> Result<Response, Refusal> {
    let place = admit::place(&app)?;
    let class = passage::data_class(headers)?;
    let ask = as_ask(&heard);
    let wanted = vec![(Capability::Embeddings, "model")];
    let plan = place::plan_for(&app, &caller, &ask, class, wanted)?;
    if let Some(refusal) = plan.refusal(&app, &caller, &ask) {
        app.decisions.record(why::record(&visit.id, &caller, &ask.model, &plan, Vec::new(), None));
        return Err(refusal);
    }
    // A task of its own, because what an upstream has been asked for is booked also when the client leaves.
    let tasks = app.generations.clone();
    let job = Job { app, visit, caller, heard, ask, attempts: 0, passed_by: 0 };
    let answered = tasks.spawn(async move {
        let _place = place;
        job.run(plan).await
    });
    answered.await.unwrap_or(Err(Refusal::Internal))
}

struct Job {
    app: Arc<App>,
    visit: Arc<Visit>,
    caller: Caller,
    heard: EmbedHeard,
    ask: Ask,
    attempts: usize,
    /// Attempts that ended before their unit was asked: the route's limit does not count them.
    passed_by: usize,
}

impl Job {
    async fn run(mut self, mut plan: Plan) -> Result<Response, Refusal> {
        let mut tried = Vec::new();
        while let Some((unit, _)) = plan.first() {
            self.attempts += 1;
            self.visit.model(&unit.facts.model);
            let (began, name) = (Instant::now(), unit.facts.id.as_str());
            let (outcome, chosen, ended) = match self.attempt(&plan, &unit).await {
                Ok(response) => ("answered", Some(name), Ok(response)),
                Err(Setback::PassedBy(refusal)) => {
                    self.passed_by += 1;
                    ("passed_by", None, Err((refusal, true)))
                }
                Err(Setback::Elsewhere(refusal)) => ("failed", None, Err((refusal, true))),
                Err(Setback::Refused(refusal)) => ("failed", None, Err((refusal, false))),
                Err(Setback::Short(shortage)) => {
                    ("failed", None, Err((NoHold::Short(shortage).refusal(), false)))
                }
                // Embeddings are worked on to their end, whoever waits.
                Err(Setback::Left) => ("cancelled", None, Err((Refusal::Internal, false))),
            };
            let reason = ended.as_ref().err().map(|(refusal, _)| refusal.to_string());
            self.app.metrics.units.attempted(name, outcome);
            tried.push(why::attempt(name, outcome, reason, began.elapsed()));
            let (visit, asked_for) = (&self.visit.id, &self.ask.model);
            let record = why::record(visit, &self.caller, asked_for, &plan, tried.clone(), chosen);
            self.app.decisions.record(record);
            let (refusal, may_another) = match ended {
                Ok(response) => return Ok(response),
                Err(refused) => refused,
            };
            let may_go_on = may_another && self.attempts - self.passed_by < plan.rules.attempts;
            if !(may_go_on && plan.fall_back(&self.app, &self.caller, &unit)) {
                return Err(refusal);
            }
        }
        Err(Refusal::Internal)
    }

    async fn attempt(&self, plan: &Plan, unit: &SupplyUnit) -> Result<Response, Setback> {
        let UnitKind::Remote { model, provider } = &unit.kind else {
            return Err(Setback::PassedBy(Refusal::Internal));
        };
        unit.live.retries.lock().earn();
        let app = &self.app;
        let way = unit.way(plan.need.service_tier);
        let estimate = Usage { input_uncached: plan.need.input_tokens, ..Usage::default() };
        let claim = Claim {
            request: self.booked_as(),
            caller: self.caller.clone(),
            task: None,
            end_user: self.heard.ask.user.clone(),
            model: unit.facts.model.clone(),
            way: way.clone(),
            estimate,
        };
        let hold = admit::hold(app, &claim).await?;
        let began = Attempt::begin(unit, app.clock, plan.need.input_tokens, plan.need.input_tokens);
        let attempt = match began {
            Ok(attempt) => attempt,
            Err(reason) => {
                let _ = hold.release(ReleaseReason::Refused).await;
                return Err(Setback::PassedBy(Refusal::NobodyCan {
                    model: unit.facts.model.clone(),
                    why: format!("{}: {reason}", unit.facts.id),
                    retry_after: app.limits.retry_after,
                    is_rate: false,
                }));
            }
        };
        let vectors = match self.ask(provider, model).await {
            Ok(vectors) => vectors,
            Err(failure) => {
                let (request, unit_name) = (self.visit.id.as_str(), unit.facts.id.as_str());
                events::UpstreamFailed {
                    request,
                    unit: unit_name,
                    attempt: self.attempts,
                    failure: &failure,
                }
                .emit();
                attempt.end(failure.outcome());
                let _ = hold.release(ReleaseReason::Failed).await;
                let refusal = passage::upstream_failed(unit, &failure);
                let may_another = failure.is_worth_another();
                return Err(if may_another {
                    Setback::Elsewhere(refusal)
                } else {
                    Setback::Refused(refusal)
                });
            }
        };
        attempt.end(Outcome::Answered { output_tokens: 0 });
        let source = if vectors.usage.is_some() { UsageSource::Provider } else { UsageSource::Estimated };
        let usage = vectors.usage.unwrap_or(estimate);
        self.visit.used(usage);
        hold.settle(usage, UsageEnd::Complete, source).await?;
        let body = vectors
            .to_json(&unit.facts.model, self.heard.encoding, &usage)
            .map_err(|bad| passage::upstream_failed(unit, &Failure::from(bad)))?;
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let named = |name: &str| HeaderValue::from_str(name).ok();
        let cost = app.prices.cost(&unit.facts.model, &way, &usage);
        let about = [
            (UNIT, named(unit.facts.id.as_str())),
            (PROVIDER, named(way.provider.as_str())),
            (ATTEMPTS, Some(HeaderValue::from(self.attempts))),
            (COST, cost.and_then(|cost| named(&cost.to_string()))),
        ];
        about.into_iter().for_each(|(name, value)| headers.extend(value.map(|value| (name, value))));
        Ok(response)
    }

    async fn ask(&self, provider: &HttpProvider, model: &str) -> Result<Embeddings, Failure> {
        let dialect = provider.dialect(dialect::openai::chat::DIALECT);
        let wire = dialect.embed(&self.heard.ask, &Target { model, stream: false });
        let wire = wire.map_err(|untellable| Failure::Unsendable(untellable.to_string()))?;
        let body = provider.whole(&**dialect, wire, model, Embeddings::BYTES_MAX).await?;
        Ok(dialect.embedded(&body, self.heard.ask.inputs.len())?)
    }

    fn booked_as(&self) -> RequestId {
        passage::booked_as(&self.visit.id, self.attempts)
    }
}

/// The same request in the words that choosing understands.
fn as_ask(heard: &EmbedHeard) -> Ask {
    Ask {
        model: heard.ask.model.clone(),
        input: Input::Completion(heard.ask.inputs.clone()),
        max_output_tokens: Some(0),
        sampling: SamplingWish::default(),
        stop: Vec::new(),
        logprobs: None,
        choices: 1,
        stream: false,
        stream_usage: false,
        echo: false,
        ignore_eos: false,
        user: heard.ask.user.clone(),
        service_tier: None,
        cache_key: None,
    }
}
