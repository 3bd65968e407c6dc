//! `tenantfs pam-session`: pam_exec(8) runs it, as root, when a session of any kind begins or ends.
//!
//! The key is a file of the user's, which is read as the user: root would follow a link to anybody's key. Or one that root keeps
//! for the user. It is never on a command line or in an environment. Nothing here keeps anybody from beginning a session: what
//! goes wrong is in the host's log.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::User;
use tenantfs::auth::ApiKey;
use tenantfs::daemon::{Client, Reply, Request};
use tenantfs::error::{Doing, Error, Kind, Result};
use tenantfs::escape::plain;
use tenantfs::session::privilege;

use crate::cli::ClientArgs;
use crate::{config, hygiene, key};

/// Keys that root keeps for users, NAME.key each.
const ROOTS_KEYS: &str = "/etc/tenantfs/users";

/// Where a user's own key is, below the home.
const OWN_KEY: &str = ".config/tenantfs/api-key";

/// Whoever begins a session waits no longer, whatever the server and the auth service do.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long after the end of a session it is looked whether it was the last, in seconds: a moment later the next may begin.
const LINGER: &str = "10";

pub(crate) fn run() -> Result<()> {
    hygiene::hide_memory();
    let variable = |name| std::env::var(name).unwrap_or_default();
    let done = match User::from_name(&variable("PAM_USER")) {
        Ok(Some(user)) if !user.uid.is_root() => match variable("PAM_TYPE").as_str() {
            "open_session" => log_in(&user),
            "close_session" => log_out_later(&user),
            _ => Ok(()),
        },
        _ => Ok(()),
    };
    if let Err(error) = &done {
        tell(&format!("session of {}: {error}", variable("PAM_USER")));
    }
    done
}

/// Logs the user in who has a key and no session.
fn log_in(user: &User) -> Result<()> {
    let socket = config::client_socket(ClientArgs {
        socket: None,
        config: None,
        json: false,
    })?;
    let kept_by_root = read_if_there(&Path::new(ROOTS_KEYS).join(format!("{}.key", user.name)))?;
    privilege::drop_to(user.uid.as_raw(), user.gid.as_raw())?;
    let found = match kept_by_root {
        Some(key) => Some(key),
        None => read_if_there(&user.dir.join(OWN_KEY))?,
    };
    let Some(key) = found else { return Ok(()) };
    let (said, heard) = mpsc::channel();
    std::thread::Builder::new()
        .name("login".to_owned())
        .spawn(move || said.send(ask(&socket, key)))
        .doing("starting a thread")?;
    let slow = |_| {
        Err(Error::new(
            Kind::Io,
            format!("logging in takes longer than {PATIENCE:?}; it goes on without"),
        ))
    };
    heard.recv_timeout(PATIENCE).unwrap_or_else(slow)
}

fn ask(socket: &Path, key: ApiKey) -> Result<()> {
    let reply = Client::connect(socket)?.ask(&Request::Status { uid: None })?;
    match reply.done()? {
        // One that waits for the auth service comes back by itself.
        Reply::Sessions(sessions) if !sessions.is_empty() => Ok(()),
        _ => {
            let login = Request::Login {
                key,
                uid: None,
                gid: None,
            };
            Client::connect(socket)?.ask(&login)?.done().map(drop)
        }
    }
}

fn read_if_there(path: &Path) -> Result<Option<ApiKey>> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => key::read(Some(path)).map(Some),
        // Nobody has to have a key; and a home may be out of reach.
        Err(_) => Ok(None),
    }
}

/// Has the user logged out who begins nothing else; where logind counts a user's sessions, `setup` has it do that.
fn log_out_later(user: &User) -> Result<()> {
    let uid = user.uid.as_raw();
    if Path::new(&format!("/run/systemd/users/{uid}")).exists() {
        return Ok(());
    }
    // One that was asked for before and has yet to look will do: then this fails.
    let asked = Command::new("/usr/bin/systemd-run")
        .args(["--quiet", "--collect", "--on-active", LINGER])
        .arg("--timer-property=AccuracySec=1s")
        .arg(format!("--unit=tenantfs-logout-{uid}"))
        .args(["/usr/bin/tenantfs", "logout", "--if-idle", "--uid"])
        .arg(uid.to_string())
        .env_clear()
        .output();
    asked.map(drop).doing("running systemd-run")
}

/// One line in the host's log, of the facility `auth`.
fn tell(message: &str) {
    const AUTH_WARNING: u32 = 4 * 8 + 4;
    let line = format!("<{AUTH_WARNING}>tenantfs: {}", plain(message));
    // Without a log there is nobody to be told.
    let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), "/dev/log"));
}
