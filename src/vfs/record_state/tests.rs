//! Every state under every transition.

use super::*;
use crate::budget::Pool;
use crate::clock::Timestamp;
use crate::error::Kind;

const NAMES: [&str; 5] = ["Idle", "Open", "Drafting", "Kept", "Refused"];

fn held(view: &[u8]) -> Held {
    let attributes = Draft::new(view.to_vec(), 100).attributes(None);
    Held {
        snapshot: Snapshot {
            attributes,
            view: view.into(),
        },
        _memory: Pool::alone(100).share(100).count(0),
    }
}

fn text() -> Text {
    Text {
        draft: Draft::new(b"draft".to_vec(), 100),
        beneath: None,
    }
}

/// What a lookup says of a kept draft.
fn shown() -> Attributes {
    text().draft.attributes(None)
}

/// A record in that state, open by so many.
fn record(state: &str, opens: u32) -> Record {
    let verdict = Verdict::default();
    let state = match state {
        "Idle" => RecordState::Idle,
        "Open" => RecordState::Open(held(b"record")),
        "Drafting" => RecordState::drafting(text()),
        "Kept" => RecordState::Kept {
            text: text(),
            verdict,
            shown: shown(),
        },
        _ => RecordState::Refused {
            text: text(),
            verdict,
        },
    };
    let mut counted = Opens::default();
    (0..opens).for_each(|_| counted.add(false));
    Record {
        state,
        opens: counted,
        ..Record::default()
    }
}

fn name(record: &Record) -> &'static str {
    match record.state() {
        RecordState::Idle => "Idle",
        RecordState::Open(_) => "Open",
        RecordState::Drafting { .. } => "Drafting",
        RecordState::Kept { .. } => "Kept",
        RecordState::Refused { .. } => "Refused",
    }
}

fn edit(record: &mut Record, change: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
    record.edit(|text| Ok(Draft::new(text.to_vec(), 100)), change)
}

type Transition = (&'static str, fn(&mut Record), [&'static str; 5]);

/// What each transition makes of each of [`NAMES`].
fn check(opens: u32, transitions: &[Transition]) {
    for (transition, apply, expected) in transitions {
        for (before, after) in NAMES.into_iter().zip(expected) {
            let mut record = record(before, opens);
            apply(&mut record);
            assert_eq!(name(&record), *after, "{transition} of {before}, {opens} open");
        }
    }
}

#[test]
fn every_transition_is_as_the_diagram_says() {
    for opens in [0, 1] {
        let rested = ["Idle", "Open"].map(|state| if opens == 0 { "Idle" } else { state });
        let [_, open] = rested;
        let kept = if opens == 0 { "Idle" } else { "Kept" };
        let transitions: [Transition; 8] = [
            ("hold", |record| record.hold(held(b"x")), ["Open"; 5]),
            (
                "found_kept",
                |record| record.found_kept(text().draft, None, shown()),
                ["Kept"; 5],
            ),
            (
                "edit",
                |record| edit(record, |draft| draft.resize(1)).unwrap(),
                ["Drafting"; 5],
            ),
            ("committed", |record| _ = record.committed(held(b"x")), [open; 5]),
            (
                "kept",
                |record| record.kept(Verdict::default(), shown()),
                ["Idle", "Open", "Kept", "Kept", "Refused"],
            ),
            (
                "refused",
                |record| record.refused(Verdict::default()),
                ["Idle", "Open", "Refused", "Refused", "Refused"],
            ),
            ("rest", Record::rest, ["Idle", open, "Drafting", kept, "Refused"]),
            (
                "failed",
                |record| _ = record.failed(Error::new(Kind::NoSpace, "full")),
                NAMES,
            ),
        ];
        check(opens, &transitions);
    }
    check(0, &[("abandon", Record::abandon, ["Idle"; 5])]);
    check(1, &[("abandon", Record::abandon, NAMES)]);
}

#[test]
fn a_change_that_is_refused_leaves_every_state_as_it_is() {
    let refused: fn(&mut Record) = |record| {
        assert!(edit(record, |draft| draft.resize(101)).is_err());
    };
    let no_memory: fn(&mut Record) = |record| {
        let full = |_: &[u8]| Err(Error::new(Kind::NoSpace, "full"));
        _ = record.edit(full, |_| Err::<(), _>(Error::new(Kind::NoSpace, "full")));
    };
    check(
        1,
        &[
            ("a refused edit", refused, NAMES),
            ("no memory", no_memory, NAMES),
        ],
    );
    for state in NAMES {
        let (mut changed, unchanged) = (record(state, 1), record(state, 1));
        refused(&mut changed);
        assert_eq!(changed.content(), unchanged.content());
    }
}

#[test]
fn what_is_typed_and_what_is_beneath_it_go_through_all_states() {
    let mut record = record("Open", 1);
    let beneath = record.attributes();
    edit(&mut record, |draft| draft.append(b"!")).unwrap();
    let judges: [fn(&mut Record); 2] = [
        |record| record.kept(Verdict::default(), shown()),
        |record| record.refused(Verdict::default()),
    ];
    for judge in judges {
        judge(&mut record);
        assert_eq!(record.content(), b"record!");
        let known = record.state.committed().map(|attributes| attributes.version);
        assert_eq!(known, beneath.map(|attributes| attributes.version));
        edit(&mut record, |_| Ok(())).unwrap();
    }
    assert!(record.committed(held(b"record!")), "just what was written");
    assert!(
        !record.committed(held(b"another")),
        "another than what was written"
    );
}

#[test]
fn only_a_failure_of_another_kind_is_news() {
    let mut record = record("Drafting", 1);
    let mut fails = |kind| record.failed(Error::new(kind, "no"));
    assert!(fails(Kind::NoSpace) && !fails(Kind::NoSpace) && fails(Kind::ReadOnly));
    edit(&mut record, |_| Ok(())).unwrap();
    assert!(
        !record.failed(Error::new(Kind::ReadOnly, "no")),
        "whatever is typed meanwhile"
    );
    assert!(record.trouble().is_some());
}

#[test]
fn pages_of_another_version_are_not_trusted() {
    let version = |seconds| Version {
        size: 6,
        mtime: Timestamp { seconds, nanos: 0 },
        ctime: Timestamp { seconds, nanos: 0 },
    };
    let held_at = |seconds| {
        let mut held = held(b"record");
        held.snapshot.attributes.version = version(seconds);
        held
    };
    let mut record = record("Idle", 0);
    record.hold(held_at(1));
    assert_eq!(record.pages, Pages::None);
    record.opened(true);
    assert_eq!(record.pages, Pages::Any);
    record.committed(held_at(2));
    assert_eq!(record.pages, Pages::Of(version(2)));
    edit(&mut record, |draft| draft.resize(1)).unwrap();
    assert_eq!(record.pages, Pages::Any);
    record.committed(held_at(3));
    assert_eq!(record.pages, Pages::Any, "not what was written");
    record.committed(held_at(3));
    assert_eq!(record.pages, Pages::Of(version(3)));
    record.refresh(held_at(4).snapshot.attributes);
    assert_eq!(record.pages, Pages::Of(version(4)), "the same content");
    record.hold(held_at(5));
    assert_eq!(record.pages, Pages::Any);
    assert!(record.closed(true) && !record.is_open());
}
