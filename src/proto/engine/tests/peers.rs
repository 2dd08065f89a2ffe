//! Hand-driven peers: a test says what they send, and has to claim whatever comes to them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::net::*;
use crate::proto::config::EXPIRATION_SECS;
use crate::proto::contacts::Contacts;
use crate::proto::engine::{Command, Dropped, Reply};
use crate::proto::identity::{Contact, Endpoint, NodeKey, PublicKey};
use crate::proto::wire::{
    self, EnrRequest, FindNode, Hash, Message, MessageKind, Neighbors, NodeEntry, Ping, Pong, WireEndpoint,
};

/// How long an expectation waits for a packet that must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Three peers of one bucket of the first engine, the first two of the same sixteenth of it.
pub(super) fn crowded_bucket(net: &mut Net) -> [usize; 3] {
    let place = |n: &u64| key(1).id().distance(&key(*n).id());
    let far: Vec<u64> = (2..200).filter(|n| place(n).log() == 256).collect();
    let range = place(&far[0]).subrange();
    let same = *far[1..].iter().find(|n| place(n).subrange() == range).unwrap();
    let other = *far.iter().find(|n| place(n).subrange() != range).unwrap();
    let mut at = 1;
    // Of the two the second has to yield, as the last in the order of the table.
    let mut two = [far[0], same];
    two.sort_by_key(|n| net.engine(0).table().rank(&key(*n).id()));
    [two[0], two[1], other].map(|n| {
        at += 1;
        net.peer(n, addr(&format!("10.0.0.{at}:30303")))
    })
}

impl Net {
    pub(super) fn peer(&mut self, n: u64, addr: SocketAddr) -> usize {
        let at = self.peers.len();
        self.peers.push(Peer { key: key(n), addr, inbox: VecDeque::new(), deaf: false });
        assert_eq!(self.parties.insert(addr, Party::Peer(at)), None, "the address is taken");
        at
    }

    pub(super) fn deafen(&mut self, peer: usize, deaf: bool) {
        self.peers[peer].deaf = deaf;
    }

    pub(super) fn peer_contact(&self, peer: usize) -> Contact {
        contact(&self.peers[peer].key, self.peers[peer].addr)
    }

    /// A time in the future, or by a negative number in the past, as packets state it.
    pub(super) fn unix(&self, offset: i64) -> u64 {
        (EPOCH + self.now.0 / 1_000_000).wrapping_add_signed(offset)
    }

    fn fresh(&self) -> u64 {
        self.unix(EXPIRATION_SECS as i64)
    }

    /// Sends anything from anywhere, signed with any key.
    pub(super) fn forge(&mut self, key: &NodeKey, from: SocketAddr, to: SocketAddr, message: &Message) -> Hash {
        let mut buffer = Vec::new();
        let hash = wire::seal(key, message, &mut buffer);
        self.send_raw(from, to, buffer.to_vec());
        hash
    }

    pub(super) fn send_raw(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.post(from, to, Payload::Bytes(bytes));
    }

    /// Sends a message to the first engine.
    pub(super) fn send(&mut self, peer: usize, message: &Message) -> Hash {
        let (key, from, to) = (self.peers[peer].key.clone(), self.peers[peer].addr, self.nodes[0].addr);
        self.forge(&key, from, to, message)
    }

    pub(super) fn make_ping(&self, from: SocketAddr) -> Message {
        let from = Endpoint::new(from.ip(), from.port(), 0).into();
        let to = Endpoint::new(self.nodes[0].addr.ip(), self.nodes[0].addr.port(), 0).into();
        Message::Ping(Ping { from, to, expiration: self.fresh(), enr_seq: None })
    }

    pub(super) fn make_pong(&self, ping_hash: Hash) -> Message {
        let to = WireEndpoint { ip: Some(self.nodes[0].addr.ip()), udp: self.nodes[0].addr.port(), tcp: 0 };
        Message::Pong(Pong { to, ping_hash, expiration: self.fresh(), enr_seq: None })
    }

    pub(super) fn make_find(&self, target: PublicKey) -> Message {
        Message::FindNode(FindNode { target, expiration: self.fresh() })
    }

    pub(super) fn make_neighbors(&self, nodes: &[Contact]) -> Message {
        let nodes = nodes.iter().map(|contact| NodeEntry::from(*contact)).collect();
        Message::Neighbors(Neighbors { nodes, expiration: self.fresh() })
    }

    pub(super) fn make_enr_request(&self) -> Message {
        Message::EnrRequest(EnrRequest { expiration: self.fresh() })
    }

    pub(super) fn send_ping(&mut self, peer: usize) -> Hash {
        let ping = self.make_ping(self.peers[peer].addr);
        self.send(peer, &ping)
    }

    pub(super) fn send_pong(&mut self, peer: usize, ping_hash: Hash) -> Hash {
        let pong = self.make_pong(ping_hash);
        self.send(peer, &pong)
    }

    pub(super) fn send_find(&mut self, peer: usize, target: PublicKey) -> Hash {
        let find = self.make_find(target);
        self.send(peer, &find)
    }

    pub(super) fn send_neighbors(&mut self, peer: usize, nodes: &[Contact]) -> Hash {
        let neighbors = self.make_neighbors(nodes);
        self.send(peer, &neighbors)
    }

    /// The next packet that comes to a peer, from the first engine.
    pub(super) fn expect(&mut self, peer: usize) -> Got {
        let end = self.now + PATIENCE;
        loop {
            if let Some(got) = self.peers[peer].inbox.pop_front() {
                assert_eq!(got.from, self.nodes[0].addr);
                assert_eq!(got.sender, *self.nodes[0].key.public_key());
                return got;
            }
            assert!(self.step(end), "nothing came");
        }
    }

    pub(super) fn expect_ping(&mut self, peer: usize) -> (Ping, Got) {
        let got = self.expect(peer);
        match &got.message {
            Message::Ping(ping) => (ping.clone(), got),
            other => panic!("PING was expected, and {other:?} came"),
        }
    }

    /// A PING that may let itself be waited for.
    pub(super) fn expect_late_ping(&mut self, peer: usize, within: Duration) -> (Ping, Got) {
        let end = self.now + within;
        while self.kinds(peer).is_empty() && self.step(end) {}
        self.expect_ping(peer)
    }

    /// The answer to a PING: right hash, true source, and a fresh expiration.
    pub(super) fn expect_pong(&mut self, peer: usize, ping_hash: Hash) -> Got {
        let got = self.expect(peer);
        let Message::Pong(pong) = &got.message else { panic!("PONG was expected, and {:?} came", got.message) };
        let addr = self.peers[peer].addr;
        assert_eq!(pong.ping_hash, ping_hash);
        assert_eq!((pong.to.ip, pong.to.udp), (Some(addr.ip()), addr.port()));
        assert!(pong.expiration > self.unix(10));
        got
    }

    pub(super) fn expect_find(&mut self, peer: usize) -> (FindNode, Got) {
        let got = self.expect(peer);
        match &got.message {
            Message::FindNode(find) => (find.clone(), got),
            other => panic!("FINDNODE was expected, and {other:?} came"),
        }
    }

    /// A FINDNODE that comes once more, since its answer is late, and a PING with it: how late it is, and the PING.
    pub(super) fn expect_late_find(&mut self, peer: usize, first: &Got) -> (Duration, Got) {
        let (_, again) = self.expect_find(peer);
        assert_eq!((&again.message, again.hash), (&first.message, first.hash), "the very same packet");
        let (_, ping) = self.expect_ping(peer);
        assert_eq!(ping.at, again.at);
        (again.at.since(first.at), ping)
    }

    pub(super) fn expect_enr_request(&mut self, peer: usize) -> Got {
        let got = self.expect(peer);
        assert_eq!(got.message.kind(), MessageKind::EnrRequest);
        got
    }

    pub(super) fn expect_neighbors(&mut self, peer: usize) -> Vec<Contact> {
        let got = self.expect(peer);
        let Message::Neighbors(neighbors) = got.message else {
            panic!("NEIGHBORS was expected, and {:?} came", got.message)
        };
        neighbors.nodes.iter().map(|node| node.contact().unwrap()).collect()
    }

    pub(super) fn expect_nothing(&mut self, peer: usize, duration: Duration) {
        self.run(duration);
        assert_eq!(self.kinds(peer), [], "nothing was expected");
    }

    /// The kinds of all packets that wait to be claimed.
    pub(super) fn kinds(&self, peer: usize) -> Vec<MessageKind> {
        self.peers[peer].inbox.iter().map(|got| got.message.kind()).collect()
    }

    pub(super) fn claim_all(&mut self, peer: usize) -> Vec<Got> {
        self.peers[peer].inbox.drain(..).collect()
    }

    /// Has all peers answer what they have got: PINGs with a PING and a PONG, FINDNODEs with those whom `named` tells of.
    pub(super) fn answer_inboxes(&mut self, mut named: impl FnMut(&Net, usize, PublicKey) -> Vec<usize>) {
        for peer in 0..self.peers.len() {
            for got in self.claim_all(peer) {
                match got.message {
                    Message::Ping(_) => {
                        self.send_ping(peer);
                        self.send_pong(peer, got.hash);
                    }
                    Message::FindNode(find) => {
                        let named = named(self, peer, find.target);
                        let named: Vec<Contact> = named.into_iter().map(|peer| self.peer_contact(peer)).collect();
                        self.send_neighbors(peer, &named);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The peer pings first; both prove their endpoints.
    pub(super) fn bond(&mut self, peer: usize) {
        let hash = self.send_ping(peer);
        let (_, ping) = self.expect_ping(peer);
        self.expect_pong(peer, hash);
        self.send_pong(peer, ping.hash);
        self.run(DELAY);
        assert!(self.is_bonded(peer));
    }

    /// The first engine pings the peer, which remembers it: it answers and does not ping back.
    pub(super) fn ping_by_hand(&mut self, peer: usize) {
        let id = self.command(0, Command::Ping(self.peer_contact(peer)));
        let (_, ping) = self.expect_ping(peer);
        self.send_pong(peer, ping.hash);
        assert!(matches!(self.reply(0, id), Reply::Ping(_)));
    }

    /// Whether a peer has proved its endpoint to the first engine.
    pub(super) fn is_bonded(&self, peer: usize) -> bool {
        self.has_proved(self.peer_contact(peer))
    }

    pub(super) fn has_proved(&self, contact: Contact) -> bool {
        let engine = self.engine(0);
        let node = engine.contacts().find(&contact.key, contact.endpoint.udp_addr());
        node.is_some_and(|node| engine.has_proved(self.now, node))
    }

    /// Whether a node is a member of an engine's table, where it is.
    pub(super) fn is_member(&self, at: usize, contact: &Contact) -> bool {
        let engine = self.engine(at);
        engine.table().entries().any(|(_, entry)| engine.contacts().contact(entry.node).key == contact.key)
    }

    /// How often the first engine has dropped a packet for a reason.
    pub(super) fn dropped(&self, reason: Dropped) -> u64 {
        self.engine(0).counters().dropped(reason)
    }
}
