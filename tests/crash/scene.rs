//! How what a user does with a record is played, and what must hold when that is cut short.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::common::{ALICE, Conversation, Layout, Mount, Volume, eventually, is_mounted};
use crate::scenes::SCENES;
use crate::strace::{Call, Fault, Point, Watched};
use crate::volume::{Reader, State, files_below, is_state, leftovers, plant, sealing, shown};

/// Something that a user does.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) options: &'static [&'static str],
    /// What the service has stored before.
    pub(crate) stored: State,
    /// Those of the records, at whatever time, that have a secret.
    pub(crate) with_secret: &'static [&'static str],
    /// Python that leads up to it.
    pub(crate) begin: &'static str,
    /// The statement that counts.
    pub(crate) act: &'static str,
    /// What it says when nothing is in its way.
    pub(crate) says: &'static str,
    /// What readers of the volume may find, the old first and the new last.
    pub(crate) states: &'static [State],
    /// What the mount may show after another start: attachments and drafts too. The last is what it shows when the statement
    /// was done.
    pub(crate) shows: &'static [State],
    /// What the user has typed, and where, when the statement is about that.
    pub(crate) typed: Option<(&'static str, &'static str)>,
    /// What is done after another start, and what is on the volume then.
    pub(crate) again: &'static str,
    pub(crate) finally: State,
}

/// A call of a scene's.
pub(crate) type ScenePoint = (&'static Scene, Point);

/// Every call that changes the volume, of every scene.
pub(crate) fn every_point(layout: Layout, reader: &mut Reader) -> Vec<ScenePoint> {
    // Several tests need them, and they are the same each time.
    static RECORDED: Mutex<Vec<(Layout, Vec<ScenePoint>)>> = Mutex::new(Vec::new());
    let mut recorded = RECORDED.lock().unwrap();
    if let Some((_, points)) = recorded.iter().find(|(known, _)| *known == layout) {
        return points.clone();
    }
    let mut every = Vec::new();
    for scene in SCENES {
        let points = scene.points(&sealing(layout), reader);
        assert!(!points.is_empty(), "{}: nothing to fail at", scene.name);
        every.extend(points.into_iter().map(|point| (scene, point)));
    }
    recorded.push((layout, every.clone()));
    every
}

/// The words of the scenes.
const WORDS: &str = r#"
import ctypes, errno, os
X, Y, T = 'schedules/x.json', 'schedules/y.json', 'schedules/t'
D, E = 'schedules/d', 'schedules/e'
NEW, HALF = '{"n": 2}', '{"n": '
def typing(path, text):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(file, text.encode())
    return file
def put(path, text):
    os.close(typing(path, text))
def exchange(one, other):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, one.encode(), -100, other.encode(), 2):
        raise OSError(ctypes.get_errno(), 'renameat2')
def draft(path, text):
    try:
        put(path, text)
    except OSError as error:
        assert error.errno == errno.EINVAL
def move(path, to):
    try:
        os.rename(path, to)
    except FileNotFoundError:
        pass
def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
def shown():
    found = {}
    for directory in ('schedules', 'results'):
        for entry in os.scandir(directory):
            if entry.is_file():
                with open(entry.path) as file:
                    found[entry.path] = file.read()
    return found
"#;

/// What a statement came to, and what was there to see.
pub(crate) struct Played {
    /// `ok`, or the errno.
    pub(crate) said: String,
    pub(crate) calls: Vec<Call>,
    /// The volume's files just before the statement.
    pub(crate) before: BTreeMap<String, Vec<u8>>,
}

impl Scene {
    /// Plants what it begins with.
    pub(crate) fn set(&self, volume: &Volume) {
        for (path, text) in self.stored {
            plant(volume, path, text, self.with_secret.contains(path));
        }
    }

    pub(crate) fn mount<'v>(&self, volume: &'v Volume) -> Mount<'v> {
        let keys = volume.sealing_keys_file();
        let sealing = ["--sealing-keys", keys.to_str().unwrap()];
        // What it logs are writes, too, and how many come before the one that counts is not known.
        volume.mount_logging(&ALICE, &[&sealing, self.options].concat(), "off")
    }

    /// Plays it, up to the end of the statement that counts, which is watched.
    pub(crate) fn play(&self, volume: &Volume, mount: &Mount<'_>, fault: Option<(&Point, Fault)>) -> Played {
        let code = format!(
            "{WORDS}\n{}\nprint('begun', flush=True); input()\n\
             try: {}\nexcept OSError as error: print(errno.errorcode[error.errno], flush=True)\n\
             else: print('ok', flush=True)\ninput()",
            self.begin, self.act
        );
        let mut user = Conversation::start(mount, &code);
        assert_eq!(user.next(), "begun");
        let root = volume.root();
        let files = files_below(&root).into_iter().map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            (name.to_owned(), std::fs::read(&path).unwrap())
        });
        let before = files.collect();
        let watched = Watched::server(mount.pid(), &volume.base().join("strace.log"), fault);
        let said = user.next();
        Played {
            said,
            calls: watched.calls(),
            before,
        }
    }

    /// The calls that change the volume while it is played undisturbed, to its end: a server that is killed then has lost
    /// nothing of it.
    pub(crate) fn points(&self, volume: &Volume, reader: &mut Reader) -> Vec<Point> {
        self.set(volume);
        let mount = self.mount(volume);
        let played = self.play(volume, &mount, None);
        assert_eq!(played.said, self.says, "{}", self.name);
        rustix::process::kill_process(mount.pid(), rustix::process::Signal::KILL).unwrap();
        has_ended(mount);
        assert!(
            leftovers(volume).is_empty(),
            "{}: {:?}",
            self.name,
            leftovers(volume)
        );
        let found = reader.finds(volume, self.with_secret);
        assert!(
            is_state(self.states.last().unwrap(), &found),
            "{}: {found:?}",
            self.name
        );
        let shown = self.shown(&self.mount(volume));
        assert!(
            is_state(self.shows.last().unwrap(), &shown),
            "{}: {shown:?}",
            self.name
        );
        Point::all(&played.calls, &volume.root())
    }

    /// Whether what it saves survives a power cut once the statement has returned. With `--commit fsync` only fsync says so.
    pub(crate) fn is_durable(&self) -> bool {
        self.typed.is_some() && (self.options.is_empty() || self.act.contains("fsync"))
    }

    /// What everybody must find when it was cut short at `place`.
    pub(crate) fn is_whole(&self, volume: &Volume, reader: &mut Reader, place: &str) {
        let found = reader.finds(volume, self.with_secret);
        let is_one = self.states.iter().any(|state| is_state(state, &found));
        assert!(is_one, "{}: {place}: readers find {found:?}", self.name);
    }

    /// After another start the old or the new is shown, drafts too, and it can be done once more.
    pub(crate) fn goes_on(&self, volume: &Volume, reader: &mut Reader, place: &str) {
        let before = leftovers(volume);
        assert!(before.len() <= 1, "{}: {place}: {before:?}", self.name);
        let mount = self.mount(volume);
        let shown = self.shown(&mount);
        let is_one = self.shows.iter().any(|state| is_state(state, &shown));
        assert!(
            is_one,
            "{}: {place}: shown after another start: {shown:?}",
            self.name
        );
        self.comes_to_an_end(volume, reader, &mount, place);
        assert!(leftovers(volume).len() <= before.len(), "{}: {place}", self.name);
        assert!(mount.unmount().success());
    }

    /// What was typed and could not be saved is shown, and saved when it can be; or else it can be done once more.
    pub(crate) fn recovers(&self, volume: &Volume, reader: &mut Reader, mount: &Mount<'_>, place: &str) {
        if let Some((path, text)) = self.typed {
            let shown = self.shown(mount);
            assert_eq!(
                shown.get(path),
                Some(&crate::volume::shown(text)),
                "{}: {place}",
                self.name
            );
            let retried = mount.errno(&format!("os.fsync(os.open({path:?}, os.O_WRONLY))"));
            assert!(
                [self.says, "ok"].contains(&retried.as_str()),
                "{}: {place}: {retried}",
                self.name
            );
            let found = reader.finds(volume, self.with_secret);
            assert!(
                is_state(self.states.last().unwrap(), &found),
                "{}: {place}: {found:?}",
                self.name
            );
        }
        if self.typed.is_none() {
            // What failed half done the kernel is told of as of a change by others: soon.
            thread::sleep(Duration::from_millis(200));
        }
        self.comes_to_an_end(volume, reader, mount, place);
    }

    fn comes_to_an_end(&self, volume: &Volume, reader: &mut Reader, mount: &Mount<'_>, place: &str) {
        mount.python(&format!("{WORDS}\n{}", self.again), &[]);
        let found = reader.finds(volume, self.with_secret);
        assert!(
            is_state(self.finally, &found),
            "{}: {place}: at last {found:?}",
            self.name
        );
        let drafts = files_below(&volume.root());
        let drafts = drafts
            .iter()
            .filter(|path| path.to_str().unwrap().contains(".tenantfs-draft"));
        assert_eq!(drafts.count(), 0, "{}: {place}", self.name);
    }

    fn shown(&self, mount: &Mount<'_>) -> BTreeMap<String, Value> {
        let text = mount.python(&format!("{WORDS}\nimport json; print(json.dumps(shown()))"), &[]);
        let found: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        found
            .into_iter()
            .map(|(path, text)| (path, shown(&text)))
            .collect()
    }
}

/// The server has died, and its mount with it.
pub(crate) fn has_ended(mount: Mount<'_>) {
    assert!(eventually(Duration::from_secs(2), || !is_mounted(&mount.path)));
    let status = mount.unmount();
    assert!(crate::strace::was_killed(status), "{status}");
}
