//! Time as the engine sees it: a number that the driver hands in, and a queue of deadlines.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant: microseconds since the driver's epoch (usually the start of the process, or of the simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The driver's epoch.
    pub const ZERO: Time = Time(0);
    /// Later than anything that happens.
    pub const NEVER: Time = Time(u64::MAX);

    /// `seconds` after the epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Time(seconds.saturating_mul(1_000_000))
    }

    /// `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Time(millis.saturating_mul(1_000))
    }

    /// The time that has passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This instant in whole seconds, counted from one, as table entries keep it.
    pub const fn secs(self) -> Secs {
        let seconds = self.0 / 1_000_000 + 1;
        Secs(if seconds > u32::MAX as u64 { u32::MAX } else { seconds as u32 })
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// An instant in whole seconds, in 32 bits: 136 years from the driver's epoch.
///
/// Table entries are kept to 20 bytes, so they cannot afford a [`Time`]. The epoch itself is second 1; 0 stands for
/// "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secs(pub u32);

impl Secs {
    /// It has not happened.
    pub const NEVER: Secs = Secs(0);

    /// Whether it has happened at all.
    pub const fn happened(self) -> bool {
        self.0 != 0
    }

    /// Whether it happened, and less than `span` before `now`.
    pub fn within(self, span: Duration, now: Time) -> bool {
        self.happened() && self.age(now) < span
    }

    /// How long before `now` it was, in whole seconds; the longest duration when it never was.
    pub fn age(self, now: Time) -> Duration {
        if !self.happened() {
            return Duration::MAX;
        }
        Duration::from_secs(u64::from(now.secs().0.saturating_sub(self.0)))
    }

    /// The start of this second as an instant.
    pub const fn start(self) -> Time {
        Time::from_secs(self.0.saturating_sub(1) as u64)
    }
}

/// A queue of deadlines, earliest first, ties in the order of their keys.
///
/// A key may stand at several instants; each is cancelled with the very instant that it was set for. An empty queue
/// owns no memory.
#[derive(Clone, Debug)]
pub struct Deadlines<K: Ord + Copy> {
    queue: BTreeSet<(Time, K)>,
}

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Adds a deadline.
    pub fn set(&mut self, at: Time, key: K) {
        self.queue.insert((at, key));
    }

    /// Takes a deadline out again; says whether it was there.
    pub fn cancel(&mut self, at: Time, key: K) -> bool {
        self.queue.remove(&(at, key))
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes out the earliest deadline that is due at `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        Some(key)
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_from_one_and_zero_is_never() {
        assert_eq!(Time::ZERO.secs(), Secs(1));
        assert_eq!(Time::from_millis(1_999).secs(), Secs(2));
        assert!(!Secs::NEVER.happened());
        assert_eq!(Secs::NEVER.age(Time::from_secs(9)), Duration::MAX);
        assert_eq!(Time::from_secs(3).secs().age(Time::from_secs(10)), Duration::from_secs(7));
        assert!(Time::from_secs(3).secs().within(Duration::from_secs(8), Time::from_secs(10)));
        assert!(!Time::from_secs(3).secs().within(Duration::from_secs(7), Time::from_secs(10)));
    }

    #[test]
    fn deadlines_come_out_in_order_and_only_when_due() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Time(30), 'c');
        deadlines.set(Time(10), 'b');
        deadlines.set(Time(10), 'a');
        deadlines.set(Time(20), 'x');
        assert!(deadlines.cancel(Time(20), 'x'));
        assert!(!deadlines.cancel(Time(20), 'x'));
        assert_eq!(deadlines.next(), Some(Time(10)));
        assert_eq!(deadlines.pop_due(Time(9)), None);
        assert_eq!(deadlines.pop_due(Time(10)), Some('a'));
        assert_eq!(deadlines.pop_due(Time(25)), Some('b'));
        assert_eq!(deadlines.pop_due(Time(25)), None);
        assert_eq!(deadlines.pop_due(Time(30)), Some('c'));
        assert!(deadlines.is_empty());
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time::ZERO - Duration::from_secs(1), Time::ZERO);
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
    }
}
