//! What readers find on a volume: the Python service, by its own rules, and whoever looks at every file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tenantfs::clock::Timestamp;
use tenantfs::store::Reserved;
use tenantfs::volume::Volume as Directories;

use crate::common::sealing::KEY;
use crate::common::{ALICE, Conversation, SERVICE_UID, Volume};

/// Records by path as in the mount, and their text without what the mount does not show.
pub(crate) type State = &'static [(&'static str, &'static str)];

/// The secret of every record that has one.
pub(crate) const SECRET: &str = "sk-that-must-not-be-lost";

/// The Python service, which reads any volume.
pub(crate) struct Reader {
    service: Conversation,
}

impl Reader {
    /// `home` has the program.
    pub(crate) fn new(home: &Volume) -> Self {
        const SERVICE: &str = r"
import json
from service import RecordService
while True:
    root, layout, user = json.loads(input())
    service = RecordService(root, layout)
    found = {f'{resource}/{id}.json': service.load(user, resource, id)
             for resource in ('schedules', 'results') for id in service.list(user, resource)}
    print(json.dumps(found), flush=True)
";
        let service = Conversation::start_in(SERVICE_UID, home.base(), SERVICE);
        Self { service }
    }

    /// Every record of a user's that it finds, with its owner and its secret.
    pub(crate) fn records(&mut self, root: &Path, layout: &str, user: &str) -> BTreeMap<String, Value> {
        let answer = self.service.say(&json!([root, layout, user]).to_string());
        serde_json::from_str(&answer).unwrap()
    }

    /// What both readers find of alice's records, who must agree: each is whole, owned, and has its secret if it is one
    /// `with_secret`. Every other file is one that may be there.
    pub(crate) fn finds(&mut self, volume: &Volume, with_secret: &[&str]) -> BTreeMap<String, Value> {
        let mut look = || {
            let found = self.records(&volume.root(), &volume.layout.to_string(), ALICE.user);
            (found, named_like_records(volume))
        };
        let (mut found, mut named) = look();
        if !found.keys().eq(named.iter()) {
            // What a close could not save is saved at the release: that may have been just between the two.
            (found, named) = look();
        }
        assert!(
            found.keys().eq(named.iter()),
            "a record that is none: {named:?}, {found:?}"
        );
        for (path, record) in &mut found {
            let members = record.as_object_mut().unwrap();
            assert_eq!(members.remove("user_id").unwrap(), "alice", "{path}");
            let secret = members.remove("api_key");
            if with_secret.contains(&path.as_str()) {
                let sealed = secret.unwrap_or_else(|| panic!("{path} has lost its secret"));
                let opened = volume.sealer(&ALICE).open("api_key", sealed.as_str().unwrap());
                assert_eq!(*opened.unwrap(), *SECRET.as_bytes(), "{path}");
            }
        }
        found
    }
}

/// Everything of alice's that a `glob("*.json")` meets, as paths in the mount, sorted.
fn named_like_records(volume: &Volume) -> Vec<String> {
    let mut names = Vec::new();
    for resource in ["schedules", "results"] {
        let directory = volume.directory(&ALICE, resource);
        let below = files_below(&directory);
        let records = below
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "json"));
        names.extend(records.map(|path| {
            let name = path.strip_prefix(&directory).unwrap().to_str().unwrap();
            format!("{resource}/{name}")
        }));
    }
    names.sort();
    names
}

/// Whatever is no directory, with whole paths.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Files of our own that are useless, and how many there are. Each is one that the rules of sweeping reach: outdated in an
/// hour and a minute.
pub(crate) fn leftovers(volume: &Volume) -> Vec<PathBuf> {
    let mut files = files_below(&volume.root());
    files.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let what = Reserved::of(name);
        // The marks of a layout and of an erasure are the root's, where these rules are not for.
        let is_in_root = path.parent() == Some(&volume.root());
        let is_known = !name.starts_with(".tenantfs") || what != Reserved::Unknown || is_in_root;
        assert!(is_known, "{name} is nobody's");
        what == Reserved::Temporary
    });
    for path in &files {
        let directory = Directories::open(path.parent().unwrap()).unwrap();
        let stat = directory
            .root()
            .stat(path.file_name().unwrap().to_str().unwrap())
            .unwrap();
        let later = Timestamp {
            seconds: fs::symlink_metadata(path).unwrap().ctime() + 3660,
            nanos: 0,
        };
        assert!(
            Reserved::Temporary.is_outdated(stat.ctime, later, Duration::ZERO),
            "{path:?} is never swept"
        );
    }
    files
}

/// Has a record lie there as the service stores it, with a sealed secret or without.
pub(crate) fn plant(volume: &Volume, path: &str, text: &str, has_secret: bool) {
    let (resource, name) = path.split_once('/').unwrap();
    let mut record: Map<String, Value> = serde_json::from_str(text).unwrap();
    if has_secret {
        let sealed = volume.sealer(&ALICE).seal("api_key", SECRET.as_bytes()).unwrap();
        record.insert("api_key".to_owned(), sealed.into());
    }
    record.insert("user_id".to_owned(), ALICE.user.into());
    volume.plant(&ALICE, resource, name, Value::from(record).to_string());
}

/// A volume with sealing keys.
pub(crate) fn sealing(layout: crate::common::Layout) -> Volume {
    let volume = Volume::new(layout);
    volume.has_keys(KEY, &[KEY]);
    volume
}

/// Whether a state is what was found.
pub(crate) fn is_state(state: State, found: &BTreeMap<String, Value>) -> bool {
    let expected: BTreeMap<String, Value> = state
        .iter()
        .map(|(path, text)| ((*path).to_owned(), shown(text)))
        .collect();
    expected == *found
}

/// A text of the mount, to be compared: a record as what it says, its owner left out, anything else byte for byte.
pub(crate) fn shown(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut record)) => {
            record.remove("user_id");
            record.into()
        }
        _ => text.into(),
    }
}
