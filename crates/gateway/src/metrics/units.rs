//! What can be seen of the units that answer: how busy they are, how well, and what became of calls to them?

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fleet::BreakerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::supply::{Clock, Supply};

/// Counts that requests add to. Units and outcomes are closed sets.
#[derive(Clone, Default)]
pub struct UnitMetrics {
    attempts: Family<AttemptLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    unit: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    from: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnitLabels {
    unit: String,
}

impl UnitMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "baseload_unit_attempts",
            "Calls to units, by what became of them: answered, failed, refused, cancelled, slower",
            self.attempts.clone(),
        );
        registry.register(
            "baseload_repeatable_requests",
            "Requests on routes that keep answers, by where theirs came from: made, kept, joined",
            self.answers.clone(),
        );
    }

    pub fn attempted(&self, unit: &str, outcome: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { unit: unit.to_owned(), outcome }).inc();
    }

    pub fn answered_from(&self, from: &'static str) {
        self.answers.get_or_create(&AnswerLabels { from }).inc();
    }
}

/// Reads the units' states at each scrape.
pub struct Units {
    pub supply: Arc<ArcSwap<Supply>>,
    pub clock: Clock,
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Units").finish_non_exhaustive()
    }
}

impl Collector for Units {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (supply, now) = (self.supply.load(), self.clock.now());
        let seen: Vec<(UnitLabels, f64, f64)> = supply
            .units
            .iter()
            .map(|unit| {
                let state = unit.live.state.lock();
                let labels = UnitLabels { unit: unit.facts.id.to_string() };
                (labels, f64::from(state.in_flight()), breaker(state.breaker(now)))
            })
            .collect();
        let name = "baseload_unit_in_flight";
        let mut metric =
            encoder.encode_descriptor(name, "Requests under way at a unit", None, MetricType::Gauge)?;
        for (labels, in_flight, _) in &seen {
            ConstGauge::new(*in_flight).encode(metric.encode_family(labels)?)?;
        }
        let help = "A unit's circuit breaker: 0 closed, 0.5 finding out or recovering, 1 open";
        let mut metric = encoder.encode_descriptor("baseload_unit_breaker", help, None, MetricType::Gauge)?;
        for (labels, _, breaker) in &seen {
            ConstGauge::new(*breaker).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn breaker(state: BreakerState) -> f64 {
    match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen | BreakerState::Probing { .. } | BreakerState::Recovering { .. } => 0.5,
        BreakerState::Open { .. } => 1.0,
    }
}
