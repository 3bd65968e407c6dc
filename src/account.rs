//! How accounts of this host are called.

use nix::unistd::{Uid, User};

/// An account as people know it: `uid 1000 (alice)`, or `uid 1000` where nobody has that number.
pub fn shown(uid: u32) -> String {
    match name(uid) {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    }
}

/// The name of an account, if it has one.
pub fn name(uid: u32) -> Option<String> {
    let found = User::from_uid(Uid::from_raw(uid)).ok()?;
    found.map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_name_is_called_by_it() {
        assert_eq!(shown(0), "uid 0 (root)");
        assert_eq!(shown(4_000_000_000), "uid 4000000000");
    }
}
