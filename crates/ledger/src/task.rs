//! How is an agent's task named, so that its place in the tree is in its name?
//!
//! A task is a path, `acme/run-42/plan/search`: the organisation that pays, the run, and each step or sub-agent inside. What a
//! task is inside of are the prefixes of its path, so a limit on `acme/run-42` covers the whole tree without a join; and nobody
//! can name a task of another organisation, because the door writes the first segment itself.

mod record;
mod tree;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use record::{NewTask, TaskChange, TaskDeed, TaskQuery, TaskRecord, TaskState, TaskSums};
pub use tree::{TaskNode, TaskRow};

/// 1 to [`TaskPath::DEPTH_MAX`] segments, each of 1 to [`TaskPath::SEGMENT_BYTES_MAX`] of `A-Z a-z 0-9 . _ @ + -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskPath(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskPathError {
    #[error("a task's path must not be empty, nor any part of it between two slashes")]
    Empty,
    #[error("the task's path has {0} segments; at most {max} nest", max = TaskPath::DEPTH_MAX)]
    TooDeep(usize),
    #[error(
        "{0:?} is no name for a task: a segment has 1 to {max} of A-Z a-z 0-9 . _ @ + -",
        max = TaskPath::SEGMENT_BYTES_MAX
    )]
    Segment(String),
}

impl TryFrom<String> for TaskPath {
    type Error = TaskPathError;
    fn try_from(path: String) -> Result<Self, TaskPathError> {
        Self::parse(&path)
    }
}

impl From<TaskPath> for String {
    fn from(path: TaskPath) -> String {
        path.0.as_ref().to_owned()
    }
}

impl TaskPath {
    /// Deeper than any agent nests on purpose; a tree that is deeper is a runaway recursion.
    pub const DEPTH_MAX: usize = 16;
    /// A UUID has 36, a trace id 32.
    pub const SEGMENT_BYTES_MAX: usize = 64;

    /// Returns the path as it is written, or what about it is no path.
    pub fn parse(path: &str) -> Result<Self, TaskPathError> {
        let depth = path.split('/').count();
        if depth > Self::DEPTH_MAX {
            return Err(TaskPathError::TooDeep(depth));
        }
        path.split('/').try_for_each(check)?;
        Ok(Self(path.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
    pub fn depth(&self) -> usize {
        self.segments().count()
    }
    /// Returns the organisation and the run: the whole tree that this is a part of.
    pub fn root(&self) -> &str {
        self.first(2)
    }
    /// Returns the task that this one is directly inside of.
    pub fn parent(&self) -> Option<TaskPath> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }
    pub fn leaf(&self) -> &str {
        self.0.rsplit('/').next().expect("a path has at least one segment")
    }
    /// Returns the path's first `depth` segments, or all of it.
    pub fn top(&self, depth: usize) -> TaskPath {
        Self(self.first(depth).into())
    }
    /// Returns the path itself and everything that it is inside of, the outermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = TaskPath> {
        (1..=self.depth()).map(|depth| self.top(depth))
    }
    /// Whether this is `other` or inside of it.
    pub fn is_within(&self, other: &TaskPath) -> bool {
        self.0.strip_prefix(other.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
    /// Returns what stands at this path inside of this task.
    pub fn child(&self, path: &str) -> Result<TaskPath, TaskPathError> {
        Self::parse(&format!("{}/{path}", self.0))
    }

    fn first(&self, depth: usize) -> &str {
        let end = self.0.match_indices('/').nth(depth.max(1) - 1).map_or(self.0.len(), |(end, _)| end);
        &self.0[..end]
    }
}

impl fmt::Display for TaskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TaskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

fn check(segment: &str) -> Result<(), TaskPathError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    if segment.is_empty() {
        return Err(TaskPathError::Empty);
    }
    // A dot alone, or two, would be another place to whatever takes the path for a file's or a URL's.
    let is_place = segment == "." || segment == "..";
    if segment.len() > TaskPath::SEGMENT_BYTES_MAX || is_place || !segment.bytes().all(is_allowed) {
        return Err(TaskPathError::Segment(segment.chars().take(TaskPath::SEGMENT_BYTES_MAX + 1).collect()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> TaskPath {
        TaskPath::parse(path).unwrap()
    }

    #[test]
    fn a_path_says_where_it_stands() {
        let search = path("acme/run-42/plan/search");
        assert_eq!((search.leaf(), search.root()), ("search", "acme/run-42"));
        assert_eq!(search.parent(), Some(path("acme/run-42/plan")));
        assert_eq!(search.top(2), path("acme/run-42"));
        assert_eq!(search.top(9), search);
        let ancestors: Vec<String> = search.ancestors().map(|task| task.to_string()).collect();
        assert_eq!(ancestors, ["acme", "acme/run-42", "acme/run-42/plan", "acme/run-42/plan/search"]);
        assert_eq!((path("acme").parent(), path("acme").root()), (None, "acme"));
    }

    #[test]
    fn a_name_that_only_begins_alike_is_not_inside() {
        assert!(path("acme/run-42/plan").is_within(&path("acme/run-42")));
        assert!(path("acme/run-42").is_within(&path("acme/run-42")));
        assert!(!path("acme/run-421").is_within(&path("acme/run-42")));
        assert!(!path("acme/run-4").is_within(&path("acme/run-42")));
    }

    #[test]
    fn what_is_no_path_is_refused_by_name() {
        let refused = |path: &str| TaskPath::parse(path).unwrap_err().to_string();
        assert!(refused("").contains("must not be empty"));
        assert!(refused("acme//plan").contains("must not be empty"));
        assert!(refused("acme/run 42").contains("\"run 42\""));
        assert!(refused("acme/..").contains("\"..\""));
        assert!(refused(&"x".repeat(65)).contains("1 to 64"));
        assert!(refused(&["a"; 17].join("/")).contains("17 segments"));
        assert_eq!(path(&["a"; 16].join("/")).depth(), 16);
    }
}
