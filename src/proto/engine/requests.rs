//! Requests that wait for their answer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::errands::ErrandId;
use super::output::RequestId;
use crate::proto::contacts::NodeRef;
use crate::proto::time::Time;
use crate::proto::wire::Hash;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// PING.
    Ping {
        /// It is for a stranger that pinged us, and nothing else waits for it.
        back: bool,
        /// We contact the node of our own accord: not merely because it pinged us.
        own_accord: bool,
        /// It is a hint from NEIGHBORS that is being tried.
        hint: bool,
        /// When we answered a PING of the node while this one was under way.
        endorsed: Option<Time>,
    },
    /// FINDNODE.
    FindNode {
        /// Whom it is for.
        errand: ErrandId,
        /// Nodes received so far.
        received: u8,
        /// Whether a first packet has come.
        begun: bool,
        /// The start of the first key in that packet, by which a copy of it is told from the second one.
        first: u64,
    },
    /// ENRREQUEST.
    Record {
        /// Whom it is for.
        errand: ErrandId,
    },
}

impl Asked {
    /// Whom a FINDNODE or ENRREQUEST is for.
    pub(super) fn errand(&self) -> Option<ErrandId> {
        match *self {
            Asked::FindNode { errand, .. } | Asked::Record { errand } => Some(errand),
            Asked::Ping { .. } => None,
        }
    }

    /// Whether it is a PING to a stranger that pinged us, and nothing else.
    pub(super) fn is_back(&self) -> bool {
        matches!(self, Asked::Ping { back: true, .. })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) node: NodeRef,
    pub(super) addr: SocketAddr,
    pub(super) asked: Asked,
    /// Known once the packet is sealed.
    pub(super) hash: Option<Hash>,
    pub(super) sent: Time,
    /// After how long the answer counts as late.
    pub(super) late: Duration,
    /// When it does; `Time::NEVER` once it has.
    pub(super) late_at: Time,
    pub(super) expires: Time,
    /// It was sent more than once: nobody knows which of the packets an answer is for, so the time that it took is no
    /// round trip (Karn and Partridge 1987).
    pub(super) repeated: bool,
    /// Datagrams that went past the limits as its answer.
    pub(super) answers: u8,
    /// An answer has come that had expired.
    pub(super) expired_pong: bool,
    /// The expiration that the packet bears, in Unix seconds.
    pub(super) expiration: u64,
}

/// An address as a number, which is compared at once.
type Addr = (u128, u16);

fn number_of(addr: SocketAddr) -> Addr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    (ip.to_bits(), addr.port())
}

/// All requests under way, by number and by address. Empty, it owns no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Option<(u32, Request)>>,
    free: Vec<u32>,
    /// Address and slot, sorted. Most of the time there are few, and each packet asks for those of its sender.
    by_addr: Vec<(Addr, u32)>,
    /// PINGs to strangers in the order in which they were sent; answered ones are left in until they come to the front.
    backs: VecDeque<RequestId>,
    /// How many of those under way are for nothing else.
    only_back: usize,
    serial: u32,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// Requests that are not merely PINGs to strangers which pinged us.
    pub(super) fn own(&self) -> usize {
        self.len() - self.only_back
    }

    pub(super) fn insert(&mut self, request: Request) -> RequestId {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let (addr, back) = (request.addr, request.asked.is_back());
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some((serial, request));
                slot
            }
            None => {
                self.slots.push(Some((serial, request)));
                // The bound on requests is far below 2^32.
                (self.slots.len() - 1) as u32
            }
        };
        let entry = (number_of(addr), slot);
        let at = self.by_addr.partition_point(|other| *other < entry);
        self.by_addr.insert(at, entry);
        let id = RequestId { slot, serial };
        if back {
            self.only_back += 1;
            while self.backs.front().is_some_and(|front| self.get(*front).is_none()) {
                self.backs.pop_front();
            }
            self.backs.push_back(id);
        }
        id
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Request> {
        match self.slots.get(id.slot as usize) {
            Some(Some((serial, request))) if *serial == id.serial => Some(request),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Some((serial, request))) if *serial == id.serial => Some(request),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Request> {
        self.get(id)?;
        let (_, request) = self.slots[id.slot as usize].take()?;
        if let Ok(at) = self.by_addr.binary_search(&(number_of(request.addr), id.slot)) {
            self.by_addr.remove(at);
        }
        self.only_back -= usize::from(request.asked.is_back());
        self.free.push(id.slot);
        if self.by_addr.is_empty() {
            *self = Self { serial: self.serial, ..Self::default() };
        }
        Some(request)
    }

    /// Notes that we want the answer to a PING of our own accord.
    pub(super) fn want(&mut self, id: RequestId) {
        if let Some(request) = self.get_mut(id)
            && let Asked::Ping { back, own_accord, .. } = &mut request.asked
        {
            let was_back = std::mem::replace(back, false);
            *own_accord = true;
            self.only_back -= usize::from(was_back);
        }
    }

    /// The requests under way to an address.
    pub(super) fn at(&self, addr: SocketAddr) -> impl Iterator<Item = (RequestId, &Request)> {
        let addr = number_of(addr);
        let first = self.by_addr.partition_point(|(other, _)| *other < addr);
        self.by_addr[first..].iter().take_while(move |(other, _)| *other == addr).filter_map(|&(_, slot)| {
            let (serial, request) = self.slots[slot as usize].as_ref()?;
            Some((RequestId { slot, serial: *serial }, request))
        })
    }

    /// Whether a datagram from an address may be the answer to a request that we made of our own accord. Says so for
    /// `most` datagrams a request.
    pub(super) fn answered_by(&mut self, addr: SocketAddr, most: u8) -> bool {
        let awaited = self.at(addr).find(|(_, request)| !request.asked.is_back() && request.answers < most);
        let Some(id) = awaited.map(|(id, _)| id) else { return false };
        if let Some(request) = self.get_mut(id) {
            request.answers += 1;
        }
        true
    }

    /// The PING under way to a node.
    pub(super) fn ping_to(&self, node: NodeRef, addr: SocketAddr) -> Option<RequestId> {
        self.at(addr)
            .find(|(_, request)| request.node == node && matches!(request.asked, Asked::Ping { .. }))
            .map(|(id, _)| id)
    }

    /// The oldest PING to a stranger that is still under way for nothing else.
    pub(super) fn oldest_back(&mut self) -> Option<RequestId> {
        while let Some(id) = self.backs.pop_front() {
            if self.get(id).is_some_and(|request| request.asked.is_back()) {
                return Some(id);
            }
        }
        None
    }

    /// Whether a FINDNODE is under way to a node.
    pub(super) fn is_asked(&self, node: NodeRef, addr: SocketAddr) -> bool {
        self.at(addr).any(|(_, request)| request.node == node && matches!(request.asked, Asked::FindNode { .. }))
    }

    /// The nodes to which a FINDNODE is under way.
    pub(super) fn nodes_asked(&self) -> impl Iterator<Item = NodeRef> {
        let asked = |request: &&Request| matches!(request.asked, Asked::FindNode { .. });
        self.slots.iter().flatten().map(|(_, request)| request).filter(asked).map(|request| request.node)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeRef> {
        self.slots.iter().flatten().map(|(_, request)| request.node)
    }
}
