//! Nodes that find one another by mDNS. It joins multicast groups on all interfaces that there are, so it is to run in a
//! network namespace with loopback alone:
//!
//!     unshare --net sh -c 'ip link set lo up && cargo test --test lan -- --ignored --test-threads=1'

#![cfg(target_os = "linux")]

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use kadnode::Discovery;
use kadnode::proto::identity::{NodeKey, PublicKey, Record, RecordContent};
use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{sleep, timeout};

const SERVICE: &str = "_kadnode._udp.local.";

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(byte: u8) -> NodeKey {
    NodeKey::from_bytes(&[byte; 32]).unwrap()
}

async fn node(byte: u8) -> Discovery {
    let names = fs::read_to_string("/proc/net/dev").unwrap();
    let others = names.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:")).count();
    assert_eq!(others, 0, "run this in a network namespace; see above");
    Discovery::builder(key(byte)).listen("127.0.0.1:0".parse().unwrap()).lan(true).start().await.unwrap()
}

/// The responders of this process, which has none but its nodes'.
fn responders() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "mDNS_daemon").count()
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

async fn holds(node: &Discovery, other: &Discovery) -> bool {
    let contact = other.local_enode().contact().unwrap();
    node.snapshot().await.unwrap().nodes.iter().any(|member| {
        member.contact.key == contact.key && member.contact.endpoint.udp_addr() == contact.endpoint.udp_addr()
    })
}

#[tokio::test]
#[ignore = "it joins multicast groups on all interfaces of the machine: .ci/run runs it in a network namespace"]
async fn three_nodes_find_one_another_and_their_responders_end_with_them() {
    let nodes = [node(1).await, node(2).await, node(3).await];
    until("each holds each", async || {
        for one in &nodes {
            for other in &nodes {
                if one.local_enode() != other.local_enode() && !holds(one, other).await {
                    return false;
                }
            }
        }
        true
    })
    .await;
    assert_eq!(responders(), 3);
    let [one, two, three] = nodes;
    // The application's stream of events is whole: it was not read by others.
    let mut events = one.events();
    assert!(matches!(timeout(PATIENCE, events.next()).await, Ok(Some(Ok(_)))));

    timeout(Duration::from_secs(1), one.shutdown()).await.expect("a goodbye is short");
    until("a responder ends with its node", async || responders() == 2).await;
    // Nobody asks this one to end; its handle is gone.
    drop(two);
    until("and without being asked to", async || responders() == 1).await;
    three.shutdown().await;
    three.shutdown().await;
    until("and all of them", async || responders() == 0).await;
}

#[test]
#[ignore = "it joins multicast groups on all interfaces of the machine: .ci/run runs it in a network namespace"]
fn a_runtime_that_ends_takes_the_responder_with_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(async {
        let node = node(1).await;
        until("it starts", async || responders() == 1).await;
        node
    });
    drop(runtime);
    drop(node);
    let wait = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait.block_on(until("it ends", async || responders() == 0));
}

/// Somebody else on the link.
struct Observer {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

impl Observer {
    fn new() -> Self {
        let daemon = ServiceDaemon::new().unwrap();
        let events = daemon.browse(SERVICE).unwrap();
        Self { daemon, events }
    }

    /// The next record that the node announces, or `None` when it has said goodbye.
    async fn next(&self, node: &PublicKey) -> Option<String> {
        let name = format!("kadnode-{}.{SERVICE}", &node.node_id().to_string()[..16]);
        loop {
            match timeout(PATIENCE, self.events.recv_async()).await.unwrap().unwrap() {
                ServiceEvent::ServiceResolved(service) if service.get_fullname() == name => {
                    let part = |key| service.get_property_val_str(key).unwrap_or_default();
                    return Some([part("enr"), part("enr2")].concat());
                }
                ServiceEvent::ServiceRemoved(_, gone) if gone == name => return None,
                _ => {}
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

#[tokio::test]
#[ignore = "it joins multicast groups on all interfaces of the machine: .ci/run runs it in a network namespace"]
async fn a_new_record_is_announced_and_the_end_as_well() {
    let observer = Observer::new();
    let node = node(1).await;
    let mut events = node.events();
    let first = observer.next(key(1).public_key()).await;
    assert_eq!(first, Some(node.local_record().to_string()));

    // As long as a record can be, so that it takes two strings.
    let endpoint = node.local_addr();
    let content = RecordContent {
        v4: Some((Ipv4Addr::LOCALHOST, endpoint.port(), 0)),
        extra: [(b"x".to_vec(), rlp_of(150))].into(),
        ..Default::default()
    };
    node.set_record(content).await.unwrap();
    let wait = async { while observer.next(key(1).public_key()).await != Some(node.local_record().to_string()) {} };
    timeout(PATIENCE, wait).await.expect("the new record is announced");
    assert!(node.local_record().to_string().len() > 255);
    // That event was not lost to the application.
    let told = events.next().await.unwrap().unwrap();
    assert!(matches!(told, kadnode::proto::engine::Event::LocalRecord(_)), "{told:?}");

    node.shutdown().await;
    timeout(Duration::from_secs(3), async { while observer.next(key(1).public_key()).await.is_some() {} })
        .await
        .expect("it says goodbye");
}

fn rlp_of(len: u8) -> Vec<u8> {
    let mut item = vec![0xb8, len];
    item.extend(vec![7; usize::from(len)]);
    item
}

#[tokio::test]
#[ignore = "it joins multicast groups on all interfaces of the machine: .ci/run runs it in a network namespace"]
async fn who_announces_nonsense_does_no_harm() {
    let liar = Observer::new();
    liar.daemon.enable_interface(IfKind::LoopbackV4).unwrap();
    let other = Record::sign(&key(9), 1, &RecordContent::default()).unwrap().to_string();
    let node = node(1).await;
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let own = node.local_record().to_string();
    for (number, record) in [other.as_str(), own.as_str(), "enr:", "", &other[..other.len() - 3]].iter().enumerate() {
        let (name, txt) = (format!("liar-{number}"), [("enr", record.to_string())]);
        let mut info = ServiceInfo::new(SERVICE, &name, "liar.local.", "127.0.0.1", port, &txt[..]).unwrap();
        info.set_requires_probe(false);
        liar.daemon.register(info).unwrap();
    }
    // Where another's record leads to, a PING is sent; the others have sent nothing before that node is found.
    silent.set_nonblocking(true).unwrap();
    let silent = tokio::net::UdpSocket::from_std(silent).unwrap();
    let mut buffer = [0; 1280];
    timeout(PATIENCE, silent.recv_from(&mut buffer)).await.expect("it is pinged").unwrap();
    let friend = self::node(2).await;
    until("the friend is found", async || holds(&node, &friend).await && holds(&friend, &node).await).await;
    assert_eq!(node.stats().await.unwrap().members, 1);
}

#[tokio::test]
#[ignore = "it joins multicast groups on all interfaces of the machine: .ci/run runs it in a network namespace"]
async fn whoever_said_goodbye_and_is_back_is_tried_at_once() {
    let (observer, other) = (Observer::new(), Observer::new());
    for each in [&observer, &other] {
        each.daemon.enable_interface(IfKind::LoopbackV4).unwrap();
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let silent = tokio::net::UdpSocket::from_std(silent).unwrap();
    let port = silent.local_addr().unwrap().port();
    let name = format!("kadnode-{}", &key(9).id().to_string()[..16]);
    let announce = || {
        let record = Record::sign(&key(9), 1, &RecordContent::default()).unwrap();
        let txt = [("enr", record.to_string())];
        let mut info = ServiceInfo::new(SERVICE, &name, "other.local.", "127.0.0.1", port, &txt[..]).unwrap();
        info.set_requires_probe(false);
        other.daemon.register(info).unwrap();
    };
    let _node = node(1).await;
    let mut buffer = [0; 1280];
    announce();
    timeout(PATIENCE, silent.recv_from(&mut buffer)).await.expect("it is pinged").unwrap();
    assert!(observer.next(key(9).public_key()).await.is_some());
    other.daemon.unregister(&format!("{name}.{SERVICE}")).unwrap();
    while observer.next(key(9).public_key()).await.is_some() {}
    // The node may hear of it a little later, and its PING has failed after a second.
    sleep(Duration::from_millis(1500)).await;
    while silent.try_recv_from(&mut buffer).is_ok() {}
    announce();
    // Whoever has merely not answered is tried again after 15 s.
    let soon = Duration::from_secs(10);
    timeout(soon, silent.recv_from(&mut buffer)).await.expect("it is pinged again").unwrap();
}

#[tokio::test]
#[ignore = "it joins multicast groups on all interfaces of the machine: .ci/run runs it in a network namespace"]
async fn a_flood_of_records_ends_the_responder_and_not_the_node() {
    let node = node(1).await;
    until("it starts", async || responders() == 1).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0u32;
    let flooded = async {
        // No more at a time than it can hear.
        while responders() == 1 {
            for _ in 0..5 {
                socket.send_to(&addresses(sent, 300), ("224.0.0.251", 5353)).unwrap();
                sent += 300;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, flooded).await.expect("the responder is ended");
    node.stats().await.unwrap();
    timeout(Duration::from_secs(1), node.shutdown()).await.expect("it ends in time");
}

/// A response with the addresses of so many hosts, which nobody has asked for.
fn addresses(first: u32, count: u16) -> Vec<u8> {
    let mut packet = vec![0, 0, 0x84, 0, 0, 0];
    packet.extend(count.to_be_bytes());
    packet.extend([0; 4]);
    for number in 0..u32::from(count) {
        packet.push(8);
        packet.extend(format!("{:08x}", first + number).as_bytes());
        // The first name is whole, the others end as it does.
        packet.extend(if number == 0 { b"\x05local\x00".as_slice() } else { &[0xc0, 12 + 9] });
        // A, class IN, 4500 s, four bytes.
        packet.extend([0, 1, 0, 1, 0, 0, 0x11, 0x94, 0, 4, 10, 0, 0, 1]);
    }
    packet
}
