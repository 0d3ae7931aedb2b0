//! Which servers share this ledger, which of them are dead, and what did they leave open?
//!
//! A server registers before it first books, and says from time to time that it lives. One that was not seen for long is
//! ended by whoever notices, and then its holds are anybody's to close. Should it wake up, its next transaction finds that it
//! was ended (a lock makes sure that none is under way meanwhile); it goes on under a new number and finds its holds ended.

use std::time::Duration;

use domain::RequestId;

use super::database::sql;
use super::store::{Store, StoreError};
use crate::Timestamp;

/// Orphans that one beat closes: few enough to let requests in between.
const ORPHANS_PER_BEAT: i64 = 256;

impl Store {
    /// Gives this server a number, in a transaction of its own.
    pub async fn register(&mut self, name: &str, at: Timestamp) -> Result<(), StoreError> {
        let connection = self.connection();
        connection.begin(None).await?;
        let now = connection.shared_time(at).await?.millis();
        if !connection.is_shared() {
            // Whoever was on this file before is dead: the lock of the file says so.
            let end = sql("UPDATE process SET ended_at = $1 WHERE ended_at IS NULL");
            end.bind(now).execute(&mut *connection).await?;
        }
        let add = sql("INSERT INTO process (name, started_at, seen_at) VALUES ($1, $2, $2) RETURNING id");
        let id = add.bind(name).bind(now).integer(&mut *connection).await?;
        connection.commit().await?;
        self.set_process(Some(id));
        Ok(())
    }

    /// Says that this process lives, ends those that are silent, and returns what ended ones have left open.
    pub async fn beat(&mut self, at: Timestamp, silence_max: Duration) -> Result<Vec<RequestId>, StoreError> {
        let process = self.process();
        let connection = self.connection();
        let now = connection.shared_time(at).await?;
        sql("UPDATE process SET seen_at = $2 WHERE id = $1")
            .bind(process)
            .bind(now.millis())
            .execute(&mut *connection)
            .await?;
        // One sweeper at a time: the others would only wait for the same rows.
        if !connection.lock_process(SWEEPER).await? {
            return Ok(Vec::new());
        }
        let silent = sql("SELECT id FROM process WHERE ended_at IS NULL AND seen_at < $1 AND id <> $2")
            .bind(now.before(silence_max).millis())
            .bind(process.unwrap_or(0))
            .all(&mut *connection)
            .await?;
        for row in silent {
            let id = row.columns().integer()?;
            // In the middle of a transaction it is not dead.
            if connection.lock_process(id).await? {
                let end = sql("UPDATE process SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL");
                end.bind(id).bind(now.millis()).execute(&mut *connection).await?;
            }
        }
        let rows = sql(
            "SELECT h.request FROM open_hold o JOIN hold h ON h.id = o.hold LEFT JOIN process p ON p.id = o.process \
             WHERE o.process IS NULL OR p.ended_at IS NOT NULL ORDER BY o.hold LIMIT $1",
        )
        .bind(ORPHANS_PER_BEAT)
        .all(connection)
        .await?;
        rows.iter().map(|row| row.columns().request()).collect()
    }

    /// Ends this process in order: nothing of it is open, and nobody need wait to be sure.
    pub async fn retire(&mut self) -> Result<(), StoreError> {
        let Some(process) = self.process() else { return Ok(()) };
        let connection = self.connection();
        connection.begin(Some(process)).await?;
        sql("UPDATE process SET ended_at = seen_at WHERE id = $1 AND ended_at IS NULL")
            .bind(process)
            .execute(&mut *connection)
            .await?;
        connection.commit().await
    }
}

/// No process has this number.
const SWEEPER: i64 = 0;
