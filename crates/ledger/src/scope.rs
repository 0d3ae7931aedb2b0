//! What is a key narrowed to?

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LedgerError;

/// Patterns of one list: enough for every model of a catalogue that somebody picks by hand.
pub const PATTERNS_MAX: usize = 64;
/// Characters of a pattern: hub ids are long.
pub const PATTERN_CHARACTERS_MAX: usize = 200;

/// A name, or the beginning of names: `gpt-5*`. The star stands only at the end, so it can be compared without surprises.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// What a key may be used for. `None` is everything; an empty list is refused, because it would be a key for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scopes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Pattern>>,
    /// Paths: `/v1/chat/completions`, `/v1/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Pattern>>,
    /// Where answers come from: `local` is this server's own engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Pattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<Pattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tiers: Option<Vec<Pattern>>,
}

/// The lists of a scope, by the word that refusals use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeKind {
    Model,
    Endpoint,
    Route,
    Region,
    ServiceTier,
}

impl ScopeKind {
    pub const ALL: [ScopeKind; 5] =
        [Self::Model, Self::Endpoint, Self::Route, Self::Region, Self::ServiceTier];
}

impl Scopes {
    pub const EVERYTHING: Scopes =
        Scopes { models: None, endpoints: None, routes: None, regions: None, service_tiers: None };

    pub fn list(&self, kind: ScopeKind) -> Option<&[Pattern]> {
        match kind {
            ScopeKind::Model => self.models.as_deref(),
            ScopeKind::Endpoint => self.endpoints.as_deref(),
            ScopeKind::Route => self.routes.as_deref(),
            ScopeKind::Region => self.regions.as_deref(),
            ScopeKind::ServiceTier => self.service_tiers.as_deref(),
        }
    }

    /// Whether a key with these scopes may be used for this name.
    pub fn allow(&self, kind: ScopeKind, name: &str) -> bool {
        self.list(kind).is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
    }

    /// Returns the list in which these scopes reach further than `other`, if there is one. Whoever makes a key cannot give
    /// away more than it has.
    pub fn beyond(&self, other: &Scopes) -> Option<ScopeKind> {
        ScopeKind::ALL.into_iter().find(|kind| match (self.list(*kind), other.list(*kind)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(mine), Some(theirs)) => {
                !mine.iter().all(|pattern| theirs.iter().any(|wider| wider.covers(pattern)))
            }
        })
    }

    /// Refuses lists that say nothing, or too much.
    pub fn check(&self) -> Result<(), LedgerError> {
        for kind in ScopeKind::ALL {
            let Some(patterns) = self.list(kind) else { continue };
            let bad = |why: String| LedgerError::BadScope { scope: kind.word(), why };
            if patterns.is_empty() {
                return Err(bad(
                    "the list is empty, so the key would open nothing; leave it out to allow all".into(),
                ));
            }
            if patterns.len() > PATTERNS_MAX {
                return Err(bad(format!(
                    "the list has {} patterns; at most {PATTERNS_MAX} are allowed",
                    patterns.len()
                )));
            }
            patterns.iter().try_for_each(Pattern::check).map_err(bad)?;
        }
        Ok(())
    }
}

impl ScopeKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Endpoint => "endpoints",
            Self::Route => "routes",
            Self::Region => "regions",
            Self::ServiceTier => "service_tiers",
        }
    }
}

impl Pattern {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.0,
        }
    }

    /// Whether every name that `other` matches is matched by this one.
    fn covers(&self, other: &Pattern) -> bool {
        match (self.0.strip_suffix('*'), other.0.strip_suffix('*')) {
            (Some(wide), Some(narrow)) => narrow.starts_with(wide),
            (None, Some(_)) => false,
            (_, None) => self.matches(&other.0),
        }
    }

    fn check(&self) -> Result<(), String> {
        let text = &self.0;
        if text.is_empty() {
            return Err("a pattern is empty; write a name, or * for all".into());
        }
        if text.chars().count() > PATTERN_CHARACTERS_MAX {
            return Err(format!("a pattern is longer than {PATTERN_CHARACTERS_MAX} characters"));
        }
        if text.chars().any(char::is_control) {
            return Err("a pattern has a control character".into());
        }
        match text.find('*') {
            Some(place) if place + 1 < text.len() => {
                Err(format!("{text:?}: the star may stand only at the end"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(patterns: &[&str]) -> Scopes {
        let patterns = patterns.iter().map(|pattern| Pattern::new(*pattern)).collect();
        Scopes { models: Some(patterns), ..Scopes::EVERYTHING }
    }

    #[test]
    fn a_star_at_the_end_stands_for_any_rest() {
        let scopes = models(&["main", "gpt-5*"]);
        for (name, expected) in
            [("main", true), ("main2", false), ("gpt-5", true), ("gpt-5-mini", true), ("gpt-4", false)]
        {
            assert_eq!(scopes.allow(ScopeKind::Model, name), expected, "{name}");
        }
        assert!(scopes.allow(ScopeKind::Endpoint, "/v1/models"), "what is not narrowed is open");
        assert!(models(&["*"]).allow(ScopeKind::Model, "anything"));
    }

    #[test]
    fn nobody_gives_away_more_than_it_has() {
        let beyond = |mine: &Scopes, theirs: &Scopes| mine.beyond(theirs);
        assert_eq!(beyond(&models(&["a"]), &Scopes::EVERYTHING), None);
        assert_eq!(beyond(&models(&["a*"]), &models(&["*"])), None);
        assert_eq!(beyond(&models(&["ab", "ac*"]), &models(&["a*"])), None);
        assert_eq!(beyond(&Scopes::EVERYTHING, &models(&["a*"])), Some(ScopeKind::Model));
        assert_eq!(beyond(&models(&["a*"]), &models(&["a"])), Some(ScopeKind::Model));
        assert_eq!(beyond(&models(&["a", "b"]), &models(&["a"])), Some(ScopeKind::Model));
    }

    #[test]
    fn a_list_that_means_nothing_is_refused_by_name() {
        for (patterns, why) in [
            (&[][..], "the list is empty"),
            (&[""], "a pattern is empty"),
            (&["a*b"], "only at the end"),
            (&["a\n"], "control character"),
        ] {
            let error = models(patterns).check().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("models"), "{error}");
        }
        let many = vec!["x"; PATTERNS_MAX + 1];
        assert!(models(&many).check().is_err());
        assert!(models(&["gpt-5*", "main"]).check().is_ok());
    }
}
