//! What can be seen of this server from outside, under the names that dashboards for vLLM already know?
//!
//! Everything counts by atomics while requests run; a scrape only reads them, asks each engine once for its status, and
//! prints. Labels come from closed sets (routes, statuses, reasons, the models served), so the output has a bound.

mod units;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::EngineStatus;
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::pulse::Silence;
use crate::upstream::LocalUpstream;
pub use units::{UnitMetrics, Units};

/// The media type of what [`Metrics::print`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    connections_cut: Family<ReasonLabels, Counter>,
    ledger_seconds: Family<OperationLabels, Histogram>,
    pub slow_readers_cut: Counter,
    pub connections: Level,
    pub open_streams: Level,
    pub holds_open: Level,
    pub units: UnitMetrics,
    pub spooled: Counter,
    pub spool_waiting: Gauge,
    configurations: Family<OutcomeLabels, Counter>,
    configuration_refused: Gauge,
    /// As many as there are models that were asked.
    by_model: RwLock<HashMap<String, ModelMetrics>>,
    families: ModelFamilies,
}

/// What is measured of each model, found once and kept.
#[derive(Clone)]
pub struct ModelMetrics {
    pub ttft: Histogram,
    pub inter_token: Histogram,
    pub e2e: Histogram,
    pub queue: Histogram,
    pub prompt_tokens: Histogram,
    pub output_tokens: Histogram,
    finished: Family<FinishLabels, Counter>,
    model_name: String,
}

/// How one choice of an answer ended, in vLLM's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    Stop,
    Length,
    Abort,
    Error,
}

/// A number that goes up while something is open; the guard takes it down again.
#[derive(Clone, Default)]
pub struct Level(Gauge);

pub struct LevelGuard(Gauge);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u32,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model_name: String,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishLabels {
    model_name: String,
    finished_reason: &'static str,
}

impl Metrics {
    pub fn new(models: &[(String, Arc<LocalUpstream>)], units: Units) -> Self {
        let mut registry = Registry::default();
        let families = ModelFamilies::register(&mut registry);
        let metrics = Self {
            requests: Family::default(),
            refusals: Family::default(),
            connections_cut: Family::default(),
            ledger_seconds: Family::new_with_constructor(ledger_histogram),
            slow_readers_cut: Counter::default(),
            connections: Level::default(),
            open_streams: Level::default(),
            holds_open: Level::default(),
            units: UnitMetrics::default(),
            spooled: Counter::default(),
            configurations: Family::default(),
            configuration_refused: Gauge::default(),
            spool_waiting: Gauge::default(),
            by_model: models
                .iter()
                .map(|(name, _)| (name.clone(), families.of(name)))
                .collect::<HashMap<_, _>>()
                .into(),
            families,
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        registry.register_collector(Box::new(Engines(models.to_vec())));
        registry.register_collector(Box::new(units));
        registry.register_collector(Box::new(Process));
        Self { registry, ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        self.units.register(registry);
        registry.register("baseload_http_requests", "Requests answered", self.requests.clone());
        registry.register("baseload_refusals", "Requests refused, by reason", self.refusals.clone());
        registry.register("baseload_connections", "Connections open", self.connections.0.clone());
        registry.register(
            "baseload_configurations",
            "Changed configurations, by whether they were taken or refused",
            self.configurations.clone(),
        );
        registry.register(
            "baseload_configuration_refused",
            "1 while the configuration in force is older than the file, because the file is wrong",
            self.configuration_refused.clone(),
        );
        registry.register(
            "baseload_connections_cut",
            "Connections closed by the server, by reason",
            self.connections_cut.clone(),
        );
        registry.register("baseload_open_streams", "Streamed answers under way", self.open_streams.0.clone());
        registry.register(
            "baseload_slow_readers_cut",
            "Streams ended because their client left a full buffer unread, before its connection was closed for that",
            self.slow_readers_cut.clone(),
        );
        registry.register("baseload_holds_open", "Holds of requests under way", self.holds_open.0.clone());
        registry.register(
            "baseload_spooled_requests",
            "Requests served while the ledger took no hold",
            self.spooled.clone(),
        );
        registry.register(
            "baseload_spool_waiting",
            "Requests that are served and not in the ledger yet; above 0, limits are not enforced",
            self.spool_waiting.clone(),
        );
        registry.register(
            "baseload_ledger_seconds",
            "How long the ledger took to make an operation durable",
            self.ledger_seconds.clone(),
        );
    }

    /// Returns everything in the OpenMetrics text format.
    pub fn configuration(&self, is_taken: bool) {
        let outcome = if is_taken { "taken" } else { "refused" };
        self.configurations.get_or_create(&OutcomeLabels { outcome }).inc();
        self.configuration_refused.set(i64::from(!is_taken));
    }

    pub fn print(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    pub fn model(&self, name: &str) -> ModelMetrics {
        if let Some(found) = self.by_model.read().get(name) {
            return found.clone();
        }
        self.by_model.write().entry(name.to_owned()).or_insert_with(|| self.families.of(name)).clone()
    }

    pub fn answered(&self, route: &str, status: u16) {
        let labels = RequestLabels { route: route.to_owned(), status: status.into() };
        self.requests.get_or_create(&labels).inc();
    }

    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub fn connection_cut(&self, silence: Silence) {
        let reason = match silence {
            Silence::Idle => "idle",
            Silence::SlowHeader => "slow_header",
            Silence::SlowReader => "slow_reader",
        };
        self.connections_cut.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub fn ledger_took(&self, operation: &'static str, took: Duration) {
        self.ledger_seconds.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }
}

impl ModelMetrics {
    pub fn finished(&self, how: Finished) {
        let finished_reason = match how {
            Finished::Stop => "stop",
            Finished::Length => "length",
            Finished::Abort => "abort",
            Finished::Error => "error",
        };
        let labels = FinishLabels { model_name: self.model_name.clone(), finished_reason };
        self.finished.get_or_create(&labels).inc();
    }
}

impl Level {
    pub fn enter(&self) -> LevelGuard {
        self.0.inc();
        LevelGuard(self.0.clone())
    }
}

impl Drop for LevelGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

type Histograms = Family<ModelLabels, Histogram, fn() -> Histogram>;

struct ModelFamilies {
    ttft: Histograms,
    inter_token: Histograms,
    e2e: Histograms,
    queue: Histograms,
    prompt_tokens: Histograms,
    output_tokens: Histograms,
    finished: Family<FinishLabels, Counter>,
}

impl ModelFamilies {
    fn register(registry: &mut Registry) -> Self {
        let mut histogram = |name: &str, help: &str, buckets: fn() -> Histogram| {
            let family = Histograms::new_with_constructor(buckets);
            registry.register(name, help, family.clone());
            family
        };
        let families = Self {
            ttft: histogram(
                "vllm:time_to_first_token_seconds",
                "From a request's arrival to its first token",
                seconds_histogram,
            ),
            inter_token: histogram(
                "vllm:inter_token_latency_seconds",
                "Between the tokens of one sequence",
                step_histogram,
            ),
            e2e: histogram(
                "vllm:e2e_request_latency_seconds",
                "From a request's arrival to its last token",
                seconds_histogram,
            ),
            queue: histogram(
                "vllm:request_queue_time_seconds",
                "From a sequence's start at the door to its place in a batch",
                seconds_histogram,
            ),
            prompt_tokens: histogram(
                "vllm:request_prompt_tokens",
                "Prompt tokens of a request",
                tokens_histogram,
            ),
            output_tokens: histogram(
                "vllm:request_generation_tokens",
                "Tokens produced for a request",
                tokens_histogram,
            ),
            finished: Family::default(),
        };
        registry.register(
            "vllm:request_success",
            "Sequences ended, by the reason of their end",
            families.finished.clone(),
        );
        families
    }

    fn of(&self, model_name: &str) -> ModelMetrics {
        let labels = ModelLabels { model_name: model_name.to_owned() };
        let of = |family: &Histograms| family.get_or_create(&labels).clone();
        ModelMetrics {
            ttft: of(&self.ttft),
            inter_token: of(&self.inter_token),
            e2e: of(&self.e2e),
            queue: of(&self.queue),
            prompt_tokens: of(&self.prompt_tokens),
            output_tokens: of(&self.output_tokens),
            finished: self.finished.clone(),
            model_name: model_name.to_owned(),
        }
    }
}

/// Waits that people feel: from a cached prompt on a small model to a queue of minutes.
fn seconds_histogram() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0,
        160.0, 320.0, 640.0,
    ])
}

/// One engine step: from a small model alone to a large batch on a slow machine.
fn step_histogram() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0,
    ])
}

fn tokens_histogram() -> Histogram {
    Histogram::new((0..=20).map(|power| f64::from(1_u32 << power)))
}

/// One synchronous write of a disk, from memory-backed to overloaded.
fn ledger_histogram() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0])
}

/// What the engines say of themselves, asked when somebody looks.
struct Engines(Vec<(String, Arc<LocalUpstream>)>);

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

type Reading<T> = (&'static str, &'static str, fn(&EngineStatus) -> T);

const ENGINE_COUNTERS: [Reading<u64>; 17] = [
    ("vllm:prompt_tokens", "Prompt tokens computed or found in the prefix cache", |s| s.prompt_tokens),
    ("vllm:generation_tokens", "Tokens produced", |s| s.output_tokens),
    ("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache", |s| s.prefix_queries),
    ("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache", |s| s.prefix_hits),
    ("vllm:num_preemptions", "Sequences that lost their place to others and were resumed later", |s| {
        s.preemptions
    }),
    ("vllm:spec_decode_num_draft_tokens", "Tokens that were guessed and computed ahead", |s| {
        s.speculated_tokens
    }),
    ("vllm:spec_decode_num_accepted_tokens", "Guessed tokens that were right", |s| s.accepted_tokens),
    ("baseload_engine_steps", "Steps of the engine", |s| s.steps),
    ("baseload_engine_failures", "Sequences that failed alone", |s| s.failures),
    ("baseload_kv_disk_spilled_blocks", "Key-value blocks written to disk", |s| s.disk.spilled),
    ("baseload_kv_disk_restored_blocks", "Key-value blocks brought back from disk", |s| s.disk.restored),
    ("baseload_kv_disk_hit_tokens", "Prompt tokens that were found because they came back from disk", |s| {
        s.disk.hit_tokens
    }),
    (
        "baseload_kv_disk_lost_blocks",
        "Key-value blocks reused in memory before they were written to disk",
        |s| {
            // Without a disk nothing could have been written.
            if s.disk.bytes_max == 0 { 0 } else { s.disk.lost }
        },
    ),
    (
        "baseload_kv_disk_not_worth_blocks",
        "Key-value blocks that were computed because reading takes longer",
        |s| s.disk.not_worth,
    ),
    ("baseload_kv_disk_damaged_blocks", "Key-value blocks on disk with a wrong checksum", |s| s.disk.damaged),
    ("baseload_kv_disk_errors", "Times that the disk of key-value blocks failed", |s| s.disk.errors),
    ("baseload_kv_disk_late", "Times that the disk of key-value blocks was given up as too slow", |s| {
        s.disk.late
    }),
];

const ENGINE_GAUGES: [Reading<f64>; 13] = [
    ("vllm:num_requests_running", "Sequences in the batch", |s| s.running as f64),
    ("vllm:num_requests_waiting", "Sequences that wait for a place", |s| s.waiting as f64),
    ("vllm:kv_cache_usage_perc", "Part of the key-value blocks that running sequences hold; 1 is all", |s| {
        if s.blocks_total == 0 { 0.0 } else { s.blocks_in_use as f64 / s.blocks_total as f64 }
    }),
    ("baseload_kv_blocks", "Key-value blocks there are", |s| s.blocks_total as f64),
    ("baseload_kv_blocks_in_use", "Key-value blocks that running sequences hold", |s| s.blocks_in_use as f64),
    ("baseload_kv_blocks_cached", "Key-value blocks that nobody holds and that can still be found", |s| {
        s.blocks_cached as f64
    }),
    ("baseload_kv_bytes", "Memory of all key-value blocks", |s| s.kv_bytes as f64),
    ("baseload_kv_disk_bytes", "Size of the file of key-value blocks on disk", |s| s.disk.bytes_max as f64),
    ("baseload_kv_disk_bytes_used", "The part of that file that holds blocks", |s| s.disk.bytes_used as f64),
    (
        "baseload_kv_disk_resting",
        "1 while the disk of key-value blocks is left alone because it failed",
        |s| f64::from(u8::from(s.disk.resting)),
    ),
    ("baseload_step_seconds", "How long the last step took", |s| s.step_seconds),
    ("baseload_step_predicted_seconds", "How long the scheduler thought the last step would take", |s| {
        s.step_predicted_seconds
    }),
    ("baseload_step_rows", "Rows of the last step's batch", |s| s.batch_rows as f64),
];

impl Collector for Engines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let statuses: Vec<(ModelLabels, EngineStatus)> = self
            .0
            .iter()
            .map(|(name, upstream)| (ModelLabels { model_name: name.clone() }, upstream.status()))
            .collect();
        for (name, help, read) in ENGINE_COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, status) in &statuses {
                ConstCounter::new(read(status)).encode(metric.encode_family(labels)?)?;
            }
        }
        for (name, help, read) in ENGINE_GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, status) in &statuses {
                ConstGauge::new(read(status)).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(bytes) = resident_bytes() else { return Ok(()) };
        let metric = encoder.encode_descriptor(
            "process_resident_memory_bytes",
            "Memory of this process that is in RAM",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(bytes).encode(metric)
    }
}

/// Linux says it in a file; elsewhere the metric is absent rather than wrong.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
