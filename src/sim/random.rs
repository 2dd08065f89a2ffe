//! Random numbers that are a function of what they are for, so that nothing depends on the order of events.

pub(super) use crate::proto::random::mix;

/// A share of the bits as a number from 0 to just below 1.
pub(super) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}
