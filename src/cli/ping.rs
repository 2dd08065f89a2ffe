//! `kadnode ping`

use super::args::DnsArgs;
use super::failure::Failure;
use super::logging::LogArgs;
use super::oneshot::Peer;
use super::{oneshot, print};
use crate::bootstrap::Bootnode;

const EXAMPLE: &str = "\
Examples:
  kadnode ping enode://d860…f666@18.138.108.67:30303
  kadnode ping boot.example.org:30303                  Ask who is there: the answer is signed
  kadnode ping boot.example.org:30303#4bd2a93c         The same, and fail if it is another node

A PING that is not answered within 1 second is repeated, at most twice.";

/// Ping a node: round trip, node ID, and the sequence number of its record.
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
    let ping = async || match peer {
        Peer::Known(contact) => discovery.ping(contact).await,
        Peer::Unknown(addr, pin) => discovery.ping_address(addr, pin).await,
    };
    let pinged = oneshot::retry(ping).await.map_err(|error| oneshot::explain(error, peer.addr()))?;
    let unknown = || "not told".to_owned();
    let text = format!(
        "answer from {} in {:.3} ms\n\
         node ID      {}\n\
         enode        {}\n\
         record seq   {}\n\
         our address  {}\n",
        peer.addr(),
        pinged.rtt.as_secs_f64() * 1000.0,
        pinged.contact.id(),
        pinged.contact,
        pinged.enr_seq.map_or_else(unknown, |seq| seq.to_string()),
        pinged.our_address.map_or_else(unknown, |ip| ip.to_string()),
    );
    discovery.shutdown().await;
    print(&text)
}
