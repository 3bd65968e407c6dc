//! What becomes of mounts when either side dies, or hangs.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Signal, kill_process};

use crate::common::{eventually, is_mounted};
use crate::{PATIENCE, SOON, Server, Service, leave_behind, listen, mounts_below, refusal, request};

#[test]
fn each_server_has_its_own_mounts() {
    let service = Service::start(&[]);
    let (one, other) = (service.place("one"), service.place("other"));
    let mounter = service.connect();
    let _one = mounter.mount(&request(&one)).unwrap();
    let mut server = Server::start(&service, std::slice::from_ref(&other));
    server.kill();
    assert!(eventually(SOON, || !is_mounted(&other) && !other.exists()));
    assert!(is_mounted(&one));
}

#[test]
fn mounts_outlive_the_mounter_and_end_with_their_server() {
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let mut service = Service::start(&[]);
        let mounter = service.connect();
        let (first, second, third) = (service.place("1 a"), service.place("2"), service.place("3"));
        let (first_mount, _first) = mounter.mount(&request(&first)).unwrap();
        let second_mount = mounter.mount(&request(&second)).unwrap();
        let code = service.end(signal);
        assert_eq!(code, (signal != Signal::KILL).then_some(0), "{}", service.said());
        let both = mounts_below(service.base.path());
        assert_eq!(both.len(), 2, "{both:?}");
        if signal == Signal::KILL {
            // Not for good: it can be tried again.
            assert!(first_mount.unmount().is_err());
        }
        service.start_again();
        first_mount.unmount().unwrap();
        assert!(!first.exists());
        let _third = mounter.mount(&request(&third)).unwrap();
        assert!(is_mounted(&second) && is_mounted(&third));
        drop(second_mount);
        assert!(!second.exists());
    }
}

#[test]
fn a_server_that_asks_for_nothing_is_known_to_the_next_mounter() {
    let mut service = Service::start(&[]);
    let places = [service.place("a"), service.place("b")];
    let mut server = Server::start(&service, &places);
    service.end(Signal::KILL);
    service.start_again();
    // By now it has reconnected; longer than it may pause between attempts.
    thread::sleep(Duration::from_millis(2500));
    assert!(places.iter().all(|place| is_mounted(place)));
    server.kill();
    let gone = || places.iter().all(|place| !is_mounted(place) && !place.exists());
    assert!(eventually(SOON, gone), "{}", service.said());
}

#[test]
fn a_mount_that_was_dropped_while_there_was_no_mounter_ends_when_there_is() {
    let mut service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    let mount = mounter.mount(&request(&place)).unwrap();
    service.end(Signal::KILL);
    drop(mount);
    assert!(is_mounted(&place));
    service.start_again();
    assert!(eventually(PATIENCE, || !is_mounted(&place) && !place.exists()));
}

#[test]
fn a_request_waits_for_the_next_mounter() {
    let mut service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    service.end(Signal::KILL);
    let mounted = thread::scope(|scope| {
        let waiting = scope.spawn(|| mounter.mount(&request(&place)));
        thread::sleep(Duration::from_millis(300));
        service.process = listen(service.base.path(), &[]);
        waiting.join().unwrap()
    });
    let _mount = mounted.unwrap();
    assert!(is_mounted(&place));
}

#[test]
fn what_a_dead_server_left_is_ended_and_strangers_mounts_are_not() {
    let service = Service::start(&[]);
    let (left, held, stranger, covered, elsewhere) = (
        service.place("left behind"),
        service.place("held"),
        service.place("stranger"),
        service.place("covered"),
        service.path("elsewhere"),
    );
    leave_behind(&left);
    leave_behind(&elsewhere);
    leave_behind(&covered);
    fs::create_dir(&stranger).unwrap();
    for place in [&stranger, &covered] {
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
    }
    let other = service.connect();
    let _held = other.mount(&request(&held)).unwrap();
    let mounter = service.connect();
    let own = service.place("own");
    let _own = mounter.mount(&request(&own)).unwrap();
    let mut warnings = mounter.take_over(&service.places()).unwrap();
    warnings.sort();
    assert!(!left.exists());
    for place in [&held, &own, &stranger, &elsewhere] {
        assert!(is_mounted(place), "{}", place.display());
    }
    let on_covered = mounts_below(&covered);
    assert_eq!(on_covered.len(), 2, "{on_covered:?}");
    // Of one place, that something covers our mount, and that this something is a stranger.
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let about = |place: &Path| {
        let shown = place.display().to_string();
        warnings.iter().filter(|warning| warning.contains(&shown)).count()
    };
    assert_eq!((about(&covered), about(&stranger)), (2, 1));
    // Where it may mount nothing, it ends nothing.
    let warnings = mounter.take_over(service.base.path()).unwrap();
    assert!(warnings[0].contains("or below"), "{warnings:?}");
    assert!(is_mounted(&elsewhere));
}

#[test]
fn a_mount_whose_answer_was_lost_is_made_again() {
    let mut service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    assert_eq!(mounter.take_over(&service.places()).unwrap(), [""; 0]);
    service.end(Signal::KILL);
    // As if the mounter had mounted, and then died.
    leave_behind(&place);
    service.start_again();
    let (mount, _connection) = mounter.mount(&request(&place)).unwrap();
    assert_eq!(mounts_below(&place).len(), 1);
    mount.unmount().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_mount_that_somebody_unmounted_does_not_end_the_next_one_there() {
    let service = Service::start(&[]);
    let (mounter, place) = (service.connect(), service.place("a"));
    let (old, _old) = mounter.mount(&request(&place)).unwrap();
    unmount(&place, UnmountFlags::DETACH).unwrap();
    let (new, _new) = mounter.mount(&request(&place)).unwrap();
    old.unmount().unwrap();
    assert!(is_mounted(&place));
    new.unmount().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_mounter_that_hangs_does_not_cost_the_mounts() {
    let service = Service::start(&[]);
    let mounter = service.connect();
    let (old, late, new) = (service.place("old"), service.place("late"), service.place("new"));
    let _old = mounter.mount(&request(&old)).unwrap();
    kill_process(service.pid(), Signal::STOP).unwrap();
    // All of its threads, not only the one that has taken the signal.
    assert!(eventually(PATIENCE, || {
        let threads = fs::read_dir(format!("/proc/{}/task", service.process.id())).unwrap();
        let mut states =
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
        states.all(|stat| stat.contains(") T "))
    }));
    assert!(refusal(&mounter, &late).contains("no answer in time"));
    kill_process(service.pid(), Signal::CONT).unwrap();
    let _new = mounter.mount(&request(&new)).unwrap();
    assert!(is_mounted(&old) && is_mounted(&new));
    assert!(!late.exists());
}

#[test]
fn a_thousand_mounts_from_many_threads_are_taken_over_and_end() {
    const THREADS: usize = 10;
    const EACH: usize = 100;
    let mut service = Service::start(&[]);
    let mounter = service.connect();
    let places = service.places();
    let begun = Instant::now();
    let mounts: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (mounter, places) = (&mounter, &places);
                scope.spawn(move || {
                    let names =
                        (0..EACH).map(|each| places.join(format!("{}", 60_000 + thread * EACH + each)));
                    let mounts = names.map(|place| mounter.mount(&request(&place)).unwrap().0);
                    mounts.collect::<Vec<_>>()
                })
            })
            .collect();
        let mounts = running.into_iter().map(|thread| thread.join().unwrap());
        mounts.flatten().collect()
    });
    println!("mounting: {:?}", begun.elapsed() / 1000);
    assert_eq!(mounts_below(&places).len(), THREADS * EACH);
    service.end(Signal::KILL);
    service.start_again();
    let begun = Instant::now();
    assert_eq!(mounter.take_over(&places).unwrap(), [""; 0]);
    println!("taking over: {:?}", begun.elapsed());
    assert_eq!(mounts_below(&places).len(), THREADS * EACH);
    let begun = Instant::now();
    drop(mounts);
    println!("unmounting: {:?}", begun.elapsed() / 1000);
    assert!(fs::read_dir(&places).unwrap().next().is_none());
    let names = (0..1000).map(|number| places.join(number.to_string()));
    let mut server = Server::start(&service, &names.collect::<Vec<_>>());
    let begun = Instant::now();
    server.kill();
    assert!(eventually(PATIENCE, || mounts_below(&places).is_empty()));
    println!("ending a dead server's: {:?}", begun.elapsed());
}
