//! From the stored text to what its owner sees.

use super::scan::{Member, Role, Scan};
use super::splice::{Edit, splice};
use super::{Lens, View};

impl Lens {
    /// The view of a stored text that was accepted.
    pub(super) fn view_of(&self, stored: &Scan<'_>) -> View {
        let mark = stored.mark();
        let mut edits = cuts(stored, |member| {
            member.role != Role::Owner || matches!(mark, Some((_, 1)))
        });
        if let Some((owner, 2..)) = mark {
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

/// The edits that take owner and secret members out of a text and leave valid JSON: a member goes with the comma before
/// it, those that lead the object go with the comma behind them.
pub(super) fn cuts(scan: &Scan<'_>, hidden: impl Fn(&Member) -> bool) -> Vec<Edit<'static>> {
    let members = scan.members();
    let leads = |(position, member): &(usize, &Member)| member.index == *position && hidden(member);
    let leading = members.iter().enumerate().take_while(leads).count();
    let leading_end = match (leading, members.get(leading)) {
        (0, _) => None,
        (all, _) if all == scan.count() => Some(scan.end()),
        (some, Some(next)) if next.index == some => Some(scan.comma_before(next) + 1),
        _ => Some(scan.comma_before_plain() + 1),
    };
    let behind = members.iter().skip(leading).filter(|member| hidden(member));
    leading_end
        .map(|end| scan.first_key()..end)
        .into_iter()
        .chain(behind.map(|member| scan.comma_before(member)..member.value.end))
        .map(|range| (range, &b""[..]))
        .collect()
}
