//! What the tests on real mounts share: a volume that belongs to a service account, mounts that end with their test,
//! and commands run as the tenants.
//!
//! Root is needed throughout: for FUSE mounts, and to act as several uids. A mount admits only its own uid, so what a
//! test does inside one is done by a process with that uid ([`as_user`], [`shell`], [`python`], [`errno`]).

// Every test crate compiles this module and uses its own part of it.
#![allow(dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod daemon;
pub(crate) mod hanging;
pub(crate) mod mounter;
pub(crate) mod sealing;
pub(crate) mod terminal;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
pub(crate) use tenantfs::layout::Layout;

/// The account of the web service, which owns the volumes.
pub(crate) const SERVICE_UID: u32 = 61000;
/// Both layouts, for tests that hold in either.
pub(crate) const LAYOUTS: [Layout; 2] = [Layout::ResourceFirst, Layout::UserFirst];
/// How long a mount may take to be ready or to end.
const MOUNT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a command may take; one that hangs must not hang the tests.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);

/// A user of the service who has an account on this host.
pub(crate) struct Tenant {
    pub(crate) user: &'static str,
    /// `printf %s USER | sha256sum | cut -c -16`, written out so that the tests do not take our word for it.
    pub(crate) hash: &'static str,
    pub(crate) uid: u32,
    pub(crate) api_key: &'static str,
}

pub(crate) const ALICE: Tenant = Tenant {
    user: "alice",
    hash: "2bd806c97f0e00af",
    uid: 61001,
    api_key: "key-of-alice-0123456789",
};
pub(crate) const BOB: Tenant = Tenant {
    user: "bob",
    hash: "81b637d8fcd2c6da",
    uid: 61002,
    api_key: "key-of-bob-9876543210",
};

/// Says why a test on real mounts cannot run, instead of failing somewhere inside.
pub(crate) fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "tests on real mounts must run as root: use `sudo scripts/test`"
    );
    assert!(
        Path::new("/dev/fuse").exists(),
        "tests on real mounts need /dev/fuse: `modprobe fuse`, or pass the device to the container"
    );
}

/// Where a tool is; when it is missing, says aloud that the calling test is skipped (scripts/test counts the lines).
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Says aloud that the calling test, or the rest of it, is skipped.
pub(crate) fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("?").to_owned();
    let line = format!("SKIPPED: {test}: {reason}\n");
    // Not eprintln!: the test runner would swallow it.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A volume on a real disk, mode 0750, that belongs to the service; with the files `mount` needs to serve two tenants.
pub(crate) struct Volume {
    base: TempDir,
    pub(crate) layout: Layout,
}

impl Volume {
    pub(crate) fn new(layout: Layout) -> Self {
        require_root();
        // /var/tmp is on disk where /tmp may be memory, and every uid can pass through it.
        let base = tempfile::Builder::new()
            .prefix("tenantfs-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        set_mode(base.path(), 0o755);
        let volume = Self { base, layout };
        make_directory(&volume.root(), SERVICE_UID, 0o750);
        for tenant in [&ALICE, &BOB] {
            make_directory(&volume.home(tenant.uid), tenant.uid, 0o700);
            write_private(&volume.api_key_file(tenant), &format!("{}\n", tenant.api_key));
        }
        let keys = [&ALICE, &BOB].map(|tenant| {
            let sha256 = hex::encode(Sha256::digest(tenant.api_key));
            serde_json::json!({"sha256": sha256, "user_id": tenant.user})
        });
        write_private(
            &volume.static_keys_file(),
            &serde_json::json!({"keys": keys}).to_string(),
        );
        fs::write(
            volume.base.path().join("service.py"),
            include_str!("../../scripts/service.py"),
        )
        .unwrap();
        volume
    }

    /// A place outside the volume, for what else a test needs.
    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.base.path().join("volume")
    }

    /// A directory of `uid`'s own outside the mount; its processes have it as HOME.
    pub(crate) fn home(&self, uid: u32) -> PathBuf {
        self.base.path().join(format!("home-{uid}"))
    }

    pub(crate) fn static_keys_file(&self) -> PathBuf {
        self.base.path().join("static-keys.json")
    }

    /// Where an audit log can be that the service writes.
    pub(crate) fn audit_log(&self) -> PathBuf {
        let directory = self.base.path().join("audit");
        if !directory.exists() {
            make_directory(&directory, SERVICE_UID, 0o750);
        }
        directory.join("audit.jsonl")
    }

    pub(crate) fn api_key_file(&self, tenant: &Tenant) -> PathBuf {
        self.base.path().join(format!("{}.api-key", tenant.user))
    }

    /// The directory on the volume that holds the tenant's records of one resource.
    pub(crate) fn directory(&self, tenant: &Tenant, resource: &str) -> PathBuf {
        match self.layout {
            Layout::ResourceFirst => self.root().join(resource).join(tenant.hash),
            Layout::UserFirst => self.root().join("users").join(tenant.hash).join(resource),
        }
    }

    /// The path of a record, or of another file, below that directory.
    pub(crate) fn path(&self, tenant: &Tenant, resource: &str, name: &str) -> PathBuf {
        self.directory(tenant, resource).join(name)
    }

    /// What the volume holds of a record, whatever the mount shows of it.
    pub(crate) fn stored(&self, tenant: &Tenant, resource: &str, name: &str) -> String {
        let path = self.path(tenant, resource, name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes a file of the tenant's as the service account would, with exactly this content.
    pub(crate) fn plant(
        &self,
        tenant: &Tenant,
        resource: &str,
        name: &str,
        content: impl AsRef<[u8]>,
    ) -> PathBuf {
        let path = self.path(tenant, resource, name);
        self.make_directories(path.parent().unwrap());
        fs::write(&path, content).unwrap();
        chown(&path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        set_mode(&path, 0o640);
        path
    }

    fn make_directories(&self, path: &Path) {
        if !path.exists() {
            self.make_directories(path.parent().unwrap());
            make_directory(path, SERVICE_UID, 0o750);
        }
    }

    /// Every file below the tenant's directories, as paths relative to the volume.
    pub(crate) fn files(&self, tenant: &Tenant) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut pending = match self.layout {
            Layout::ResourceFirst => vec![
                self.directory(tenant, "schedules"),
                self.directory(tenant, "results"),
            ],
            Layout::UserFirst => vec![self.root().join("users").join(tenant.hash)],
        };
        while let Some(directory) = pending.pop() {
            let Ok(entries) = fs::read_dir(directory) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    files.push(path.strip_prefix(self.root()).unwrap().to_owned());
                }
            }
        }
        files.sort();
        files
    }

    /// A command of scripts/service.py on this volume, as the service's account: `["save", "alice", "results", "x"]`.
    pub(crate) fn service(&self, args: &[&str], input: &str) -> String {
        success(self.service_command(args), input)
    }

    /// The same command, to be run beside something else.
    pub(crate) fn service_command(&self, args: &[&str]) -> Command {
        let mut command = as_user(SERVICE_UID, self.base(), "python3");
        command.args(["-B", "service.py", "--volume"]).arg(self.root());
        command.args(["--layout", &self.layout.to_string()]).args(args);
        command
    }

    /// Mounts the tenant's view, as `tenantfs mount` does for the tenant's uid.
    pub(crate) fn mount(&self, tenant: &Tenant) -> Mount<'_> {
        self.mount_with(tenant, &[])
    }

    /// Mounts with further options: `["--commit", "fsync"]`.
    pub(crate) fn mount_with(&self, tenant: &Tenant, options: &[&str]) -> Mount<'_> {
        self.mount_logging(tenant, options, "debug")
    }

    /// The same, with so much in its log.
    pub(crate) fn mount_logging(&self, tenant: &Tenant, options: &[&str], level: &str) -> Mount<'_> {
        let mountpoint = self.base.path().join(format!("mnt-{}", tenant.user));
        if !mountpoint.exists() {
            make_directory(&mountpoint, 0, 0o755);
        }
        let mut command = self.mount_command(&mountpoint, tenant, options);
        command.env("TENANTFS_LOG", level);
        Mount::new(self, command, mountpoint, tenant)
    }

    /// Mounts the tenant's view once more, beside the first mount.
    pub(crate) fn mount_again(&self, tenant: &Tenant) -> Mount<'_> {
        let mountpoint = self.base.path().join(format!("mnt-{}-again", tenant.user));
        if !mountpoint.exists() {
            make_directory(&mountpoint, 0, 0o755);
        }
        let command = self.mount_command(&mountpoint, tenant, &[]);
        Mount::new(self, command, mountpoint, tenant)
    }

    /// `tenantfs mount` for the tenant, not started.
    pub(crate) fn mount_command(&self, mountpoint: &Path, tenant: &Tenant, options: &[&str]) -> Command {
        let mut command = tenantfs();
        command.arg("mount").arg(mountpoint);
        command.arg("--volume").arg(self.root());
        command.args(["--layout", &self.layout.to_string()]);
        if !options.contains(&"--auth-url") {
            command.arg("--static-keys").arg(self.static_keys_file());
        }
        command.arg("--api-key-file").arg(self.api_key_file(tenant));
        command.args(["--uid", &tenant.uid.to_string()]).args(options);
        command
    }
}

/// The command under test.
pub(crate) fn tenantfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantfs"));
    // The host's own audit log is no test's.
    command
        .env("TENANTFS_LOG", "debug")
        .env("TENANTFS_AUDIT_LOG", "none");
    command.stdin(Stdio::null());
    command
}

/// A mounted view. Dropped, it ends with SIGTERM, and the test fails when that leaves a mount behind.
pub(crate) struct Mount<'v> {
    volume: &'v Volume,
    pub(crate) path: PathBuf,
    pub(crate) uid: u32,
    server: Child,
    log: PathBuf,
}

impl<'v> Mount<'v> {
    fn new(volume: &'v Volume, mut command: Command, path: PathBuf, tenant: &Tenant) -> Self {
        let log = path.with_extension("log");
        command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut server = command.spawn().unwrap();
        let stdout = BufReader::new(server.stdout.take().unwrap());
        // Guarded from here on: a server that is not ready in time is ended by Drop.
        let mount = Self {
            volume,
            path,
            uid: tenant.uid,
            server,
            log,
        };
        let ready = with_deadline(MOUNT_DEADLINE, move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        match ready {
            Some(Ok(line)) if Path::new(line.trim_end_matches('\n')) == mount.path => mount,
            Some(said) => panic!(
                "mount said {said:?} on stdout, not its mountpoint\n{}",
                mount.log()
            ),
            None => panic!("mount was not ready within {MOUNT_DEADLINE:?}\n{}", mount.log()),
        }
    }

    /// What the server wrote to stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.server)
    }

    /// Runs a shell script in the mount as its user; it must succeed. Returns what it printed.
    pub(crate) fn shell(&self, script: &str) -> String {
        shell(self.uid, &self.path, script)
    }

    /// Runs Python in the mount as its user; it must succeed. Returns what it printed.
    pub(crate) fn python(&self, code: &str, args: &[&str]) -> String {
        python(self.uid, &self.path, code, args)
    }

    /// What a Python statement meets in the mount: `ok`, or the name of an errno.
    pub(crate) fn errno(&self, statement: &str) -> String {
        errno(self.uid, &self.path, statement)
    }

    /// A command in the mount as its user.
    pub(crate) fn command(&self, program: &str) -> Command {
        as_user(self.uid, &self.path, program)
    }

    /// The bytes of a file in the mount.
    pub(crate) fn read(&self, path: &str) -> String {
        let mut command = self.command("cat");
        command.args(["--", path]);
        success(command, "")
    }

    /// A directory of the user's own outside the mount.
    pub(crate) fn home(&self) -> PathBuf {
        self.volume.home(self.uid)
    }

    /// Ends the mount as an operator would, and says how the server ended.
    pub(crate) fn unmount(mut self) -> ExitStatus {
        let status = self.end().expect("the server did not end on SIGTERM");
        assert!(
            !is_mounted(&self.path),
            "SIGTERM left {} mounted",
            self.path.display()
        );
        status
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.server.try_wait() {
            return Some(status);
        }
        let _ = kill_process(self.pid(), Signal::TERM);
        let mut status = None;
        eventually(MOUNT_DEADLINE, || {
            status = self.server.try_wait().unwrap();
            status.is_some()
        });
        status
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let mut complaint = None;
        if self.end().is_none() {
            complaint = Some("did not end on SIGTERM");
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
        if !eventually(Duration::from_secs(2), || !is_mounted(&self.path)) {
            complaint = complaint.or(Some("left its mount behind"));
            let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
        }
        if thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!("--- the end of the log of {}", self.path.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else if let Some(complaint) = complaint {
            panic!(
                "the server of {} {complaint}\n{}",
                self.path.display(),
                self.log()
            );
        }
    }
}

/// Whether something is mounted there.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

/// A file system that is not ours, on a place of a test's. Dropped, it is unmounted.
pub(crate) struct OtherMount {
    pub(crate) place: PathBuf,
}

impl OtherMount {
    pub(crate) fn over(place: &Path, fstype: &str) -> Self {
        let mut command = Command::new("mount");
        command.args(["-t", fstype, "other"]).arg(place);
        success(command, "");
        Self {
            place: place.to_owned(),
        }
    }
}

impl Drop for OtherMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A command that runs as `uid` in `directory`, with its home there among the volumes' files and a plain environment.
///
/// The directory is entered as that user: root cannot enter a mount.
pub(crate) fn as_user(uid: u32, directory: &Path, program: &str) -> Command {
    let home = directory
        .ancestors()
        .map(|ancestor| ancestor.join(format!("home-{uid}")))
        .find(|home| home.is_dir())
        .unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
    command
        .args(["--clear-groups", "env", "-C"])
        .arg(directory)
        .arg(program);
    command
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm");
    command
}

/// The same, in another group than the uid's own.
pub(crate) fn as_group(uid: u32, gid: u32, directory: &Path, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
    command
        .args(["--clear-groups", "env", "-C"])
        .arg(directory)
        .arg(program);
    command
}

/// Runs a POSIX shell script as `uid`; it must succeed. Returns what it printed.
pub(crate) fn shell(uid: u32, directory: &Path, script: &str) -> String {
    let mut command = as_user(uid, directory, "sh");
    command.args(["-euc", script]);
    success(command, "")
}

/// Runs Python 3 as `uid`, with `args` in `sys.argv[1:]`; it must succeed. Returns what it printed.
pub(crate) fn python(uid: u32, directory: &Path, code: &str, args: &[&str]) -> String {
    let mut command = as_user(uid, directory, "python3");
    command.args(["-B", "-c", code]).args(args);
    success(command, "")
}

/// What a Python statement meets as `uid`: `ok`, or the name of the errno it fails with.
///
/// The modules os, fcntl, mmap, shutil, socket and stat are imported for it.
pub(crate) fn errno(uid: u32, directory: &Path, statement: &str) -> String {
    let code = "import errno, fcntl, mmap, os, shutil, socket, stat, sys\n\
                try:\n    exec(sys.argv[1])\n\
                except OSError as error:\n    print(errno.errorcode[error.errno])\n\
                else:\n    print('ok')";
    python(uid, directory, code, &[statement]).trim_end().to_owned()
}

/// What writing `text` to a file meets, as `cat > path` does it: `ok`, or an errno's name.
pub(crate) fn write(mount: &Mount<'_>, path: &str, text: &str) -> String {
    let code = "
import errno, os, sys
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
os.write(descriptor, sys.argv[2].encode())
try:
    os.close(descriptor)
except OSError as error:
    print(errno.errorcode[error.errno])
else:
    print('ok')
";
    mount.python(code, &[path, text]).trim_end().to_owned()
}

/// Runs a command that must succeed. Returns what it printed.
pub(crate) fn success(command: Command, input: &str) -> String {
    let said = format!("{command:?}");
    let output = run(command, input);
    let (stdout, stderr) = (
        String::from_utf8(output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}\n{said}\n{stdout:?}\n{stderr}",
        output.status
    );
    stdout.unwrap()
}

/// Runs a command with that input, to its end or the deadline.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let said = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{said}: {error}"));
    let pid = Pid::from_child(&child);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let output = with_deadline(COMMAND_DEADLINE, move || {
        // A command that does not read its input is no failure.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output()
    });
    let Some(output) = output else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("still running after {COMMAND_DEADLINE:?}: {said}");
    };
    output.unwrap()
}

/// A Python program that stops after each line it prints, until it is told to go on.
pub(crate) struct Conversation {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    begun: bool,
}

impl Conversation {
    /// Starts it in the mount, as its user.
    pub(crate) fn start(mount: &Mount<'_>, code: &str) -> Self {
        Self::start_in(mount.uid, &mount.path, code)
    }

    /// Starts it in a directory, as a user.
    pub(crate) fn start_in(uid: u32, directory: &Path, code: &str) -> Self {
        let mut command = as_user(uid, directory, "python3");
        command.args(["-B", "-c", code]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            begun: false,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Gives it a line to read, and waits for the next of its own.
    pub(crate) fn say(&mut self, line: &str) -> String {
        self.begun = true;
        let mut stdin = self.child.stdin.as_ref().unwrap();
        writeln!(stdin, "{line}").unwrap();
        self.lines.next().unwrap().unwrap()
    }

    /// Lets it go on, and waits for the next line.
    pub(crate) fn next(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) {
            self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        }
        self.lines.next().unwrap().unwrap()
    }
}

impl Conversation {
    /// Waits for a line that comes without being asked for.
    pub(crate) fn next_of_its_own(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs commands side by side; all must succeed. Returns what each printed.
pub(crate) fn together(commands: Vec<Command>) -> Vec<String> {
    thread::scope(|scope| {
        let running: Vec<_> = commands
            .into_iter()
            .map(|command| scope.spawn(|| success(command, "")))
            .collect();
        // Joined one and all before any failure is reported, so that nothing outlives its mount.
        let ended: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
        let output = |ended: thread::Result<String>| ended.unwrap_or_else(|panic| resume_unwind(panic));
        ended.into_iter().map(output).collect()
    })
}

/// Waits until something is so; whether it came to be.
pub(crate) fn eventually(deadline: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A mode as `chmod` takes it.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn make_directory(path: &Path, uid: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(uid), Some(uid)).unwrap();
    set_mode(path, mode);
}

fn write_private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    set_mode(path, 0o600);
}

pub(crate) fn with_deadline<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(deadline).ok()
}
