//! What a forked mounter was granted before its server began, and nothing else.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{chown, symlink};

use rustix::net::SocketType;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process};
use tenantfs::mounter::{Grant, Viewer};

use super::{Forked, Listening, PATIENCE, Scene, refused, seized_with};
use crate::arena::{Arena, Due};
use crate::common::{
    ALICE, Layout, OtherMount, SERVICE_UID, Volume, as_user, eventually, is_mounted, set_mode, success,
};

#[test]
fn a_grant_is_the_first_message_and_no_other() {
    let scene = Scene::new();
    let mut mounter = Forked::once(&scene);
    let granting = "print(say({'Sessions': {'places': list(b'/'), 'read_only': False, 'exec': True}}))";
    assert_eq!(mounter.seized(granting), ["closed"]);
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
    let scene = Scene::new();
    let service = Listening::new(&scene);
    assert_eq!(service.seized(granting), ["closed"]);
}

#[test]
fn the_mounter_of_one_mount_makes_that_one_once() {
    let scene = Scene::new();
    scene.directory("other");
    let mut mounter = Forked::once(&scene);
    let answers = mounter.seized(
        "m = base + '/mnt'\n\
         for path in ('/other', '/mnt/x', '/mnt/../other', '', '/missing/x', '/./mnt/../mnt'): print(mount(base + path, make=False))\n\
         for path in ('/etc', '/', '/etc/systemd/system/sshd.service.d'): print(mount(path)); print(mount(path, make=False))\n\
         for uid, gid in ((61002, 61001), (61001, 0), (61001, 61002), (33, 33)): print(mount(m, uid, gid, make=False))\n\
         print(mount(m)); print(mount(m, make=False, exec=True)); print(mount(m, make=False, read_only=True))",
    );
    refused(&answers, &["not one that this mounter was told of"]);
    assert_eq!(scene.mounts(), [""; 0]);
    let answers = mounter.seized(
        "first = mount(base + '/mnt', make=False); print(first.startswith('{\"Mounted\"'))\n\
         print(mount(base + '/mnt', make=False))\n\
         print(say({'Unmount': claim_of(first)}))\n\
         print(mount(base + '/mnt', make=False))",
    );
    assert_eq!(
        (answers[0].as_str(), answers[2].as_str()),
        ("True", "\"Unmounted\"")
    );
    refused(
        &[answers[1].clone(), answers[3].clone()],
        &["mounts once, and has"],
    );
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(scene.path("mnt").exists());
}

#[test]
fn the_one_mountpoint_is_what_was_there_when_the_server_began() {
    const MOUNT: &str = "print(mount(base + '/mnt', make=False))";
    // Renamed, and a link to somebody's directory in its place.
    let scene = Scene::new();
    let mut mounter = Forked::once(&scene);
    fs::rename(scene.path("mnt"), scene.path("moved")).unwrap();
    symlink(scene.directory("victim"), scene.path("mnt")).unwrap();
    assert!(mounter.seized(MOUNT)[0].contains("Mounted"));
    assert!(is_mounted(&scene.path("moved")) && !is_mounted(&scene.path("victim")));
    // Renamed once more, and its parent too: it still ends with its server.
    fs::rename(scene.path("moved"), scene.path("again")).unwrap_err();
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);

    // Filled, or mounted on: not covered.
    let scene = Scene::new();
    let mounter = Forked::once(&scene);
    fs::write(scene.path("mnt/file"), "").unwrap();
    refused(&mounter.seized(MOUNT), &["not empty"]);
    let scene = Scene::new();
    let mounter = Forked::once(&scene);
    let _other = OtherMount::over(&scene.path("mnt"), "tmpfs");
    refused(&mounter.seized(MOUNT), &["mounted on"]);
    assert_eq!(scene.mounts().len(), 1);
}

#[test]
fn who_renames_the_way_to_a_mountpoint_does_not_keep_the_mount() {
    let scene = Scene::new();
    chown(scene.directory("hers"), Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let grant = Grant::Once {
        mountpoint: scene.directory("hers/deep/mnt"),
        viewer: Viewer::new(ALICE.uid, ALICE.uid).unwrap(),
        read_only: false,
        exec: false,
    };
    chown(scene.path("hers/deep"), Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let mut mounter = Forked::new(&scene, &grant);
    let code = "print(mount(base + '/hers/deep/mnt', make=False))";
    assert!(mounter.seized(code)[0].contains("Mounted"));
    let mut rename = as_user(ALICE.uid, &scene.path("hers"), "mv");
    rename.args(["deep", "elsewhere"]);
    success(rename, "");
    assert!(is_mounted(&scene.path("hers/elsewhere/mnt")));
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
}

/// The attack by which a server became root: f1 of the round before.
#[test]
fn a_daemon_that_was_taken_over_has_no_directory_of_systemds_made() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let scene = Scene::new();
    let units = scene.directory("etc/systemd/system");
    let socket = mounter_socket_of(arena.daemon.pid());
    arena.case("f1", Due::Nothing, || {
        let answers = seized_with(
            &scene,
            socket.try_clone().unwrap(),
            "drop_in = base + '/etc/systemd/system/sshd.service.d'\n\
             print(mount(drop_in, 61001)); print(mount(drop_in + '/x', 61001)); print(mount(drop_in, exec=True))",
        );
        refused(&answers, &["not one that this mounter was told of"]);
    });
    assert!(fs::read_dir(&units).unwrap().next().is_none());
    // As it was made: the connection is closed, which ends all its mounts.
    let code = "print(mount(base + '/etc/systemd/system/sshd.service.d', 0, 0, exec=True))";
    assert_eq!(seized_with(&scene, socket, code), ["closed"]);
    assert!(fs::read_dir(&units).unwrap().next().is_none());
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(eventually(PATIENCE, || !is_mounted(&arena.bob)));
    // A daemon whose mounter is gone ends with an error; it has lost its mounts here.
    drop_quietly(arena);
}

/// Ends a daemon that has nothing any more.
fn drop_quietly(arena: Arena<'_>) {
    kill_process(arena.daemon.pid(), Signal::KILL).unwrap();
    drop(arena);
}

/// The server's end of the socket of the mounter that it has forked.
fn mounter_socket_of(server: Pid) -> OwnedFd {
    let process = rustix::process::pidfd_open(server, PidfdFlags::empty()).unwrap();
    let numbers = fs::read_dir(format!("/proc/{}/fd", server.as_raw_nonzero())).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut sockets = numbers.filter_map(|number| {
        let number = number.parse().unwrap();
        let copy = rustix::process::pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let kind = rustix::net::sockopt::socket_type(&copy).ok()?;
        (kind == SocketType::SEQPACKET).then_some(copy)
    });
    sockets.next().unwrap()
}

#[test]
fn the_mounter_of_a_daemon_mounts_for_uids_at_their_own_places() {
    let scene = Scene::new();
    let mut mounter = Forked::sessions(&scene);
    let outside = scene.directory("outside");
    symlink(&outside, scene.path("mnt/61003")).unwrap();
    for name in ["61004", "61005", "61006"] {
        scene.directory(&format!("mnt/{name}"));
    }
    fs::write(scene.path("mnt/61004/file"), "").unwrap();
    chown(scene.path("mnt/61005"), Some(SERVICE_UID), None).unwrap();
    set_mode(&scene.path("mnt/61006"), 0o777);
    let answers = mounter.seized(
        "m = base + '/mnt/'\n\
         for name in ('61002', '061001', '61001/61001', '../outside', '..', 'x', '+61001', '61001 '): print(mount(m + name))\n\
         print(mount(base + '/outside/61001')); print(mount(base + '/mnt')); print(mount('/61001'))\n\
         print(mount(m + '61001', make=False)); print(mount(m + '61001', exec=True))\n\
         print(say({'Clear': list((base + '/outside').encode())}).replace('Done', 'Failed'))\n\
         print(say({'Clear': list(b'/')}).replace('Done', 'Failed'))",
    );
    refused(&answers, &["not one that this mounter was told of", "or below"]);
    let answers = mounter.seized(
        "m = base + '/mnt/'\n\
         for uid in (61003, 61004, 61005, 61006): print(mount(m + str(uid), uid))\n\
         print(mount(m + '61001').replace('Mounted', 'Failed', 1)[:10] + 'first'); print(mount(m + '61001'))",
    );
    refused(
        &answers,
        &[
            "symbolic link",
            "not empty",
            "not root's alone",
            "first",
            "mounted on",
        ],
    );
    let mounts = scene.mounts();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert!(fs::read_dir(outside).unwrap().next().is_none());
    mounter.end();
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(!scene.path("mnt/61001").exists() && scene.path("mnt/61005").exists());
}
