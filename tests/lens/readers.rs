//! Other readers of JSON, asked whose a text is: they say what the lens says, or refuse what they are known to refuse.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::documents::{PLAIN, STORED, WILD, object};
use super::laws::{Members, Reader, levels};
use super::{lens, nested, suite, wrapped};

/// A program that reads texts, each a JSON string on a line, and prints for each the owner as a JSON string, or null when it
/// refuses the text.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Whether it may refuse what is no JSON.
    strict: bool,
    /// Whether it may refuse surrogates that are no pair.
    pairs: bool,
    /// From how many levels on it may refuse a text.
    levels: usize,
}

const PYTHON: Program = Program {
    name: "python3",
    arguments: &[
        "-c",
        "
import json, sys
for line in sys.stdin:
    try: owner = json.loads(json.loads(line))['user_id']
    except (ValueError, RecursionError): owner = None
    print(json.dumps(owner))
",
    ],
    strict: false,
    pairs: false,
    levels: 950,
};

/// As what a careful service does: it refuses what it could not write again for others.
const STRICT_PYTHON: Program = Program {
    name: "python3",
    arguments: &[
        "-c",
        "
import json, sys
def refuse(constant): raise ValueError(constant)
for line in sys.stdin:
    try: owner = json.loads(json.loads(line), parse_constant=refuse)['user_id']
    except (ValueError, RecursionError): owner = None
    print(json.dumps(owner))
",
    ],
    strict: true,
    pairs: false,
    levels: 950,
};

const NODE: Program = Program {
    name: "node",
    arguments: &[
        "-e",
        "
for (const line of require('fs').readFileSync(0, 'utf8').split('\\n').slice(0, -1)) {
    let owner = null
    try { owner = JSON.parse(JSON.parse(line)).user_id } catch {}
    console.log(JSON.stringify(owner))
}
",
    ],
    strict: true,
    pairs: false,
    levels: usize::MAX,
};

const JQ: Program = Program {
    name: "jq",
    arguments: &["-c", "try (fromjson | .user_id) catch null"],
    strict: true,
    pairs: true,
    levels: 128,
};

impl Program {
    /// What it says of each text; none where there is no such program.
    fn says(&self, texts: &[Vec<u8>]) -> Option<Vec<Option<String>>> {
        let mut program = Command::new(self.name)
            .args(self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut input = program.stdin.take().unwrap();
        let line = |text: &Vec<u8>| serde_json::to_string(str::from_utf8(text).unwrap()).unwrap() + "\n";
        let lines: String = texts.iter().map(line).collect();
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = program.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let answers = String::from_utf8(output.stdout).unwrap();
        let answers = answers
            .lines()
            .map(|answer| serde_json::from_str(answer).unwrap());
        Some(answers.collect())
    }

    fn may_refuse(&self, text: &[u8]) -> bool {
        let has_surrogates = || text.to_ascii_lowercase().windows(3).any(|part| part == br"\ud");
        levels(text) >= self.levels
            || self.strict && Members::read(text, Reader::Strict).is_none()
            || self.pairs && has_surrogates()
    }

    /// Asserts that it takes each text, which is alice's, for hers, or refuses it for what it is known for.
    fn agrees(&self, test: &str, texts: &[Vec<u8>]) {
        let Some(answers) = self.says(texts) else {
            eprintln!("SKIPPED: {test}: no {0} (apt install {0})", self.name);
            return;
        };
        assert_eq!(answers.len(), texts.len(), "{}", self.name);
        let mut refused = 0;
        for (answer, text) in answers.iter().zip(texts) {
            match answer {
                Some(owner) => assert_eq!(owner, "alice", "{}", String::from_utf8_lossy(text)),
                None if self.may_refuse(text) => refused += 1,
                None => panic!("{} refuses {}", self.name, String::from_utf8_lossy(text)),
            }
        }
        println!("{}: {} texts, {refused} refused", self.name, texts.len());
    }
}

/// Texts that alice is shown, and what is stored of texts that are saved for her.
fn accepted() -> [Vec<Vec<u8>>; 2] {
    let mut texts: Vec<_> = suite()
        .into_iter()
        .flat_map(|(_, text)| [wrapped(&text), text])
        .collect();
    for levels in [200, 900, 999, 1000] {
        texts.extend(["[", r#"{"a":"#].map(|open| nested(open, levels).into_bytes()));
        texts.push(wrapped(nested("[", levels - 1).as_bytes()));
    }
    let mut runner = TestRunner::deterministic();
    for rules in [STORED, WILD, PLAIN] {
        for _ in 0..1000 {
            texts.push(
                object(rules)
                    .new_tree(&mut runner)
                    .unwrap()
                    .current()
                    .into_bytes(),
            );
        }
    }
    let stored = texts
        .iter()
        .filter_map(|text| Some(lens().put(None, text).ok()?.stored))
        .collect();
    texts.retain(|text| lens().view(text).is_ok());
    [texts, stored]
}

#[test]
fn python_node_and_jq_read_whatever_is_accepted_with_the_same_owner() {
    let test = "python_node_and_jq_read_whatever_is_accepted_with_the_same_owner";
    let [shown, stored] = accepted();
    assert!(shown.len() > 1000 && stored.len() > 1000);
    let not_json = shown
        .iter()
        .filter(|text| Members::read(text, Reader::Strict).is_none());
    assert!(not_json.count() > 100, "NaN and Infinity are among them");
    for program in [PYTHON, STRICT_PYTHON, NODE, JQ] {
        program.agrees(test, &shown);
        program.agrees(test, &stored);
    }
}
