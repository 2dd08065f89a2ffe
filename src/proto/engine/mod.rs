//! The engine: one discv4 node as a state machine.
//!
//! # Contract
//!
//! 1. Construct it with key and record content ([`LocalNode`]), [`Config`], a seed, and a [`Clock`]: the driver's `now`
//!    and the Unix time at that moment.
//! 2. Feed it one input: a datagram ([`Engine::handle_datagram`]), an opened message ([`Engine::handle_message`]), a
//!    configured contact ([`Engine::add_bootnode`]), a command ([`Engine::handle_command`]), or the passing of a deadline
//!    ([`Engine::handle_timeout`]). Time never goes backwards from one input to the next.
//! 3. Drain it with [`Engine::poll_output`] until it says [`Output::Wait`]. A [`Transmit`] with a request id is to be
//!    sealed first, its hash told to [`Engine::handle_sealed`], and then sent.
//! 4. Only then feed it the next input.
//!
//! When the system's clock is stepped, or the host was suspended, call [`Engine::set_clock`]: packets are stamped with
//! Unix time.
//!
//! Opening and sealing are pure functions of [`crate::proto::wire`], so a driver may do them on other threads, calling
//! [`Engine::admit`] before anything else and [`Engine::screen`] between framing and recovery, or leave them out, as a
//! simulator does. The order of packets from one
//! source must be kept.
//!
//! # Shape
//!
//! Nodes are named by handles into a store of contacts, which may be shared by many engines; see [`Contacts`]. Every
//! queue, map and list has a bound in [`Config`]. Nothing is allocated for what is empty.

mod admission;
mod alarms;
mod bond;
mod commands;
mod counters;
mod errands;
mod former;
mod inbound;
mod knocks;
mod late;
mod local;
mod output;
mod proofs;
mod requests;
mod round_trip;
mod search;
mod sizes;
mod skew;
mod unhelpful;
mod upkeep;
mod votes;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::admission::Admission;
pub use self::admission::Standing;
pub use self::alarms::Alarm;
use self::alarms::Alarms;
pub use self::counters::{Counters, Dropped};
use self::errands::{ErrandId, Errands, LookupId, Stage};
use self::former::Former;
use self::knocks::{Knocks, MAX_KNOCKS};
use self::local::Local;
pub use self::local::{LocalKey, LocalNode};
pub use self::output::{
    Command, CommandError, CommandId, Event, Found, LookupReport, Origin, Output, Pinged, Removal, Reply, RequestId,
    Step, Transmit,
};
use self::proofs::{Known, Proofs};
use self::requests::Requests;
use self::round_trip::{RoundTrip, Spread};
use self::search::Task;
pub use self::sizes::Size;
use self::skew::Skew;
use self::upkeep::Upkeep;
use self::votes::Votes;
use crate::proto::config::{Config, ConfigError, EXPIRATION_SECS};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Contact, IdPrefix, NodeId, PublicKey, Record, RecordContent, RecordError};
use crate::proto::table::{Entry, Offer, Proof, Refusal, Table};
use crate::proto::time::{Deadlines, Time};
use crate::proto::wire::{self, Hash, Message, Neighbors, NodeEntry};

/// The driver's clock: what it calls now, and what the world calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The driver's time.
    pub now: Time,
    /// The Unix time at that moment, in microseconds.
    pub unix_micros: u64,
}

/// Why an engine could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The settings cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The record cannot be made of its content.
    #[error("the local record cannot be made: {0}")]
    Record(#[from] RecordError),
}

/// Deadlines by kind; at one instant they are met in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A request is late.
    Late(RequestId),
    /// A request has failed, or its last packet is overdue.
    Expires(RequestId),
    /// An errand need not wait any longer.
    Errand(ErrandId),
    /// An errand has waited for an answer for some time.
    Wake(ErrandId),
    /// A lookup has taken too long.
    Lookup(LookupId),
    /// A doubtful member is checked again.
    Recheck(NodeRef),
    /// Some members are due for a check.
    Checks,
    /// Some bootnodes are due for a try.
    Bootnodes,
    /// The refresh task runs.
    Refresh,
    /// Former members are tried.
    Former,
    /// Nobody has answered at an address so far.
    Knock(SocketAddr),
}

/// One discv4 node. See the [module documentation](self) for the contract.
#[derive(Debug)]
pub struct Engine<C> {
    config: Arc<Config>,
    contacts: C,
    local: Local,
    rng: StdRng,
    /// Unix time less the driver's time, in microseconds.
    epoch_unix_micros: u64,
    table: Table,
    proofs: Proofs,
    requests: Requests,
    errands: Errands,
    /// Commands that wait for the PONG of a node, with the bound of requests.
    pings_wanted: Vec<(NodeRef, CommandId)>,
    knocks: Knocks,
    lookups: BTreeMap<LookupId, Task>,
    lookup_serial: u64,
    /// Lookups whose state has changed since they were last driven.
    stirred: Vec<LookupId>,
    /// Strangers that have just pinged us for the first time, until when they are left in peace; oldest first.
    quiet: VecDeque<(Time, SocketAddr)>,
    /// Records of members, by handle.
    records: BTreeMap<NodeRef, Arc<Record>>,
    upkeep: Upkeep,
    former: Former,
    votes: Votes,
    admission: Admission,
    alarms: Alarms,
    skew: Skew,
    round_trip: RoundTrip,
    spread: Spread,
    timers: Deadlines<Timer>,
    out: VecDeque<Output>,
    /// Empty lists of nodes, with their memory.
    spare: Vec<Vec<NodeEntry>>,
    counters: Counters,
}

/// Strangers left in peace at a time: beyond, the first of them loses the rest of its second.
const MAX_QUIET: usize = 256;

/// Lists of nodes kept for the next NEIGHBORS: as many as a driver has under way at a time, some 90 kB.
const MAX_SPARE: usize = 64;

/// Room for outputs that is kept when all are drained.
const KEPT_OUTPUTS: usize = 4;

impl<C: Contacts> Engine<C> {
    /// A node with an empty table.
    ///
    /// `seed` decides all its random choices; a daemon takes it from the system, so that nobody can foretell them.
    ///
    /// # Errors
    /// When the settings are impossible or the record content does not fit.
    pub fn new(
        local: LocalNode,
        config: Arc<Config>,
        contacts: C,
        seed: [u8; 32],
        clock: Clock,
    ) -> Result<Self, EngineError> {
        config.check()?;
        let local = Local::new(local)?;
        let mut rng = StdRng::from_seed(seed);
        let mut engine = Self {
            table: Table::new(local.node.key.id(), rng.random()),
            config,
            contacts,
            local,
            rng,
            epoch_unix_micros: 0,
            proofs: Proofs::default(),
            requests: Requests::default(),
            errands: Errands::default(),
            pings_wanted: Vec::new(),
            knocks: Knocks::default(),
            lookups: BTreeMap::new(),
            lookup_serial: 0,
            stirred: Vec::new(),
            quiet: VecDeque::new(),
            records: BTreeMap::new(),
            upkeep: Upkeep::default(),
            former: Former::default(),
            votes: Votes::default(),
            admission: Admission::default(),
            alarms: Alarms::default(),
            skew: Skew::default(),
            round_trip: RoundTrip::default(),
            spread: Spread::default(),
            timers: Deadlines::default(),
            out: VecDeque::new(),
            spare: Vec::new(),
            counters: Counters::default(),
        };
        engine.set_clock(clock);
        Ok(engine)
    }

    /// Fixes the order by which the table prefers some of nodes that are equally good; without it, it is random. A node that
    /// has the same order in each run chooses the same nodes again when it knows them all again. It is to stay a secret.
    pub fn set_table_order(&mut self, secret: u128) {
        self.table.set_order(secret);
    }

    /// Opens a datagram and takes in what it says.
    ///
    /// # Errors
    /// Why it was dropped, which is counted too.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> Result<(), Dropped> {
        wire::check_len(datagram).map_err(|error| self.handle_unreadable(error))?;
        self.admit(now, from)?;
        let framed = wire::frame(datagram).map_err(|error| self.handle_unreadable(error))?;
        let unverified = self.screen(now, from, framed)?;
        let opened = unverified.recover().map_err(|error| self.handle_unreadable(error))?;
        self.handle_message(now, from, opened)
    }

    /// Tells the engine the hash of a request that was sealed and is about to be sent.
    pub fn handle_sealed(&mut self, request: RequestId, hash: Hash) {
        if !self.knocks.sealed(request, hash)
            && let Some(request) = self.requests.get_mut(request)
        {
            request.hash = Some(hash);
        }
    }

    /// Does all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Late(request) => self.on_late(now, request),
                Timer::Expires(request) => self.on_expired(now, request),
                Timer::Errand(errand) => self.on_errand_deadline(now, errand),
                Timer::Wake(errand) => self.on_wake(now, errand),
                Timer::Lookup(lookup) => self.on_lookup_deadline(lookup),
                Timer::Recheck(node) => self.on_recheck(now, node),
                Timer::Checks => self.on_checks_due(now),
                Timer::Bootnodes => self.on_bootnodes_due(now),
                Timer::Refresh => self.on_refresh_due(now),
                Timer::Former => self.on_former_due(now),
                Timer::Knock(addr) => self.on_knock_due(now, addr),
            }
        }
        self.settle(now);
    }

    /// Takes up a command; its answer comes as [`Output::Reply`].
    pub fn handle_command(&mut self, now: Time, id: CommandId, command: Command) {
        match command {
            Command::Lookup { target, until_found, paths } => {
                self.command_lookup(now, id, target, until_found, paths);
            }
            Command::Ping(contact) => self.command_ping(now, id, &contact),
            Command::PingAddress(addr, pin) => self.command_knock(now, id, addr, pin),
            Command::RequestRecord(contact) => self.command_record(now, id, &contact),
        }
        self.settle(now);
    }

    /// The next thing to do. See the contract.
    pub fn poll_output(&mut self) -> Output {
        match self.out.pop_front() {
            Some(output) => output,
            None => {
                // A burst must not leave its memory behind: there may be a million engines in this process.
                if self.out.capacity() > KEPT_OUTPUTS {
                    self.out = VecDeque::new();
                }
                Output::Wait(self.timers.next().unwrap_or(Time::NEVER))
            }
        }
    }

    /// Seals a message into `buffer` with the local key and, where it is a request, notes its hash. Without a private key
    /// the buffer is left empty.
    pub fn seal(&mut self, transmit: &Transmit, buffer: &mut Vec<u8>) {
        let Some(key) = self.local.node.key.private() else {
            buffer.clear();
            return;
        };
        let hash = wire::seal(key, &transmit.message, buffer);
        if let Some(request) = transmit.request {
            self.handle_sealed(request, hash);
        }
    }

    /// Takes back a message that has been sealed, for the memory in it. A driver that leaves this out only makes the engine
    /// allocate more.
    pub fn recycle(&mut self, message: Message) {
        if let Message::Neighbors(Neighbors { mut nodes, .. }) = message
            && self.spare.len() < MAX_SPARE
        {
            nodes.clear();
            self.spare.push(nodes);
        }
    }

    /// Sets the relation between the driver's time and Unix time.
    pub fn set_clock(&mut self, clock: Clock) {
        self.epoch_unix_micros = clock.unix_micros.wrapping_sub(clock.now.0);
        self.skew.forget();
    }

    /// Adds a contact that is tried until it answers, and again whenever the table is empty. One that is given twice is to be
    /// taken back twice.
    ///
    /// # Errors
    /// When it is the local node, cannot be sent to, or there are too many.
    pub fn add_bootnode(&mut self, now: Time, contact: &Contact) -> Result<(), CommandError> {
        let added = self.add_waiting_contact(now, contact);
        self.settle(now);
        added
    }

    /// Adds an address that is tried until a node answers there, with an ID that begins like this where it is pinned, and
    /// again whenever the table is empty. One that is given twice is to be taken back twice.
    ///
    /// # Errors
    /// When it cannot be sent to, or there are too many.
    pub fn add_address(&mut self, now: Time, addr: SocketAddr, pin: Option<IdPrefix>) -> Result<(), CommandError> {
        let added = self.add_waiting_address(now, addr, pin);
        self.settle(now);
        added
    }

    /// Tries a contact no longer. If it is a member of the table it stays one.
    pub fn remove_bootnode(&mut self, contact: &Contact) {
        if let Some(node) = self.contacts.find(&contact.key, contact.endpoint.udp_addr()) {
            self.take_back_contact(node);
        }
    }

    /// Tries an address no longer that was given with this pin. If the node there is a member of the table it stays one.
    pub fn remove_address(&mut self, addr: SocketAddr, pin: Option<IdPrefix>) {
        self.take_back_address(SocketAddr::new(addr.ip().to_canonical(), addr.port()), pin);
    }

    /// Grants proofs on both sides, as if the node and we had pinged one another that long ago, and offers it to the table
    /// if it is to be a member, which is trusted then. No event tells of it and nothing is sent: for simulations that
    /// begin with filled tables.
    pub fn grant(&mut self, now: Time, node: NodeRef, member: bool, age: Duration) {
        let at = (now - age).secs();
        let known = Known { proved: at, endorsed: at, ..Known::default() };
        let proof = Proof { proved: known.proved, endorsed: known.endorsed, rtt: self.round_trip.mean };
        let offered = if member {
            self.table.offer(node, proof, true, now, &self.contacts, &self.config.table)
        } else {
            Offer::Refused(Refusal::Itself)
        };
        if matches!(offered, Offer::Added | Offer::Refreshed) {
            self.table.trust(node, &self.contacts);
            self.set_connected(now);
        } else if self.table.get(node, &self.contacts).is_none() {
            self.proofs.put(node, known, self.config.max_proofs);
        }
    }

    /// Changes what the local record says. Its sequence number rises exactly when that makes a difference, and an event
    /// tells of it. An address that differs from the present one counts as configured: no vote changes it.
    ///
    /// # Errors
    /// When the content does not fit in a record.
    pub fn set_record_content(&mut self, content: RecordContent) -> Result<(), RecordError> {
        if self.local.configure(content)? {
            self.emit_local_record();
        }
        Ok(())
    }

    /// The local node's ID.
    pub fn id(&self) -> NodeId {
        self.local.node.key.id()
    }

    /// The local node's key and endpoint.
    pub fn local(&self) -> &LocalNode {
        &self.local.node
    }

    /// The local record, which a node without a private key has not.
    pub fn local_record(&self) -> Option<&Arc<Record>> {
        self.local.record.as_ref()
    }

    /// The routing table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The store of contacts.
    pub fn contacts(&self) -> &C {
        &self.contacts
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last record that a member sent.
    pub fn record_of(&self, node: NodeRef) -> Option<&Arc<Record>> {
        self.records.get(&node)
    }

    /// How many contacts are configured.
    pub fn bootnodes(&self) -> usize {
        self.upkeep.sizes()[0]
    }

    /// Requests, errands and lookups under way: nothing else waits for the network.
    pub fn under_way(&self) -> (usize, usize, usize) {
        (self.requests.len() + self.knocks.len(), self.errands.len(), self.lookups.len())
    }

    /// Whether a node has proved its endpoint to us, not too long ago.
    pub fn has_proved(&self, now: Time, node: NodeRef) -> bool {
        self.known(node).proved.within(self.config.proof_lasts, now)
    }

    /// Panics when an invariant does not hold; for tests and fuzzers. Call it when the outputs are drained.
    #[doc(hidden)]
    pub fn assert_invariants(&self, now: Time) {
        let config = &self.config;
        self.table.assert_invariants(now, &self.contacts, &config.table);
        assert!(self.timers.next().is_none_or(|next| next > now), "a deadline is in the past");
        assert!(self.requests.len() <= config.requests.max_pending);
        for node in self.requests.nodes() {
            let addr = self.contacts.endpoint(node).udp_addr();
            assert!(self.requests.at(addr).count() <= config.requests.max_per_address, "too many requests to {addr}");
        }
        assert!(self.errands.len() <= config.requests.max_pending);
        assert!(self.lookups.len() <= config.lookup.max_lookups);
        assert!(self.proofs.len() <= 2 * config.max_proofs);
        assert!(self.pings_wanted.len() <= config.requests.max_pending);
        assert!(self.knocks.len() <= MAX_KNOCKS && self.knocks.wanted() <= config.requests.max_pending);
        assert!(self.quiet.len() <= MAX_QUIET);
        assert!(self.votes.len() <= config.votes.max_votes);
        assert!(self.records.len() <= self.table.len(), "records are kept of members only");
        assert!(self.table.entries().all(|(_, entry)| !self.proofs.contains(entry.node)), "a proof is kept twice");
        self.upkeep.assert_bounds(config);
        self.alarms.assert_bounds();
        self.skew.assert_bounds();
        assert!(self.former.len() <= config.refresh.max_former);
        assert!(self.stirred.is_empty(), "a lookup was left standing");
        for (id, errand) in self.errands.iter() {
            let awaited = match errand.stage {
                Stage::Requested(request) => self.requests.get(request).is_some(),
                Stage::Pinged => self.requests.nodes().any(|node| node == errand.node),
                Stage::Turn => self.requests.nodes_asked().any(|node| node == errand.node),
                Stage::Quiet(_) | Stage::AwaitsPing(_) | Stage::Follows(_) => true,
            };
            assert!(awaited, "nothing will ever wake errand {id:?}");
        }
        for node in self.live() {
            // Panics when the handle is not valid.
            self.contacts.id(node);
        }
    }

    /// What both sides have proved to one another.
    fn known(&self, node: NodeRef) -> Known {
        let known = |entry: &Entry| Known { proved: entry.proved, endorsed: entry.endorsed, ..Known::default() };
        // A member's proof lives in its entry alone.
        if let Some(entry) = self.table.get(node, &self.contacts) {
            return known(entry);
        }
        let cached = self.proofs.get(node);
        self.table.replacement(node, &self.contacts).map_or(cached, |entry| cached.merge(known(entry)))
    }

    /// Ends the handling of an input: what it stirred up is done, and the store is swept where it wants to be.
    fn settle(&mut self, now: Time) {
        self.drive_lookups(now);
        if self.contacts.wants_sweep() {
            let mut live = self.live();
            live.sort_unstable();
            self.contacts.sweep(&live);
        }
    }

    /// Every handle that the engine holds.
    fn live(&self) -> Vec<NodeRef> {
        let mut live = Vec::new();
        live.extend(self.table.entries().chain(self.table.replacements()).map(|(_, entry)| entry.node));
        live.extend(self.proofs.nodes());
        live.extend(self.requests.nodes());
        live.extend(self.errands.nodes());
        live.extend(self.pings_wanted.iter().map(|(node, _)| *node));
        live.extend(self.lookups.values().flat_map(Task::nodes));
        live.extend(self.records.keys());
        live.extend(self.upkeep.nodes().chain(self.former.nodes()));
        live
    }

    fn unix_secs(&self, now: Time) -> u64 {
        self.epoch_unix_micros.wrapping_add(now.0) / 1_000_000
    }

    fn expiration(&self, now: Time) -> u64 {
        self.unix_secs(now) + EXPIRATION_SECS
    }

    fn emit_local_record(&mut self) {
        if let Some(record) = self.local.record.clone() {
            self.emit(Event::LocalRecord(record));
        }
    }

    fn emit(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn transmit(&mut self, to: SocketAddr, message: Message, request: Option<RequestId>) {
        self.counters.count_sent(message.kind());
        self.out.push_back(Output::Transmit(Transmit { to, message, request }));
    }

    fn count_dropped(&mut self, reason: Dropped) -> Dropped {
        self.counters.count_dropped(reason);
        reason
    }

    fn local_key(&self) -> &PublicKey {
        self.local.node.key.public_key()
    }
}

#[cfg(test)]
mod tests;
