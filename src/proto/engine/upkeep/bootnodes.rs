//! Configured contacts: tried until they answer, with growing waits, and again whenever the table is empty.

use std::net::SocketAddr;
use std::time::Duration;

use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::engine::bond::Why;
use crate::proto::engine::{CommandError, Engine, Origin, Timer};
use crate::proto::identity::{Contact, IdPrefix, NodeId};
use crate::proto::time::Time;

/// A configured contact.
#[derive(Clone, Debug)]
pub(in crate::proto::engine) struct Bootnode {
    /// `None` when only an address is given, and nobody has answered there.
    pub(super) node: Option<NodeRef>,
    /// What is given when the key is not: where to knock, and who is meant.
    pub(super) address: Option<(SocketAddr, Option<IdPrefix>)>,
    /// How often it was given: it is forgotten when it was taken back as often.
    given: u32,
    /// When it is tried next; `Time::NEVER` while a PING is out or after it has answered.
    next_try: Time,
    last_try: Time,
    /// The wait after the next failure.
    backoff: Duration,
    /// It has answered since the table was last empty.
    pub(super) heard: bool,
    /// Who has answered instead and was told of.
    other: Option<NodeId>,
}

impl Bootnode {
    fn is_at(&self, addr: SocketAddr) -> bool {
        self.address.is_some_and(|(at, _)| at == addr)
    }

    /// Whether this node is the one that is meant, as far as the pin says.
    fn means(&self, id: &NodeId) -> bool {
        self.address.and_then(|(_, pin)| pin).is_none_or(|pin| pin.matches(id))
    }

    /// It was tried in vain.
    fn wait(&mut self, now: Time, longest: Duration) {
        self.next_try = now + self.backoff;
        self.backoff = (self.backoff * 2).min(longest);
    }

    /// It is tried at the next occasion, unless it has answered or is being tried.
    pub(super) fn hurry(&mut self, now: Time, shortest: Duration) {
        if self.next_try != Time::NEVER {
            self.next_try = now;
            self.backoff = shortest;
        }
    }
}

impl<C: Contacts> Engine<C> {
    pub(in crate::proto::engine) fn add_waiting_contact(
        &mut self,
        now: Time,
        contact: &Contact,
    ) -> Result<(), CommandError> {
        let node = self.reachable(contact)?;
        // A node that was found at an address is not named there.
        self.add_waiting(now, Some(node), None, |known| known.address.is_none() && known.node == Some(node))
    }

    pub(in crate::proto::engine) fn add_waiting_address(
        &mut self,
        now: Time,
        addr: SocketAddr,
        pin: Option<IdPrefix>,
    ) -> Result<(), CommandError> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        self.check_reachable(addr)?;
        self.add_waiting(now, None, Some((addr, pin)), |known| known.address == Some((addr, pin)))
    }

    fn add_waiting(
        &mut self,
        now: Time,
        node: Option<NodeRef>,
        address: Option<(SocketAddr, Option<IdPrefix>)>,
        same: impl Fn(&Bootnode) -> bool,
    ) -> Result<(), CommandError> {
        if let Some(known) = self.upkeep.bootnodes.iter_mut().find(|known| same(known)) {
            known.given = known.given.saturating_add(1);
            return Ok(());
        }
        if self.upkeep.bootnodes.len() >= self.config.refresh.max_bootnodes {
            return Err(CommandError::Busy);
        }
        let backoff = self.config.refresh.retry_min;
        let bootnode = Bootnode {
            node,
            address,
            given: 1,
            next_try: now,
            last_try: Time::ZERO,
            backoff,
            heard: false,
            other: None,
        };
        self.upkeep.bootnodes.push(bootnode);
        self.on_bootnodes_due(now);
        Ok(())
    }

    /// Takes the contact with a known key back that is this node.
    pub(in crate::proto::engine) fn take_back_contact(&mut self, node: NodeRef) {
        self.take_back(|known| known.address.is_none() && known.node == Some(node));
    }

    /// Takes an address back, with the pin that it was given with.
    pub(in crate::proto::engine) fn take_back_address(&mut self, addr: SocketAddr, pin: Option<IdPrefix>) {
        self.take_back(|known| known.address == Some((addr, pin)));
    }

    fn take_back(&mut self, which: impl Fn(&Bootnode) -> bool) {
        self.upkeep.bootnodes.retain_mut(|known| {
            known.given -= u32::from(which(known));
            known.given > 0
        });
        self.arm_bootnodes();
    }

    /// Forgets all contacts at an address.
    pub(in crate::proto::engine) fn forget_address(&mut self, addr: SocketAddr) {
        self.upkeep.bootnodes.retain(|known| !known.is_at(addr));
        self.arm_bootnodes();
    }

    pub(in crate::proto::engine) fn on_bootnodes_due(&mut self, now: Time) {
        if !self.config.refresh.enabled {
            return;
        }
        for at in 0..self.upkeep.bootnodes.len() {
            let bootnode = &mut self.upkeep.bootnodes[at];
            if bootnode.next_try > now {
                continue;
            }
            let (node, address, backoff) = (bootnode.node, bootnode.address, bootnode.backoff);
            bootnode.next_try = Time::NEVER;
            bootnode.last_try = now;
            let tried = match (address, node) {
                (Some((addr, _)), _) => self.knock(now, addr),
                (None, Some(node)) => self.ping(now, node, Why::Told),
                (None, None) => true,
            };
            // What is tried may end at once, and others with it.
            if !tried && let Some(bootnode) = self.upkeep.bootnodes.get_mut(at) {
                bootnode.next_try = now + backoff;
            }
        }
        self.arm_bootnodes();
    }

    pub(in crate::proto::engine) fn on_bootnode_answered(&mut self, now: Time, node: NodeRef) {
        let backoff = self.config.refresh.retry_min;
        let (mut any, mut first) = (false, false);
        for bootnode in self.upkeep.bootnodes.iter_mut().filter(|bootnode| bootnode.node == Some(node)) {
            bootnode.next_try = Time::NEVER;
            bootnode.last_try = now;
            bootnode.backoff = backoff;
            any = true;
            first |= !std::mem::replace(&mut bootnode.heard, true);
        }
        if any {
            self.arm_bootnodes();
        }
        if first {
            self.look_around_at(now, node);
        }
    }

    /// A bootnode has answered for the first time. It is asked for our own neighbourhood, unless it is or will be: if
    /// others came before it, the first look around went to them alone, and they may all be somebody's own.
    fn look_around_at(&mut self, now: Time, bootnode: NodeRef) {
        if !self.config.refresh.enabled || self.table.is_empty() {
            return;
        }
        let own = *self.local_key();
        let is_bootnode = |node| self.upkeep.bootnodes().any(|bootnode| bootnode == node);
        let is_asked = self.lookups.values().any(|task| task.target == own && task.asks(bootnode, is_bootnode));
        if !is_asked {
            self.start_lookup_at(now, own, Origin::Itself, bootnode);
        }
    }

    pub(in crate::proto::engine) fn on_bootnode_silent(&mut self, now: Time, node: NodeRef) {
        self.wait_for_bootnodes(now, |bootnode| bootnode.node == Some(node));
    }

    /// Nobody has answered at an address.
    pub(in crate::proto::engine) fn on_address_silent(&mut self, now: Time, addr: SocketAddr) {
        self.wait_for_bootnodes(now, |bootnode| bootnode.is_at(addr));
    }

    fn wait_for_bootnodes(&mut self, now: Time, which: impl Fn(&Bootnode) -> bool) {
        let longest = self.config.refresh.retry_max;
        for bootnode in self.upkeep.bootnodes.iter_mut().filter(|bootnode| which(bootnode)) {
            bootnode.wait(now, longest);
        }
        self.arm_bootnodes();
    }

    /// Whether contacts at an address mean this node, or do not care who is there.
    pub(in crate::proto::engine) fn expects(&self, addr: SocketAddr, id: &NodeId) -> bool {
        self.upkeep.bootnodes.iter().any(|bootnode| bootnode.is_at(addr) && bootnode.means(id))
    }

    /// Whether contacts pin another node to an address than this one, and none is content with it.
    pub(in crate::proto::engine) fn is_ruled_out(&self, addr: SocketAddr, node: NodeRef) -> bool {
        self.upkeep.bootnodes.iter().any(|bootnode| bootnode.is_at(addr)) && !self.expects(addr, self.contacts.id(node))
    }

    /// A node has proved that it is at an address; `None` when the store has no room for it. The contacts that mean it
    /// have found it, the others have to wait. Says whether one of these hears of it for the first time.
    pub(in crate::proto::engine) fn on_address_answered(
        &mut self,
        now: Time,
        addr: SocketAddr,
        id: NodeId,
        node: Option<NodeRef>,
    ) -> bool {
        let longest = self.config.refresh.retry_max;
        let mut news = false;
        for bootnode in self.upkeep.bootnodes.iter_mut().filter(|bootnode| bootnode.is_at(addr)) {
            if !bootnode.means(&id) {
                news |= bootnode.other.replace(id) != Some(id);
                bootnode.wait(now, longest);
            } else if node.is_some() {
                bootnode.node = node;
            } else {
                bootnode.wait(now, longest);
            }
        }
        self.arm_bootnodes();
        news
    }

    /// Somebody new has answered, so the network is there: contacts that were silent are tried at once. A try takes a
    /// second, so however many bonds there are, none is pestered; where a wrong node answers at once, the shortest wait
    /// bounds it.
    pub(in crate::proto::engine) fn on_new_bond(&mut self, now: Time) {
        let shortest = self.config.refresh.retry_min;
        for bootnode in self.upkeep.bootnodes.iter_mut().filter(|bootnode| bootnode.next_try != Time::NEVER) {
            bootnode.next_try = bootnode.next_try.min(bootnode.last_try + shortest);
        }
        self.on_bootnodes_due(now);
    }

    /// The table is empty again, and with it what the contacts have done for it.
    pub(super) fn begin_anew(&mut self, now: Time) {
        let shortest = self.config.refresh.retry_min;
        for bootnode in &mut self.upkeep.bootnodes {
            bootnode.next_try = now;
            bootnode.backoff = shortest;
            bootnode.heard = false;
        }
        self.on_bootnodes_due(now);
    }

    fn arm_bootnodes(&mut self) {
        let next = self.upkeep.bootnodes.iter().map(|bootnode| bootnode.next_try).min();
        let next = next.filter(|next| *next != Time::NEVER && self.config.refresh.enabled);
        if next == self.upkeep.bootnodes_at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut self.upkeep.bootnodes_at, next) {
            self.timers.cancel(old, Timer::Bootnodes);
        }
        if let Some(at) = next {
            self.timers.set(at, Timer::Bootnodes);
        }
    }
}
