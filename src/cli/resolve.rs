//! `kadnode resolve`

use std::sync::Arc;

use tracing::warn;

use super::args::{BootnodeArgs, Target};
use super::enr::describe;
use super::failure::Failure;
use super::logging::LogArgs;
use super::oneshot::Peer;
use super::{contacts, oneshot, print};
use crate::bootstrap::Bootnode;
use crate::bootstrap::dns::Resolver;
use crate::proto::identity::{PublicKey, Record};
use crate::{Discovery, RequestError};

const EXAMPLE: &str = "\
Example:
  kadnode resolve d860…f666 --bootnodes nodes.txt

The output is that of `kadnode enr`. The record comes from the node itself, so it is its newest.";

/// Find a node by its public key, wherever it is now, and print its newest record.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The node: its public key (128 hex digits), or an enode URL or enr: record of it, which may be out of date: it is
    /// asked there and looked for at the same time, or, without bootnodes of your own, only if it does not answer
    #[arg(value_name = "KEY|CONTACT")]
    target: Target,
    #[command(flatten)]
    bootnodes: BootnodeArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let resolver = args.bootnodes.dns.resolver();
    let bootnodes = oneshot::resolve_all(&contacts::load(&args.bootnodes)?.all(), &resolver).await;
    let discovery = oneshot::start(&bootnodes).await?;
    let there = ask_there(&discovery, args.target.contact.as_ref(), &resolver);
    let found = async {
        if bootnodes.is_empty() {
            return Err(oneshot::nobody());
        }
        contacts::warn_of_mainnet(&args.bootnodes);
        oneshot::introduce(&discovery, &bootnodes).await?;
        look_for(&discovery, args.target.key).await
    };
    let record = if args.bootnodes.is_absent() {
        // Those that are built in need not be bothered while the node is where it was.
        match there.await {
            Some(record) => record,
            None => found.await?,
        }
    } else {
        either(there, found).await?
    };
    discovery.shutdown().await;
    print(&describe(&record))
}

/// The record of whichever brings it first; when neither does, why it was not found.
async fn either(
    there: impl Future<Output = Option<Arc<Record>>>,
    found: impl Future<Output = Result<Arc<Record>, Failure>>,
) -> Result<Arc<Record>, Failure> {
    tokio::pin!(there, found);
    tokio::select! {
        asked = &mut there => match asked {
            Some(record) => Ok(record),
            None => found.await,
        },
        found = &mut found => match found {
            Ok(record) => Ok(record),
            Err(failure) => there.await.ok_or(failure),
        },
    }
}

/// The record from where the node was last known to be: the shortest way, if it is still there.
async fn ask_there(discovery: &Discovery, contact: Option<&Bootnode>, resolver: &Resolver) -> Option<Arc<Record>> {
    match oneshot::resolve(contact?, resolver).await {
        // A target has a key.
        Ok(Peer::Unknown(..)) => {}
        Ok(Peer::Known(contact)) => match discovery.request_enr(contact).await {
            Ok(record) => return Some(record),
            Err(error) => warn!("nothing from the node at {} ({error}); looking for it", contact.endpoint),
        },
        Err(failure) => warn!("{failure}; looking for the node by its key"),
    }
    None
}

/// The record from wherever the network says that the node is.
async fn look_for(discovery: &Discovery, key: PublicKey) -> Result<Arc<Record>, Failure> {
    discovery.resolve(key).await.map_err(|error| match error {
        RequestError::NotFound { queries } => Failure::runtime(format!(
            "the node with this key did not answer; {queries} FINDNODE requests were made: the node is offline or in \
             another network, or the bootnodes did not answer (see `kadnode lookup`)"
        )),
        other => Failure::runtime(format!("the node was not found: {other}")),
    })
}
