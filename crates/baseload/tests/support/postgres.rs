//! A Postgres server that a test may stop, starve and start again: private, on loopback, durable as in production.
//!
//! Without Postgres' programs the tests that need it are skipped, and say so; `POSTGRES=required` fails them instead.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub struct Postgres {
    pub port: u16,
    folder: PathBuf,
    bin: PathBuf,
    _home: Option<TempDir>,
}

impl Postgres {
    /// Returns a running server in a folder of its own, or nothing where there is no Postgres.
    pub fn start() -> Option<Self> {
        let home = tempfile::tempdir().expect("a folder can be made");
        let folder = home.path().to_owned();
        Self::start_in(folder, Some(home))
    }

    /// Returns a running server in this folder, which must be empty.
    pub fn start_in(folder: PathBuf, home: Option<TempDir>) -> Option<Self> {
        let Some(bin) = programs() else {
            assert_ne!(
                std::env::var("POSTGRES").as_deref(),
                Ok("required"),
                "there is no Postgres, and it is required"
            );
            eprintln!("skipped: there is no Postgres here");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { port, folder, bin, _home: home };
        if is_root() {
            done(Command::new("chown").arg("postgres:").arg(&server.folder));
        }
        // Small log segments, so that a small disk fills with tables and not with one segment.
        let initdb =
            ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--wal-segsize=1"];
        done(server.program("initdb").args(initdb).arg("-D").arg(server.data()));
        server.begin();
        Some(server)
    }

    pub fn url(&self) -> String {
        self.url_through(self.port)
    }
    /// Returns the URL by which it is reached over a [`super::slow_link::SlowLink`].
    pub fn url_through(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    pub fn begin(&self) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} -c max_wal_size=4MB -c min_wal_size=2MB \
             -c max_connections=60 -c shared_buffers=8MB",
            self.port,
            self.folder.display()
        );
        done(self.control().args(["-w", "-o", &options, "-l"]).arg(self.folder.join("log")).arg("start"));
    }
    /// Stops it as a crash would: nothing is closed properly.
    pub fn kill(&self) {
        done(self.control().args(["-w", "-m", "immediate", "stop"]));
    }

    /// Changes a setting for every session, also those that are open.
    pub async fn set(&self, setting: &str, value: &str) {
        let mut connection = self.connect().await;
        execute(&mut connection, &format!("ALTER SYSTEM SET {setting} = {value}")).await;
        execute(&mut connection, "SELECT pg_reload_conf()").await;
    }

    pub async fn connect(&self) -> sqlx::PgConnection {
        use sqlx::Connection as _;
        sqlx::PgConnection::connect(&self.url()).await.expect("Postgres answers")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
    fn control(&self) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.data());
        command
    }
    /// Postgres refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let mut command;
        if is_root() {
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(self.bin.join(name));
        } else {
            command = Command::new(self.bin.join(name));
        }
        command.current_dir("/").stdin(std::process::Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.control().args(["-w", "-m", "immediate", "stop"]).output();
    }
}

pub async fn execute(connection: &mut sqlx::PgConnection, statement: &str) {
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    sqlx::raw_sql(statement).execute(connection).await.expect("the statement is taken");
}

fn programs() -> Option<PathBuf> {
    let path = std::env::var("POSTGRES_BIN").or_else(|_| std::env::var("PATH")).unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend((10..20).rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))));
    places.into_iter().find(|place| place.join("initdb").is_file() && place.join("pg_ctl").is_file())
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("this is Linux")) == 0
}

fn done(command: &mut Command) {
    // Its output goes to files: a server that inherits a pipe would keep it open.
    let output: Output = {
        let log = std::env::temp_dir().join(format!(
            "postgres-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let file = std::fs::File::create(&log).expect("a log can be written");
        let status =
            command.stdout(file.try_clone().unwrap()).stderr(file).status().expect("the program exists");
        let said = read_and_remove(&log);
        Output { status, stdout: said, stderr: Vec::new() }
    };
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stdout));
}

fn read_and_remove(log: &Path) -> Vec<u8> {
    let said = std::fs::read(log).unwrap_or_default();
    let _ = std::fs::remove_file(log);
    said
}
