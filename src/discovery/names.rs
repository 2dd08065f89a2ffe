//! Bootnodes by DNS name.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::proto::identity::{Contact, Enode, Host};
use crate::udp::Request;

/// Resolves the name of a bootnode, again and again until it resolves or the node has ended.
pub(super) async fn resolve_until_found(requests: mpsc::WeakSender<Request>, enode: Enode) {
    let Host::Name(name) = &enode.host else { return };
    let mut wait = Duration::from_secs(1);
    loop {
        match tokio::net::lookup_host((name.as_str(), enode.udp)).await {
            Ok(addresses) => {
                let contacts: Vec<Contact> = addresses.map(|addr| enode.at(addr.ip())).collect();
                if !contacts.is_empty() {
                    info!(%name, addresses = contacts.len(), "resolved the name of a bootnode");
                    for contact in contacts {
                        let Some(requests) = requests.upgrade() else { return };
                        if requests.send(Request::AddBootnode(contact)).await.is_err() {
                            return;
                        }
                    }
                    return;
                }
                warn!("the bootnode name {name} has no address; trying again in {} s", wait.as_secs());
            }
            Err(error) => {
                warn!("the bootnode name {name} does not resolve ({error}); trying again in {} s", wait.as_secs());
            }
        }
        tokio::time::sleep(wait).await;
        if requests.upgrade().is_none_or(|requests| requests.is_closed()) {
            return;
        }
        wait = (wait * 2).min(Duration::from_secs(60));
    }
}
