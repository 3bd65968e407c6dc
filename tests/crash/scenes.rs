//! What users do with records, one request that changes the volume at a time, and every state that may be met meanwhile.

use crate::scene::Scene;

const X: &str = "schedules/x.json";
const Y: &str = "schedules/y.json";
const T: &str = "schedules/t";
const OLD: &str = r#"{"n": 1}"#;
const NEW: &str = r#"{"n": 2}"#;
const OTHER: &str = r#"{"n": 0}"#;
const HALF: &str = r#"{"n": "#;

/// What most scenes have in common: a record that is there, with a secret, and rewritten in the end.
const COMMON: Scene = Scene {
    name: "",
    options: &[],
    stored: &[(X, OLD)],
    with_secret: &[X, Y],
    begin: "",
    act: "",
    says: "ok",
    states: &[&[(X, OLD)], &[(X, NEW)]],
    shows: &[&[(X, OLD)], &[(X, NEW)]],
    typed: None,
    again: "put(X, NEW)",
    finally: &[(X, NEW)],
};

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        name: "the first commit of a record",
        stored: &[],
        with_secret: &[],
        begin: "f = typing(X, NEW)",
        act: "os.close(f)",
        states: &[&[], &[(X, NEW)]],
        shows: &[&[], &[(X, NEW)]],
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "a commit at close",
        begin: "f = typing(X, NEW)",
        act: "os.close(f)",
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "a commit at close with --commit fsync",
        options: &["--commit", "fsync"],
        begin: "f = typing(X, NEW)",
        act: "os.close(f)",
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "a commit by fsync",
        options: &["--commit", "fsync"],
        begin: "f = typing(X, NEW)",
        act: "os.fsync(f)",
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "keeping a draft",
        begin: "f = typing(X, HALF)",
        act: "os.close(f)",
        says: "EINVAL",
        states: &[&[(X, OLD)]],
        shows: &[&[(X, OLD)], &[(X, HALF)]],
        typed: Some((X, HALF)),
        ..COMMON
    },
    Scene {
        name: "replacing a draft",
        begin: "draft(X, '{\"n\": 3,'); f = typing(X, HALF)",
        act: "os.close(f)",
        says: "EINVAL",
        states: &[&[(X, OLD)]],
        shows: &[&[(X, r#"{"n": 3,"#)], &[(X, HALF)]],
        typed: Some((X, HALF)),
        ..COMMON
    },
    Scene {
        name: "completing a draft",
        begin: "draft(X, HALF); f = os.open(X, os.O_WRONLY | os.O_APPEND); os.write(f, b'2}')",
        act: "os.close(f)",
        shows: &[&[(X, HALF)], &[(X, NEW)]],
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "truncating by path",
        act: "os.truncate(X, 0)",
        states: &[&[(X, OLD)]],
        shows: &[&[(X, OLD)], &[(X, "")]],
        ..COMMON
    },
    Scene {
        name: "renaming a record",
        act: "os.rename(X, Y)",
        states: &[&[(X, OLD)], &[(Y, OLD)]],
        shows: &[&[(X, OLD)], &[(Y, OLD)]],
        again: "move(X, Y)",
        finally: &[(Y, OLD)],
        ..COMMON
    },
    Scene {
        name: "renaming a record, and making its name anew",
        act: "os.rename(X, Y)",
        states: &[&[(X, OLD)], &[(Y, OLD)]],
        shows: &[&[(X, OLD)], &[(Y, OLD)]],
        again: "move(X, Y); put(X, NEW)",
        finally: &[(X, NEW), (Y, OLD)],
        ..COMMON
    },
    Scene {
        name: "the commit of a record that was renamed to another record",
        begin: "os.rename(X, Y); f = typing(X, NEW)",
        act: "os.close(f)",
        states: &[&[(Y, OLD)], &[(X, NEW), (Y, OLD)]],
        shows: &[&[(Y, OLD)], &[(X, NEW), (Y, OLD)]],
        typed: Some((X, NEW)),
        finally: &[(X, NEW), (Y, OLD)],
        ..COMMON
    },
    Scene {
        name: "exchanging two records",
        stored: &[(X, OLD), (Y, OTHER)],
        with_secret: &[X],
        act: "exchange(X, Y)",
        states: &[&[(X, OLD), (Y, OTHER)], &[(X, OTHER), (Y, OLD)]],
        shows: &[&[(X, OLD), (Y, OTHER)], &[(X, OTHER), (Y, OLD)]],
        again: "remove(Y); put(X, NEW)",
        finally: &[(X, NEW)],
        ..COMMON
    },
    Scene {
        name: "renaming a record over one with a secret",
        stored: &[(X, OLD), (Y, OTHER)],
        with_secret: &[Y],
        act: "os.rename(X, Y)",
        states: &[&[(X, OLD), (Y, OTHER)], &[(X, OLD), (Y, OLD)], &[(Y, OLD)]],
        shows: &[&[(X, OLD), (Y, OTHER)], &[(X, OLD), (Y, OLD)], &[(Y, OLD)]],
        again: "move(X, Y)",
        finally: &[(Y, OLD)],
        ..COMMON
    },
    Scene {
        name: "renaming a record that has a draft",
        begin: "draft(X, HALF)",
        act: "os.rename(X, Y)",
        states: &[&[(X, OLD)], &[(Y, OLD)]],
        shows: &[
            &[(X, HALF)],
            &[(X, HALF), (Y, OLD)],
            &[(X, HALF), (Y, HALF)],
            &[(Y, HALF)],
        ],
        again: "os.path.exists(Y) or move(X, Y); remove(X); put(Y, NEW)",
        finally: &[(Y, NEW)],
        ..COMMON
    },
    Scene {
        name: "renaming an attachment over a record",
        begin: "put(T, NEW)",
        act: "os.rename(T, X)",
        shows: &[&[(T, NEW), (X, OLD)], &[(T, NEW), (X, NEW)], &[(X, NEW)]],
        ..COMMON
    },
    Scene {
        name: "renaming a record to an attachment",
        act: "os.rename(X, T)",
        states: &[&[(X, OLD)], &[]],
        shows: &[&[(X, OLD)], &[(T, OLD), (X, OLD)], &[(T, OLD)]],
        ..COMMON
    },
    Scene {
        name: "the commit of a record that was renamed away",
        begin: "os.rename(X, T); f = typing(X, NEW)",
        act: "os.close(f)",
        states: &[&[], &[(X, NEW)]],
        shows: &[&[(T, OLD)], &[(T, OLD), (X, NEW)]],
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "removing a record",
        act: "os.remove(X)",
        states: &[&[(X, OLD)], &[]],
        shows: &[&[(X, OLD)], &[]],
        ..COMMON
    },
    Scene {
        name: "the commit of a record that was removed",
        begin: "os.remove(X); f = typing(X, NEW)",
        act: "os.close(f)",
        states: &[&[], &[(X, NEW)]],
        shows: &[&[], &[(X, NEW)]],
        typed: Some((X, NEW)),
        ..COMMON
    },
    Scene {
        name: "renaming an attachment to a record that was removed",
        begin: "os.remove(X); put(T, NEW)",
        act: "os.rename(T, X)",
        states: &[&[], &[(X, NEW)]],
        shows: &[&[(T, NEW)], &[(T, NEW), (X, NEW)], &[(X, NEW)]],
        ..COMMON
    },
    Scene {
        name: "removing a record again",
        begin: "os.remove(X); put(X, NEW)",
        act: "os.remove(X)",
        states: &[&[(X, NEW)], &[]],
        shows: &[&[(X, NEW)], &[]],
        ..COMMON
    },
    Scene {
        name: "removing a directory in which a record was removed",
        begin: "os.mkdir(D); move(X, D + '/x.json'); os.remove(D + '/x.json')",
        act: "os.rmdir(D)",
        states: &[&[]],
        shows: &[&[]],
        again: "os.makedirs(D, exist_ok=True); put(D + '/x.json', NEW); move(D + '/x.json', Y)",
        finally: &[(Y, NEW)],
        ..COMMON
    },
    Scene {
        name: "making a directory that was removed",
        begin: "os.mkdir(D); move(X, D + '/x.json'); os.remove(D + '/x.json'); os.rmdir(D)",
        act: "os.mkdir(D)",
        states: &[&[]],
        shows: &[&[]],
        again: "os.makedirs(D, exist_ok=True); put(D + '/x.json', NEW); move(D + '/x.json', Y)",
        finally: &[(Y, NEW)],
        ..COMMON
    },
    Scene {
        name: "renaming a directory to one that was removed",
        begin: "os.mkdir(D); move(X, D + '/x.json'); os.remove(D + '/x.json'); os.rmdir(D); os.mkdir(E)",
        act: "os.rename(E, D)",
        states: &[&[]],
        shows: &[&[]],
        again: "os.makedirs(D, exist_ok=True); put(D + '/x.json', NEW); move(D + '/x.json', Y)",
        finally: &[(Y, NEW)],
        // Killed in between, it waits beside the new directory: nothing is lost, and nothing asks for it.
        with_secret: &[],
        ..COMMON
    },
    Scene {
        name: "renaming a directory in which a record was removed",
        begin: "os.mkdir(D); move(X, D + '/x.json'); os.remove(D + '/x.json')",
        act: "os.rename(D, E)",
        states: &[&[]],
        shows: &[&[]],
        again: "move(D, E); os.mkdir(D); put(D + '/x.json', NEW); move(D + '/x.json', Y)",
        finally: &[(Y, NEW)],
        ..COMMON
    },
    Scene {
        name: "making a directory that was renamed",
        begin: "os.mkdir(D); move(X, D + '/x.json'); os.remove(D + '/x.json'); os.rename(D, E)",
        act: "os.mkdir(D)",
        states: &[&[]],
        shows: &[&[]],
        again: "os.makedirs(D, exist_ok=True); put(D + '/x.json', NEW); move(D + '/x.json', Y)",
        finally: &[(Y, NEW)],
        ..COMMON
    },
    Scene {
        name: "removing a record that has a draft",
        with_secret: &[],
        begin: "draft(X, HALF)",
        act: "os.remove(X)",
        states: &[&[(X, OLD)], &[]],
        shows: &[&[(X, HALF)], &[]],
        again: "remove(X)",
        finally: &[],
        ..COMMON
    },
    Scene {
        name: "changing a record's mode",
        act: "os.chmod(X, 0o600)",
        states: &[&[(X, OLD)]],
        shows: &[&[(X, OLD)]],
        ..COMMON
    },
    Scene {
        name: "making a directory",
        stored: &[],
        with_secret: &[],
        act: "os.mkdir('results/below')",
        states: &[&[]],
        shows: &[&[]],
        again: "os.makedirs('results/below', exist_ok=True); put('results/below/t', NEW)",
        finally: &[],
        ..COMMON
    },
    Scene {
        name: "creating an attachment",
        stored: &[],
        with_secret: &[],
        act: "os.open(T, os.O_WRONLY | os.O_CREAT)",
        states: &[&[]],
        shows: &[&[], &[(T, "")]],
        ..COMMON
    },
];
