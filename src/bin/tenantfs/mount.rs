//! `tenantfs mount`.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenantfs::auth::StaticKeys;
use tenantfs::error::{Error, Kind, Result};
use tenantfs::event::LogObserver;
use tenantfs::mounter::Mounter;
use tenantfs::session::{Session, SessionOptions, privilege};
use tenantfs::store::Store;
use tenantfs::volume::Volume;

use crate::cli::MountArgs;
use crate::config::Settings;
use crate::{account, background, key};

pub(crate) fn run(args: Box<MountArgs>) -> Result<()> {
    let settings = Settings::of(*args)?;
    match (settings.background, background::is_here()) {
        (true, false) => background::start(),
        (in_background, _) => {
            if in_background {
                background::leave_terminal()?;
            }
            serve(&settings)
        }
    }
}

fn serve(settings: &Settings) -> Result<()> {
    limit_resources();
    // Both files may be root's alone; what they hold is all that is needed of them.
    let keys = StaticKeys::load(&settings.static_keys)?;
    let principal = keys.authenticate(&key::read(settings.api_key_file.as_deref())?)?;
    drop(keys);
    let (server_uid, server_gid) = server_account(settings)?;
    let log = match settings.background && !background::keeps_log() {
        true => Stdio::null(),
        false => Stdio::inherit(),
    };
    let mounter = Mounter::spawn(log)?;
    privilege::drop_to(server_uid, server_gid)?;
    // From here on this process is an ordinary one, and opens the volume as such.
    rustix::process::umask(Mode::empty());
    let volume = Volume::open(&settings.volume)?;
    let observer = LogObserver {
        session: format!("session of {}", principal.user().hash()),
    };
    let store = Store::open(&volume, &principal, settings.store.clone(), Arc::new(observer))?;
    let uid = settings.uid.unwrap_or_else(account::caller);
    let options = SessionOptions {
        mountpoint: settings.mountpoint.clone(),
        uid,
        gid: account::primary_group(uid),
        exec: settings.exec,
    };
    let session = Arc::new(Session::start(store, &mounter, &options)?);
    end_on_signals(&session)?;
    announce(&session, settings.background)?;
    session.wait()
}

/// The account that serves, as (uid, gid): of the volume's owner, unless another was asked for.
fn server_account(settings: &Settings) -> Result<(u32, u32)> {
    match &settings.server_user {
        Some(name) => account::find(name),
        None => Ok(Volume::open(&settings.volume)?.owner()),
    }
}

/// No core dumps, which would have keys and records in them; as many open files as are allowed.
fn limit_resources() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let files = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    for (resource, limit) in [(Resource::Core, none), (Resource::Nofile, all)] {
        if let Err(errno) = rustix::process::setrlimit(resource, limit) {
            log::warn!("setting the limit of {resource:?}: {errno}");
        }
    }
}

fn end_on_signals(session: &Arc<Session>) -> Result<()> {
    let doing = |error: std::io::Error| Error::io(&error, "waiting for signals");
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(doing)?;
    let session = Arc::clone(session);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                // Whoever waits for the session is told how it ended.
                let _ = session.end();
            }
        })
        .map_err(doing)?;
    Ok(())
}

/// Prints the mountpoint, alone: whoever started this knows then that it is ready, and where.
fn announce(session: &Session, in_background: bool) -> Result<()> {
    let mut stdout = std::io::stdout();
    let written = writeln!(stdout, "{}", session.mountpoint().display()).and_then(|()| stdout.flush());
    match written {
        // Nobody wants to know: that is no reason not to serve.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(Error::new(Kind::Io, format!("printing the mountpoint: {error}"))),
        Ok(()) => {}
    }
    match in_background {
        true => background::let_go(),
        false => Ok(()),
    }
}
