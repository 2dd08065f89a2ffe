//! Knocking at addresses: PINGs to whoever is there, when a file or a DNS name tells where a node is and not who.
//!
//! A PING needs no key of its receiver, and the signed PONG tells it. From then on the answer counts as that to a PING of
//! the node: it is an endpoint proof of whoever signed it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::inbound::From;
use super::requests::{Asked, Request};
use super::{CommandError, CommandId, Dropped, Engine, Event, Pinged, Reply, RequestId, Timer};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Endpoint, IdPrefix};
use crate::proto::time::Time;
use crate::proto::wire::{Hash, Message, Ping, Pong};

/// Addresses knocked at at a time: as many as contacts can be configured. Further ones have to wait, commands fail.
pub(super) const MAX_KNOCKS: usize = 1024;

/// After this time without an answer the PING is sent once more, as that to a stranger is.
const LATE: Duration = Duration::from_millis(500);

/// The slot in the [`RequestId`] of a knock; no request has it.
const SLOT: u32 = u32::MAX;

/// A PING under way to an address.
#[derive(Debug)]
struct Knock {
    serial: u32,
    hash: Option<Hash>,
    sent: Time,
    /// The expiration in the packet, in Unix seconds: sent again it is the same packet.
    expiration: u64,
    /// When it is sent once more, or given up.
    due: Time,
    repeated: bool,
    /// Datagrams that went past the limits as its answer.
    answers: u8,
}

/// All knocks under way, and the commands that wait for them.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    at: BTreeMap<SocketAddr, Knock>,
    /// With the bound of requests.
    wanted: Vec<(SocketAddr, CommandId, Option<IdPrefix>)>,
    serial: u32,
}

impl Knocks {
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Commands that wait.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn is_at(&self, addr: SocketAddr) -> bool {
        self.at.contains_key(&addr)
    }

    /// Whether the hash is that of a PING to this address.
    pub(super) fn awaits(&self, addr: SocketAddr, hash: &Hash) -> bool {
        self.at.get(&addr).is_some_and(|knock| knock.hash.as_ref() == Some(hash))
    }

    /// Notes the hash of a packet that is about to be sent, if it is a knock.
    pub(super) fn sealed(&mut self, id: RequestId, hash: Hash) -> bool {
        if id.slot == SLOT
            && let Some(knock) = self.at.values_mut().find(|knock| knock.serial == id.serial)
        {
            knock.hash = Some(hash);
        }
        id.slot == SLOT
    }

    /// Whether a datagram from an address may be an answer, of which so many are let in.
    pub(super) fn answered_by(&mut self, addr: SocketAddr, most: u8) -> bool {
        let Some(knock) = self.at.get_mut(&addr).filter(|knock| knock.answers < most) else { return false };
        knock.answers += 1;
        true
    }

    fn take_wanted(&mut self, addr: SocketAddr) -> Vec<(CommandId, Option<IdPrefix>)> {
        self.wanted.extract_if(.., |(at, ..)| *at == addr).map(|(_, command, pin)| (command, pin)).collect()
    }
}

impl<C: Contacts> Engine<C> {
    pub(super) fn command_knock(&mut self, now: Time, command: CommandId, addr: SocketAddr, pin: Option<IdPrefix>) {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let knocked = self.check_reachable(addr).and_then(|()| {
            if self.knocks.wanted.len() < self.config.requests.max_pending && self.knock(now, addr) {
                self.knocks.wanted.push((addr, command, pin));
                Ok(())
            } else {
                Err(CommandError::Busy)
            }
        });
        if let Err(error) = knocked {
            self.reply(command, Reply::Failed(error));
        }
    }

    /// Pings whoever is at an address, unless that is under way. Says whether there is something to wait for.
    pub(super) fn knock(&mut self, now: Time, addr: SocketAddr) -> bool {
        if self.knocks.is_at(addr) {
            return true;
        }
        if self.knocks.len() >= MAX_KNOCKS {
            self.counters.not_sent += 1;
            return false;
        }
        self.knocks.serial = self.knocks.serial.wrapping_add(1);
        let serial = self.knocks.serial;
        let due = now + LATE.min(self.config.requests.timeout);
        let expiration = self.distinct_expiration(now, addr);
        let knock = Knock { serial, hash: None, sent: now, expiration, due, repeated: false, answers: 0 };
        self.knocks.at.insert(addr, knock);
        self.timers.set(due, Timer::Knock(addr));
        self.send_knock(addr, serial, expiration);
        true
    }

    fn send_knock(&mut self, addr: SocketAddr, serial: u32, expiration: u64) {
        let ping = Message::Ping(Ping {
            from: self.local.endpoint_for(addr.ip()),
            to: Endpoint::new(addr.ip(), addr.port(), 0).into(),
            expiration,
            enr_seq: self.local.seq(),
        });
        self.transmit(addr, ping, Some(RequestId { slot: SLOT, serial }));
    }

    /// Nobody has answered so far.
    pub(super) fn on_knock_due(&mut self, now: Time, addr: SocketAddr) {
        let timeout = self.config.requests.timeout;
        let Some(knock) = self.knocks.at.get_mut(&addr) else { return };
        let end = knock.sent + timeout;
        if !knock.repeated && end > now {
            (knock.repeated, knock.due) = (true, end);
            let (serial, expiration) = (knock.serial, knock.expiration);
            self.timers.set(end, Timer::Knock(addr));
            self.send_knock(addr, serial, expiration);
            return;
        }
        self.fail_knock(now, addr, CommandError::Timeout);
    }

    fn fail_knock(&mut self, now: Time, addr: SocketAddr, error: CommandError) {
        if self.take_knock(addr).is_none() {
            return;
        }
        self.counters.unanswered += 1;
        self.on_address_silent(now, addr);
        for (command, _) in self.knocks.take_wanted(addr) {
            self.reply(command, Reply::Failed(error));
        }
    }

    fn take_knock(&mut self, addr: SocketAddr) -> Option<Knock> {
        let knock = self.knocks.at.remove(&addr)?;
        self.timers.cancel(knock.due, Timer::Knock(addr));
        Some(knock)
    }

    /// A PONG with the hash of our PING has come from the address. Whoever signed it has proved that he is there.
    pub(super) fn on_knock_answered(&mut self, now: Time, from: &From, pong: &Pong) -> Result<(), Dropped> {
        let addr = from.addr;
        let Some(knock) = self.take_knock(addr) else { return Err(Dropped::Unsolicited) };
        let id = from.contact.id();
        let meant = |pin: &Option<IdPrefix>| pin.is_none_or(|pin| pin.matches(&id));
        let wanted = self.knocks.take_wanted(addr);
        let welcome = self.expects(addr, &id) || wanted.iter().any(|(_, pin)| meant(pin));
        let node = if welcome { self.contacts.intern(&from.contact) } else { None };
        if self.on_address_answered(now, addr, id, node) {
            self.emit(Event::OtherNode { addr, id });
        }
        if let Some(node) = node {
            self.adopt(now, node, addr, &knock, pong);
        } else {
            self.counters.unanswered += 1;
        }
        let (contact, rtt) = (from.contact, now.since(knock.sent));
        for (command, pin) in wanted {
            let pinged = || Pinged { contact, rtt, enr_seq: pong.enr_seq, our_address: pong.to.ip };
            let error = if meant(&pin) { CommandError::Busy } else { CommandError::OtherNode };
            self.reply(command, node.filter(|_| meant(&pin)).map_or(Reply::Failed(error), |_| Reply::Ping(pinged())));
        }
        if node.is_some() { Ok(()) } else { Err(Dropped::WrongSender) }
    }

    /// Takes the knock for a PING of the node whose PONG has come.
    fn adopt(&mut self, now: Time, node: NodeRef, addr: SocketAddr, knock: &Knock, pong: &Pong) {
        let id = match self.requests.ping_to(node, addr) {
            // Its own PING was before its PONG, and has been answered.
            Some(id) => id,
            None => self.requests.insert(Request {
                node,
                addr,
                asked: Asked::Ping { back: false, own_accord: true, hint: false, endorsed: None },
                hash: None,
                sent: knock.sent,
                late: LATE,
                late_at: Time::NEVER,
                expires: Time::NEVER,
                repeated: knock.repeated,
                answers: 0,
                expired_pong: false,
                expiration: knock.expiration,
            }),
        };
        self.requests.want(id);
        if let Some(request) = self.requests.get_mut(id) {
            (request.sent, request.repeated) = (knock.sent, knock.repeated);
        }
        self.on_proved(now, id, pong);
    }

    /// A packet with our own signature has come from an address. If it is our very PING, the address is ours.
    pub(super) fn on_knock_returned(&mut self, now: Time, addr: SocketAddr, hash: &Hash) {
        if self.knocks.awaits(addr, hash) {
            self.fail_knock(now, addr, CommandError::Itself);
            self.forget_address(addr);
        }
    }
}
