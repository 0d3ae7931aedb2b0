//! In which order are units asked?

use std::time::Duration;

use fleet::{Order, Slo};

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

/// Every round-robin: each set of units, and where our own engine is among them, with limits on it.
pub fn round_robins(units: usize, limits: &[Option<u32>]) -> Vec<Policy> {
    let mut policies = Vec::new();
    for set in 1..1usize << units {
        let units: Vec<_> = (0..units).filter(|unit| set >> unit & 1 == 1).collect();
        let limits = if units.contains(&super::units::OWN) { limits } else { &[None] };
        for &own_limit in limits {
            policies.push(Policy::RoundRobin { units: units.clone(), own_limit });
        }
    }
    policies
}

/// Every static chain by its first two units, the rest as they are listed, with limits on our own engine.
pub fn chains(units: usize, limits: &[Option<u32>]) -> Vec<Policy> {
    let mut policies = Vec::new();
    for first in 0..units {
        for second in (0..units).filter(|&unit| unit != first) {
            let rest = (0..units).filter(|&unit| unit != first && unit != second);
            let chain: Vec<_> = [first, second].into_iter().chain(rest).collect();
            for &own_limit in limits {
                policies.push(Policy::Static { chain: chain.clone(), own_limit });
            }
        }
    }
    policies
}
