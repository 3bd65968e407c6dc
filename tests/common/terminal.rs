//! A command on a terminal of its own, and what that shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::eventually;

/// A command, and the terminal that it runs on. Dropped, it is killed.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Ends when nobody has the terminal any more.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts the command on a terminal of so many columns and lines.
    pub(crate) fn start(command: &Command, columns: u16, lines: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave: OwnedFd = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        // The terminal is its controlling one: else a developer's own would be asked how large it is.
        let mut child = Command::new("setsid");
        child
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        child.env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            value.map(|value| child.env(name, value));
        }
        child
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        let child = child.spawn().unwrap();
        let master = File::from(master);
        let [rows, width] = [lines, columns].map(|count| NonZero::new(count).unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, width, 1000)));
        let (mut output, seen) = (master.try_clone().unwrap(), Arc::clone(&screen));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO, when nobody has the other end any more.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                seen.lock().unwrap().process(&buffer[..length]);
            }
        });
        Self {
            child,
            master,
            screen,
            reader,
        }
    }

    /// What it shows now, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap();
        let (_, columns) = screen.screen().size();
        let lines = screen.screen().rows(0, columns.get());
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    /// What it shows, with its colours.
    pub(crate) fn formatted(&self) -> String {
        let screen = self.screen.lock().unwrap();
        screen.screen().contents_formatted()
    }

    /// Whether it is another screen than the shell's.
    pub(crate) fn is_alternate(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Waits until it shows what is wanted.
    pub(crate) fn shows(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let shown = eventually(Duration::from_secs(15), || wanted(&self.lines()));
        assert!(shown, "{what}:\n{}", self.lines().join("\n"));
        self.lines()
    }

    /// Types something.
    pub(crate) fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the command has ended, and says how.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = eventually(Duration::from_secs(30), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "still running:\n{}", self.lines().join("\n"));
        assert!(
            eventually(Duration::from_secs(10), || self.reader.is_finished()),
            "somebody else has the terminal"
        );
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
