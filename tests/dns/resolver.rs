//! What is asked of a real DNS server.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use kadnode::bootstrap::dns::{DnsError, MAX_ADDRESSES, Resolver, Service};
use tokio::net::UdpSocket;

use crate::server::{Server, TTL};

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

#[tokio::test]
async fn addresses_of_both_families_with_the_least_ttl() {
    let server = Server::start().await;
    let resolver = Resolver::with_server(server.addr);
    server.address("boot.example.org", v4(2), 120).await;
    server.address("boot.example.org", v4(1), 120).await;
    server.address("boot.example.org", Ipv6Addr::LOCALHOST, 90).await;
    let answer = resolver.addresses("boot.example.org").await.unwrap();
    assert_eq!(answer.records, [v4(1), v4(2), Ipv6Addr::LOCALHOST.into()]);
    assert!((89..=90).contains(&answer.ttl.as_secs()), "{:?}", answer.ttl);

    // An IPv4 address in IPv6 clothing is that IPv4 address, and the same one as without it.
    server.address("mapped.example.org", Ipv4Addr::new(127, 0, 0, 5).to_ipv6_mapped(), TTL).await;
    server.address("mapped.example.org", v4(5), TTL).await;
    assert_eq!(resolver.addresses("mapped.example.org").await.unwrap().records, [v4(5)]);

    assert_eq!(resolver.addresses("nobody.example.org").await, Err(DnsError::NoName));
    assert_eq!(resolver.texts("nobody.example.org").await, Err(DnsError::NoName));
    server.text("text.example.org", "hello").await;
    assert_eq!(resolver.addresses("text.example.org").await, Err(DnsError::NoRecord("address")));
    assert_eq!(resolver.texts("boot.example.org").await, Err(DnsError::NoRecord("TXT")));
    assert_eq!(resolver.services("boot.example.org").await, Err(DnsError::NoName));
}

#[tokio::test]
async fn a_text_of_several_strings_is_one() {
    let server = Server::start().await;
    let resolver = Resolver::with_server(server.addr);
    // Longer than a UDP packet of plain DNS, and than one that says what it has room for.
    for length in [10, 255, 256, 700, 3000] {
        let text: String = (0..length).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
        let name = format!("t{length}.example.org");
        server.text(&name, &text).await;
        assert_eq!(resolver.texts(&name).await, Ok(vec![text]));
    }
    server.text("two.example.org", "one").await;
    server.text("two.example.org", "two").await;
    let texts: BTreeSet<String> = resolver.texts("two.example.org").await.unwrap().into_iter().collect();
    assert_eq!(texts, ["one".to_owned(), "two".to_owned()].into());
}

#[tokio::test]
async fn services_come_by_priority_and_a_seed_has_them_first() {
    let server = Server::start().await;
    let resolver = Resolver::with_server(server.addr);
    server.service("seed.example.org", 20, 1, 4, "c.example.org").await;
    server.service("seed.example.org", 10, 0, 3, "b.example.org").await;
    server.service("seed.example.org", 10, 60000, 2, "a.example.org").await;
    server.service("seed.example.org", 5, 1, 0, "a.example.org").await;
    let service = |name: &str, port| Service { host: format!("{name}.example.org."), port };
    let answer = resolver.services("seed.example.org").await.unwrap();
    assert_eq!(answer.records, [service("a", 2), service("b", 3), service("c", 4)]);
    server.address("a.example.org", v4(1), TTL).await;
    server.address("c.example.org", v4(3), TTL).await;
    // Of `b` there is no address.
    server.address("seed.example.org", v4(4), TTL).await;
    let seed = resolver.seed("seed.example.org", 9).await.unwrap();
    assert_eq!(seed.records, [(v4(1), 2), (v4(3), 4), (v4(4), 9)].map(SocketAddr::from));

    // With no SRV record, the addresses alone; there are more than are taken.
    for last in 1..=100 {
        server.address("large.example.org", v4(last), TTL).await;
    }
    assert_eq!(resolver.addresses("large.example.org").await.unwrap().records.len(), MAX_ADDRESSES);
    let seed = resolver.seed("large.example.org", 9).await.unwrap();
    let different: BTreeSet<SocketAddr> = seed.records.iter().copied().collect();
    assert_eq!((seed.records.len(), different.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
    assert!(!seed.records.is_sorted(), "which come first is left to chance");
    assert_eq!(resolver.seed("nobody.example.org", 9).await, Err(DnsError::NoName));
    // Nor of the services and the name together.
    server.service("large.example.org", 1, 1, 5, "large.example.org").await;
    resolver.renew();
    let seed = resolver.seed("large.example.org", 9).await.unwrap();
    assert_eq!(seed.records.len(), MAX_ADDRESSES);
    assert!(seed.records.iter().all(|addr| addr.port() == 5), "services come first");
}

#[tokio::test]
async fn of_many_texts_and_services_so_many_are_taken() {
    let server = Server::start().await;
    let resolver = Resolver::with_server(server.addr);
    for number in 0..20 {
        server.text("many.example.org", &number.to_string()).await;
        server.service("many.example.org", number, 1, 100 + number, "boot.example.org").await;
    }
    assert_eq!(resolver.texts("many.example.org").await.unwrap().len(), 16);
    let services = resolver.services("many.example.org").await.unwrap().records;
    assert_eq!(services.iter().map(|service| service.port).collect::<Vec<_>>(), (100..116).collect::<Vec<_>>());
}

#[tokio::test]
async fn addresses_are_cached_and_texts_and_absence_are_not() {
    let server = Server::start().await;
    let resolver = Resolver::with_server(server.addr);
    server.address("boot.example.org", v4(1), TTL).await;
    server.text("boot.example.org", "one").await;
    let addresses = async || resolver.addresses("boot.example.org").await.unwrap().records;
    assert_eq!(addresses().await, [v4(1)]);
    assert_eq!(resolver.texts("boot.example.org").await, Ok(vec!["one".to_owned()]));
    assert_eq!(resolver.addresses("late.example.org").await, Err(DnsError::NoName));

    for kind in [RecordType::A, RecordType::TXT] {
        server.remove("boot.example.org", kind).await;
    }
    server.address("boot.example.org", v4(2), TTL).await;
    server.text("boot.example.org", "two").await;
    server.address("late.example.org", v4(3), TTL).await;
    assert_eq!(addresses().await, [v4(1)]);
    assert_eq!(resolver.clone().addresses("boot.example.org").await.unwrap().records, [v4(1)], "clones share it");
    assert_eq!(resolver.texts("boot.example.org").await, Ok(vec!["two".to_owned()]));
    resolver.clone().renew();
    assert_eq!(addresses().await, [v4(2)]);
    // That a name was not there is forgotten after a second, whatever the zone says.
    server.text("gone.example.org", "its address comes later").await;
    assert_eq!(resolver.addresses("gone.example.org").await, Err(DnsError::NoRecord("address")));
    server.address("gone.example.org", v4(4), TTL).await;
    let found = async {
        while resolver.addresses("gone.example.org").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("it is found");
}

/// Hands on what is asked of a server, but for names with a label `silent` in them.
async fn behind(server: SocketAddr) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (len, from) = front.recv_from(&mut buffer).await.unwrap();
            let question = buffer[..len].to_vec();
            if question.windows(7).any(|label| label.eq_ignore_ascii_case(b"\x06silent")) {
                continue;
            }
            let front = front.clone();
            tokio::spawn(async move {
                let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let mut answer = [0; 4096];
                back.send_to(&question, server).await.unwrap();
                let len = back.recv(&mut answer).await.unwrap();
                front.send_to(&answer[..len], from).await.unwrap();
            });
        }
    });
    addr
}

#[tokio::test]
async fn services_that_do_not_resolve_hold_up_a_seed_no_longer_than_one() {
    let server = Server::start().await;
    let resolver = Resolver::with_server(behind(server.addr).await);
    server.address("seed.example.org", v4(1), TTL).await;
    server.address("last.example.org", v4(2), TTL).await;
    for number in 1..=5 {
        server.service("seed.example.org", number, 1, number, &format!("n{number}.silent.example.org")).await;
    }
    server.service("seed.example.org", 6, 1, 6, "last.example.org").await;
    let seed = tokio::time::timeout(Duration::from_secs(10), resolver.seed("seed.example.org", 9)).await.expect("soon");
    assert_eq!(seed.unwrap().records, [(v4(2), 6), (v4(1), 9)].map(SocketAddr::from));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_within_seconds() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let resolver = Resolver::with_server(silent.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "real time is what is tested")]
    let start = tokio::time::Instant::now();
    let (addresses, seed, texts) = tokio::join!(
        resolver.addresses("a.example.org"),
        resolver.seed("b.example.org", 1),
        resolver.texts("c.example.org")
    );
    assert_eq!(addresses, Err(DnsError::Timeout));
    assert_eq!(seed, Err(DnsError::Timeout));
    assert_eq!(texts, Err(DnsError::Timeout));
    #[expect(clippy::disallowed_methods, reason = "real time is what is tested")]
    let took = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&took), "{took:?}");
    // Nobody listens there: an answer of the system.
    let nobody = silent.local_addr().unwrap();
    drop(silent);
    let error = Resolver::with_server(nobody).texts("c.example.org").await.unwrap_err();
    assert!(!error.is_absence(), "{error}");
}
