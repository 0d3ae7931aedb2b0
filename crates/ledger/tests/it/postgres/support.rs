//! Where a test's ledger lives: a database of its own on this process' server.

use ledger::{Journal, JournalOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::server;
pub use crate::common::*;

/// Random runs of the conservation test, each in a database of its own.
pub const SEEDS: u64 = 4;

pub struct Home {
    url: String,
}

impl Home {
    /// Nothing where there is no Postgres: then the test is skipped, which the server's start has said.
    pub fn new() -> Option<Self> {
        // In a thread of its own: the test's runtime must not wait for another one.
        let made = std::thread::spawn(|| {
            let server = server::server()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            Some(Self { url: runtime.block_on(server.database()) })
        });
        made.join().expect("a database is made")
    }
    pub fn url(&self) -> String {
        self.url.clone()
    }
    pub async fn open(&self) -> Journal {
        self.open_with(JournalOptions::default()).await
    }
    pub async fn open_with(&self, options: JournalOptions) -> Journal {
        Journal::open_url(&self.url, options).await.unwrap()
    }
    pub async fn attach(&self) -> Journal {
        Journal::attach_url(&self.url).await.unwrap()
    }
    /// A connection that knows nothing of the ledger, as a stranger's tool would open.
    pub async fn stranger(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
    /// Says these statements to the database behind the ledger's back.
    pub async fn meddle(&self, sql: &str) -> Result<(), sqlx::Error> {
        let mut stranger = self.stranger().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut stranger).await.map(drop)
    }
    /// As [`Home::meddle`], with all guards taken away.
    pub async fn tamper(&self, sql: &str) {
        self.meddle(&format!("SET session_replication_role = replica; {sql}")).await.unwrap();
    }
    /// All that is kept of keys, as text.
    pub async fn all_bytes(&self) -> Vec<u8> {
        let text = "SELECT coalesce(string_agg(k::text, ' '), '') FROM api_key k";
        let text: String = sqlx::query_scalar(text).fetch_one(&mut self.stranger().await).await.unwrap();
        // Bytes are shown in hexadecimal, as secrets are.
        assert!(!text.is_empty());
        text.into_bytes()
    }
    /// All connections are cut, and nothing was closed properly.
    pub async fn crash(&self, journal: Journal) -> Journal {
        self.cut().await;
        drop(journal);
        self.open().await
    }
    /// Cuts every connection to this database but its own.
    pub async fn cut(&self) {
        self.meddle(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    }
}
