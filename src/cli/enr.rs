//! `kadnode enr`

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::args::DnsArgs;
use super::failure::Failure;
use super::logging::LogArgs;
use super::{oneshot, print};
use crate::RequestError;
use crate::bootstrap::Bootnode;
use crate::proto::engine::CommandError;
use crate::proto::identity::{Contact, Record};

const EXAMPLE: &str = "\
Example:
  kadnode enr enode://d860…f666@18.138.108.67:30303

The first line of the output is the record itself; below it stand the node's ID, its contact, the sequence number \
and each pair of the record. Keys without a known meaning show their value as hexadecimal RLP.";

/// Ask a node for its record (EIP-868) and print it, decoded.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The node: an enode URL, an enr: record, or HOST:PORT, with #ID to pin its node ID; hosts may be DNS names
    contact: Bootnode,
    #[command(flatten)]
    dns: DnsArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let peer = oneshot::resolve(&args.contact, &args.dns.resolver()).await?;
    let discovery = oneshot::start(&[peer]).await?;
    let contact = oneshot::find_key(&discovery, peer).await?;
    let record = match oneshot::retry(|| discovery.request_enr(contact)).await {
        Ok(record) => record,
        // Either it does not answer at all, or not to this.
        Err(RequestError::Command(CommandError::Timeout)) if discovery.ping(contact).await.is_ok() => {
            return Err(Failure::runtime(format!(
                "the node at {} answers PING but sent no record: it may be too old for records (EIP-868)",
                contact.endpoint
            )));
        }
        Err(error) => return Err(oneshot::explain(error, peer.addr())),
    };
    discovery.shutdown().await;
    print(&describe(&record))
}

/// The record as text, then what it says.
pub(super) fn describe(record: &Record) -> String {
    let mut rows = vec![("node ID".to_owned(), record.node_id().to_string())];
    let endpoints = [record.endpoint_v4(), record.endpoint_v6()];
    for endpoint in endpoints.into_iter().flatten() {
        rows.push(("enode".to_owned(), Contact { key: *record.public_key(), endpoint }.to_string()));
    }
    rows.push(("seq".to_owned(), record.seq().to_string()));
    for (key, value) in record.pairs() {
        rows.push((key.escape_ascii().to_string(), describe_value(key, value)));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!("{record}\n");
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:width$}  {value}");
    }
    text
}

/// The value of a pair, one RLP item, as its key asks for.
fn describe_value(key: &[u8], value: &[u8]) -> String {
    let raw = || format!("0x{}", hex::encode(value));
    let Ok(data) = rlp::Rlp::new(value).data() else { return raw() };
    match (key, data.len()) {
        (b"id", _) => data.escape_ascii().to_string(),
        (b"ip", 4) => Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap_or_default()).to_string(),
        (b"ip6", 16) => Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap_or_default()).to_string(),
        (b"udp" | b"tcp" | b"udp6" | b"tcp6" | b"quic" | b"quic6", 0..=2) => {
            data.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)).to_string()
        }
        (b"secp256k1", _) => format!("0x{}", hex::encode(data)),
        _ => raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{NodeKey, RecordContent};

    #[test]
    fn a_record_is_told_pair_by_pair() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let mut content = RecordContent {
            v4: Some(([127, 0, 0, 1].into(), 30303, 0)),
            v6: Some((Ipv6Addr::LOCALHOST, 40404, 5)),
            ..RecordContent::default()
        };
        content.extra.insert(b"eth".to_vec(), vec![0xc2, 0x01, 0x02]);
        content.extra.insert(b"a\x1b".to_vec(), vec![0x82, b'h', b'i']);
        let record = Record::sign(&key, 77, &content).unwrap();
        let public = key.public_key();
        let expected = format!(
            "{record}\n\
             node ID    {}\n\
             enode      enode://{public}@127.0.0.1:0?discport=30303\n\
             enode      enode://{public}@[::1]:5?discport=40404\n\
             seq        77\n\
             a\\x1b      0x826869\n\
             eth        0xc20102\n\
             id         v4\n\
             ip         127.0.0.1\n\
             ip6        ::1\n\
             secp256k1  0x{}\n\
             tcp6       5\n\
             udp        30303\n\
             udp6       40404\n",
            key.id(),
            hex::encode(public.compressed()),
        );
        assert_eq!(describe(&record), expected);
    }
}
