//! What comes in: screening before the sender is known, and the six messages after.

use std::net::SocketAddr;
use std::sync::Arc;

use super::requests::Asked;
use super::{Dropped, Engine, Event, Reply};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::engine::errands::Goal;
use crate::proto::engine::output::CommandError;
use crate::proto::identity::{Contact, Endpoint, Record, may_tell};
use crate::proto::table::Closest;
use crate::proto::time::Time;
use crate::proto::wire::{
    EnrRequest, EnrResponse, FindNode, Framed, Hash, Message, MessageKind, Neighbors, NodeEntry, OpenError, Opened,
    Ping, Pong, Unverified, WireEndpoint,
};

/// Nodes at one address that are asked for their proofs before a packet from there is opened: a few microseconds.
pub(super) const MAX_NEIGHBOURS: usize = 16;

/// A message with what the packet around it tells.
pub(super) struct From {
    pub(super) addr: SocketAddr,
    pub(super) contact: Contact,
    hash: Hash,
}

impl<C: Contacts> Engine<C> {
    /// Looks at a packet before its sender is known, and says whether finding that out is worth its cost.
    ///
    /// # Errors
    /// Why the packet was dropped, which is counted too.
    pub fn screen(&mut self, now: Time, from: SocketAddr, packet: Framed<'_>) -> Result<Unverified, Dropped> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        self.read_if_wanted(now, from, &packet)
            .map(|message| packet.claim(message))
            .map_err(|reason| self.count_dropped(reason))
    }

    fn read_if_wanted(&self, now: Time, from: SocketAddr, packet: &Framed<'_>) -> Result<Message, Dropped> {
        let mut requests = self.requests.at(from);
        // The longest packets are not even read unless somebody waits for them.
        if packet.kind() == MessageKind::Neighbors
            && !requests.any(|(_, request)| matches!(request.asked, Asked::FindNode { .. }))
        {
            return Err(Dropped::Unsolicited);
        }
        let message = packet.message()?;
        let awaited = match &message {
            message if message.expiration().is_some_and(|at| self.has_expired(now, at)) => match message {
                Message::Pong(pong) if self.wants_expired(from, pong) => true,
                _ => return Err(Dropped::Expired),
            },
            Message::Pong(pong) => self.awaits_hash(from, &pong.ping_hash),
            Message::EnrResponse(response) => self.awaits_hash(from, &response.request_hash),
            Message::FindNode(_) | Message::EnrRequest(_) if !self.may_be_proved(now, from) => {
                return Err(Dropped::Unproved);
            }
            _ => true,
        };
        if awaited { Ok(message) } else { Err(Dropped::Unsolicited) }
    }

    /// Whether a node at this address may have proved its endpoint, by the time that its packet is handled: the PONG may be
    /// right before it.
    fn may_be_proved(&self, now: Time, addr: SocketAddr) -> bool {
        // Where a crowd lives, finding out who it is is cheaper than asking about each.
        let mut known = self.contacts.at(addr).take(MAX_NEIGHBOURS + 1);
        self.requests.at(addr).any(|(_, request)| matches!(request.asked, Asked::Ping { .. }))
            || self.knocks.is_at(addr)
            || known.by_ref().take(MAX_NEIGHBOURS).any(|node| self.has_proved(now, node))
            || known.next().is_some()
    }

    /// Counts a datagram that no packet, or no sender, could be made of.
    pub fn handle_unreadable(&mut self, error: OpenError) -> Dropped {
        self.count_dropped(error.into())
    }

    /// Takes in a message that has been opened, after [`Engine::screen`] where there was something to screen.
    ///
    /// # Errors
    /// Why it was dropped, which is counted too.
    pub fn handle_message(&mut self, now: Time, from: SocketAddr, opened: Opened) -> Result<(), Dropped> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if opened.sender == *self.local_key() {
            self.on_knock_returned(now, from, &opened.hash);
            return Err(self.count_dropped(Dropped::FromSelf));
        }
        // Packets wait between screening and here when other threads open them; a message may come with none at all.
        if opened.message.expiration().is_some_and(|at| self.has_expired(now, at)) {
            if let Message::Pong(pong) = &opened.message {
                self.on_expired_pong(now, from, &opened.sender, pong);
            }
            return Err(self.count_dropped(Dropped::Expired));
        }
        let kind = opened.message.kind();
        let endpoint = Endpoint::new(from.ip(), from.port(), 0);
        let who = From { addr: from, contact: Contact { key: opened.sender, endpoint }, hash: opened.hash };
        let result = match opened.message {
            Message::Ping(ping) => self.on_ping(now, who, &ping),
            Message::Pong(pong) => self.on_pong(now, &who, &pong),
            Message::FindNode(find) => self.on_find_node(now, &who, &find),
            Message::Neighbors(neighbors) => self.on_neighbors(now, &who, &neighbors),
            Message::EnrRequest(request) => self.on_enr_request(now, &who, &request),
            Message::EnrResponse(response) => self.on_enr_response(now, &who, &response),
        };
        match result {
            Ok(()) => self.counters.count_received(kind),
            Err(reason) => {
                self.count_dropped(reason);
            }
        }
        self.settle(now);
        result
    }

    fn on_ping(&mut self, now: Time, mut from: From, ping: &Ping) -> Result<(), Dropped> {
        from.contact.endpoint.tcp = ping.from.tcp;
        let node = self.contacts.intern(&from.contact);
        if node.is_some_and(|node| self.has_proved(now, node)) {
            self.note_expiration(now, from.addr.ip(), ping.expiration);
        }
        // Our own PING goes first: some clients ask as soon as they have our PONG, and answer our PING after that. If the
        // PONG came first, we would have to turn down what they ask.
        if let Some(node) = node {
            self.ping_back(now, node, from.addr);
        }
        let pong = Pong {
            to: WireEndpoint { ip: Some(from.addr.ip()), udp: from.addr.port(), tcp: ping.from.tcp },
            ping_hash: from.hash,
            expiration: self.expiration(now),
            enr_seq: self.local.seq(),
        };
        self.transmit(from.addr, Message::Pong(pong), None);
        if let Some(node) = node {
            self.on_endorsed(now, node, from.addr);
            self.on_record_seq(now, node, ping.enr_seq);
        }
        Ok(())
    }

    fn on_pong(&mut self, now: Time, from: &From, pong: &Pong) -> Result<(), Dropped> {
        let awaited = self
            .requests
            .at(from.addr)
            .find(|(_, r)| matches!(r.asked, Asked::Ping { .. }) && r.hash == Some(pong.ping_hash))
            .map(|(id, request)| (id, request.node));
        let Some((id, node)) = awaited else {
            let knocked = self.knocks.awaits(from.addr, &pong.ping_hash);
            return if knocked { self.on_knock_answered(now, from, pong) } else { Err(Dropped::Unsolicited) };
        };
        if *self.contacts.key(node) != from.contact.key {
            // The hash was right, so this is no forger: another node lives at the address now.
            self.fail_request(now, id, CommandError::OtherNode);
            return Err(Dropped::WrongSender);
        }
        self.on_proved(now, id, pong);
        Ok(())
    }

    fn on_find_node(&mut self, now: Time, from: &From, find: &FindNode) -> Result<(), Dropped> {
        let asker = self.proved_sender(now, from)?;
        let target = find.target.node_id();
        let mut closest = Closest::new();
        let ip = from.addr.ip();
        let contacts = &self.contacts;
        // Under whatever address the table has it.
        let itself = self.table.find(contacts.id(asker), contacts).map(|entry| entry.node);
        self.table.closest(
            &target,
            contacts,
            self.config.table.k,
            |entry| {
                entry.is_live()
                    && entry.proved.within(self.config.proof_lasts, now)
                    && may_tell(contacts.endpoint(entry.node).ip, ip)
                    && Some(entry.node) != itself
            },
            &mut closest,
        );
        let expiration = self.expiration(now);
        let mut packets = closest.chunks(Neighbors::MAX_SENT).peekable();
        let answer = |engine: &mut Self, found: &[NodeRef]| {
            let mut nodes = engine.spare.pop().unwrap_or_default();
            nodes.extend(found.iter().map(|&node| NodeEntry::from(engine.contacts.contact(node))));
            engine.transmit(from.addr, Message::Neighbors(Neighbors { nodes, expiration }), None);
        };
        // Whoever asks waits for an answer: an empty table gives an empty one.
        if packets.peek().is_none() {
            answer(self, &[]);
        }
        for nodes in packets {
            answer(self, nodes);
        }
        Ok(())
    }

    fn on_neighbors(&mut self, now: Time, from: &From, neighbors: &Neighbors) -> Result<(), Dropped> {
        let mut awaited = false;
        let mut found = None;
        for (id, request) in self.requests.at(from.addr) {
            if let Asked::FindNode { errand, received, begun, first } = request.asked {
                awaited = true;
                if *self.contacts.key(request.node) == from.contact.key {
                    found = Some((id, errand, received, begun.then_some(first)));
                    break;
                }
            }
        }
        let Some((id, errand, received, before)) = found else {
            return Err(if awaited { Dropped::WrongSender } else { Dropped::Unsolicited });
        };
        if self.errands.get(errand).is_none() {
            // Its lookup is over.
            if let Some(request) = self.take_request(id) {
                self.counters.answered += 1;
                self.on_find_outlived(now, request.node, true);
            }
            return Ok(());
        }
        let starts =
            neighbors.nodes.first().and_then(|node| node.key.0.first_chunk()).map_or(0, |key| u64::from_be_bytes(*key));
        if before == Some(starts) {
            // A copy, or the answer to the question's copy.
            return Err(Dropped::Unsolicited);
        }
        let wanted = self.config.table.k.saturating_sub(usize::from(received));
        // At most 16, so it fits.
        let taken = neighbors.nodes.len().min(wanted) as u8;
        self.on_nodes(now, errand, from.addr.ip(), &neighbors.nodes[..usize::from(taken)]);
        let wait = self.second_packet_wait(now, id);
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let Asked::FindNode { received, begun, first: remembered, .. } = &mut request.asked else { return Ok(()) };
        *received += taken;
        let (full, first) = (usize::from(*received) >= self.config.table.k, !*begun);
        *begun = true;
        if first {
            *remembered = starts;
            if request.repeated {
                self.round_trip.back_off();
            } else {
                self.round_trip.measure(now.since(request.sent));
            }
        }
        if full {
            self.complete_find_node(now, id);
        } else if first {
            // The rest, if there is any, is right behind.
            self.expire_at(id, now + wait);
        }
        Ok(())
    }

    fn on_enr_request(&mut self, now: Time, from: &From, _request: &EnrRequest) -> Result<(), Dropped> {
        self.proved_sender(now, from)?;
        if let Some(record) = &self.local.record {
            let record = record.as_bytes().clone();
            self.transmit(from.addr, Message::EnrResponse(EnrResponse { request_hash: from.hash, record }), None);
        }
        Ok(())
    }

    fn on_enr_response(&mut self, now: Time, from: &From, response: &EnrResponse) -> Result<(), Dropped> {
        let awaited = self
            .requests
            .at(from.addr)
            .find(|(_, r)| matches!(r.asked, Asked::Record { .. }) && r.hash == Some(response.request_hash))
            .map(|(id, request)| (id, request.node));
        let Some((id, node)) = awaited else { return Err(Dropped::Unsolicited) };
        if *self.contacts.key(node) != from.contact.key {
            self.fail_request(now, id, CommandError::OtherNode);
            return Err(Dropped::WrongSender);
        }
        let record = match Record::decode(&response.record) {
            Ok(record) if *record.public_key() == from.contact.key => Arc::new(record),
            _ => {
                self.fail_request(now, id, CommandError::BadRecord);
                return Err(Dropped::BadRecord);
            }
        };
        let errand = self.take_request(id).and_then(|request| match request.asked {
            Asked::Record { errand } => self.errands.remove(errand),
            _ => None,
        });
        self.counters.answered += 1;
        self.on_served(now, node);
        if let Some(Goal::Record(Some(command))) = errand.map(|errand| errand.goal) {
            self.reply(command, Reply::Record(record.clone()));
        }
        self.keep_record(now, node, record);
        Ok(())
    }

    /// Keeps the record of a member when it is news, and follows it to a new endpoint.
    fn keep_record(&mut self, now: Time, node: NodeRef, record: Arc<Record>) {
        if self.table.get(node, &self.contacts).is_none()
            || self.records.get(&node).is_some_and(|old| old.seq() >= record.seq())
        {
            return;
        }
        self.records.insert(node, record.clone());
        let here = self.contacts.endpoint(node);
        if let Some(contact) = record.contact()
            && contact.endpoint.udp_addr() != here.udp_addr()
        {
            self.hint(now, &contact, here.ip);
        }
        self.emit(Event::RecordUpdated(record));
    }

    /// The sender, if it has proved its endpoint to us.
    fn proved_sender(&self, now: Time, from: &From) -> Result<NodeRef, Dropped> {
        match self.contacts.find(&from.contact.key, from.addr) {
            Some(node) if self.has_proved(now, node) => Ok(node),
            _ => Err(Dropped::Unproved),
        }
    }

    fn awaits_hash(&self, from: SocketAddr, hash: &Hash) -> bool {
        self.requests.at(from).any(|(_, request)| request.hash.as_ref() == Some(hash)) || self.knocks.awaits(from, hash)
    }

    /// Expirations are unsigned on the wire; geth's suite sends negative ones, which are in the past.
    fn has_expired(&self, now: Time, expiration: u64) -> bool {
        let expiration = i64::try_from(expiration).unwrap_or(-1);
        i64::try_from(self.unix_secs(now)).is_ok_and(|unix| expiration < unix)
    }
}
