//! What a node remembers from run to run: it writes down who answers, and tries those when it starts again.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, Sleep, interval, sleep};
use tracing::{debug, info, warn};

use crate::proto::contacts::Contacts;
use crate::proto::engine::{Command, CommandError, Event, Removal, Reply};
use crate::proto::identity::{Contact, PublicKey, Record};
use crate::proto::time::Secs;
use crate::store::{NodeDb, NodeDbError, NodeUpdate};
use crate::udp::Request;

/// Updates that wait to be written; while writing fails, further nodes are left out. A full table with all replacements
/// has 6,656.
const MAX_PENDING: usize = 8192;

/// How long the last write may take; then the node ends without it.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Settings of the memory of other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Time between two writes, at least; there is none when nothing has changed: 10 s. So long, and as long as a write
    /// takes, is what a node that is killed forgets. Lower wears disks.
    pub write_every: Duration,
    /// Nodes that are tried in one round, at a start and when nobody answers any more: 512, twice the table of a node of
    /// the public network.
    pub seeds: usize,
    /// Nodes that are tried at a time: 64. Higher is quicker where many have gone, and sends more at once.
    pub at_once: usize,
    /// Time between two rounds while nobody answers: the first time, and at most, 2 s and 10 min; it doubles from round
    /// to round.
    pub retry: (Duration, Duration),
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            write_every: Duration::from_secs(10),
            seeds: 512,
            at_once: 64,
            retry: (Duration::from_secs(2), Duration::from_mins(10)),
        }
    }
}

/// The way to the task of the memory; when the last one is dropped, the task ends too.
#[derive(Clone, Debug)]
pub(super) struct MemoryHandle(mpsc::Sender<oneshot::Sender<()>>);

impl MemoryHandle {
    /// Writes for the last time and closes the file, while the node still runs.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.0.send(done).await.is_ok() && tokio::time::timeout(LAST_WRITE, closed).await.is_err() {
            warn!("the memory of nodes could not be written in time");
        }
    }
}

/// Feeds a database from a node that is about to run, and the node from the database.
pub(super) fn start(
    db: NodeDb,
    config: MemoryConfig,
    requests: mpsc::WeakSender<Request>,
    events: broadcast::Receiver<Event>,
) -> MemoryHandle {
    let (handle, close) = mpsc::channel(1);
    tokio::spawn(Memory::new(Some(db), config, requests).run(events, close));
    MemoryHandle(handle)
}

/// A node of the table, as it was when it was last looked at.
struct Noted {
    contact: Contact,
    proved: Secs,
    seq: Option<u64>,
}

/// A look at a node of the table.
struct Look {
    contact: Contact,
    proved: Secs,
    age: Duration,
    record: Option<Arc<Record>>,
    replacement: bool,
}

/// Remembered nodes that are being tried.
#[derive(Default)]
struct Round {
    waiting: VecDeque<Contact>,
    silent: Vec<Contact>,
    answered: usize,
    tried: usize,
}

type Tried = (Contact, Option<Result<(), CommandError>>);

struct Memory {
    /// `None` only if the thread that had it has died.
    db: Option<NodeDb>,
    config: MemoryConfig,
    requests: mpsc::WeakSender<Request>,
    noted: BTreeMap<PublicKey, Noted>,
    pending: BTreeMap<PublicKey, NodeUpdate>,
    /// What was last said to be wrong.
    trouble: Option<String>,
    /// Whether the table has a member.
    connected: bool,
    round: Round,
    tries: JoinSet<Tried>,
    /// The wait after the next round without an answer.
    retry: Duration,
    /// How many of the remembered nodes were tried since somebody answered.
    skip: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Memory {
    fn new(db: Option<NodeDb>, config: MemoryConfig, requests: mpsc::WeakSender<Request>) -> Self {
        Self {
            db,
            retry: config.retry.0,
            config,
            requests,
            noted: BTreeMap::new(),
            pending: BTreeMap::new(),
            trouble: None,
            connected: false,
            round: Round::default(),
            tries: JoinSet::new(),
            skip: 0,
            pause: None,
        }
    }

    async fn run(mut self, mut events: broadcast::Receiver<Event>, mut close: mpsc::Receiver<oneshot::Sender<()>>) {
        let every = self.config.write_every.max(Duration::from_millis(1));
        let mut writes = interval(every);
        writes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        writes.tick().await;
        self.begin_round().await;
        let done = loop {
            tokio::select! {
                done = close.recv() => break done,
                event = events.recv() => match event {
                    Ok(event) => self.heed(event).await,
                    // The next look at the table tells what was missed, but for single failures.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break None,
                },
                Some(tried) = self.tries.join_next() => {
                    if let Ok((contact, result)) = tried {
                        self.on_tried(contact, result);
                    }
                    self.go_on().await;
                }
                () = pause(&mut self.pause) => {
                    self.pause = None;
                    if !self.connected {
                        self.begin_round().await;
                    }
                }
                _ = writes.tick() => {
                    let any = self.look().await;
                    self.write().await;
                    if let Some(any) = any {
                        self.set_connected(any).await;
                    }
                }
            }
        };
        self.tries.abort_all();
        self.look().await;
        self.write().await;
        drop(self);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn heed(&mut self, event: Event) {
        match event {
            Event::NodeRemoved(contact, Removal::Dead) => {
                self.noted.remove(&contact.key);
                self.failed(contact);
            }
            Event::Contacts { any } => self.set_connected(any).await,
            _ => {}
        }
    }

    /// The table has its first member, or has lost its last one.
    async fn set_connected(&mut self, any: bool) {
        if any == self.connected {
            return;
        }
        self.connected = any;
        (self.retry, self.skip) = (self.config.retry.0, 0);
        if !any && self.is_idle() {
            self.begin_round().await;
        }
    }

    /// A node was there at this time, in seconds of Unix time.
    fn saw(&mut self, contact: Contact, at: u64) -> Option<&mut NodeUpdate> {
        let update = self.pending_of(contact)?;
        if update.contact.endpoint.udp_addr() != contact.endpoint.udp_addr() {
            // It has failed where it is no more.
            update.failures = 0;
        }
        (update.contact, update.seen) = (contact, Some(at));
        Some(update)
    }

    /// A node was not there.
    fn failed(&mut self, contact: Contact) {
        let Some(update) = self.pending_of(contact) else { return };
        if update.contact.endpoint.udp_addr() == contact.endpoint.udp_addr() {
            update.failures += 1;
        } else if update.seen.is_none() {
            (update.contact, update.failures) = (contact, 1);
        }
    }

    /// What is to be written of a node; `None` where there is no room for that.
    fn pending_of(&mut self, contact: Contact) -> Option<&mut NodeUpdate> {
        if self.pending.len() >= MAX_PENDING && !self.pending.contains_key(&contact.key) {
            return None;
        }
        let empty = || NodeUpdate { contact, seen: None, successes: 0, failures: 0, record: None };
        Some(self.pending.entry(contact.key).or_insert_with(empty))
    }
}

// Remembering.
impl Memory {
    /// Looks at the table for what has changed; says whether there is anybody in it.
    async fn look(&mut self) -> Option<bool> {
        let table = self.table().await?;
        let any = !table.is_empty();
        let now = unix_secs();
        let mut noted = BTreeMap::new();
        for Look { contact, proved, age, record, replacement } in table {
            let seq = record.as_ref().map(|record| record.seq());
            let before = self.noted.remove(&contact.key);
            let same = before.filter(|before| before.contact == contact);
            let anew = same.as_ref().is_none_or(|before| before.proved != proved);
            if (anew || same.is_some_and(|before| before.seq != seq))
                && let Some(update) = self.saw(contact, now.saturating_sub(age.as_secs()))
            {
                // So that members come before replacements: the table that was is the one to come back to.
                update.successes += u64::from(anew && !replacement);
                update.record = record.or(update.record.take());
            }
            noted.insert(contact.key, Noted { contact, proved, seq });
        }
        // Those that have left are not needed any more.
        self.noted = noted;
        Some(any)
    }

    /// The nodes of the table that have proved themselves, which is all of them; `None` when the node has ended.
    async fn table(&mut self) -> Option<Vec<Look>> {
        let (done, answer) = oneshot::channel();
        let look = Request::Inspect(Box::new(move |engine, now| {
            let contacts = engine.contacts();
            let members = engine.table().entries().map(|(_, entry)| (false, entry));
            let replacements = engine.table().replacements().map(|(_, entry)| (true, entry));
            let looks = members.chain(replacements).map(|(replacement, entry)| Look {
                contact: contacts.contact(entry.node),
                proved: entry.proved,
                age: entry.proved.age(now),
                record: engine.record_of(entry.node).cloned(),
                replacement,
            });
            let _ = done.send(looks.filter(|look| look.proved.happened()).collect());
        }));
        self.requests.upgrade()?.send(look).await.ok()?;
        answer.await.ok()
    }

    async fn write(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let updates: Vec<NodeUpdate> = std::mem::take(&mut self.pending).into_values().collect();
        let now = unix_secs();
        let written = self
            .with_db(move |db| match db.write(now, &updates) {
                // What a new file is to be told is more than that, and is told with the next look.
                Ok(()) => (Ok(()), Vec::new()),
                Err(error) => (Err(error), updates),
            })
            .await;
        let Some((result, unwritten)) = written else { return };
        match result {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    info!("the memory of nodes is written again");
                }
            }
            Err(error) => {
                if matches!(error, NodeDbError::SetAside { .. }) {
                    self.noted.clear();
                }
                self.tell(&error);
                for update in unwritten {
                    self.pending.entry(update.contact.key).or_insert(update);
                }
            }
        }
    }

    /// Says what is wrong, but not twice.
    fn tell(&mut self, error: &NodeDbError) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            warn!("{text}");
            self.trouble = Some(text);
        }
    }

    /// Works with the database, which blocks, on a thread that may.
    async fn with_db<T: Send + 'static>(&mut self, work: impl FnOnce(&mut NodeDb) -> T + Send + 'static) -> Option<T> {
        let mut db = self.db.take()?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut db);
            (db, result)
        });
        let (db, result) = done.await.ok()?;
        self.db = Some(db);
        Some(result)
    }
}

// Trying who is remembered.
impl Memory {
    fn is_idle(&self) -> bool {
        self.tries.is_empty() && self.round.waiting.is_empty()
    }

    /// Tries the next nodes that are remembered, the most promising first.
    async fn begin_round(&mut self) {
        let (skip, count) = (self.skip, self.config.seeds);
        self.pause = None;
        let now = unix_secs();
        let Some(seeds) = self.with_db(move |db| db.seeds(now, skip, count)).await else { return };
        let seeds = match seeds {
            Ok(seeds) => seeds,
            Err(error) => {
                self.tell(&error);
                return self.rest();
            }
        };
        if seeds.is_empty() && skip == 0 {
            return;
        }
        self.skip = if seeds.len() < count { 0 } else { skip + count };
        debug!(nodes = seeds.len(), "trying remembered nodes");
        let waiting = seeds.into_iter().map(|seed| seed.contact).collect();
        self.round = Round { waiting, ..Round::default() };
        self.go_on().await;
    }

    /// Tries as many as may be tried at a time; ends the round when all have been.
    async fn go_on(&mut self) {
        while self.tries.len() < self.config.at_once.max(1)
            && let Some(contact) = self.round.waiting.pop_front()
        {
            self.round.tried += 1;
            self.tries.spawn(attempt(self.requests.clone(), contact));
        }
        if self.is_idle() {
            self.end_round();
        }
    }

    fn on_tried(&mut self, contact: Contact, result: Option<Result<(), CommandError>>) {
        match result {
            Some(Ok(())) => {
                self.round.answered += 1;
                let now = unix_secs();
                // Most are in the table now, and are counted when it is looked at; there may have been no room for others.
                self.saw(contact, now);
            }
            Some(Err(CommandError::Timeout | CommandError::OtherNode)) => self.round.silent.push(contact),
            // It was not asked.
            Some(Err(_)) | None => {}
        }
    }

    fn end_round(&mut self) {
        let Round { silent, answered, tried, .. } = std::mem::take(&mut self.round);
        debug!(tried, answered, "tried remembered nodes");
        // When nobody answers, it is more likely the fault of our own network.
        if answered > 0 {
            for contact in silent {
                self.failed(contact);
            }
        }
        if !self.connected {
            self.rest();
        }
    }

    /// Waits before the next round, which there is only if the table is still empty then.
    fn rest(&mut self) {
        self.pause = Some(Box::pin(sleep(self.retry)));
        self.retry = (self.retry * 2).min(self.config.retry.1);
    }
}

/// Pings a node; `None` when our own has ended.
async fn attempt(requests: mpsc::WeakSender<Request>, contact: Contact) -> Tried {
    let (done, answer) = oneshot::channel();
    let Some(sender) = requests.upgrade() else { return (contact, None) };
    let sent = sender.send(Request::Command(Command::Ping(contact), done)).await;
    // The node ends with its last handle, and this is none.
    drop(sender);
    let result = match (sent, answer.await) {
        (Ok(()), Ok(Reply::Ping(_))) => Some(Ok(())),
        (Ok(()), Ok(Reply::Failed(error))) => Some(Err(error)),
        _ => None,
    };
    (contact, result)
}

async fn pause(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "what is remembered outlasts the node's own clock")]
fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
