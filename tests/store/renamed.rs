//! What records and directories leave at their names when they are renamed: secrets for the next of those names.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tenantfs::name::EntryName;
use tenantfs::store::{Folder, Options};
use tenantfs::volume::Rename;

use super::removed::{Scene, remove_all};
use super::{name, replace};

/// The names of our own in a directory of the volume, but for the owner's mark.
fn ours(scene: &Scene, path: &str) -> Vec<String> {
    let entries = fs::read_dir(scene.on_disk(path)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|entry| entry.starts_with(".tenantfs") && entry != ".tenantfs-owner")
        .collect();
    names.sort();
    names
}

fn rename(folder: &Folder, from: &str, to: &str) {
    folder
        .rename(&name(from), folder, &name(to), Rename::Replace)
        .unwrap();
}

fn make(folder: &Folder, directory: &str) -> Folder {
    folder.make_folder(&name(directory), 0o700).unwrap()
}

#[test]
fn a_renamed_record_keeps_its_secret_and_so_does_its_old_name() {
    let scene = Scene::new();
    scene.plant("x.json");
    rename(&scene.folder, "x.json", "y.json");
    assert_eq!(ours(&scene, ""), [".tenantfs-secrets-x.json~"]);
    let left = fs::read_to_string(scene.on_disk(".tenantfs-secrets-x.json~")).unwrap();
    assert_eq!(left, r#"{"api_key":"sk-8f2e","user_id" :"alice"}"#);
    assert_eq!(scene.removed(), [""; 0]);
    assert_eq!(scene.folder.list().unwrap(), [name("y.json")]);
    scene.folder.record(&name("x.json")).save(b"{\"m\":2}").unwrap();
    assert!(scene.has_secret("x.json") && scene.has_secret("y.json"));
    assert_eq!(scene.told(), ["secret restored schedules/x.json"]);
    assert_eq!(ours(&scene, ""), [""; 0]);
}

#[test]
fn secrets_that_are_left_and_not_needed_go_without_a_word_for_nothing_is_lost() {
    let keep = Duration::from_millis(400);
    let scene = Scene::keeping(keep);
    make(&scene.folder, "sub");
    scene.plant("x.json");
    scene.plant("sub/y.json");
    rename(&scene.folder, "x.json", "z.json");
    rename(&scene.folder, "sub", "other");
    let before = scene.store.usage();
    std::thread::sleep(keep + Duration::from_millis(200));
    scene.folder.names().unwrap();
    assert_eq!(ours(&scene, ""), [""; 0]);
    assert_eq!(scene.told(), [""; 0]);
    let after = scene.store.usage();
    assert_eq!(
        (before.files - after.files, before.bytes > after.bytes),
        (2, true)
    );
    make(&scene.folder, "sub")
        .record(&name("y.json"))
        .save(b"{}")
        .unwrap();
    scene.folder.record(&name("x.json")).save(b"{}").unwrap();
    assert!(!scene.has_secret("x.json") && !scene.has_secret("sub/y.json"));
    assert_eq!(scene.told(), [""; 0]);
}

#[test]
fn where_nothing_is_kept_nothing_is_left_at_old_names() {
    let scene = Scene::keeping(Duration::ZERO);
    make(&scene.folder, "sub");
    scene.plant("x.json");
    rename(&scene.folder, "x.json", "y.json");
    rename(&scene.folder, "sub", "other");
    make(&scene.folder, "sub");
    assert_eq!(ours(&scene, ""), [""; 0]);
}

#[test]
fn there_is_one_note_for_each_name_however_often_that_changes() {
    let scene = Scene::new();
    make(&scene.folder, "a");
    scene.plant("x.json");
    scene.plant("a/x.json");
    for _ in 0..100 {
        for (from, to) in [("x.json", "y.json"), ("y.json", "x.json"), ("a", "b"), ("b", "a")] {
            rename(&scene.folder, from, to);
        }
    }
    let notes = [
        ".tenantfs-moved-a~",
        ".tenantfs-moved-b~",
        ".tenantfs-secrets-y.json~",
    ];
    assert_eq!(ours(&scene, ""), notes);
    let note = fs::read_to_string(scene.on_disk(notes[0])).unwrap();
    assert_eq!(note.lines().count(), 8);
    assert!(scene.has_secret("x.json") && scene.has_secret("a/x.json"));
}

#[test]
fn names_as_long_as_can_be_have_their_secrets_too() {
    let scene = Scene::new();
    let (record, directory) = (format!("{}.json", "x".repeat(250)), "d".repeat(255));
    let folder = make(&scene.folder, &directory);
    make(&folder, &directory);
    let path = format!("{directory}/{directory}/{record}");
    scene.plant(&path);
    scene.plant(&record);
    rename(&scene.folder, &record, "y.json");
    rename(&scene.folder, &directory, "moved");
    scene.folder.record(&name(&record)).save(b"{}").unwrap();
    assert!(scene.has_secret(&record));
    // The directory that is made is moved before it has anything of what waits in it.
    make(&scene.folder, &directory);
    rename(&scene.folder, &directory, "again");
    let inner = make(&make(&scene.folder, &directory), &directory);
    inner.record(&name(&record)).save(b"{}").unwrap();
    assert!(scene.has_secret(&path));
}

#[test]
fn a_note_leads_to_the_very_directory_that_was_moved_and_nowhere_else() {
    let scene = Scene::new();
    let record = name("x.json");
    let moved = |way: &str| {
        make(&scene.folder, way);
        scene.plant(&format!("{way}/x.json"));
        rename(&scene.folder, way, "elsewhere");
    };
    let gets_one = |way: &str| {
        let folder = make(&scene.folder, way);
        folder.record(&record).save(b"{}").unwrap();
        let has_secret = scene.has_secret(&format!("{way}/x.json"));
        fs::remove_dir_all(scene.on_disk("elsewhere")).ok();
        fs::remove_file(scene.on_disk("elsewhere")).ok();
        has_secret
    };
    moved("a");
    assert!(gets_one("a"));
    // Another directory has its place.
    moved("b");
    fs::rename(scene.on_disk("elsewhere"), scene.disk.root.path().join("away")).unwrap();
    fs::create_dir(scene.on_disk("elsewhere")).unwrap();
    scene.plant("elsewhere/x.json");
    assert!(!gets_one("b"));
    // A symbolic link leads to it.
    moved("c");
    fs::rename(scene.on_disk("elsewhere"), scene.disk.root.path().join("away2")).unwrap();
    symlink(scene.disk.root.path().join("away2"), scene.on_disk("elsewhere")).unwrap();
    assert!(!gets_one("c"));
    // A note that says what no mount wrote.
    moved("d");
    fs::rename(scene.on_disk("elsewhere"), scene.disk.root.path().join("away3")).unwrap();
    let note = scene.on_disk(".tenantfs-moved-d~");
    let said = fs::read_to_string(&note).unwrap();
    let up = "./../../../away3";
    for way in [
        up,
        "schedules/../../../away3",
        "/etc",
        "..",
        "",
        "./",
        "nowhere/x",
    ] {
        replace(&note, said.replace("./elsewhere", way).as_bytes());
        assert!(!gets_one("d"), "{way}");
        remove_all(&scene.folder, &name("d"));
    }
}

#[test]
fn moves_that_lead_in_a_circle_are_followed_to_an_end() {
    let scene = Scene::new();
    make(&scene.folder, "a");
    scene.plant("a/x.json");
    rename(&scene.folder, "a", "b");
    for (from, to) in [("b", "c"), ("c", "b")] {
        rename(&scene.folder, from, to);
    }
    // Removed without a word to us: every note leads to another one.
    fs::rename(scene.on_disk("b"), scene.disk.root.path().join("away")).unwrap();
    make(&scene.folder, "a")
        .record(&name("x.json"))
        .save(b"{}")
        .unwrap();
    assert!(!scene.has_secret("a/x.json"));
}

#[test]
fn a_directory_that_takes_anothers_place_gets_its_secrets_however_deep_they_are() {
    let scene = Scene::new();
    let levels = 80;
    let plant = |root: &str, with_secret: bool| {
        let (mut folder, mut path) = (make(&scene.folder, root), root.to_owned());
        for _ in 0..levels {
            for directory in ["beside", "on"] {
                let below = make(&folder, directory);
                let path = format!("{path}/{directory}/x.json");
                match with_secret {
                    true => scene.plant(&path),
                    false => _ = below.record(&name("x.json")).save(b"{}").unwrap(),
                }
            }
            folder = folder.open_folder(&name("on")).unwrap();
            path.push_str("/on");
        }
    };
    plant("sub", true);
    plant("new", false);
    rename(&scene.folder, "sub", "old");
    rename(&scene.folder, "new", "sub");
    remove_all(&scene.folder, &name("old"));
    let mut path = "sub".to_owned();
    for level in 0..levels {
        for directory in ["beside", "on"] {
            assert!(
                scene.has_secret(&format!("{path}/{directory}/x.json")),
                "{level} {directory}"
            );
        }
        path.push_str("/on");
    }
    let told = scene.told();
    let restored = told.iter().filter(|told| told.starts_with("secret restored"));
    assert_eq!((restored.count(), told.len()), (2 * levels, 2 * levels));
    // What it had for them has been used.
    assert_eq!(
        ours(&scene, "sub"),
        [".tenantfs-moved-beside~", ".tenantfs-moved-on~"]
    );
}

#[test]
fn of_two_exchanged_records_both_have_the_secret_that_one_had() {
    for (one, other) in [("x.json", "y.json"), ("y.json", "x.json")] {
        let scene = Scene::new();
        scene.plant("x.json");
        scene.folder.record(&name("y.json")).save(b"{\"n\":2}").unwrap();
        let exchanged = scene
            .folder
            .rename(&name(one), &scene.folder, &name(other), Rename::Exchange);
        exchanged.unwrap();
        let view = |entry| scene.folder.record(&name(entry)).open().unwrap().view;
        assert_eq!(*view("x.json"), *b"{\"n\":2}");
        assert!(view("y.json").starts_with(br#"{"user_id": "alice", "n": 1"#));
        assert!(scene.has_secret("x.json") && scene.has_secret("y.json"));
        // One that was removed by its user comes from nowhere.
        for entry in ["x.json", "y.json"] {
            scene
                .folder
                .record(&name(entry))
                .save(br#"{"api_key":null}"#)
                .unwrap();
        }
        let exchanged = scene
            .folder
            .rename(&name(one), &scene.folder, &name(other), Rename::Exchange);
        exchanged.unwrap();
        assert!(!scene.has_secret("x.json") && !scene.has_secret("y.json"));
    }
}

#[test]
fn a_null_is_the_last_word_on_what_renamed_records_and_directories_left() {
    let scene = Scene::new();
    let record = name("x.json");
    make(&scene.folder, "sub");
    scene.plant("x.json");
    scene.plant("sub/x.json");
    rename(&scene.folder, "x.json", "y.json");
    rename(&scene.folder, "sub", "old");
    let sub = make(&scene.folder, "sub");
    for folder in [&scene.folder, &sub] {
        folder.record(&record).save(br#"{"api_key":null}"#).unwrap();
        folder.remove(&record).unwrap();
        folder.record(&record).save(b"{}").unwrap();
    }
    let told = ["x.json", "sub/x.json"].map(|path| format!("secret dropped schedules/{path}"));
    assert_eq!(scene.told(), told);
    remove_all(&scene.folder, &name("sub"));
    make(&scene.folder, "sub").record(&record).save(b"{}").unwrap();
    assert!(!scene.has_secret("x.json") && !scene.has_secret("sub/x.json"));
    assert!(scene.has_secret("y.json") && scene.has_secret("old/x.json"));
}

#[test]
fn a_read_only_store_follows_no_note() {
    let scene = Scene::new();
    make(&scene.folder, "sub");
    rename(&scene.folder, "sub", "old");
    let options = Options {
        read_only: true,
        keep_removed: Duration::ZERO,
        ..scene.disk.options()
    };
    let store = scene.disk.open_with("alice", options).unwrap();
    let folder = store.folder("schedules").unwrap();
    let old: Vec<EntryName> = folder.names().unwrap();
    assert_eq!(old, [name("old")]);
    folder.make_folder(&name("sub"), 0o700).unwrap_err();
    assert_eq!(ours(&scene, ""), [".tenantfs-moved-sub~"]);
}
