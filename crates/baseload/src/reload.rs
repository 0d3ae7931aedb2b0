//! When does a changed configuration take the place of the one in force, and what becomes of a wrong one?
//!
//! ```text
//!  every 2 s: read the file and the files of its secrets ─ as before ──────────▶ nothing
//!                                        └ changed, and twice the same ─▶ check ─ wrong ─▶ keep, log once, show
//!  SIGHUP: at once                                                          └─ right ─▶ apply, swap, log
//! ```
//! A file that is being written is seen half: so a change counts when it was there for a whole turn. Requests that run finish on
//! what they began with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::admin_api::{Configuration, RefusedConfiguration};
use ledger::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::config::{Config, ConfigError};
use crate::{events, now};

/// How often the file is looked at. It is read whole, some KiB.
const PERIOD: Duration = Duration::from_secs(2);
/// When what was right and could not be applied, because the ledger did not answer, is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// What is in force, and what was seen of the file.
pub struct Watch {
    /// `None`: the server was started without a file, and nothing changes.
    path: Option<PathBuf>,
    standing: Mutex<Standing>,
}

struct Standing {
    /// The text in force.
    text: String,
    /// What was looked at when it was last decided.
    decided: Seen,
    /// What was seen in the last turn.
    last: Seen,
    /// When what could not be applied is tried again.
    again_at: Option<std::time::Instant>,
    view: Configuration,
}

/// The content of the file and of its secrets' files, as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Content([u8; 32]),
    Unreadable(String),
}

/// Parts of a file that are read at the start alone. Of `model`, those with a path are.
const AT_START: [&str; 13] = [
    "listen",
    "data",
    "region",
    "alerts",
    "terms",
    "ledger",
    "engine",
    "limits",
    "tasks",
    "cache",
    "responses",
    "hub",
    "log",
];

/// Who puts a configuration in force.
pub trait Apply: Send + Sync {
    /// Takes one that was checked, all of it or nothing, and returns which units have no price.
    fn apply(&self, config: &Config) -> impl Future<Output = anyhow::Result<Vec<String>>> + Send;

    /// Hears whether a changed file was taken.
    fn decided(&self, is_taken: bool);
}

impl Watch {
    /// Returns the watch over the file that was just read, or over none. What changes from here on is noticed, though the server may
    /// be busy loading models for a while.
    pub fn begin(path: Option<&Path>, config: &Config) -> Self {
        let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let seen = look(path, &text, config);
        let view = Configuration {
            file: path.map(|path| path.display().to_string()),
            in_force_since: now().to_string(),
            ..Configuration::default()
        };
        let standing = Standing { text, decided: seen.clone(), last: seen, again_at: None, view };
        Self { path: path.map(Path::to_owned), standing: Mutex::new(standing) }
    }

    pub fn tell_unpriced(&self, unpriced: Vec<String>) {
        self.standing.lock().view.unpriced = unpriced;
    }

    pub fn view(&self) -> Configuration {
        self.standing.lock().view.clone()
    }

    /// Looks at the file until `stop`.
    pub async fn run(&self, apply: impl Apply, stop: impl Future<Output = ()> + Send) {
        use tokio::signal::unix::{SignalKind, signal};
        if self.path.is_none() {
            // The end of a terminal still ends a server that was started in it without a file.
            return stop.await;
        }
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        let mut turns = tokio::time::interval(PERIOD);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = turns.tick() => self.turn(false, &apply).await,
                _ = hangup.recv() => self.turn(true, &apply).await,
            }
        }
    }

    /// One look; `is_asked` takes what is there, unchanged or just written.
    async fn turn(&self, is_asked: bool, apply: &impl Apply) {
        let Some(path) = &self.path else { return };
        let (seen, read) = read(path);
        if !is_asked && !self.is_due(&seen) {
            return;
        }
        let done = match read {
            Err(error) => Err((error.lines(), None)),
            Ok((text, config)) => match apply.apply(&config).await {
                Ok(unpriced) => Ok((text, unpriced)),
                Err(error) => Err((vec![format!("{error:#}")], Some(std::time::Instant::now() + AGAIN))),
            },
        };
        apply.decided(done.is_ok());
        self.decide(path, seen, done, now());
    }

    /// Whether what was seen is neither known nor still being written.
    fn is_due(&self, seen: &Seen) -> bool {
        let mut standing = self.standing.lock();
        let is_settled = standing.last == *seen;
        standing.last = seen.clone();
        let is_again = standing.again_at.is_some_and(|at| std::time::Instant::now() >= at);
        is_settled && (standing.decided != *seen || is_again)
    }

    #[expect(clippy::type_complexity, reason = "one call, whose two ends stand side by side")]
    fn decide(
        &self,
        path: &Path,
        seen: Seen,
        done: Result<(String, Vec<String>), (Vec<String>, Option<std::time::Instant>)>,
        at: Timestamp,
    ) {
        let mut standing = self.standing.lock();
        standing.decided = seen.clone();
        standing.last = seen;
        match done {
            Ok((text, unpriced)) => {
                // Compared with what this process began with: what waits stays until a restart.
                let waits = waits_for_restart(&standing.text, &text);
                standing.again_at = None;
                let generation = standing.view.generation + 1;
                standing.view = Configuration {
                    file: standing.view.file.take(),
                    generation,
                    in_force_since: at.to_string(),
                    waits_for_restart: waits,
                    unpriced,
                    refused: None,
                };
                let (waits_for_restart, unpriced) =
                    (&standing.view.waits_for_restart, &standing.view.unpriced);
                events::ConfigurationReplaced { file: path, generation, waits_for_restart, unpriced }.emit();
            }
            Err((mistakes, again_at)) => {
                standing.again_at = again_at;
                let is_new =
                    standing.view.refused.as_ref().is_none_or(|refused| refused.mistakes != mistakes);
                if is_new {
                    events::ConfigurationRefused { file: path, mistakes: &mistakes }.emit();
                    standing.view.refused = Some(RefusedConfiguration { at: at.to_string(), mistakes });
                }
            }
        }
    }
}

fn read(path: &Path) -> (Seen, Result<(String, Config), ConfigError>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) => {
            let seen = Seen::Unreadable(source.to_string());
            return (seen, Err(ConfigError::Unreadable { path: path.to_owned(), source }));
        }
    };
    match Config::parse(path, &text) {
        Ok(config) => (look(Some(path), &text, &config), Ok((text, config))),
        Err(error) => (Seen::Content(Sha256::digest(text.as_bytes()).into()), Err(error)),
    }
}

/// Returns what there is to see: a secret that was replaced in its file changes it as well.
fn look(path: Option<&Path>, text: &str, config: &Config) -> Seen {
    let mut hash = Sha256::new_with_prefix(text.as_bytes());
    let secrets = config.providers.iter().flat_map(|provider| provider.secrets());
    for file in secrets.filter_map(|(_, source)| source.file()).filter(|_| path.is_some()) {
        // One that is gone is noticed, too.
        let content = std::fs::read(file).unwrap_or_default();
        hash.update(Sha256::digest(&content));
    }
    Seen::Content(hash.finalize().into())
}

/// Returns what differs between two texts and takes a restart, by its name in the file.
fn waits_for_restart(old: &str, new: &str) -> Vec<String> {
    let (Ok(old), Ok(new)) = (old.parse::<toml::Table>(), new.parse::<toml::Table>()) else {
        return Vec::new();
    };
    let mut waits: Vec<String> = Vec::new();
    for part in AT_START.iter().filter(|part| old.get(**part) != new.get(**part)) {
        waits.push((*part).to_owned());
    }
    if embedded(&old) != embedded(&new) {
        waits.push("model with a path".to_owned());
    }
    waits
}

fn embedded(file: &toml::Table) -> Vec<&toml::Value> {
    let models = file.get("model").and_then(toml::Value::as_array);
    models.into_iter().flatten().filter(|model| model.get("path").is_some()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const ONE: &str = "[[provider]]\nname = 'a'\nkind = 'openai_compatible'\nbase_url = 'http://h'\n[[model]]\nname = 'm'\nprovider = 'a'\n";

    struct Stage {
        _folder: tempfile::TempDir,
        path: PathBuf,
        watch: Watch,
        applied: Counter,
    }

    impl Stage {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("baseload.toml");
            std::fs::write(&path, text).unwrap();
            let watch = Watch::begin(Some(&path), &Config::read(&path).unwrap());
            Self { _folder: folder, path, watch, applied: Counter::default() }
        }

        fn write(&self, text: &str) {
            std::fs::write(&self.path, text).unwrap();
        }

        /// Returns how often a configuration was applied, after this many turns.
        async fn after(&self, turns: usize) -> usize {
            for _ in 0..turns {
                self.watch.turn(false, &self.applied).await;
            }
            self.applied.0.load(Ordering::Relaxed)
        }
    }

    /// Counts what it is given.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Apply for Counter {
        async fn apply(&self, config: &Config) -> anyhow::Result<Vec<String>> {
            anyhow::ensure!(config.providers[0].name != "broken", "the ledger does not answer");
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(vec!["m@a".to_owned()])
        }

        fn decided(&self, _: bool) {}
    }

    #[tokio::test]
    async fn a_change_counts_when_it_stayed_for_a_turn_and_counts_once() {
        let stage = Stage::new(ONE);
        assert_eq!(stage.after(3).await, 0);
        stage.write(&ONE.replace("http://h", "http://i"));
        assert_eq!(stage.after(1).await, 0, "it may still be written");
        assert_eq!(stage.after(1).await, 1);
        assert_eq!(stage.after(5).await, 1);
        let view = stage.watch.view();
        assert_eq!((view.generation, view.unpriced, view.refused), (1, vec!["m@a".to_owned()], None));
    }

    #[tokio::test]
    async fn a_wrong_file_is_told_with_its_place_and_changes_nothing_until_it_is_right() {
        let stage = Stage::new(ONE);
        stage.write(&ONE.replace("provider = 'a'", "provider = 'b'"));
        assert_eq!(stage.after(4).await, 0);
        let refused = stage.watch.view().refused.unwrap();
        assert!(
            refused.mistakes[0].contains("baseload.toml:7:12: there is no [[provider]] \"b\""),
            "{refused:?}"
        );
        std::fs::remove_file(&stage.path).unwrap();
        assert_eq!(stage.after(4).await, 0);
        assert!(stage.watch.view().refused.unwrap().mistakes[0].contains("cannot read"));
        stage.write(ONE);
        assert_eq!(stage.after(2).await, 1);
        assert_eq!(stage.watch.view().refused, None);
    }

    #[tokio::test]
    async fn what_cannot_be_applied_keeps_the_one_before_and_is_shown() {
        let stage = Stage::new(ONE);
        stage.write(&ONE.replace("'a'", "'broken'"));
        assert_eq!(stage.after(3).await, 0);
        assert_eq!(stage.watch.view().refused.unwrap().mistakes, ["the ledger does not answer"]);
        assert_eq!(stage.watch.view().generation, 0);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_secret_that_was_replaced_in_its_file_is_a_change() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "one").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let stage = Stage::new(
            &ONE.replace("base_url", &format!("key = {{ file = '{}' }}\nbase_url", key.display())),
        );
        assert_eq!(stage.after(3).await, 0);
        std::fs::write(&key, "two").unwrap();
        assert_eq!(stage.after(2).await, 1);
    }

    #[test]
    fn what_takes_a_restart_is_said_by_name() {
        let waits = |new: &str| waits_for_restart(ONE, new);
        assert!(waits(&ONE.replace("http://h", "http://i")).is_empty());
        assert!(waits(&format!("{ONE}[[route]]\nname = 'r'\nmodels = ['m']\n")).is_empty());
        assert_eq!(
            waits(&format!("listen = '127.0.0.1:1'\n{ONE}[engine]\nkv_mib = 1\n")),
            ["listen", "engine"]
        );
        assert_eq!(waits(&format!("{ONE}[[model]]\npath = 'bundled:main'\n")), ["model with a path"]);
    }
}
