//! What do clients see while Postgres is dead, slow, read-only or full, and does the server find it again by itself?

mod support;

#[path = "support/postgres.rs"]
#[allow(dead_code, reason = "each test takes what it needs of it")]
mod postgres;
#[path = "support/slow_link.rs"]
mod slow_link;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use postgres::{Postgres, execute};
use serde_json::{Value, json};
use slow_link::SlowLink;
use support::Server;

/// A client hears within the five seconds of `ledger.call_wait`, whatever the store does; the rest is for a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);
/// How soon the server must have found a store that is well again.
const FOUND_AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// What one client saw.
#[derive(Debug)]
struct Seen {
    status: u16,
    code: String,
    has_retry_after: bool,
    took: Duration,
}

async fn ask(server: &Server) -> Seen {
    let began = Instant::now();
    let response = server.chat(json!({"max_tokens": 2})).send().await.expect("the server answers");
    let status = response.status().as_u16();
    let has_retry_after = response.headers().contains_key("retry-after");
    let body: Value = response.json().await.expect("the answer is JSON");
    let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
    Seen { status, code, has_retry_after, took: began.elapsed() }
}

fn assert_refused(what: &str, seen: &Seen) {
    assert_eq!(
        (seen.status, seen.code.as_str(), seen.has_retry_after),
        (503, "ledger_unavailable", true),
        "{what}"
    );
    assert!(seen.took < ANSWERED_WITHIN, "{what}: {seen:?}");
    println!("{what}: {} {} after {:?}", seen.status, seen.code, seen.took);
}

async fn assert_found_again(server: &Server, what: &str) {
    let began = Instant::now();
    loop {
        let seen = ask(server).await;
        if seen.status == 200 {
            println!("{what}: served again {:?} after the cause was gone", began.elapsed());
            return;
        }
        assert!(began.elapsed() < FOUND_AGAIN_WITHIN, "{what}: still {seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until no hold is open: what could not be settled in time was settled later.
async fn assert_all_settled(postgres: &Postgres) {
    let mut connection = postgres.connect().await;
    let began = Instant::now();
    loop {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM open_hold")
            .fetch_one(&mut connection)
            .await
            .expect("it can be read");
        if open == 0 {
            return;
        }
        assert!(began.elapsed() < FOUND_AGAIN_WITHIN, "{open} holds stay open");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn serve(data: &Path, url: &str) -> Server {
    Server::start(data, &["--ledger", url])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_postgres_refuses_new_work_by_name_and_is_found_again() {
    let Some(postgres) = Postgres::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &postgres.url());
    assert_eq!(ask(&server).await.status, 200);
    let running = server.chat(json!({"stream": true, "ignore_eos": true, "max_tokens": 600}));
    let mut stream = running.send().await.expect("the server answers").bytes_stream();
    let mut heard = stream.next().await.expect("it has begun").expect("and is whole").to_vec();
    postgres.kill();
    for _ in 0..3 {
        assert_refused("dead", &ask(&server).await);
    }
    while let Some(Ok(piece)) = stream.next().await {
        heard.extend_from_slice(&piece);
    }
    let heard = String::from_utf8(heard).unwrap();
    assert!(
        !heard.contains("[DONE]") && heard.contains("\"error\""),
        "an end that nobody booked is no good end: {heard}"
    );
    postgres.begin();
    assert_found_again(&server, "dead").await;
    assert_all_settled(&postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_answers_after_twenty_seconds_refuses_in_time_and_is_found_again() {
    let Some(postgres) = Postgres::start() else { return };
    let link = SlowLink::to(postgres.port).await;
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &postgres.url_through(link.port));
    assert_eq!(ask(&server).await.status, 200);
    link.delay(Duration::from_secs(20));
    let seen = futures_util::future::join_all((0..8).map(|_| ask(&server))).await;
    seen.iter().for_each(|seen| assert_refused("slow", seen));
    link.delay(Duration::ZERO);
    assert_found_again(&server, "slow").await;
    assert_all_settled(&postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_has_locked_is_a_slow_postgres() {
    let Some(postgres) = Postgres::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &postgres.url());
    assert_eq!(ask(&server).await.status, 200);
    let mut stranger = postgres.connect().await;
    execute(&mut stranger, "BEGIN; LOCK TABLE hold IN ACCESS EXCLUSIVE MODE").await;
    assert_refused("locked", &ask(&server).await);
    execute(&mut stranger, "ROLLBACK").await;
    assert_found_again(&server, "locked").await;
    assert_all_settled(&postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_read_only_refuses_by_name_and_is_found_again() {
    let Some(postgres) = Postgres::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &postgres.url());
    assert_eq!(ask(&server).await.status, 200);
    postgres.set("default_transaction_read_only", "on").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        assert_refused("read-only", &ask(&server).await);
    }
    let mut superuser = postgres.connect().await;
    // One statement at a time: settings cannot be changed inside a transaction.
    for statement in [
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ] {
        execute(&mut superuser, statement).await;
    }
    assert_found_again(&server, "read-only").await;
    assert_all_settled(&postgres).await;
}

/// Answers that were withheld leave their holds behind, and those fill the rest.
async fn until_refused_before_work(server: &Server) -> Seen {
    for _ in 0..800 {
        let seen = ask(server).await;
        if seen.code == "ledger_unavailable" {
            return seen;
        }
    }
    panic!("a full disk goes on to take holds");
}

/// A file system of so few MiB, gone at the end; only root may make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn of(mib: u32, home: &Path) -> Option<Self> {
        let folder = home.join("small-disk");
        std::fs::create_dir(&folder).unwrap();
        let options = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        is_mounted.then_some(Self(folder))
    }
    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
    /// Fills what is left.
    fn fill(&self) {
        let Err(_) = std::fs::write(self.filler(), vec![0; 1 << 30]) else { panic!("the disk is not small") };
    }
    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_whose_disk_is_full_refuses_by_name_and_is_found_again() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::of(96, home.path()) else {
        eprintln!("skipped: only root may mount a small disk");
        return;
    };
    let Some(postgres) = Postgres::start_in(disk.0.clone(), None) else { return };
    let server = serve(&home.path().join("data"), &postgres.url());
    assert_eq!(ask(&server).await.status, 200);
    disk.fill();
    // The last pages of its tables still have room for some rows.
    let mut seen = ask(&server).await;
    for _ in 0..800 {
        if seen.status != 200 {
            break;
        }
        seen = ask(&server).await;
    }
    // A hold found room and its settlement did not: then the answer is withheld, because nobody has booked it.
    assert!(
        seen.status == 503 && ["ledger_unavailable", "not_booked"].contains(&seen.code.as_str()),
        "{seen:?}"
    );
    assert_refused("full", &until_refused_before_work(&server).await);
    disk.free();
    assert_found_again(&server, "full").await;
    assert_all_settled(&postgres).await;
    drop(server);
    drop(postgres);
}
