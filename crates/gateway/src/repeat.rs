//! Was this asked before, or is it being asked right now? Then one answer is enough for both.
//!
//! Routes that want it keep whole answers and join requests that are the same at the same time. Whoever gets an answer that was
//! made for another pays nothing: what it would have cost is booked as saved.

use std::sync::Arc;

use axum::body::Bytes;
use content::{
    AnswerCache, AskKey, CachedAnswer, Follower, Joined, Leader, MadeBy, TwinOptions, Twins, ask_key,
};
use domain::{Account, Answer, AnswerEvent, Ask, ServiceTier, Usage};
use fleet::Jurisdiction;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use serde_json::{Map, Value};

use crate::admit::now;
use crate::place::Plan;
use crate::refusal::Refusal;
use crate::supply::{CacheRule, CacheShare, SupplyUnit};
use crate::who::Caller;

/// The answers that may be given again.
pub struct Repeats {
    pub cache: AnswerCache,
    twins: Twins<Refusal>,
}

/// What came of asking whether an answer is there.
#[expect(clippy::large_enum_variant, reason = "there is one for each request, taken apart where it is made")]
pub enum Found {
    /// It was kept.
    Kept(Arc<CachedAnswer>),
    /// Somebody else's is under way.
    Joined(Follower<Refusal>),
    /// It must be made, and told to this as it grows.
    Nothing(Tee),
}

/// Hears an answer as it grows, for whoever asked the same, and keeps it when it is whole.
pub struct Tee {
    repeats: Arc<Repeats>,
    key: AskKey,
    rule: CacheRule,
    leader: Leader<Refusal>,
    made_by: Option<MadeBy>,
    answer: Answer,
    bytes: usize,
}

/// An answer that says more is not kept: it would push out too many others.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Repeats {
    pub fn new(cache: AnswerCache) -> Self {
        Self { cache, twins: Twins::new(TwinOptions::default()) }
    }

    /// Looks for an answer that this request may have.
    pub async fn look(self: &Arc<Self>, rule: CacheRule, key: AskKey, plan: &Plan) -> Found {
        let admits = |kept: &CachedAnswer| admits(plan, &kept.made_by);
        if let Some(kept) = self.cache.get(&key, now().millis(), admits).await {
            return Found::Kept(kept);
        }
        match self.twins.join(key) {
            Joined::Lead(leader) => Found::Nothing(self.tee(rule, key, leader)),
            Joined::Follow(follower) => Found::Joined(follower),
        }
    }

    /// Returns what a request that leads tells its answer to.
    pub fn tee(self: &Arc<Self>, rule: CacheRule, key: AskKey, leader: Leader<Refusal>) -> Tee {
        let (repeats, answer) = (self.clone(), Answer::default());
        Tee { repeats, key, rule, leader, made_by: None, answer, bytes: 0 }
    }
}

/// Whether the place that made an answer is one that this request may use: what is kept must not get around a rule.
pub fn admits(plan: &Plan, made_by: &MadeBy) -> bool {
    let places: Vec<Jurisdiction> =
        made_by.jurisdictions.iter().map(|place| Jurisdiction::new(place.as_str())).collect();
    plan.need.residency.iter().all(|rule| rule.admits(&places))
}

/// Returns under which name a request's answer is kept, unless the client wants a fresh one.
pub fn key(
    headers: &HeaderMap,
    caller: &Caller,
    ask: &Ask,
    ignored: &[String],
    original: &Bytes,
    plan: &Plan,
) -> Option<AskKey> {
    let rule = plan.rules.cache?;
    let control = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if ["no-cache", "no-store"].iter().any(|word| control.contains(word)) {
        return None;
    }
    let scope = match rule.share {
        CacheShare::Account => caller.account.clone(),
        CacheShare::Organisation => {
            Account::new(caller.account.as_str().split('/').next().unwrap_or_default())
        }
    };
    // Fields that nobody here has read may still change the answer, so all of the request is part of its name then.
    let mut unread = match ignored {
        [] => Map::new(),
        _ => serde_json::from_slice(original).unwrap_or_default(),
    };
    ["stream", "stream_options", "user", "metadata"].iter().for_each(|name| drop(unread.remove(*name)));
    let class = plan.need.data_class.as_ref().map(|class| Value::from(class.as_str()));
    unread.extend(class.map(|class| ("data class".to_owned(), class)));
    let rules: Vec<Value> = plan.need.residency.iter().map(|rule| Value::from(&*rule.name)).collect();
    unread.insert("residency".to_owned(), rules.into());
    Some(ask_key(ask, &scope, &unread))
}

impl Tee {
    /// Says who makes the answer, before its first word.
    pub fn made_by(&mut self, unit: &SupplyUnit, tier: ServiceTier) {
        let way = unit.way(tier);
        let made_by = MadeBy {
            unit: unit.facts.id.to_string(),
            provider: way.provider,
            model: unit.facts.model.clone(),
            service_tier: tier,
            region: way.region,
            jurisdictions: unit.facts.jurisdictions.iter().map(ToString::to_string).collect(),
        };
        self.leader.made_by(made_by.clone());
        self.made_by = Some(made_by);
    }

    pub fn say(&mut self, event: &AnswerEvent) {
        self.leader.say(event);
        self.bytes += weight(event);
        if self.bytes <= KEPT_BYTES_MAX {
            self.answer.fold(event.clone());
        }
    }

    /// Keeps an answer that is whole and booked. Kept first, told then: who comes in between finds one or the other.
    pub fn complete(self, usage: Usage) {
        let Self { repeats, key, rule, leader, made_by, answer, bytes } = self;
        if let Some(made_by) = made_by.filter(|_| bytes <= KEPT_BYTES_MAX) {
            let kept = CachedAnswer { answer, made_by, usage, made_at_ms: now().millis() };
            repeats.cache.put(key, kept, rule.time_to_live, now().millis());
        }
        leader.finish(usage);
    }

    /// Tells whoever asked the same that asking again would fail again.
    pub fn fail(self, refusal: Refusal) {
        self.leader.fail(refusal);
    }
}

fn weight(event: &AnswerEvent) -> usize {
    use domain::Delta::{
        Arguments, Reasoning, ReasoningProof, Refusal, Scores, SealedReasoning, Text, ToolCall,
    };
    match event {
        AnswerEvent::Delta { delta, .. } => match delta {
            Text(text)
            | Refusal(text)
            | Reasoning(text)
            | SealedReasoning(text)
            | Arguments { json: text, .. } => text.len(),
            ToolCall { id, name, proof, .. } => id.len() + name.len() + proof.as_ref().map_or(0, String::len),
            ReasoningProof { proof, id } => [proof, id].into_iter().flatten().map(String::len).sum(),
            Scores(scores) => scores.iter().map(|score| 64 * (1 + score.top.len())).sum(),
        },
        _ => 16,
    }
}
