//! How things are spelled in what the operator gets.

use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

/// A time as in RFC 3339, to the second.
pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

/// A JSON text without the white space between its parts; every part is spelled as it was.
///
/// # Errors
/// [`Kind::InvalidRecord`] when it is no JSON.
pub(super) fn on_one_line(json: &[u8]) -> Result<Box<RawValue>> {
    let (mut quoted, mut escaped) = (false, false);
    let kept = json.iter().copied().filter(|byte| {
        let was_quoted = quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        was_quoted || !byte.is_ascii_whitespace()
    });
    let line = String::from_utf8(kept.collect()).map_err(|_| Error::new(Kind::InvalidRecord, "not UTF-8"))?;
    RawValue::from_string(line).map_err(|error| Error::new(Kind::InvalidRecord, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_between_parts_goes_and_every_part_stays() {
        for (json, line) in [
            (
                "{ \"a\" : [ 1.50e+2 ,\n\t\"b c\\\" \\\\\" ] }\r\n",
                "{\"a\":[1.50e+2,\"b c\\\" \\\\\"]}",
            ),
            ("{}", "{}"),
            ("[1e400, \"\\ud800\"]", "[1e400,\"\\ud800\"]"),
        ] {
            assert_eq!(on_one_line(json.as_bytes()).unwrap().get(), line);
        }
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert_eq!(on_one_line(deep.as_bytes()).unwrap().get(), deep);
        for json in ["{", "{\"a\": NaN}"] {
            assert!(on_one_line(json.as_bytes()).is_err());
        }
    }
}
