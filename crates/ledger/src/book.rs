//! Which entries does a hold, its growth, a settlement or a release write, given what the book already knows of the request?
//!
//! ```text
//!         hold, grow         settle(usage), loss
//!  payer ───────────▶ held ───────────────────▶ earned      the used part of the hold; after a loss, all of it
//!    ▲                 │
//!    └─────────────────┘  settle, release                   the unused part of the hold
//!  payer ─────────────────────────────────────▶ earned      what was used beyond the hold
//! ```
//!
//! A hold grows before more is delivered than it covers. So when nobody can say any more what was used, all that was held
//! is booked, as an estimate that is never too low.
//!
//! An answer that is given again uses nothing: all that is held goes back, and what it saved is written beside the book's
//! sides, into none of them.
//!
//! Every entry takes from one side what it gives to another, so all sides sum to zero, in tokens of each dimension and in
//! money; and per request, hold = settled + released as soon as it has ended. A request moves only forward:
//! absent → open → ended. Whatever arrives after the end is answered with the end and changes nothing.
//!
//! Pure: no clock, no store, no randomness.

use domain::{Account, ModelName, Money, RequestId, Usage, UsageEnd, UsageSource};
use serde::{Deserialize, Serialize};

use crate::quantity::{DIMENSIONS, TOKENS_MAX, tokens};
use crate::{
    Circumstances, KeyId, LedgerError, PriceVersion, Quantities, SavedBy, Saving, Shortage, Standing,
    TaskPath, Timestamp,
};

/// Work is about to begin: reserve this much for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub request: RequestId,
    pub account: Account,
    /// The key that the caller showed, if any.
    pub key: Option<KeyId>,
    pub task: Option<TaskPath>,
    /// Whom the caller serves, in the caller's own words.
    pub end_user: Option<String>,
    pub model: ModelName,
    pub circumstances: Circumstances,
    pub estimate: Usage,
    pub at: Timestamp,
}

impl Hold {
    /// Returns a hold by nobody's key for no task, served by our own engine.
    pub fn new(
        request: RequestId,
        account: Account,
        model: ModelName,
        estimate: Usage,
        at: Timestamp,
    ) -> Self {
        let (key, task, end_user, circumstances) = (None, None, None, Circumstances::default());
        Self { request, account, key, task, end_user, model, circumstances, estimate, at }
    }
}

/// Work goes on beyond what is held: reserve up to this much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grow {
    pub request: RequestId,
    /// The new total. Where it is below what is held already, what is held stays.
    pub estimate: Usage,
    pub at: Timestamp,
}

/// Work has ended and this much was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub request: RequestId,
    pub usage: Usage,
    pub end: UsageEnd,
    pub source: UsageSource,
    pub at: Timestamp,
}

/// Work never began, so nothing was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub request: RequestId,
    pub reason: ReleaseReason,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// Nobody would take the work: a full queue, an engine that stops.
    Refused,
    /// The client left before the work began.
    ClientLeft,
    /// It failed before it consumed anything.
    Failed,
}

/// Why a hold was closed by someone who cannot say what was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The process that held it died.
    ProcessLost,
    /// The process lives, but no longer knows the request.
    Forgotten,
}

/// A hold as it is booked, with the price version that will also settle it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its estimate is all that is held, growth included.
    pub hold: Hold,
    /// The version in force at the hold's time.
    pub price: Option<PriceVersion>,
}

impl Held {
    /// Returns the money reserved, or nothing where the estimate has no price.
    pub fn amount(&self) -> Option<Money> {
        self.cost(&self.hold.estimate)
    }
    /// Returns what this usage costs under the hold's price version, or nothing where it has no price.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        self.price.as_ref().and_then(|version| version.sheet.cost(usage, &self.hold.circumstances))
    }
    pub fn quantities(&self) -> Quantities {
        Quantities::of(&self.hold.estimate, self.amount())
    }
    /// Returns the hold as it would be with at least this much reserved: no dimension shrinks.
    pub fn grown(&self, estimate: &Usage) -> Held {
        let was = &self.hold.estimate;
        let estimate = Usage {
            input_uncached: estimate.input_uncached.max(was.input_uncached),
            cache_read: estimate.cache_read.max(was.cache_read),
            cache_write_5m: estimate.cache_write_5m.max(was.cache_write_5m),
            cache_write_1h: estimate.cache_write_1h.max(was.cache_write_1h),
            output: estimate.output.max(was.output),
            reasoning: 0,
            compute_us: estimate.compute_us.max(was.compute_us),
        };
        Held { hold: Hold { estimate, ..self.hold.clone() }, price: self.price.clone() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Settled {
        usage: Usage,
        end: UsageEnd,
        source: UsageSource,
    },
    /// Nothing was used, and that is a fact.
    Released {
        reason: ReleaseReason,
    },
    /// Nothing was used, because an answer was given again. This much would have been, and would have cost that; `None` is
    /// unpriced.
    Saved {
        usage: Usage,
        way: SavedBy,
        worth: Option<Money>,
    },
    /// Nobody can say what was used. All that was held is booked: an upper bound, because a hold grows before more is
    /// delivered. Nothing in books of the first schema, where such a request's usage stays unknown; it is not zero.
    Lost {
        reason: LossReason,
        estimate: Option<Usage>,
    },
}

/// The one end of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub how: How,
    pub at: Timestamp,
    /// `None`: unpriced, or unknown.
    pub cost: Option<Money>,
}

/// All that the book knows of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    Absent,
    Open(Held),
    Ended(Held, Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The request's own account.
    Payer,
    /// What is reserved for work under way.
    Held,
    /// What was used.
    Earned,
}

/// Moves quantities from one side to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub from: Side,
    pub to: Side,
    pub quantities: Quantities,
}

/// What a request for a hold came to. Only `Opened` allows work to begin: of the others, two say that this request id was
/// used before, and starting work again would give it away; one names the limit that has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// With the limits that this hold counts against.
    Opened(Held, Vec<Standing>),
    AlreadyOpen(Held),
    AlreadyEnded(Held, Ending),
    Refused(Shortage),
}

/// What a growth came to. Only `Grown` allows more to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrowOutcome {
    Grown(Held, Vec<Standing>),
    Refused(Shortage),
    /// Somebody else has ended it: this process was taken for dead.
    Ended(Held, Ending),
}

/// What a settlement or release came to: the end that is booked, whoever booked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndOutcome {
    pub held: Held,
    pub ending: Ending,
    /// The end was booked earlier; this call changed nothing.
    pub repeated: bool,
}

impl EndOutcome {
    /// Returns what was used beyond the hold, which is booked in full all the same: facts are facts.
    pub fn excess(&self) -> Quantities {
        let used = self.ending.used();
        used.without(&used.overlap(&self.held.quantities()))
    }
}

impl Ending {
    /// Returns the usage that is booked, measured or estimated; nothing where it is unknown.
    pub fn usage(&self) -> Option<Usage> {
        match self.how {
            How::Settled { usage, .. } => Some(usage),
            How::Released { .. } | How::Saved { .. } => Some(Usage::default()),
            How::Lost { estimate, .. } => estimate,
        }
    }
    /// Returns what an answer that was given again has saved, with its worth where it has a price; nothing for any other end.
    pub fn saved(&self) -> Option<(Usage, Option<Money>)> {
        match self.how {
            How::Saved { usage, worth, .. } => Some((usage, worth)),
            How::Settled { .. } | How::Released { .. } | How::Lost { .. } => None,
        }
    }
    fn used(&self) -> Quantities {
        self.usage().map_or(Quantities::default(), |usage| Quantities::of(&usage, self.cost))
    }
}

/// What is to be written: the entries and the new position (or none of both), and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<Outcome> {
    pub outcome: Outcome,
    pub entries: Vec<Entry>,
    pub position: Position,
}

/// Decides a hold; `price` is the version in force at its time.
pub fn hold(
    position: &Position,
    hold: Hold,
    price: Option<PriceVersion>,
) -> Result<Decision<HoldOutcome>, LedgerError> {
    let outcome = match position {
        Position::Absent => return open(hold, price),
        Position::Open(held) => HoldOutcome::AlreadyOpen(same(held, &hold)?),
        Position::Ended(held, ending) => HoldOutcome::AlreadyEnded(same(held, &hold)?, ending.clone()),
    };
    Ok(Decision { outcome, entries: Vec::new(), position: position.clone() })
}

/// Decides the growth of a hold, as far as the book is concerned; limits are asked before.
pub fn grow(position: &Position, grow: Grow) -> Result<Decision<GrowOutcome>, LedgerError> {
    let Grow { request, estimate, at: _ } = grow;
    match position {
        Position::Absent => Err(LedgerError::NoHold { request, what: "grown" }),
        Position::Ended(held, ending) => Ok(Decision {
            outcome: GrowOutcome::Ended(held.clone(), ending.clone()),
            entries: Vec::new(),
            position: position.clone(),
        }),
        Position::Open(held) => {
            let grown = held.grown(&estimate);
            check_size(&request, "the estimate", &grown.hold.estimate, grown.amount())?;
            if grown.amount() < held.amount() {
                return Err(LedgerError::ShrinkingHold { request });
            }
            let more = grown.quantities().without(&held.quantities());
            let mut entries = vec![Entry { from: Side::Payer, to: Side::Held, quantities: more }];
            entries.retain(|entry| !entry.quantities.is_zero());
            Ok(Decision {
                outcome: GrowOutcome::Grown(grown.clone(), Vec::new()),
                entries,
                position: Position::Open(grown),
            })
        }
    }
}

/// Decides a settlement. Usage beyond the hold is booked in full.
pub fn settle(position: &Position, settlement: Settlement) -> Result<Decision<EndOutcome>, LedgerError> {
    let Settlement { request, usage, end, source, at } = settlement;
    finish(position, &request, How::Settled { usage, end, source }, at)
}

/// Decides a release: all that is held goes back.
pub fn release(position: &Position, release: Release) -> Result<Decision<EndOutcome>, LedgerError> {
    finish(position, &release.request, How::Released { reason: release.reason }, release.at)
}

/// Decides the end of a request whose answer is given again: all that is held goes back. What it saved is priced as the hold
/// would have been, whose model and circumstances are those that count.
pub fn save(position: &Position, saving: &Saving) -> Result<Decision<EndOutcome>, LedgerError> {
    let worth = match position {
        Position::Open(held) => {
            if held.hold.account != saving.account {
                return Err(LedgerError::DifferentHold { request: saving.request.clone(), what: "account" });
            }
            let worth = held.cost(&saving.usage);
            check_size(&saving.request, "what was saved", &saving.usage, worth)?;
            worth
        }
        Position::Absent | Position::Ended(..) => None,
    };
    let how = How::Saved { usage: saving.usage, way: saving.way, worth };
    finish(position, &saving.request, how, saving.at)
}

/// Decides the end of a hold whose usage nobody can tell any more: all that is held is booked as used.
pub fn lose(
    position: &Position,
    request: &RequestId,
    reason: LossReason,
    at: Timestamp,
) -> Result<Decision<EndOutcome>, LedgerError> {
    let estimate = match position {
        Position::Open(held) => Some(held.hold.estimate),
        Position::Absent | Position::Ended(..) => None,
    };
    finish(position, request, How::Lost { reason, estimate }, at)
}

/// Returns the entries that brought a request to this position: what the journal must hold for it, no more and no less,
/// where the lines by which a hold grew are one with the line that opened it.
pub fn entries(position: &Position) -> Vec<Entry> {
    match position {
        Position::Absent => Vec::new(),
        Position::Open(held) => opening(held),
        Position::Ended(held, ending) => [opening(held), closing(held, ending)].concat(),
    }
}

fn open(mut hold: Hold, price: Option<PriceVersion>) -> Result<Decision<HoldOutcome>, LedgerError> {
    // Which part of the output will be reasoning is nothing to reserve.
    hold.estimate.reasoning = 0;
    let held = Held { hold, price };
    check_size(&held.hold.request, "the estimate", &held.hold.estimate, held.amount())?;
    Ok(Decision {
        outcome: HoldOutcome::Opened(held.clone(), Vec::new()),
        entries: opening(&held),
        position: Position::Open(held),
    })
}

/// The estimate may differ, for it is learned; who pays and for what may not.
fn same(held: &Held, again: &Hold) -> Result<Held, LedgerError> {
    let different = |what| Err(LedgerError::DifferentHold { request: again.request.clone(), what });
    if held.hold.account != again.account {
        return different("account");
    }
    if held.hold.model != again.model {
        return different("model");
    }
    Ok(held.clone())
}

fn finish(
    position: &Position,
    request: &RequestId,
    how: How,
    at: Timestamp,
) -> Result<Decision<EndOutcome>, LedgerError> {
    match position {
        Position::Absent => Err(LedgerError::NoHold { request: request.clone(), what: how.participle() }),
        Position::Ended(held, ending) => Ok(Decision {
            outcome: EndOutcome { held: held.clone(), ending: ending.clone(), repeated: true },
            entries: Vec::new(),
            position: position.clone(),
        }),
        Position::Open(held) => {
            let cost = cost(held, &how);
            if let How::Settled { usage, .. } = &how {
                check_size(request, "the usage", usage, cost)?;
            }
            let ending = Ending { how, at, cost };
            Ok(Decision {
                outcome: EndOutcome { held: held.clone(), ending: ending.clone(), repeated: false },
                entries: closing(held, &ending),
                position: Position::Ended(held.clone(), ending),
            })
        }
    }
}

/// Returns what an end costs under the hold's price version; nothing where that has no price, or the usage is unknown.
pub(crate) fn cost(held: &Held, how: &How) -> Option<Money> {
    match how {
        How::Settled { usage, .. } => held.cost(usage),
        How::Released { .. } | How::Saved { .. } => Some(Money::ZERO),
        How::Lost { estimate, .. } => estimate.as_ref().and_then(|usage| held.cost(usage)),
    }
}

/// One entry, even of zero: that a hold was opened is a fact.
fn opening(held: &Held) -> Vec<Entry> {
    vec![Entry { from: Side::Payer, to: Side::Held, quantities: held.quantities() }]
}

fn closing(held: &Held, ending: &Ending) -> Vec<Entry> {
    let reserved = held.quantities();
    let used = ending.used();
    let inside = used.overlap(&reserved);
    let mut entries = vec![
        Entry { from: Side::Held, to: Side::Earned, quantities: inside },
        Entry { from: Side::Held, to: Side::Payer, quantities: reserved.without(&inside) },
        Entry { from: Side::Payer, to: Side::Earned, quantities: used.without(&inside) },
    ];
    entries.retain(|entry| !entry.quantities.is_zero());
    entries
}

fn check_size(
    request: &RequestId,
    what: &'static str,
    usage: &Usage,
    money: Option<Money>,
) -> Result<(), LedgerError> {
    let too_large = |value: String, limit: String| {
        Err(LedgerError::TooLarge { what: format!("{what} of request {request}"), value, limit })
    };
    for (dimension, tokens) in DIMENSIONS.into_iter().zip(tokens(usage)) {
        if tokens > TOKENS_MAX {
            return too_large(format!("{tokens} of {dimension}"), format!("{TOKENS_MAX}"));
        }
    }
    if usage.reasoning > usage.output {
        return too_large(
            format!("{} reasoning tokens", usage.reasoning),
            format!("the {} output tokens that they are part of", usage.output),
        );
    }
    match money {
        Some(money) if money.entry_pico().is_none() => {
            too_large(format!("{money} USD"), format!("{} USD", Money::from_pico(i64::MAX.into())))
        }
        _ => Ok(()),
    }
}

impl How {
    fn participle(&self) -> &'static str {
        match self {
            How::Settled { .. } => "settled",
            How::Released { .. } => "released",
            How::Saved { .. } => "saved",
            How::Lost { .. } => "expired",
        }
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
