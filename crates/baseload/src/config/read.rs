//! What is wrong in a configuration file: all of it at once, each mistake at its line and column?
//!
//! Two passes. The first reads the shape (syntax, unknown fields, wrong types): what cannot be read is noted, taken out, and the
//! rest is read again. The second asks whether what was read can work; it runs only on a file whose shape is right, so that
//! one mistake is never told twice.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Mistakes that are told at once; whoever has more than these reads the first ones first.
const FINDINGS_MAX: usize = 50;

/// One mistake, where a person will look for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}", told(path, findings))]
    Invalid { path: PathBuf, findings: Vec<Finding> },
}

impl ConfigError {
    /// Returns one line for each mistake.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}

fn told(path: &std::path::Path, findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let Finding { line, column, message } = finding;
        format!("{}:{line}:{column}: {message}", path.display())
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Where something stands in a file: `model`, its third, `provider`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Nth(usize),
}

impl At {
    pub fn section(name: &str) -> Self {
        Self(vec![Step::Key(name.to_owned())])
    }

    /// Returns the place of one entry of an array of tables.
    pub fn entry(section: &str, nth: usize) -> Self {
        Self(vec![Step::Key(section.to_owned()), Step::Nth(nth)])
    }

    pub fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    pub fn nth(&self, nth: usize) -> Self {
        self.with(Step::Nth(nth))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// What was found to be unable to work.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<(At, String)>);

impl Mistakes {
    pub fn add(&mut self, at: At, message: impl fmt::Display) {
        self.0.push((at, message.to_string()));
    }

    /// Notes what is wrong, and returns what is right.
    pub fn note<T>(&mut self, at: At, result: Result<T, impl fmt::Display>) -> Option<T> {
        result.map_err(|why| self.add(at, why)).ok()
    }
}

/// Reads a file's text, or finds everything that is wrong with it.
pub fn read<T: DeserializeOwned>(
    text: &str,
    check: impl FnOnce(&T, &mut Mistakes),
) -> Result<T, Vec<Finding>> {
    let document = parse(text)?;
    let value = read_shape(text, document.clone())?;
    let mut mistakes = Mistakes::default();
    check(&value, &mut mistakes);
    let found = mistakes.0.into_iter().map(|(at, why)| finding(text, locate(&document, &at), why));
    sorted(found.collect()).map(|()| value)
}

fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<Finding>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let found = errors.iter().map(|error| finding(text, start(error), error.message().to_owned()));
    sorted(found.collect()).map(|()| document)
}

fn read_shape<T: DeserializeOwned>(text: &str, document: Spanned<DeTable<'_>>) -> Result<T, Vec<Finding>> {
    let mut document = document;
    let (mut found, mut removed): (Vec<Finding>, Vec<Removed>) = (Vec::new(), Vec::new());
    loop {
        let error = match T::deserialize(toml::Deserializer::from(document.clone())) {
            Ok(value) => return sorted(found).map(|()| value),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        // A field that was taken out because it was wrong is not missing.
        let follows = removed.iter().any(|removed| removed.explains(&span, error.message()));
        if !follows {
            found.push(finding(text, span.start, explain(error.message())));
        }
        let table_span = document.span();
        let cut = cut(document.get_mut(), &table_span, &span);
        match cut {
            Some(cut) if found.len() < FINDINGS_MAX => removed.push(cut),
            _ => return Err(sorted(found).err().unwrap_or_default()),
        }
    }
}

/// A field that was taken out, and the table that it was in.
struct Removed {
    table: Range<usize>,
    key: String,
}

impl Removed {
    fn explains(&self, span: &Range<usize>, message: &str) -> bool {
        self.table == *span && message == format!("missing field `{}`", self.key)
    }
}

/// Takes out the smallest thing that holds the span, so that what stands beside it can still be read.
fn cut(table: &mut DeTable<'_>, own: &Range<usize>, span: &Range<usize>) -> Option<Removed> {
    let mut doomed = None;
    for (key, value) in table.iter_mut() {
        if holds(&key.span(), span) {
            doomed = Some(key.clone());
            break;
        }
        let whole = value.span();
        let inside = match value.get_mut() {
            DeValue::Table(inner) => cut(inner, &whole, span),
            DeValue::Array(entries) => {
                let mut inside = None;
                for nth in 0..entries.len() {
                    inside = cut_entry(entries, nth, span);
                    if inside.is_some() {
                        break;
                    }
                }
                inside
            }
            _ => None,
        };
        if inside.is_some() {
            return inside;
        }
        if holds(&whole, span) {
            doomed = Some(key.clone());
            break;
        }
    }
    let key = doomed?;
    table.remove(&key);
    Some(Removed { table: own.clone(), key: key.get_ref().to_string() })
}

fn cut_entry(entries: &mut toml::de::DeArray<'_>, nth: usize, span: &Range<usize>) -> Option<Removed> {
    let entry = entries.get_mut(nth)?;
    let (own, entry) = (entry.span(), entry.get_mut());
    if let DeValue::Table(table) = entry
        && let Some(removed) = cut(table, &own, span)
    {
        return Some(removed);
    }
    if !holds(&own, span) {
        return None;
    }
    // The places of those behind it move, which nobody has asked about yet.
    let all = std::mem::replace(entries, toml::de::DeArray::new());
    all.into_iter().enumerate().filter(|(place, _)| *place != nth).for_each(|(_, entry)| entries.push(entry));
    Some(Removed { table: own, key: String::new() })
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

/// Returns where this place begins; what is missing there begins with what it is missing in.
fn locate(document: &Spanned<DeTable<'_>>, at: &At) -> usize {
    let mut found = document.span().start;
    let root = DeValue::Table(document.get_ref().clone());
    let mut here = &root;
    for step in &at.0 {
        let next = match (step, here) {
            (Step::Key(name), DeValue::Table(table)) => table.get(name.as_str()),
            (Step::Nth(nth), DeValue::Array(entries)) => entries.get(*nth),
            _ => None,
        };
        let Some(next) = next else { break };
        (found, here) = (next.span().start, next.get_ref());
    }
    found
}

fn start(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn finding(text: &str, offset: usize, message: String) -> Finding {
    let (line, column) = place(text, offset);
    Finding { line, column, message }
}

fn sorted(mut found: Vec<Finding>) -> Result<(), Vec<Finding>> {
    found.sort();
    found.dedup();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Returns the line and column, both from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(1, |last| last.chars().count() + 1);
    (line, column)
}

/// What other programs call our fields.
const OTHER_WORDS: [(&str, &str); 9] = [
    ("api_key", "key"),
    ("api_base", "base_url"),
    ("url", "base_url"),
    ("endpoint", "base_url"),
    ("deployment", "id"),
    ("model", "id"),
    ("type", "kind"),
    ("fallbacks", "models"),
    ("max_tokens", "max_output_tokens"),
];

/// Adds "did you mean" to the parser's message about an unknown field or value.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(written) = quoted.next().filter(|_| message.starts_with("unknown")) else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    let synonym = OTHER_WORDS.iter().find(|(other, own)| *other == written && known.contains(own));
    let meant = synonym.map(|(_, own)| *own).or_else(|| nearest(written, known.iter().copied()));
    let what = message.split(", expected").next().unwrap_or(message);
    match meant {
        Some(meant) => format!("{what}; did you mean `{meant}`?"),
        None => message.to_owned(),
    }
}

/// Returns the name that was probably meant, if one is near enough.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, known) = known.map(|known| (distance(written, known), known)).min()?;
    (distance <= 3 && distance < written.chars().count()).then_some(known)
}

/// Returns how many single-character edits lie between two words (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
