//! Two users, a web service, an auth service and a mount on one volume: what one user makes over HTTP is a file to that
//! user, nothing to the other, and nobody ever sees a key.
//!
//! Run with each of the two services: scripts/api.py, which knows nothing of tenantfs, and tests/axum_service, which is
//! built on the library.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::auth::{AuthService, python_with_fastapi};
use common::daemon::reachable;
use common::{
    ALICE, BOB, LAYOUTS, Layout, Mount, SERVICE_UID, Tenant, Volume, as_user, eventually, set_mode, success,
    with_deadline,
};
use serde_json::{Value, json};
use tenantfs::seal::SealingKeys;

/// How long a service may take to listen: Python loads FastAPI meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How soon the mount shows what others do to the volume.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

/// The largest record, in bytes.
const MAX_RECORD: usize = 16 << 20;

/// The keys of the users for another service, which their records hold: one written in the mount, one over HTTP.
const IN_THE_MOUNT: &str = "sk-e2e-71f0c3-mount";
const OVER_HTTP: &str = "sk-e2e-93ab15-http";

/// A web service that runs as the account that owns the volume. Dropped, it is killed.
struct WebService {
    address: String,
    server: Child,
    log: PathBuf,
    /// Every byte that it answered.
    answered: RefCell<Vec<u8>>,
}

/// What it answered to one request.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

impl WebService {
    /// scripts/api.py: it asks the keys file of the auth service.
    fn fastapi(volume: &Volume, auth: &AuthService) -> Self {
        for script in ["api.py", "auth.py", "service.py"] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
            fs::copy(source, volume.base().join(script)).unwrap();
        }
        let keys = volume.base().join("service-keys.json");
        fs::copy(auth.keys_file(), &keys).unwrap();
        chown(&keys, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        let python = python_with_fastapi();
        let mut command = as_user(
            SERVICE_UID,
            volume.base(),
            python.canonicalize().unwrap().to_str().unwrap(),
        );
        command.env("PYTHONPATH", packages(volume, &python));
        command.args(["-B", "api.py", "--port", "0", "--keys"]).arg(keys);
        Self::start(volume, command)
    }

    /// The example of the library: it asks the auth service, and can seal.
    fn axum(volume: &Volume, auth: &AuthService, sealing_keys: &Path) -> Self {
        let tests = std::env::current_exe().unwrap();
        let built = tests.ancestors().nth(2).unwrap().join("examples/axum_service");
        assert!(
            built.exists(),
            "{} is not built: run all tests, or first `cargo build --example axum_service`",
            built.display()
        );
        let program = reachable(volume, &built);
        let keys = volume.base().join("service-sealing-keys.json");
        fs::copy(sealing_keys, &keys).unwrap();
        chown(&keys, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        let mut command = as_user(SERVICE_UID, volume.base(), program.to_str().unwrap());
        command.env("TENANTFS_LOG", "debug");
        command.args(["--listen", "127.0.0.1:0", "--auth-url", auth.url()]);
        command.arg("--sealing-keys").arg(keys);
        Self::start(volume, command)
    }

    fn start(volume: &Volume, mut command: Command) -> Self {
        let log = volume.base().join("service.log");
        command.arg("--volume").arg(volume.root());
        command.args(["--layout", &volume.layout.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap());
        let mut server = command.spawn().unwrap();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        // Guarded from here on: whatever becomes of it, it is killed.
        let mut service = Self {
            address: String::new(),
            server,
            log,
            answered: RefCell::default(),
        };
        let said = with_deadline(START_DEADLINE, move || {
            let mut line = String::new();
            stdout.read_line(&mut line).map(|_| line)
        });
        let said = said.and_then(Result::ok).unwrap_or_default();
        let address = said.trim_end().strip_prefix("http://");
        service.address = address
            .unwrap_or_else(|| panic!("the service did not start\n{}", service.log()))
            .to_owned();
        service
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One request, with the tenant's key.
    fn ask(&self, tenant: &Tenant, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Authorization: Bearer {}\r\n", tenant.api_key);
        self.request(&authorization, method, path, body)
    }

    /// One request with these headers, byte for byte, as nothing in between would show it.
    fn request(&self, headers: &str, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who refuses a request need not read all of it.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        self.answered.borrow_mut().extend_from_slice(&answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Creates a schedule, and returns its id.
    fn create(&self, tenant: &Tenant, record: &Value) -> String {
        let created = self.ask(tenant, "POST", "/schedules", &record.to_string());
        assert_eq!(created.status, 201, "{}\n{}", created.body, self.log());
        let id = created.json()["id"].as_str().unwrap().to_owned();
        assert!(
            created.head.contains(&format!("location: /schedules/{id}")),
            "{}",
            created.head
        );
        id
    }

    fn list(&self, tenant: &Tenant) -> Value {
        let listed = self.ask(tenant, "GET", "/schedules", "");
        assert_eq!(listed.status, 200, "{}\n{}", listed.body, self.log());
        listed.json()
    }

    /// The schedule without the owner, which one service shows and the other does not.
    fn load(&self, tenant: &Tenant, id: &str) -> Value {
        let loaded = self.ask(tenant, "GET", &format!("/schedules/{id}"), "");
        assert_eq!(loaded.status, 200, "{}\n{}", loaded.body, self.log());
        assert!(
            loaded.head.contains("content-type: application/json"),
            "{}",
            loaded.head
        );
        let mut record = loaded.json();
        if let Some(owner) = record.as_object_mut().unwrap().remove("user_id") {
            assert_eq!(owner, tenant.user);
        }
        record
    }
}

impl Drop for WebService {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The packages of that Python, where the service's account can read them: the interpreter may be in somebody's home.
fn packages(volume: &Volume, python: &Path) -> PathBuf {
    let mut command = Command::new(python);
    command.args([
        "-c",
        "import fastapi, os; print(os.path.dirname(os.path.dirname(fastapi.__file__)))",
    ]);
    let installed = success(command, "");
    let copied = volume.base().join("python-packages");
    let mut command = Command::new("cp");
    command.args(["-a", installed.trim_end()]).arg(&copied);
    success(command, "");
    copied
}

/// Everything beside which the services run.
struct Stage {
    volume: Volume,
    auth: AuthService,
    sealing_keys: PathBuf,
}

impl Stage {
    fn new(layout: Layout) -> Self {
        let volume = Volume::new(layout);
        let sealing_keys = volume.base().join("sealing-keys.json");
        fs::write(&sealing_keys, SealingKeys::generate().unwrap().text.as_bytes()).unwrap();
        set_mode(&sealing_keys, 0o600);
        let auth = AuthService::start(&[(ALICE.user, ALICE.api_key), (BOB.user, BOB.api_key)]);
        Self {
            volume,
            auth,
            sealing_keys,
        }
    }

    fn mount(&self, tenant: &Tenant) -> Mount<'_> {
        let keys = self.sealing_keys.to_str().unwrap();
        let options = ["--auth-url", self.auth.url(), "--sealing-keys", keys];
        self.volume.mount_with(tenant, &options)
    }
}

/// Runs `play` with each service, in each of these layouts.
fn with_each_service(layouts: &[Layout], play: impl Fn(&Stage, &WebService)) {
    for &layout in layouts {
        let stage = Stage::new(layout);
        play(&stage, &WebService::fastapi(&stage.volume, &stage.auth));
        let stage = Stage::new(layout);
        let service = WebService::axum(&stage.volume, &stage.auth, &stage.sealing_keys);
        play(&stage, &service);
    }
}

fn shows(mount: &Mount<'_>, what: &str, script: &str) {
    let holds = format!("if {script}; then echo yes; fi");
    let shown = eventually(VISIBLE_WITHIN, || mount.shell(&holds) == "yes\n");
    assert!(shown, "not shown within {VISIBLE_WITHIN:?}: {what}");
}

#[test]
fn what_one_user_creates_over_http_is_a_file_to_that_user_and_nothing_to_another() {
    with_each_service(&LAYOUTS, |stage, service| {
        let (alices, bobs) = (stage.mount(&ALICE), stage.mount(&BOB));
        let id = service.create(
            &ALICE,
            &json!({"name": "nightly", "at": "02:00", "user_id": "bob"}),
        );
        let path = format!("/schedules/{id}");
        let nightly = json!({"name": "nightly", "at": "02:00"});
        assert_eq!(service.load(&ALICE, &id), nightly);
        assert_eq!(service.list(&ALICE), json!([id]));

        // To bob it is like one that never was.
        let absent = service.ask(&BOB, "GET", "/schedules/absent", "");
        for method in ["GET", "DELETE"] {
            let refused = service.ask(&BOB, method, &path, "");
            assert_eq!((refused.status, &refused.body), (404, &absent.body));
        }
        assert_eq!(absent.status, 404);
        assert_eq!(service.list(&BOB), json!([]));
        assert_eq!(bobs.shell("ls -A schedules results"), "results:\n\nschedules:\n");

        // To alice it is a file.
        let file = format!("schedules/{id}.json");
        shows(
            &alices,
            "what was created over HTTP",
            &format!("grep -q 02:00 {file}"),
        );
        alices.shell(&format!("sed -i 's/02:00/03:00/' {file}"));
        assert_eq!(
            service.load(&ALICE, &id),
            json!({"name": "nightly", "at": "03:00"})
        );
        alices.shell("printf '{\"at\": \"04:00\"}' > 'schedules/by hand.json'");
        assert_eq!(service.load(&ALICE, "by%20hand"), json!({"at": "04:00"}));
        assert_eq!(service.ask(&BOB, "GET", "/schedules/by%20hand", "").status, 404);
        let listed = service.list(&ALICE);
        assert!(listed.as_array().unwrap().contains(&json!("by hand")), "{listed}");

        assert_eq!(service.ask(&ALICE, "DELETE", &path, "").status, 204);
        assert_eq!(service.ask(&ALICE, "DELETE", &path, "").status, 404);
        assert_eq!(service.ask(&ALICE, "GET", &path, "").status, 404);
        assert_eq!(service.list(&ALICE), json!(["by hand"]));
        shows(&alices, "a deletion over HTTP", &format!("! test -e {file}"));
    });
}

#[test]
fn no_key_appears_anywhere() {
    with_each_service(&LAYOUTS, |stage, service| {
        let mounts = [stage.mount(&ALICE), stage.mount(&BOB)];
        let id = service.create(&ALICE, &json!({"at": "02:00"}));
        let file = format!("schedules/{id}.json");
        shows(
            &mounts[0],
            "what was created over HTTP",
            &format!("test -e {file}"),
        );

        // A secret written in the mount is sealed, survives another edit, and is in no answer.
        mounts[0].shell(&format!(
            "sed -i '$ s/}}$/,\"api_key\":\"{IN_THE_MOUNT}\"}}/' {file}"
        ));
        mounts[0].shell(&format!("sed -i 's/02:00/03:00/' {file}"));
        let stored = stage.volume.stored(&ALICE, "schedules", &format!("{id}.json"));
        let stored: Value = serde_json::from_str(&stored).unwrap();
        assert!(
            stored["api_key"].as_str().unwrap().starts_with("tfs1."),
            "{stored}"
        );
        assert_eq!(service.load(&ALICE, &id), json!({"at": "03:00"}));

        // One sent over HTTP is sealed by who can, and refused by who cannot.
        let sent = json!({"at": "04:00", "api_key": OVER_HTTP}).to_string();
        let created = service.ask(&ALICE, "POST", "/schedules", &sent);
        match created.status {
            201 => {
                let id = created.json()["id"].as_str().unwrap().to_owned();
                assert_eq!(service.load(&ALICE, &id), json!({"at": "04:00"}));
            }
            400 => assert!(created.detail().contains("api_key"), "{}", created.body),
            status => panic!("{status}: {}", created.body),
        }
        service.list(&ALICE);
        service.list(&BOB);

        let keys = [IN_THE_MOUNT, OVER_HTTP, ALICE.api_key, BOB.api_key];
        let mut texts = vec![
            ("an answer", service.answered.take()),
            ("the service's log", service.log().into_bytes()),
            ("the auth service's log", stage.auth.log().into_bytes()),
        ];
        for mount in &mounts {
            texts.push((
                "the mount",
                mount.shell("find . -type f -print -exec cat {} +").into_bytes(),
            ));
            texts.push(("the mount's log", mount.log().into_bytes()));
        }
        for file in stage
            .volume
            .files(&ALICE)
            .into_iter()
            .chain(stage.volume.files(&BOB))
        {
            texts.push(("the volume", fs::read(stage.volume.root().join(file)).unwrap()));
        }
        assert!(texts.iter().any(|(place, _)| *place == "the volume"));
        for (place, text) in &texts {
            let text = String::from_utf8_lossy(text);
            for key in keys {
                assert!(!text.contains(key), "{key} is in {place}: {text}");
            }
        }
    });
}

#[test]
fn who_has_no_key_is_refused_and_learns_nothing() {
    with_each_service(&[Layout::ResourceFirst], |_, service| {
        let id = service.create(&ALICE, &json!({}));
        let path = format!("/schedules/{id}");
        let keys = [
            "",
            "Bearer",
            "Bearer ",
            "Bearer guess",
            "Bearer key of alice",
            "Basic guess",
        ];
        for key in keys {
            let headers = match key {
                "" => String::new(),
                key => format!("Authorization: {key}\r\n"),
            };
            for (method, path) in [
                ("GET", "/schedules"),
                ("POST", "/schedules"),
                ("GET", path.as_str()),
                ("DELETE", path.as_str()),
            ] {
                let refused = service.request(&headers, method, path, "{}");
                assert_eq!(
                    refused.status, 401,
                    "{method} {path} with {key:?}: {}",
                    refused.body
                );
                assert!(
                    refused.head.contains("www-authenticate: bearer"),
                    "{}",
                    refused.head
                );
            }
        }
        assert_eq!(service.list(&ALICE), json!([id]));
    });
}

#[test]
fn what_is_no_record_is_refused_with_the_reason_and_leaves_nothing() {
    with_each_service(&[Layout::UserFirst], |stage, service| {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
        for bad in [
            "",
            "{",
            "{\"at\": ",
            "[1]",
            "\"x\"",
            "{} {}",
            "{'a': 1}",
            "{\"a\": NaN}",
            &deep,
        ] {
            let refused = service.ask(&ALICE, "POST", "/schedules", bad);
            assert_eq!(refused.status, 400, "{bad:.40}: {}", refused.body);
            assert!(refused.detail().contains("JSON"), "{bad:.40}: {}", refused.body);
        }
        // One byte more than the largest.
        let frame = json!({"a": ""}).to_string().len();
        let large = json!({"a": "x".repeat(MAX_RECORD + 1 - frame)}).to_string();
        let refused = service.ask(&ALICE, "POST", "/schedules", &large);
        assert_eq!(refused.status, 413, "{}", refused.body);
        refused.detail();

        // And ids that cannot be.
        let long = "n".repeat(300);
        for bad in [
            "..",
            ".tenantfs-owner",
            "..%2F..%2Fx",
            "a%00b",
            "%0A",
            "%FF",
            &long,
        ] {
            let absent = service.ask(&ALICE, "GET", &format!("/schedules/{bad}"), "");
            assert_eq!(absent.status, 404, "{bad}: {}", absent.body);
        }
        assert_eq!(service.list(&ALICE), json!([]));
        let left = stage.volume.files(&ALICE);
        assert!(!left.iter().any(|file| file.extension().is_some()), "{left:?}");
    });
}

#[test]
fn while_nobody_can_say_whose_a_key_is_nobody_is_let_in() {
    let mut stage = Stage::new(Layout::ResourceFirst);
    let service = WebService::axum(&stage.volume, &stage.auth, &stage.sealing_keys);
    let id = service.create(&ALICE, &json!({}));
    stage.auth.kill();
    assert_eq!(service.ask(&ALICE, "GET", "/schedules", "").status, 503);
    stage.auth.restart();
    assert_eq!(service.list(&ALICE), json!([id]));
    stage.auth.revoke(ALICE.api_key);
    assert_eq!(service.ask(&ALICE, "GET", "/schedules", "").status, 401);
}
