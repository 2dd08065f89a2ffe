//! The engine under arbitrary inputs in virtual time: messages and datagrams from a few nodes at a few addresses, answers
//! to what it asks, commands, bootnodes, steps of time and of the clock. Its bounds are so small that they are reached.
//!
//! After each input its invariants are checked, and some promises: strangers get no more than the answer to a PING,
//! NEIGHBORS and records go to proved askers only, a command has one reply, and what is under way ends.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use kadnode::proto::config::Config;
use kadnode::proto::contacts::OwnContacts;
use kadnode::proto::engine::{
    Clock, Command, CommandError, CommandId, Dropped, Engine, LocalKey, LocalNode, Output, Reply,
};
use kadnode::proto::identity::{Contact, Endpoint, PublicKey, Record, RecordContent};
use kadnode::proto::time::Time;
use kadnode::proto::wire::{
    self, EnrRequest, EnrResponse, FindNode, Hash, Message, MessageKind, Neighbors, NodeEntry, Opened, Ping, Pong,
    WireEndpoint,
};

use super::made::{self, KEYS};

/// Inputs of one run: the bounds are reached within a hundred, and a run takes a few milliseconds.
const MAX_STEPS: usize = 300;
/// Contacts that the store holds.
const CONTACTS: usize = 16;
/// Requests of the engine that can be answered.
const MAX_SENT: usize = 32;
/// No input makes the engine send more than this: a NEIGHBORS can fill the hint PINGs, and end a lookup that others wait
/// for; a deadline can be one of each kind.
const MAX_BURST: usize = 100;
/// Deadlines met in the last [`LAST`] of a run; there would be no end to them if one set itself again at once.
const MAX_DEADLINES: usize = 5000;
/// Longer than a lookup, with the requests that it waits for.
const LAST: Duration = Duration::from_secs(10);
/// The Unix time at which a run begins, in seconds.
const EPOCH: u64 = 1_800_000_000;
/// How long an endpoint proof lasts.
const PROOF: Duration = Duration::from_hours(24);

/// Networks of all kinds, some crowded; some that nothing can be sent to, though a packet may say to come from there.
static ADDRS: LazyLock<Vec<SocketAddr>> = LazyLock::new(|| {
    let addr = |n: usize| match n {
        0 => "0.0.0.0:0".to_owned(),
        1 => "6.6.6.6:53".to_owned(),
        2 => "224.0.0.1:30303".to_owned(),
        3 => "[::ffff:7.1.2.3]:30303".to_owned(),
        _ => match n % 5 {
            0 => format!("127.0.0.1:{}", 2000 + n),
            1 => format!("192.168.1.{n}:30303"),
            2 => format!("5.5.5.{n}:30303"),
            3 => format!("[2a00::{n}:1]:30303"),
            _ => format!("7.{n}.{n}.7:30303"),
        },
    };
    (0..KEYS.len()).map(|n| addr(n).parse().expect("these are addresses")).collect()
});

/// Runs an engine on the inputs that `data` describes.
pub fn check(data: &[u8]) {
    reached(data);
}

/// The same, and says what it brought about: bounds, replies and reasons to drop what came.
pub fn reached(data: &[u8]) -> BTreeSet<&'static str> {
    let mut u = Unstructured::new(data);
    let mut world = World::new(u.arbitrary().unwrap_or_default());
    for _ in 0..MAX_STEPS {
        if u.is_empty() || world.step(&mut u).is_err() {
            break;
        }
    }
    world.finish();
    world.reached
}

fn small() -> Config {
    let mut config = Config::default();
    config.table.k = 3;
    config.table.replacements = 2;
    config.table.bucket_per_v4_prefix = 3;
    config.table.table_per_v4_prefix = 5;
    config.requests.max_pending = 16;
    config.requests.max_per_address = 2;
    config.lookup.max_lookups = 3;
    config.lookup.max_candidates = 6;
    config.lookup.max_queries = 8;
    config.lookup.max_time = Duration::from_secs(3);
    config.lookup.max_hints = 3;
    config.lookup.max_hint_pings = 2;
    config.refresh.max_bootnodes = 4;
    config.refresh.max_former = 2;
    config.votes.quorum = 2;
    config.votes.max_votes = 4;
    config.max_proofs = 6;
    config
}

/// A request that the engine sent.
#[derive(Clone)]
struct Sent {
    to: SocketAddr,
    hash: Hash,
    message: Message,
}

/// What came in, for the promises about what goes back.
struct Input {
    from: SocketAddr,
    /// What it was taken for, if it was taken.
    kind: Option<MessageKind>,
    /// Whether the sender had proved its endpoint, and not too long ago.
    proved: bool,
    /// Whether it never had, and the input names no request of ours either.
    stranger: bool,
}

struct World {
    now: Time,
    engine: Engine<OwnContacts>,
    sent: VecDeque<Sent>,
    /// When a key at an address answered a PING that had gone there.
    proved: BTreeMap<(PublicKey, SocketAddr), Time>,
    open_commands: BTreeSet<CommandId>,
    serial: u64,
    unix_secs: u64,
    since_clock: Time,
    reached: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u8) -> Self {
        let now = Time::from_secs(50);
        let local = LocalNode {
            key: LocalKey::Private(KEYS[0].clone()),
            content: RecordContent::default(),
            seq: 1,
            bound: "[::]:30303".parse().expect("this is an address"),
            host: (None, None),
            tcp: 0,
        };
        let clock = Clock { now, unix_micros: EPOCH * 1_000_000 };
        let engine = Engine::new(local, Arc::new(small()), OwnContacts::new(CONTACTS), [seed; 32], clock)
            .expect("the settings are possible");
        Self {
            now,
            engine,
            sent: VecDeque::new(),
            proved: BTreeMap::new(),
            open_commands: BTreeSet::new(),
            serial: 0,
            unix_secs: EPOCH,
            since_clock: now,
            reached: BTreeSet::new(),
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=63u8)? {
            // An answer to a request.
            0..24 => {
                if let Some((who, from, message)) = self.answer(u)? {
                    self.feed(u, who, from, message)?;
                }
            }
            // Something out of the blue.
            24..40 => {
                let (who, from) = place(u)?;
                let message = self.unasked(u)?;
                self.feed(u, who, from, message)?;
            }
            40 => {
                let (_, from) = place(u)?;
                let count = u.arbitrary_len::<u8>()?.min(200);
                let _ = self.engine.handle_datagram(self.now, from, u.bytes(count)?);
                self.drain(None);
            }
            41..46 => {
                let contact = contact(u)?;
                let command = match u.int_in_range(0..=3u8)? {
                    0 => Command::Ping(contact),
                    1 => Command::RequestRecord(contact),
                    2 => Command::Lookup { target: contact.key, until_found: true, paths: None },
                    _ => Command::Lookup { target: PublicKey([u.arbitrary()?; 64]), until_found: false, paths: None },
                };
                let id = CommandId(self.next_serial());
                self.open_commands.insert(id);
                self.engine.handle_command(self.now, id, command);
                self.drain(None);
            }
            46 => {
                let contact = contact(u)?;
                let _ = self.engine.add_bootnode(self.now, &contact);
                self.drain(None);
            }
            47 => self.set_clock(u)?,
            48 => {
                let content = RecordContent { v4: u.arbitrary()?, v6: u.arbitrary()?, ..RecordContent::default() };
                self.engine.set_record_content(content).expect("it fits");
                self.drain(None);
            }
            // A driver that is late with its deadlines.
            49 => self.now = self.now + Duration::from_millis(u.arbitrary::<u8>()?.into()),
            _ => {
                let next = next(&mut self.engine);
                let passed = match u.int_in_range(0..=15u8)? {
                    0..6 => next.since(self.now).min(Duration::from_hours(1)),
                    6..12 => Duration::from_millis(u.arbitrary::<u8>()?.into()),
                    12..14 => Duration::from_millis(u.arbitrary::<u16>()?.into()),
                    14 => Duration::from_secs(u.arbitrary::<u16>()?.into()),
                    _ => Duration::from_hours(u.arbitrary::<u8>()?.into()),
                };
                self.now = self.now + passed;
                self.timeout();
            }
        }
        Ok(())
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn next_hash(&mut self) -> Hash {
        let mut hash = [0x55; 32];
        hash[..8].copy_from_slice(&self.next_serial().to_be_bytes());
        hash
    }

    /// The clock of the system is set, seldom to anything sensible.
    fn set_clock(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let unix_micros = match u.int_in_range(0..=3u8)? {
            0 => u.arbitrary()?,
            1 => EPOCH * 1_000_000,
            _ => {
                let by = i64::from(u.arbitrary::<i16>()?) * 1_000_000;
                (self.unix() * 1_000_000).saturating_add_signed(by)
            }
        };
        (self.unix_secs, self.since_clock) = (unix_micros / 1_000_000, self.now);
        self.engine.set_clock(Clock { now: self.now, unix_micros });
        self.drain(None);
        Ok(())
    }

    fn unix(&self) -> u64 {
        self.unix_secs.saturating_add(self.now.since(self.since_clock).as_secs()).min(u64::MAX / 1_000_000)
    }

    fn expiration(&mut self, u: &mut Unstructured<'_>) -> Result<u64> {
        Ok(match u.int_in_range(0..=31u8)? {
            30 => u.arbitrary()?,
            31 => self.unix().saturating_sub(2),
            _ => self.unix() + 20,
        })
    }

    fn unasked(&mut self, u: &mut Unstructured<'_>) -> Result<Message> {
        let expiration = self.expiration(u)?;
        let nowhere = WireEndpoint { ip: None, udp: 0, tcp: 0 };
        Ok(match u.int_in_range(0..=11u8)? {
            0..5 => {
                let enr_seq = Some(u.arbitrary::<u8>()?).filter(|seq| *seq < 200).map(u64::from);
                Message::Ping(Ping { from: nowhere, to: nowhere, expiration, enr_seq })
            }
            5..8 => Message::FindNode(FindNode { target: PublicKey([u.arbitrary()?; 64]), expiration }),
            8 => Message::EnrRequest(EnrRequest { expiration }),
            9 => self.neighbors(u)?,
            10 => Message::Pong(Pong { to: nowhere, ping_hash: [3; 32], expiration, enr_seq: None }),
            _ => made::message(u)?,
        })
    }

    fn neighbors(&mut self, u: &mut Unstructured<'_>) -> Result<Message> {
        let expiration = self.expiration(u)?;
        let count = u.int_in_range(0..=31usize)?.min(Neighbors::MAX_READ);
        let nodes = (0..count).map(|_| contact(u).map(NodeEntry::from)).collect::<Result<_>>()?;
        Ok(Message::Neighbors(Neighbors { nodes, expiration }))
    }

    /// An answer to a request of the engine, if it waits for one, mostly right.
    fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<Option<(usize, SocketAddr, Message)>> {
        if self.sent.is_empty() {
            return Ok(None);
        }
        let mut sent = self.sent[u.choose_index(self.sent.len())?].clone();
        let Some(mut who) = ADDRS.iter().position(|addr| *addr == sent.to) else { return Ok(None) };
        let mut from = sent.to;
        match u.int_in_range(0..=31u8)? {
            28 => sent.hash[0] ^= 1,
            29 => who = place(u)?.0,
            30 => from = place(u)?.1,
            31 => (who, from) = place(u)?,
            _ => {}
        }
        let expiration = self.expiration(u)?;
        let message = match sent.message {
            Message::Ping(_) => {
                let [b, seq]: [u8; 2] = u.arbitrary()?;
                let to = WireEndpoint { ip: Some([9, 9, 9, b % 4].into()), udp: 999, tcp: 0 };
                Message::Pong(Pong { to, ping_hash: sent.hash, expiration, enr_seq: (seq < 8).then_some(seq.into()) })
            }
            Message::FindNode(_) => self.neighbors(u)?,
            Message::EnrRequest(_) => {
                let (whose, at) = if u.ratio(1, 16)? { place(u)? } else { (who, from) };
                let record = record(whose, at, u.int_in_range(1..=8)?);
                Message::EnrResponse(EnrResponse { request_hash: sent.hash, record: record.into() })
            }
            _ => return Ok(None),
        };
        Ok(Some((who, from, message)))
    }

    /// Hands a message to the engine, once in a while as the packet that it would be.
    fn feed(&mut self, u: &mut Unstructured<'_>, who: usize, from: SocketAddr, message: Message) -> Result<()> {
        let sender = *KEYS[who].public_key();
        let kind = message.kind();
        // The engine knows no mapped addresses.
        let home = SocketAddr::new(from.ip().to_canonical(), from.port());
        let proof = self.proved.get(&(sender, home)).copied();
        let proved = proof.is_some_and(|at| self.now.since(at) <= PROOF);
        let result = if u.ratio(1, 16)? {
            let mut packet = Vec::new();
            wire::seal(&KEYS[who], &message, &mut packet);
            self.engine.handle_datagram(self.now, from, &packet)
        } else {
            let hash = self.next_hash();
            self.engine.handle_message(self.now, from, Opened { hash, sender, message })
        };
        if result == Ok(()) && kind == MessageKind::Pong {
            self.proved.insert((sender, home), self.now);
        }
        // It named a request by its hash, so the engine may go on with something else at that address.
        let named = matches!(result, Err(Dropped::WrongSender | Dropped::BadRecord)) || kind == MessageKind::Pong;
        let kind = result.is_ok().then_some(kind);
        let input = Input { from: home, kind, proved, stranger: proof.is_none() && !named };
        self.drain(Some(&input));
        Ok(())
    }

    fn timeout(&mut self) {
        self.engine.handle_timeout(self.now);
        let next = self.drain(None);
        assert!(next > self.now, "a deadline is in the past");
    }

    /// Drains the engine and says for when it wants to be called again.
    fn drain(&mut self, input: Option<&Input>) -> Time {
        let mut burst = 0;
        let mut back = Vec::new();
        loop {
            match self.engine.poll_output() {
                Output::Transmit(transmit) => {
                    burst += 1;
                    assert!(burst <= MAX_BURST);
                    let kind = transmit.message.kind();
                    let to_sender = input.filter(|input| input.from == transmit.to);
                    match kind {
                        MessageKind::Neighbors => {
                            let asked = to_sender.is_some_and(|i| i.proved && i.kind == Some(MessageKind::FindNode));
                            assert!(asked, "NEIGHBORS for one who did not ask, or may not");
                        }
                        MessageKind::EnrResponse => {
                            let asked = to_sender.is_some_and(|i| i.proved && i.kind == Some(MessageKind::EnrRequest));
                            assert!(asked, "a record for one who did not ask, or may not");
                        }
                        MessageKind::Pong => {
                            assert!(to_sender.is_some_and(|i| i.kind == Some(MessageKind::Ping)), "a PONG for no PING");
                        }
                        _ => {}
                    }
                    if to_sender.is_some_and(|input| input.stranger) {
                        back.push(kind);
                    }
                    let hash = self.next_hash();
                    if let Some(request) = transmit.request {
                        self.engine.handle_sealed(request, hash);
                    }
                    self.sent.push_front(Sent { to: transmit.to, hash, message: transmit.message.clone() });
                    self.sent.truncate(MAX_SENT);
                    self.engine.recycle(transmit.message);
                }
                Output::Reply(id, reply) => {
                    assert!(self.open_commands.remove(&id), "a second reply, or to nobody");
                    self.reached.insert(match reply {
                        Reply::Lookup(_) => "reply lookup",
                        Reply::Ping(_) => "reply ping",
                        Reply::Record(_) => "reply record",
                        Reply::Failed(CommandError::Busy) => "reply busy",
                        Reply::Failed(_) => "reply failed",
                    });
                }
                Output::Wait(until) => {
                    use MessageKind::{Ping, Pong};
                    let may = match input.and_then(|input| input.kind) {
                        Some(Ping) => matches!(back[..], [] | [Ping] | [Pong] | [Ping, Pong]),
                        _ => back.is_empty(),
                    };
                    assert!(may, "{back:?} for a stranger");
                    if until > self.now {
                        self.engine.assert_invariants(self.now);
                    }
                    self.note_bounds();
                    return until;
                }
                _ => {}
            }
        }
    }

    fn note_bounds(&mut self) {
        let (engine, config) = (&self.engine, self.engine.config());
        let (requests, errands, lookups) = engine.under_way();
        let mut replacements = BTreeMap::<u16, usize>::new();
        engine.table().replacements().for_each(|(distance, _)| *replacements.entry(distance).or_default() += 1);
        for (what, size, bound) in [
            ("bound requests", requests, config.requests.max_pending),
            ("bound errands", errands, config.requests.max_pending),
            ("bound lookups", lookups, config.lookup.max_lookups),
            ("bound bootnodes", engine.bootnodes(), config.refresh.max_bootnodes),
            ("bound contacts", engine.contacts().len(), CONTACTS),
            ("bound replacements", replacements.values().copied().max().unwrap_or(0), config.table.replacements),
        ] {
            assert!(size <= bound, "{what}: {size}");
            if size == bound {
                self.reached.insert(what);
            }
        }
    }

    /// All that is under way ends, answered or not.
    fn finish(&mut self) {
        self.timeout();
        let end = self.now + LAST;
        let mut deadlines = 0;
        loop {
            let next = next(&mut self.engine);
            if next > end {
                break;
            }
            deadlines += 1;
            assert!(deadlines <= MAX_DEADLINES, "there is no end to the deadlines");
            self.now = self.now.max(next);
            self.timeout();
        }
        assert!(self.open_commands.is_empty(), "{:?} had no reply", self.open_commands);
        let counters = self.engine.counters();
        self.reached.extend(Dropped::ALL.iter().filter(|why| counters.dropped(**why) > 0).map(|why| why.name()));
    }
}

/// The next deadline of an engine that is drained.
fn next(engine: &mut Engine<OwnContacts>) -> Time {
    match engine.poll_output() {
        Output::Wait(until) => until,
        output => panic!("{output:?} was left over"),
    }
}

/// A node and an address: mostly its own.
fn place(u: &mut Unstructured<'_>) -> Result<(usize, SocketAddr)> {
    let byte: u8 = u.arbitrary()?;
    let who = usize::from(byte & 31);
    let at = if byte >= 224 { u.choose_index(ADDRS.len())? } else { who };
    Ok((who, ADDRS[at]))
}

fn contact(u: &mut Unstructured<'_>) -> Result<Contact> {
    let (who, addr) = place(u)?;
    Ok(Contact { key: *KEYS[who].public_key(), endpoint: Endpoint::new(addr.ip(), addr.port(), 0) })
}

/// The record of a node, signed once in a process.
fn record(who: usize, at: SocketAddr, seq: u64) -> Vec<u8> {
    thread_local! {
        static SIGNED: RefCell<BTreeMap<(usize, SocketAddr, u64), Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    }
    let sign = || {
        let mut content = RecordContent::default();
        match at {
            SocketAddr::V4(addr) => content.v4 = Some((*addr.ip(), addr.port(), 0)),
            SocketAddr::V6(addr) => content.v6 = Some((*addr.ip(), addr.port(), 0)),
        }
        Record::sign(&KEYS[who], seq, &content).expect("it fits").as_bytes().to_vec()
    };
    SIGNED.with_borrow_mut(|signed| signed.entry((who, at, seq)).or_insert_with(sign).clone())
}
