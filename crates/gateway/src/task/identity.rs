//! Which task does a request belong to, by its own word or by the words that other tools already send?
//!
//! The first convention of [`CONVENTIONS`] that a request follows decides; those below are not looked at. Our own header is
//! taken as written or refused by name. All others were not written for us: what is no name for a task is made one, so that
//! no client is refused for a header that somebody else asked of it.
//!
//! Pure: headers and labels in, a path out.

use dialect::{BadRequest, Labels};
use domain::Account;
use http::HeaderMap;
use ledger::TaskPath;

/// A task, as one request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub path: TaskPath,
    /// Where the name was found: for people who wonder.
    pub found_in: &'static str,
    /// It was written for us, so a mistake in it is told instead of worked around.
    pub is_ours: bool,
}

/// One way in which requests say where they belong.
struct Convention {
    root: Place,
    /// What stands inside the root, the outer one first.
    inside: &'static [Place],
    /// What the root is inside of.
    parent: Option<Place>,
    reading: Reading,
}

#[derive(Clone, Copy)]
enum Place {
    Header(&'static str),
    /// A field of the body, as `metadata.task`.
    Body(&'static str),
}

#[derive(Clone, Copy)]
enum Reading {
    /// A path of ours: refused unless well formed.
    Ours,
    /// A name, or several with slashes between.
    Path,
    /// LangSmith's dotted order: the first run names the trace.
    Dotted,
    /// W3C trace context: the trace is the task; the span says nothing that lasts longer than a call.
    TraceParent,
}

use Place::{Body, Header};

const OUR_TASK: &str = "x-baseload-task";
const OUR_PARENT: &str = "x-baseload-parent-task";

/// In order of precedence: ours, then what names one agent, then what names a session, then what names any trace.
const CONVENTIONS: &[Convention] = &[
    Convention { reading: Reading::Ours, ..root(Header(OUR_TASK)).within(Header(OUR_PARENT)) },
    root(Body("metadata.task")).within(Body("metadata.parent_task")),
    root(Header("x-dynamo-session-id")).within(Header("x-dynamo-parent-session-id")),
    // Claude Code names its sub-agents inside the session.
    root(Header("x-claude-code-session-id"))
        .then(&[Header("x-claude-code-parent-agent-id"), Header("x-claude-code-agent-id")]),
    // Codex: a thread, and the thread that spawned it; older versions send only a session.
    root(Header("thread-id")).within(Header("x-codex-parent-thread-id")),
    root(Header("session-id")),
    root(Header("session_id")),
    root(Header("x-opencode-session")).within(Header("x-parent-session-id")),
    root(Header("x-session-id")).within(Header("x-parent-session-id")),
    root(Header("x-session-affinity")).within(Header("x-parent-session-id")),
    root(Header("helicone-session-id")).then(&[Header("helicone-session-path")]),
    root(Header("x-litellm-trace-id")),
    root(Header("x-litellm-session-id")),
    root(Body("litellm_session_id")),
    root(Body("litellm_trace_id")),
    root(Header("x-portkey-trace-id")),
    root(Header("langfuse_session_id")),
    root(Header("langfuse_trace_id")),
    root(Body("metadata.session_id")),
    root(Body("session_id")),
    Convention { reading: Reading::Dotted, ..root(Header("langsmith-trace")) },
    Convention { reading: Reading::TraceParent, ..root(Header("traceparent")) },
];

/// Returns the task that the request names for this account, or what about its name is wrong.
pub fn identify(
    account: &Account,
    headers: &HeaderMap,
    labels: &Labels,
) -> Result<Option<Named>, BadRequest> {
    let said = Said { headers, labels };
    if said.at(Header(OUR_TASK))?.is_none() && said.at(Header(OUR_PARENT))?.is_some() {
        let message =
            format!("the header {OUR_PARENT} says what a task is inside of; name the task in {OUR_TASK}");
        return Err(bad(OUR_PARENT, message));
    }
    for convention in CONVENTIONS {
        if let Some(path) = convention.read(&said)? {
            let path = within_organisation(account, path, convention.reading)?;
            let is_ours = matches!(convention.reading, Reading::Ours);
            return Ok(Some(Named { path, found_in: convention.root.name(), is_ours }));
        }
    }
    Ok(None)
}

impl Named {
    /// Returns another task for this account, where the named one belongs to somebody else: a trace may well pass through
    /// several teams, and each pays for its own part.
    pub fn beside(&self, account: &Account) -> TaskPath {
        let mark = short_hash(account.as_str());
        let mut segments: Vec<String> = self.path.segments().map(str::to_owned).collect();
        let run = &mut segments[1];
        run.truncate(TaskPath::SEGMENT_BYTES_MAX - mark.len() - 1);
        *run = format!("{run}+{mark}");
        TaskPath::parse(&segments.join("/")).expect("a shortened name with a mark is a name")
    }
}

/// A path's segments below the organisation.
type Segments = Vec<String>;

const fn root(root: Place) -> Convention {
    Convention { root, inside: &[], parent: None, reading: Reading::Path }
}

impl Convention {
    const fn within(self, parent: Place) -> Self {
        Self { parent: Some(parent), ..self }
    }
    const fn then(self, inside: &'static [Place]) -> Self {
        Self { inside, ..self }
    }

    /// Returns what the request says in this way, if it speaks so.
    fn read(&self, said: &Said<'_>) -> Result<Option<Segments>, BadRequest> {
        let Some(root) = said.at(self.root)? else { return Ok(None) };
        let mut path = self.segments(&root);
        for inner in self.inside {
            path.extend(said.at(*inner)?.map(|inner| self.segments(&inner)).unwrap_or_default());
        }
        if let Some(parent) = self.parent.map(|parent| said.at(parent)).transpose()?.flatten() {
            let parent = self.segments(&parent);
            if !path.starts_with(&parent) {
                path.splice(0..0, parent);
            }
        }
        Ok((!path.is_empty()).then_some(path))
    }

    fn segments(&self, said: &str) -> Segments {
        let names =
            |text: &str| text.split('/').filter(|name| !name.trim().is_empty()).map(cleaned).collect();
        match self.reading {
            Reading::Ours => said.split('/').map(str::to_owned).collect(),
            Reading::Path => names(said),
            Reading::Dotted => said.split('.').next().map(names).unwrap_or_default(),
            Reading::TraceParent => {
                trace_id(said).map(|trace| vec![format!("trace-{trace}")]).unwrap_or_default()
            }
        }
    }
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Header(name) | Body(name) => name,
        }
    }
}

/// What a request says of itself.
struct Said<'a> {
    headers: &'a HeaderMap,
    labels: &'a Labels,
}

impl Said<'_> {
    /// Returns what stands there; nothing for what is empty, or not text unless we have asked for it.
    fn at(&self, place: Place) -> Result<Option<String>, BadRequest> {
        let text = match place {
            Body(name) => self.labels.get(name).map(str::to_owned),
            Header(name) => match self.headers.get(name).map(|value| value.to_str()) {
                Some(Ok(text)) => Some(text.to_owned()),
                Some(Err(_)) if name.starts_with("x-baseload-") => {
                    return Err(bad(name, format!("the header {name} has other characters than ASCII")));
                }
                _ => None,
            },
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
}

/// The organisation stands first, whatever the client wrote: so nobody can name the task of another one.
fn within_organisation(account: &Account, path: Segments, reading: Reading) -> Result<TaskPath, BadRequest> {
    let organisation = account.as_str().split('/').next().unwrap_or_default();
    let mut segments = vec![cleaned(organisation)];
    segments.extend(path);
    if !matches!(reading, Reading::Ours) {
        segments.truncate(TaskPath::DEPTH_MAX);
    }
    TaskPath::parse(&segments.join("/")).map_err(|error| bad(OUR_TASK, format!("{OUR_TASK}: {error}")))
}

/// Returns the name as it is, or the nearest thing that is one, with a mark so that two different names stay two.
fn cleaned(name: &str) -> String {
    let name = name.trim();
    if TaskPath::parse(name).is_ok() {
        return name.to_owned();
    }
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._@+-".contains(c) { c } else { '-' };
    let mark = short_hash(name);
    let start: String =
        name.chars().map(allowed).take(TaskPath::SEGMENT_BYTES_MAX - mark.len() - 1).collect();
    format!("{start}-{mark}")
}

/// `00-<trace: 32 hex>-<span: 16 hex>-<flags>`; a trace of zeros is none.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_well_formed = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(span, 16);
    (is_well_formed && trace.bytes().any(|digit| digit != b'0')).then_some(trace)
}

/// FNV-1a: the same in every process and release. A collision joins two tasks of one organisation, and no more than that.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

fn bad(place: &str, message: String) -> BadRequest {
    BadRequest::new(message).at(place).code("invalid_task")
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
