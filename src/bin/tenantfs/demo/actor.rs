//! Doing things as somebody.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Gid, Uid};
use tenantfs::error::{Doing, Error, Kind, Result};

/// A uid of this host and its group. It needs no account.
#[derive(Clone, Copy)]
pub(super) struct Actor {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Actor {
    /// Runs `work` as this user, with no other rights: on a thread of its own, for the kernel keeps who one is for each
    /// thread.
    pub(super) fn act<T: Send>(self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
                rustix::thread::set_thread_groups(&[])?;
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
                work()
            });
            acting
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the acting thread panicked")))
        })
    }

    pub(super) fn read(self, path: &Path) -> io::Result<String> {
        self.act(|| std::fs::read_to_string(path))
    }

    /// Writes a file as `cat > path` does: what is wrong with a record, its close says.
    pub(super) fn write(self, path: &Path, text: &str) -> io::Result<()> {
        self.act(|| {
            let mut file = File::create(path)?;
            file.write_all(text.as_bytes())?;
            Ok(nix::unistd::close(file)?)
        })
    }

    /// The names in a directory, sorted.
    pub(super) fn list(self, path: &Path) -> io::Result<Vec<String>> {
        self.act(|| {
            let mut names = std::fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            Ok(names)
        })
    }

    /// What a program prints that this user runs in `directory`.
    ///
    /// # Errors
    /// When it cannot be run, or fails.
    pub(super) fn run(self, directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let doing = format!("running {program} as uid {}", self.uid);
        let output = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .current_dir(directory)
            // Of root's groups none is left: the standard library sees to that.
            .gid(self.gid)
            .uid(self.uid)
            .output()
            .doing(doing.clone())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Error::new(Kind::Io, said).context(doing))
            }
        }
    }
}
