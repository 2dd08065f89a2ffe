//! Bootnodes of every form, and many requests at once.

use super::support::*;

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
