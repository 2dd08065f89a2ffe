//! Revalidation: which member is to be checked when.
//!
//! A new member is checked soon, and at twice the time after each success, up to a pace at which the whole table takes
//! one PING each few seconds. What failed a check is checked again at once by the engine, which keeps those deadlines.

use std::time::Duration;

use super::{Entry, Table};
use crate::proto::config::TableConfig;
use crate::proto::contacts::NodeRef;
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

    fn pace(&self, config: &TableConfig) -> Pace {
        let round = config.check_pace.saturating_mul(u32::try_from(self.len()).unwrap_or(u32::MAX));
        Pace {
            first: config.first_check.max(round / FIRST_ROUND),
            // Not `clamp`, which panics where the settings cross.
            trusted: round.max(config.min_check).min(config.max_check),
        }
    }
}

/// A table that fills at once is checked for the first time in this part of the time that a round of checks takes when
/// all is settled: with 120 members after 30 s and not after 10.
const FIRST_ROUND: u32 = 20;

/// The time between two checks of a member.
struct Pace {
    /// A new one.
    first: Duration,
    /// A trusted one.
    trusted: Duration,
}

impl Pace {
    fn check_at(&self, entry: &Entry) -> Time {
        let doublings = u32::from(entry.liveness().saturating_sub(1)).min(16);
        let interval = self.first.saturating_mul(1 << doublings).min(self.trusted);
        entry.proved.start() + spread(interval, entry)
    }
}

/// Seven to eight eighths of the interval, by node and time, so that those that came together do not stay together.
fn spread(interval: Duration, entry: &Entry) -> Duration {
    let mixed = (entry.node.0 ^ entry.proved.0).wrapping_mul(0x9e37_79b9) >> 24;
    // Half the time of this function would go into dividing a `Duration`, and it runs for every member.
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(micros - micros / (8 * 256) * u64::from(mixed))
}
