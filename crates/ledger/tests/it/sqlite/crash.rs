//! `kill -9` under load, again and again: what was acknowledged is there, and the book balances.
//!
//! The child is this test binary again, running [`child`] alone with a file to write to. It books from many tasks and
//! prints a line for each call after it was acknowledged; the parent kills it at some moment, and compares.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ledger::{HoldOutcome, How, Journal, LossReason};

use super::support::*;

const CHILD: &str = "LEDGER_CRASH_CHILD";
const ROUNDS: u128 = 12;
const TASKS: u128 = 16;

#[test]
fn kill_9_in_a_loop_loses_nothing_that_was_acknowledged() {
    let Some(home) = Home::new() else { return };
    let mut holds = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::crash::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{round} {}", home.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It dies after a number of acknowledgements that differs each round, so at another place of the writer's turn.
        let mut acknowledged = 0;
        let mut note = |line: std::io::Result<String>, acknowledged: &mut u128| {
            // A killed child's last line may be half a line: it ends with its mark or it does not count.
            let Ok(line) = line else { return };
            let Some(line) = line.strip_suffix(" ok") else { return };
            let Some((what, number)) = line.rsplit_once(' ') else { return };
            let settled = holds.entry(number.parse::<u128>().unwrap()).or_insert(false);
            *settled |= what.ends_with("settled");
            *acknowledged += 1;
        };
        while acknowledged < 50 + 37 * round {
            note(lines.next().expect("the child goes on until it is killed"), &mut acknowledged);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| note(line, &mut acknowledged));
        tokio::runtime::Runtime::new().unwrap().block_on(restart(&home, &mut holds));
    }
}

/// What the next server finds: every acknowledged hold and end; and it closes what is open.
async fn restart(home: &Home, acknowledged: &mut BTreeMap<u128, bool>) {
    let journal = home.open().await;
    assert_sound(&journal).await;
    let ids: Vec<_> = acknowledged.keys().map(|number| request(*number)).collect();
    let rows = journal.requests(&ids).await.unwrap();
    assert_eq!(rows.len(), ids.len(), "an acknowledged hold is lost");
    for (row, settled) in rows.iter().zip(acknowledged.values()) {
        let ending = row.ending.as_ref().map(|ending| ending.how);
        let is_settled = matches!(ending, Some(How::Settled { .. }));
        assert!(is_settled || !settled, "the acknowledged settlement of {} is lost", row.held.hold.request);
    }
    let open: Vec<_> =
        journal.open_holds().await.unwrap().into_iter().map(|held| held.hold.request).collect();
    let expired = journal.expire_holds(open.clone(), LossReason::ProcessLost, at(5_000)).await.unwrap();
    assert_eq!(expired.len(), open.len());
    assert_sound(&journal).await;
    journal.close().await;
}

/// Nothing by itself; in a child process, books until it is killed.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (round, path) = order.split_once(' ').unwrap();
    let (round, path) = (round.parse::<u128>().unwrap(), PathBuf::from(path));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let journal = Journal::open(&path).await.unwrap();
        for task in 0..TASKS {
            tokio::spawn(book(journal.clone(), (round << 64) + (task << 32)));
        }
        // Longer than any parent waits; a child whose parent died ends by itself.
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
}

async fn book(journal: Journal, first: u128) {
    for number in first.. {
        let outcome = journal.hold(hold(request(number))).await.unwrap();
        assert!(matches!(outcome, HoldOutcome::Opened(..)));
        tell("held", number);
        // Every third is left open, as a request under way is.
        if !number.is_multiple_of(3) {
            journal.settle(settlement(request(number), used(100, 0, 20))).await.unwrap();
            tell("settled", number);
        }
    }
}

/// One write per line, so that a kill never leaves two lines mixed.
fn tell(what: &str, number: u128) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{what} {number} ok\n").as_bytes());
    let _ = out.flush();
}
