//! A Postgres server of our own for tests: private, on loopback, durable as in production, gone with the test process.
//!
//! Without Postgres' programs on this machine the tests that need it are skipped, and say so; `POSTGRES=required` fails them
//! instead. `POSTGRES_BIN` names the folder of `initdb` and `postgres` where they are not on the path.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// A server, shared by all tests of this process; each takes a database of its own.
pub struct Server {
    port: u16,
}

/// Returns the server of this process, started at the first call; nothing where there is no Postgres.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER
        .get_or_init(|| match start() {
            Ok(server) => Some(server),
            Err(why) if std::env::var("POSTGRES").is_ok_and(|word| word == "required") => {
                panic!("POSTGRES=required, and there is no Postgres: {why}")
            }
            Err(why) => {
                eprintln!("skipped: no Postgres here: {why}");
                None
            }
        })
        .as_ref()
}

impl Server {
    /// Returns the URL of a new, empty database.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ledger_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        self.url(&name)
    }
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

fn start() -> Result<Server, String> {
    let initdb = program("initdb")?;
    let postgres = program("postgres")?;
    let folder = std::env::temp_dir().join(format!("baseload-postgres-{}", std::process::id()));
    sweep(&std::env::temp_dir());
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(&folder))?;
    }
    let data = folder.join("data");
    run(unprivileged(&initdb)
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"])
        .arg(&data))?;
    let port = free_port();
    let mut server = unprivileged(&postgres);
    server.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-p", &port.to_string()]);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
    let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
    server.stdout(Stdio::null()).stderr(log);
    spawn(server)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(format!("the server does not answer: {log}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // It listens a moment before it takes connections.
    std::thread::sleep(Duration::from_millis(300));
    Ok(Server { port })
}

/// The server dies with the thread that started it, so that thread lives as long as the process.
fn spawn(mut server: Command) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let started = server.process_group(0).spawn().map(|child: Child| child.id());
        let _ = tell.send(started);
        loop {
            std::thread::park();
        }
    });
    told.recv().expect("the thread tells").map(drop).map_err(|error| error.to_string())
}

/// Postgres refuses to run as root. It is told to stop when its parent dies.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("this is Linux")) == 0
}

fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var("POSTGRES_BIN").or_else(|_| std::env::var("PATH")).unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend((10..20).rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))));
    let found = places.into_iter().map(|place| place.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{name} is not on the path"))
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port()
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Folders of test processes that are gone.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("baseload-postgres-").and_then(|pid| pid.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
