//! A node on real loopback sockets, through its public handle, with other nodes and with peers that are driven by hand.

mod load;
#[path = "../shared/quick.rs"]
mod quick;
mod sockets;
mod support;

use support::*;

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
        (record(&key(1), 1, 6), 1, "the same content, and a low number"),
        (record(&key(1), 1, 7), 3, "others may have been shown that were not saved"),
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
