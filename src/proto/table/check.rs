//! Revalidation: which member is to be checked when, and who loses its place though it answers PINGs.
//!
//! A new member is checked soon, and at twice the time after each success, up to a pace at which the whole table takes
//! one PING each few seconds. What failed a check is checked again at once by the engine, which keeps those deadlines.

use std::time::Duration;

use super::{Entry, Table, Verdict};
use crate::proto::config::TableConfig;
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::NodeId;
use crate::proto::time::Time;

impl Table {
    /// Calls `due` for each live member whose check is due and returns when the next one falls due.
    pub fn due_checks(&self, now: Time, config: &TableConfig, mut due: impl FnMut(NodeRef)) -> Time {
        let pace = self.pace(config);
        let mut next = Time::NEVER;
        for (_, entry) in self.entries().filter(|(_, entry)| entry.is_live()) {
            let at = pace.check_at(entry);
            if at <= now {
                due(entry.node);
            } else {
                next = next.min(at);
            }
        }
        next
    }

    /// When a live member is to be checked.
    pub fn check_at(&self, entry: &Entry, config: &TableConfig) -> Time {
        self.pace(config).check_at(entry)
    }

    /// Notes that a member or replacement has answered a FINDNODE.
    pub fn answer_find(&mut self, node: NodeRef, contacts: &impl Contacts) {
        self.update(node, contacts, Entry::answer_find);
    }

    /// Counts a FINDNODE that a member or replacement has left unanswered. A member that has done so too often goes, if
    /// its place is not better held by it than by nobody: see [`Table::can_spare`].
    pub fn fail_find(&mut self, node: NodeRef, contacts: &impl Contacts, config: &TableConfig) -> Verdict {
        let mut fails = 0;
        self.update(node, contacts, |entry| fails = entry.fail_find());
        if self.get(node, contacts).is_none() {
            Verdict::Unknown
        } else if fails < config.max_find_fails || !self.can_spare(contacts.id(node), config) {
            Verdict::Doubtful(fails)
        } else {
            self.remove(node, contacts, config)
        }
    }

    /// Whether the bucket of an ID can do without one that answers no FINDNODE: it is at least half full. Only full ones have
    /// replacements.
    pub fn can_spare(&self, id: &NodeId, config: &TableConfig) -> bool {
        self.bucket(self.place(id).log).is_some_and(|bucket| 2 * bucket.entries.len() >= config.k)
    }

    fn pace(&self, config: &TableConfig) -> Pace {
        let round = config.check_pace.saturating_mul(u32::try_from(self.len()).unwrap_or(u32::MAX));
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Pace {
            first: micros(config.first_check.max(round / FIRST_ROUND)),
            // Not `clamp`, which panics where the settings cross.
            trusted: micros(round.max(config.min_check).min(config.max_check)),
        }
    }
}

/// A table that fills at once is checked for the first time in this part of the time that a round of checks takes when
/// all is settled: with 120 members after 30 s and not after 10.
const FIRST_ROUND: u32 = 20;

/// The time between two checks of a member, in microseconds: it is worked out for every member at every check, and
/// arithmetic with `Duration` takes several times as long.
struct Pace {
    /// A new one.
    first: u64,
    /// A trusted one.
    trusted: u64,
}

impl Pace {
    fn check_at(&self, entry: &Entry) -> Time {
        let doublings = u32::from(entry.liveness().saturating_sub(1)).min(14);
        let interval = self.first.saturating_mul(1 << doublings).min(self.trusted);
        Time(entry.proved.start().0.saturating_add(spread(interval, entry)))
    }
}

/// Seven to eight eighths of the interval, by node and time, so that those that came together do not stay together.
fn spread(interval: u64, entry: &Entry) -> u64 {
    let mixed = (entry.node.0 ^ entry.proved.0).wrapping_mul(0x9e37_79b9) >> 24;
    interval - interval / (8 * 256) * u64::from(mixed)
}
