//! Where a test's ledger lives: a file in a folder of its own.

use std::path::PathBuf;

use ledger::{Journal, JournalOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;

pub use crate::common::*;

/// Random runs of the conservation test.
pub const SEEDS: u64 = 24;

/// Gone when the test ends.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Option<Self> {
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("data").join("ledger.sqlite")
    }
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }
    pub async fn open(&self) -> Journal {
        Journal::open(&self.path()).await.unwrap()
    }
    pub async fn open_with(&self, options: JournalOptions) -> Journal {
        Journal::open_url(&self.url(), options).await.unwrap()
    }
    pub async fn attach(&self) -> Journal {
        Journal::attach_url(&self.url()).await.unwrap()
    }
    /// A connection that knows nothing of the ledger, as a stranger's tool would open.
    pub async fn stranger(&self) -> SqliteConnection {
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(self.path())).await.unwrap()
    }
    /// Says these statements to the database behind the ledger's back.
    pub async fn meddle(&self, sql: &str) -> Result<(), sqlx::Error> {
        let mut stranger = self.stranger().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut stranger).await.map(drop)
    }
    /// As [`Home::meddle`], with all guards taken away.
    pub async fn tamper(&self, sql: &str) {
        let mut stranger = self.stranger().await;
        let triggers: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
                .fetch_all(&mut stranger)
                .await
                .unwrap();
        let drops: String = triggers.iter().map(|name| format!("DROP TRIGGER {name}; ")).collect();
        self.meddle(&format!("PRAGMA foreign_keys = off; {drops} {sql}")).await.unwrap();
    }
    /// Everything that is on disk.
    pub async fn all_bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.path().parent().unwrap()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }
    /// The file is opened anew from a copy taken while it was open, as after a power cut: nothing was closed properly.
    pub async fn crash(&self, journal: Journal) -> Journal {
        let folder = self.path().parent().unwrap().to_owned();
        let mut files = Vec::new();
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            files.push((path.clone(), std::fs::read(&path).unwrap()));
        }
        journal.close().await;
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        for (path, bytes) in files {
            // The shared-memory index dies with its process; the log is what recovers.
            if !path.to_string_lossy().ends_with("-shm") {
                std::fs::write(path, bytes).unwrap();
            }
        }
        self.open().await
    }
}
