//! Tests of the wire format: the vectors of EIP-8, round trips, and each way in which a datagram can be wrong.

use std::net::IpAddr;

use super::*;
use crate::proto::wire::{EnrRequest, EnrResponse, FindNode, Neighbors, NodeEntry, Ping, Pong, WireEndpoint};

/// The five packets of EIP-8, all signed by the key b71c71a6…, all of which expired in 2006.
const EIP_8: [&str; 5] = [
    // PING, version 4, additional list elements.
    "e9614ccfd9fc3e74360018522d30e1419a143407ffcce748de3e22116b7e8dc92ff74788c0b6663aaa3d67d641936511c8f8d6ad8698b820a7cf9e1be7155e9a241f556658c55428ec0563514365799a4be2be5a685a80971ddcfa80cb422cdd0101ec04cb847f000001820cfa8215a8d790000000000000000000000000000000018208ae820d058443b9a3550102",
    // PING, version 555, additional list elements and additional random data.
    "577be4349c4dd26768081f58de4c6f375a7a22f3f7adda654d1428637412c3d7fe917cadc56d4e5e7ffae1dbe3efffb9849feb71b262de37977e7c7a44e677295680e9e38ab26bee2fcbae207fba3ff3d74069a50b902a82c9903ed37cc993c50001f83e82022bd79020010db83c4d001500000000abcdef12820cfa8215a8d79020010db885a308d313198a2e037073488208ae82823a8443b9a355c5010203040531b9019afde696e582a78fa8d95ea13ce3297d4afb8ba6433e4154caa5ac6431af1b80ba76023fa4090c408f6b4bc3701562c031041d4702971d102c9ab7fa5eed4cd6bab8f7af956f7d565ee1917084a95398b6a21eac920fe3dd1345ec0a7ef39367ee69ddf092cbfe5b93e5e568ebc491983c09c76d922dc3",
    // PONG, additional list elements and additional random data.
    "09b2428d83348d27cdf7064ad9024f526cebc19e4958f0fdad87c15eb598dd61d08423e0bf66b2069869e1724125f820d851c136684082774f870e614d95a2855d000f05d1648b2d5945470bc187c2d2216fbe870f43ed0909009882e176a46b0102f846d79020010db885a308d313198a2e037073488208ae82823aa0fbc914b16819237dcd8801d7e53f69e9719adecb3cc0e790c57e91ca4461c9548443b9a355c6010203c2040506a0c969a58f6f9095004c0177a6b47f451530cab38966a25cca5cb58f055542124e",
    // FINDNODE, additional list elements and additional random data.
    "c7c44041b9f7c7e41934417ebac9a8e1a4c6298f74553f2fcfdcae6ed6fe53163eb3d2b52e39fe91831b8a927bf4fc222c3902202027e5e9eb812195f95d20061ef5cd31d502e47ecb61183f74a504fe04c51e73df81f25c4d506b26db4517490103f84eb840ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f8443b9a35582999983999999280dc62cc8255c73471e0a61da0c89acdc0e035e260add7fc0c04ad9ebf3919644c91cb247affc82b69bd2ca235c71eab8e49737c937a2c396",
    // NEIGHBORS, additional list elements and additional random data.
    "c679fc8fe0b8b12f06577f2e802d34f6fa257e6137a995f6f4cbfc9ee50ed3710faf6e66f932c4c8d81d64343f429651328758b47d3dbc02c4042f0fff6946a50f4a49037a72bb550f3a7872363a83e1b9ee6469856c24eb4ef80b7535bcf99c0004f9015bf90150f84d846321163782115c82115db8403155e1427f85f10a5c9a7755877748041af1bcd8d474ec065eb33df57a97babf54bfd2103575fa829115d224c523596b401065a97f74010610fce76382c0bf32f84984010203040101b840312c55512422cf9b8a4097e9a6ad79402e87a15ae909a4bfefa22398f03d20951933beea1e4dfa6f968212385e829f04c2d314fc2d4e255e0d3bc08792b069dbf8599020010db83c4d001500000000abcdef12820d05820d05b84038643200b172dcfef857492156971f0e6aa2c538d8b74010f8e140811d53b98c765dd2d96126051913f44582e8c199ad7c6d6819e9a56483f637feaac9448aacf8599020010db885a308d313198a2e037073488203e78203e8b8408dcab8618c3253b558d459da53bd8fa68935a719aff8b811197101a4b2b47dd2d47295286fc00cc081bb542d760717d1bdd6bec2c37cd72eca367d6dd3b9df738443b9a355010203b525a138aa34383fec3d2719a0",
];

const EXPIRED: u64 = 1_136_239_445;

fn key(byte: u8) -> NodeKey {
    NodeKey::from_bytes(&[byte; 32]).unwrap()
}

fn at(ip: &str, udp: u16, tcp: u16) -> WireEndpoint {
    WireEndpoint { ip: Some(ip.parse().unwrap()), udp, tcp }
}

fn sealed(message: &Message) -> Vec<u8> {
    let mut buffer = Vec::new();
    seal(&key(1), message, &mut buffer);
    buffer.to_vec()
}

/// A packet around any payload, correctly hashed and signed.
fn framed(payload: &[u8]) -> Vec<u8> {
    let signature = key(1).sign(&crypto::keccak256(payload));
    let signed = [&signature[..], payload].concat();
    [&crypto::keccak256(&signed)[..], &signed].concat()
}

fn neighbors(count: usize, ip: &str) -> Message {
    let node = NodeEntry { endpoint: at(ip, 30303, 30303), key: PublicKey([0xab; 64]) };
    Message::Neighbors(Neighbors { nodes: vec![node; count], expiration: 1_800_000_000 })
}

fn one_of_each() -> Vec<Message> {
    let expiration = 1_800_000_000;
    vec![
        Message::Ping(Ping { from: at("1.2.3.4", 1, 2), to: at("::9", 3, 4), expiration, enr_seq: Some(7) }),
        Message::Ping(Ping {
            from: WireEndpoint { ip: None, udp: 0, tcp: 0 },
            to: at("5.6.7.8", 3, 4),
            expiration,
            enr_seq: None,
        }),
        Message::Pong(Pong { to: at("1.2.3.4", 1, 2), ping_hash: [3; 32], expiration, enr_seq: Some(1 << 40) }),
        Message::FindNode(FindNode { target: PublicKey([5; 64]), expiration }),
        neighbors(0, "1.2.3.4"),
        neighbors(12, "2a00::1"),
        Message::EnrRequest(EnrRequest { expiration }),
        Message::EnrResponse(EnrResponse { request_hash: [6; 32], record: vec![0xc3, 1, 2, 3].into() }),
    ]
}

#[test]
fn the_packets_of_eip_8() {
    let opened: Vec<Opened> = EIP_8.iter().map(|text| open(&hex::decode(text).unwrap()).unwrap()).collect();
    let sender = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7";
    assert!(opened.iter().all(|packet| packet.sender.node_id().to_string() == sender));
    let messages: Vec<&Message> = opened.iter().map(|packet| &packet.message).collect();
    assert_eq!(
        *messages[0],
        Message::Ping(Ping {
            from: at("127.0.0.1", 3322, 5544),
            to: at("::1", 2222, 3333),
            expiration: EXPIRED,
            // Reads as the record's sequence number, which has stood there since EIP-868.
            enr_seq: Some(1),
        })
    );
    assert_eq!(
        *messages[1],
        Message::Ping(Ping {
            from: at("2001:db8:3c4d:15::abcd:ef12", 3322, 5544),
            to: at("2001:db8:85a3:8d3:1319:8a2e:370:7348", 2222, 33338),
            expiration: EXPIRED,
            // A list stands there.
            enr_seq: None,
        })
    );
    assert_eq!(
        *messages[2],
        Message::Pong(Pong {
            to: at("2001:db8:85a3:8d3:1319:8a2e:370:7348", 2222, 33338),
            ping_hash: hex::decode("fbc914b16819237dcd8801d7e53f69e9719adecb3cc0e790c57e91ca4461c954")
                .unwrap()
                .try_into()
                .unwrap(),
            expiration: EXPIRED,
            enr_seq: None,
        })
    );
    let Message::FindNode(find) = messages[3] else { panic!("{:?}", messages[3]) };
    assert!(find.target.to_string().starts_with("ca634cae0d49acb4"));
    assert_eq!(find.expiration, EXPIRED);
    let Message::Neighbors(list) = messages[4] else { panic!("{:?}", messages[4]) };
    let endpoints: Vec<WireEndpoint> = list.nodes.iter().map(|node| node.endpoint).collect();
    assert_eq!(
        endpoints,
        [
            at("99.33.22.55", 4444, 4445),
            at("1.2.3.4", 1, 1),
            at("2001:db8:3c4d:15::abcd:ef12", 3333, 3333),
            at("2001:db8:85a3:8d3:1319:8a2e:370:7348", 999, 1000),
        ]
    );
    assert_eq!(list.expiration, EXPIRED);
}

#[test]
fn every_message_comes_back_as_it_went_in() {
    for message in one_of_each() {
        let packet = sealed(&message);
        let opened = open(&packet).unwrap();
        assert_eq!(opened.message, message);
        assert_eq!(opened.sender, *key(1).public_key());
        assert_eq!(opened.sender.node_id(), key(1).id());
        assert_eq!(opened.hash, packet[..32]);
        assert_eq!(opened.message.kind() as u8, packet[97]);
        assert_eq!(sealed(&message), packet, "sealing is deterministic");
    }
}

#[test]
fn lengths_are_those_of_the_specification() {
    assert_eq!(sealed(&neighbors(Neighbors::MAX_SENT, "2a00::1")).len(), 1201);
    assert_eq!(sealed(&neighbors(16, "1.2.3.4")).len(), 1373);
    let Message::Neighbors(mut longest) = neighbors(16, "2a00::1") else { panic!() };
    longest.expiration = u64::MAX;
    let longest = sealed(&Message::Neighbors(longest));
    assert_eq!(longest.len(), MAX_NEIGHBORS_LEN);
    assert!(parse(&longest).is_ok());
    let mut record = vec![0xf9, 0x01, 0x29];
    record.resize(300, 1);
    let response = Message::EnrResponse(EnrResponse { request_hash: [0; 32], record: record.into() });
    assert!(sealed(&response).len() < MAX_PACKET_LEN);
}

#[test]
fn the_long_neighbors_of_ethereumjs_is_read() {
    let packet = sealed(&neighbors(16, "1.2.3.4"));
    assert!(packet.len() > MAX_PACKET_LEN);
    let parsed = parse(&packet).unwrap();
    let Message::Neighbors(list) = parsed.message() else { panic!() };
    assert_eq!(list.nodes.len(), 16);
}

#[test]
fn each_fault_has_its_name() {
    let ping = sealed(&one_of_each()[0]);
    assert_eq!(parse(&[]), Err(OpenError::TooShort));
    assert_eq!(parse(&ping[..98]), Err(OpenError::TooShort));
    assert_eq!(parse(&[0; MAX_NEIGHBORS_LEN + 1]), Err(OpenError::TooLong));
    assert_eq!(parse(&[0; 200]), Err(OpenError::Hash));
    for at in 0..ping.len() {
        let mut damaged = ping.clone();
        damaged[at] ^= 1;
        assert_eq!(parse(&damaged), Err(OpenError::Hash), "byte {at}");
    }
    assert_eq!(parse(&framed(&[0, 0xc0])), Err(OpenError::Type));
    assert_eq!(parse(&framed(&[7, 0xc0])), Err(OpenError::Type));
    assert_eq!(parse(&framed(&[1, 0x80])), Err(OpenError::Payload));
    assert_eq!(parse(&framed(&[1, 0xc1, 4])), Err(OpenError::Payload));
    assert_eq!(parse(&framed(&[5, 0xff])), Err(OpenError::Payload));
    let mut long = framed(&[1]);
    long.resize(MAX_PACKET_LEN + 1, 0);
    let hash = crypto::keccak256(&long[32..]);
    long[..32].copy_from_slice(&hash);
    assert_eq!(parse(&long), Err(OpenError::TooLong));

    let mut zero = ping.clone();
    zero[32..97].fill(0);
    let hash = crypto::keccak256(&zero[32..]);
    zero[..32].copy_from_slice(&hash);
    assert_eq!(parse(&zero), Err(OpenError::SignatureRange));
    // An x coordinate of 5 is no point of the curve.
    zero[63] = 5;
    zero[95] = 1;
    let hash = crypto::keccak256(&zero[32..]);
    zero[..32].copy_from_slice(&hash);
    assert_eq!(open(&zero), Err(OpenError::Signature));
}

#[test]
fn a_changed_payload_under_a_right_hash_has_another_sender() {
    let mut packet = sealed(&one_of_each()[3]);
    packet[110] ^= 1;
    let hash = crypto::keccak256(&packet[32..]);
    packet[..32].copy_from_slice(&hash);
    assert_ne!(open(&packet).map(|opened| opened.sender), Ok(*key(1).public_key()));
}

#[test]
fn nonsense_addresses_are_read_and_make_no_contact() {
    // An address of three bytes, as endpoint of a PING and in a NEIGHBORS.
    let mut rlp = RlpStream::new_list(2);
    rlp.begin_list(1).begin_list(4).append(&[1u8, 2, 3].as_slice()).append(&1u16).append(&2u16);
    rlp.append(&[9u8; 64].as_slice()).append(&5u64);
    let opened = open(&framed(&[&[4][..], rlp.as_raw()].concat())).unwrap();
    let Message::Neighbors(list) = opened.message else { panic!() };
    assert_eq!(list.nodes[0].endpoint, WireEndpoint { ip: None, udp: 1, tcp: 2 });
    assert_eq!(list.nodes[0].contact(), None);
    // An IPv4 address in 16 bytes is that IPv4 address.
    let mapped: IpAddr = "::ffff:1.2.3.4".parse().unwrap();
    let message = Message::Ping(Ping {
        from: WireEndpoint { ip: Some(mapped), udp: 0, tcp: 0 },
        to: at("1.2.3.4", 1, 1),
        expiration: 1,
        enr_seq: None,
    });
    let Message::Ping(ping) = open(&sealed(&message)).unwrap().message else { panic!() };
    assert_eq!(ping.from, at("1.2.3.4", 0, 0));
}

#[test]
fn no_more_nodes_are_read_than_anybody_sends() {
    let mut rlp = RlpStream::new_list(2);
    rlp.begin_list(40);
    for _ in 0..40 {
        rlp.append(&1u8);
    }
    rlp.append(&5u64);
    // The entries are no lists at all.
    assert_eq!(parse(&framed(&[&[4][..], rlp.as_raw()].concat())), Err(OpenError::Payload));
    let Message::Neighbors(list) = open(&framed(&[&[4][..], &many()].concat())).unwrap().message else { panic!() };
    assert_eq!(list.nodes.len(), Neighbors::MAX_READ);
}

fn many() -> Vec<u8> {
    let mut rlp = RlpStream::new_list(2);
    rlp.begin_list(17);
    for port in 0..17u16 {
        rlp.begin_list(4).append_empty_data().append(&port).append(&port).append(&[9u8; 64].as_slice());
    }
    rlp.append(&5u64);
    rlp.out().to_vec()
}

#[test]
fn ports_may_have_leading_zeros() {
    // ethereumjs writes every port as two bytes.
    let mut rlp = RlpStream::new_list(4);
    rlp.append(&4u8);
    for _ in 0..2 {
        rlp.begin_list(3).append(&[1u8, 2, 3, 4].as_slice()).append(&[0u8, 99].as_slice()).append(&[0u8, 0].as_slice());
    }
    rlp.append(&5u64);
    let Message::Ping(ping) = open(&framed(&[&[1][..], rlp.as_raw()].concat())).unwrap().message else { panic!() };
    assert_eq!(ping.from, at("1.2.3.4", 99, 0));
}
