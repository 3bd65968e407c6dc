//! Whose a stored record is, for those who look at everybody's.

use super::OWNER_FIELD;
use super::hidden::Hidden;
use super::json::Constants;
use super::scan::{Role, Scan};
use crate::identity::UserId;

/// The owner that a stored text names, exactly once.
///
/// # Errors
/// Why nobody sees such a record: it is malformed, ownerless, or has two owners.
pub fn owner(stored: &[u8]) -> Result<UserId, Hidden> {
    let role = |name: &str| match name {
        OWNER_FIELD => Role::Owner,
        _ => Role::Plain,
    };
    let scan = Scan::of(stored, Constants::Taken, role).map_err(|_| Hidden::Malformed)?;
    let name = scan.owner()?;
    // What can be no user id, is nobody.
    UserId::new(name).map_err(|_| Hidden::Ownerless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_is_found_however_it_is_spelled_and_anything_else_is_why_not() {
        for text in [
            r#"{"user_id":"alice"}"#,
            r#" {"a":[{"user_id":"bob"}], "user\u005fid" : "al\u0069ce"} "#,
        ] {
            assert_eq!(owner(text.as_bytes()).unwrap().as_str(), "alice");
        }
        for (text, why) in [
            ("", Hidden::Malformed),
            (r#"["alice"]"#, Hidden::Malformed),
            ("{}", Hidden::Ownerless),
            (r#"{"user_id":7}"#, Hidden::Ownerless),
            (r#"{"user_id":""}"#, Hidden::Ownerless),
            (r#"{"user_id":"a\nb"}"#, Hidden::Ownerless),
            (r#"{"user_id":"alice","user_id":"alice"}"#, Hidden::TwoOwners),
        ] {
            assert_eq!(owner(text.as_bytes()), Err(why), "{text}");
        }
    }
}
