//! Node records: bytes, text, what this program signs, and whatever anybody could sign.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use kadnode::proto::crypto::keccak256;
use kadnode::proto::identity::{MAX_RECORD_LEN, Record, RecordContent};

use super::{assert_sentence, made};

/// Names that mean something in a record, and some that do not.
const NAMES: [&str; 12] =
    ["id", "secp256k1", "ip", "ip6", "udp", "udp6", "tcp", "tcp6", "eth", "", "a", "zzzzzzzzzzzzzzzz"];

/// Reads `data` as a record, as its text, and as a recipe for records.
pub fn check(data: &[u8]) {
    verify(Record::decode(data));
    if let Ok(text) = std::str::from_utf8(data) {
        verify(text.parse());
        verify(format!("enr:{text}").parse());
    }
    let mut u = Unstructured::new(data);
    // One of them at a time: checking signatures is what takes the time here.
    let _ = if u.arbitrary() == Ok(true) { foreign(&mut u) } else { own(&mut u) };
}

/// A record says the same in bytes, in text, and about its key.
fn verify(record: std::result::Result<Record, kadnode::proto::identity::RecordError>) {
    let record = match record {
        Ok(record) => record,
        Err(error) => return assert_sentence(&error),
    };
    let bytes = record.as_bytes();
    assert!(bytes.len() <= MAX_RECORD_LEN);
    let text = record.to_string();
    assert!(text.len() <= 404, "bootstrap::MAX_LINE_LEN counts on it");
    let again: Record = text.parse().expect("what is printed can be read");
    assert!(again == record && again.as_bytes() == bytes);
    assert_eq!(record.node_id(), record.public_key().node_id());
    assert!(record.pairs().is_sorted_by(|one, other| one.0 < other.0));
    for endpoint in [record.endpoint(), record.endpoint_v4(), record.endpoint_v6()].into_iter().flatten() {
        assert_eq!(endpoint.ip, endpoint.ip.to_canonical());
    }
    assert_eq!(record.contact().map(|contact| contact.endpoint), record.endpoint());
}

/// A record as this program signs it.
fn own(u: &mut Unstructured<'_>) -> Result<()> {
    let key = &made::KEYS[u.choose_index(made::KEYS.len())?];
    let seq = u.arbitrary()?;
    let mut content =
        RecordContent { v4: u.arbitrary()?, v6: u.arbitrary()?, ports: u.arbitrary()?, extra: BTreeMap::new() };
    if let Some((ip, ..)) = &mut content.v6
        && u.ratio(1, 4)?
    {
        *ip = Ipv4Addr::from(u.arbitrary::<[u8; 4]>()?).to_ipv6_mapped();
    }
    for _ in 0..u.int_in_range(0..=4)? {
        let name = if u.arbitrary()? { u.choose(&NAMES)?.as_bytes().to_vec() } else { bytes(u, 12)? };
        let value = if u.ratio(3, 4)? { made::string(&bytes(u, 40)?) } else { bytes(u, 40)? };
        content.extra.insert(name, value);
    }
    let plain = content.extra.is_empty();
    match Record::sign(key, seq, &content) {
        Ok(record) => {
            assert_eq!((record.seq(), record.public_key()), (seq, key.public_key()));
            let v4 = record.endpoint_v4().map(|endpoint| (endpoint.ip, endpoint.udp, endpoint.tcp));
            let wanted = content.v4.filter(|(_, udp, _)| *udp != 0).map(|(ip, udp, tcp)| (ip.into(), udp, tcp));
            assert!(!plain || v4 == wanted);
            verify(Ok(record));
        }
        Err(error) => {
            assert!(!plain, "{error}: {content:?}");
            assert_sentence(&error);
        }
    }
    Ok(())
}

/// A record with a right signature over whatever there is.
fn foreign(u: &mut Unstructured<'_>) -> Result<()> {
    let key = &made::KEYS[u.choose_index(made::KEYS.len())?];
    let mut items = made::string(&bytes(u, 9)?);
    for name in NAMES {
        match u.int_in_range(0..=7)? {
            0 | 1 => continue,
            2 => items.extend(bytes(u, 20)?),
            _ => items.extend(made::string(name.as_bytes())),
        }
        items.extend(match (name, u.int_in_range(0..=7)?) {
            ("id", 0..6) => made::string(b"v4"),
            ("secp256k1", 0..6) => made::string(&key.public_key().compressed()),
            ("ip", 0..4) => made::string(&u.arbitrary::<[u8; 4]>()?),
            ("ip6", 0..4) if u.ratio(1, 4)? => {
                made::string(&Ipv4Addr::from(u.arbitrary::<[u8; 4]>()?).to_ipv6_mapped().octets())
            }
            ("ip6", 0..4) => made::string(&u.arbitrary::<[u8; 16]>()?),
            (_, 0..2) => made::list(&bytes(u, 60)?),
            (_, 2..3) => bytes(u, 60)?,
            _ => made::string(&bytes(u, 4)?),
        });
    }
    let signature = key.sign(&keccak256(&made::list(&items)));
    verify(Record::decode(&made::list(&[&made::string(&signature[..64])[..], &items].concat())));
    Ok(())
}

/// Up to `most` bytes.
fn bytes(u: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
    let count = u.int_in_range(0..=most)?.min(u.len());
    Ok(u.bytes(count)?.to_vec())
}
