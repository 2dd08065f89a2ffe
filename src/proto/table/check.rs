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
        let trusted = self.trusted_interval(config);
        let mut next = Time::NEVER;
        for (_, entry) in self.entries().filter(|(_, entry)| entry.is_live()) {
            let at = check_at(entry, trusted, config);
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
        check_at(entry, self.trusted_interval(config), config)
    }

    fn trusted_interval(&self, config: &TableConfig) -> Duration {
        let trusted = config.check_pace.saturating_mul(u32::try_from(self.len()).unwrap_or(u32::MAX));
        // Not `clamp`, which panics where the settings cross.
        trusted.max(config.min_check).min(config.max_check)
    }
}

fn check_at(entry: &Entry, trusted: Duration, config: &TableConfig) -> Time {
    let doublings = u32::from(entry.liveness().saturating_sub(1)).min(16);
    let interval = config.first_check.saturating_mul(1 << doublings).min(trusted);
    entry.proved.start() + spread(interval, entry)
}

/// Seven to eight eighths of the interval, by node and time, so that those that came together do not stay together.
fn spread(interval: Duration, entry: &Entry) -> Duration {
    let mixed = (entry.node.0 ^ entry.proved.0).wrapping_mul(0x9e37_79b9) >> 24;
    // Half the time of this function would go into dividing a `Duration`, and it runs for every member.
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(micros - micros / (8 * 256) * u64::from(mixed))
}
