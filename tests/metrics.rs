//! The metrics as a monitoring system meets them: what is counted, where it can be read and by whom.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::auth::AuthService;
use common::daemon::Daemon;
use common::{ALICE, BOB, Layout, Volume, errno, eventually, run, shell};
use sha2::{Digest as _, Sha256};
use tenantfs::event::{LogObserver, Observer, Op, Operation};
use tenantfs::metrics::Metrics;

/// An address of this host that no other test has.
fn own_address() -> SocketAddr {
    static TAKEN: AtomicU8 = AtomicU8::new(100);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, TAKEN.fetch_add(1, Ordering::Relaxed), high, low);
    SocketAddr::from((ip, 9641))
}

/// Sends a request, and returns the answer's status and body.
fn request(mut stream: impl Read + Write, first_line: &str) -> (u16, String) {
    write!(stream, "{first_line} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What can be read: the series and their values.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(address: SocketAddr) -> Self {
        let (status, body) = request(TcpStream::connect(address).unwrap(), "GET /metrics");
        assert_eq!(status, 200, "{body}");
        Self::parse(&body)
    }

    fn parse(body: &str) -> Self {
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    /// The value of a series, without the prefix that all have; zero when it is not there.
    fn value(&self, series: &str) -> f64 {
        self.0.get(&format!("tenantfs_{series}")).copied().unwrap_or(0.0)
    }

    fn series(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// The names, without labels.
    fn names(&self) -> BTreeSet<String> {
        let names = self
            .0
            .keys()
            .map(|series| series.split('{').next().unwrap().to_owned());
        names.collect()
    }
}

/// What every way to be counted is done for, by one user; `n` tells its files apart.
fn work(uid: u32, place: &Path, n: usize) {
    let script = format!(
        "echo '{{\"a\":1}}' > schedules/{n}.json; cat schedules/{n}.json schedules/{n}.json > /dev/null
        echo '{{\"user_id\":\"mallory\"}}' > schedules/{n}-o.json
        echo '{{\"broken\":' > results/{n}-b.json || true
        head -c 100000 /dev/zero > results/{n}.bin; cat results/{n}.bin > /dev/null
        mkdir results/{n}; mv results/{n}.bin results/{n}/; rm -r results/{n} results/{n}-b.json
        ln -s x results/link || true; cat schedules/none 2> /dev/null || true; ls -l schedules results > /dev/null"
    );
    shell(uid, place, &script);
}

#[test]
fn what_is_done_in_a_mount_is_counted() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "alices.json", r#"{"n":1,"user_id":"alice"}"#);
    volume.plant(&ALICE, "schedules", "bobs.json", r#"{"n":1,"user_id":"bob"}"#);
    let address = own_address();
    let daemon = Daemon::start(&volume, &["--metrics-listen", &address.to_string()]);
    let before = Scrape::of(address);
    assert_eq!(before.value(r#"sessions{state="active"}"#), 0.0);
    assert_eq!(
        before.value(&format!("build_info{{version={:?}}}", env!("CARGO_PKG_VERSION"))),
        1.0
    );

    let refused = daemon.ask(BOB.uid, &["login"], "not-a-key-of-anybody");
    assert_eq!(refused.status.code(), Some(3));
    let place = daemon.login(&ALICE);
    shell(
        ALICE.uid,
        &place,
        "cat schedules/alices.json; cat schedules/bobs.json 2> /dev/null || true",
    );
    shell(
        ALICE.uid,
        &place,
        "echo '{\"a\":1}' > schedules/x.json; echo '{\"a\":2}' > schedules/y.json",
    );
    shell(
        ALICE.uid,
        &place,
        "echo '{\"broken\":' > schedules/z.json || true",
    );
    shell(
        ALICE.uid,
        &place,
        "echo '{\"user_id\":\"bob\"}' > schedules/claimed.json",
    );
    shell(
        ALICE.uid,
        &place,
        "printf 12345678 > results/plot.svg; cat results/plot.svg > /dev/null",
    );
    assert_eq!(
        errno(ALICE.uid, &place, "os.symlink('x', 'results/link')"),
        "EPERM"
    );

    let now = Scrape::of(address);
    for (series, value) in [
        (r#"sessions{state="active"}"#, 1.0),
        (r#"session_changes_total{change="begins"}"#, 1.0),
        (r#"logins_failed_total{reason="refused"}"#, 1.0),
        ("commits_total", 3.0),
        (r#"drafts_refused_total{errno="EINVAL"}"#, 1.0),
        ("owners_overridden_total", 1.0),
        (r#"denied_total{op="symlink"}"#, 1.0),
        (r#"operations_total{op="symlink",outcome="EPERM"}"#, 1.0),
        (r#"operations_total{op="create",outcome="ok"}"#, 5.0),
        (r#"operations_total{op="flush",outcome="EINVAL"}"#, 1.0),
        ("panics_total", 0.0),
    ] {
        assert_eq!(now.value(series), value, "{series}\n{:#?}", now.0);
    }
    assert!(now.value("hidden_met_total") >= 1.0);
    assert!(now.value(r#"operations_total{op="open",outcome="ok"}"#) >= 2.0);
    let written = "{\"a\":1}\n{\"a\":2}\n{\"broken\":\n{\"user_id\":\"bob\"}\n12345678".len() as f64;
    assert_eq!(
        now.value(r#"transferred_bytes_total{direction="written"}"#),
        written
    );
    let read = now.value(r#"transferred_bytes_total{direction="read"}"#);
    assert!(
        read >= (r#"{"n":1,"user_id":"alice"}"#.len() + 8) as f64,
        "{read}"
    );
    let total = r#"operation_duration_seconds_count{op="create"}"#;
    assert_eq!(now.value(total), 5.0, "each operation is timed");
    assert!(now.value("resident_memory_bytes") > 1e6 && now.value("threads") > 1.0);

    // What is known is not read again: once the kernel has forgotten it, we have not.
    let misses = now.value(r#"verified_total{cache="miss"}"#);
    assert!(misses >= 1.0);
    let hits = |scrape: &Scrape| scrape.value(r#"verified_total{cache="hit"}"#);
    assert!(eventually(Duration::from_secs(10), || {
        shell(ALICE.uid, &place, "ls -l schedules > /dev/null");
        thread::sleep(Duration::from_millis(300));
        hits(&Scrape::of(address)) > hits(&now)
    }));

    // What is open, and what it takes.
    let code = "f = open('schedules/big.json', 'w'); f.write('x' * 1000000); f.flush(); print(1, flush=True); input()";
    let mut held = common::Conversation::start_in(ALICE.uid, &place, code);
    held.next();
    let open = Scrape::of(address);
    assert!(open.value("open_files") >= 1.0 && open.value("held_memory_bytes") >= 1e6);
    drop(held);
    assert!(eventually(Duration::from_secs(5), || Scrape::of(address)
        .value("open_files")
        == 0.0));

    daemon.asked(ALICE.uid, &["logout"], "");
    let after = Scrape::of(address);
    assert_eq!(after.value(r#"sessions{state="active"}"#), 0.0);
    assert_eq!(after.value(r#"session_changes_total{change="ends"}"#), 1.0);
}

#[test]
fn sessions_are_counted_by_state_through_a_silence_of_the_service() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key), (BOB.user, BOB.api_key)]);
    let address = own_address();
    let daemon = Daemon::start(
        &volume,
        &[
            "--auth-url",
            service.url(),
            "--lease",
            "1s",
            "--grace",
            "2s",
            "--metrics-listen",
            &address.to_string(),
        ],
    );
    daemon.login(&ALICE);
    daemon.login(&BOB);
    let come_to = |state: &str, sessions: f64| {
        let series = format!("sessions{{state={state:?}}}");
        let so = eventually(Duration::from_secs(10), || {
            Scrape::of(address).value(&series) == sessions
        });
        assert!(so, "{state}: {:#?}", Scrape::of(address).0);
    };
    come_to("active", 2.0);
    let renewed = |answer: &str| Scrape::of(address).value(&format!("renewals_total{{answer={answer:?}}}"));
    assert!(eventually(Duration::from_secs(5), || renewed("good") >= 2.0));
    service.kill();
    come_to("stale", 2.0);
    come_to("suspended", 2.0);
    let now = Scrape::of(address);
    assert_eq!(now.value(r#"sessions{state="active"}"#), 0.0);
    assert!(renewed("none") >= 2.0);
    service.restart();
    come_to("active", 2.0);
    come_to("suspended", 0.0);
    service.revoke(BOB.api_key);
    come_to("active", 1.0);
    assert_eq!(renewed("refused"), 1.0);
    let now = Scrape::of(address);
    for (change, times) in [
        ("begins", 2.0),
        ("suspended", 2.0),
        ("active", 2.0),
        ("ends", 1.0),
    ] {
        let series = format!("session_changes_total{{change={change:?}}}");
        assert_eq!(now.value(&series), times, "{series}");
    }
}

#[test]
fn no_series_is_added_by_users_or_files() {
    const USERS: u32 = 20;
    let volume = Volume::new(Layout::default());
    let key = |user: u32| format!("key-of-user-{user}");
    let keys = (0..USERS).map(|user| {
        let sha256 = hex::encode(Sha256::digest(key(user)));
        serde_json::json!({"sha256": sha256, "user_id": format!("user-{user}")})
    });
    let keys: Vec<_> = keys.collect();
    fs::write(
        volume.static_keys_file(),
        serde_json::json!({"keys": keys}).to_string(),
    )
    .unwrap();
    let address = own_address();
    let daemon = Daemon::start(&volume, &["--metrics-listen", &address.to_string()]);
    let login = |user: u32| {
        let uid = 62000 + user;
        daemon.asked(0, &["login", "--uid", &uid.to_string()], &key(user));
        (uid, daemon.place(uid))
    };
    let (uid, place) = login(0);
    work(uid, &place, 0);
    let one = Scrape::of(address).series();
    for user in 1..USERS {
        let (uid, place) = login(user);
        work(uid, &place, user as usize);
    }
    for n in 1..200 {
        shell(uid, &place, &format!("echo '{{}}' > schedules/more-{n}.json"));
    }
    let many = Scrape::of(address);
    assert_eq!(many.value(r#"sessions{state="active"}"#), f64::from(USERS));
    assert!(many.value("commits_total") >= 200.0);
    // An errno that had not occurred is a new series: that set is closed too, and has nobody's name.
    let added: Vec<_> = many.series().difference(&one).cloned().collect();
    let is_closed =
        |series: &String| series.contains("outcome=\"E") || series.contains("operation_duration_seconds");
    assert!(added.iter().all(is_closed), "{added:?}");
    assert!(added.len() < 40, "{added:?}");
    for series in many.series() {
        assert!(
            !series.contains("user-") && !series.contains("more-") && !series.contains("6200"),
            "{series}"
        );
    }
}

#[test]
fn a_hostile_reader_keeps_nobody_waiting() {
    let volume = Volume::new(Layout::default());
    let address = own_address();
    let daemon = Daemon::start(&volume, &["--metrics-listen", &address.to_string()]);
    let place = daemon.login(&ALICE);
    // Connections that say nothing, that never come to an end, and that send more than anybody reads.
    let mut held = Vec::new();
    for n in 0..60 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        match n % 3 {
            0 => {}
            1 => _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: "),
            _ => {
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Huge: ");
                let _ = stream.write_all(&vec![b'x'; 1 << 20]);
            }
        }
        held.push(stream);
    }
    let flood = thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            if let Ok(mut stream) = TcpStream::connect(address) {
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
                held.push(stream);
                if held.len() > 100 {
                    held.remove(0);
                }
            }
        }
    });
    let asks = || assert_eq!(daemon.state(ALICE.uid), "active");
    let writes = || _ = shell(ALICE.uid, &place, "echo '{}' > schedules/x.json");
    let acts: [(&str, &dyn Fn()); 2] = [("status", &asks), ("write", &writes)];
    while !flood.is_finished() {
        for (what, act) in acts {
            let watch = Instant::now();
            act();
            let waited = watch.elapsed();
            assert!(waited < Duration::from_secs(1), "{what}: {waited:?}");
        }
    }
    flood.join().unwrap();

    // Nor does it keep out who comes after it.
    let idle: Vec<_> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
    let watch = Instant::now();
    Scrape::of(address);
    assert!(watch.elapsed() < Duration::from_secs(1), "{:?}", watch.elapsed());
    // And what is idle is ended.
    let mut last = idle.into_iter().next_back().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
}

#[test]
fn there_is_one_page_and_it_can_only_be_read() {
    let volume = Volume::new(Layout::default());
    let address = own_address();
    let _daemon = Daemon::start(&volume, &["--metrics-listen", &address.to_string()]);
    for (first_line, status) in [
        ("GET /metrics", 200),
        ("GET /metrics?x=y", 200),
        ("GET /", 404),
        ("GET /metrics/", 404),
        ("GET /../etc/passwd", 404),
        ("POST /metrics", 405),
        ("DELETE /metrics", 405),
    ] {
        let (said, _) = request(TcpStream::connect(address).unwrap(), first_line);
        assert_eq!(said, status, "{first_line}");
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(&[b"GET /metrics HTTP/1.1\r\nX-Huge: ".as_slice(), &[b'x'; 9000]].concat())
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[test]
fn metrics_are_not_for_other_hosts() {
    let volume = Volume::new(Layout::default());
    let place = volume.base().join("place");
    fs::create_dir(&place).unwrap();
    for address in ["0.0.0.0:9641", "[::]:9641", "192.0.2.1:9641"] {
        let options = ["--metrics-listen", address];
        for command in [
            Daemon::command(&volume, &options),
            volume.mount_command(&place, &ALICE, &options),
        ] {
            let output = run(command, "");
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.contains(address) && said.contains("other hosts") && said.lines().count() == 1,
                "{said}"
            );
        }
    }
    // And one that is taken is said so.
    let taken = std::net::TcpListener::bind(own_address()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(Daemon::command(&volume, &["--metrics-listen", &address]), "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("in use") && said.contains("--metrics-listen"),
        "{said}"
    );
}

#[test]
fn a_unix_socket_is_roots_alone() {
    let volume = Volume::new(Layout::default());
    let socket = volume.base().join("metrics.sock");
    let daemon = Daemon::start(&volume, &["--metrics-listen", socket.to_str().unwrap()]);
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.permissions().mode() & 0o7777),
        (0, 0o600)
    );
    let (status, body) = request(UnixStream::connect(&socket).unwrap(), "GET /metrics");
    assert_eq!(status, 200);
    assert!(!Scrape::parse(&body).0.is_empty());
    let connect = format!("socket.socket(socket.AF_UNIX).connect({socket:?})");
    assert_eq!(errno(ALICE.uid, volume.base(), &connect), "EACCES");
    drop(daemon);
    // What the last one left behind is no obstacle.
    Daemon::start(&volume, &["--metrics-listen", socket.to_str().unwrap()]);
}

#[test]
fn a_mount_has_metrics_where_it_is_told_and_not_where_the_daemons_are() {
    let volume = Volume::new(Layout::default());
    let [address, daemons] = [own_address(), own_address()];
    let config = volume.base().join("config.toml");
    fs::write(&config, format!("[metrics]\nlisten = \"{daemons}\"\n")).unwrap();
    let config = config.to_str().unwrap();
    let _daemon = Daemon::start(&volume, &["--config", config]);
    Scrape::of(daemons);
    let mount = volume.mount_with(
        &ALICE,
        &["--config", config, "--metrics-listen", &address.to_string()],
    );
    mount.shell("echo '{}' > schedules/x.json");
    let scrape = Scrape::of(address);
    assert_eq!(scrape.value("commits_total"), 1.0);
    assert_eq!(scrape.value(r#"sessions{state="active"}"#), 1.0);
    assert_eq!(Scrape::of(daemons).value("commits_total"), 0.0);
}

#[test]
fn a_socket_that_systemd_passes_is_where_metrics_can_be_read() {
    const PASS: &str = "import fcntl, os, socket, sys\n\
        control = socket.socket(socket.AF_UNIX)\n\
        os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)\n\
        control.bind(sys.argv[1]); control.listen(64); os.chmod(sys.argv[1], 0o666)\n\
        metrics = socket.create_server((sys.argv[2], int(sys.argv[3])))\n\
        high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 10) for s in (metrics, control)]\n\
        for number, descriptor in enumerate(high): os.dup2(descriptor, 3 + number)\n\
        os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='metrics:control')\n\
        os.execv(sys.argv[4], sys.argv[4:])";
    let volume = Volume::new(Layout::default());
    let passed = |ip: &str, port: &str| {
        let command = Daemon::command(&volume, &[]);
        let mut python = Command::new("python3");
        python
            .args(["-B", "-c", PASS])
            .arg(Daemon::socket_of(&volume))
            .args([ip, port]);
        python.arg(command.get_program()).args(command.get_args());
        python
    };
    let output = run(passed("0.0.0.0", "0"), "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("other hosts"), "{said}");
    fs::remove_file(Daemon::socket_of(&volume)).unwrap();
    let address = own_address();
    let daemon = Daemon::start_command(&volume, passed(&address.ip().to_string(), "9641"));
    daemon.login(&ALICE);
    assert_eq!(Scrape::of(address).value(r#"sessions{state="active"}"#), 1.0);
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_there() {
    let volume = Volume::new(Layout::default());
    let address = own_address();
    let daemon = Daemon::start(&volume, &["--metrics-listen", &address.to_string()]);
    work(ALICE.uid, &daemon.login(&ALICE), 0);
    let there = Scrape::of(address).names();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let dashboard = fs::read_to_string(scripts.join("tenantfs.grafana.json")).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 5);
    let mut python = Command::new("/usr/bin/python3");
    let code = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    python.args(["-c", code]).arg(scripts.join("tenantfs.alerts.yml"));
    let alerts = common::success(python, "");
    let parsed: serde_json::Value = serde_json::from_str(&alerts).unwrap();
    let rules = parsed["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 5);
    for rule in rules {
        assert!(
            rule["expr"].is_string() && rule["annotations"]["summary"].is_string(),
            "{rule}"
        );
    }
    for text in [dashboard, alerts] {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names: BTreeSet<_> = words.filter(|word| word.starts_with("tenantfs_")).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(there.contains(name), "{name} is in no scrape\n{there:?}");
        }
    }
}

#[test]
fn counting_an_operation_takes_nanoseconds() {
    const TIMES: u32 = 1_000_000;
    let metrics = Metrics::new();
    let count = || {
        // As the program puts them together.
        let log: Arc<dyn Observer> = Arc::new(LogObserver::default());
        let observer = vec![log, metrics.observer()];
        let watch = Instant::now();
        for n in 0..TIMES {
            observer.operation(&Operation {
                op: Op::Read,
                how: &"",
                outcome: Ok(()),
                elapsed: Duration::from_nanos(u64::from(n)),
                path: &|| unreachable!("nobody wants to know"),
                to: None,
            });
        }
        watch.elapsed() / TIMES
    };
    let alone = count();
    let together = thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(count));
        threads
            .map(|thread| thread.join().unwrap())
            .into_iter()
            .max()
            .unwrap()
    });
    let watch = Instant::now();
    let length = metrics.text().len();
    eprintln!(
        "counting an operation: {alone:?}, two threads at once: {together:?}; a scrape of {length} bytes: {:?}",
        watch.elapsed()
    );
    assert!(together < Duration::from_micros(5), "{together:?}");
}
