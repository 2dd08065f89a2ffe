//! The two clocks of the system.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::proto::time::Time;

/// A step of the system's clock below this many microseconds is not worth a word.
const CLOCK_STEP: u64 = 500_000;

/// The time since the start, and what the Unix clock said then.
pub(super) struct SystemClock {
    start: Instant,
    pub(super) unix_at_start: u64,
}

/// A step of the Unix clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What it says now, in microseconds.
    pub(super) unix_micros: u64,
    /// How far it has gone ahead; zero when it was set back.
    pub(super) ahead: Duration,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the driver: here the clock comes in")]
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), unix_at_start: unix_micros() }
    }

    /// One that has been running for a while.
    #[cfg(test)]
    pub(super) fn started(ago: Duration) -> Self {
        let Self { start, unix_at_start } = Self::start();
        Self { start: start - ago, unix_at_start: unix_at_start - ago.as_micros() as u64 }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the driver: here the clock comes in")]
    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The Unix clock's step since it was last looked at, if there was one.
    pub(super) fn step(&mut self, now: Time, unix: u64) -> Option<Step> {
        // Wrapping, since a clock may say 1970.
        let expected = self.unix_at_start.wrapping_add(now.0);
        if unix.abs_diff(expected) < CLOCK_STEP {
            return None;
        }
        self.unix_at_start = unix.wrapping_sub(now.0);
        Some(Step { unix_micros: unix, ahead: Duration::from_micros(unix.saturating_sub(expected)) })
    }
}

/// What the Unix clock says, in microseconds.
#[expect(clippy::disallowed_methods, reason = "this is the driver: here the clock comes in")]
pub(super) fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_clock_are_noticed_once_wherever_it_goes() {
        let mut clock = SystemClock { start: SystemClock::start().start, unix_at_start: 1_700_000_000_000_000 };
        let at = |secs: u64, offset: u64| (Time::from_secs(secs), offset + secs * 1_000_000);
        let mut step = |(now, unix)| clock.step(now, unix);
        assert_eq!(step(at(5, 1_700_000_000_400_000)), None, "too little for a word");
        // To 2030, and to a board without a clock that was started after it: less than the node's own time after 1970.
        for (unix, ahead) in [(1_900_000_000_000_000, 199_999_940), (7, 0)] {
            let stepped = Step { unix_micros: unix, ahead: Duration::from_secs(ahead) };
            assert_eq!(step((Time::from_secs(60), unix)), Some(stepped));
            assert_eq!(step((Time::from_secs(70), unix + 10_000_000)), None);
        }
    }
}
