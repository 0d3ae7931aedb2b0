//! Which piece of an agent's work does a request belong to? A path, as an account is one.

use std::fmt;
use std::sync::Arc;

/// `run-42/plan/search`: at most [`TaskPath::DEPTH_MAX`] segments, each of 1 to 64 of the characters `A-Z a-z 0-9 . _ @ + -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskPath(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskPathError {
    #[error("a task has at most {} levels; {0:?} has {1}", TaskPath::DEPTH_MAX)]
    TooDeep(String, usize),
    #[error("the level {0:?} of a task is not 1 to 64 of the characters A-Z a-z 0-9 . _ @ + -")]
    Segment(String),
}

impl TaskPath {
    pub const DEPTH_MAX: usize = 16;

    pub fn parse(path: &str) -> Result<Self, TaskPathError> {
        let depth = path.split('/').count();
        if depth > Self::DEPTH_MAX {
            return Err(TaskPathError::TooDeep(path.to_owned(), depth));
        }
        match path.split('/').find(|segment| !is_segment(segment)) {
            None => Ok(Self(path.into())),
            Some(segment) => Err(TaskPathError::Segment(segment.to_owned())),
        }
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Returns the first segment: the whole task that this is a part of.
    pub fn root(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
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

fn is_segment(segment: &str) -> bool {
    (1..=64).contains(&segment.len())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
}
