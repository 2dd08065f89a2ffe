//! What leaves: messages to one destination, sealed and sent in their order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arrayvec::ArrayVec;
use tracing::{debug, trace};

use super::socket::Socket;
use crate::proto::engine::{RequestId, Transmit};
use crate::proto::identity::NodeKey;
use crate::proto::wire::{Hash, Message, Sealer};

/// Messages in one parcel: a PING and a PONG, two NEIGHBORS, or what a peer gets for several of its packets.
const MAX_LETTERS: usize = 4;

/// Parcels that are sealed before the first of them is sent: signing runs through its code undisturbed, and a receiver that
/// shares the machine wakes once for several. It keeps an answer back for a tenth of a millisecond at most.
const MAX_SEALED: usize = 8;

/// Messages for one destination.
#[derive(Debug)]
pub(super) struct Parcel {
    to: SocketAddr,
    /// The local address to send from, where the socket has several.
    from: Option<IpAddr>,
    letters: ArrayVec<Letter, MAX_LETTERS>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) message: Message,
    pub(super) request: Option<RequestId>,
    /// Known when it is sealed.
    pub(super) hash: Hash,
}

/// Parcels that wait to be sealed, in the order of their first letters.
#[derive(Debug, Default)]
pub(super) struct Outbox(Vec<Parcel>);

impl Outbox {
    /// Adds a message behind the others to its destination, so that none overtakes another.
    pub(super) fn add(&mut self, transmit: Transmit, from: Option<IpAddr>) {
        let Transmit { to, message, request } = transmit;
        let letter = Letter { message, request, hash: [0; 32] };
        let last = self.0.iter_mut().rev().find(|parcel| parcel.to == to);
        match last {
            Some(parcel) if parcel.from == from && !parcel.letters.is_full() => parcel.letters.push(letter),
            _ => self.0.push(Parcel { to, from, letters: ArrayVec::from_iter([letter]) }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = Parcel> {
        self.0.drain(..)
    }
}

impl Parcel {
    pub(super) fn letters(self) -> impl Iterator<Item = Letter> {
        self.letters.into_iter()
    }
}

/// Seals and sends; each thread has its own.
pub(super) struct Sender {
    key: Arc<NodeKey>,
    socket: Arc<Socket>,
    sealer: Sealer,
    /// What has been sealed and not been sent.
    sealed: ArrayVec<Sealed, MAX_SEALED>,
    packets: Vec<u8>,
}

/// Packets for one destination, which follow one another in the sender's buffer.
struct Sealed {
    to: SocketAddr,
    from: Option<IpAddr>,
    lens: ArrayVec<usize, MAX_LETTERS>,
}

impl Sender {
    pub(super) fn new(key: Arc<NodeKey>, socket: Arc<Socket>) -> Self {
        Self { key, socket, sealer: Sealer::default(), sealed: ArrayVec::new(), packets: Vec::new() }
    }

    /// Seals all letters. They are sent with those of other parcels, at the latest by [`Sender::flush`].
    pub(super) fn seal(&mut self, parcel: &mut Parcel) {
        let mut lens = ArrayVec::new();
        for letter in &mut parcel.letters {
            let start = self.packets.len();
            letter.hash = self.sealer.seal(&self.key, &letter.message, &mut self.packets);
            lens.push(self.packets.len() - start);
        }
        self.sealed.push(Sealed { to: parcel.to, from: parcel.from, lens });
        if self.sealed.is_full() {
            self.flush();
        }
    }

    /// Sends what has been sealed, each parcel with one call where the system can.
    pub(super) fn flush(&mut self) {
        let mut rest = &self.packets[..];
        for Sealed { to, from, lens } in self.sealed.drain(..) {
            let packets;
            (packets, rest) = rest.split_at(lens.iter().sum());
            send(&self.socket, to, from, packets, &lens);
        }
        self.packets.clear();
    }

    /// Another one for another thread.
    pub(super) fn another(&self) -> Self {
        Self::new(self.key.clone(), self.socket.clone())
    }
}

/// Sends datagrams of these lengths, which lie one behind the other.
pub(super) fn send(socket: &Socket, to: SocketAddr, from: Option<IpAddr>, packets: &[u8], lens: &[usize]) {
    if !socket.reaches(to) {
        trace!(%to, "not sent: the socket is of the other address family");
        return;
    }
    // What a segment holds is what the first one does; only the last may be shorter.
    let even = lens.split_last().is_some_and(|(last, others)| {
        others.iter().all(|len| len == &lens[0]) && *last <= lens[0] && lens.len() <= socket.max_segments()
    });
    if lens.len() > 1 && even && socket.send(to, from, packets, Some(lens[0])).is_ok() {
        return;
    }
    let mut rest = packets;
    for &len in lens {
        let packet;
        (packet, rest) = rest.split_at(len);
        if let Err(error) = socket.send(to, from, packet, None) {
            // No route, a firewall, a full queue: to the engine it is a lost packet. Waiting would stop the loop.
            debug!(%to, %error, "sending failed");
        }
    }
}
