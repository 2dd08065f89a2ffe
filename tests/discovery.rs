//! A node on real loopback sockets, through its public handle, with other nodes and with peers that are driven by hand.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kadnode::bootstrap::Bootnode;
use kadnode::proto::config::Config;
use kadnode::proto::engine::{CommandError, Dropped, Event, Origin, Removal};
use kadnode::proto::identity::{
    Contact, Endpoint, Enode, Host, NodeKey, PublicKey, Record, RecordContent, RecordError,
};
use kadnode::proto::wire::{self, Hash, Message, Neighbors, NodeEntry, Opened, Ping, Pong, WireEndpoint};
use kadnode::{Advertise, Builder, Discovery, Events, Lagged, RequestError, StartError};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Longer than anything here takes on a busy machine; what hangs fails by it.
const LIMIT: Duration = Duration::from_secs(30);

/// Awaits what has to happen.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it happens")
}

fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[number; 32]).expect("a valid key")
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn builder(number: u8) -> Builder {
    Discovery::builder(key(number)).listen(loopback(0))
}

async fn start(number: u8) -> Discovery {
    builder(number).start().await.expect("a node starts on loopback")
}

fn enode(node: &Discovery) -> Bootnode {
    Bootnode::Enode(node.local_enode())
}

fn contact(node: &Discovery) -> Contact {
    node.local_enode().contact().expect("the host is an address")
}

/// Checks that follow one another quickly, for tests that wait for what they show.
fn quick() -> Config {
    let mut config = Config::default();
    config.requests.timeout = Duration::from_millis(500);
    config.table.first_check = Duration::from_millis(100);
    config.table.min_check = Duration::from_millis(200);
    config.table.max_check = Duration::from_millis(400);
    config.table.check_pace = Duration::from_millis(50);
    config.table.retry_check = Duration::from_millis(50);
    config
}

/// The first event, from now on, that `wanted` makes something of.
async fn event<T>(events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
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

async fn added(events: &mut Events, key: PublicKey) {
    event(events, |event| matches!(event, Event::NodeAdded(contact) if contact.key == key).then_some(())).await;
}

#[expect(clippy::disallowed_methods, reason = "real packets carry the real time")]
fn expiration() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 20
}

/// A peer that does only what it is told.
struct Peer {
    key: NodeKey,
    socket: UdpSocket,
}

impl Peer {
    async fn bind(number: u8, ip: impl Into<IpAddr>) -> Self {
        Self { key: key(number), socket: UdpSocket::bind((ip.into(), 0)).await.expect("a free port") }
    }

    /// A peer that, by the kernel's doing, hears nobody but `node`.
    async fn connect(number: u8, ip: impl Into<IpAddr>, node: SocketAddr) -> Self {
        let peer = Self::bind(number, ip).await;
        peer.socket.connect(node).await.expect("on this host");
        peer
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    fn contact(&self) -> Contact {
        Contact { key: *self.key.public_key(), endpoint: Endpoint::new(self.addr().ip(), self.addr().port(), 0) }
    }

    fn seal(&self, message: &Message) -> (Hash, BytesMut) {
        let mut packet = BytesMut::new();
        let hash = wire::seal(&self.key, message, &mut packet);
        (hash, packet)
    }

    fn ping(&self) -> Message {
        let from = WireEndpoint::from(self.contact().endpoint);
        Message::Ping(Ping { from, to: from, expiration: expiration(), enr_seq: None })
    }

    async fn send(&self, to: SocketAddr, message: &Message) -> Hash {
        let (hash, packet) = self.seal(message);
        self.socket.send_to(&packet, to).await.expect("loopback takes it");
        hash
    }

    /// The next packet.
    async fn recv(&self) -> (SocketAddr, Opened) {
        let mut buffer = [0; 2048];
        let (len, from) = soon(self.socket.recv_from(&mut buffer)).await.expect("it receives");
        (from, wire::open(&buffer[..len]).expect("nodes send valid packets"))
    }

    /// The next packet that `wanted` makes something of; PINGs in between are answered.
    async fn expect<T>(&self, mut wanted: impl FnMut(&Opened) -> Option<T>) -> T {
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

    async fn expect_pong(&self, hash: Hash) -> Pong {
        self.expect(|opened| match &opened.message {
            Message::Pong(pong) if pong.ping_hash == hash => Some(pong.clone()),
            _ => None,
        })
        .await
    }
}

fn pong(to: SocketAddr, ping_hash: Hash) -> Message {
    let to = WireEndpoint { ip: Some(to.ip()), udp: to.port(), tcp: 0 };
    Message::Pong(Pong { to, ping_hash, expiration: expiration(), enr_seq: None })
}

// ---- Questions ----

#[tokio::test]
async fn the_handle_answers_every_question() {
    let hub = start(1).await;
    let mut hub_sees = hub.events();
    let (left, right) = (
        builder(2).bootnodes([enode(&hub)]).start().await.expect("it starts"),
        builder(3).bootnodes([enode(&hub)]).start().await.expect("it starts"),
    );
    let keys: Vec<PublicKey> = [&hub, &left, &right].map(|node| node.local_enode().key).to_vec();
    let mut missing: BTreeSet<PublicKey> = keys[1..].iter().copied().collect();
    event(&mut hub_sees, |event| {
        if let Event::NodeAdded(contact) = event {
            missing.remove(&contact.key);
        }
        missing.is_empty().then_some(())
    })
    .await;

    let pinged = soon(left.ping(contact(&hub))).await.expect("it answers");
    assert_eq!(pinged.contact.key, keys[0]);
    assert_eq!((pinged.enr_seq, pinged.our_address), (Some(1), Some(Ipv4Addr::LOCALHOST.into())));

    assert_eq!(soon(left.request_enr(contact(&hub))).await.expect("it answers"), hub.local_record());

    // They know of each other by the hub alone.
    assert_eq!(soon(left.resolve(keys[2])).await.expect("it is found"), right.local_record());

    let report = soon(left.lookup(keys[2])).await.expect("a lookup");
    assert_eq!(report.target, keys[2]);
    let mut nearest: Vec<PublicKey> = vec![keys[0], keys[2]];
    nearest.sort_by_key(|key| key.node_id().distance(&keys[2].node_id()));
    assert_eq!(report.closest.iter().map(|found| found.contact.key).collect::<Vec<_>>(), nearest);
    assert!(report.closest.iter().all(|found| found.answered) && report.queries == 2, "{report:?}");

    let report = soon(left.find(keys[0], true)).await.expect("a lookup");
    assert!(report.closest.iter().any(|found| found.contact.key == keys[0] && found.answered));

    let snapshot = soon(left.snapshot()).await.expect("it runs");
    let node = snapshot.nodes.iter().find(|node| node.contact.key == keys[0]).expect("the hub is a member");
    assert_eq!((node.contact, node.id), (contact(&hub), keys[0].node_id()));
    assert_eq!(node.log_distance, keys[1].node_id().log_distance(&keys[0].node_id()));
    assert!(node.live && !node.replacement && node.rtt > Duration::ZERO && node.last_seen < LIMIT, "{node:?}");

    let stats = soon(left.stats()).await.expect("it runs");
    assert_eq!((stats.members, stats.live, stats.bonded, stats.bootnodes), (2, 2, 2, 1));
    assert!(stats.lookups >= 3 && stats.packets_in > 0 && stats.packets_out > 0);
    assert_eq!(stats.packets_out, stats.counters.total_sent());
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let node = start(1).await;
    let silent = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let other = start(3).await;

    let nobody = *key(9).public_key();
    assert_eq!(soon(node.resolve(nobody)).await, Err(RequestError::NotFound { queries: 0 }));
    assert_eq!(soon(node.ping(contact(&node))).await, Err(CommandError::Itself.into()));
    assert_eq!(soon(node.request_enr(contact(&node))).await, Err(CommandError::Itself.into()));
    let nowhere = Contact { key: nobody, endpoint: Endpoint::new(Ipv4Addr::LOCALHOST.into(), 0, 0) };
    assert_eq!(soon(node.ping(nowhere)).await, Err(CommandError::Unreachable.into()));
    assert_eq!(soon(node.ping(silent.contact())).await, Err(CommandError::Timeout.into()));
    assert_eq!(soon(node.request_enr(silent.contact())).await, Err(CommandError::Timeout.into()));
    let taken = Contact { key: nobody, endpoint: contact(&other).endpoint };
    assert_eq!(soon(node.ping(taken)).await, Err(CommandError::OtherNode.into()));
    // A socket for IPv4 cannot send to IPv6.
    let v6 = Contact { key: nobody, endpoint: Endpoint::new(Ipv6Addr::LOCALHOST.into(), 30303, 0) };
    assert_eq!(soon(node.ping(v6)).await, Err(CommandError::OtherFamily.into()));

    let error = builder(4).listen(node.local_addr()).start().await.expect_err("the port is in use");
    assert!(matches!(error, StartError::Bind { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on UDP {}: the port is in use by another program; choose another one, or port 0 for any",
            node.local_addr()
        )
    );
    let error = builder(4).listen("192.0.2.1:0".parse().unwrap()).start().await.expect_err("not our address");
    assert_eq!(error.to_string(), "cannot listen on UDP 192.0.2.1:0: this host has no such address");
    let mut config = Config::default();
    config.table.k = 0;
    let error = builder(4).config(config).start().await.expect_err("impossible");
    assert_eq!(error.to_string(), "the setting table.k is 0; it has to be at least 1");
}

// ---- The record ----

#[tokio::test]
async fn the_record_says_what_was_configured() {
    let node = start(1).await;
    let port = node.local_addr().port();
    let endpoint = Endpoint { ip: Ipv4Addr::LOCALHOST.into(), udp: port, tcp: 0 };
    assert_eq!((node.local_record().seq(), node.local_record().endpoint()), (1, Some(endpoint)));
    // Without a TCP port the UDP port stands in its place.
    let url = Enode { key: *key(1).public_key(), host: Host::Ip(Ipv4Addr::LOCALHOST.into()), tcp: port, udp: port };
    assert_eq!(node.local_enode(), url);

    let node = builder(2)
        .tcp(7)
        .advertise(Advertise { ip: [9, 9, 9, 9].into(), udp: Some(5), tcp: None })
        .advertise(Advertise { ip: "2a00::1".parse().unwrap(), udp: None, tcp: Some(8) })
        .record_pair("snap", [0xc0])
        .record_seq(17)
        .start()
        .await
        .expect("it starts");
    let record = node.local_record();
    assert_eq!(record.seq(), 17);
    assert_eq!(record.endpoint_v4(), Some(Endpoint { ip: [9, 9, 9, 9].into(), udp: 5, tcp: 7 }));
    let udp = node.local_addr().port();
    assert_eq!(record.endpoint_v6(), Some(Endpoint { ip: "2a00::1".parse().unwrap(), udp, tcp: 8 }));
    assert!(record.pairs().any(|pair| pair == (b"snap".as_slice(), [0xc0].as_slice())));
    assert_eq!(node.local_enode().contact(), record.contact());

    // On a wildcard address nothing is known of our own address but the port.
    let node = builder(3).listen((Ipv4Addr::UNSPECIFIED, 0).into()).start().await.expect("it starts");
    assert_eq!(node.local_record().endpoint(), None);
    assert_eq!(node.local_enode().host, Host::Ip(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(node.local_enode().udp, node.local_addr().port());
}

#[tokio::test]
async fn a_changed_record_is_saved_before_it_is_shown() {
    // What was saved, and what the handle showed at that moment.
    let saved = Arc::new(Mutex::new(Vec::<(u64, Option<u64>)>::new()));
    let shown: Arc<Mutex<Option<Discovery>>> = Arc::default();
    let (save, show) = (saved.clone(), shown.clone());
    let node = builder(1)
        .on_record(move |record| {
            let shown = show.lock().unwrap().as_ref().map(|node: &Discovery| node.local_record().seq());
            save.lock().unwrap().push((record.seq(), shown));
        })
        .start()
        .await
        .expect("it starts");
    assert_eq!(*saved.lock().unwrap(), [(1, None)], "once at the start");
    *shown.lock().unwrap() = Some(node.clone());

    let mut events = node.events();
    let content = RecordContent { v4: Some((Ipv4Addr::LOCALHOST, 30303, 4)), ..RecordContent::default() };
    soon(node.set_record(content.clone())).await.expect("it fits");
    assert_eq!((node.local_record().seq(), saved.lock().unwrap().last().copied()), (2, Some((2, Some(1)))));
    let told = event(&mut events, |event| match event {
        Event::LocalRecord(record) => Some(record.clone()),
        _ => None,
    });
    assert_eq!(told.await, node.local_record());

    soon(node.set_record(content.clone())).await.expect("it fits");
    assert_eq!((node.local_record().seq(), saved.lock().unwrap().len()), (2, 2), "nothing changed");

    let mut long = content.clone();
    let mut value = vec![0xb9, 0x01, 0x00];
    value.extend([1; 256]);
    long.extra.insert(b"x".to_vec(), value);
    let refused = soon(node.set_record(long)).await;
    assert!(matches!(refused, Err(RequestError::Record(RecordError::TooLong(_)))), "{refused:?}");
    assert_eq!((node.local_record().seq(), saved.lock().unwrap().len()), (2, 2), "what is refused changes nothing");

    soon(node.set_record(RecordContent { v4: Some((Ipv4Addr::LOCALHOST, 30303, 5)), ..content })).await.expect("fits");
    assert_eq!((node.local_record().seq(), saved.lock().unwrap().last().copied()), (3, Some((3, Some(2)))));
    node.shutdown().await;
}

/// The node runs on another thread, so that an answer given too early shows.
#[test]
fn whoever_set_the_record_sees_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let node = start(1).await;
            let mut events = node.events();
            sender.send(node).expect("the test waits");
            soon(async { while events.next().await.is_some() {} }).await;
        });
    });
    let node = receiver.recv().expect("the node starts");
    runtime().block_on(async {
        for tcp in 1..=300 {
            let content = RecordContent { v4: Some((Ipv4Addr::LOCALHOST, 30303, tcp)), ..RecordContent::default() };
            node.set_record(content).await.expect("it fits");
            assert_eq!(node.local_record().seq(), u64::from(tcp) + 1);
        }
        node.shutdown().await;
    });
    thread.join().expect("the node's thread ends with the node");
}

#[tokio::test]
async fn the_last_record_decides_the_sequence_number() {
    let at = Advertise { ip: [9, 9, 9, 9].into(), udp: Some(5), tcp: Some(6) };
    let record = |key: &NodeKey, seq, tcp| {
        let content = RecordContent { v4: Some(([9, 9, 9, 9].into(), 5, tcp)), ..RecordContent::default() };
        Record::sign(key, seq, &content).expect("it fits")
    };
    for (last, seq, why) in [
        (record(&key(1), 41, 6), 41, "the same content"),
        (record(&key(1), 41, 7), 42, "another content"),
        (record(&key(1), u64::MAX, 7), u64::MAX, "there is no higher number"),
        (record(&key(2), 41, 6), 3, "the record of another key"),
    ] {
        let node = builder(1).advertise(at).record_seq(3).last_record(Some(last)).start().await.expect("it starts");
        assert_eq!(node.local_record().seq(), seq, "{why}");
    }
}

// ---- Events and the end ----

#[tokio::test]
async fn events_tell_of_a_members_life() {
    let node = builder(1).config(quick()).start().await.expect("it starts");
    let mut events = node.events();
    let other = builder(2).bootnodes([enode(&node)]).start().await.expect("it starts");
    let other_key = other.local_enode().key;

    // In this very order.
    let first = event(&mut events, |event| Some(event.clone())).await;
    // Its record names no TCP port, whatever its URL says.
    let other_contact = other.local_record().contact().expect("it listens on one address");
    assert_eq!(first, Event::NodeAdded(other_contact));
    let second = event(&mut events, |event| Some(event.clone())).await;
    assert_eq!(second, Event::Contacts { any: true });

    let (mut own_lookup, mut record) = (false, None);
    event(&mut events, |event| {
        match event {
            Event::LookupFinished { origin: Origin::Itself, target, .. } => {
                own_lookup |= *target == key(1).id();
            }
            Event::RecordUpdated(updated) => record = Some(updated.clone()),
            _ => {}
        }
        (own_lookup && record.is_some()).then_some(())
    })
    .await;
    assert_eq!(record, Some(other.local_record()));
    let snapshot = node.snapshot().await.expect("it runs");
    assert_eq!(snapshot.nodes[0].record, Some(other.local_record()));

    let content = RecordContent { v4: Some((Ipv4Addr::LOCALHOST, other.local_addr().port(), 9)), ..Default::default() };
    soon(other.set_record(content)).await.expect("it fits");
    let updated = event(&mut events, |event| match event {
        Event::RecordUpdated(record) => Some(record.clone()),
        _ => None,
    });
    assert_eq!(updated.await, other.local_record());

    soon(other.shutdown()).await;
    let removed = event(&mut events, |event| match event {
        Event::NodeRemoved(contact, why) => Some((contact.key, *why)),
        _ => None,
    });
    assert_eq!(removed.await, (other_key, Removal::Dead));
    event(&mut events, |event| (*event == Event::Contacts { any: false }).then_some(())).await;
    assert_eq!(node.stats().await.expect("it runs").members, 0);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_how_much_it_missed() {
    let node = start(1).await;
    let mut events = node.events();
    for tcp in 1..=1_030 {
        let content = RecordContent { v4: Some((Ipv4Addr::LOCALHOST, 30303, tcp)), ..RecordContent::default() };
        soon(node.set_record(content)).await.expect("it fits");
    }
    assert_eq!(soon(events.next()).await, Some(Err(Lagged(6))));
    for seq in 8..=1_031 {
        match soon(events.next()).await {
            Some(Ok(Event::LocalRecord(record))) => assert_eq!(record.seq(), seq),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn after_the_end_the_port_is_free_and_handles_say_closed() {
    let node = start(1).await;
    let (addr, other) = (node.local_addr(), node.clone());
    let (mut events, mut foreign) = (node.events(), node.foreign().await.expect("it runs"));
    // One request that will never be answered.
    let silent = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let asked = tokio::spawn({
        let (node, contact) = (node.clone(), silent.contact());
        async move { node.ping(contact).await }
    });
    silent.recv().await;

    soon(node.shutdown()).await;
    StdSocket::bind(addr).expect("the port is free at once");
    assert_eq!(soon(asked).await.expect("no panic"), Err(RequestError::Closed));
    soon(other.shutdown()).await;

    let closed = RequestError::Closed;
    assert_eq!(soon(other.lookup(*key(3).public_key())).await, Err(closed.clone()));
    assert_eq!(soon(other.resolve(*key(3).public_key())).await, Err(closed.clone()));
    assert_eq!(soon(other.ping(silent.contact())).await, Err(closed.clone()));
    assert_eq!(soon(other.request_enr(silent.contact())).await, Err(closed.clone()));
    assert_eq!(soon(other.add_bootnode(silent.contact().into())).await, Err(closed.clone()));
    assert_eq!(soon(other.set_record(RecordContent::default())).await, Err(closed.clone()));
    assert_eq!(soon(other.stats()).await, Err(closed.clone()));
    assert_eq!(soon(other.snapshot()).await, Err(closed.clone()));
    assert_eq!(soon(other.send_foreign(addr, Bytes::new())).await, Err(closed.clone()));
    assert_eq!(soon(other.foreign()).await.expect_err("it has ended"), closed);
    assert_eq!(other.local_addr(), addr);
    assert_eq!(other.local_record().seq(), 1);

    assert_eq!(soon(foreign.recv()).await, None);
    assert_eq!(soon(events.next()).await, None, "handles do not keep the stream open");
    assert_eq!(soon(other.events().next()).await, None);
}

#[tokio::test]
async fn a_node_ends_with_its_last_handle() {
    // An unresolved name, subscribers and readers hold no handle.
    let unresolved = Enode { host: Host::Name("nothing.invalid".into()), ..start(2).await.local_enode() };
    let node = builder(1).bootnodes([Bootnode::Enode(unresolved)]).start().await.expect("it starts");
    let (addr, other) = (node.local_addr(), node.clone());
    let (mut events, mut foreign) = (node.events(), node.foreign().await.expect("it runs"));
    drop(node);
    soon(other.stats()).await.expect("there is a handle yet");
    drop(other);
    assert_eq!(soon(events.next()).await, None);
    assert_eq!(soon(foreign.recv()).await, None);
    StdSocket::bind(addr).expect("the port is free");
}

// ---- Sharing the port ----

#[tokio::test]
async fn other_protocols_share_the_port() {
    let node = start(1).await;
    let mut foreign = node.foreign().await.expect("it runs");
    let peer = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let (_, valid) = peer.seal(&peer.ping());
    let mut damaged = valid.to_vec();
    damaged[0] ^= 1;

    let others: [&[u8]; 6] = [b"x", &[7; 98], &[8; 1_280], b"", &[9; 9_000], &damaged];
    for datagram in others {
        peer.socket.send_to(datagram, node.local_addr()).await.expect("loopback takes it");
        // Ours in between, which are answered and not handed on.
        let hash = peer.send(node.local_addr(), &peer.ping()).await;
        peer.expect_pong(hash).await;
    }
    for datagram in others {
        let (from, bytes) = soon(foreign.recv()).await.expect("it runs");
        assert_eq!((from, &bytes[..]), (peer.addr(), datagram));
    }

    soon(node.send_foreign(peer.addr(), Bytes::from_static(b"answer"))).await.expect("it runs");
    let mut buffer = [0; 2048];
    loop {
        // Our PING may have been answered with another one.
        let (len, from) = soon(peer.socket.recv_from(&mut buffer)).await.expect("it receives");
        assert_eq!(from, node.local_addr());
        if &buffer[..len] == b"answer" {
            break;
        }
    }

    // The newest reader gets them; the one before learns that it gets no more.
    let mut newest = node.foreign().await.expect("it runs");
    peer.socket.send_to(b"next", node.local_addr()).await.expect("loopback takes it");
    assert_eq!(soon(newest.recv()).await.expect("it runs").1, "next");
    assert_eq!(soon(foreign.recv()).await, None);

    // A reader that has gone is no reason to stop.
    drop(newest);
    peer.socket.send_to(b"lost", node.local_addr()).await.expect("loopback takes it");
    let hash = peer.send(node.local_addr(), &peer.ping()).await;
    peer.expect_pong(hash).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_datagrams_and_stops_nobody() {
    let node = start(1).await;
    let mut foreign = node.foreign().await.expect("it runs");
    let peer = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    for number in 0u32..1_200 {
        peer.socket.send_to(&number.to_be_bytes(), node.local_addr()).await.expect("loopback takes it");
        // No more at a time than a small receive buffer holds; and it answers all the while.
        if number % 50 == 49 {
            let hash = peer.send(node.local_addr(), &peer.ping()).await;
            peer.expect_pong(hash).await;
        }
    }
    for number in 0u32..1_024 {
        let (_, bytes) = soon(foreign.recv()).await.expect("it runs");
        assert_eq!(bytes[..], number.to_be_bytes());
    }
    peer.socket.send_to(b"there is room again", node.local_addr()).await.expect("loopback takes it");
    assert_eq!(soon(foreign.recv()).await.expect("it runs").1, "there is room again");
}

// ---- Addresses ----

#[tokio::test]
async fn answers_leave_from_the_address_that_was_asked() {
    let node = builder(1).listen((Ipv4Addr::UNSPECIFIED, 0).into()).start().await.expect("it starts");
    for last in [3, 2, 1] {
        let asked = SocketAddr::new([127, 0, 0, last].into(), node.local_addr().port());
        let peer = Peer::connect(10 + last, Ipv4Addr::LOCALHOST, asked).await;
        let (hash, packet) = peer.seal(&peer.ping());
        peer.socket.send(&packet).await.expect("loopback takes it");
        let (from, opened) = peer.recv().await;
        assert_eq!((from, opened.sender), (asked, *key(1).public_key()));
        let Message::Ping(ping) = &opened.message else { panic!("its own PING goes first: {opened:?}") };
        assert_eq!(ping.to, peer.contact().endpoint.into());
        let (from, opened) = peer.recv().await;
        assert_eq!((from, opened.sender), (asked, *key(1).public_key()));
        let Message::Pong(pong) = &opened.message else { panic!("the answer: {opened:?}") };
        assert_eq!((pong.ping_hash, pong.to), (hash, peer.contact().endpoint.into()));
    }
}

#[tokio::test]
async fn one_socket_serves_both_families() {
    if StdSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("this host has no IPv6");
        return;
    }
    let node = builder(1).listen((Ipv6Addr::UNSPECIFIED, 0).into()).start().await.expect("it starts");
    let mut events = node.events();
    assert_eq!(node.local_enode().host, Host::Ip(Ipv4Addr::LOCALHOST.into()));
    let port = node.local_addr().port();
    let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    for (number, own, asked) in [(2, v4, v4), (3, v4, [127, 0, 0, 2].into()), (4, v6, v6)] {
        let peer = Peer::connect(number, own, (asked, port).into()).await;
        let (hash, packet) = peer.seal(&peer.ping());
        peer.socket.send(&packet).await.expect("loopback takes it");
        // It answers our PONG by taking us in, under the address that we know.
        let (from, opened) = peer.recv().await;
        assert_eq!(from, SocketAddr::new(asked, port));
        let Message::Ping(ping) = &opened.message else { panic!("its own PING goes first: {opened:?}") };
        assert_eq!((ping.to, ping.from.ip.map(|ip| ip.is_ipv4())), (peer.contact().endpoint.into(), Some(own == v4)));
        let (_, packet) = peer.seal(&pong(from, opened.hash));
        peer.socket.send(&packet).await.expect("loopback takes it");
        assert_eq!(peer.expect_pong(hash).await.to, peer.contact().endpoint.into());
        let member = event(&mut events, |event| match event {
            Event::NodeAdded(contact) => Some(*contact),
            _ => None,
        });
        assert_eq!(member.await, peer.contact());
    }
    // It asks both families of its own accord, too.
    let (one, two) =
        (start(5).await, builder(6).listen((Ipv6Addr::LOCALHOST, 0).into()).start().await.expect("starts"));
    for other in [one, two] {
        let pinged = soon(node.ping(contact(&other))).await.expect("it answers");
        assert_eq!(pinged.our_address, Some(other.local_addr().ip()));
        assert_eq!(
            soon(other.ping(pinged_back(&node, &other))).await.expect("it answers").contact.key,
            *key(1).public_key()
        );
    }
    // An IPv4 address in IPv6 clothing is an IPv4 address.
    let mapped = builder(7).listen("[::ffff:127.0.0.1]:0".parse().unwrap()).start().await.expect("it starts");
    assert_eq!(mapped.local_addr().ip(), v4);
    soon(mapped.ping(pinged_back(&node, &mapped))).await.expect("it answers");
}

/// A node on the wildcard address, as one on a single address reaches it.
fn pinged_back(node: &Discovery, from: &Discovery) -> Contact {
    let endpoint = Endpoint::new(from.local_addr().ip(), node.local_addr().port(), 0);
    Contact { key: node.local_enode().key, endpoint }
}

// ---- Unusual packets ----

#[tokio::test]
async fn sixteen_nodes_in_one_packet_are_read() {
    let peer = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let node = builder(1).bootnodes([peer.contact().into()]).start().await.expect("it starts");
    let mut events = node.events();
    let named: Vec<NodeEntry> = (0..16)
        .map(|at| {
            let endpoint = WireEndpoint { ip: Some([127, 9, 9, at].into()), udp: 30_000, tcp: 30_000 };
            NodeEntry { endpoint, key: *key(100 + at).public_key() }
        })
        .collect();
    let answer = Message::Neighbors(Neighbors { nodes: named, expiration: expiration() });
    assert_eq!(peer.seal(&answer).1.len(), 1_373);

    // Nobody asked for it.
    peer.send(node.local_addr(), &answer).await;
    let hash = peer.send(node.local_addr(), &peer.ping()).await;
    peer.expect_pong(hash).await;
    let counters = node.stats().await.expect("it runs").counters;
    assert_eq!(counters.dropped(Dropped::Unsolicited), 1, "{counters:?}");

    let serve = async {
        loop {
            peer.expect(|opened| matches!(opened.message, Message::FindNode(_)).then_some(())).await;
            peer.send(node.local_addr(), &answer).await;
        }
    };
    let ask = async {
        added(&mut events, *peer.key.public_key()).await;
        soon(node.find(*peer.key.public_key(), true)).await.expect("a lookup")
    };
    let report = tokio::select! {
        report = ask => report,
        () = serve => unreachable!("it serves on"),
    };
    let step = report.trace.iter().find(|step| step.contact.key == *peer.key.public_key()).expect("it was asked");
    assert_eq!(step.named, Some(16), "{report:?}");
    assert_eq!(report.closest.len(), 16);
}

#[tokio::test]
async fn datagrams_that_the_kernel_has_joined_are_all_handled() {
    let node = start(1).await;
    let mut foreign = node.foreign().await.expect("it runs");
    let peer = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    // PINGs of one size, different by their expiration.
    let mut joined = BytesMut::new();
    let mut hashes = BTreeSet::new();
    let mut size = 0;
    for more in 0..20 {
        let Message::Ping(mut ping) = peer.ping() else { unreachable!("a PING") };
        ping.expiration += more;
        let (hash, packet) = peer.seal(&Message::Ping(ping));
        assert!(size == 0 || size == packet.len());
        size = packet.len();
        hashes.insert(hash);
        joined.extend_from_slice(&packet);
    }
    // The last one of a run may be shorter.
    joined.extend_from_slice(b"tail");

    let sender = StdSocket::bind(loopback(0)).expect("a free port");
    let state = UdpSocketState::new(UdpSockRef::from(&sender)).expect("a socket");
    let joins = state.max_gso_segments() > hashes.len();
    let segment = if joins { joined.len() } else { size };
    for run in joined.chunks(segment) {
        let transmit = Transmit {
            destination: node.local_addr(),
            ecn: None,
            contents: run,
            segment_size: joins.then_some(size),
            src_ip: None,
        };
        state.try_send(UdpSockRef::from(&sender), &transmit).expect("loopback takes it");
    }
    sender.set_nonblocking(true).expect("a socket");
    let sender = UdpSocket::from_std(sender).expect("a socket");
    let answered = Peer { key: key(2), socket: sender };
    while !hashes.is_empty() {
        let (_, opened) = answered.recv().await;
        if let Message::Pong(pong) = opened.message {
            assert!(hashes.remove(&pong.ping_hash), "each is answered once");
        }
    }
    assert_eq!(soon(foreign.recv()).await.expect("it runs").1, "tail");
    assert!(joins || !cfg!(target_os = "linux"), "the kernel joins nothing, so this has shown little");
}

// ---- Bootnodes ----

#[tokio::test]
async fn bootnodes_of_every_form() {
    let (by_record, by_name) = (start(1).await, start(2).await);
    let named = |name: &str| {
        let Enode { key, tcp, udp, .. } = by_name.local_enode();
        Bootnode::Enode(Enode { key, host: Host::Name(name.into()), tcp, udp })
    };
    let nowhere = Record::sign(&key(9), 1, &RecordContent::default()).expect("it fits");
    let node = builder(3)
        .bootnodes([
            named("nothing.invalid"),
            Bootnode::Record(Box::new(nowhere)),
            Bootnode::Record(Box::new(Record::clone(&by_record.local_record()))),
            named("localhost"),
        ])
        .start()
        .await
        .expect("names that do not resolve are no reason not to start");
    let mut events = node.events();
    // One's own URL, as in a list that all nodes share.
    soon(node.add_bootnode(enode(&node))).await.expect("it runs");
    let mut missing: BTreeSet<PublicKey> = [&by_record, &by_name].map(|node| node.local_enode().key).into();
    event(&mut events, |event| {
        if let Event::NodeAdded(contact) = event {
            missing.remove(&contact.key);
        }
        missing.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
async fn a_bootnode_that_was_down_is_found_soon_after_it_comes_up() {
    // Somebody is there and says nothing, which is how a node that is down looks like, and lets us see the tries.
    let down = Peer::bind(2, [127, 0, 44, 2]).await;
    let node = builder(1).bootnodes([down.contact().into()]).start().await.expect("it starts");
    let mut events = node.events();
    let mut tries = Vec::new();
    for _ in 0..2 {
        let (_, opened) = down.recv().await;
        assert!(matches!(opened.message, Message::Ping(_)), "{opened:?}");
        tries.push(Instant::now());
    }
    // The timeout, and the first wait.
    let gap = tries[1] - tries[0];
    assert!(gap > Duration::from_millis(1_150) && gap < Duration::from_millis(2_000), "{gap:?}");

    let addr = down.addr();
    drop(down);
    let up = Discovery::builder(key(2)).listen(addr).start().await.expect("the port was ours");
    let begun = Instant::now();
    added(&mut events, up.local_enode().key).await;
    // Timeout and second wait: 1.5 s. Of its own accord it would not have been found: it knows nobody.
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
}

// ---- Much at once ----

/// Looks up `count` targets at once.
fn lookups(node: &Discovery, count: u8) -> JoinSet<Result<(), RequestError>> {
    let mut set = JoinSet::new();
    for number in 1..=count {
        let node = node.clone();
        set.spawn(async move { node.lookup(*key(number).public_key()).await.map(|_| ()) });
    }
    set
}

#[tokio::test]
async fn of_two_hundred_lookups_at_once_sixty_four_run_and_the_rest_are_told() {
    let silent = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let mut config = Config::default();
    config.requests.timeout = Duration::from_secs(2);
    let node = builder(1).config(config).bootnodes([silent.contact().into()]).start().await.expect("it starts");
    silent.recv().await;
    let results = soon(lookups(&node, 200).join_all()).await;
    let busy = Err(RequestError::Command(CommandError::Busy));
    assert_eq!(results.iter().filter(|result| **result == Ok(())).count(), 64);
    assert_eq!(results.iter().filter(|result| **result == busy).count(), 136);
    // And all is as before.
    let results = soon(lookups(&node, 64).join_all()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test]
async fn callers_that_gave_up_leave_nothing_behind() {
    let silent = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let mut config = Config::default();
    config.requests.timeout = Duration::from_secs(2);
    let node = builder(1).config(config).bootnodes([silent.contact().into()]).start().await.expect("it starts");
    let mut events = node.events();
    for _ in 0..2 {
        let mut given_up = lookups(&node, 64);
        let (pings, records) = (node.ping(silent.contact()), node.request_enr(silent.contact()));
        let both = async { tokio::join!(pings, records) };
        assert!(tokio::time::timeout(Duration::from_millis(20), both).await.is_err());
        let full = soon(node.lookup(*key(1).public_key())).await;
        assert_eq!(full, Err(CommandError::Busy.into()), "all are under way");
        given_up.abort_all();
        while given_up.join_next().await.is_some() {}
        let mut finished = 0;
        event(&mut events, |event| {
            finished += usize::from(matches!(event, Event::LookupFinished { .. }));
            (finished == 64).then_some(())
        })
        .await;
    }
    assert!(soon(lookups(&node, 64).join_all()).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_flood_starves_neither_requests_nor_timers() {
    let node = start(1).await;
    let silent = Peer::bind(2, Ipv4Addr::LOCALHOST).await;
    let (addr, over) = (node.local_addr(), Arc::new(Mutex::new(false)));
    let flood = std::thread::spawn({
        let (over, peer) = (over.clone(), Peer::bind(3, Ipv4Addr::LOCALHOST).await);
        move || {
            let socket = StdSocket::bind(loopback(0)).expect("a free port");
            let (_, valid) = peer.seal(&peer.ping());
            while !*over.lock().unwrap() {
                for _ in 0..100 {
                    // Half of them are worth two signatures each. A full buffer is what a flood is about.
                    let _ = socket.send_to(&valid, addr);
                    let _ = socket.send_to(&[0; 1_200], addr);
                }
            }
        }
    });
    for _ in 0..20 {
        soon(node.stats()).await.expect("it runs");
    }
    // This one is for a timer to end.
    assert_eq!(soon(node.ping(silent.contact())).await, Err(CommandError::Timeout.into()));
    let stats = soon(node.stats()).await.expect("it runs");
    *over.lock().unwrap() = true;
    flood.join().expect("no panic");
    assert!(stats.packets_in > 1_000, "that was no flood: {}", stats.packets_in);
    soon(node.shutdown()).await;
}
