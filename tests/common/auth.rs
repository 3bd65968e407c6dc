//! An auth service to log in at: scripts/auth.py, which admits, revokes, hangs, goes down and comes back as a test says.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::with_deadline;

/// How long the service may take to listen: Python loads FastAPI meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// The running service, and the keys file that it reads. Dropped, it is killed.
pub(crate) struct AuthService {
    directory: TempDir,
    users: BTreeMap<String, String>,
    options: Vec<String>,
    host: Ipv4Addr,
    url: String,
    /// None while it is down.
    server: Option<Child>,
}

impl AuthService {
    /// Starts a service that knows these users by these keys: `&[("alice", "key-of-alice")]`.
    pub(crate) fn start(tenants: &[(&str, &str)]) -> Self {
        Self::start_with(tenants, &[])
    }

    /// Starts it with further options: `["--expires-in", "60"]`.
    pub(crate) fn start_with(tenants: &[(&str, &str)], options: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("tenantfs-auth-")
            .tempdir()
            .unwrap();
        let users = tenants.iter().map(|(user, key)| (hash(key), (*user).to_owned()));
        let mut service = Self {
            directory,
            users: users.collect(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            host: own_address(),
            url: String::new(),
            server: None,
        };
        service.write_keys();
        service.launch(0);
        service
    }

    /// Where keys are checked: plain http on a loopback address that is this service's alone.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on the key is the user's.
    pub(crate) fn admit(&mut self, user: &str, key: &str) {
        self.users.insert(hash(key), user.to_owned());
        self.write_keys();
    }

    /// From now on the key is refused.
    pub(crate) fn revoke(&mut self, key: &str) {
        self.users.remove(&hash(key));
        self.write_keys();
    }

    /// The service hangs: connections are accepted, and nothing comes.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// A service that hung answers again, what it was asked meanwhile included.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The service is down: connections are refused.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// A service that was down is back under the same URL.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let port = self.url.rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
        self.launch(port);
    }

    fn launch(&mut self, port: u16) {
        let mut command = Command::new(python_with_fastapi());
        command
            .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/auth.py")])
            .arg("--keys")
            .arg(self.keys_file())
            .args(["--host", &self.host.to_string(), "--port", &port.to_string()])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.directory.path().join("log")).unwrap());
        let server = self.server.insert(command.spawn().unwrap());
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        let said = with_deadline(START_DEADLINE, move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line
        });
        // It says its URL once it listens: whoever asks from then on is answered.
        let url = said.unwrap_or_default().trim_end().to_owned();
        assert!(
            url.starts_with("http://"),
            "scripts/auth.py did not start\n{}",
            self.log()
        );
        self.url = url;
    }

    /// What the service wrote to stderr since it was last started.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The static keys file that it reads; its directory is this user's alone.
    pub(crate) fn keys_file(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    /// Replaces the keys file at once: the service never sees a part of it.
    fn write_keys(&self) {
        let entry =
            |(sha256, user): (&String, &String)| serde_json::json!({"sha256": sha256, "user_id": user});
        let keys: Vec<_> = self.users.iter().map(entry).collect();
        let new = self.directory.path().join("keys.json.new");
        fs::write(&new, serde_json::json!({"keys": keys}).to_string()).unwrap();
        fs::rename(new, self.keys_file()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.server.as_ref().unwrap()), signal).unwrap();
    }
}

impl Drop for AuthService {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// A loopback address that no other service of these tests has: what is down stays down until it is restarted, whoever
/// takes its port elsewhere.
fn own_address() -> Ipv4Addr {
    static STARTED: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, STARTED.fetch_add(1, Ordering::Relaxed), high, low)
}

/// The interpreter that scripts/test has prepared.
pub(crate) fn python_with_fastapi() -> PathBuf {
    let Some(python) = std::env::var_os("TENANTFS_TEST_PYTHON") else {
        panic!(
            "TENANTFS_TEST_PYTHON is not set: run the tests with scripts/test, which installs what scripts/auth.py \
             needs; or set it to a Python that has the packages of scripts/requirements.txt"
        );
    };
    python.into()
}
