//! Generated JSON texts in every spelling the grammar allows, with owners and secrets in odd places.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Which members a document may have beside the plain ones.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// How many owner members.
    pub(crate) owners: (usize, usize),
    /// Whether an owner may be someone else, or no string.
    pub(crate) foreign: bool,
    /// How many members of each secret.
    pub(crate) secrets: (usize, usize),
    /// What a secret's value may be.
    pub(crate) secret_values: SecretValues,
    /// Whether values may be NaN and Infinity, which are on volumes and are no JSON.
    pub(crate) constants: bool,
    /// How many names only some readers take for the owner's or a secret's.
    pub(crate) doubtful: (usize, usize),
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum SecretValues {
    Any,
    Null,
}

/// A text that a user may write, and that the mount must give back as it is.
pub(crate) const PLAIN: Rules = Rules {
    owners: (0, 1),
    foreign: false,
    secrets: (0, 0),
    secret_values: SecretValues::Any,
    constants: false,
    doubtful: (0, 0),
};

/// A stored text that its owner sees, whoever wrote it.
pub(crate) const STORED: Rules = Rules {
    owners: (1, 1),
    secrets: (0, 2),
    constants: true,
    ..PLAIN
};

/// A text that a user may write, if it is not refused.
pub(crate) const WRITTEN: Rules = Rules {
    foreign: true,
    secrets: (0, 1),
    secret_values: SecretValues::Null,
    ..PLAIN
};

/// Anything that some reader takes for a JSON object.
pub(crate) const WILD: Rules = Rules {
    owners: (0, 3),
    foreign: true,
    secrets: (0, 2),
    secret_values: SecretValues::Any,
    constants: true,
    doubtful: (0, 1),
};

/// A JSON object whose owner, where it is not foreign, is `alice`; its secrets are `api_key` and `token`.
pub(crate) fn object(rules: Rules) -> impl Strategy<Value = String> {
    let plain = vec((plain_key(), value(rules.constants)), 0..5);
    let doubtful = vec(
        (doubtful_key(), value(rules.constants)),
        rules.doubtful.0..=rules.doubtful.1,
    );
    let owners = vec(
        (owner_key(), owner_value(rules.foreign)),
        rules.owners.0..=rules.owners.1,
    );
    let count = rules.secrets.0..=rules.secrets.1;
    let secrets = |keys| vec((select(keys), secret_value(rules)), count.clone());
    let api_keys = secrets(vec![r#""api_key""#, r#""api\u005fkey""#, r#""\u0061pi_key""#]);
    let tokens = secrets(vec![r#""token""#, r#""to\u006ben""#]);
    let members = (plain, doubtful, owners, api_keys, tokens).prop_map(
        |(mut all, doubtful, owners, api_keys, tokens)| {
            all.extend(doubtful.into_iter().chain(owners));
            all.extend(
                api_keys
                    .into_iter()
                    .chain(tokens)
                    .map(|(key, value)| (key.to_owned(), value)),
            );
            all
        },
    );
    let members = members.boxed();
    let members = prop_oneof![members.clone(), members.prop_shuffle()];
    let spaced = members.prop_flat_map(|members| {
        let count = members.len();
        (Just(members), vec((space(), colon(), space()), count))
    });
    (space(), space(), spaced, space()).prop_map(|(before, empty, (members, spacing), after)| {
        let joined = members
            .iter()
            .zip(&spacing)
            .map(|((key, value), (front, colon, back))| format!("{front}{key}{colon}{value}{back}"))
            .collect::<Vec<_>>()
            .join(",");
        let inside = if members.is_empty() { empty } else { joined };
        format!("{before}{{{inside}}}{after}")
    })
}

/// A value in any spelling.
fn value(constants: bool) -> impl Strategy<Value = String> {
    let words = ["null", "true", "false", "NaN", "Infinity", "-Infinity"];
    let words = if constants { &words[..] } else { &words[..3] };
    let scalar = prop_oneof![
        select(words.to_vec()).prop_map(str::to_owned),
        select(vec![
            "0",
            "-0",
            "1E+05",
            "0.10",
            "1e-400",
            "1e400",
            "-2E+999",
            "18446744073709551616",
            "-1.5e300",
            "12e3"
        ])
        .prop_map(str::to_owned),
        string(),
    ];
    scalar.prop_recursive(4, 16, 4, |inner| {
        let key = prop_oneof![plain_key(), owner_key(), Just(r#""api_key""#.to_owned())];
        let array = vec((space(), inner.clone(), space()), 0..4).prop_map(|items| {
            items
                .iter()
                .map(|(a, b, c)| format!("{a}{b}{c}"))
                .collect::<Vec<_>>()
                .join(",")
        });
        let object = vec((space(), key, colon(), inner), 0..4).prop_map(|all| {
            all.iter()
                .map(|(a, b, c, d)| format!("{a}{b}{c}{d}"))
                .collect::<Vec<_>>()
                .join(",")
        });
        prop_oneof![
            array.prop_map(|items| format!("[{items}]")),
            object.prop_map(|members| format!("{{{members}}}")),
        ]
    })
}

/// A string with unicode, escapes, and what looks like structure.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        select(vec![
            r#"\""#,
            r"\\",
            r"\/",
            r"\n",
            r"\u0000",
            r"\u00e9",
            r"\ud83d\ude00",
            r"\ud83d",
            r"\uDE00",
            "}",
            "{",
            ",",
            ":",
            " ",
            "NaN",
        ])
        .prop_map(str::to_owned),
        "[a-zé€😀\u{7f}\u{2028}]{1,3}",
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A name that is neither the owner's nor a secret's.
fn plain_key() -> impl Strategy<Value = String> {
    let near_misses = select(vec![
        r#""User_id""#,
        r#""user_id ""#,
        r#""user_i""#,
        r#""user\ud83did""#,
        r#""User_id\ude00""#,
        r#""\ud83d""#,
        r#""api_keys""#,
        r#""""#,
    ]);
    prop_oneof![
        string().prop_map(|key| key.replacen('"', "\"x", 1)),
        near_misses.prop_map(str::to_owned)
    ]
}

/// The owner's name or a secret's, to who drops a lone surrogate.
fn doubtful_key() -> impl Strategy<Value = String> {
    select(vec![
        r#""user_id\ud83d""#,
        r#""\uDE00\ud83duser\u005fid""#,
        r#""user\ude00_id""#,
        r#""api_\ud83dkey""#,
        r#""\ud83dtoken""#,
    ])
    .prop_map(str::to_owned)
}

fn owner_key() -> impl Strategy<Value = String> {
    select(vec![
        r#""user_id""#,
        r#""user_id""#,
        r#""user_id""#,
        r#""user\u005fid""#,
        r#""\u0075ser_id""#,
    ])
    .prop_map(str::to_owned)
}

fn owner_value(foreign: bool) -> impl Strategy<Value = String> {
    let ours = select(vec![r#""alice""#, r#""\u0061lice""#]);
    let others = select(vec![
        r#""bob""#,
        r#""alice ""#,
        r#""Alice""#,
        "null",
        "1",
        r#"["alice"]"#,
        r#""""#,
        r#""alice\ud83d""#,
    ]);
    let value = if foreign {
        prop_oneof![ours, others].boxed()
    } else {
        ours.boxed()
    };
    value.prop_map(str::to_owned)
}

fn secret_value(rules: Rules) -> impl Strategy<Value = String> {
    let spellings = [
        "null",
        r#""sk-8f2e""#,
        r#""sk-8f2e \" , }""#,
        r#""sk-8f2e\ud83d""#,
        r#"{"a":["sk-8f2e"]}"#,
        r#"{"sk-8f2e":NaN}"#,
    ];
    let end = match rules.secret_values {
        SecretValues::Null => 1,
        SecretValues::Any if rules.constants => spellings.len(),
        SecretValues::Any => spellings.len() - 1,
    };
    select(spellings[..end].to_vec()).prop_map(str::to_owned)
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// A colon in its whitespace; often as in the mark.
fn colon() -> impl Strategy<Value = String> {
    prop_oneof!["[ ]{0,3}:", "[ ]{0,3}:", "[ \t\r\n]{0,2}:[ \t\r\n]{0,2}"]
}
