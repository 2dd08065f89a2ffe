//! Admission: which datagrams are worth a look, and at whose doors we knock.
//!
//! The first look at a datagram must cost next to nothing, so it is at its source alone: a token bucket for the address,
//! one for its network, one for the whole node. Answers to what we asked of our own accord, a few for each request, go
//! past them, and those who have proved themselves have a share of the node that strangers cannot use up.
//!
//! The sender of a UDP packet is easily forged. So PINGs to those who have not proved themselves, whoever named them, are
//! counted against their endpoint, address and network: nobody can have us flood a third party.

mod limiter;

use std::net::{IpAddr, SocketAddr};

use rand::Rng;

use self::limiter::{Limiter, Source, Tokens};
use super::bond::Why;
use super::{Dropped, Engine};
use crate::proto::config::LimitConfig;
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::AddressClass;
use crate::proto::time::Time;

/// Datagrams that go past the limits for each request of ours: an answer has at most two, and any of them may be doubled.
const ANSWERS: u8 = 8;

/// What the source of a datagram has done to be served, for a driver that cannot serve all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A node there has proved its endpoint, or we asked something of it of our own accord.
    Known,
    /// Anybody.
    Stranger,
}

/// The state of all limits.
#[derive(Debug, Default)]
pub(super) struct Admission {
    strangers: Tokens,
    proved: Tokens,
    sources: Option<Box<Sources>>,
}

impl Admission {
    /// Buckets of single sources that were ever used, and how many there can be.
    pub(super) fn sources(&self, limits: &LimitConfig) -> (usize, usize) {
        let tables = self.sources.iter().flat_map(|sources| sources.tables());
        (tables.map(Limiter::used).sum(), TABLES * Limiter::room(limits.sources))
    }
}

/// The tables of sources, made when the first datagram comes.
#[derive(Debug)]
struct Sources {
    addresses: Limiter,
    networks: Limiter,
    knocked_endpoints: Limiter,
    knocked_addresses: Limiter,
    knocked_networks: Limiter,
}

/// How many tables there are.
const TABLES: usize = 5;

impl Sources {
    fn tables(&self) -> [&Limiter; TABLES] {
        [&self.addresses, &self.networks, &self.knocked_endpoints, &self.knocked_addresses, &self.knocked_networks]
    }

    fn new(sources: usize, rng: &mut impl Rng) -> Self {
        let mut limiter = || Limiter::new(sources, (rng.next_u64(), rng.next_u64()));
        Self {
            addresses: limiter(),
            networks: limiter(),
            knocked_endpoints: limiter(),
            knocked_addresses: limiter(),
            knocked_networks: limiter(),
        }
    }

    fn admit(&mut self, now: Time, ip: IpAddr, limits: &LimitConfig) -> Result<(), Dropped> {
        if !self.addresses.take(Source::prefix(ip, 128), now, limits.address) {
            return Err(Dropped::Address);
        }
        if !self.networks.take(network(ip), now, limits.prefix) {
            return Err(Dropped::Network);
        }
        if ip.is_ipv6() && !self.networks.take(Source::prefix(ip, 48), now, limits.site) {
            return Err(Dropped::Network);
        }
        Ok(())
    }

    fn may_knock(&mut self, now: Time, addr: SocketAddr, limits: &LimitConfig) -> bool {
        self.knocked_endpoints.take(Source::endpoint(addr), now, limits.knock_endpoint)
            && self.knocked_addresses.take(Source::prefix(addr.ip(), 128), now, limits.knock_address)
            && self.knocked_networks.take(network(addr.ip()), now, limits.knock_prefix)
    }
}

/// The /24 or /64 of an address.
fn network(ip: IpAddr) -> Source {
    Source::prefix(ip, if ip.is_ipv4() { 96 + 24 } else { 64 })
}

impl<C: Contacts> Engine<C> {
    /// Looks at the source of a datagram, before anything else is done with it, and says whether it may take any of our
    /// time.
    ///
    /// # Errors
    /// Why it was dropped, which is counted too.
    pub fn admit(&mut self, now: Time, from: SocketAddr) -> Result<(), Dropped> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        self.try_admit(now, from).map_err(|reason| self.count_dropped(reason))
    }

    fn try_admit(&mut self, now: Time, from: SocketAddr) -> Result<(), Dropped> {
        if self.requests.answered_by(from, ANSWERS) || self.knocks.answered_by(from, ANSWERS) {
            return Ok(());
        }
        if self.is_limited(from.ip()) {
            let limits = &self.config.limits;
            let sources =
                self.admission.sources.get_or_insert_with(|| Box::new(Sources::new(limits.sources, &mut self.rng)));
            sources.admit(now, from.ip(), limits)?;
        }
        if self.admission.strangers.take(now, self.config.limits.strangers) {
            return Ok(());
        }
        // Only now does it matter who it is.
        let known = self.standing(now, from) == Standing::Known;
        let admitted = known && self.admission.proved.take(now, self.config.limits.proved);
        if admitted { Ok(()) } else { Err(Dropped::Overload) }
    }

    /// What the source of a datagram has done to be served before others.
    pub fn standing(&self, now: Time, from: SocketAddr) -> Standing {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let asked = || self.requests.at(from).any(|(_, request)| !request.asked.is_back()) || self.knocks.is_at(from);
        let proved =
            || self.contacts.at(from).take(super::inbound::MAX_NEIGHBOURS).any(|node| self.has_proved(now, node));
        if asked() || proved() { Standing::Known } else { Standing::Stranger }
    }

    /// Counts a datagram that the driver had no room for.
    pub fn drop_for_room(&mut self) -> Dropped {
        self.count_dropped(Dropped::Queue)
    }

    /// Whether a node may be pinged for this reason. Says so once: the PING counts.
    pub(super) fn may_knock(&mut self, now: Time, node: NodeRef, addr: SocketAddr, why: Why) -> bool {
        if why == Why::Told || !self.is_limited(addr.ip()) || self.has_proved(now, node) {
            return true;
        }
        let limits = &self.config.limits;
        let sources =
            self.admission.sources.get_or_insert_with(|| Box::new(Sources::new(limits.sources, &mut self.rng)));
        let may = sources.may_knock(now, addr, limits);
        self.counters.not_knocked += u64::from(!may);
        may
    }

    fn is_limited(&self, ip: IpAddr) -> bool {
        let limits = &self.config.limits;
        limits.sources > 0
            && (limits.local || !matches!(AddressClass::of(ip), AddressClass::Loopback | AddressClass::Lan))
    }
}
