//! What happens on the stage. Each claim is checked on the mounts and on the volume before it is printed.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tenantfs::error::{At, Doing, Result};

use super::report::{Outcome, Report};
use super::stage::{self, SERVICE, SERVICE_UID, Stage, Tenant};

type Scene = fn(&Stage, &mut Report) -> Result<()>;

pub(super) const ALL: [Scene; 6] = [
    each_sees_their_own,
    files_are_plain,
    nobody_enters,
    nothing_crosses,
    mistakes_lose_nothing,
    the_server_is_nobody,
];

fn each_sees_their_own(stage: &Stage, report: &mut Report) -> Result<()> {
    report.heading("What each of them sees");
    for (tenant, run) in [(&stage.alice, "run-1.json"), (&stage.bob, "run-9.json")] {
        let listed = show(tenant, report, "ls", &["schedules", "results"])?;
        let expected = format!("results:\n{run}\n\nschedules:\nnightly.json\n");
        report.claim(
            format_args!(
                "{} has their own records in their mount, and no others",
                tenant.name
            ),
            same(&listed, &expected),
        );
    }
    let shown = show(&stage.alice, report, "cat", &["schedules/nightly.json"])?;
    let stored = read(&stage.stored(&stage.alice, "schedules", "nightly.json")?)?;
    let secret = stage.alice.secret();
    report.claim(
        "the API key that the service keeps in this record is on the volume, and not in the mount",
        match (
            stored.contains(&secret),
            shown.contains("api_key") || shown.contains(&secret),
        ) {
            (true, false) => Ok(()),
            (in_stored, in_shown) => Err(format!("on the volume: {in_stored}, in the mount: {in_shown}")),
        },
    );
    Ok(())
}

fn files_are_plain(stage: &Stage, report: &mut Report) -> Result<()> {
    report.heading("Plain files, byte for byte");
    let alice = &stage.alice;
    let text = "{ \"rows\":[1.50, 2e3],  \"note\" : \"f\\u00fcr Bob\" }\n";
    let path = alice.shown("results", "run-2.json");
    let written = alice
        .actor
        .write(&path, text)
        .and_then(|()| alice.actor.read(&path));
    report.claim(
        "alice writes a record with her own spacing and numbers, and reads back the same bytes",
        found(written).and_then(|back| same(&back, text)),
    );

    let stored = read(&stage.stored(alice, "results", "run-2.json")?)?;
    report.line(format_args!("on the volume: {}", stored.trim_end()));
    let expected = text.replace(" }\n", ",\"user_id\" :\"alice\" }\n");
    report.claim(
        "the volume's copy is the same, with its owner appended",
        same(&stored, &expected),
    );

    let schedule = alice.shown("schedules", "nightly.json");
    let edited = alice
        .actor
        .read(&schedule)
        .and_then(|text| alice.actor.write(&schedule, &text.replace("0 2", "0 5")));
    let stored = read(&stage.stored(alice, "schedules", "nightly.json")?)?;
    report.claim(
        "alice edits her schedule; the volume's copy keeps the API key that she never saw",
        found(edited).and_then(
            |()| match stored.contains("0 5 * * *") && stored.contains(&alice.secret()) {
                true => Ok(()),
                false => Err(stored),
            },
        ),
    );

    let saved = "{\"state\": \"done\", \"user_id\": \"alice\"}";
    stage.save(alice, "results", "run-3.json", saved)?;
    let shown = within(Duration::from_secs(2), || {
        alice.actor.read(&alice.shown("results", "run-3.json"))
    });
    report.claim(
        "the service saves another record meanwhile; it is in alice's mount at once",
        found(shown).and_then(|shown| same(&shown, saved)),
    );
    Ok(())
}

fn nobody_enters(stage: &Stage, report: &mut Report) -> Result<()> {
    report.heading("Nobody else gets in");
    let target = &stage.alice.mountpoint;
    let file = stage.alice.shown("schedules", "nightly.json");
    report.claim(
        "bob cannot list alice's mount: Permission denied",
        refused(stage.bob.actor.list(target), Errno::ACCESS),
    );
    report.claim(
        "bob cannot read a file of hers whose path he knows: Permission denied",
        refused(stage.bob.actor.read(&file), Errno::ACCESS),
    );
    report.claim(
        "root cannot list it either: Permission denied",
        refused(fs::read_dir(target).map(drop), Errno::ACCESS),
    );
    Ok(())
}

fn nothing_crosses(stage: &Stage, report: &mut Report) -> Result<()> {
    report.heading("Nothing of bob's gets in through the volume");
    let (alice, bob) = (&stage.alice, &stage.bob);
    let before = listed(alice, "results")?;
    let of_bob = stage.stored(bob, "results", "run-9.json")?;
    const PLANTING: &str = "planting files on the volume";

    let copied = stage.stored(alice, "results", "copied.json")?;
    let linked = stage.stored(alice, "results", "linked.json")?;
    let planted = SERVICE.act(|| {
        fs::copy(&of_bob, &copied)?;
        stage::readable_by_its_group(&copied)?;
        symlink(&of_bob, &linked)
    });
    planted.doing(PLANTING)?;
    stage.save(alice, "results", "ownerless.json", "{\"rows\": []}")?;

    for (what, name) in [
        ("a record of bob's, copied into alice's directory", "copied.json"),
        ("a symbolic link from there to his record", "linked.json"),
        ("a record that does not say whose it is", "ownerless.json"),
    ] {
        report.claim(
            format_args!("{what}: No such file or directory"),
            refused(alice.actor.read(&alice.shown("results", name)), Errno::NOENT),
        );
    }
    report.claim(
        "none of the three is listed",
        same(&listed(alice, "results")?.join(" "), &before.join(" ")),
    );
    let planted = read(&copied)?;
    report.claim(
        "alice cannot write over what she cannot see: Input/output error, and it stays as it is",
        refused(
            alice.actor.write(&alice.shown("results", "copied.json"), "{}"),
            Errno::IO,
        )
        .and_then(|()| same(&SERVICE.read(&copied).unwrap_or_default(), &planted)),
    );
    Ok(())
}

fn mistakes_lose_nothing(stage: &Stage, report: &mut Report) -> Result<()> {
    report.heading("Mistakes lose nothing");
    let alice = &stage.alice;
    let path = alice.shown("schedules", "nightly.json");
    let stored = stage.stored(alice, "schedules", "nightly.json")?;
    let before = read(&stored)?;
    let draft = "{\"cron\": \"0 6 * * *\", oops";
    report.claim(
        "alice saves a record that is not JSON: Invalid argument",
        refused(alice.actor.write(&path, draft), Errno::INVAL),
    );
    report.claim(
        "the volume still has the last good one",
        same(&read(&stored)?, &before),
    );
    report.claim(
        "what she typed is not lost: her mount shows it until it is fixed or removed",
        found(alice.actor.read(&path)).and_then(|shown| same(&shown, draft)),
    );
    let fixed = "{\"cron\": \"0 6 * * *\"}";
    report.claim(
        "she fixes it, and it is the record; the API key is still in the volume's copy",
        found(alice.actor.write(&path, fixed)).and_then(|()| {
            let now = SERVICE.read(&stored).unwrap_or_default();
            match now.starts_with("{\"cron\": \"0 6 * * *\"") && now.contains(&alice.secret()) {
                true => Ok(()),
                false => Err(now),
            }
        }),
    );

    let forged = alice.shown("results", "forged.json");
    let written = alice.actor.write(&forged, "{\"rows\": [], \"user_id\": \"bob\"}");
    let kept = stage.stored(alice, "results", "forged.json")?;
    report.claim(
        "she saves a record that says it is bob's: it is stored as hers",
        found(written).and_then(|()| {
            same(
                &SERVICE.read(&kept).unwrap_or_default(),
                "{\"rows\": [], \"user_id\": \"alice\"}",
            )
        }),
    );

    let before = read(&stored)?;
    report.claim(
        "she types an API key into her schedule, in plain: Invalid argument, and the volume's copy is as before",
        refused(alice.actor.write(&path, "{\"api_key\": \"sk-plain\"}"), Errno::INVAL)
            .and_then(|()| same(&SERVICE.read(&stored).unwrap_or_default(), &before)),
    );
    Ok(())
}

fn the_server_is_nobody(stage: &Stage, report: &mut Report) -> Result<()> {
    report.heading("Behind it");
    let status = read(Path::new(&format!("/proc/{}/status", stage.alice.server())))?;
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let expected = format!("{SERVICE_UID} {SERVICE_UID} {SERVICE_UID} {SERVICE_UID}");
    let capabilities = ["CapInh", "CapPrm", "CapEff", "CapAmb"];
    let powerless = capabilities
        .iter()
        .all(|set| field(set).bytes().all(|digit| digit == b'0'));
    report.claim(
        "alice's server runs as the account that owns the volume, without any capability, and cannot gain one",
        match field("Uid") == expected && powerless && field("NoNewPrivs") == "1" {
            true => Ok(()),
            false => Err(format!("uid {}, capabilities {}", field("Uid"), field("CapEff"))),
        },
    );
    let options = stage::mount_options(&stage.alice.mountpoint).unwrap_or_default();
    report.line(format_args!("mounted with {},{}", options.0, options.1));
    let of_mount = ["nosuid", "nodev", "noexec"].map(|option| has(&options.0, option));
    let only_alice = has(&options.1, &format!("user_id={}", stage.alice.actor.uid));
    report.claim(
        "the kernel itself admits only her uid: user_id is hers, and allow_other is absent",
        match of_mount == [true; 3] && only_alice && !has(&options.1, "allow_other") {
            true => Ok(()),
            false => Err("see the options above".to_owned()),
        },
    );
    Ok(())
}

/// Runs a program in the tenant's mount as the tenant, and prints what it prints.
fn show(tenant: &Tenant, report: &mut Report, program: &str, arguments: &[&str]) -> Result<String> {
    report.line(format_args!("{}$ {program} {}", tenant.name, arguments.join(" ")));
    let said = tenant.actor.run(&tenant.mountpoint, program, arguments)?;
    for line in said.lines() {
        report.line(format_args!("{line}"));
    }
    Ok(said)
}

fn listed(tenant: &Tenant, resource: &str) -> Result<Vec<String>> {
    let directory = tenant.mountpoint.join(resource);
    tenant
        .actor
        .list(&directory)
        .doing("listing a directory")
        .at(directory)
}

/// Reads what the volume has.
fn read(path: &Path) -> Result<String> {
    SERVICE.read(path).doing("reading a file").at(path)
}

/// What is absent at first may come soon.
fn within<T>(patience: Duration, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Err(error) if error.kind() == ErrorKind::NotFound && begun.elapsed() < patience => {
                thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn has(options: &str, option: &str) -> bool {
    options.split(',').any(|one| one == option)
}

fn found<T>(result: io::Result<T>) -> std::result::Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn same(found: &str, expected: &str) -> Outcome {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{found:?} instead of {expected:?}")),
    }
}

fn refused<T: fmt::Debug>(result: io::Result<T>, errno: Errno) -> Outcome {
    match result {
        Err(error) if error.raw_os_error() == Some(errno.raw_os_error()) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(value) => Err(format!("it was allowed: {value:?}")),
    }
}
