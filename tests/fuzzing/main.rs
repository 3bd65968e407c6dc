//! Any bytes for what reads strangers' bytes: the lens, the control socket, the verifier of the audit log.
//!
//! `scripts/fuzz` searches for hours for bytes that break one of the laws; here those that it has kept are tried, and some
//! more that are made of them. What breaks a law is kept for ever in `tests/fuzz/regressions`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../laws/audit.rs"]
mod audit;
#[path = "../laws/control.rs"]
mod control;
mod kept;
mod mounter;
#[path = "../laws/record.rs"]
mod record;

use std::panic::catch_unwind;

use kept::Kept;
use proptest::prelude::*;
use tenantfs::auth::ApiKey;
use tenantfs::daemon::{Request, Whose};

fn bounded(cases: u32) -> ProptestConfig {
    // What is found is kept by hand, as a file that libFuzzer takes too.
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn what_was_kept_breaks_no_law_of_the_lens() {
    Kept::of("record").replay(record::check_input);
}

#[test]
fn what_was_kept_breaks_no_law_of_the_control_socket() {
    Kept::of("control").replay(control::check_input);
}

#[test]
fn what_was_kept_breaks_no_law_of_the_verifier() {
    Kept::of("audit").replay(audit::check_input);
}

proptest! {
    #![proptest_config(bounded(4000))]

    #[test]
    fn what_is_made_of_it_breaks_no_law_of_the_lens(input in Kept::of("record").mutated()) {
        record::check_input(&input);
    }

    #[test]
    fn what_is_made_of_it_breaks_no_law_of_the_control_socket(input in Kept::of("control").mutated()) {
        control::check_input(&input);
    }
}

proptest! {
    #![proptest_config(bounded(1000))]

    #[test]
    fn what_is_made_of_it_breaks_no_law_of_the_verifier(input in Kept::of("audit").mutated()) {
        audit::check_input(&input);
    }

    #[test]
    fn a_request_is_read_as_it_was_made_unless_its_line_is_too_long(request in request()) {
        let text = control::text(&request);
        prop_assert!(control::taken_in(&text, control::MAX_LINE));
        prop_assert!(!control::taken_in(&text, control::MAX_LINE + 1));
        prop_assert_eq!(control::again(&text), text);
    }

    #[test]
    fn a_written_log_verifies_however_it_is_cut_into_files(cuts in prop::collection::vec(0..12_usize, 0..3)) {
        let whole = audit::WRITTEN[1..].concat();
        let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(lines.len())).collect();
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([lines.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let files: Vec<_> = starts.zip(ends).map(|(start, end)| lines[start..end].concat()).collect();
        let files: Vec<_> = files.iter().map(Vec::as_slice).collect();
        audit::check(audit::WRITTEN[0], &files);
    }
}

fn request() -> impl Strategy<Value = Request> {
    let key = "[!-~]{1,40}".prop_map(|text| ApiKey::new(&text).unwrap());
    let whose = prop_oneof![
        any::<u32>().prop_map(Whose::Uid),
        any::<String>().prop_map(Whose::UserId),
        Just(Whose::All)
    ];
    prop_oneof![
        (key, any::<[Option<u32>; 2]>()).prop_map(|(key, [uid, gid])| Request::Login { key, uid, gid }),
        any::<Option<u32>>().prop_map(|uid| Request::Logout { uid }),
        any::<Option<u32>>().prop_map(|uid| Request::Status { uid }),
        whose.prop_map(Request::Revoke),
        any::<(u32, Option<u32>)>().prop_map(|(lines, uid)| Request::Audit { lines, uid }),
        any::<Option<u32>>().prop_map(|uid| Request::Removed { uid }),
        any::<(String, Option<u32>)>().prop_map(|(path, uid)| Request::Restore { path, uid }),
        any::<Option<u32>>().prop_map(|uid| Request::Drafts { uid }),
        any::<(String, Option<u32>)>().prop_map(|(path, uid)| Request::Discard { path, uid }),
    ]
}

#[test]
fn the_laws_are_broken_where_they_should_be() {
    let fails = |law: fn()| assert!(catch_unwind(law).is_err());
    // A lens to which `token` is no secret shows it.
    fails(|| {
        let owner = tenantfs::identity::UserId::new("alice").unwrap();
        let lens = tenantfs::record::Lens::new(owner, vec!["api_key".to_owned()], None);
        record::check(&lens, Some(br#"{"token":1,"user_id":"alice"}"#), b"{}");
    });
    fails(|| _ = control::again(r#"{"reboot":{}}"#));
    // The newest file's own head, beside the one before.
    fails(|| {
        let [head, older, _] = audit::WRITTEN;
        assert_eq!(audit::broken_link(head, &[older]), None);
    });
}
