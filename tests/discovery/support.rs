//! What the tests of this folder share: nodes, and a peer driven by hand.

pub(crate) use std::collections::BTreeSet;
pub(crate) use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
pub(crate) use std::sync::{Arc, Mutex};
pub(crate) use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use bytes::Bytes;
pub(crate) use kadnode::bootstrap::Bootnode;
pub(crate) use kadnode::proto::config::Config;
pub(crate) use kadnode::proto::engine::{CommandError, Dropped, Event, Origin, Removal};
pub(crate) use kadnode::proto::identity::{
    Contact, Endpoint, Enode, Host, NodeKey, PublicKey, Record, RecordContent, RecordError,
};
pub(crate) use kadnode::proto::wire::{self, Hash, Message, Neighbors, NodeEntry, Opened, Ping, Pong, WireEndpoint};
pub(crate) use kadnode::{Advertise, Builder, Discovery, Events, Lagged, RequestError, StartError};
pub(crate) use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
pub(crate) use tokio::net::UdpSocket;
pub(crate) use tokio::task::JoinSet;

pub(crate) use crate::quick::quick;

/// Longer than anything here takes on a busy machine; what hangs fails by it.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Awaits what has to happen.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it happens")
}

pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number; 32]).expect("a valid key")
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(crate) fn builder(number: u8) -> Builder {
    Discovery::builder(key(number)).listen(loopback(0))
}

pub(crate) async fn start(number: u8) -> Discovery {
    builder(number).start().await.expect("a node starts on loopback")
}

pub(crate) fn enode(node: &Discovery) -> Bootnode {
    Bootnode::Enode(node.local_enode())
}

pub(crate) fn contact(node: &Discovery) -> Contact {
    node.local_enode().contact().expect("the host is an address")
}

/// The first event, from now on, that `wanted` makes something of.
pub(crate) async fn event<T>(events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    soon(async {
        loop {
            let event = events.next().await.expect("the node runs").expect("the reader keeps up");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    })
    .await
}

pub(crate) async fn added(events: &mut Events, key: PublicKey) {
    event(events, |event| matches!(event, Event::NodeAdded(contact) if contact.key == key).then_some(())).await;
}

#[expect(clippy::disallowed_methods, reason = "real packets carry the real time")]
pub(crate) fn expiration() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 20
}

/// A peer that does only what it is told.
pub(crate) struct Peer {
    pub(crate) key: NodeKey,
    pub(crate) socket: UdpSocket,
}

impl Peer {
    pub(crate) async fn bind(number: u8, ip: impl Into<IpAddr>) -> Self {
        Self { key: key(number), socket: UdpSocket::bind((ip.into(), 0)).await.expect("a free port") }
    }

    /// A peer that, by the kernel's doing, hears nobody but `node`.
    pub(crate) async fn connect(number: u8, ip: impl Into<IpAddr>, node: SocketAddr) -> Self {
        let peer = Self::bind(number, ip).await;
        peer.socket.connect(node).await.expect("on this host");
        peer
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    pub(crate) fn contact(&self) -> Contact {
        Contact { key: *self.key.public_key(), endpoint: Endpoint::new(self.addr().ip(), self.addr().port(), 0) }
    }

    pub(crate) fn seal(&self, message: &Message) -> (Hash, Vec<u8>) {
        let mut packet = Vec::new();
        let hash = wire::seal(&self.key, message, &mut packet);
        (hash, packet)
    }

    pub(crate) fn ping(&self) -> Message {
        let from = WireEndpoint::from(self.contact().endpoint);
        Message::Ping(Ping { from, to: from, expiration: expiration(), enr_seq: None })
    }

    pub(crate) async fn send(&self, to: SocketAddr, message: &Message) -> Hash {
        let (hash, packet) = self.seal(message);
        self.socket.send_to(&packet, to).await.expect("loopback takes it");
        hash
    }

    /// The next packet.
    pub(crate) async fn recv(&self) -> (SocketAddr, Opened) {
        let mut buffer = [0; 2048];
        let (len, from) = soon(self.socket.recv_from(&mut buffer)).await.expect("it receives");
        (from, wire::open(&buffer[..len]).expect("nodes send valid packets"))
    }

    /// The next packet that `wanted` makes something of; PINGs in between are answered.
    pub(crate) async fn expect<T>(&self, mut wanted: impl FnMut(&Opened) -> Option<T>) -> T {
        loop {
            let (from, opened) = self.recv().await;
            if let Some(found) = wanted(&opened) {
                return found;
            }
            if matches!(opened.message, Message::Ping(_)) {
                self.send(from, &pong(from, opened.hash)).await;
            }
        }
    }

    pub(crate) async fn expect_pong(&self, hash: Hash) -> Pong {
        self.expect(|opened| match &opened.message {
            Message::Pong(pong) if pong.ping_hash == hash => Some(pong.clone()),
            _ => None,
        })
        .await
    }
}

pub(crate) fn pong(to: SocketAddr, ping_hash: Hash) -> Message {
    let to = WireEndpoint { ip: Some(to.ip()), udp: to.port(), tcp: 0 };
    Message::Pong(Pong { to, ping_hash, expiration: expiration(), enr_seq: None })
}

// ---- Questions ----
