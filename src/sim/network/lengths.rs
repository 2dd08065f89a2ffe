//! How long packets are, where none is made.

use crate::proto::wire::{Message, Neighbors, encoded_len};

/// The lengths of packets, each found out once by encoding a message.
///
/// In a simulation a packet's length follows from its kind and how many nodes it names: all addresses are IPv4, all UDP
/// ports take three bytes and all TCP ports, which are 0, one; Unix times take five, and the sequence number of a
/// record, which stays below 128, one. ENRRESPONSE carries a record and is encoded each time.
#[derive(Debug, Default)]
pub(in crate::sim) struct Lengths {
    /// NEIGHBORS by the number of nodes; 0 for not known yet, here and below.
    neighbors: [u16; Neighbors::MAX_SENT + 1],
    others: [u16; 6],
}

impl Lengths {
    /// The length of the packet that `message` would be, in bytes.
    pub(in crate::sim) fn of(&mut self, message: &Message) -> u64 {
        let known = match message {
            Message::EnrResponse(_) => None,
            Message::Neighbors(neighbors) => self.neighbors.get_mut(neighbors.nodes.len()),
            _ => Some(&mut self.others[message.kind() as usize - 1]),
        };
        match known {
            Some(len) => {
                if *len == 0 {
                    // No packet is longer than a datagram.
                    *len = sealed_len(message) as u16;
                }
                u64::from(*len)
            }
            None => sealed_len(message) as u64,
        }
    }
}

/// The length with the sequence number of a record, which nodes without a private key leave out.
fn sealed_len(message: &Message) -> usize {
    let mut message = message.clone();
    if let Message::Ping(ping) = &mut message {
        ping.enr_seq = Some(1);
    }
    if let Message::Pong(pong) = &mut message {
        pong.enr_seq = Some(1);
    }
    encoded_len(&message)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::proto::identity::{Endpoint, NodeKey, PublicKey};
    use crate::proto::wire::{self, EnrRequest, EnrResponse, FindNode, NodeEntry, Ping, Pong};
    use crate::sim::population::{addr_of, handle};

    #[test]
    fn they_are_those_of_sealed_packets_whatever_the_ports_and_times() {
        let key = NodeKey::from_bytes(&[5; 32]).unwrap();
        let (mut lengths, mut buffer) = (Lengths::default(), Vec::new());
        // From a year before the simulation begins to thirty years after.
        for (n, expiration) in [(0, 1_767_000_000u64), (1, 1_798_761_600), (2, 2_745_000_000)] {
            let at = |node: usize| -> Endpoint {
                let addr = addr_of(handle(node, [0, 1, 255][n]));
                Endpoint::new(addr.ip(), addr.port(), 0)
            };
            let entry = |node: usize| NodeEntry { endpoint: at(node).into(), key: PublicKey([node as u8; 64]) };
            let (from, to, enr_seq) = (at(0).into(), at(0xff_ffff).into(), [1, 2, 127].get(n).copied());
            let mut messages = vec![
                Message::Ping(Ping { from, to, expiration, enr_seq }),
                Message::Pong(Pong { to, ping_hash: [n as u8; 32], expiration, enr_seq }),
                Message::FindNode(FindNode { target: PublicKey([n as u8; 64]), expiration }),
                Message::EnrRequest(EnrRequest { expiration }),
                Message::EnrResponse(EnrResponse { request_hash: [0; 32], record: record(10 + n).into() }),
            ];
            for count in 0..=16 {
                let nodes = (0..count).map(|node| entry(node << 16)).collect();
                messages.push(Message::Neighbors(Neighbors { nodes, expiration }));
            }
            for message in &messages {
                wire::seal(&key, message, &mut buffer);
                assert_eq!(lengths.of(message), buffer.len() as u64, "{message:?}");
                let silent = match message.clone() {
                    Message::Ping(ping) => Message::Ping(Ping { enr_seq: None, ..ping }),
                    Message::Pong(pong) => Message::Pong(Pong { enr_seq: None, ..pong }),
                    other => other,
                };
                assert_eq!(Lengths::default().of(&silent), buffer.len() as u64, "{message:?}");
            }
        }
    }

    /// An RLP list with so many bytes in it.
    fn record(len: usize) -> Vec<u8> {
        let mut record = vec![1; len + 1];
        record[0] = 0xc0 + len as u8;
        record
    }
}
