//! The auth service of scripts/auth.py, a process of its own on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::eventually;

/// A running service, with a keys file of its own. Dropped, it is killed.
pub(crate) struct AuthService {
    directory: TempDir,
    port: u16,
    options: Vec<String>,
    /// Users by key.
    users: Mutex<BTreeMap<String, String>>,
    process: Child,
}

impl AuthService {
    /// Starts one that knows these (user, key).
    pub(crate) fn start(users: &[(&str, &str)]) -> Self {
        Self::start_with(users, &[])
    }

    pub(crate) fn start_with(users: &[(&str, &str)], options: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let users = users
            .iter()
            .map(|(user, key)| ((*key).to_owned(), (*user).to_owned()));
        let users = users.collect::<BTreeMap<_, _>>();
        write_keys(directory.path(), &users);
        // Free now, and hardly anybody else's in the next moment.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = spawn(directory.path(), port, &options);
        let service = Self {
            directory,
            port,
            options,
            users: Mutex::new(users),
            process,
        };
        service.listens();
        service
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/validate", self.port)
    }

    /// From now on this key is nobody's.
    pub(crate) fn revoke(&self, key: &str) {
        let mut users = self.users.lock();
        assert!(users.remove(key).is_some());
        write_keys(self.directory.path(), &users);
    }

    /// From now on this key is that user's.
    pub(crate) fn admit(&self, user: &str, key: &str) {
        let mut users = self.users.lock();
        users.insert(key.to_owned(), user.to_owned());
        write_keys(self.directory.path(), &users);
    }

    /// It still accepts connections, and answers nothing.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Nobody listens any more.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.process = spawn(self.directory.path(), self.port, &self.options);
        self.listens();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    fn listens(&self) {
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        let log = self.directory.path().join("log");
        assert!(
            eventually(Duration::from_secs(20), listens),
            "scripts/auth.py does not listen: {}",
            fs::read_to_string(log).unwrap_or_default()
        );
    }
}

impl Drop for AuthService {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &Path, port: u16, options: &[String]) -> Child {
    let mut command = Command::new(python());
    command
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/auth.py"));
    command
        .arg("--keys")
        .arg(directory.join("keys.json"))
        .args(["--port", &port.to_string()]);
    let log = fs::File::create(directory.join("log")).unwrap();
    command
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The Python that scripts/test made, which has FastAPI.
fn python() -> PathBuf {
    match std::env::var_os("TENANTFS_TEST_PYTHON") {
        Some(python) => python.into(),
        None => panic!(
            "TENANTFS_TEST_PYTHON is not set: run the tests with scripts/test, which makes that Python"
        ),
    }
}

fn write_keys(directory: &Path, users: &BTreeMap<String, String>) {
    let entries = users.iter().map(|(key, user)| {
        let sha256 = hex::encode(Sha256::digest(key));
        serde_json::json!({"sha256": sha256, "user_id": user})
    });
    let keys = serde_json::json!({"keys": entries.collect::<Vec<_>>()});
    let new = directory.join("keys.new");
    fs::write(&new, keys.to_string()).unwrap();
    fs::rename(new, directory.join("keys.json")).unwrap();
}
