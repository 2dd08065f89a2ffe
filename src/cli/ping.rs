//! `kadnode ping`

use super::failure::Failure;
use super::logging::LogArgs;
use super::{oneshot, print};
use crate::bootstrap::Bootnode;

const EXAMPLE: &str = "\
Example:
  kadnode ping enode://d860…f666@18.138.108.67:30303

A PING that is not answered within 1 second is repeated, at most twice.";

/// Ping a node: round trip, node ID, and the sequence number of its record.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The node: an enode URL (its host may be a DNS name) or an enr: record
    contact: Bootnode,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let contact = oneshot::resolve(&args.contact).await?;
    let discovery = oneshot::start(&[contact]).await?;
    let pinged = oneshot::retry(|| discovery.ping(contact)).await.map_err(|error| oneshot::explain(error, &contact))?;
    let unknown = || "not told".to_owned();
    let text = format!(
        "answer from {} in {:.3} ms\n\
         node ID      {}\n\
         enode        {}\n\
         record seq   {}\n\
         our address  {}\n",
        contact.endpoint,
        pinged.rtt.as_secs_f64() * 1000.0,
        pinged.contact.id(),
        pinged.contact,
        pinged.enr_seq.map_or_else(unknown, |seq| seq.to_string()),
        pinged.our_address.map_or_else(unknown, |ip| ip.to_string()),
    );
    discovery.shutdown().await;
    print(&text)
}
