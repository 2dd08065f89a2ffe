//! Real nodes that the target gets to know, so that it has somebody to name in NEIGHBORS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::packets::Maker;
use super::slot::Slot;
use super::{Mode, now};
use crate::Discovery;
use crate::cli::failure::Failure;
use crate::proto::config::{Config, K};
use crate::proto::identity::{AddressClass, Contact};

/// How long the crowd waits before it pings again: a target may have missed or refused it the first time.
const AGAIN: Duration = Duration::from_secs(10);

/// Between two looks at what the target names.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks with the same result after which a target without a crowd is taken to have settled.
const SETTLED: u32 = 3;

/// How long a target has to name 16 nodes before it counts. geth names nodes that it has not checked as long as it has
/// checked none, and then those alone that it has; the first check comes within 3 s.
pub(super) const HOLD: Duration = Duration::from_secs(4);

/// Nodes that answer as long as they are held.
pub(super) struct Crowd {
    nodes: Vec<Discovery>,
    target: Contact,
}

impl Crowd {
    /// Starts nodes where they can reach the target; they do nothing of their own accord.
    pub(super) async fn start(count: usize, target: Contact, maker: &mut Maker) -> Result<Self, Failure> {
        let mut config = Config::default();
        config.refresh.enabled = false;
        config.votes.enabled = false;
        let listen = listening_address(target.endpoint.ip);
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            let builder = Discovery::builder(maker.key()).config(config.clone()).listen(listen);
            nodes.push(builder.start().await.map_err(Failure::runtime)?);
        }
        Ok(Self { nodes, target })
    }

    /// Has each node ping the target once. That one is not answered is no failure yet.
    async fn ping(&self) {
        let mut pings = JoinSet::new();
        for node in &self.nodes {
            let (node, target) = (node.clone(), self.target);
            pings.spawn(async move { node.ping(target).await.is_ok() });
        }
        pings.join_all().await;
    }

    /// Has the crowd ping the target, and waits until FINDNODEs have been answered with 16 nodes for as long as `hold`, or
    /// without a crowd until the answers are alike; at most until a moment. Returns the packets and nodes of the last
    /// answer. `scout` must have bonded.
    pub(super) async fn warm_up(
        &self,
        scout: &mut Slot,
        maker: &mut Maker,
        timeout: Duration,
        [hold, most]: [Duration; 2],
    ) -> Result<(usize, usize), Failure> {
        let until = now() + most;
        let (mut pinged, mut full_since): (Option<Instant>, Option<Instant>) = (None, None);
        let (mut alike, mut last) = (0, (0, 0));
        loop {
            if pinged.is_none_or(|pinged| now() - pinged >= AGAIN) {
                self.ping().await;
                pinged = Some(now());
            }
            let key = scout.key.clone();
            let find = maker.packet(Mode::Findnode, &key, scout.me, self.target.endpoint, 0);
            let found = scout.survey(find, K, timeout).await?;
            alike = if found == last { alike + 1 } else { 0 };
            last = found;
            full_since = if found.1 >= K { full_since.or_else(|| Some(now())) } else { None };
            let full = full_since.is_some_and(|since| now() - since >= hold);
            let done = if self.nodes.is_empty() { alike == SETTLED } else { full };
            if done || now() >= until {
                return Ok(last);
            }
            scout.listen(now() + PAUSE).await?;
        }
    }
}

/// Where a node listens that is to reach `target`: as near as that is.
fn listening_address(target: IpAddr) -> SocketAddr {
    let ip: IpAddr = match (target, AddressClass::of(target)) {
        (IpAddr::V4(_), AddressClass::Loopback) => Ipv4Addr::LOCALHOST.into(),
        (IpAddr::V6(_), AddressClass::Loopback) => Ipv6Addr::LOCALHOST.into(),
        (IpAddr::V4(_), _) => Ipv4Addr::UNSPECIFIED.into(),
        (IpAddr::V6(_), _) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}
