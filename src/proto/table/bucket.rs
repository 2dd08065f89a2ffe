//! One bucket, and whom it prefers.

use std::cmp::Reverse;

use super::Entry;
use crate::proto::config::TableConfig;
use crate::proto::identity::subrange;
use crate::proto::random::mix;
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
        salt: u64,
        now: Time,
        config: &TableConfig,
    ) -> Option<(Opening, Option<usize>)> {
        if self.entries.len() < config.k {
            return Some((Opening::Room, None));
        }
        let counts = self.subrange_counts();
        let (own, subrange) = (rank(below, salt), subrange(below));
        let alone = counts[usize::from(subrange)] == 0;
        let yields = |entry: &Entry| match alone {
            true => counts[usize::from(entry.subrange())] > 1,
            false => entry.subrange() == subrange && rank(entry.below, salt) > own,
        };
        let yielding = self.unsettled(now, config).filter(|(_, entry)| yields(entry));
        let (at, _) = yielding.max_by_key(|(_, entry)| (Reverse(entry.age(now)), rank(entry.below, salt)))?;
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

/// The place in the order of the table that `salt` decides of the node with these bits of its ID.
pub(super) fn rank(below: u32, salt: u64) -> u64 {
    mix(salt, u64::from(below))
}
