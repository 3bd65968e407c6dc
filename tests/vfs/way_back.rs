//! What was removed, and what could not be committed, through the mount: it is there, or gone, at once.

use tenantfs::error::Kind;

use super::{Mounted, READ, WRITE};

#[test]
fn a_restored_record_is_listed_at_once() {
    let mounted = Mounted::new();
    mounted.write("x.json", "{}");
    mounted.vfs.unlink(mounted.schedules, b"x.json", 1).unwrap();
    assert!(mounted.absent("x.json"));
    mounted.pages.noticed.lock().clear();
    mounted.vfs.restore("schedules/x.json").unwrap();
    mounted.vfs.notice_changes();
    assert!(mounted.pages.noticed.lock().contains(&mounted.schedules));
    assert_eq!(mounted.read("x.json"), "{}");
    let taken = mounted.vfs.restore("schedules/x.json").unwrap_err();
    assert_eq!(taken.kind(), Kind::Exists);
}

#[test]
fn a_discarded_draft_gives_its_number_back_to_the_record() {
    let mounted = Mounted::new();
    let draft = r#"{"api_key":"sk-plain"}"#;
    mounted.write("x.json", r#"{"n":1}"#);
    let number = mounted.lookup("x.json").ino;
    let refused = |name: &str| {
        let (node, opened) = mounted
            .vfs
            .create(mounted.schedules, name.as_bytes(), 0o644, WRITE, 1)
            .unwrap();
        mounted.vfs.write(opened.fh, 0, draft.as_bytes(), false).unwrap();
        assert!(mounted.vfs.flush(opened.fh, 1).is_err());
        assert_eq!(
            mounted
                .vfs
                .discard_draft(&format!("schedules/{name}"))
                .unwrap_err()
                .kind(),
            Kind::Busy
        );
        mounted.vfs.release(opened.fh);
        mounted.vfs.forget(node.ino, 1);
    };
    refused("x.json");
    assert_eq!(mounted.read("x.json"), draft);
    let reader = mounted.vfs.open(mounted.lookup("x.json").ino, READ, 1).unwrap();
    mounted.vfs.discard_draft("schedules/x.json").unwrap();
    assert_eq!(mounted.vfs.read(reader.fh, 0, 99).unwrap(), br#"{"n":1}"#);
    assert_eq!(mounted.lookup("x.json").ino, number);
    assert_eq!(mounted.read("x.json"), r#"{"n":1}"#);
    assert_eq!(
        mounted.vfs.discard_draft("schedules/x.json").unwrap_err().kind(),
        Kind::NotFound
    );
    assert!(mounted.vfs.uncommitted(9, &|| true).found.is_empty());

    // One that was never a record is gone.
    refused("y.json");
    mounted.vfs.discard_draft("schedules/y.json").unwrap();
    assert!(mounted.absent("y.json"));
    mounted.write("x.json", r#"{"n":2}"#);
    assert_eq!(mounted.read("x.json"), r#"{"n":2}"#);
}
