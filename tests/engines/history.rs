//! What was done to records on two hosts, with times, and the check of it: written down while it happens, looked at afterwards.
//!
//! Of each record, a read has to return what the latest acknowledged save has left, or one that was not yet over so long ago as the
//! engine may take to show it ([`History::freshness`]). Nothing else may be told by it: no text that nobody saved, none that is mixed
//! of two, and none that is older than what the same host has shown before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

/// Who did it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum By {
    /// A user in the view of the first host.
    A,
    /// A user in the view of the second host.
    B,
    /// The service, on the volume itself, past every view.
    Service,
}

/// What was done to a record, or seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Saved(String),
    Removed,
    Read(String),
    /// Read, and not of one save.
    ReadTorn(String),
    /// Read, and empty: as on any file system, between the truncating and the writing of somebody on the same host.
    ReadEmpty,
    /// Read or listed, and not there.
    Absent,
    /// Listed.
    Listed,
}

/// One operation, from its begin to its end.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) by: By,
    pub(crate) record: String,
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) what: What,
    /// Whether its program was told that it was done. What was not may have been done, or be done later.
    pub(crate) acknowledged: bool,
}

/// What is wrong with a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wrong {
    /// A save was acknowledged, and nobody ever saw it though nothing replaced it.
    Lost,
    /// A read is of two saves.
    Torn,
    /// A read is of no save.
    Invented,
    /// A read is of a save that was replaced longer ago than the engine may take to show that.
    Stale,
    /// A read is of an older save than a read before it.
    StepBack,
    /// Long after everything, the hosts still show different contents.
    Disagreement,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) wrong: Wrong,
    /// In a sentence.
    pub(crate) what: String,
    pub(crate) record: String,
    /// When it was seen.
    pub(crate) at: Duration,
}

/// How much of what was done before and after something is told of.
const NEAR: Duration = Duration::from_millis(700);

/// Everything that was done, in no order.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    /// What one host has done another one shows after so long.
    pub(crate) freshness: Duration,
}

impl What {
    fn changes(&self) -> bool {
        matches!(self, Self::Saved(_) | Self::Removed)
    }

    /// Whether seeing `self` may come of `change`.
    fn may_come_of(&self, change: &Self) -> bool {
        match (self, change) {
            (Self::Read(value), Self::Saved(saved)) => value == saved,
            (Self::Listed, Self::Saved(_)) | (Self::Absent, Self::Removed) => true,
            _ => false,
        }
    }
}

impl Event {
    /// Whether it was over before `other` began. What was not acknowledged is never over.
    fn is_before(&self, other: &Self) -> bool {
        self.acknowledged && self.end < other.begin
    }
}

impl History {
    /// Fails, with the first of what is wrong and what led to it, where anything is.
    pub(crate) fn must_be_right(&self, what: &str) {
        let faults = self.wrongs();
        if let Some(first) = faults.first() {
            let story = self.story(&first.record, first.at);
            let few: Vec<_> = faults
                .iter()
                .take(8)
                .map(|fault| (fault.wrong, &fault.what))
                .collect();
            panic!("{what}: {} faults: {few:#?}\n{story}", faults.len());
        }
    }

    /// What is wrong.
    pub(crate) fn wrongs(&self) -> Vec<Fault> {
        let mut records: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            records.entry(&event.record).or_default().push(event);
        }
        records
            .values()
            .flat_map(|events| {
                Record {
                    nothing: nothing(events),
                    events,
                    freshness: self.freshness,
                }
                .wrongs()
            })
            .collect()
    }

    /// What was done to a record around a time, in order: to be read by whoever looks for the reason.
    pub(crate) fn story(&self, record: &str, around: Duration) -> String {
        let near = |event: &&Event| {
            event.record == record && event.end + NEAR > around && event.begin < around + NEAR
        };
        let mut events: Vec<_> = self.events.iter().filter(near).collect();
        events.sort_by_key(|event| event.begin);
        let lines = events.into_iter().map(|event| {
            let failed = if event.acknowledged { "" } else { " (failed)" };
            format!("{}{failed}\n", told(event))
        });
        lines.collect()
    }

    /// How many operations it has of a kind.
    pub(crate) fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        self.events.iter().filter(|event| is(&event.what)).count()
    }

    /// Takes what workers have printed: one event a line.
    pub(crate) fn read(&mut self, printed: &str) {
        let events = printed.lines().map(|line| {
            let told: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
            Event::told(&told).unwrap_or_else(|| panic!("no event: {line}"))
        });
        self.events.extend(events);
    }
}

impl Event {
    /// As `worker.py` tells of it.
    fn told(told: &Value) -> Option<Self> {
        let time = |name: &str| told[name].as_f64().map(Duration::from_secs_f64);
        let value = || told["value"].as_str().map(str::to_owned);
        Some(Self {
            by: match told["by"].as_str()? {
                "a" => By::A,
                "b" => By::B,
                "service" => By::Service,
                _ => return None,
            },
            record: told["record"].as_str()?.to_owned(),
            begin: time("begin")?,
            end: time("end")?,
            what: match told["what"].as_str()? {
                "saved" => What::Saved(value()?),
                "removed" => What::Removed,
                "read" => What::Read(value()?),
                "empty" => What::ReadEmpty,
                "torn" => What::ReadTorn(value()?),
                "absent" => What::Absent,
                "listed" => What::Listed,
                _ => return None,
            },
            acknowledged: told["errno"].is_null(),
        })
    }
}

/// At first there is no record, as if it had been removed before everything.
fn nothing(events: &[&Event]) -> Event {
    Event {
        by: By::Service,
        record: events
            .first()
            .map(|event| event.record.clone())
            .unwrap_or_default(),
        begin: Duration::ZERO,
        end: Duration::ZERO,
        what: What::Removed,
        acknowledged: true,
    }
}

/// What was done to one record.
struct Record<'h> {
    nothing: Event,
    events: &'h [&'h Event],
    freshness: Duration,
}

impl Record<'_> {
    fn changes(&self) -> impl Iterator<Item = &Event> {
        let changes = self.events.iter().copied().filter(|event| event.what.changes());
        std::iter::once(&self.nothing).chain(changes)
    }

    fn looks(&self) -> impl Iterator<Item = &Event> {
        let looks = self.events.iter().copied();
        looks.filter(|event| !event.what.changes() && event.acknowledged)
    }

    /// The changes that a look may be of.
    fn sources(&self, look: &Event) -> Vec<&Event> {
        self.changes()
            .filter(|change| look.what.may_come_of(&change.what) && change.begin <= look.end)
            .collect()
    }

    /// The same, without what the look was too late for, if that leaves any.
    fn likely_sources(&self, look: &Event) -> Vec<&Event> {
        let (sources, mut likely) = (self.sources(look), self.sources(look));
        likely.retain(|source| self.replaced_by(source, look).is_none());
        if likely.is_empty() { sources } else { likely }
    }

    /// How long after one of them was over it may be unknown to the other.
    fn bound(&self, one: By, other: By) -> Duration {
        match one == other && one != By::Service {
            true => Duration::ZERO,
            false => self.freshness,
        }
    }

    /// What had replaced `change` so long before a look that the look had to show it.
    fn replaced_by(&self, change: &Event, look: &Event) -> Option<&Event> {
        self.changes().find(|later| {
            later.acknowledged
                && change.is_before(later)
                && later.end + self.bound(later.by, look.by) < look.begin
        })
    }

    /// Whether anybody saw this change, or what may have come after it.
    fn was_ever_seen(&self, change: &Event) -> bool {
        let is_later = |source: &&Event| !source.is_before(change);
        self.looks()
            .any(|look| look.end > change.begin && self.sources(look).iter().any(is_later))
    }

    fn wrongs(&self) -> Vec<Fault> {
        let mut wrongs: Vec<_> = self.looks().filter_map(|look| self.look(look)).collect();
        wrongs.extend(self.steps_back());
        wrongs.extend(self.disagreement());
        wrongs
    }

    /// What is wrong with one look.
    fn look(&self, look: &Event) -> Option<Fault> {
        if let What::ReadTorn(found) = &look.what {
            return Some(fault(Wrong::Torn, look, format!("{}: {found}", told(look))));
        }
        if look.what == What::ReadEmpty {
            let is_beside =
                |save: &Event| save.by == look.by && save.begin <= look.end && look.begin <= save.end;
            let why = "nobody on this host saves just then";
            return (!self.changes().any(is_beside))
                .then(|| fault(Wrong::Torn, look, format!("{}: {why}", told(look))));
        }
        let sources = self.sources(look);
        if sources.is_empty() {
            return Some(fault(
                Wrong::Invented,
                look,
                format!("{}: nobody saved that", told(look)),
            ));
        }
        let mut replaced = None;
        for source in sources {
            // Some of what it may be of was the latest.
            replaced = Some(self.replaced_by(source, look)?);
        }
        let by = replaced?;
        let wrong = match self.was_ever_seen(by) {
            true => Wrong::Stale,
            false => Wrong::Lost,
        };
        Some(fault(wrong, look, format!("{}, after {}", told(look), told(by))))
    }

    /// How long after `earlier` another look may still be of something older. One content after another is never shown in the wrong
    /// order, nor what was done on the same host. That a name is gone, or there again, a listing may know before the client of the
    /// engine forgets the name.
    fn may_step_back_within(&self, earlier: &Event, shown: &[&Event], later: &Event) -> Duration {
        let are_contents = [earlier, later]
            .iter()
            .all(|look| matches!(look.what, What::Read(_)));
        let is_own = shown.iter().all(|change| change.by == later.by);
        match earlier.by == later.by && (are_contents || is_own) {
            true => Duration::ZERO,
            false => self.freshness,
        }
    }

    fn steps_back(&self) -> Vec<Fault> {
        let looks: Vec<_> = self
            .looks()
            .map(|look| (look, self.likely_sources(look)))
            .collect();
        let mut wrongs = Vec::new();
        for (earlier, shown) in &looks {
            let is_back = |(later, sources): &&(&Event, Vec<&Event>)| {
                earlier.end + self.may_step_back_within(earlier, shown, later) < later.begin
                    && !sources.is_empty()
                    && !shown.is_empty()
                    && sources
                        .iter()
                        .all(|old| shown.iter().all(|new| old.is_before(new)))
            };
            let back = looks.iter().find(is_back);
            wrongs.extend(back.map(|(later, _)| {
                let what = format!("{}, after {}", told(later), told(earlier));
                fault(Wrong::StepBack, later, what)
            }));
        }
        wrongs
    }

    /// What the hosts show last, where that is after everything.
    fn disagreement(&self) -> Option<Fault> {
        let over = self.changes().map(|change| change.end).max()? + self.freshness;
        let last = |host: By| {
            self.looks()
                .filter(|look| look.by == host && look.begin > over && look.what != What::Listed)
                .max_by_key(|look| look.begin)
        };
        let (a, b) = (last(By::A)?, last(By::B)?);
        (a.what != b.what).then(|| fault(Wrong::Disagreement, b, format!("{} and {}", told(a), told(b))))
    }
}

fn fault(wrong: Wrong, look: &Event, what: String) -> Fault {
    Fault {
        wrong,
        what,
        record: look.record.clone(),
        at: look.begin,
    }
}

fn told(event: &Event) -> String {
    format!(
        "{:?} {:?} {} at {:.3} to {:.3} s",
        event.by,
        event.what,
        event.record,
        event.begin.as_secs_f64(),
        event.end.as_secs_f64()
    )
}

/// The kinds of what is wrong, each once.
pub(crate) fn kinds(faults: &[Fault]) -> BTreeSet<Wrong> {
    faults.iter().map(|fault| fault.wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that takes a second to show what another host did.
    fn wrongs(events: &[(By, u64, u64, What)]) -> BTreeSet<Wrong> {
        let event = |(by, begin, end, what): &(By, u64, u64, What)| Event {
            by: *by,
            record: "x".to_owned(),
            begin: Duration::from_millis(*begin),
            end: Duration::from_millis(*end),
            what: what.clone(),
            acknowledged: true,
        };
        let history = History {
            events: events.iter().map(event).collect(),
            freshness: Duration::from_secs(1),
        };
        kinds(&history.wrongs())
    }

    fn saved(value: &str) -> What {
        What::Saved(value.to_owned())
    }

    fn read(value: &str) -> What {
        What::Read(value.to_owned())
    }

    #[test]
    fn what_is_as_fresh_as_the_engine_says_is_right() {
        let right = [
            (By::A, 100, 110, saved("1")),
            (By::B, 120, 121, What::Absent),
            (By::A, 120, 121, read("1")),
            (By::A, 3_000, 3_010, saved("2")),
            // As old as it may be.
            (By::B, 3_900, 3_901, read("1")),
            (By::B, 4_100, 4_101, read("2")),
            (By::A, 5_000, 5_100, What::Removed),
            (By::B, 5_050, 5_051, What::Absent),
            (By::A, 5_200, 5_201, What::Absent),
            (By::B, 7_000, 7_001, What::Absent),
        ];
        assert_eq!(wrongs(&right), BTreeSet::new());
    }

    #[test]
    fn of_two_saves_at_once_either_may_be_the_last() {
        let savers = [(By::A, 100, 300, saved("a")), (By::B, 200, 400, saved("b"))];
        for last in ["a", "b"] {
            let reads = [
                (By::A, 2_000, 2_001, read(last)),
                (By::B, 2_000, 2_001, read(last)),
            ];
            assert_eq!(
                wrongs(&[savers.clone(), reads].concat()),
                BTreeSet::new(),
                "{last}"
            );
        }
        let both = [(By::A, 2_000, 2_001, read("a")), (By::B, 2_000, 2_001, read("b"))];
        assert_eq!(
            wrongs(&[savers, both].concat()),
            BTreeSet::from([Wrong::Disagreement])
        );
    }

    #[test]
    fn a_lost_save_is_found() {
        let history = [
            (By::A, 100, 110, saved("1")),
            (By::A, 200, 210, saved("2")),
            (By::A, 3_000, 3_001, read("1")),
            (By::B, 3_000, 3_001, read("1")),
        ];
        assert_eq!(wrongs(&history), BTreeSet::from([Wrong::Lost]));
        // The first one, too.
        let nothing = [(By::A, 100, 110, saved("1")), (By::B, 3_000, 3_001, What::Absent)];
        assert_eq!(wrongs(&nothing), BTreeSet::from([Wrong::Lost]));
    }

    #[test]
    fn a_removal_that_comes_undone_is_found() {
        let history = [
            (By::A, 100, 110, saved("1")),
            (By::B, 2_000, 2_010, What::Removed),
            (By::B, 2_020, 2_021, What::Absent),
            (By::A, 4_000, 4_001, What::Listed),
        ];
        assert_eq!(wrongs(&history), BTreeSet::from([Wrong::Stale, Wrong::StepBack]));
    }

    #[test]
    fn a_torn_read_and_an_invented_one_are_found() {
        let torn = What::ReadTorn("AAAB".to_owned());
        assert_eq!(wrongs(&[(By::B, 100, 110, torn)]), BTreeSet::from([Wrong::Torn]));
        let invented = [(By::A, 100, 110, saved("1")), (By::B, 120, 121, read("0"))];
        assert_eq!(wrongs(&invented), BTreeSet::from([Wrong::Invented]));
        // Also one that is read before anybody began to save it.
        let early = [(By::A, 100, 110, read("1")), (By::B, 120, 121, saved("1"))];
        assert_eq!(wrongs(&early), BTreeSet::from([Wrong::Invented]));
    }

    #[test]
    fn an_empty_read_is_right_only_beside_a_save_of_the_same_host() {
        let save = (By::A, 100, 200, saved("1"));
        assert_eq!(
            wrongs(&[save.clone(), (By::A, 150, 151, What::ReadEmpty)]),
            BTreeSet::new()
        );
        for read in [
            (By::B, 150, 151, What::ReadEmpty),
            (By::A, 300, 301, What::ReadEmpty),
        ] {
            assert_eq!(wrongs(&[save.clone(), read]), BTreeSet::from([Wrong::Torn]));
        }
    }

    #[test]
    fn a_stale_read_is_found_at_once_where_it_was_saved_and_after_the_bound_elsewhere() {
        let saves = [(By::A, 100, 110, saved("1")), (By::A, 2_000, 2_010, saved("2"))];
        let seen = [(By::B, 4_000, 4_001, read("2"))];
        let here = [(By::A, 2_020, 2_021, read("1"))];
        let elsewhere = [(By::B, 3_020, 3_021, read("1"))];
        let soon = [(By::B, 3_000, 3_001, read("1"))];
        let of = |read: &[_]| wrongs(&[saves.as_slice(), read, &seen].concat());
        assert_eq!(of(&here), BTreeSet::from([Wrong::Stale]));
        assert_eq!(of(&elsewhere), BTreeSet::from([Wrong::Stale]));
        assert_eq!(of(&soon), BTreeSet::new());
    }

    #[test]
    fn a_step_back_is_found_within_the_bound_too() {
        let history = [
            (By::A, 100, 110, saved("1")),
            (By::A, 2_000, 2_010, saved("2")),
            (By::B, 2_100, 2_101, read("2")),
            (By::B, 2_200, 2_201, read("1")),
        ];
        assert_eq!(wrongs(&history), BTreeSet::from([Wrong::StepBack]));
    }

    #[test]
    fn what_was_not_acknowledged_may_have_been_done_or_not() {
        for seen in ["1", "2"] {
            let event = |by, begin: u64, what, acknowledged| Event {
                by,
                record: "x".to_owned(),
                begin: Duration::from_millis(begin),
                end: Duration::from_millis(begin + 10),
                what,
                acknowledged,
            };
            let history = History {
                events: vec![
                    event(By::A, 100, saved("1"), true),
                    event(By::A, 200, saved("2"), false),
                    event(By::B, 5_000, read(seen), true),
                ],
                freshness: Duration::from_secs(1),
            };
            assert_eq!(kinds(&history.wrongs()), BTreeSet::new(), "{seen}");
        }
    }
}
