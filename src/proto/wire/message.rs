//! The six messages and their RLP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use rlp::{DecoderError, Rlp, RlpStream};

use crate::proto::identity::{Contact, Endpoint, PublicKey};

/// The discovery protocol version that goes into PING.
const VERSION: u32 = 4;

/// The kinds of message, with their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// Are you there?
    Ping = 1,
    /// I am.
    Pong = 2,
    /// Whom do you know near this?
    FindNode = 3,
    /// These.
    Neighbors = 4,
    /// Your record, please (EIP-868).
    EnrRequest = 5,
    /// Here (EIP-868).
    EnrResponse = 6,
}

impl MessageKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [MessageKind; 6] =
        [Self::Ping, Self::Pong, Self::FindNode, Self::Neighbors, Self::EnrRequest, Self::EnrResponse];

    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// The field's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::FindNode => "FINDNODE",
            Self::Neighbors => "NEIGHBORS",
            Self::EnrRequest => "ENRREQUEST",
            Self::EnrResponse => "ENRRESPONSE",
        }
    }
}

/// An endpoint as a packet states it, which may be nonsense: receivers of PING ignore what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireEndpoint {
    /// The address; `None` when the packet has neither 4 nor 16 bytes there.
    pub ip: Option<IpAddr>,
    /// UDP port.
    pub udp: u16,
    /// TCP port.
    pub tcp: u16,
}

impl From<Endpoint> for WireEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self { ip: Some(endpoint.ip), udp: endpoint.udp, tcp: endpoint.tcp }
    }
}

/// PING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The sender's own endpoint, as it sees it.
    pub from: WireEndpoint,
    /// Where the packet was sent.
    pub to: WireEndpoint,
    /// Unix time in seconds after which the packet is void.
    pub expiration: u64,
    /// Sequence number of the sender's record (EIP-868).
    pub enr_seq: Option<u64>,
}

/// PONG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The source address of the PING, as the sender of the PONG saw it.
    pub to: WireEndpoint,
    /// The hash of the PING packet.
    pub ping_hash: [u8; 32],
    /// Unix time in seconds after which the packet is void.
    pub expiration: u64,
    /// Sequence number of the sender's record (EIP-868).
    pub enr_seq: Option<u64>,
}

/// FINDNODE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindNode {
    /// 64 bytes whose keccak256 is the target; they need not be a point on the curve.
    pub target: PublicKey,
    /// Unix time in seconds after which the packet is void.
    pub expiration: u64,
}

/// One node in a NEIGHBORS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Where it is said to be.
    pub endpoint: WireEndpoint,
    /// Its public key.
    pub key: PublicKey,
}

impl NodeEntry {
    /// The contact, unless the address is no address.
    pub fn contact(&self) -> Option<Contact> {
        let WireEndpoint { ip, udp, tcp } = self.endpoint;
        Some(Contact { key: self.key, endpoint: Endpoint::new(ip?, udp, tcp) })
    }
}

impl From<Contact> for NodeEntry {
    fn from(contact: Contact) -> Self {
        Self { endpoint: contact.endpoint.into(), key: contact.key }
    }
}

/// NEIGHBORS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbors {
    /// The nodes, nearest to the target first; at most [`Neighbors::MAX_READ`] are read.
    pub nodes: Vec<NodeEntry>,
    /// Unix time in seconds after which the packet is void.
    pub expiration: u64,
}

impl Neighbors {
    /// How many nodes we put into one packet.
    ///
    /// An IPv6 node takes 91 bytes (list 2, address 17, ports 3 + 3, key 66), the frame 109 (header 98, list 3 + 3,
    /// expiration 5): 12 make 1,201 bytes and 13 would make 1,292, over the 1,280 of the specification.
    pub const MAX_SENT: usize = 12;
    /// How many nodes of one packet we read. ethereumjs sends 16, and nobody more; the rest is ignored.
    pub const MAX_READ: usize = 16;
}

/// ENRREQUEST (EIP-868).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrRequest {
    /// Unix time in seconds after which the packet is void.
    pub expiration: u64,
}

/// ENRRESPONSE (EIP-868).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrResponse {
    /// The hash of the ENRREQUEST packet.
    pub request_hash: [u8; 32],
    /// The record, encoded and not yet checked.
    pub record: Bytes,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// PING.
    Ping(Ping),
    /// PONG.
    Pong(Pong),
    /// FINDNODE.
    FindNode(FindNode),
    /// NEIGHBORS.
    Neighbors(Neighbors),
    /// ENRREQUEST.
    EnrRequest(EnrRequest),
    /// ENRRESPONSE.
    EnrResponse(EnrResponse),
}

impl Message {
    /// Which of the six it is.
    pub fn kind(&self) -> MessageKind {
        match self {
            Message::Ping(_) => MessageKind::Ping,
            Message::Pong(_) => MessageKind::Pong,
            Message::FindNode(_) => MessageKind::FindNode,
            Message::Neighbors(_) => MessageKind::Neighbors,
            Message::EnrRequest(_) => MessageKind::EnrRequest,
            Message::EnrResponse(_) => MessageKind::EnrResponse,
        }
    }

    /// When the packet becomes void, in Unix seconds; ENRRESPONSE has no such field.
    pub fn expiration(&self) -> Option<u64> {
        match self {
            Message::Ping(m) => Some(m.expiration),
            Message::Pong(m) => Some(m.expiration),
            Message::FindNode(m) => Some(m.expiration),
            Message::Neighbors(m) => Some(m.expiration),
            Message::EnrRequest(m) => Some(m.expiration),
            Message::EnrResponse(_) => None,
        }
    }

    /// Appends the RLP of the message.
    pub(super) fn encode(&self, rlp: &mut RlpStream) {
        match self {
            Message::Ping(ping) => {
                rlp.begin_list(4 + usize::from(ping.enr_seq.is_some())).append(&VERSION);
                append_endpoint(rlp, &ping.from);
                append_endpoint(rlp, &ping.to);
                rlp.append(&ping.expiration);
                ping.enr_seq.map(|seq| rlp.append(&seq));
            }
            Message::Pong(pong) => {
                rlp.begin_list(3 + usize::from(pong.enr_seq.is_some()));
                append_endpoint(rlp, &pong.to);
                rlp.append(&pong.ping_hash.as_slice()).append(&pong.expiration);
                pong.enr_seq.map(|seq| rlp.append(&seq));
            }
            Message::FindNode(find) => {
                rlp.begin_list(2).append(&find.target.0.as_slice()).append(&find.expiration);
            }
            Message::Neighbors(neighbors) => {
                rlp.begin_list(2).begin_list(neighbors.nodes.len());
                for node in &neighbors.nodes {
                    rlp.begin_list(4);
                    append_fields(rlp, &node.endpoint);
                    rlp.append(&node.key.0.as_slice());
                }
                rlp.append(&neighbors.expiration);
            }
            Message::EnrRequest(request) => {
                rlp.begin_list(1).append(&request.expiration);
            }
            Message::EnrResponse(response) => {
                rlp.begin_list(2).append(&response.request_hash.as_slice()).append_raw(&response.record, 1);
            }
        }
    }

    /// Reads the RLP of a message of the given kind.
    pub(super) fn decode(kind: MessageKind, bytes: &[u8]) -> Result<Self, DecoderError> {
        let rlp = Rlp::new(bytes);
        if !rlp.is_list() {
            return Err(DecoderError::RlpExpectedToBeList);
        }
        Ok(match kind {
            MessageKind::Ping => Message::Ping(Ping {
                // Item 0 is the version, which EIP-8 says to ignore.
                from: endpoint(&rlp.at(1)?)?,
                to: endpoint(&rlp.at(2)?)?,
                expiration: rlp.val_at(3)?,
                enr_seq: optional_u64(&rlp, 4),
            }),
            MessageKind::Pong => Message::Pong(Pong {
                to: endpoint(&rlp.at(0)?)?,
                ping_hash: fixed(&rlp.at(1)?)?,
                expiration: rlp.val_at(2)?,
                enr_seq: optional_u64(&rlp, 3),
            }),
            MessageKind::FindNode => {
                Message::FindNode(FindNode { target: PublicKey(fixed(&rlp.at(0)?)?), expiration: rlp.val_at(1)? })
            }
            MessageKind::Neighbors => {
                let list = rlp.at(0)?;
                if !list.is_list() {
                    return Err(DecoderError::RlpExpectedToBeList);
                }
                let mut nodes = Vec::with_capacity(Neighbors::MAX_READ);
                for node in list.iter().take(Neighbors::MAX_READ) {
                    nodes.push(NodeEntry { endpoint: fields(&node)?, key: PublicKey(fixed(&node.at(3)?)?) });
                }
                Message::Neighbors(Neighbors { nodes, expiration: rlp.val_at(1)? })
            }
            MessageKind::EnrRequest => Message::EnrRequest(EnrRequest { expiration: rlp.val_at(0)? }),
            MessageKind::EnrResponse => Message::EnrResponse(EnrResponse {
                request_hash: fixed(&rlp.at(0)?)?,
                record: Bytes::copy_from_slice(rlp.at(1)?.as_raw()),
            }),
        })
    }
}

fn append_endpoint(rlp: &mut RlpStream, endpoint: &WireEndpoint) {
    rlp.begin_list(3);
    append_fields(rlp, endpoint);
}

fn append_fields(rlp: &mut RlpStream, endpoint: &WireEndpoint) {
    match endpoint.ip {
        Some(IpAddr::V4(ip)) => rlp.append(&ip.octets().as_slice()),
        Some(IpAddr::V6(ip)) => rlp.append(&ip.octets().as_slice()),
        None => rlp.append_empty_data(),
    };
    rlp.append(&endpoint.udp).append(&endpoint.tcp);
}

fn endpoint(rlp: &Rlp<'_>) -> Result<WireEndpoint, DecoderError> {
    if rlp.is_list() { fields(rlp) } else { Err(DecoderError::RlpExpectedToBeList) }
}

/// Address and ports from the first three items of a list.
fn fields(rlp: &Rlp<'_>) -> Result<WireEndpoint, DecoderError> {
    let address = rlp.at(0)?;
    let ip = match *address.data()? {
        [a, b, c, d] => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        ref bytes => <[u8; 16]>::try_from(bytes).ok().map(|o| IpAddr::V6(Ipv6Addr::from(o)).to_canonical()),
    };
    Ok(WireEndpoint { ip, udp: port(&rlp.at(1)?)?, tcp: port(&rlp.at(2)?)? })
}

/// A port. ethereumjs always sends two bytes, so leading zeros have to be taken here, which RLP integers do not allow.
fn port(rlp: &Rlp<'_>) -> Result<u16, DecoderError> {
    match *rlp.data()? {
        [] => Ok(0),
        [low] => Ok(u16::from(low)),
        [high, low] => Ok(u16::from_be_bytes([high, low])),
        _ => Err(DecoderError::RlpIsTooBig),
    }
}

fn fixed<const N: usize>(rlp: &Rlp<'_>) -> Result<[u8; N], DecoderError> {
    rlp.data()?.try_into().map_err(|_| DecoderError::RlpInvalidLength)
}

/// The record's sequence number came with EIP-868: where it stands, EIP-8 senders may have put anything.
fn optional_u64(rlp: &Rlp<'_>, index: usize) -> Option<u64> {
    rlp.val_at(index).ok()
}
