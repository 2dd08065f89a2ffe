//! Ties a node to its LAN: announces it, and pings whom it finds there.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

use crate::bootstrap::lan::{LanError, Local, Neighbours, Notice, Responder, Try, sighting};
use crate::proto::engine::{Command, Event, Reply};
use crate::proto::identity::{Contact, Endpoint, Record};
use crate::udp::{Request, Shared};

/// Nodes that are tried at a time, with one PING under way each. A PING fails after 1 s, so whoever invents nodes in the
/// LAN has us send some sixteen packets a second to nobody.
const AT_A_TIME: usize = 16;

/// Time between two notices. A record is verified in some 0.1 ms, so a flood of them takes a twentieth of one core; 256
/// nodes, with two notices each, are taken in within 1 s.
const PACE: Duration = Duration::from_millis(2);

/// How often the responder is looked at. Between two looks a flood on loopback, as fast as it could be read, brought records
/// of some 60 MB.
const CHECK: Duration = Duration::from_millis(500);

/// A responder that does not answer so many times in a row, some 4 s, has more to read than it can.
const MISSED: u32 = 5;

/// An announcement leaves at once. When none has after this time, something hinders it.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(3);

/// Wait before a responder that does not work is started anew.
const AGAIN: Duration = Duration::from_mins(1);

/// Starts the task, which ends when the node has ended; what it returns closes when the goodbye has been said.
pub(super) fn spawn(
    local: Local,
    requests: mpsc::WeakSender<Request>,
    events: broadcast::Receiver<Event>,
    shared: Arc<Shared>,
) -> watch::Receiver<()> {
    let (done, farewell) = watch::channel(());
    let start = now();
    let task = Lan { local, requests, events, shared, start, met: false };
    tokio::spawn(async move {
        task.run().await;
        drop(done);
    });
    farewell
}

struct Lan {
    local: Local,
    requests: mpsc::WeakSender<Request>,
    /// Closed when the node has ended.
    events: broadcast::Receiver<Event>,
    shared: Arc<Shared>,
    start: Instant,
    /// Whether anybody was found yet.
    met: bool,
}

/// Why a responder is given up.
enum End {
    /// The node has ended.
    Node,
    /// It does not work.
    Failed(LanError),
}

impl Lan {
    async fn run(mut self) {
        info!("looking for nodes in the LAN (mDNS)");
        let mut warned = false;
        let mut former: Option<Responder> = None;
        loop {
            // One that is overwhelmed ends later than it was told to.
            if former.as_ref().is_none_or(Responder::has_ended) {
                let end = match Responder::start(self.local.bound) {
                    Ok(responder) => {
                        let end = self.serve(&responder, &mut warned).await;
                        responder.stop().await;
                        former = Some(responder);
                        end
                    }
                    Err(error) => End::Failed(error),
                };
                let End::Failed(error) = end else { return };
                warn_once(&mut warned, &error);
            }
            let again = now() + AGAIN;
            loop {
                tokio::select! {
                    event = self.events.recv() => if is_closed(&event) { return },
                    () = sleep_until(again) => break,
                }
            }
        }
    }

    /// Serves until something ends.
    async fn serve(&mut self, responder: &Responder, warned: &mut bool) -> End {
        let mut record = self.record();
        if let Err(error) = responder.announce(&record) {
            return End::Failed(error);
        }
        // A new responder tells of all anew, and never that somebody is gone whom only the former one had seen.
        let mut neighbours = Neighbours::default();
        let (mut announced, announced_by, give_up) = (false, now() + ANNOUNCED_WITHIN, now() + AGAIN);
        let mut tries: JoinSet<(Try, Option<Endpoint>)> = JoinSet::new();
        let (mut checks, mut missed) = (interval(CHECK), 0);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while tries.len() < AT_A_TIME
                && let Some(found) = neighbours.next(self.time())
            {
                tries.spawn(try_all(self.requests.clone(), found));
            }
            let due = neighbours.next_due().filter(|_| tries.len() < AT_A_TIME);
            tokio::select! {
                event = self.events.recv() => {
                    if is_closed(&event) {
                        return End::Node;
                    }
                    // One that was missed may have been of that kind.
                    if matches!(event, Ok(Event::LocalRecord(_)) | Err(_)) {
                        let current = self.record();
                        if current != record {
                            record = current;
                            if let Err(error) = responder.announce(&record) {
                                return End::Failed(error);
                            }
                        }
                    }
                }
                notice = responder.next() => {
                    match notice {
                        Ok(Notice::Announced) => announced = true,
                        Ok(Notice::Found(service)) => self.found(&mut neighbours, &service),
                        Ok(Notice::Gone(name)) => {
                            debug!(name, "gone from the LAN");
                            neighbours.gone(&name);
                        }
                        Ok(Notice::Other) => {}
                        Err(error) => return End::Failed(error),
                    }
                    tokio::time::sleep(PACE).await;
                }
                Some(tried) = tries.join_next() => if let Ok((tried, answer)) = tried {
                    self.tried(&mut neighbours, &tried, answer);
                },
                () = sleep_until(self.start + due.unwrap_or_default()), if due.is_some() => {}
                _ = checks.tick() => {
                    missed = match responder.check().await {
                        Ok(true) => 0,
                        Ok(false) if missed + 1 < MISSED => missed + 1,
                        Ok(false) => return End::Failed(LanError::Flood),
                        Err(error) => return End::Failed(error),
                    };
                    if !announced && now() >= announced_by {
                        let obstacle = responder.obstacle();
                        if now() >= give_up {
                            return End::Failed(obstacle);
                        }
                        warn_once(warned, &obstacle);
                    }
                }
            }
        }
    }

    fn found(&self, neighbours: &mut Neighbours, service: &mdns_sd::ResolvedService) {
        match sighting(service, &self.local) {
            Ok(sighting) => {
                let key = sighting.key;
                debug!(name = %sighting.name, id = %key.node_id(), addresses = ?sighting.endpoints, "seen in the LAN");
                neighbours.saw(self.time(), sighting);
            }
            Err(error) => debug!("passed over a service in the LAN: {error}"),
        }
    }

    fn tried(&mut self, neighbours: &mut Neighbours, tried: &Try, answer: Option<Endpoint>) {
        let news = neighbours.tried(self.time(), tried, answer);
        let Some(endpoint) = answer.filter(|_| news) else { return };
        let contact = Contact { key: tried.key, endpoint };
        if std::mem::replace(&mut self.met, true) {
            debug!("found a node in the LAN: {contact}");
        } else {
            info!("found a node in the LAN: {contact}");
        }
    }

    fn record(&self) -> Arc<Record> {
        self.shared.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time since the start.
    fn time(&self) -> Duration {
        now() - self.start
    }
}

/// Pings a node at one address after another until it answers; says where.
async fn try_all(requests: mpsc::WeakSender<Request>, found: Try) -> (Try, Option<Endpoint>) {
    for &endpoint in &found.endpoints {
        let contact = Contact { key: found.key, endpoint };
        let (done, answer) = oneshot::channel();
        let Some(requests) = requests.upgrade() else { break };
        let sent = requests.send(Request::Command(Command::Ping(contact), done)).await.is_ok();
        // Whoever holds it keeps the node alive.
        drop(requests);
        if sent && matches!(answer.await, Ok(Reply::Ping(_))) {
            return (found, Some(endpoint));
        }
    }
    (found, None)
}

fn is_closed<T>(event: &Result<T, broadcast::error::RecvError>) -> bool {
    matches!(event, Err(broadcast::error::RecvError::Closed))
}

fn warn_once(warned: &mut bool, error: &LanError) {
    if std::mem::replace(warned, true) {
        debug!("no nodes can be found in the LAN: {error}");
    } else {
        warn!("no nodes can be found in the LAN: {error}; kadnode runs on without, and tries again every minute");
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a part of what drives a node, beside its engine")]
fn now() -> Instant {
    Instant::now()
}
