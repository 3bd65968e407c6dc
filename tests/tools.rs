//! Programs that read, search, copy and archive plain files do so in a mount: one test a tool, run as the tenant.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{ALICE, BOB, Mount, Volume, tool};
use tenantfs::layout::Layout;

/// What the service keeps in a record, and the mount never shows.
const SECRET: &str = "sk-planted-by-the-service";

/// Records of both tenants, as the service writes them; alice's are `monday` (with a secret) and `tuesday`.
fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    let save = |user: &str, id: &str, record: serde_json::Value| {
        volume.service(&["save", user, "schedules", id], &record.to_string());
    };
    save(
        "alice",
        "monday",
        serde_json::json!({"cron": "0 6 * * 1", "api_key": SECRET, "tags": ["früh"]}),
    );
    save(
        "alice",
        "tuesday",
        serde_json::json!({"cron": "0 7 * * 2", "tags": []}),
    );
    save(
        "bob",
        "monday",
        serde_json::json!({"cron": "0 9 * * 1", "tags": ["of bob"]}),
    );
    volume
}

/// Fails when anything in the mount, attachments and backups included, holds the secret or anything of bob's record: in
/// words that are too long to come up in random bytes.
fn assert_nothing_leaks(mount: &Mount<'_>) {
    mount.shell(&format!(r#"! grep -rEa '{SECRET}|of bob|0 9 \* \* 1' ."#));
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn cat() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let text = " {\n\t\"n\" : 1.50e+2, \"s\":\"\\u00e4ä\"\r\n}\n\n";
    let mut command = mount.command("sh");
    command.args([
        "-c",
        "cat > results/mine.json && cat results/mine.json results/mine.json",
    ]);
    assert_eq!(common::success(command, text), text.repeat(2));
    assert!(mount.read("schedules/monday.json").contains("0 6 * * 1"));
    assert_eq!(
        mount.shell("cat schedules/*.json | wc -c"),
        mount.shell("cat schedules/*.json > results/all; stat -c %s results/all")
    );
    assert_nothing_leaks(&mount);
}

#[test]
fn jq() {
    if tool("jq").is_none() {
        return;
    }
    let volume = volume();
    let mount = volume.mount(&ALICE);
    assert_eq!(
        mount.shell("jq -r .cron schedules/*.json"),
        "0 6 * * 1\n0 7 * * 2\n"
    );
    assert_eq!(
        mount.shell("jq -s 'map(has(\"api_key\")) | any' schedules/*.json"),
        "false\n"
    );
    mount.shell("jq '.cron = \"@daily\"' schedules/tuesday.json > schedules/t && mv schedules/t schedules/tuesday.json");
    assert_eq!(mount.shell("jq -r .cron schedules/tuesday.json"), "@daily\n");
    let record: serde_json::Value =
        serde_json::from_str(&volume.stored(&ALICE, "schedules", "tuesday.json")).unwrap();
    assert_eq!(
        record,
        serde_json::json!({"cron": "@daily", "tags": [], "user_id": "alice"})
    );
}

#[test]
fn grep() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    assert_eq!(
        lines(&mount.shell("grep -rl cron .")),
        ["./schedules/monday.json", "./schedules/tuesday.json"]
    );
    assert_eq!(mount.shell("grep -rc '\"cron\"' schedules/monday.json"), "1\n");
    assert_eq!(mount.shell("grep -rhoE '0 [0-9] ' . | sort"), "0 6 \n0 7 \n");
    assert_nothing_leaks(&mount);
}

#[test]
fn find() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "mkdir results/2026 && printf '{\"n\":1}' > results/2026/a.json && head -c 5000 /dev/zero > results/2026/plot.png",
    );
    assert_eq!(
        lines(&mount.shell("find . -name '*.json' -type f")),
        [
            "./results/2026/a.json",
            "./schedules/monday.json",
            "./schedules/tuesday.json"
        ]
    );
    assert_eq!(mount.shell("find . -size +4k"), "./results/2026/plot.png\n");
    assert_eq!(
        lines(&mount.shell("find results -mindepth 1 -printf '%P %y %s %U %n\\n' | sed 's/^2026 .*/2026/'")),
        ["2026", "2026/a.json f 7 61001 1", "2026/plot.png f 5000 61001 1"]
    );
    mount.shell("touch -d '2001-02-03 04:05:06 UTC' schedules/monday.json");
    assert_eq!(
        mount.shell("find schedules -name '*.json' -newer schedules/monday.json"),
        "schedules/tuesday.json\n"
    );
    assert_eq!(
        mount.shell("TZ=UTC find schedules -not -newermt 2001-02-04 -printf '%f %TY-%Tm-%Td\\n'"),
        "monday.json 2001-02-03\n"
    );
    mount.shell("find results -depth -mindepth 1 -delete");
    assert_eq!(mount.shell("find results"), "results\n");
}

#[test]
fn cp() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "mkdir ~/in && printf '{\"n\": 1}\\n' > ~/in/a.json && printf 'x,y\\n1,2\\n' > ~/in/plot.csv && chmod 600 ~/in/plot.csv
        touch -d '2020-01-02 03:04:05.678901234 UTC' ~/in/*

        cp ~/in/a.json results/plain.json && cmp ~/in/a.json results/plain.json
        cp -a ~/in results/archive && diff -r ~/in results/archive
        for f in a.json plot.csv; do
            test \"$(stat -c '%.9Y' ~/in/$f)\" = \"$(stat -c '%.9Y' results/archive/$f)\"
        done
        test \"$(stat -c %a results/archive/plot.csv)\" = 600

        cp -a schedules ~/out && diff -r schedules ~/out
        test \"$(stat -c '%.9Y %s' schedules/monday.json)\" = \"$(stat -c '%.9Y %s' ~/out/monday.json)\"
        cp -a results results/../schedules/copy && diff -r results schedules/copy",
    );
    assert_eq!(
        volume.stored(&ALICE, "results", "archive/a.json"),
        "{\"n\": 1,\"user_id\" :\"alice\"}\n"
    );
    assert_nothing_leaks(&mount);
}

#[test]
fn mv() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let before = mount.read("schedules/monday.json");
    mount.shell(
        "printf '{\"n\": 1}' > ~/a.json && mv ~/a.json results/ && test ! -e ~/a.json
        mv schedules/monday.json schedules/mon.json
        mkdir results/old && mv schedules/mon.json results/old/ && mv results/old results/older
        mv results/a.json results/b.json && test ! -e results/a.json
        mv schedules/tuesday.json ~/ && test ! -e schedules/tuesday.json",
    );
    assert_eq!(mount.read("results/older/mon.json"), before);
    assert_eq!(mount.read("results/b.json"), "{\"n\": 1}");
    assert!(
        volume
            .stored(&ALICE, "results", "older/mon.json")
            .contains(SECRET),
        "a record takes its secret along"
    );
    assert!(!volume.path(&ALICE, "schedules", "monday.json").exists());
    assert!(!volume.path(&ALICE, "schedules", "tuesday.json").exists());
    mount.shell(&format!("! grep {SECRET} ~/tuesday.json"));
    assert_nothing_leaks(&mount);
}

#[test]
fn rsync() {
    if tool("rsync").is_none() {
        return;
    }
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "mkdir -p ~/in/deep && printf '{\"n\": 1}\\n' > ~/in/a.json && printf '{}' > ~/in/deep/b.json
        head -c 300000 /dev/urandom > ~/in/deep/plot.png && touch -d '2020-01-02 03:04:05.678901234 UTC' ~/in/a.json",
    );
    let transfer = |from: &str, to: &str| mount.shell(&format!("rsync -ai {from} {to}"));
    assert!(transfer("~/in/", "results/").contains(">f+++++++++ deep/b.json"));
    assert_eq!(
        transfer("~/in/", "results/"),
        "",
        "a second run finds nothing to do"
    );
    mount.shell("diff -r ~/in results && printf '{\"n\": 2222}\\n' > ~/in/a.json");
    assert!(transfer("~/in/", "results/").contains("a.json"));
    assert_eq!(transfer("~/in/", "results/"), "");
    assert_eq!(mount.read("results/a.json"), "{\"n\": 2222}\n");
    assert_eq!(
        volume.stored(&ALICE, "results", "a.json"),
        "{\"n\": 2222,\"user_id\" :\"alice\"}\n"
    );

    assert!(transfer("./", "~/out/").contains("schedules/monday.json"));
    assert_eq!(transfer("./", "~/out/"), "");
    mount.shell(
        "diff -r . ~/out && rsync -ai --delete --checksum ~/out/ ~/again/ > ~/log && diff -r . ~/again",
    );
    mount.shell(
        "rm results/deep/b.json && rsync -ai --delete ./ ~/out/ && test ! -e ~/out/results/deep/b.json",
    );
    // Records that keep their secret although rsync replaces them.
    mount.shell(
        "sed -i 's/0 6/0 8/' ~/out/schedules/monday.json && rsync -ai --checksum ~/out/schedules/ schedules/",
    );
    let stored = volume.stored(&ALICE, "schedules", "monday.json");
    assert!(stored.contains("0 8") && stored.contains(SECRET), "{stored}");
    assert_nothing_leaks(&mount);
}

#[test]
fn tar() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell(
        "tar -cf ~/all.tar . && mkdir ~/out && tar -xf ~/all.tar -C ~/out && diff -r . ~/out
        mkdir -p ~/in/deep && printf '{\"n\": 1}\\n' > ~/in/a.json && head -c 200000 /dev/urandom > ~/in/deep/plot.png
        touch -d '2020-01-02 03:04:05 UTC' ~/in/a.json
        tar -czf results/in.tgz -C ~/in . && mkdir results/in && tar -xzf results/in.tgz -C results/in
        diff -r ~/in results/in && test \"$(stat -c %Y ~/in/a.json)\" = \"$(stat -c %Y results/in/a.json)\"
        tar -xzf results/in.tgz -C results/in && tar -df ~/all.tar --exclude=results",
    );
    assert_eq!(
        volume.stored(&ALICE, "results", "in/a.json"),
        "{\"n\": 1,\"user_id\" :\"alice\"}\n"
    );
    assert_nothing_leaks(&mount);
}

#[test]
fn python() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let code = "
import json, os, shutil
from pathlib import Path

names = sorted(path.name for path in Path('schedules').glob('*.json'))
assert names == ['monday.json', 'tuesday.json'], names
for path in Path().rglob('*.json'):
    with path.open(encoding='utf-8') as file:
        record = json.load(file)
    assert record['user_id'] == 'alice' and 'api_key' not in record, record
    record['seen'] = True
    with path.open('w', encoding='utf-8') as file:
        json.dump(record, file, indent=1)
    assert path.read_text() == json.dumps(record, indent=1)
    assert path.stat().st_size == len(path.read_bytes())

with open('results/run.json', 'x') as file:
    json.dump({'ok': True}, file)
with open('results/run.json', 'r+') as file:
    record = json.load(file)
    record['n'] = list(range(5000))
    file.seek(0)
    json.dump(record, file)
    file.truncate()
assert json.loads(Path('results/run.json').read_text()) == record
shutil.copytree('results', 'schedules/copied')
shutil.rmtree('schedules/copied')
assert sorted(os.listdir('schedules')) == names
";
    mount.python(code, &[]);
    let stored = volume.stored(&ALICE, "schedules", "monday.json");
    assert!(
        stored.contains("\"seen\": true") && stored.contains(SECRET),
        "{stored}"
    );
    assert_eq!(volume.service(&["list", "alice", "results"], ""), "run\n");
    assert!(!volume.stored(&BOB, "schedules", "monday.json").contains("seen"));
    assert_nothing_leaks(&mount);
}
