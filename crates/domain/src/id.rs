//! How things are named: requests, models, accounts, tenants, tokens.

/// A token's place in a model's vocabulary.
pub type TokenId = u32;

/// Makes a type for one kind of name: a text that is cheap to clone and is not taken for a name of another kind. The crate that
/// uses it depends on serde.
#[macro_export]
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(::std::sync::Arc<str>);

        impl $name {
            pub fn new(name: impl Into<::std::sync::Arc<str>>) -> Self {
                Self(name.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(&self.0)
            }
        }
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

name! {
    /// One request's name, the same in logs, ledger, events and the `x-request-id` header.
    RequestId
}
name! {
    /// The name a client writes into `model`.
    ModelName
}
name! {
    /// Who pays: the ledger's account.
    Account
}
name! {
    /// Who produced the tokens: `local` for our own engine, else the vendor's name in the catalogue, such as `openai`.
    Provider
}
name! {
    /// Where a request was processed, as its provider writes it: `eu`, `us-east-1`.
    Region
}
name! {
    /// Whose cache entries may be seen and whose queue is served: the unit of isolation and fairness.
    Tenant
}

impl RequestId {
    /// Returns `req-` and 32 hexadecimal digits of the random number that the caller drew.
    pub fn from_random(random: u128) -> Self {
        Self::new(format!("req-{random:032x}"))
    }

    /// Returns one that begins with its time, as UUID version 7 does (RFC 9562), and has 80 random bits. Ids that follow each other are
    /// then neighbours in an index, and a thousand requests are booked on a few of its pages instead of on a thousand.
    pub fn at(unix_millis: u64, random: u128) -> Self {
        const RANDOM_BITS: u32 = 80;
        Self::from_random(u128::from(unix_millis) << RANDOM_BITS | random >> (128 - RANDOM_BITS))
    }
}

impl Provider {
    pub const LOCAL: &'static str = "local";

    pub fn local() -> Self {
        Self::new(Self::LOCAL)
    }
    pub fn is_local(&self) -> bool {
        self.as_str() == Self::LOCAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_times_and_differ_within_one() {
        let early = RequestId::at(0x0123_4567_89ab, u128::MAX);
        let late = RequestId::at(0x0123_4567_89ac, 0);
        assert_eq!(early.as_str(), "req-0123456789abffffffffffffffffffff");
        assert_eq!(late.as_str(), "req-0123456789ac00000000000000000000");
        assert!(early.as_str() < late.as_str());
        assert_ne!(RequestId::at(1, 1 << 127), RequestId::at(1, 1 << 48));
    }
}
