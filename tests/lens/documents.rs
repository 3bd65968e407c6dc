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
};

/// A stored text that its owner sees, whoever wrote it.
pub(crate) const STORED: Rules = Rules {
    owners: (1, 1),
    secrets: (0, 2),
    ..PLAIN
};

/// A text that a user may write, if it is not refused.
pub(crate) const WRITTEN: Rules = Rules {
    foreign: true,
    secrets: (0, 1),
    secret_values: SecretValues::Null,
    ..PLAIN
};

/// Anything that is a JSON object.
pub(crate) const WILD: Rules = Rules {
    owners: (0, 3),
    foreign: true,
    secrets: (0, 2),
    secret_values: SecretValues::Any,
};

/// A JSON object whose owner, where it is not foreign, is `alice`; its secrets are `api_key` and `token`.
pub(crate) fn object(rules: Rules) -> impl Strategy<Value = String> {
    let plain = vec((plain_key(), value()), 0..5);
    let owners = vec(
        (owner_key(), owner_value(rules.foreign)),
        rules.owners.0..=rules.owners.1,
    );
    let count = rules.secrets.0..=rules.secrets.1;
    let secrets = |keys| vec((select(keys), secret_value(rules.secret_values)), count.clone());
    let api_keys = secrets(vec![r#""api_key""#, r#""api\u005fkey""#, r#""\u0061pi_key""#]);
    let tokens = secrets(vec![r#""token""#, r#""to\u006ben""#]);
    let members = (plain, owners, api_keys, tokens).prop_map(|(mut all, owners, api_keys, tokens)| {
        all.extend(owners);
        all.extend(
            api_keys
                .into_iter()
                .chain(tokens)
                .map(|(key, value)| (key.to_owned(), value)),
        );
        all
    });
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
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        select(vec![
            "0",
            "-0",
            "1E+05",
            "0.10",
            "1e-400",
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
            "}",
            "{",
            ",",
            ":",
            " "
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
        r#""api_keys""#,
        r#""""#,
    ]);
    prop_oneof![
        string().prop_map(|key| key.replacen('"', "\"x", 1)),
        near_misses.prop_map(str::to_owned)
    ]
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
    ]);
    let value = if foreign {
        prop_oneof![ours, others].boxed()
    } else {
        ours.boxed()
    };
    value.prop_map(str::to_owned)
}

fn secret_value(values: SecretValues) -> impl Strategy<Value = String> {
    let spellings = [
        r#""sk-8f2e""#,
        r#""sk-8f2e \" , }""#,
        r#"{"a":["sk-8f2e"]}"#,
        "null",
    ];
    let first = if values == SecretValues::Null { 3 } else { 0 };
    select(spellings[first..].to_vec()).prop_map(str::to_owned)
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// A colon in its whitespace; often as in the mark.
fn colon() -> impl Strategy<Value = String> {
    prop_oneof!["[ ]{0,3}:", "[ ]{0,3}:", "[ \t\r\n]{0,2}:[ \t\r\n]{0,2}"]
}
