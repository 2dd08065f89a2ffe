//! Names of bootnodes and DNS seeds, which are resolved again and again.

use std::fmt;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Link, Stop, Target, sendable};
#[cfg(feature = "dns")]
use crate::bootstrap::Seed;
use crate::bootstrap::dns::{DnsError, Resolver};
use crate::bootstrap::{Address, dns::Answer};
use crate::proto::identity::{Enode, Host};

/// The wait after a failure: the first time, and at most. It doubles.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The wait after a success, whatever the TTL says: at least a minute, at most 10.
const RESOLVED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// The first wait after a success while the node has no contacts: the bootnode may be about to move. It doubles.
const LONELY: Duration = Duration::from_secs(5);

/// From an empty table to the next question: 1 s, so that a node that comes and goes does not cause a stream of them.
const EMPTIED: Duration = Duration::from_secs(1);

/// What has a name.
pub(super) enum Name {
    /// A node whose key is known.
    Enode(Enode),
    /// A node whose key is not known.
    Address(Address),
    /// A DNS seed.
    #[cfg(feature = "dns")]
    Seed(Seed),
}

/// When to resolve a name again.
#[derive(Default)]
struct Schedule {
    failures: u32,
    lonely: u32,
}

/// Resolves a name, for as long as the node runs and the contact is not removed.
pub(super) async fn follow(mut link: Link, name: Name, mut stop: oneshot::Receiver<Stop>) {
    let mut known: Vec<Target> = Vec::new();
    let mut schedule = Schedule::default();
    loop {
        let resolved = tokio::select! {
            stopped = &mut stop => return withdraw(&link, &known, stopped).await,
            resolved = name.resolve(&link.resolver) => resolved,
        };
        let wait = match resolved {
            Ok(Answer { records, ttl }) => {
                let found = sendable(link.bound, records);
                if found.iter().any(|target| !known.contains(target)) || found.len() != known.len() {
                    info!("{name} has {}", addresses(&found));
                }
                if link.replace(&known, &found).await.is_none() {
                    return;
                }
                known = found;
                schedule.after_success(ttl, link.has_contacts())
            }
            // The addresses that there are stay: what has failed may be DNS.
            Err(error) => {
                let wait = schedule.after_failure();
                warn!("{name} does not resolve ({error}); trying again in {} s", wait.as_secs());
                wait
            }
        };
        tokio::select! {
            stopped = &mut stop => return withdraw(&link, &known, stopped).await,
            () = tokio::time::sleep(wait) => {}
            () = async {
                link.emptied().await;
                tokio::time::sleep(EMPTIED).await;
            } => {}
        }
        if link.ended() {
            return;
        }
        if !link.has_contacts() {
            link.resolver.renew();
        }
    }
}

/// Ends: with the node, or having the engine forget what has been added.
async fn withdraw(link: &Link, known: &[Target], stopped: Result<Stop, oneshot::error::RecvError>) {
    if stopped.is_ok() {
        // The node may have ended meanwhile.
        let _ = link.replace(known, &[]).await;
    }
}

fn addresses(targets: &[Target]) -> String {
    if targets.len() == 1 { "1 address".to_owned() } else { format!("{} addresses", targets.len()) }
}

impl Name {
    fn name(&self) -> &str {
        let host = match self {
            Name::Enode(enode) => &enode.host,
            Name::Address(address) => &address.host,
            #[cfg(feature = "dns")]
            Name::Seed(seed) => return &seed.name,
        };
        match host {
            Host::Name(name) => name,
            Host::Ip(_) => "",
        }
    }

    async fn resolve(&self, resolver: &Resolver) -> Result<Answer<Target>, DnsError> {
        let found = match self {
            #[cfg(feature = "dns")]
            Name::Seed(seed) => {
                let answer = resolver.seed(&seed.name, seed.port).await?;
                let targets = answer.records.into_iter().map(|addr| Target::Address(addr, None));
                return Ok(Answer { records: targets.collect(), ttl: answer.ttl });
            }
            Name::Enode(_) | Name::Address(_) => resolver.addresses(self.name()).await?,
        };
        let target = |ip| match self {
            Name::Enode(enode) => Some(Target::Contact(enode.at(ip))),
            Name::Address(address) => Some(Target::Address((ip, address.port).into(), address.pin)),
            #[cfg(feature = "dns")]
            Name::Seed(_) => None,
        };
        Ok(Answer { records: found.records.into_iter().filter_map(target).collect(), ttl: found.ttl })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Enode(_) | Name::Address(_) => write!(f, "the bootnode name {}", self.name()),
            #[cfg(feature = "dns")]
            Name::Seed(seed) => write!(f, "the DNS seed {}", seed.name),
        }
    }
}

impl Schedule {
    fn after_failure(&mut self) -> Duration {
        let wait = FAILED.0 * 2u32.saturating_pow(self.failures);
        self.failures += 1;
        wait.min(FAILED.1)
    }

    /// The wait until the TTL is over, within bounds; a shorter one while the node knows nobody.
    fn after_success(&mut self, ttl: Duration, has_contacts: bool) -> Duration {
        self.failures = 0;
        let wait = ttl.clamp(RESOLVED.0, RESOLVED.1);
        if has_contacts {
            self.lonely = 0;
            return wait;
        }
        let soon = LONELY * 2u32.saturating_pow(self.lonely);
        self.lonely = (self.lonely + 1).min(16);
        wait.min(soon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_again_at_growing_waits_and_by_their_ttl() {
        let mut schedule = Schedule::default();
        let failures: Vec<u64> = (0..40).map(|_| schedule.after_failure().as_secs()).collect();
        assert_eq!((&failures[..8], failures[39]), (&[1, 2, 4, 8, 16, 32, 60, 60][..], 60));
        let mut after = |ttl, any| schedule.after_success(Duration::from_secs(ttl), any).as_secs();
        assert_eq!([0, 60, 61, 600, 601].map(|ttl| after(ttl, true)), [60, 60, 61, 600, 600]);
        assert_eq!([300; 8].map(|ttl| after(ttl, false)), [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!([after(0, false), after(300, true), after(300, false)], [60, 300, 5]);
        assert_eq!(schedule.after_failure().as_secs(), 1);
    }

    #[cfg(feature = "dns")]
    #[tokio::test]
    async fn what_a_name_stands_for_has_the_key_or_the_pin_of_its_contact() {
        // Nobody is asked for this name.
        let resolver = Resolver::with_server(([127, 0, 0, 1], 9).into());
        let key = *crate::proto::identity::NodeKey::from_bytes(&[1; 32]).unwrap().public_key();
        let enode: Enode = format!("enode://{key}@localhost:5?discport=6").parse().unwrap();
        let pin = "0badcafe".parse().unwrap();
        let address = Address { host: enode.host.clone(), port: 7, pin: Some(pin) };
        let seed = Seed { name: "localhost".into(), port: 8 };
        let ip = std::net::Ipv4Addr::LOCALHOST;
        for (name, target) in [
            (Name::Enode(enode.clone()), Target::Contact(enode.at(ip.into()))),
            (Name::Address(address), Target::Address((ip, 7).into(), Some(pin))),
            (Name::Seed(seed), Target::Address((ip, 8).into(), None)),
        ] {
            let targets = name.resolve(&resolver).await.unwrap().records;
            let v4: Vec<Target> = targets.into_iter().filter(|target| target.ip().is_ipv4()).collect();
            assert_eq!(v4, [target], "{name}");
        }
    }
}
