//! Node records (EIP-778, identity scheme `v4`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use alloy_rlp::Decodable;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use enr::Enr;
use enr::k256::ecdsa::SigningKey;
use rlp::RlpStream;
use thiserror::Error;

use super::{Contact, Endpoint, NodeId, NodeKey, PublicKey};
use crate::proto::crypto;

/// A record is at most this many bytes, encoded (EIP-778).
pub const MAX_RECORD_LEN: usize = 300;

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The text does not begin with `enr:`.
    #[error("a record begins with enr:")]
    Prefix,
    /// Longer than [`MAX_RECORD_LEN`].
    #[error("the record has {0} bytes, and 300 is the most that EIP-778 allows")]
    TooLong(usize),
    /// Not base64.
    #[error("the record is not URL-safe base64: a character is wrong or missing")]
    Base64,
    /// Not one RLP list of the form that EIP-778 asks for.
    #[error("the record is damaged: it does not decode")]
    Encoding,
    /// The signature is not that of the record's own key over its content.
    #[error("the signature of the record is wrong")]
    Signature,
    /// There is no usable secp256k1 key in it.
    #[error("the record has no valid secp256k1 key")]
    Key,
    /// It was signed in another way.
    #[error("the record is of an identity scheme other than v4")]
    Scheme,
}

/// What a node says of itself; [`Record::sign`] makes a record of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordContent {
    /// IPv4 address with UDP and TCP port; a port of 0 is left out.
    pub v4: Option<(Ipv4Addr, u16, u16)>,
    /// IPv6 address with UDP and TCP port; a port of 0 is left out.
    pub v6: Option<(Ipv6Addr, u16, u16)>,
    /// The ports when no address is known: UDP, TCP.
    pub ports: Option<(u16, u16)>,
    /// Further pairs: key, and value as one RLP item.
    pub extra: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A node record whose signature has been checked, in the very bytes that were signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    raw: Bytes,
    enr: Enr<SigningKey>,
    key: PublicKey,
}

impl Record {
    /// Signs `content` with a sequence number.
    ///
    /// # Errors
    /// [`RecordError::TooLong`] when it does not fit in 300 bytes.
    pub fn sign(key: &NodeKey, seq: u64, content: &RecordContent) -> Result<Self, RecordError> {
        // The `enr` crate reads and checks records; it signs with the system's generator, which is not for us here.
        let mut pairs = content.extra.clone();
        let mut put = |name: &str, value: &[u8]| pairs.insert(name.as_bytes().to_vec(), rlp::encode(&value).to_vec());
        put("id", b"v4");
        put("secp256k1", &key.public_key().compressed());
        if let Some((ip, ..)) = content.v4 {
            put("ip", &ip.octets());
        }
        if let Some((ip, ..)) = content.v6 {
            put("ip6", &ip.octets());
        }
        let mut put = |name: &str, port: u16| {
            if port != 0 {
                pairs.insert(name.as_bytes().to_vec(), rlp::encode(&port).to_vec());
            }
        };
        let ports = if content.v6.is_none() { content.ports } else { None };
        if let Some((udp, tcp)) = content.v4.map(|(_, udp, tcp)| (udp, tcp)).or(ports) {
            put("udp", udp);
            put("tcp", tcp);
        }
        if let Some((_, udp, tcp)) = content.v6 {
            put("udp6", udp);
            put("tcp6", tcp);
        }
        let items = |rlp: &mut RlpStream| {
            rlp.append(&seq);
            for (name, value) in &pairs {
                rlp.append(name).append_raw(value, 1);
            }
        };
        let count = 1 + 2 * pairs.len();
        let mut signed = RlpStream::new_list(count);
        items(&mut signed);
        let signature = key.sign(&crypto::keccak256(signed.as_raw()));
        let mut record = RlpStream::new_list(1 + count);
        record.append(&&signature[..64]);
        items(&mut record);
        Self::decode(record.as_raw())
    }

    /// Reads a record from its RLP bytes and checks its signature; nothing may follow the list.
    pub fn decode(raw: &[u8]) -> Result<Self, RecordError> {
        if raw.len() > MAX_RECORD_LEN {
            return Err(RecordError::TooLong(raw.len()));
        }
        let mut rest = raw;
        let enr = Enr::<SigningKey>::decode(&mut rest).map_err(refuse)?;
        if !rest.is_empty() {
            return Err(RecordError::Encoding);
        }
        Ok(Self::from_parts(raw, enr))
    }

    /// The encoded record, as it goes into an ENRRESPONSE.
    pub fn as_bytes(&self) -> &Bytes {
        &self.raw
    }

    /// The sequence number.
    pub fn seq(&self) -> u64 {
        self.enr.seq()
    }

    /// The public key of the node that signed the record.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The ID of that node.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.enr.node_id().raw())
    }

    /// Where the record says that the node receives discovery datagrams: IPv4 when there is one, else IPv6.
    ///
    /// An IPv6 address without ports of its own uses those for IPv4 (EIP-778).
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint_v4().or_else(|| self.endpoint_v6())
    }

    /// The IPv4 endpoint.
    pub fn endpoint_v4(&self) -> Option<Endpoint> {
        let ip = IpAddr::V4(self.enr.ip4()?);
        Some(Endpoint::new(ip, self.enr.udp4()?, self.enr.tcp4().unwrap_or(0)))
    }

    /// The IPv6 endpoint; where the record puts an IPv4 address in IPv6 clothing, it is that IPv4 address.
    pub fn endpoint_v6(&self) -> Option<Endpoint> {
        let ip = IpAddr::V6(self.enr.ip6()?);
        let udp = self.enr.udp6().or_else(|| self.enr.udp4())?;
        Some(Endpoint::new(ip, udp, self.enr.tcp6().or_else(|| self.enr.tcp4()).unwrap_or(0)))
    }

    /// Key and endpoint together.
    pub fn contact(&self) -> Option<Contact> {
        Some(Contact { key: self.key, endpoint: self.endpoint()? })
    }

    /// All pairs in the order of their keys: key, and value as one RLP item.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.enr.iter().map(|(key, value)| (key.as_slice(), value))
    }

    fn from_parts(raw: &[u8], enr: Enr<SigningKey>) -> Self {
        let mut key = [0; 64];
        // Tag, x and y.
        key.copy_from_slice(&enr.public_key().to_sec1_point(false).as_bytes()[1..]);
        Self { raw: Bytes::copy_from_slice(raw), enr, key: PublicKey(key) }
    }

    /// Whether both say the same, sequence number and signature aside.
    pub fn same_content(&self, other: &Record) -> bool {
        self.enr.iter().eq(other.enr.iter())
    }
}

impl fmt::Display for Record {
    /// The text form: `enr:` and URL-safe base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.enr.to_base64())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({:?} seq {})", self.node_id(), self.seq())
    }
}

impl FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let base64 = text.strip_prefix("enr:").ok_or(RecordError::Prefix)?;
        let raw = URL_SAFE_NO_PAD.decode(base64.trim_end_matches('=')).map_err(|_| RecordError::Base64)?;
        Self::decode(&raw)
    }
}

fn refuse(error: alloy_rlp::Error) -> RecordError {
    // The words of the `enr` crate; a test holds them in place.
    match error {
        alloy_rlp::Error::Custom("Invalid Signature") => RecordError::Signature,
        alloy_rlp::Error::Custom("Unknown signature" | "Invalid Secp256k1 Signature") => RecordError::Key,
        alloy_rlp::Error::Custom("Unsupported identity scheme") => RecordError::Scheme,
        _ => RecordError::Encoding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example record of EIP-778.
    const EXAMPLE: &str = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8";

    #[test]
    fn the_example_of_eip_778() {
        let record: Record = EXAMPLE.parse().unwrap();
        assert_eq!(record.seq(), 1);
        assert_eq!(record.node_id().to_string(), "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7");
        assert_eq!(record.endpoint(), Some(Endpoint { ip: "127.0.0.1".parse().unwrap(), udp: 30303, tcp: 0 }));
        assert_eq!(record.to_string(), EXAMPLE);
        assert_eq!(Record::decode(record.as_bytes()).unwrap(), record);
    }

    #[test]
    fn signing_is_deterministic_and_content_compares_without_the_sequence() {
        let key = NodeKey::from_bytes(&[3; 32]).unwrap();
        let mut content = RecordContent { v4: Some(([1, 2, 3, 4].into(), 5, 0)), ..Default::default() };
        let one = Record::sign(&key, 1, &content).unwrap();
        assert_eq!(one, Record::sign(&key, 1, &content).unwrap());
        assert!(one.same_content(&Record::sign(&key, 2, &content).unwrap()));
        content.v6 = Some((Ipv6Addr::LOCALHOST, 6, 7));
        let two = Record::sign(&key, 2, &content).unwrap();
        assert!(!one.same_content(&two));
        assert_eq!(two.endpoint_v6(), Some(Endpoint { ip: Ipv6Addr::LOCALHOST.into(), udp: 6, tcp: 7 }));
        assert_eq!(one.public_key(), key.public_key());
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothing_is_taken_as_what_it_is() {
        // Else one host would have two addresses, with limits for each.
        let key = NodeKey::from_bytes(&[3; 32]).unwrap();
        let content = RecordContent { v6: Some(("::ffff:1.2.3.4".parse().unwrap(), 5, 6)), ..Default::default() };
        let record = Record::sign(&key, 1, &content).unwrap();
        let plain = Endpoint { ip: [1, 2, 3, 4].into(), udp: 5, tcp: 6 };
        assert_eq!((record.endpoint(), record.endpoint_v6()), (Some(plain), Some(plain)));
    }

    #[test]
    fn an_unknown_address_leaves_ports_only() {
        let key = NodeKey::from_bytes(&[3; 32]).unwrap();
        let record = Record::sign(&key, 1, &RecordContent { ports: Some((30303, 0)), ..Default::default() }).unwrap();
        assert_eq!(record.endpoint(), None);
        assert_eq!(record.pairs().map(|(k, _)| k).collect::<Vec<_>>(), [b"id" as &[u8], b"secp256k1", b"udp"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let parse = |text: &str| text.parse::<Record>().unwrap_err();
        assert_eq!(parse("IS4QH"), RecordError::Prefix);
        assert_eq!(parse("enr:%%"), RecordError::Base64);
        assert_eq!(parse(&EXAMPLE[..100]), RecordError::Encoding);
        // The first byte of the signature, and a bit of the key's parity and x.
        let raw: Record = EXAMPLE.parse().unwrap();
        let changed = |at: usize, bits: u8| {
            let mut raw = raw.as_bytes().to_vec();
            raw[at] ^= bits;
            Record::decode(&raw).unwrap_err()
        };
        assert_eq!(changed(4, 1), RecordError::Signature);
        let key = raw.as_bytes().windows(9).position(|w| w == b"secp256k1").unwrap() + 10;
        assert_eq!(changed(key, 1), RecordError::Signature, "the other key with that x");
        assert_eq!(changed(key, 0x80), RecordError::Key);
        assert_eq!(changed(key - 10, 1), RecordError::Key, "another name");
        let v4 = raw.as_bytes().windows(2).position(|w| w == b"v4").unwrap();
        assert_eq!(changed(v4 + 1, 1), RecordError::Scheme);
    }

    #[test]
    fn a_changed_byte_is_found_out() {
        let record: Record = EXAMPLE.parse().unwrap();
        for at in 0..record.as_bytes().len() {
            let mut raw = record.as_bytes().to_vec();
            raw[at] ^= 1;
            assert!(Record::decode(&raw).is_err(), "byte {at}");
        }
        let mut long = record.as_bytes().to_vec();
        long.push(0);
        assert_eq!(Record::decode(&long), Err(RecordError::Encoding));
        assert_eq!(Record::decode(&[0; 301]), Err(RecordError::TooLong(301)));
    }

    #[test]
    fn too_much_content_is_refused() {
        let key = NodeKey::from_bytes(&[3; 32]).unwrap();
        let mut content = RecordContent::default();
        let mut value = vec![0xb8, 200];
        value.extend([1; 200]);
        content.extra.insert(b"x".to_vec(), value);
        assert!(Record::sign(&key, 1, &content).is_err());
    }
}
