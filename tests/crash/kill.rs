//! The server is killed at each call with which it changes the volume.

use std::collections::BTreeSet;

use crate::common::LAYOUTS;
use crate::scene::{every_point, has_ended};
use crate::strace::{self, Fault};
use crate::volume::{Reader, sealing};
use crate::{is_long, report, tried};

/// How many points are tried in a short run.
const SAMPLE: usize = 28;

#[test]
fn a_server_that_is_killed_at_any_call_leaves_the_old_record_or_the_new_one() {
    if !strace::is_there() {
        return;
    }
    let layouts = if is_long() { &LAYOUTS[..] } else { &LAYOUTS[..1] };
    let mut killed = 0;
    for layout in layouts {
        let home = sealing(*layout);
        let mut reader = Reader::new(&home);
        let all = every_point(*layout, &mut reader);
        let (every, mut hit) = (all.len(), BTreeSet::new());
        for (scene, point) in tried(all, SAMPLE) {
            let place = point.describe();
            let volume = sealing(*layout);
            scene.set(&volume);
            let mount = scene.mount(&volume);
            let played = scene.play(&volume, &mount, Some((&point, Fault::Kill)));
            assert_ne!(played.said, scene.says, "{}: {place}", scene.name);
            point.was_met(&played.calls, &volume.root());
            has_ended(mount);
            scene.is_whole(&volume, &mut reader, &place);
            scene.goes_on(&volume, &mut reader, &place);
            hit.insert((scene.name, place));
        }
        assert!(!is_long() || hit.len() == every, "{} of {every}", hit.len());
        killed += hit.len();
    }
    report("kill -9 of the server, at as many system calls", killed);
    assert!(killed >= if is_long() { 200 } else { SAMPLE }, "{killed}");
}
