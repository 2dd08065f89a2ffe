//! Bootnodes by DNS name, and those with several addresses.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::proto::identity::{Contact, Enode, Host, reaches};
use crate::udp::Request;

/// Of the addresses of one node those that a socket bound to `bound` can send to; all, when it is none, which is worth
/// the warning that follows.
pub(super) fn sendable(bound: IpAddr, contacts: Vec<Contact>) -> Vec<Contact> {
    let can = |contact: &&Contact| reaches(bound, contact.endpoint.ip);
    let sendable: Vec<Contact> = contacts.iter().filter(can).copied().collect();
    if sendable.is_empty() { contacts } else { sendable }
}

/// Resolves the name of a bootnode, again and again until it resolves or the node has ended.
pub(super) async fn resolve_until_found(requests: mpsc::WeakSender<Request>, enode: Enode, bound: IpAddr) {
    let Host::Name(name) = &enode.host else { return };
    let mut wait = Duration::from_secs(1);
    loop {
        match tokio::net::lookup_host((name.as_str(), enode.udp)).await {
            Ok(addresses) => {
                let contacts = sendable(bound, addresses.map(|addr| enode.at(addr.ip())).collect());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{Endpoint, PublicKey};

    #[test]
    fn of_two_addresses_the_one_that_can_be_sent_to_is_tried() {
        let at = |ip: &str| Contact { key: PublicKey([1; 64]), endpoint: Endpoint::new(ip.parse().unwrap(), 5, 0) };
        let (v4, v6) = (at("8.8.8.8"), at("2a00::1"));
        let tried = |bound: &str, contacts: &[Contact]| sendable(bound.parse().unwrap(), contacts.to_vec());
        assert_eq!(tried("0.0.0.0", &[v4, v6]), [v4]);
        assert_eq!(tried("::", &[v4, v6]), [v4, v6]);
        assert_eq!(tried("0.0.0.0", &[v6]), [v6], "and a warning tells that it cannot be");
    }
}
