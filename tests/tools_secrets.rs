//! A sealed key survives every tool that makes a record anew: those that remove it first, those that replace it, and those
//! that give up links and do something else. And it goes nowhere else.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::thread;
use std::time::Duration;

use common::{ALICE, LAYOUTS, Layout, Mount, Volume, tool};
use serde_json::Value;

/// What a user writes, and no tool ever sees again.
const KEY: &str = "sk-written-by-alice-once";

/// What each script begins with: a directory `d` of its own with the record `x.json`, and another outside the mount, `$OUT`.
const BEGIN: &str = r#"OUT=~/$NAME; mkdir "$OUT"; mkdir "schedules/$NAME"; cd "schedules/$NAME"; mkdir d; cd d
printf '{"at": "02:00", "api_key": "sk-written-by-alice-once"}\n' > x.json
"#;

/// Runs a script in `d`, and returns what the record has as its key then, and its text.
fn key_after(volume: &Volume, mount: &Mount<'_>, name: &str, script: &str) -> (Option<String>, String) {
    mount.shell(&format!("NAME={name}\n{BEGIN}{script}"));
    let record = format!("{name}/d/x.json");
    let text = mount.read(&format!("schedules/{record}"));
    mount.shell(&format!("! grep -ras {KEY} ~/{name} schedules/{name}"));
    (volume.opened(&ALICE, "schedules", &record, "api_key"), text)
}

/// The key is there after each of the scripts, whatever became of the record's time: 02:00, or 03:00 where it says `03`.
fn keep_the_key(scripts: &[impl AsRef<str>]) {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let mount = volume.mount_sealing(&ALICE);
        let lost: Vec<_> = scripts
            .iter()
            .map(AsRef::as_ref)
            .enumerate()
            .map(|(number, script)| {
                (
                    script,
                    key_after(&volume, &mount, &format!("case{number}"), script),
                )
            })
            .filter(|(script, (key, text))| {
                let hour = if script.contains("03") { "03:00" } else { "02:00" };
                let at = serde_json::from_str::<Value>(text)
                    .ok()
                    .map(|record| record["at"].clone());
                key.as_deref() != Some(KEY) || at != Some(Value::from(hour))
            })
            .collect();
        assert!(lost.is_empty(), "{layout:?}: {lost:#?}");
    }
}

fn all_there(tools: &[&str]) -> bool {
    tools.iter().all(|name| tool(name).is_some())
}

#[test]
fn a_key_survives_what_takes_the_record_out_of_an_archive() {
    if !all_there(&["tar", "zip", "unzip", "gzip"]) {
        return;
    }
    keep_the_key(&[
        "tar cf $OUT/t x.json; tar xf $OUT/t",
        "tar cf $OUT/t x.json; rm x.json; tar xf $OUT/t",
        "tar cf $OUT/t x.json; tar xf $OUT/t --overwrite",
        "tar cf $OUT/t x.json; tar xf $OUT/t --unlink-first",
        "tar cf $OUT/t --remove-files x.json; test ! -e x.json; tar xf $OUT/t",
        "cd ..; tar cf $OUT/t d; tar xf $OUT/t --recursive-unlink",
        "cd ..; tar cf $OUT/t d; rm -r d; tar xf $OUT/t",
        "zip -q $OUT/z x.json; unzip -qo $OUT/z",
        "zip -q $OUT/z x.json; echo '{\"at\": \"03:00\"}' > x.json; touch -d '1 hour' x.json; \
         zip -qu $OUT/z x.json; unzip -qo $OUT/z",
        "zip -qm $OUT/z x.json; test ! -e x.json; unzip -q $OUT/z",
        "gzip x.json; test ! -e x.json; gunzip x.json.gz",
    ]);
}

#[test]
fn a_key_survives_7z() {
    if !all_there(&["7z"]) {
        return;
    }
    keep_the_key(&[
        "7z a -bd $OUT/z.7z x.json >$OUT/said; 7z x -bd -y $OUT/z.7z >$OUT/said",
        "7z a -bd -sdel $OUT/z.7z x.json >$OUT/said; test ! -e x.json; 7z x -bd $OUT/z.7z >$OUT/said",
    ]);
}

/// Each script where the record is in a repository.
fn in_a_repository(scripts: &[&str]) -> Vec<String> {
    let begin = "git init -q -b first .; git config user.name a; git config user.email a@b; git add x.json
        git commit -qm first; ";
    scripts.iter().map(|script| format!("{begin}{script}")).collect()
}

#[test]
fn a_key_survives_git() {
    if !all_there(&["git"]) {
        return;
    }
    let scripts = [
        "sed -i s/02/04/ x.json; git checkout -q -- x.json",
        "sed -i s/02/04/ x.json; git stash -q; grep -q 02: x.json; git stash pop -q; sed -i s/04/03/ x.json",
        "git checkout -qb other; git rm -q x.json; git commit -qm none; test ! -e x.json; git checkout -q first",
        "git checkout -qb other; sed -i s/02/05/ x.json; git commit -qam later; git checkout -q first",
        "rm x.json; git reset -q --hard",
        "rm x.json; git restore x.json",
        "git rm -q x.json; git commit -qm none; git revert --no-edit HEAD >$OUT/said",
        "git mv x.json y.json; git mv y.json x.json",
        "sed -i s/02/03/ x.json; git diff > $OUT/diff; git checkout -q x.json; git apply $OUT/diff",
        "sed -i s/02/03/ x.json; git commit -qam b; git rebase -q --onto HEAD~1 HEAD~1 first",
        "cd ..; rm -rf new; git clone -q d new 2>$OUT/said; rm -rf d; mv new d; cd d; grep -q 02: x.json",
    ];
    keep_the_key(&in_a_repository(&scripts));
}

#[test]
fn a_key_survives_what_copies_a_record_over_it() {
    keep_the_key(&[
        "cp x.json $OUT/n; install -m 644 $OUT/n x.json",
        "cp x.json $OUT/n; install -C -m 600 $OUT/n x.json",
        "cp x.json $OUT/n; install -b -m 644 $OUT/n x.json",
        "cp x.json $OUT/n; cp --remove-destination $OUT/n x.json",
        "cp x.json $OUT/n; cp -f $OUT/n x.json",
        "cp x.json $OUT/n; cp --backup $OUT/n x.json; test -e x.json~",
        "cp x.json $OUT/n; cp --backup=numbered $OUT/n x.json; cp --backup=numbered $OUT/n x.json",
        "cp x.json $OUT/n; rm x.json; cp $OUT/n x.json",
        "cp x.json $OUT/n; rm x.json; cat $OUT/n > x.json",
        "cp x.json $OUT/n; dd if=$OUT/n of=x.json bs=7 status=none",
        "cp -a x.json y.json; rm x.json; cp -a y.json x.json",
        // A backup by hard links gets EPERM, and copies.
        "ln x.json x.json.bak 2>$OUT/said || cp x.json x.json.bak; rm x.json; cp x.json.bak x.json",
        "cd ..; cp -al d saved 2>$OUT/said || { rm -rf saved; cp -a d saved; }; rm -rf d; cp -a saved d",
        "ln -s x.json y.json 2>$OUT/said || cp x.json y.json; rm x.json; mv y.json x.json",
        "cd ..; cp -r d $OUT/; rm -rf d; cp -r $OUT/d d",
        "cd ..; cp -r d $OUT/; rm -rf d; mkdir d; sleep 0.1; cp $OUT/d/x.json d/",
    ]);
}

#[test]
fn a_key_survives_being_moved_away_and_back() {
    keep_the_key(&[
        "mv x.json $OUT/x; mv $OUT/x x.json",
        "mv x.json y; mv y x.json",
        "mv x.json y.json; mv y.json x.json",
        "mv x.json ../y.json; mv ../y.json x.json",
        "cp x.json n; mv -b n x.json",
        "cp x.json n.json; mv -b n.json x.json; test -e x.json~",
        "cp x.json $OUT/n; mv x.json x.json.old; mv $OUT/n x.json; rm x.json.old",
        "cp x.json $OUT/n; mv x.json old.json; mv $OUT/n x.json; mv old.json x.json",
        "cd ..; mv d $OUT/; mv $OUT/d d",
        "cd ..; mv d e; mv e d",
        "cd ..; mv d e; mkdir d; cp e/x.json d/; rm -r d; mv e d",
    ]);
}

/// Renames a record to another record's name, and makes its own name anew.
#[test]
fn a_key_survives_a_record_that_is_renamed_to_another_records_name() {
    if !all_there(&["jq"]) {
        return;
    }
    keep_the_key(&[
        "mv x.json old.json; cp old.json x.json; rm old.json",
        "mv x.json x.bak.json; cp x.bak.json x.json",
        "mv x.json x.orig.json; jq '.at = \"03:00\"' x.orig.json > x.json",
        "mv x.json x.orig.json; jq '.at = \"03:00\"' x.orig.json > n; mv n x.json; rm x.orig.json",
        "mv x.json x.orig.json; jq '.at = \"03:00\"' x.orig.json > n.json; mv n.json x.json",
        "mkdir sub; mv x.json sub/; mv sub/x.json y.json; cp y.json x.json",
        "mv x.json ..; cp ../x.json .",
        "cp x.json y.json; mv -n x.json z.json; mv y.json x.json",
        "mv x.json ../../../results/$NAME.json; cp ../../../results/$NAME.json x.json",
        "mv x.json a.json; mv a.json b.json; rm b.json; echo '{\"at\": \"02:00\"}' > x.json",
        "for i in 1 2 3 4; do mv x.json y.json; cp y.json x.json; mv x.json y.json; mv y.json x.json; done",
        "mv x.json old.json; : > x.json; cat old.json > x.json",
        "mv x.json old.json; printf '{' > x.json || :; mv x.json n.json; mv old.json x.json",
        "mv x.json old.json; cp old.json y.json; rm old.json; mv y.json x.json",
        // The record goes with a draft that is refused, and is written anew at its old name.
        "cp x.json $OUT/n; printf '{\"at\"' > x.json || :; mv x.json old.json; cp $OUT/n x.json; rm old.json",
        "mv x.json old.json; cd ..; cp -r d $OUT/; rm -r d; mkdir d; cp $OUT/d/old.json d/x.json",
    ]);
}

#[test]
fn a_key_survives_an_exchange_with_a_record_that_has_none() {
    let exchange = |one: &str, other: &str| {
        format!(
            "python3 -c 'import ctypes, os; os._exit(-ctypes.CDLL(None).syscall(316, -100, b\"{one}\", -100, b\"{other}\", 2))'"
        )
    };
    let there = format!("cp x.json y.json; {}", exchange("x.json", "y.json"));
    let back = format!("cp x.json y.json; {}", exchange("y.json", "x.json"));
    let scripts = [
        format!("{there}; rm y.json"),
        format!("{back}; rm y.json"),
        format!("{back}; mv y.json x.json"),
        format!("{back}; {}", exchange("x.json", "y.json")),
    ];
    keep_the_key(&scripts.each_ref().map(String::as_str));
}

#[test]
fn a_key_survives_a_directory_that_is_renamed_and_made_anew() {
    keep_the_key(&[
        "cd ..; cp -r d new; mv d old; mv new d; rm -r old",
        "cd ..; mv d d.old; mkdir d; cp -r d.old/. d",
        "cd ..; mv d d.old; cp -r d.old d; rm -r d.old",
        "cd ..; cp -r d $OUT/; mv d old; rm -r old; cp -r $OUT/d d",
        "cd ..; cp -r d $OUT/; mv d a; mv a b; rm -r b; mkdir a; cp -r $OUT/d d",
        "cd ..; cp -r d $OUT/; mv d a; mv a b; mkdir a; mkdir c; mv b c/; cp -r $OUT/d d",
        "cd ..; mkdir -p p; mv d p/old; mv p q; cp -r q/old d",
        "cd ..; mkdir -p p; mv d p/old; mv p q; rm -r q/old; rmdir q; echo '{\"at\": \"02:00\"}' > n; mkdir d; mv n d/x.json",
        "cd ..; mv d ../../results/$NAME; cp -r ../../results/$NAME d",
        "cd ..; cp -r d new; mv d ../../results/$NAME; mv new d; rm -r ../../results/$NAME",
        "cd ..; cp -r d new; mkdir old; mv -T d old; mv new d; rm -r old",
        "rm x.json; cd ..; mv d old; mkdir d; echo '{\"at\": \"02:00\"}' > d/x.json",
        "rm x.json; cd ..; mkdir new; echo '{\"at\": \"02:00\"}' > new/x.json; mv d old; mv new d",
        "mv x.json y.json; cd ..; mv d old; mkdir d; cp old/y.json d/x.json",
        "cd ..; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do mv d e; mv e d; done; mv d e; cp -r e d",
        "cd ..; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cp -r d new; mv d old; mv new d; rm -r old; done",
        // A directory in one that is renamed.
        "mkdir -p ../p; mv ../d ../p/d; cd ..; mv p old; mkdir -p p; cp -r old/d p/; rm -r old; mv p/d d",
        "cd ..; mkdir p; mv d p/; mv p q; cp -r q p; rm -r q; mv p/d .",
        "cd ..; mkdir p; mv d p/; cp -r p new; mv p old; mv new p; rm -r old; mv p/d .",
        "cd ..; mkdir p; mv d p/; mv p q; mkdir p; mv q/d q/e; cp -r q/e p/d; mv p/d .",
    ]);
}

#[test]
fn a_key_survives_git_that_renames_and_takes_that_back() {
    if !all_there(&["git"]) {
        return;
    }
    let scripts = [
        "git mv x.json y.json; git commit -qm moved; git checkout -q HEAD~1",
        "git mv x.json y.json; git commit -qm moved; git revert --no-edit HEAD >$OUT/said",
        "git mv x.json y.json; git reset -q --hard",
        "git mv x.json y.json; git stash -q",
        "git checkout -qb other; git mv x.json y.json; git commit -qm moved; git checkout -q first; \
         sed -i s/02/03/ x.json; git commit -qam later; git checkout -q other; git rebase -q first; git checkout -q first",
        "mv x.json y.json; git checkout -q -- x.json",
        "mkdir sub; git mv x.json sub/; git commit -qm moved; git checkout -q HEAD~1",
    ];
    keep_the_key(&in_a_repository(&scripts));
    let directories = [
        "git mv d e; git commit -qm moved; git checkout -q HEAD~1",
        "git mv d e; git commit -qm moved; git revert --no-edit HEAD >$OUT/said",
        "git mv d e; git reset -q --hard",
        "mv d e; git checkout -q -- d; rm -r e",
        "mkdir p; git mv d p/; git commit -qm moved; git mv p q; git commit -qm again; git checkout -q HEAD~2",
    ];
    let directories = directories.map(|script| {
        format!(
            "cd ..; git init -q -b first .; git config user.name a; git config user.email a@b; git add d
            git commit -qm first; {script}"
        )
    });
    keep_the_key(&directories.each_ref().map(String::as_str));
}

#[test]
fn a_key_survives_rsync() {
    if !all_there(&["rsync"]) {
        return;
    }
    keep_the_key(&[
        "cp x.json $OUT/; sed -i s/02/03/ $OUT/x.json; rsync -a --ignore-times $OUT/x.json .",
        "cp x.json $OUT/; sed -i s/02/03/ $OUT/x.json; rsync -a --ignore-times --inplace $OUT/x.json .",
        "cp x.json $OUT/; sed -i s/02/03/ $OUT/x.json; rsync -a --ignore-times --delay-updates $OUT/x.json .",
        "cp x.json $OUT/; sed -i s/02/03/ $OUT/x.json; rsync -a --ignore-times -b $OUT/x.json .; test -e x.json~",
        "mkdir $OUT/s $OUT/none; cp x.json $OUT/s; for how in --delete-before --delete-during --delete-after; do \
         rsync -a $how $OUT/none/ ./; test ! -e x.json; rsync -a $how $OUT/s/ ./; done",
        "rsync -a --remove-source-files x.json $OUT/; test ! -e x.json; rsync -a $OUT/x.json .",
        "cp x.json $OUT/; rm x.json; rsync -a --temp-dir=$(cd ..; pwd) $OUT/x.json .",
    ]);
}

#[test]
fn a_key_survives_what_edits_a_record() {
    if !all_there(&["patch", "perl", "ed", "jq"]) {
        return;
    }
    keep_the_key(&[
        "sed s/02/03/ x.json > $OUT/n; diff -u x.json $OUT/n > $OUT/p || :; patch -s x.json $OUT/p",
        "sed s/02/03/ x.json > $OUT/n; diff -u x.json $OUT/n > $OUT/p || :; patch -s -b x.json $OUT/p; test -e x.json.orig",
        "perl -i -pe s/02/03/ x.json",
        "perl -i.bak -pe s/02/03/ x.json",
        "printf '%s\\n' s/02/03/ w q | ed -s x.json",
        "sed -i s/02/03/ x.json",
        "sed -i.bak s/02/03/ x.json; rm x.json.bak",
        "sed -n -i -e s/02/03/p x.json",
        // As sponge does: it reads all, and writes where the record is.
        "sed s/02/03/ x.json | { text=$(cat); printf '%s\\n' \"$text\" > x.json; }",
        "sed s/02/03/ x.json > $OUT/n; tee x.json < $OUT/n >$OUT/said",
        "sort -o x.json x.json",
        "jq '.at = \"03:00\"' x.json > n && mv n x.json",
        "jq '.at = \"03:00\"' x.json > n.json && mv n.json x.json",
        "jq '.at = \"03:00\"' x.json > $OUT/n && rm x.json && jq . $OUT/n > x.json",
        ": > x.json; echo '{\"at\": \"03:00\"}' >> x.json",
        "truncate -s 0 x.json; echo '{\"at\": \"03:00\"}' > x.json",
    ]);
}

#[test]
fn a_key_survives_the_ways_in_which_programs_save() {
    let ways = [
        "with open('x.json', 'w') as file: file.write(new)",
        "with open('x.json', 'r+') as file: file.write(new); file.truncate()",
        "os.unlink('x.json'); open('x.json', 'x').write(new)",
        "open('x.tmp', 'w').write(new); os.replace('x.tmp', 'x.json')",
        "open('.x.json', 'w').write(new); os.replace('.x.json', 'x.json')",
        "open('x.tmp', 'w').write(new); os.unlink('x.json'); os.rename('x.tmp', 'x.json')",
        "os.rename('x.json', 'x.bak'); open('x.json', 'x').write(new); os.unlink('x.bak')",
        "shutil.copy('x.json', 'x.bak'); open('x.json', 'w').write(new)",
        "shutil.move('x.json', out); open(out + '/x.json', 'w').write(new); shutil.move(out + '/x.json', 'x.json')",
        "saved('.', True)",
        "saved(None, True)",
        "saved('.', False)",
    ];
    let code = "
import os, shutil, sys, tempfile
out, way = sys.argv[1:]
new = open('x.json').read().replace('02', '03')
def saved(directory, replaces):
    with tempfile.NamedTemporaryFile('w', dir=directory, delete=False) as file:
        file.write(new)
        file.flush()
        os.fsync(file.fileno())
    if not replaces:
        os.unlink('x.json')
    shutil.move(file.name, 'x.json')
exec(way)
";
    let scripts = ways.map(|way| {
        let (code, way) = (code.replace('\'', "\""), way.replace('\'', "\""));
        format!("TMPDIR=$OUT python3 -B -c '{code}' $OUT '{way}'")
    });
    keep_the_key(&scripts.each_ref().map(String::as_str));
}

/// Runs each script; the record that it leaves has no key.
fn leave_no_key(volume: &Volume, mount: &Mount<'_>, scripts: &[&str]) {
    for (number, script) in scripts.iter().enumerate() {
        let (key, text) = key_after(volume, mount, &format!("none{number}"), script);
        assert_eq!(key, None, "{script}: {text}");
    }
}

#[test]
fn a_key_that_is_null_is_removed_at_once_and_for_good() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mount = volume.mount_sealing(&ALICE);
    let null = r#"echo '{"at": "02:00", "api_key": null}'"#;
    leave_no_key(
        &volume,
        &mount,
        &[
            &format!("{null} > x.json"),
            &format!("{null} > x.json; cp x.json $OUT/n; rm x.json; cp $OUT/n x.json"),
            &format!("{null} > x.json; tar cf $OUT/t x.json; tar xf $OUT/t"),
            &format!("{null} > n; mv n x.json; mv x.json y; mv y x.json"),
            &format!("rm x.json; {null} > x.json; echo '{{}}' > x.json"),
            &format!("rm x.json; {null} > x.json; rm x.json; echo '{{}}' > x.json"),
            &format!("mv x.json x.json~; {null} > x.json; rm x.json; echo '{{}}' > x.json"),
            &format!("cd ..; cp -r d $OUT/; rm -r d; mkdir d; {null} > d/x.json; rm -r d; cp -r $OUT/d d"),
            &format!("mv x.json y.json; {null} > x.json; rm x.json; echo '{{}}' > x.json"),
            &format!("{null} > x.json; mv x.json y.json; cp y.json x.json"),
            &format!("cd ..; mv d e; mkdir d; {null} > d/x.json; rm -r d; mkdir d; echo '{{}}' > d/x.json"),
            &format!("cd ..; mv d e; cp -r e new; {null} > e/x.json; mv new d"),
            &format!("{null} > x.json; cd ..; mv d e; mv e d; cp -r d $OUT/; rm -r d; cp -r $OUT/d d"),
        ],
    );
}

#[test]
fn a_key_is_the_next_records_of_its_name_in_its_directory_and_no_others() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mount = volume.mount_sealing(&ALICE);
    let begins = [
        "rm x.json",
        "mv x.json ../moved.json",
        "mv x.json ../moved",
        "mkdir ../p; mv x.json ../p",
    ];
    for (number, begin) in begins.iter().enumerate() {
        let others = "echo '{}' > y.json; mkdir e; echo '{}' > e/x.json; echo '{}' > X.json; mv e f; mkdir e";
        let script = format!("{begin}; {others}; echo '{{}}' > e/x.json; echo '{{}}' > x.json");
        let name = format!("others{number}");
        let (key, _) = key_after(&volume, &mount, &name, &script);
        assert_eq!(key.as_deref(), Some(KEY));
        for other in ["y.json", "e/x.json", "f/x.json", "X.json"] {
            let stored = volume.stored(&ALICE, "schedules", &format!("{name}/d/{other}"));
            assert!(!stored.contains("tfs1."), "{begin}, {other}: {stored}");
        }
    }
    assert_eq!(
        mount.shell("echo '{}' > results/x.json; cat results/x.json"),
        "{}\n"
    );
    assert!(!volume.stored(&ALICE, "results", "x.json").contains("tfs1."));
}

#[test]
fn a_key_waits_no_longer_than_removed_records_are_kept() {
    let volume = Volume::new(Layout::ResourceFirst);
    for (keep, name) in [("0", "never"), ("1s", "a-second")] {
        let mount = volume.mount_sealing_with(&ALICE, &["--keep-removed", keep]);
        mount.shell(&format!("NAME={name}\n{BEGIN}rm x.json"));
        if keep != "0" {
            thread::sleep(Duration::from_millis(2_500));
        }
        mount.shell(&format!(
            "ls schedules/{name}/d; echo '{{}}' > schedules/{name}/d/x.json"
        ));
        let record = format!("{name}/d/x.json");
        assert_eq!(
            volume.opened(&ALICE, "schedules", &record, "api_key"),
            None,
            "{keep}"
        );
        let left = volume.files(&ALICE);
        let waits = left
            .iter()
            .filter(|file| file.to_str().unwrap().contains("removed"));
        assert_eq!(waits.count(), 0, "{keep}: {left:?}");
    }
}

#[test]
fn a_key_that_waits_survives_a_remount() {
    let volume = Volume::new(Layout::UserFirst);
    volume
        .mount_sealing(&ALICE)
        .shell(&format!("NAME=over\n{BEGIN}rm x.json"));
    volume
        .mount_sealing(&ALICE)
        .shell("cd schedules/over/d; test -z \"$(ls -A)\"; echo '{}' > x.json");
    let key = volume.opened(&ALICE, "schedules", "over/d/x.json", "api_key");
    assert_eq!(key.as_deref(), Some(KEY));
}
