//! In which order are units asked?

use std::time::Duration;

use fleet::{Order, Slo};

use super::units::{OWN, Supply};

/// Every policy has the same hard filters, breakers, retries and timeouts: only the order differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// The cheapest that meets the SLO with this probability.
    Merit { probability: f64 },
    /// Always this chain; the next one only where the one before cannot.
    Static { chain: Vec<usize>, own_limit: Option<u32> },
    /// One after the other among these.
    RoundRobin { units: Vec<usize>, own_limit: Option<u32> },
}

impl Policy {
    pub fn order(&self) -> Order {
        match self {
            Self::Merit { .. } => Order::Cost,
            Self::Static { .. } | Self::RoundRobin { .. } => Order::Listed,
        }
    }

    /// What a decision is told of the SLO.
    pub fn slo(&self, slo: Slo) -> Option<Slo> {
        match self {
            Self::Merit { probability } => Some(Slo { probability: *probability, ..slo }),
            Self::Static { .. } | Self::RoundRobin { .. } => None,
        }
    }

    /// How many requests at once our own engine may be given.
    pub fn own_limit(&self) -> Option<u32> {
        match self {
            Self::Merit { .. } => None,
            Self::Static { own_limit, .. } | Self::RoundRobin { own_limit, .. } => *own_limit,
        }
    }

    /// Returns the candidates for the request of that number, in the order in which they are listed.
    pub fn list(&self, request: usize, units: usize) -> Vec<usize> {
        match self {
            Self::Merit { .. } => (0..units).collect(),
            Self::Static { chain, .. } => chain.clone(),
            Self::RoundRobin { units, .. } => {
                let mut list = units.clone();
                list.rotate_left(request % units.len());
                list
            }
        }
    }

    pub fn uses(&self, unit: usize) -> bool {
        match self {
            Self::Merit { .. } => true,
            Self::Static { chain: units, .. } | Self::RoundRobin { units, .. } => units.contains(&unit),
        }
    }

    pub fn name(&self, names: &[&str]) -> String {
        let say = |units: &[usize], separator: &str| {
            units.iter().map(|&unit| names[unit]).collect::<Vec<_>>().join(separator)
        };
        let limited =
            |limit: &Option<u32>| limit.map_or(String::new(), |limit| format!(", own at most {limit}"));
        match self {
            Self::Merit { probability } => format!("merit order, p = {probability}"),
            Self::Static { chain, own_limit } => {
                format!("static: {}{}", say(chain, " → "), limited(own_limit))
            }
            Self::RoundRobin { units, own_limit } => {
                format!("round-robin: {}{}", say(units, ", "), limited(own_limit))
            }
        }
    }
}

/// The first token within a second, and at least 20 a second after it.
pub fn slo() -> Slo {
    Slo {
        ttft: Some(Duration::from_millis(1000)),
        per_token: Some(Duration::from_millis(50)),
        probability: 0.95,
    }
}

/// Every set of units to take turns among, as long as one of them may serve the bound; sets of up to three, in which our own
/// engine's share is large, with limits on it too.
pub fn round_robins(supplies: &[Supply], limits: &[Option<u32>]) -> Vec<Policy> {
    let rule = super::replay::eu_only();
    let mut policies = Vec::new();
    for set in 1..1usize << supplies.len() {
        let units: Vec<_> = (0..supplies.len()).filter(|unit| set >> unit & 1 == 1).collect();
        if !units.iter().any(|&unit| rule.admits(&supplies[unit].unit.jurisdictions)) {
            continue;
        }
        let limits = if units.contains(&OWN) && units.len() <= 3 { limits } else { &[None] };
        for &own_limit in limits {
            policies.push(Policy::RoundRobin { units: units.clone(), own_limit });
        }
    }
    policies
}

/// Chains that somebody would write: our own engine first with each limit on it, and each other second; or each other first
/// and our own engine second. The rest follow as they are listed, which is by price.
pub fn chains(units: usize, limits: &[Option<u32>]) -> Vec<Policy> {
    let chain = |first: usize, second: usize, own_limit: Option<u32>| {
        let rest = (0..units).filter(|&unit| unit != first && unit != second);
        Policy::Static { chain: [first, second].into_iter().chain(rest).collect(), own_limit }
    };
    let others = || (0..units).filter(|&unit| unit != OWN);
    let own_first = others().flat_map(|second| limits.iter().map(move |&limit| chain(OWN, second, limit)));
    own_first.chain(others().map(|first| chain(first, OWN, None))).collect()
}
