//! `tenantfs top`: what is done in each session, live. The daemon counts; here it is asked every few seconds, and what came since is
//! shown.

mod sample;
mod screen;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use tenantfs::clock::{self, Stopwatch};
use tenantfs::daemon::{Activity, Client, Reply, Request};
use tenantfs::error::{Doing, Error, Result};
use tenantfs::escape::plain;

use crate::cli::TopArgs;
use crate::client::unexpected;
use crate::config;
use sample::{Row, Samples};
use screen::Screen;

/// How long a key is waited for until it is looked whether the daemon has answered.
const LOOK: Duration = Duration::from_millis(100);

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far Page Up and Page Down lead.
const PAGE: isize = 15;

const SHOWING: &str = "showing it on the terminal";

/// What the daemon said, as rows; and when.
type Answer = Result<(Vec<Row>, String)>;

pub(crate) fn run(args: &TopArgs) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        return Err(Error::config(
            "top is for a terminal; for programs there are `tenantfs status --json` and the metrics",
        ));
    }
    let socket = config::client_socket(args.client())?;
    // A first answer before anything is drawn: whoever may not see it is told so as usual.
    let first = ask(&socket)?;
    let ended = Arc::new(AtomicBool::new(false));
    end_with_signals(Arc::clone(&ended))?;
    let answers = follow(socket, first, Duration::from_secs(args.interval.into()))?;
    let mut terminal = ratatui::try_init().doing(SHOWING)?;
    let shown = show(&mut terminal, &answers, &ended);
    ratatui::restore();
    shown
}

/// Has it end with SIGHUP and SIGTERM; also where whoever reads the keys does not come back, for the terminal is gone.
fn end_with_signals(ended: Arc<AtomicBool>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGTERM]).doing("waiting for signals")?;
    let end = move || {
        signals.forever().next();
        ended.store(true, Ordering::Relaxed);
        thread::sleep(PATIENCE);
        ratatui::restore();
        std::process::exit(1);
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(end).map(drop).doing("starting a thread")
}

fn ask(socket: &Path) -> Result<Vec<Activity>> {
    match Client::connect(socket)?.ask(&Request::Activity {})?.done()? {
        Reply::Activity(sessions) => Ok(sessions),
        _ => Err(unexpected()),
    }
}

/// Asks again and again, on a thread of its own: keys do not wait for a daemon that does not answer.
fn follow(socket: PathBuf, first: Vec<Activity>, interval: Duration) -> Result<Receiver<Answer>> {
    let (sender, receiver) = mpsc::channel();
    let ask_on = move || {
        let (mut samples, mut since) = (Samples::default(), Stopwatch::start());
        let mut answer = Ok(first);
        loop {
            let elapsed = since.elapsed();
            if answer.is_ok() {
                since = Stopwatch::start();
            }
            let rows = answer.map(|sessions| (samples.rows(sessions, elapsed), time_of_day()));
            // Whoever showed it is gone.
            if sender.send(rows).is_err() {
                return;
            }
            thread::sleep(interval);
            answer = ask(&socket);
        }
    };
    thread::Builder::new()
        .name("ask".to_owned())
        .spawn(ask_on)
        .doing("starting a thread")?;
    Ok(receiver)
}

fn show(terminal: &mut DefaultTerminal, answers: &Receiver<Answer>, ended: &AtomicBool) -> Result<()> {
    let mut screen = Screen::default();
    let mut is_new = true;
    while !ended.load(Ordering::Relaxed) {
        for answer in answers.try_iter() {
            match answer {
                Ok((rows, time)) if !screen.is_held => screen.show(rows, time),
                Ok(_) => {}
                Err(error) => screen.trouble = Some(plain(&format!("{error:#}")).to_string()),
            }
            is_new = true;
        }
        if is_new {
            terminal.draw(|frame| screen.draw(frame)).doing(SHOWING)?;
        }
        if !has_keys()? {
            return Ok(());
        }
        is_new = event::poll(Duration::ZERO).doing(SHOWING)?;
        if is_new && act(&event::read().doing(SHOWING)?, &mut screen) {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits for a key, for a while; whether there is still a terminal that one could come from. Who reads the keys would read on for
/// ever from one that is gone.
fn has_keys() -> Result<bool> {
    let stdin = std::io::stdin();
    let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
    let look = Timespec::try_from(LOOK).unwrap_or_default();
    match rustix::event::poll(&mut keys, Some(&look)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno).doing(SHOWING),
    }
    let [stdin] = &keys;
    Ok(!stdin.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Does what a key says; whether that is to end.
fn act(event: &Event, screen: &mut Screen) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('s') => screen.sort = screen.sort.next(),
        KeyCode::Char(' ') => screen.is_held = !screen.is_held,
        KeyCode::Down => screen.scroll(1),
        KeyCode::Up => screen.scroll(-1),
        KeyCode::PageDown => screen.scroll(PAGE),
        KeyCode::PageUp => screen.scroll(-PAGE),
        _ => {}
    }
    false
}

/// UTC, as the log and the audit log have it.
fn time_of_day() -> String {
    let now = Timestamp::from_second(clock::now().seconds).unwrap_or_default();
    now.strftime("%H:%M:%S UTC").to_string()
}
