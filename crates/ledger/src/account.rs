//! How is an account named, and what is known of it?
//!
//! Accounts are paths, `acme/research/chatbot/alice`. What lies above an account are the prefixes of its name, so nothing
//! needs to be joined to find them.

use std::fmt;
use std::str::FromStr;

use domain::Account;

use crate::{LedgerError, Timestamp};

/// The root of the tree. Keys of operators belong to it; nothing is ever booked to it, and no path can be written like it.
pub const ROOT: &str = "/";

/// Segments of a path: organisation, team, app, user, and as many again for those who organise finer.
pub const ACCOUNT_SEGMENTS_MAX: usize = 8;
/// Bytes of a segment: a mail address of usual length fits.
pub const SEGMENT_BYTES_MAX: usize = 64;
/// Characters of a display name or a cost centre.
pub const LABEL_CHARACTERS_MAX: usize = 200;

/// What stands behind an account. It says nothing of its place: a team may lie in a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountKind {
    Organisation,
    Team,
    App,
    User,
    Service,
}

/// An account as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    pub account: Account,
    /// `None` for an account that nobody described: requests were booked to it, or a key was made for it.
    pub kind: Option<AccountKind>,
    pub display_name: Option<String>,
    pub cost_centre: Option<String>,
    /// `None` for one that nobody described.
    pub created_at: Option<Timestamp>,
    /// A closed account, and all below it, is served no more; what was booked stays.
    pub closed_at: Option<Timestamp>,
}

/// What is needed to make an account, or to describe one that requests were only booked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    pub account: Account,
    pub kind: AccountKind,
    pub display_name: Option<String>,
    pub cost_centre: Option<String>,
    pub at: Timestamp,
}

/// What changes of an account; `None` leaves it, `Some(None)` takes it away. Its path never changes: it is in the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    pub kind: Option<AccountKind>,
    pub display_name: Option<Option<String>>,
    pub cost_centre: Option<Option<String>>,
}

/// Which accounts, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountQuery {
    /// This account and what lies below it; `None` is the whole tree.
    pub within: Option<Account>,
    /// Only those whose names come after this one.
    pub after: Option<Account>,
    pub limit: usize,
    pub with_closed: bool,
}

/// Returns the account with this path, or what is wrong with the path.
pub fn account(path: &str) -> Result<Account, LedgerError> {
    check_path(path).map_err(|why| LedgerError::BadAccount { path: shortened(path), why })?;
    Ok(Account::new(path))
}

/// Returns what lies above the account, nearest first: `a/b/c` has `a/b` and `a`. The root is not among them.
pub fn ancestors(account: &Account) -> impl Iterator<Item = Account> {
    let path = account.as_str();
    path.rmatch_indices('/')
        .map(move |(end, _)| Account::new(&path[..end]))
        .filter(|above| !above.as_str().is_empty())
}

/// Whether the account is `top` or lies below it.
pub fn is_within(account: &Account, top: &Account) -> bool {
    let (account, top) = (account.as_str(), top.as_str());
    top == ROOT || account.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the account lies below `top` and is not `top` itself.
pub fn is_below(account: &Account, top: &Account) -> bool {
    account != top && is_within(account, top)
}

fn check_path(path: &str) -> Result<(), String> {
    let segments: Vec<&str> = path.split('/').collect();
    if segments.len() > ACCOUNT_SEGMENTS_MAX {
        let segments = segments.len();
        return Err(format!("it has {segments} segments; at most {ACCOUNT_SEGMENTS_MAX} are allowed"));
    }
    segments.iter().try_for_each(|segment| check_segment(segment))
}

/// A name or a cost centre is read by people, in one line.
pub(crate) fn check_label(what: &'static str, label: &str) -> Result<(), LedgerError> {
    let why = if label.trim().is_empty() {
        "it is empty".to_owned()
    } else if label.chars().count() > LABEL_CHARACTERS_MAX {
        format!("it is longer than {LABEL_CHARACTERS_MAX} characters")
    } else if label.chars().any(char::is_control) {
        "it has a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(LedgerError::BadLabel { what, why })
}

impl NewAccount {
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        account(self.account.as_str())?;
        check_labels(self.display_name.as_deref(), self.cost_centre.as_deref())
    }
}

impl AccountChange {
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        fn text(change: &Option<Option<String>>) -> Option<&str> {
            change.as_ref()?.as_deref()
        }
        check_labels(text(&self.display_name), text(&self.cost_centre))
    }

    /// Returns the record with what changes.
    pub(crate) fn applied_to(&self, record: &AccountRecord) -> AccountRecord {
        AccountRecord {
            kind: self.kind.or(record.kind),
            display_name: self.display_name.clone().unwrap_or_else(|| record.display_name.clone()),
            cost_centre: self.cost_centre.clone().unwrap_or_else(|| record.cost_centre.clone()),
            ..record.clone()
        }
    }
}

impl AccountKind {
    pub const ALL: [AccountKind; 5] = [Self::Organisation, Self::Team, Self::App, Self::User, Self::Service];

    /// Returns what usually stands at this depth, for accounts that nobody described.
    pub fn usual_at(account: &Account) -> AccountKind {
        let depth = account.as_str().matches('/').count();
        [Self::Organisation, Self::Team, Self::App].get(depth).copied().unwrap_or(Self::User)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::App => "app",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for AccountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for AccountKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
            format!("{word:?} is no kind of account; it is organisation, team, app, user or service")
        })
    }
}

fn check_labels(display_name: Option<&str>, cost_centre: Option<&str>) -> Result<(), LedgerError> {
    display_name.map_or(Ok(()), |name| check_label("display name", name))?;
    cost_centre.map_or(Ok(()), |centre| check_label("cost centre", centre))
}

fn check_segment(segment: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    if segment.is_empty() {
        return Err("a segment is empty; write a/b, without a slash at either end".to_owned());
    }
    if segment.len() > SEGMENT_BYTES_MAX {
        return Err(format!(
            "a segment has {} bytes; at most {SEGMENT_BYTES_MAX} are allowed",
            segment.len()
        ));
    }
    match segment.chars().find(|c| !is_allowed(*c)) {
        Some(wrong) => Err(format!("{wrong:?} is not allowed; letters, digits and . _ @ + - are")),
        None => Ok(()),
    }
}

/// What a stranger wrote is repeated up to here.
fn shortened(path: &str) -> String {
    path.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(accounts: impl Iterator<Item = Account>) -> Vec<String> {
        accounts.map(|account| account.to_string()).collect()
    }

    #[test]
    fn a_path_is_segments_of_few_characters() {
        for good in ["acme", "acme/research/chatbot/alice@example.org", "a/b/c/d/e/f/g/h", "A-1_b.c+d"] {
            assert_eq!(account(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(65);
        for (bad, why) in [
            ("", "a segment is empty"),
            ("/", "a segment is empty"),
            ("acme/", "a segment is empty"),
            ("/acme", "a segment is empty"),
            ("a//b", "a segment is empty"),
            ("a b", "' ' is not allowed"),
            ("a/ü", "'ü' is not allowed"),
            ("a/b/c/d/e/f/g/h/i", "9 segments; at most 8"),
            (long.as_str(), "65 bytes; at most 64"),
        ] {
            let error = account(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad:?}: {error}");
        }
    }

    #[test]
    fn above_an_account_are_its_prefixes() {
        assert_eq!(names(ancestors(&"a/b/c".into())), ["a/b", "a"]);
        assert_eq!(names(ancestors(&"local".into())), [""; 0]);
        assert_eq!(names(ancestors(&ROOT.into())), [""; 0]);
    }

    #[test]
    fn a_subtree_ends_at_whole_segments() {
        for (inside, top, expected) in [
            ("acme", "acme", true),
            ("acme/research", "acme", true),
            ("acme-evil", "acme", false),
            ("acme", "acme/research", false),
            ("acme/research2", "acme/research", false),
            ("anything", ROOT, true),
            (ROOT, ROOT, true),
            (ROOT, "acme", false),
        ] {
            assert_eq!(is_within(&inside.into(), &top.into()), expected, "{inside} in {top}");
        }
        assert!(!is_below(&"acme".into(), &"acme".into()) && is_below(&"acme/x".into(), &"acme".into()));
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let record = AccountRecord {
            account: "acme".into(),
            kind: None,
            display_name: Some("Acme".into()),
            cost_centre: Some("K-1".into()),
            created_at: None,
            closed_at: None,
        };
        let change = AccountChange { cost_centre: Some(None), ..AccountChange::default() };
        let changed = change.applied_to(&record);
        assert_eq!((changed.display_name.as_deref(), changed.cost_centre), (Some("Acme"), None));
        let line_break =
            AccountChange { display_name: Some(Some("a\nb".into())), ..AccountChange::default() };
        assert!(line_break.check().unwrap_err().to_string().contains("control character"));
    }
}
