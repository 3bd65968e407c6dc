//! A mounter that listens: where, for whom and how it mounts, and whose mounts it ends.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::Stdio;

use super::{Forked, Listening, PATIENCE, Scene, refused, request};
use crate::arena::tell;
use crate::common::{OtherMount, SERVICE_UID, eventually, is_mounted, set_mode, with_deadline};

#[test]
fn what_is_made_is_roots_and_what_is_mounted_is_harmless_whatever_is_asked_for() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let code = "\n\
        for number, other in enumerate((dict(), dict(exec=True), dict(read_only=True), dict(gid=0), dict(uid=65534),\n\
            dict(allow_other=True, suid=True, dev=True, source='x', subtype='y,z', options='allow_other', owner=61000, mode=0o777))):\n\
            \x20   print(mount(base + '/mnt/' + str(number), **other)[:10])\n\
        input()";
    let mut attacker = service.attacker(code);
    let attacker = attacker.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut attacker = attacker.spawn().unwrap();
    assert!(
        eventually(PATIENCE, || scene.mounts().len() == 6),
        "{}",
        service.log()
    );
    for line in scene.mounts() {
        let fields: Vec<_> = line.split(' ').collect();
        for option in ["nosuid", "nodev", "nosymfollow", "noatime"] {
            assert!(fields[5].split(',').any(|there| there == option), "{line}");
        }
        assert!(line.contains(" - fuse.tenantfs tenantfs "), "{line}");
        assert!(line.contains(",default_permissions"), "{line}");
        assert!(
            !line.contains("allow_other") && !line.contains("user_id=0"),
            "{line}"
        );
        // Nobody answers, and root is refused at once all the same.
        let place = PathBuf::from(fields[4]);
        let stat = with_deadline(PATIENCE, move || fs::metadata(place).map(|stat| stat.uid()));
        let denied = stat.expect("root hangs").unwrap_err();
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    }
    attacker.kill().unwrap();
    attacker.wait().unwrap();
    assert!(eventually(PATIENCE, || scene.is_as_before()));
}

#[test]
fn a_view_is_never_roots_nor_nobodys() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let answers = service.seized(
        "for uid, gid in ((0, 0), (0, 61001), (4294967295, 61001), (61001, 4294967295), (-1, 61001), (61001, -1), (1 << 32, 5),\n\
         \x20   (61001.5, 5), ('0', 5), (None, 5), (True, 5)):\n\
         \x20   other = connect(); hear(other)\n\
         \x20   print(mount(base + '/mnt/x', uid, gid, to=other))",
    );
    assert_eq!(answers, ["closed"; 11]);
    assert_eq!(scene.mounts(), [""; 0]);
    tell("compromised", "uids refused", answers.len());
}

#[test]
fn a_mounter_that_listens_mounts_below_its_directories_only() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    scene.directory("outside");
    symlink(scene.path("outside"), scene.path("mnt/link")).unwrap();
    chown(scene.directory("mnt/hers"), Some(SERVICE_UID), None).unwrap();
    set_mode(&scene.directory("mnt/open"), 0o777);
    scene.directory("mnt/hers/empty");
    fs::write(scene.directory("mnt/full").join("file"), "").unwrap();
    let answers = service.seized(
        "m = base + '/mnt'\n\
         for path in ('/etc', '/', '/etc/systemd/system/sshd.service.d', base + '/outside', m, m + '/../outside/x', m + '/.',\n\
         \x20   m + '/link/x', m + '/link', m + '/hers', m + '/hers/x', m + '/hers/empty', m + '/open/x', m + '/open', m + '/full',\n\
         \x20   m + '/missing/x', '//' + m + '/../x', m + 'x'):\n\
         \x20   print(mount(path)); print(mount(path, make=False))",
    );
    refused(
        &answers,
        &[
            "is not below",
            "must end in a name",
            "symbolic link",
            "not root's alone",
            "nobody but root",
            "not empty",
            "does not exist",
        ],
    );
    assert_eq!(scene.mounts(), [""; 0]);
    assert!(fs::read_dir(scene.path("outside")).unwrap().next().is_none());
}

#[test]
fn others_mounts_are_neither_ended_nor_taken_over() {
    let scene = Scene::new();
    let service = Listening::new(&scene);
    let roots = service.roots();
    let (held, elsewhere) = (scene.path("mnt/held"), scene.directory("elsewhere"));
    let _held = roots.mount(&request(&held)).unwrap();
    let stranger = scene.directory("mnt/stranger");
    let _stranger = OtherMount::over(&stranger, "tmpfs");
    let _elsewhere = OtherMount::over(&elsewhere, "tmpfs");
    let all = scene.mounts().len();
    let answers = service.seized(
        "for name in ('mnt/held', 'mnt/stranger', 'elsewhere'):\n\
         \x20   claim = forged(base + '/' + name)\n\
         \x20   print(say({'Unmount': claim}))\n\
         \x20   print(say({'Adopt': [claim]})); print(say({'Unmount': claim}))\n\
         claim['entry']['mountpoint'] = list((base + '/mnt/held').encode()); print(say({'Adopt': [claim]}))\n\
         root = forged('/'); print(say({'Adopt': [root]})); print(say({'Unmount': root}))\n\
         for path in (base, base + '/elsewhere', '/', base + '/mnt/held', base + '/mnt/../elsewhere'): print(say({'Clear': list(path.encode())}))\n\
         print(say({'Clear': list((base + '/mnt').encode())}))",
    );
    let expected = [
        "has not taken over",
        "not one of tenantfs",
        "another server's",
        "is gone",
        "or below",
        "leads onto another mount",
        "that is not ours",
    ];
    for answer in &answers {
        // Which is what it says of the forged one on a place that has another now.
        let gone = answer == "\"Unmounted\"";
        assert!(
            gone || expected.iter().any(|why| answer.contains(why)),
            "{answer} of {answers:?}"
        );
    }
    assert_eq!(scene.mounts().len(), all);
    // Nor where a forked one was told of nothing else.
    let forked = Scene::new();
    let mounter = Forked::once(&forked);
    let answers = mounter.seized(&format!(
        "claim = forged('{0}/mnt/held')\n\
         print(say({{'Adopt': [claim]}})); print(say({{'Unmount': claim}})); print(say({{'Clear': list(b'{0}/mnt')}}))",
        scene.0.path().display()
    ));
    assert!(
        answers[0].contains("where this mounter mounts nothing"),
        "{answers:?}"
    );
    assert!(answers[1].contains("has not taken over"), "{answers:?}");
    assert!(answers[2].contains("or below"), "{answers:?}");
    assert_eq!(scene.mounts().len(), all);
    assert!(is_mounted(&held));
}

#[test]
fn a_mount_that_no_server_has_is_all_that_can_be_taken_over() {
    let scene = Scene::new();
    let mut service = Listening::new(&scene);
    let hold = "print(mount(base + '/mnt/left')[:10], flush=True); time.sleep(60)";
    let mut holder = service.attacker(hold).stdout(Stdio::null()).spawn().unwrap();
    assert!(eventually(PATIENCE, || is_mounted(&scene.path("mnt/left"))));
    service.killed_and_started_again();
    let answers = service.seized(
        "claim = forged(base + '/mnt/left'); print(say({'Adopt': [claim]})); print(say({'Unmount': claim}))",
    );
    assert_eq!(answers, ["{\"Done\":{\"warnings\":[]}}", "\"Unmounted\""]);
    assert!(!scene.path("mnt/left").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
}
