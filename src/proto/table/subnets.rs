//! How many nodes of one network prefix the table holds.

use std::net::IpAddr;

use crate::proto::config::TableConfig;
use crate::proto::identity::Prefix;

/// A count for each prefix that is in the table and not exempt; sorted, and without memory while there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subnets {
    counts: Vec<(Prefix, u16)>,
}

impl Subnets {
    pub(super) fn add(&mut self, prefix: Prefix) {
        match self.counts.binary_search_by_key(&prefix, |(p, _)| *p) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (prefix, 1)),
        }
    }

    pub(super) fn remove(&mut self, prefix: Prefix) {
        if let Ok(at) = self.counts.binary_search_by_key(&prefix, |(p, _)| *p) {
            self.counts[at].1 -= 1;
            if self.counts[at].1 == 0 {
                self.counts.remove(at);
            }
        }
    }

    pub(super) fn count(&self, prefix: Prefix) -> usize {
        match self.counts.binary_search_by_key(&prefix, |(p, _)| *p) {
            Ok(at) => usize::from(self.counts[at].1),
            Err(_) => 0,
        }
    }
}

/// The prefix under which `ip` is limited; `None` when it is exempt.
pub fn limited_prefix(ip: IpAddr, config: &TableConfig) -> Option<Prefix> {
    Prefix::limited(ip, config.exempt_lan)
}

/// How many nodes of the prefix a bucket and the table may hold.
pub(super) fn limits(prefix: Prefix, config: &TableConfig) -> (usize, usize) {
    match prefix {
        Prefix::V4(_) => (config.bucket_per_v4_prefix, config.table_per_v4_prefix),
        Prefix::V6(_) => (config.bucket_per_v6_prefix, config.table_per_v6_prefix),
    }
}
