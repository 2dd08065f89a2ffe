//! A node in its steady state answers without allocating.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use kadnode::Discovery;
use kadnode::proto::config::Config;
use kadnode::proto::identity::NodeKey;
use kadnode::proto::wire::{self, EnrRequest, FindNode, Message, Ping, Pong, WireEndpoint};
use tokio::runtime::{Builder, Runtime};

/// Answers over which allocations are counted.
const ANSWERS: usize = 500;

/// A client that allocates nothing either: it has its packets at hand.
struct Client {
    key: NodeKey,
    socket: UdpSocket,
}

impl Client {
    fn bind(n: u8) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        Self { key: NodeKey::from_bytes(&[n; 32]).expect("a key"), socket }
    }

    fn endpoint(&self) -> WireEndpoint {
        let addr = self.socket.local_addr().expect("it is bound");
        WireEndpoint { ip: Some(addr.ip()), udp: addr.port(), tcp: 0 }
    }

    fn sealed(&self, message: &Message) -> Vec<u8> {
        let mut packet = Vec::new();
        wire::seal(&self.key, message, &mut packet);
        packet
    }

    fn ping(&self) -> Message {
        let endpoint = self.endpoint();
        Message::Ping(Ping { from: endpoint, to: endpoint, expiration: expiration(), enr_seq: None })
    }

    /// The length of the next packet, while the node runs on the same thread.
    async fn recv(&self, buffer: &mut [u8]) -> usize {
        loop {
            match self.socket.recv(buffer) {
                Ok(len) => return len,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Pings, and answers the node's PING.
    async fn bond(&self, node: SocketAddr) {
        self.socket.send_to(&self.sealed(&self.ping()), node).expect("loopback takes it");
        let (mut buffer, mut answered, mut ponged) = ([0; 1280], false, false);
        while !(answered && ponged) {
            let len = self.recv(&mut buffer).await;
            let opened = wire::open(&buffer[..len]).expect("nodes send valid packets");
            match opened.message {
                Message::Pong(_) => answered = true,
                Message::Ping(_) => {
                    let pong =
                        Pong { to: self.endpoint(), ping_hash: opened.hash, expiration: expiration(), enr_seq: None };
                    self.socket.send_to(&self.sealed(&Message::Pong(pong)), node).expect("loopback takes it");
                    ponged = true;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends requests one after the other, each answered with so many packets.
    async fn ask(&self, node: SocketAddr, requests: &[Vec<u8>], packets: usize) {
        let mut buffer = [0; 1280];
        for request in requests {
            self.socket.send_to(request, node).expect("loopback takes it");
            for _ in 0..packets {
                self.recv(&mut buffer).await;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "packets bear the time of day")]
fn expiration() -> u64 {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    (unix + Duration::from_mins(10)).as_secs()
}

/// Allocations while these requests are answered, beyond those for the first of them.
fn count(runtime: &Runtime, client: &Client, node: SocketAddr, requests: &[Vec<u8>], packets: usize) -> u64 {
    let ask = |requests| allocation_counter::measure(|| runtime.block_on(client.ask(node, requests, packets)));
    // Until each buffer has the size that it needs.
    ask(requests);
    // The runtime allocates once each time that it is entered.
    ask(requests).count_total - ask(&requests[..1]).count_total
}

#[test]
fn answers_allocate_nothing() {
    // The node runs on this very thread, whose allocations are counted.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut config = Config::default();
    config.refresh.enabled = false;
    config.fetch_records = false;
    let builder = Discovery::builder(NodeKey::from_bytes(&[1; 32]).expect("a key")).config(config);
    let node = runtime.block_on(builder.listen((Ipv4Addr::LOCALHOST, 0).into()).start()).expect("it starts");
    let addr = node.local_addr();
    let client = Client::bind(2);
    let others: Vec<Client> = (3..60).map(Client::bind).collect();
    runtime.block_on(async {
        client.bond(addr).await;
        for other in &others {
            other.bond(addr).await;
        }
    });

    let pings = vec![client.sealed(&client.ping()); ANSWERS];
    let counted = count(&runtime, &client, addr, &pings, 1);
    assert_eq!(counted, 0, "allocations for {ANSWERS} PINGs");

    let find = |n| FindNode { target: kadnode::proto::identity::PublicKey([n as u8; 64]), expiration: expiration() };
    let finds: Vec<_> = (0..ANSWERS).map(|n| client.sealed(&Message::FindNode(find(n)))).collect();
    let (mut buffer, mut named) = ([0; 1280], Vec::new());
    runtime.block_on(async {
        client.socket.send_to(&finds[0], addr).expect("loopback takes it");
        for _ in 0..2 {
            let len = client.recv(&mut buffer).await;
            let message = wire::open(&buffer[..len]).expect("a valid packet").message;
            let Message::Neighbors(neighbors) = message else { panic!("{message:?}") };
            named.push(neighbors.nodes.len());
        }
    });
    assert_eq!(named, [12, 4]);
    let counted = count(&runtime, &client, addr, &finds, 2);
    assert_eq!(counted, 0, "allocations for {ANSWERS} FINDNODEs");

    let records = vec![client.sealed(&Message::EnrRequest(EnrRequest { expiration: expiration() })); ANSWERS];
    let counted = count(&runtime, &client, addr, &records, 1);
    assert_eq!(counted, 0, "allocations for {ANSWERS} ENRREQUESTs");
}
