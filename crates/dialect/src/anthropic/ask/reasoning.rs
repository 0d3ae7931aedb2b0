//! How is a wish for reasoning told to a model of its generation?
//!
//! ```text
//!                     up to 4.5, and others' models       4.6                       from 4.7 on
//! budget              that budget                         that budget               the effort that it is near
//! effort              a budget for that effort            that effort               that effort
//! none of both        a budget for `medium`               adaptive                  adaptive
//! `none`, budget 0    disabled                            disabled                  disabled
//! ```
//!
//! A budget is at most: it is lowered to fit below `max_tokens`, and what is then below Anthropic's least is no thinking. Nor is
//! there any beside a forced call, which these models refuse. An effort is a hint, and bound by the same.

use serde::Serialize;

use domain::ReasoningWish;

use crate::Untellable;
use crate::anthropic::blocks::untellable;
use crate::anthropic::model::Model;

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Thinking {
    Enabled {
        budget_tokens: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Disabled,
}

/// Anthropic's least.
const BUDGET_MIN: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

/// Returns how to think, and with which effort.
pub(super) fn think(
    wish: Option<&ReasoningWish>,
    model: Model,
    max_tokens: u32,
    is_forced: bool,
) -> Result<(Option<Thinking>, Option<&'static str>), Untellable> {
    let Some(wish) = wish else {
        return Ok((None, None));
    };
    if wish.effort.as_deref() == Some("none") || wish.budget_tokens == Some(0) {
        return Ok((Some(Thinking::Disabled), None));
    }
    let effort = wish.effort.as_deref().map(Effort::named).transpose()?;
    // Any summary is the one there is.
    let display = wish.summary.as_ref().map(|_| "summarized");
    let by_effort = model.takes_effort() && (effort.is_some() || wish.budget_tokens.is_none());
    if by_effort || !model.takes_budget() {
        let effort = effort.or(wish.budget_tokens.map(Effort::near));
        return Ok((Some(Thinking::Adaptive { display }), effort.map(|effort| effort.word(model))));
    }
    let budget_tokens = wish.budget_tokens.unwrap_or_else(|| effort.unwrap_or(Effort::Medium).budget());
    let budget_tokens = budget_tokens.min(max_tokens.saturating_sub(1));
    match budget_tokens < BUDGET_MIN || is_forced {
        true => Ok((Some(Thinking::Disabled), None)),
        false => Ok((Some(Thinking::Enabled { budget_tokens, display }), None)),
    }
}

impl Effort {
    fn named(name: &str) -> Result<Self, Untellable> {
        match name {
            "minimal" | "low" => Ok(Self::Low),
            "medium" => Ok(Self::Medium),
            "high" => Ok(Self::High),
            "xhigh" => Ok(Self::Xhigh),
            "max" => Ok(Self::Max),
            _ => Err(untellable("reasoning_effort", "it knows none, low, medium, high, xhigh and max")),
        }
    }

    fn word(self, model: Model) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::Xhigh if model.takes_xhigh() => "xhigh",
            Self::High | Self::Xhigh => "high",
            Self::Max => "max",
        }
    }

    /// The tokens that an effort is worth where only tokens are understood; the other way round in [`Effort::near`].
    fn budget(self) -> u32 {
        match self {
            Self::Low => 2_048,
            Self::Medium => 8_192,
            Self::High => 16_384,
            Self::Xhigh => 24_576,
            Self::Max => 32_000,
        }
    }

    fn near(budget_tokens: u32) -> Self {
        let efforts = [Self::Low, Self::Medium, Self::High];
        let enough = efforts.into_iter().find(|effort| budget_tokens <= effort.budget());
        enough.unwrap_or(Self::High)
    }
}
