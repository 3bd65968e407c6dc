//! From the stored text to what its owner sees.

use super::scan::{Member, Role, Scan};
use super::splice::{Edit, splice};
use super::{Lens, View};

impl Lens {
    /// The view of a stored text that was accepted.
    pub(super) fn view_of(&self, stored: &Scan<'_>) -> View {
        let spaces = stored.mark_spaces();
        let mut edits = cuts(stored, |member| match member.role {
            Role::Plain => false,
            Role::Owner => spaces == Some(1),
            Role::Secret(_) => true,
        });
        if let (Some(2..), Some(owner)) = (spaces, stored.members().last()) {
            edits.push((owner.key.end..owner.key.end + 1, b""));
        }
        View {
            text: splice(stored.text(), &edits),
            has_secret: stored
                .members()
                .iter()
                .any(|member| matches!(member.role, Role::Secret(_)) && stored.is_set(member)),
        }
    }
}

/// The edits that take members out of a text and leave valid JSON: a member goes with the comma before it, those that
/// lead the object go with the comma behind them.
pub(super) fn cuts(scan: &Scan<'_>, hidden: impl Fn(&Member) -> bool) -> Vec<Edit<'static>> {
    let members = scan.members();
    let Some(first) = members.first() else {
        return Vec::new();
    };
    let leading = members.iter().take_while(|member| hidden(member)).count();
    let leading_end = match leading {
        0 => None,
        all if all == members.len() => Some(scan.end_of_members()),
        some => Some(scan.comma_before(some) + 1),
    };
    let behind = members
        .iter()
        .enumerate()
        .skip(leading)
        .filter(|(_, member)| hidden(member));
    leading_end
        .map(|end| first.key.start..end)
        .into_iter()
        .chain(behind.map(|(index, member)| scan.comma_before(index)..member.value.end))
        .map(|range| (range, &b""[..]))
        .collect()
}
