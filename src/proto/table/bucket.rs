//! One bucket, and whom it prefers.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Entry;
use crate::proto::config::TableConfig;
use crate::proto::identity::subrange;
use crate::proto::time::Time;

/// Why a node could become a member at once; what the table gains most by comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opening {
    /// It comes before an unsettled member of its own sixteenth of a full bucket, in the order of the table.
    ///
    /// Whoever keeps the first in a random order of all that it hears of has a uniform sample of them, however often it
    /// hears of whom (Bortnikov et al. 2009, "Brahms: Byzantine resilient random membership sampling").
    Rank,
    /// Its sixteenth of a full bucket is empty, and one with several has an unsettled member.
    EmptySixteenth,
    /// Its bucket has room.
    Room,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    pub(super) entries: Vec<Entry>,
    pub(super) replacements: Vec<Entry>,
}

impl Bucket {
    /// What a node that is no member has to offer, and the member that yields to it if there is no room.
    ///
    /// Of several that could it is the youngest, and of those the last in the order of the table.
    pub(super) fn opening(
        &self,
        below: u32,
        secret: u128,
        now: Time,
        config: &TableConfig,
    ) -> Option<(Opening, Option<usize>)> {
        if self.entries.len() < config.k {
            return Some((Opening::Room, None));
        }
        let counts = self.subrange_counts();
        let subrange = subrange(below);
        let alone = counts[usize::from(subrange)] == 0;
        let rank = |below| rank(below, secret);
        let yields = |entry: &Entry| match alone {
            true => counts[usize::from(entry.subrange())] > 1,
            false => entry.subrange() == subrange && rank(entry.below) > rank(below),
        };
        let yielding = self.unsettled(now, config).filter(|(_, entry)| yields(entry));
        let (at, _) = yielding.max_by(|(_, one), (_, other)| {
            let younger = other.age(now).cmp(&one.age(now));
            younger.then_with(|| rank(one.below).cmp(&rank(other.below)))
        })?;
        Some((if alone { Opening::EmptySixteenth } else { Opening::Rank }, Some(at)))
    }

    /// The members that may have to yield, with their positions: those of a full bucket that came in not long ago.
    pub(super) fn unsettled(&self, now: Time, config: &TableConfig) -> impl Iterator<Item = (usize, &Entry)> {
        let (full, settled_age) = (self.entries.len() >= config.k, config.settled_age);
        let entries = if full && config.diverse { &self.entries[..] } else { &[] };
        entries.iter().enumerate().filter(move |(_, entry)| entry.age(now) < settled_age)
    }

    /// The replacement that fills an empty sixteenth, the last one to prove itself among equals.
    pub(super) fn choose_replacement(&self, config: &TableConfig) -> Option<usize> {
        let counts = self.subrange_counts();
        let fills = |entry: &Entry| config.diverse && counts[usize::from(entry.subrange())] == 0;
        (0..self.replacements.len()).max_by_key(|&at| (fills(&self.replacements[at]), at))
    }

    fn subrange_counts(&self) -> [u8; 16] {
        let mut counts = [0; 16];
        for entry in &self.entries {
            counts[usize::from(entry.subrange())] += 1;
        }
        counts
    }
}

/// The place in the order of the table that `secret` decides of the node with these bits of its ID.
///
/// A keyed hash that is made for this (Aumasson and Bernstein 2012): whoever sees who yields to whom, however often, can
/// neither tell the secret nor choose IDs that come first.
pub(super) fn rank(below: u32, secret: u128) -> u64 {
    let mut hasher = SipHasher13::new_with_keys((secret >> 64) as u64, secret as u64);
    hasher.write_u32(below);
    hasher.finish()
}
