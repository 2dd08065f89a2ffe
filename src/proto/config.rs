//! Every setting of the engine and every constant of the specification, each with its unit, reason and source.

use std::time::Duration;

/// Entries of a k-bucket (discv4 specification, "Kademlia Table").
pub const K: usize = 16;

/// Concurrent requests of a lookup (discv4 specification, "Recursive Lookup").
pub const ALPHA: usize = 3;

/// Disjoint paths of a lookup at most. Baumgart and Mies 2007 go to 8; there is nothing to gain beyond, since the 16 nodes
/// that a lookup begins with are then two on each.
pub const MAX_PATHS: usize = 8;

/// Distances that have a bucket: all of them, 1 to 256.
///
/// Merging all below 240 into one, as geth does, costs nothing up to a million nodes, and at ten million lookups begin
/// to miss the closest node.
pub const BUCKETS: usize = 256;

/// Replacements kept for each bucket, as in geth.
pub const REPLACEMENTS: usize = 10;

/// How long after a PONG the side that answers FINDNODE and ENRREQUEST takes the endpoint as proved (discv4
/// specification, "Endpoint Proof": 24 hours suggested; 12 hours is what the text says of the last PONG, and geth keeps
/// 24).
pub const PROOF_LASTS: Duration = Duration::from_hours(24);

/// How long after our PONG to its PING we count on a peer to remember us: half of [`PROOF_LASTS`], for the clocks and
/// the shorter memories of others.
pub const ENDORSEMENT_LASTS: Duration = Duration::from_hours(12);

/// How far in the future our packets expire, in seconds, as in geth: long enough for clocks that differ by some
/// seconds, short enough against replays.
pub const EXPIRATION_SECS: u64 = 20;

/// After the first PING of a stranger it gets only answers and one PING for this long: clients, and the public
/// conformance suite, read the next packet as the answer to theirs.
pub const QUIET_AFTER_FIRST_PING: Duration = Duration::from_secs(1);

/// Settings of the engine. `Config::default()` is for the public network.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Settings of the table.
    pub table: TableConfig,
    /// Settings of requests and their timeouts.
    pub requests: RequestConfig,
    /// Settings of lookups.
    pub lookup: LookupConfig,
    /// Settings of the refresh task, bootstrapping and memory of former members.
    pub refresh: RefreshConfig,
    /// Settings of the votes on our own address.
    pub votes: VoteConfig,
    /// Limits on what others can have us do.
    pub limits: LimitConfig,
    /// Settings of the alarms.
    pub alarms: AlarmConfig,
    /// How long an endpoint proof given to us lasts; [`PROOF_LASTS`]. Lower makes peers prove themselves more often.
    pub proof_lasts: Duration,
    /// How long we count on a peer to remember our proof; [`ENDORSEMENT_LASTS`]. Higher risks unanswered FINDNODEs.
    pub endorsement_lasts: Duration,
    /// How long a stranger is left in peace after its first PING; [`QUIET_AFTER_FIRST_PING`].
    pub quiet_after_first_ping: Duration,
    /// Endpoint proofs remembered for nodes that are not in the table: between one and two times this number, 4,096 by
    /// default, at some 40 bytes each. The least recently used half goes when it is full.
    pub max_proofs: usize,
    /// Fetch the records of table members whose sequence number has risen (EIP-868). Off saves two packets a member.
    pub fetch_records: bool,
    /// Take in nodes on UDP ports up to 1024. Off by default, as in geth: such ports belong to other services, which
    /// forged NEIGHBORS could have us knock at.
    pub allow_privileged_ports: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            table: TableConfig::default(),
            requests: RequestConfig::default(),
            lookup: LookupConfig::default(),
            refresh: RefreshConfig::default(),
            votes: VoteConfig::default(),
            limits: LimitConfig::default(),
            alarms: AlarmConfig::default(),
            proof_lasts: PROOF_LASTS,
            endorsement_lasts: ENDORSEMENT_LASTS,
            quiet_after_first_ping: QUIET_AFTER_FIRST_PING,
            max_proofs: 4096,
            fetch_records: true,
            allow_privileged_ports: false,
        }
    }
}

/// Settings of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableConfig {
    /// Entries of a bucket; [`K`]. Higher shortens lookups and costs upkeep.
    pub k: usize,
    /// Replacements of a bucket; [`REPLACEMENTS`].
    pub replacements: usize,
    /// Nodes of one /24 in a bucket, replacements counted: 2, as in geth. Lower is safer against Sybils, and shuts out
    /// honest nodes of one hoster.
    pub bucket_per_v4_prefix: usize,
    /// Nodes of one /24 in the table: 10, as in geth.
    pub table_per_v4_prefix: usize,
    /// Nodes of one /64 in a bucket: 1. A /64 is what one customer gets, and costs less than a /24 of IPv4.
    pub bucket_per_v6_prefix: usize,
    /// Nodes of one /64 in the table: 5.
    pub table_per_v6_prefix: usize,
    /// Spare private networks those limits (loopback always is): on, since a private network is often a single /24.
    pub exempt_lan: bool,
    /// Prefer nodes that make a bucket more diverse, and of equals an unbiased sample, where there is a choice: on. Off, the
    /// first to come stay while they live; lookups are a little longer then.
    pub diverse: bool,
    /// Failed checks in a row after which a member is dropped: 3. Lower loses nodes to lost packets.
    pub max_fails: u8,
    /// FINDNODEs in a row that a member which answers PINGs has left unanswered when it is dropped, each after bonding anew
    /// if the lookup lasted: 5, as in geth; 5 at most. It is not dropped while its bucket is less than half full, since
    /// somebody is better than nobody. Lower loses nodes to lost packets.
    pub max_find_fails: u8,
    /// Time after its proof when a new member is checked first: 10 s, and longer while a large table fills. Each success
    /// doubles it, up to what follows.
    pub first_check: Duration,
    /// Time between the failed checks of a doubtful member: 2 s.
    pub retry_check: Duration,
    /// A trusted member is checked once in this time for each member of the table: 5 s, so that 269 members, a full
    /// table of a large network, make one PING each 5 s and 22 minutes for each.
    pub check_pace: Duration,
    /// Lower bound of the time between two checks of a trusted member: 30 s, so that a small network notices within a
    /// minute that a member has gone.
    pub min_check: Duration,
    /// Upper bound of the same: 30 min.
    pub max_check: Duration,
    /// Below this age a member of a full bucket may have to yield to one that makes the bucket more diverse or comes first
    /// in the random order of the table: 1 h.
    pub settled_age: Duration,
    /// A member that proves itself at a new endpoint is moved there when its last proof at the old one is older than
    /// this: 30 s. Lower lets nodes with two addresses flap.
    pub move_after: Duration,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            k: K,
            replacements: REPLACEMENTS,
            bucket_per_v4_prefix: 2,
            table_per_v4_prefix: 10,
            bucket_per_v6_prefix: 1,
            table_per_v6_prefix: 5,
            exempt_lan: true,
            diverse: true,
            max_fails: 3,
            max_find_fails: 5,
            first_check: Duration::from_secs(10),
            retry_check: Duration::from_secs(2),
            check_pace: Duration::from_secs(5),
            min_check: Duration::from_secs(30),
            max_check: Duration::from_mins(30),
            settled_age: Duration::from_hours(1),
            move_after: Duration::from_secs(30),
        }
    }
}

/// Settings of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestConfig {
    /// When a request has failed: 1 s. Higher keeps slow peers, and waits longer for dead ones.
    pub timeout: Duration,
    /// Bounds of the time after which an answer counts as late, so that a lookup goes on without it: 50 ms and 500 ms.
    pub late: (Duration, Duration),
    /// Bounds of the wait for the second NEIGHBORS packet after the first: 10 ms and 300 ms; within them it is the round
    /// trip time of that peer.
    pub second_packet: (Duration, Duration),
    /// Bounds of the wait for the PING of a peer that has to prove us before it answers FINDNODE: 20 ms and 300 ms;
    /// within them twice the round trip time.
    pub ping_back: (Duration, Duration),
    /// Requests under way at a time, 4,096, an eighth of them kept for PINGs to strangers that pinged us; at the bound
    /// the oldest of those gives way.
    pub max_pending: usize,
    /// Requests under way to one address, 4: nobody can make us knock at a door more often.
    pub max_per_address: usize,
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            late: (Duration::from_millis(50), Duration::from_millis(500)),
            second_packet: (Duration::from_millis(10), Duration::from_millis(300)),
            ping_back: (Duration::from_millis(20), Duration::from_millis(300)),
            max_pending: 4096,
            max_per_address: 4,
        }
    }
}

/// Settings of lookups.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupConfig {
    /// Requests of a lookup under way that are not late; [`ALPHA`]. Higher is faster and costs packets.
    pub alpha: usize,
    /// Lookups under way at a time: 64; commands beyond are refused.
    pub max_lookups: usize,
    /// Disjoint paths of a lookup that a command asks for, unless it says otherwise: 1; at most [`MAX_PATHS`]. With more of
    /// them, liars on one path cannot lead away the others, and a lookup takes so many times the FINDNODEs.
    pub paths: usize,
    /// Nodes that each path of a lookup keeps in mind, the closest: 128. Far more than the 16 that it is after, since the
    /// closest may all be dead. At the bound those that have failed go first.
    pub max_candidates: usize,
    /// FINDNODEs after which a lookup ends with what it has: 256, over all its paths.
    pub max_queries: usize,
    /// Nodes of one /24 that are taken up from one answer to FINDNODE, be it in two packets, and that a path of a lookup
    /// counts among its k nearest: 2, as many as a bucket takes of them. Lower is safer against Sybils, and overlooks honest
    /// nodes of one hoster. Networks that the table spares are not limited.
    pub per_v4_prefix: usize,
    /// Nodes of one /64 that are: 1.
    pub per_v6_prefix: usize,
    /// The time after which it does: 30 s.
    pub max_time: Duration,
    /// Nodes from NEIGHBORS that wait to be pinged because the table would gain by them: 256; further ones are forgotten.
    pub max_hints: usize,
    /// How many of those are pinged at a time: 16.
    pub max_hint_pings: usize,
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            alpha: ALPHA,
            paths: 1,
            max_lookups: 64,
            max_candidates: 128,
            max_queries: 256,
            per_v4_prefix: 2,
            per_v6_prefix: 1,
            max_time: Duration::from_secs(30),
            max_hints: 256,
            max_hint_pings: 16,
        }
    }
}

/// Settings of refreshing and bootstrapping.
#[derive(Clone, Debug, PartialEq)]
pub struct RefreshConfig {
    /// Run the task at all. Off for programs that make one request and end.
    pub enabled: bool,
    /// Time to the next refresh after one by which an eighth of the table is new: 1 s. It doubles when less is.
    pub min: Duration,
    /// Its upper bound while the far buckets have room or the table is young: 2 min.
    pub max_room: Duration,
    /// The table is young while half of it are members of full buckets that have been there for less than this: 15 min.
    /// Then refreshes look for others than those it has met first.
    pub sample_for: Duration,
    /// Its upper bound after that: 30 min, as in geth.
    pub max_full: Duration,
    /// First wait before a silent bootnode is tried again: 0.25 s, doubling.
    pub retry_min: Duration,
    /// Last wait before a silent bootnode is tried again: 60 s.
    pub retry_max: Duration,
    /// Configured contacts kept: 1,024; further ones are refused.
    pub max_bootnodes: usize,
    /// Former members kept in mind, so that the halves of a network that was split find each other again: 64, the newest.
    pub max_former: usize,
    /// How long a member must have been one to be remembered: 1 min.
    pub former_age: Duration,
    /// Time until one of them is pinged after a member was lost, and the upper bound of that time, which doubles: 30 s
    /// and 10 min.
    pub former_every: (Duration, Duration),
    /// Former members pinged at a time when one is back, and while the table is empty: 3.
    pub former_pings: usize,
}

impl Default for RefreshConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            min: Duration::from_secs(1),
            max_room: Duration::from_mins(2),
            sample_for: Duration::from_mins(15),
            max_full: Duration::from_mins(30),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_mins(1),
            max_bootnodes: 1024,
            max_former: 64,
            former_age: Duration::from_mins(1),
            former_every: (Duration::from_secs(30), Duration::from_mins(10)),
            former_pings: 3,
        }
    }
}

/// Settings of the votes on our own address.
#[derive(Clone, Debug, PartialEq)]
pub struct VoteConfig {
    /// Let PONGs decide the address of our record when none is configured.
    pub enabled: bool,
    /// Networks (/24 or /64) that must agree on an address: 5. geth wants 10 statements, from anywhere.
    pub quorum: usize,
    /// How long a vote counts: 5 min, as in geth.
    pub lasts: Duration,
    /// Votes kept, one a network: 64; at the bound the oldest goes.
    pub max_votes: usize,
}

impl Default for VoteConfig {
    fn default() -> Self {
        Self { enabled: true, quorum: 5, lasts: Duration::from_mins(5), max_votes: 64 }
    }
}

/// How often something may happen: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one token comes in. Zero is no limit.
    pub every: Duration,
    /// How many tokens there can be: what may happen at once after a rest.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { every: Duration::ZERO, burst: u32::MAX };

    /// So many a second, and so many at once.
    ///
    /// # Panics
    /// When it is 0 a second, which no setting means.
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        Self { every: Duration::from_nanos(1_000_000_000 / rate as u64), burst }
    }
}

/// Limits on what others can have us do. None of them is met by a crawler that asks ten times a second.
///
/// Those for sources spare loopback and private networks unless `local` is set; those for the whole node always hold.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitConfig {
    /// Datagrams taken from one IP address: 100 a second, 200 at once, some 0.5 % of a core. Higher lets single hosts
    /// take more of our time, lower turns away many nodes behind one address translator. Answers to what we asked of our
    /// own accord do not count.
    pub address: Rate,
    /// The same for a /24 of IPv4 or a /64 of IPv6: 400 a second, 800 at once.
    pub prefix: Rate,
    /// The same for a /48 of IPv6, which one customer often has: 1,600 a second, 3,200 at once.
    pub site: Rate,
    /// Datagrams taken from all together who have not proved themselves, and of others while that lasts: 50,000 a second,
    /// 10,000 at once. That is more than two cores answer: lower it to bound the time that strangers can take.
    pub strangers: Rate,
    /// Datagrams taken from those who have proved themselves when strangers have used up theirs: 50,000 a second, 10,000
    /// at once.
    pub proved: Rate,
    /// PINGs that we send to one UDP endpoint that has not proved itself: 1 in 10 s, 3 at once. Whoever forges senders, or
    /// invents NEIGHBORS, has us knock at a door no more often. Members, configured contacts and commands do not count.
    pub knock_endpoint: Rate,
    /// The same for one IP address: 1 a second, 16 at once.
    pub knock_address: Rate,
    /// The same for a /24 or a /64: 4 a second, 64 at once.
    pub knock_prefix: Rate,
    /// Hold loopback and private networks to these limits as well: off, since a whole private network may be behind one
    /// address, and nobody on the internet can forge such a one.
    pub local: bool,
    /// Sources that have a bucket of their own at a time: 4,096, at 16 bytes, in each of five tables, which are made when
    /// they are first needed. When there are more, some of them share; see `engine/admission`. 0 switches the limits for
    /// sources off.
    pub sources: usize,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            address: Rate::per_second(100, 200),
            prefix: Rate::per_second(400, 800),
            site: Rate::per_second(1600, 3200),
            strangers: Rate::per_second(50_000, 10_000),
            proved: Rate::per_second(50_000, 10_000),
            knock_endpoint: Rate { every: Duration::from_secs(10), burst: 3 },
            knock_address: Rate::per_second(1, 16),
            knock_prefix: Rate::per_second(4, 64),
            local: false,
            sources: 4096,
        }
    }
}

/// Settings of the alarms, which tell the operator of what may be wrong and change nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmConfig {
    /// Watch for many identities near to our own, and for many of one network: on.
    pub sybils: bool,
    /// Time between two lookups that estimate the size of the network, which the first of those takes: 30 min. The first
    /// three follow one another, and lookups by command count as well.
    pub estimate_every: Duration,
    /// Compare our clock with that of peers: on. Off saves some 3 kB.
    pub skew: bool,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self { sybils: true, estimate_every: Duration::from_mins(30), skew: true }
    }
}

impl Config {
    /// Says what is impossible about the settings, if anything.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("table.k", self.table.k),
            ("lookup.alpha", self.lookup.alpha),
            ("lookup.max_lookups", self.lookup.max_lookups),
            ("lookup.max_candidates", self.lookup.max_candidates),
            ("lookup.max_queries", self.lookup.max_queries),
            ("lookup.paths", self.lookup.paths),
            ("lookup.per_v4_prefix", self.lookup.per_v4_prefix),
            ("lookup.per_v6_prefix", self.lookup.per_v6_prefix),
            ("requests.max_pending", self.requests.max_pending),
            ("requests.max_per_address", self.requests.max_per_address),
            ("max_proofs", self.max_proofs),
        ];
        if let Some(&(setting, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(setting));
        }
        if self.table.k > K {
            return Err(ConfigError::TooManyForAnAnswer(self.table.k));
        }
        if self.lookup.max_candidates < self.table.k {
            return Err(ConfigError::FewerCandidatesThanK);
        }
        if self.table.max_fails == 0 || self.table.max_fails > 3 {
            return Err(ConfigError::MaxFails);
        }
        let limits = &self.limits;
        let rates = [
            ("limits.address", limits.address),
            ("limits.prefix", limits.prefix),
            ("limits.site", limits.site),
            ("limits.strangers", limits.strangers),
            ("limits.proved", limits.proved),
            ("limits.knock_endpoint", limits.knock_endpoint),
            ("limits.knock_address", limits.knock_address),
            ("limits.knock_prefix", limits.knock_prefix),
        ];
        if let Some(&(setting, _)) = rates.iter().find(|(_, rate)| rate.burst == 0) {
            return Err(ConfigError::Zero(setting));
        }
        if self.table.max_find_fails == 0 || self.table.max_find_fails > 5 {
            return Err(ConfigError::MaxFindFails);
        }
        if self.lookup.paths > MAX_PATHS {
            return Err(ConfigError::Paths(self.lookup.paths));
        }
        let bounds = [
            ("requests.late", self.requests.late),
            ("requests.second_packet", self.requests.second_packet),
            ("requests.ping_back", self.requests.ping_back),
            ("refresh.retry_min and refresh.retry_max", (self.refresh.retry_min, self.refresh.retry_max)),
        ];
        if let Some(&(setting, _)) = bounds.iter().find(|(_, (low, high))| low > high || low.is_zero()) {
            return Err(ConfigError::Bounds(setting));
        }
        Ok(())
    }
}

/// Settings that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number that has to be at least one.
    #[error("the setting {0} is 0; it has to be at least 1")]
    Zero(&'static str),
    /// k is what an answer to FINDNODE holds.
    #[error("the setting table.k is {0}; a FINDNODE is answered with at most 16 nodes")]
    TooManyForAnAnswer(usize),
    /// The lower bound of a time is zero or above the upper one.
    #[error("the settings {0} are a lower and an upper bound: the lower one is zero or above the upper one")]
    Bounds(&'static str),
    /// A lookup could not hold its own result.
    #[error("the setting lookup.max_candidates is below table.k")]
    FewerCandidatesThanK,
    /// Entries count up to two failures.
    #[error("the setting table.max_fails has to be 1, 2 or 3")]
    MaxFails,
    /// Entries count up to four.
    #[error("the setting table.max_find_fails has to be from 1 to 5")]
    MaxFindFails,
    /// Each path has to have nodes of its own.
    #[error("the setting lookup.paths is {0}; a lookup goes along 1 to {MAX_PATHS} paths")]
    Paths(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(refused(|c| c.table.k = 0), ConfigError::Zero("table.k"));
        assert_eq!(refused(|c| c.table.k = 17), ConfigError::TooManyForAnAnswer(17));
        assert_eq!(refused(|c| c.lookup.max_candidates = 15), ConfigError::FewerCandidatesThanK);
        assert_eq!(refused(|c| c.table.max_fails = 4), ConfigError::MaxFails);
        assert_eq!(refused(|c| c.table.max_find_fails = 6), ConfigError::MaxFindFails);
        assert_eq!(refused(|c| c.lookup.paths = 0), ConfigError::Zero("lookup.paths"));
        assert_eq!(refused(|c| c.lookup.paths = 9), ConfigError::Paths(9));
        // The engine would panic at the first request, in `clamp`.
        assert_eq!(refused(|c| c.requests.late.1 = Duration::ZERO), ConfigError::Bounds("requests.late"));
        assert_eq!(
            refused(|c| c.requests.ping_back.0 = Duration::from_secs(1)),
            ConfigError::Bounds("requests.ping_back")
        );
        assert_eq!(
            refused(|c| (c.refresh.retry_min, c.refresh.retry_max) = (Duration::ZERO, Duration::MAX)),
            ConfigError::Bounds("refresh.retry_min and refresh.retry_max")
        );
    }
}
