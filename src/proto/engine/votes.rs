//! What others say of our address.
//!
//! A PONG says from where the PING came. Only PONGs that answer a PING of ours count, one vote for each network (/24 or
//! /64), and an address needs several networks that agree: one hoster, or one liar with many keys, decides nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::proto::config::VoteConfig;
use crate::proto::identity::{AddressClass, Prefix};
use crate::proto::time::Time;

#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    by_voter: BTreeMap<Prefix, (Time, SocketAddr)>,
}

impl Votes {
    /// Notes that `voter` saw us at `seen`, and returns the address that has a quorum and a majority now.
    pub(super) fn note(
        &mut self,
        voter: IpAddr,
        seen: SocketAddr,
        now: Time,
        config: &VoteConfig,
    ) -> Option<SocketAddr> {
        // Only the internet can tell what we look like on the internet, and over IPv4 nobody has seen an IPv6 address.
        let global = |ip| AddressClass::of(ip) == AddressClass::Global;
        if !global(voter) || !global(seen.ip()) || voter.is_ipv4() != seen.is_ipv4() || seen.port() == 0 {
            return None;
        }
        self.by_voter.insert(Prefix::of(voter), (now, seen));
        self.by_voter.retain(|_, (at, _)| now.since(*at) < config.lasts);
        while self.by_voter.len() > config.max_votes {
            let oldest = self.by_voter.iter().min_by_key(|(_, (at, _))| *at).map(|(prefix, _)| *prefix)?;
            self.by_voter.remove(&oldest);
        }
        let same_family = |other: &SocketAddr| other.is_ipv4() == seen.is_ipv4();
        let votes = self.by_voter.values().filter(|(_, other)| same_family(other)).count();
        let agreed = self.by_voter.values().filter(|(_, other)| *other == seen).count();
        (agreed >= config.quorum && 2 * agreed > votes).then_some(seen)
    }

    /// Forgets all: they were about another address.
    pub(super) fn forget(&mut self) {
        self.by_voter.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.by_voter.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(n: u8) -> IpAddr {
        IpAddr::from([8, 8, n, 1])
    }

    #[test]
    fn a_quorum_of_networks_decides() {
        let config = VoteConfig::default();
        let mut votes = Votes::default();
        let us: SocketAddr = "9.9.9.9:30303".parse().unwrap();
        for _ in 0..20 {
            assert_eq!(votes.note(voter(1), us, Time::ZERO, &config), None, "one network has one vote");
        }
        for n in 2..=4 {
            assert_eq!(votes.note(voter(n), us, Time::ZERO, &config), None);
        }
        assert_eq!(votes.note(voter(5), us, Time::ZERO, &config), Some(us));
    }

    #[test]
    fn votes_age_disagree_and_are_bounded() {
        let config = VoteConfig::default();
        let mut votes = Votes::default();
        let us: SocketAddr = "9.9.9.9:30303".parse().unwrap();
        let other: SocketAddr = "9.9.9.10:30303".parse().unwrap();
        for n in 1..=4 {
            votes.note(voter(n), us, Time::ZERO, &config);
        }
        assert_eq!(votes.note(voter(5), us, Time::from_secs(301), &config), None, "the first four are too old");
        for n in 10..=20 {
            votes.note(voter(n), other, Time::from_secs(301), &config);
        }
        for n in 1..=4 {
            assert_eq!(votes.note(voter(n), us, Time::from_secs(301), &config), None, "no majority");
        }
        for n in 0..200 {
            votes.note(voter(n), us, Time::from_secs(301), &config);
        }
        assert_eq!(votes.len(), config.max_votes);
        assert_eq!(votes.note("10.0.0.1".parse().unwrap(), us, Time::ZERO, &config), None);
        assert_eq!(votes.note(voter(1), "10.0.0.1:1".parse().unwrap(), Time::ZERO, &config), None);
    }

    #[test]
    fn nobody_sees_an_address_of_another_family_or_a_port_of_0() {
        let config = VoteConfig::default();
        for nonsense in ["[2a00::1]:30303", "9.9.9.9:0"] {
            let mut votes = Votes::default();
            for n in 1..=9 {
                assert_eq!(votes.note(voter(n), nonsense.parse().unwrap(), Time::ZERO, &config), None);
            }
            assert_eq!(votes.len(), 0);
        }
    }
}
