//! Properties of what is written and read, over generated values: messages, packets, records, enode URLs, contacts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(feature = "dns")]
use kadnode::bootstrap::dns::{Entry, Hash, Root, TreeUrl};
use kadnode::bootstrap::{self, Address, Bootnode};
use kadnode::proto::identity::{
    Endpoint, Enode, Host, IdPrefix, MAX_RECORD_LEN, NodeKey, PublicKey, Record, RecordContent,
};
use kadnode::proto::wire::{
    self, EnrRequest, EnrResponse, FindNode, MAX_NEIGHBORS_LEN, MAX_PACKET_LEN, Message, MessageKind, Neighbors,
    NodeEntry, OpenError, Opened, Ping, Pong, WireEndpoint,
};
use proptest::array::uniform;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// No files of failures: what fails becomes a test of its own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Any address, as this crate keeps them: none is an IPv4 address in IPv6 clothing.
fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(|ip| IpAddr::V6(ip).to_canonical()),
        any::<Ipv4Addr>().prop_map(|ip| IpAddr::V6(ip.to_ipv6_mapped()).to_canonical()),
    ]
}

/// Ports whose RLP has no, one and two bytes.
fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), 1..128u16, any::<u16>()]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, any::<u64>(), any::<u32>().prop_map(u64::from)]
}

fn endpoint() -> impl Strategy<Value = WireEndpoint> {
    (option::of(ip()), port(), port()).prop_map(|(ip, udp, tcp)| WireEndpoint { ip, udp, tcp })
}

fn public_key() -> impl Strategy<Value = PublicKey> {
    uniform::<_, 64>(any::<u8>()).prop_map(PublicKey)
}

fn node_key() -> impl Strategy<Value = NodeKey> {
    any::<[u8; 32]>().prop_filter_map("no scalar of the group", |bytes| NodeKey::from_bytes(&bytes).ok())
}

/// All six, with the longest of their kind among them.
fn message() -> impl Strategy<Value = Message> {
    let seq = || option::of(number());
    let node = (endpoint(), public_key()).prop_map(|(endpoint, key)| NodeEntry { endpoint, key });
    prop_oneof![
        (endpoint(), endpoint(), number(), seq()).prop_map(|(from, to, expiration, enr_seq)| Message::Ping(Ping {
            from,
            to,
            expiration,
            enr_seq
        })),
        (endpoint(), any::<[u8; 32]>(), number(), seq()).prop_map(
            |(to, ping_hash, expiration, enr_seq)| Message::Pong(Pong { to, ping_hash, expiration, enr_seq })
        ),
        (public_key(), number()).prop_map(|(target, expiration)| Message::FindNode(FindNode { target, expiration })),
        (vec(node, 0..=Neighbors::MAX_READ), number())
            .prop_map(|(nodes, expiration)| Message::Neighbors(Neighbors { nodes, expiration })),
        number().prop_map(|expiration| Message::EnrRequest(EnrRequest { expiration })),
        (any::<[u8; 32]>(), node_key(), content(), number()).prop_filter_map(
            "too long",
            |(hash, key, content, seq)| {
                let record = Record::sign(&key, seq, &content).ok()?.as_bytes().clone();
                Some(Message::EnrResponse(EnrResponse { request_hash: hash, record }))
            }
        ),
    ]
}

/// What may stand in a record; the values of the further pairs are short RLP strings.
fn content() -> impl Strategy<Value = RecordContent> {
    let value = vec(0x80u8.., 0..30).prop_map(|bytes| [&[0x80 + bytes.len() as u8][..], &bytes].concat());
    let v4 = (any::<Ipv4Addr>(), port(), port());
    let v6 = (any::<Ipv6Addr>(), port(), port());
    let extra = btree_map(vec(any::<u8>(), 0..12), value, 0..3);
    (option::of(v4), option::of(v6), option::of((port(), port())), extra)
        .prop_map(|(v4, v6, ports, extra)| RecordContent { v4, v6, ports, extra })
}

/// A DNS name, as RFC 1123 has it: the last label is none of digits, so that it is no address.
fn name() -> impl Strategy<Value = String> {
    "([a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?\\.){0,4}[a-z]([a-z0-9-]{0,8}[a-z0-9])?"
}

fn enode() -> impl Strategy<Value = Enode> {
    let host = prop_oneof![3 => ip().prop_map(Host::Ip), 1 => name().prop_map(Host::Name)];
    (public_key(), host, port(), port()).prop_map(|(key, host, tcp, udp)| Enode { key, host, tcp, udp })
}

/// A contact that can be contacted.
fn contact() -> impl Strategy<Value = Bootnode> {
    let record = (node_key(), number(), any::<Ipv4Addr>(), 1u16.., port()).prop_map(|(key, seq, ip, udp, tcp)| {
        let content = RecordContent { v4: Some((ip, udp, tcp)), ..RecordContent::default() };
        Bootnode::Record(Box::new(Record::sign(&key, seq, &content).unwrap()))
    });
    let enode = (enode(), 1u16..).prop_map(|(enode, udp)| Bootnode::Enode(Enode { udp, ..enode }));
    let host = prop_oneof![3 => ip().prop_map(Host::Ip), 1 => name().prop_map(Host::Name)];
    let pin = option::of("[0-9a-f]{8,64}".prop_map(|digits| digits.parse::<IdPrefix>().unwrap()));
    let address = (host, 1u16.., pin).prop_map(|(host, port, pin)| Bootnode::Address(Address { host, port, pin }));
    prop_oneof![2 => record, 2 => enode, 2 => address, 1 => Just(Bootnode::Lan), 2 => place_in_dns()]
}

#[cfg(feature = "dns")]
fn place_in_dns() -> impl Strategy<Value = Bootnode> {
    let seed = (name(), 1u16..).prop_map(|(name, port)| Bootnode::Seed(bootstrap::Seed { name, port }));
    prop_oneof![seed, tree_url().prop_map(Bootnode::Tree)]
}

#[cfg(not(feature = "dns"))]
fn place_in_dns() -> impl Strategy<Value = Bootnode> {
    Just(Bootnode::Lan)
}

#[cfg(feature = "dns")]
fn tree_url() -> impl Strategy<Value = TreeUrl> {
    (node_key(), name()).prop_map(|(key, domain)| TreeUrl { key: *key.public_key(), domain })
}

#[cfg(feature = "dns")]
fn entry() -> impl Strategy<Value = Entry> {
    let record = (node_key(), number(), content()).prop_filter_map("too long", |(key, seq, content)| {
        Some(Entry::Node(Box::new(Record::sign(&key, seq, &content).ok()?)))
    });
    prop_oneof![
        vec(any::<[u8; 16]>().prop_map(Hash), 0..=37).prop_map(Entry::Branch),
        record,
        tree_url().prop_map(Entry::Link)
    ]
}

fn sealed(key: &NodeKey, message: &Message) -> Vec<u8> {
    let mut packet = Vec::new();
    wire::seal(key, message, &mut packet);
    packet
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_packet_says_what_was_sealed(key in node_key(), message in message()) {
        let packet = sealed(&key, &message);
        let hash = wire::Hash::try_from(&packet[..32]).unwrap();
        prop_assert_eq!(wire::open(&packet), Ok(Opened { hash, sender: *key.public_key(), message: message.clone() }));
        let most = if message.kind() == MessageKind::Neighbors { MAX_NEIGHBORS_LEN } else { MAX_PACKET_LEN };
        prop_assert!(packet.len() <= most);
        let expires = message.kind() != MessageKind::EnrResponse;
        prop_assert_eq!(message.expiration().is_some(), expires);
    }

    #[test]
    fn a_damaged_packet_is_not_opened(key in node_key(), message in message(), at: prop::sample::Index, by in 1u8..) {
        let mut packet = sealed(&key, &message);
        let at = at.index(packet.len());
        packet[at] ^= by;
        prop_assert_eq!(wire::parse(&packet), Err(OpenError::Hash));
        prop_assert!(wire::parse(&packet[..at]).is_err());
    }

    #[test]
    fn a_record_says_what_was_signed(key in node_key(), seq in number(), content in content()) {
        // The names of the pairs that have a meaning are put in last.
        let known: BTreeSet<&[u8]> =
            [&b"id"[..], b"secp256k1", b"ip", b"ip6", b"udp", b"udp6", b"tcp", b"tcp6"].into();
        let extra: BTreeMap<_, _> =
            content.extra.iter().filter(|(name, _)| !known.contains(&name[..])).map(|(n, v)| (n.clone(), v.clone())).collect();
        let content = RecordContent { extra, ..content };
        let record = Record::sign(&key, seq, &content).unwrap();
        prop_assert!(record.as_bytes().len() <= MAX_RECORD_LEN);
        prop_assert_eq!((record.seq(), record.public_key(), record.node_id()), (seq, key.public_key(), key.id()));
        let v4 = content.v4.filter(|v4| v4.1 != 0).map(|(ip, udp, tcp)| Endpoint::new(ip.into(), udp, tcp));
        prop_assert_eq!(record.endpoint_v4(), v4);
        if let Some((ip, udp, tcp)) = content.v6.filter(|(_, udp, tcp)| *udp != 0 && *tcp != 0) {
            prop_assert_eq!(record.endpoint_v6(), Some(Endpoint::new(ip.into(), udp, tcp)));
        }
        let others: BTreeMap<_, _> = record
            .pairs()
            .filter(|(name, _)| !known.contains(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        prop_assert_eq!(others, content.extra);
        prop_assert_eq!(Record::decode(record.as_bytes()), Ok(record.clone()));
        prop_assert_eq!(record.to_string().parse(), Ok(record));
    }

    #[test]
    fn a_damaged_record_is_not_read(key in node_key(), content in content(), at: prop::sample::Index, by in 1u8..) {
        let Ok(record) = Record::sign(&key, 1, &content) else { return Ok(()) };
        let mut bytes = record.as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assert!(Record::decode(&bytes[..at]).is_err());
        bytes[at] ^= by;
        prop_assert!(Record::decode(&bytes).is_err());
    }

    #[test]
    fn an_enode_url_comes_back_as_it_was_printed(enode in enode()) {
        let text = enode.to_string();
        prop_assert_eq!(text.parse(), Ok(enode.clone()));
        // Hosts and keys may be written in capitals, the rest may not.
        let (scheme, rest) = text.split_at("enode://".len());
        let (rest, option) = rest.split_once('?').map_or((rest, None), |(rest, option)| (rest, Some(option)));
        let option = option.map(|option| format!("?{option}")).unwrap_or_default();
        prop_assert_eq!(format!("{scheme}{}{option}", rest.to_uppercase()).parse(), Ok(enode));
    }

    #[test]
    fn a_cut_enode_url_is_an_error(enode in enode(), at: prop::sample::Index) {
        let text = enode.to_string();
        let at = at.index(text.len());
        // What is cut within the port is another URL.
        match text[..at].parse::<Enode>() {
            Ok(cut) => prop_assert!(cut.key == enode.key && cut.host == enode.host),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_file_of_contacts_gives_each_with_its_line(
        lines in vec((option::of(contact()), "[ \t]{0,3}", "([ \t]#[^\r\n]{0,20})?", "\r?"), 0..12),
        junk in "[^#\\s][^\r\n#]{0,30}",
        bom: bool,
    ) {
        let mut text = if bom { "\u{feff}".to_owned() } else { String::new() };
        let mut wanted = Vec::new();
        for (index, (contact, space, comment, end)) in lines.into_iter().enumerate() {
            let printed = contact.as_ref().map(Bootnode::to_string).unwrap_or_default();
            text += &format!("{space}{printed}{comment}{end}\n");
            wanted.extend(contact.map(|contact| (index + 1, contact)));
        }
        text += &junk;
        let file = bootstrap::parse(text.as_bytes()).unwrap();
        let good: Vec<_> = file.good.into_iter().map(|good| (good.line, good.contact)).collect();
        prop_assert_eq!(good, wanted);
        prop_assert_eq!(file.bad.len(), 1);
        prop_assert_eq!(file.bad[0].line, text.bytes().filter(|byte| *byte == b'\n').count() + 1);
    }
}

#[cfg(feature = "dns")]
proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn an_entry_of_a_tree_comes_back_by_its_hash(entry in entry(), other in "\\PC{0,40}") {
        let text = entry.to_string();
        prop_assert_eq!(text.parse(), Ok(entry.clone()));
        let hash = Hash::of(&text);
        prop_assert_eq!(hash.to_string().parse(), Ok(hash));
        prop_assert_eq!(hash.to_string().to_lowercase().parse(), Ok(hash));
        prop_assert_eq!(Entry::find(&[other.clone(), text], &hash), Ok(entry));
        prop_assert!(Entry::find(&[other], &hash).is_err());
    }

    #[test]
    fn whatever_stands_in_dns_is_an_entry_or_a_sentence(
        kind in prop_oneof![Just(""), Just("enrtree-branch:"), Just("enrtree://"), Just("enr:"), Just("enrtree-root:v1 ")],
        rest in prop_oneof!["\\PC{0,60}", "[A-Z2-7,@a-z_-]{0,200}", "e=[A-Z2-7]{26} l=[A-Z2-7]{26} seq=[0-9]{1,3} sig=[a-z]{87}"],
        key in node_key(),
    ) {
        let text = format!("{kind}{rest}");
        match text.parse::<Entry>() {
            // What is read says the same again.
            Ok(entry) => prop_assert_eq!(entry.to_string().parse(), Ok(entry)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        let error = Root::parse(&text, key.public_key()).unwrap_err();
        prop_assert!(!error.to_string().is_empty());
    }

    #[test]
    fn a_damaged_entry_is_not_what_its_name_says(entry in entry(), at: prop::sample::Index, by in 1u8..) {
        let text = entry.to_string();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Ok(damaged) = String::from_utf8(bytes) {
            prop_assert!(Entry::find(&[damaged], &Hash::of(&text)).is_err());
        }
        if text.is_char_boundary(at) {
            prop_assert!(Entry::find(&[text[..at].to_owned()], &Hash::of(&text)).is_err());
        }
    }
}
