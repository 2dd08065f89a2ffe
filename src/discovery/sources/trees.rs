//! Trees of records in DNS, whose nodes are pinged while the table has few.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Link, Stop, Target, members, sendable};
use crate::bootstrap::contacts;
use crate::bootstrap::dns::{News, Step, TreeUrl, Walk};
use crate::proto::engine::{Command, Reply};
use crate::proto::identity::Record;
use crate::udp::Request;

/// Members from which on a tree is left alone: 16, as many as a lookup begins with.
const ENOUGH: usize = 16;

/// How often it is seen whether there still are enough: every 10 s, and at once when the table has become empty.
const LOOK: Duration = Duration::from_secs(10);

/// Pings that are under way at once, at most; the next node waits for the oldest.
const PINGS: usize = 16;

/// Soonest that a tree which has been read to its end is read once more: every 10 minutes.
const AGAIN: Duration = Duration::from_secs(600);

/// Warnings of entries that are skipped; further ones are for the debug log, since a tree may have thousands.
const WARNINGS: u32 = 3;

/// A tree that is being read.
struct Reader {
    link: Link,
    url: TreeUrl,
    walk: Walk<rand::rngs::StdRng>,
    pings: VecDeque<oneshot::Receiver<Reply>>,
    answered: usize,
    skipped: u32,
    /// The number of nodes that was told last.
    told: Option<usize>,
}

/// Reads a tree, for as long as the node runs and the contact is not removed.
pub(super) async fn follow(link: Link, url: TreeUrl, stop: oneshot::Receiver<Stop>) {
    let walk = Walk::random(url.clone());
    let mut reader = Reader { link, url, walk, pings: VecDeque::new(), answered: 0, skipped: 0, told: None };
    tokio::select! {
        // Its nodes have been pinged, no more; there is nothing to take back.
        _ = stop => {}
        _ = reader.read() => {}
    }
}

impl Reader {
    /// Reads until the node has ended.
    #[expect(clippy::disallowed_methods, reason = "the walk is given real time here")]
    async fn read(&mut self) -> Option<()> {
        let start = Instant::now();
        let mut pass = Duration::ZERO;
        loop {
            if members(&self.link.requests).await? >= ENOUGH {
                self.tell("resting, since there are enough contacts").await;
                self.rest(LOOK).await;
                continue;
            }
            let now = start.elapsed();
            match self.walk.poll(now) {
                Step::Wait(until) => self.rest(until.saturating_sub(now).min(LOOK)).await,
                Step::Rest(until) => {
                    self.tell("that is all of them").await;
                    if now >= pass + AGAIN {
                        pass = now;
                        self.walk.restart();
                    } else {
                        self.rest(until.min(pass + AGAIN).saturating_sub(now).min(LOOK)).await;
                    }
                }
                Step::Ask(query) => {
                    let answer = self.link.resolver.texts(&query.name).await;
                    for news in self.walk.handle_answer(start.elapsed(), &query, answer) {
                        self.heed(news).await?;
                    }
                }
            }
        }
    }

    async fn heed(&mut self, news: News) -> Option<()> {
        match news {
            News::Node(record) => return self.ping(&record).await,
            News::Root { .. } | News::Link { .. } => info!("{news}"),
            News::Unanswered { .. } => {
                warn!("{news}");
                self.link.resolver.renew();
            }
            News::Skipped { .. } if self.skipped >= WARNINGS => debug!("{news}"),
            News::Skipped { .. } => {
                self.skipped += 1;
                warn!("{news}");
            }
            _ => warn!("{news}"),
        }
        Some(())
    }

    /// Pings a node wherever its record says that it is; when it answers, it is in the table.
    async fn ping(&mut self, record: &Record) -> Option<()> {
        for target in sendable(self.link.bound, contacts(record).map(Target::Contact).collect()) {
            let Target::Contact(contact) = target else { continue };
            if self.pings.len() >= PINGS {
                self.await_ping().await;
            }
            let (done, answer) = oneshot::channel();
            self.link.send(Request::Command(Command::Ping(contact), done)).await?;
            self.pings.push_back(answer);
        }
        Some(())
    }

    async fn await_ping(&mut self) {
        if let Some(oldest) = self.pings.front_mut() {
            let answered = matches!(oldest.await, Ok(Reply::Ping(_)));
            self.answered += usize::from(answered);
            self.pings.pop_front();
        }
    }

    /// Says what the tree has given, when that has changed.
    async fn tell(&mut self, why: &str) {
        while !self.pings.is_empty() {
            self.await_ping().await;
        }
        let given = self.walk.given();
        if self.told.replace(given) != Some(given) {
            info!(
                "the tree at {} has given {given} nodes, and {} have answered; {why}",
                self.url.domain, self.answered
            );
        }
    }

    async fn rest(&mut self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.link.emptied() => {}
        }
    }
}
