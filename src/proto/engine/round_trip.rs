//! How long answers take, and how far packets of one moment lie apart on arrival.

use std::time::Duration;

/// The round trip time of nodes that we know nothing of: a smoothed mean and deviation over all (RFC 6298).
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    pub(super) mean: Duration,
    deviation: Duration,
    measured: bool,
}

impl Default for RoundTrip {
    fn default() -> Self {
        // Until something is measured, a stranger is late after 0.5 s.
        Self { mean: Duration::from_millis(250), deviation: Duration::from_millis(63), measured: false }
    }
}

impl RoundTrip {
    /// Backing off goes so far that an answer is late after 0.5 s, as before anything was measured.
    const MAX_BACK_OFF: Duration = Duration::from_millis(125);

    pub(super) fn measure(&mut self, rtt: Duration) {
        if !self.measured {
            *self = Self { mean: rtt, deviation: rtt / 2, measured: true };
            return;
        }
        self.deviation = (self.deviation * 3 + self.mean.abs_diff(rtt)) / 4;
        self.mean = (self.mean * 7 + rtt) / 8;
    }

    /// An answer to a request that was sent twice is no measure, but it may say that we are too impatient: if all were
    /// asked twice, nothing would ever be measured again. So the deviation grows until answers come in time, as TCP
    /// backs off its timer (RFC 6298, section 5.5); a few true measures undo it.
    pub(super) fn back_off(&mut self) {
        let longer = self.deviation.max(self.mean / 16) * 5 / 4;
        self.deviation = self.deviation.max(longer.min(Self::MAX_BACK_OFF));
    }

    pub(super) fn late(&self) -> Duration {
        // Where all take the same time, an answer must not count as late the moment before it comes.
        self.mean + (4 * self.deviation).max(self.mean / 4)
    }
}

/// How far packets that were sent at one moment lie apart on arrival: about the median over all nodes.
///
/// Whoever bonds sends a PONG and a PING at once, so each bond measures it. Where the way has no jitter it is next to
/// nothing. A mean would not do: some nodes have pinged us at another moment, for reasons of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(pub(super) Option<Duration>);

impl Spread {
    /// Packets that lie farther apart were not sent at one moment.
    const MAX: Duration = Duration::from_millis(20);

    /// `rtt` is the round trip time. One gap alone may be small by chance, so a sixteenth of that is the first guess; and
    /// a gap of half of it or more is one between a packet and the answer to our own.
    pub(super) fn measure(&mut self, gap: Duration, rtt: Duration) {
        if gap > Self::MAX || 2 * gap >= rtt {
            return;
        }
        self.0 = Some(match self.0 {
            None => gap.max(rtt / 16).min(Self::MAX),
            Some(median) if gap > median => (median * 5 / 4 + Duration::from_micros(250)).min(Self::MAX),
            Some(median) => median * 3 / 4,
        });
    }

    /// How far a packet has to be behind another to arrive after it as a rule: three times the median gap is nearly the
    /// largest one where both are delayed by up to the same time.
    pub(super) fn behind(self) -> Duration {
        3 * self.0.unwrap_or_default()
    }
}
