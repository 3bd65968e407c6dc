//! `tenantfs list`.

use std::fs;

use serde_json::Value;

use super::{ask, asked, json_lines, record_of, stderr, stdout};
use crate::common::{ALICE, BOB, LAYOUTS, Layout, Volume};

#[test]
fn records_are_listed_by_user_by_many_users_and_all() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
        volume.plant(&ALICE, "results", "sub/b.json", record_of("alice", 2));
        volume.plant(&ALICE, "results", "broken.json", "{");
        volume.plant(&BOB, "schedules", "c.json", record_of("bob", 3));
        let ids = |text: &str| -> Vec<String> {
            let mut ids: Vec<_> = json_lines(text)
                .iter()
                .map(|line| {
                    let of = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
                    format!("{} {}/{} {}", of("user"), of("resource"), of("id"), line["valid"])
                })
                .collect();
            ids.sort();
            ids
        };
        let alices = [
            "- results/broken false",
            "alice results/sub/b true",
            "alice schedules/a true",
        ];
        assert_eq!(ids(&asked(&volume, "list", &["--user-id", "alice"])), alices);
        let bobs = "bob schedules/c true";
        let all = [&alices[..], &[bobs]].concat();
        assert_eq!(ids(&asked(&volume, "list", &["--all"])), all);
        assert_eq!(
            ids(&asked(&volume, "list", &["--all", "--resource", "schedules"])),
            [alices[2], bobs]
        );

        let contents = asked(&volume, "list", &["--user-id", "bob", "--contents"]);
        let line = &json_lines(&contents)[0];
        assert!(
            contents.contains(r#""record":{"n":3,"user_id":"bob","words":"words-of-bob-alone"}"#),
            "{contents}"
        );
        assert!(!contents.contains("sk-bob"));
        let stored = volume.stored(&BOB, "schedules", "c.json");
        assert_eq!(line["size"], stored.replace(r#", "api_key":"sk-bob""#, "").len());
        assert!(line["mtime"].as_str().unwrap().ends_with('Z'));

        // What Python writes and JSON does not have: the line is JSON all the same.
        let text = r#"{"loss": NaN, "user_id": "bob"}"#;
        volume.plant(&BOB, "schedules", "c.json", text);
        let contents = asked(&volume, "list", &["--user-id", "bob", "--contents"]);
        let line = &json_lines(&contents)[0];
        assert_eq!((&line["text"], &line["record"]), (&text.into(), &Value::Null));

        // Fewer users than directories, and more.
        for more in [0, 2000] {
            let file = volume.base().join("users");
            let others: String = (0..more).map(|number| format!("nobody-{number}\n")).collect();
            fs::write(&file, format!("{others}bob\n\nalice\r\n")).unwrap();
            assert_eq!(
                ids(&asked(&volume, "list", &["--users-file", file.to_str().unwrap()])),
                all
            );
        }
    }
}

#[test]
fn that_nobody_who_is_named_has_anything_is_told_by_one_and_by_many() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&BOB, "schedules", "c.json", record_of("bob", 3));
    let file = volume.base().join("users");
    fs::write(&file, "nobody-1\nnobody-2\n").unwrap();
    let named = ["--users-file", file.to_str().unwrap()];
    for options in [&named[..], &["--user-id", "nobody-1"]] {
        for usage in [&[][..], &["--usage"]] {
            let output = ask(&volume, "list", &[options, usage].concat());
            assert_eq!(output.status.code(), Some(1), "{options:?} {usage:?}");
            assert!(
                stderr(&output).contains("the volume has no directory of "),
                "{}",
                stderr(&output)
            );
            assert_eq!(stdout(&output), "");
        }
    }
    fs::write(&file, "nobody-1\nbob\n").unwrap();
    assert_eq!(json_lines(&asked(&volume, "list", &named)).len(), 1);
}

#[test]
fn what_names_no_user_is_told_and_the_rest_is_listed() {
    let volume = Volume::new(Layout::default());
    volume.plant(&ALICE, "schedules", "a.json", record_of("alice", 1));
    let output = ask(&volume, "list", &["--user-id", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no directory of this user"),
        "{}",
        stderr(&output)
    );
    assert_eq!(ask(&volume, "list", &["--user-id", ""]).status.code(), Some(2));
    assert_eq!(
        ask(&volume, "list", &["--all", "--resource", "nonsense"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        ask(&volume, "list", &["--users-file", "/nowhere"]).status.code(),
        Some(2)
    );
    let file = volume.base().join("users");
    let long = "x".repeat(100_000);
    fs::write(
        &file,
        format!("alice\nalice\na\tb\n{long}\n{}\nalice", "y".repeat(600)).as_bytes(),
    )
    .unwrap();
    let output = ask(
        &volume,
        "list",
        &["--users-file", file.to_str().unwrap(), "--json"],
    );
    assert_eq!(output.status.code(), Some(6));
    let said = stderr(&output);
    for line in [
        "line 2: this user was named before",
        "line 3: the user id has control",
        "line 4: too long",
        "line 5: the user id is longer",
        "line 6: this user",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let lines = json_lines(&stdout(&output));
    assert_eq!(lines[0]["id"], "a");
    assert_eq!(lines[1]["listed"]["wrong_lines"], 5);
}
