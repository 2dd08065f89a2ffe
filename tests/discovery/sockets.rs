//! The socket: other protocols on the same port, local addresses, both families, long and joined datagrams.

use std::io::IoSliceMut;

use quinn_udp::RecvMeta;
use tokio::io::Interest;

use super::support::*;

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
    let mut joined = Vec::new();
    let mut hashes = BTreeSet::new();
    let mut size = 0;
    for more in 0..100 {
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
    // Two runs, more than are opened at a time.
    let joins = state.max_gso_segments() > 51;
    let segment = if joins { 51 * size } else { size };
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
    // The answers may be joined too.
    let (mut buffer, mut meta) = (vec![0; 65_535], [RecvMeta::default()]);
    while !hashes.is_empty() {
        let receive = || state.recv(UdpSockRef::from(&sender), &mut [IoSliceMut::new(&mut buffer)], &mut meta);
        soon(sender.async_io(Interest::READABLE, receive)).await.expect("it receives");
        for packet in buffer[..meta[0].len].chunks(meta[0].stride) {
            if let Message::Pong(pong) = wire::open(packet).expect("nodes send valid packets").message {
                assert!(hashes.remove(&pong.ping_hash), "each is answered once");
            }
        }
    }
    assert_eq!(soon(foreign.recv()).await.expect("it runs").1, "tail");
    assert!(joins || !cfg!(target_os = "linux"), "the kernel joins nothing, so this has shown little");
}

// ---- Bootnodes ----
