//! Nodes that find their first contact by DNS.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use kadnode::bootstrap::Bootnode;
use kadnode::proto::engine::{Event, Removal};
use kadnode::proto::identity::{NodeKey, PublicKey, Record};
use kadnode::{Builder, Discovery, Events};
use tokio::net::UdpSocket;

use crate::quick::quick;
use crate::server::{Server, TTL, Tree, record};

/// Longer than anything here takes on a busy machine; what hangs fails by it.
const LIMIT: Duration = Duration::from_secs(30);

fn builder(number: u8) -> Builder {
    let key = NodeKey::from_bytes(&[number; 32]).expect("a valid key");
    Discovery::builder(key).listen((Ipv4Addr::LOCALHOST, 0).into())
}

async fn start(number: u8) -> Discovery {
    builder(number).start().await.expect("it starts")
}

fn key(node: &Discovery) -> PublicKey {
    node.local_enode().key
}

fn id(node: &Discovery) -> String {
    key(node).node_id().to_string()
}

fn port(node: &Discovery) -> u16 {
    node.local_addr().port()
}

fn parse(text: impl AsRef<str>) -> Bootnode {
    text.as_ref().parse().expect("a contact")
}

/// Waits for an event that `wanted` makes something of.
async fn event<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the node runs").expect("the reader keeps up");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("it happens")
}

async fn added(events: &mut Events, key: PublicKey) -> SocketAddr {
    event(events, |event| match event {
        Event::NodeAdded(contact) if contact.key == key => Some(contact.endpoint.udp_addr()),
        _ => None,
    })
    .await
}

/// Polls until a figure of the node is as it should be.
async fn bootnodes(node: &Discovery, wanted: usize) {
    let reached = async {
        while node.stats().await.expect("it runs").bootnodes != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, reached).await.expect("it comes to that");
}

/// Starts a node with one contact, and waits until it has found a certain other. How long that took is printed, for
/// `--nocapture`.
#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
async fn finds(server: &Server, contact: &str, other: &Discovery) -> Discovery {
    let start = tokio::time::Instant::now();
    let node = builder(200).dns_server(server.addr).bootnodes([parse(contact)]).start().await.expect("it starts");
    let at = added(&mut node.events(), key(other)).await;
    eprintln!("{:>5} us to the first contact by {contact}", start.elapsed().as_micros());
    assert_eq!(at, other.local_addr());
    node
}

#[tokio::test]
async fn each_kind_of_contact_leads_to_the_node_that_it_means() {
    let (server, hub) = (Server::start().await, start(1).await);
    server.address("boot.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    server.service("srv.example.org", 1, 1, port(&hub), "boot.example.org").await;
    let (port, id) = (port(&hub), id(&hub));
    for contact in [
        hub.local_enode().to_string(),
        hub.local_record().to_string(),
        format!("enode://{}@boot.example.org:{port}", key(&hub)),
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{port}#{id}"),
        format!("boot.example.org:{port}"),
        format!("boot.example.org:{port}#{}", &id[..9]),
        format!("dns:boot.example.org:{port}"),
        "dns:srv.example.org".to_owned(),
    ] {
        finds(&server, &contact, &hub).await.shutdown().await;
    }
}

#[tokio::test]
async fn another_node_than_the_one_that_is_pinned_is_no_contact() {
    let (server, hub, other) = (Server::start().await, start(1).await, start(2).await);
    server.address("boot.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    for host in ["127.0.0.1", "boot.example.org"] {
        let node = builder(3).dns_server(server.addr).start().await.expect("it starts");
        let mut events = node.events();
        let id = &id(&hub)[..8];
        node.add_bootnode(parse(format!("{host}:{}#{id}", port(&other)))).await.expect("it runs");
        let (addr, instead) = event(&mut events, |event| match event {
            Event::OtherNode { addr, id } => Some((*addr, *id)),
            _ => None,
        })
        .await;
        assert_eq!((addr, instead), (other.local_addr(), key(&other).node_id()));
        node.add_bootnode(parse(format!("{host}:{}#{id}", port(&hub)))).await.expect("it runs");
        added(&mut events, key(&hub)).await;
        assert_eq!(node.stats().await.unwrap().members, 1);
    }
}

#[tokio::test]
async fn a_tree_of_a_thousand_records_and_its_link_lead_to_the_nodes_that_live() {
    let (server, hub) = (Server::start().await, start(1).await);
    let gone: Vec<Record> = (0..1000).map(record).collect();
    let alive = Tree::sign(2, "alive.example.org", 1, &[(*hub.local_record()).clone(), record(5)], &[]);
    let tree = Tree::sign(1, "tree.example.org", 1, &gone, std::slice::from_ref(&alive.url));
    server.publish(&tree).await;
    server.publish(&alive).await;
    finds(&server, &tree.url.to_string(), &hub).await;
    finds(&server, &alive.url.to_string(), &hub).await;
}

#[tokio::test]
async fn a_tree_with_a_wrong_signature_gives_nobody_and_other_contacts_serve() {
    let (server, hub, stranger) = (Server::start().await, start(1).await, start(2).await);
    let records = [(*stranger.local_record()).clone()];
    let forged = Tree::sign(9, "tree.example.org", 1, &records, &[]);
    let named = Tree::sign(1, "tree.example.org", 1, &records, &[]).url;
    // The hash of an entry is that of another text.
    let mut changed = Tree::sign(8, "hash.example.org", 1, &[record(1)], &[]);
    for (_, text) in &mut changed.entries {
        if text.starts_with("enr:") {
            *text = records[0].to_string();
        }
    }
    server.publish(&forged).await;
    server.publish(&changed).await;
    let node = builder(3)
        .dns_server(server.addr)
        .bootnodes([parse(named.to_string()), parse(changed.url.to_string()), parse("dns:nowhere.example.org")])
        .start()
        .await
        .expect("it starts");
    let mut events = node.events();
    // By then the trees have been read, and their roots are tried again.
    node.add_bootnode(parse(format!("late.example.org:{}", port(&hub)))).await.expect("it runs");
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.address("late.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    added(&mut events, key(&hub)).await;
    assert_eq!(node.stats().await.unwrap().members, 1, "the stranger is not known");
    let asked = stranger.stats().await.unwrap();
    assert_eq!(asked.packets_in, 0, "nor has he been asked");
}

#[tokio::test]
async fn a_dns_server_that_is_silent_holds_up_nothing_else() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let hub = start(1).await;
    let tree = Tree::sign(1, "tree.example.org", 1, &[], &[]).url.to_string();
    let contacts = ["dns:seed.example.org", "boot.example.org:30303", &tree, &format!("127.0.0.1:{}", port(&hub))];
    let node = builder(3)
        .dns_server(silent.local_addr().unwrap())
        .bootnodes(contacts.map(parse))
        .start()
        .await
        .expect("it starts");
    added(&mut node.events(), key(&hub)).await;
    // A node ends at once, though DNS has not answered.
    tokio::time::timeout(Duration::from_secs(1), node.shutdown()).await.expect("at once");
}

/// It is at another address of loopback, which all of 127.0.0.0/8 is on Linux.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_bootnode_that_moves_is_found_by_its_name() {
    tokio::join!(moves("enode"), moves("address"), moves("seed"), moves("service"));
}

#[cfg(target_os = "linux")]
async fn moves(kind: &str) {
    let server = Server::start().await;
    let hub = start(1).await;
    let (hub_key, hub_port) = (key(&hub), port(&hub));
    // Longer than this test: the answer is forgotten when the table is empty.
    server.address("boot.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    server.service("srv.example.org", 1, 1, hub_port, "boot.example.org").await;
    let contact = match kind {
        "enode" => format!("enode://{hub_key}@boot.example.org:{hub_port}"),
        "address" => format!("boot.example.org:{hub_port}"),
        "seed" => format!("dns:boot.example.org:{hub_port}"),
        _ => "dns:srv.example.org".to_owned(),
    };
    // Another contact has it in the table by the time that the name is resolved, so that it is not resolved again
    // soon for want of contacts. That the node has any is watched for since there is a name to resolve.
    let direct = Bootnode::Enode(hub.local_enode());
    let nobody = parse("nobody.example.org:9");
    let builder = builder(3).config(quick()).dns_server(server.addr);
    let node = builder.bootnodes([direct.clone(), nobody]).start().await.expect("it starts");
    let mut events = node.events();
    assert_eq!(added(&mut events, hub_key).await, hub.local_addr());
    node.remove_bootnode(&direct).await.expect("it runs");
    bootnodes(&node, 0).await;
    node.add_bootnode(parse(contact)).await.expect("it runs");
    bootnodes(&node, 1).await;

    let moved = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), hub_port);
    hub.shutdown().await;
    server.remove("boot.example.org", RecordType::A).await;
    server.address("boot.example.org", Ipv4Addr::new(127, 0, 0, 2), TTL).await;
    let dead = |event: &Event| matches!(event, Event::NodeRemoved(_, Removal::Dead)).then_some(());
    event(&mut events, dead).await;
    let again = NodeKey::from_bytes(&[1; 32]).unwrap();
    let hub = Discovery::builder(again).listen(moved).start().await.expect("the port is free there");
    assert_eq!(added(&mut events, hub_key).await, hub.local_addr(), "{kind}");
    // The old address is tried no longer.
    bootnodes(&node, 1).await;
}

/// While a node is alone its names are resolved again soon. What has gone from DNS stays, since what has failed may be
/// DNS; and an address that several contacts have stays for those that are left.
#[tokio::test]
async fn names_keep_their_addresses_when_they_fail_and_when_another_is_taken_back() {
    let server = Server::start().await;
    let [silent, other] = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))];
    let [silent, other] =
        [silent.await.unwrap(), other.await.unwrap()].map(|socket| socket.local_addr().unwrap().port());
    for name in ["gone.example.org", "one.example.org", "two.example.org"] {
        server.address(name, Ipv4Addr::LOCALHOST, TTL).await;
    }
    // Each has one of its own too, so that it shows when it is resolved.
    server.address("one.example.org", Ipv4Addr::new(127, 0, 0, 3), TTL).await;
    server.address("two.example.org", Ipv4Addr::new(127, 0, 0, 4), TTL).await;
    let gone = parse(format!("gone.example.org:{other}"));
    let node = builder(3).dns_server(server.addr).bootnodes([gone]).start().await.expect("it starts");
    bootnodes(&node, 1).await;
    server.remove("gone.example.org", RecordType::A).await;
    let [one, two] = ["one", "two"].map(|name| parse(format!("{name}.example.org:{silent}")));
    let direct = parse(format!("127.0.0.1:{silent}"));
    for contact in [&one, &two, &direct] {
        node.add_bootnode(contact.clone()).await.expect("it runs");
    }
    bootnodes(&node, 4).await;
    node.remove_bootnode(&one).await.expect("it runs");
    bootnodes(&node, 3).await;
    node.remove_bootnode(&two).await.expect("it runs");
    bootnodes(&node, 2).await;
    node.remove_bootnode(&direct).await.expect("it runs");
    bootnodes(&node, 1).await;
}

/// The questions that a DNS server gets are about whatever else the node wants to know.
#[tokio::test]
async fn a_tree_is_left_alone_while_there_are_enough_contacts() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let node = builder(100).dns_server(silent.local_addr().unwrap()).start().await.expect("it starts");
    let mut hubs = Vec::new();
    for number in 1..=20 {
        let hub = start(number).await;
        node.add_bootnode(Bootnode::Enode(hub.local_enode())).await.expect("it runs");
        hubs.push(hub);
    }
    let known = async {
        while node.stats().await.expect("it runs").members < 16 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, known).await.expect("it knows them");
    node.add_bootnode(parse(Tree::sign(1, "tree.example.org", 1, &[], &[]).url.to_string())).await.expect("it runs");
    node.add_bootnode(parse("boot.example.org:9")).await.expect("it runs");
    let mut buffer = [0; 2048];
    // Of A and AAAA, with a second try of each.
    for _ in 0..4 {
        let len = tokio::time::timeout(LIMIT, silent.recv(&mut buffer)).await.expect("it asks").unwrap();
        assert!(buffer[..len].windows(5).any(|label| label.eq_ignore_ascii_case(b"\x04boot")));
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_yet_is_asked_for_again() {
    let (server, hub) = (Server::start().await, start(1).await);
    let contacts = [format!("boot.example.org:{}", port(&hub)), "dns:nowhere.example.org".to_owned()].map(parse);
    let node = builder(3).dns_server(server.addr).bootnodes(contacts).start().await.expect("it starts");
    let mut events = node.events();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.address("boot.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    added(&mut events, key(&hub)).await;
}

#[tokio::test]
async fn a_contact_that_is_removed_is_tried_no_longer() {
    let (server, silent) = (Server::start().await, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let port = silent.local_addr().unwrap().port();
    server.address("boot.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    server.address("seed.example.org", Ipv4Addr::LOCALHOST, TTL).await;
    server.service("seed.example.org", 1, 1, port - 1, "boot.example.org").await;
    let node = builder(3).dns_server(server.addr).start().await.expect("it starts");
    let enode = format!("enode://{}@boot.example.org:{port}", key(&start(7).await));
    for (contact, count) in [(enode, 1), (format!("127.0.0.1:{port}"), 1), (format!("dns:seed.example.org:{port}"), 2)]
    {
        let contact = parse(contact);
        node.add_bootnode(contact.clone()).await.expect("it runs");
        bootnodes(&node, count).await;
        // Twice is as good as once.
        node.add_bootnode(contact.clone()).await.expect("it runs");
        node.remove_bootnode(&contact).await.expect("it runs");
        bootnodes(&node, 0).await;
        node.remove_bootnode(&contact).await.expect("it runs");
    }
}
