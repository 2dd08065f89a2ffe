//! The loop between socket and engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, trace, warn};

use super::socket::{Batch, Received, Socket};
use crate::proto::contacts::OwnContacts;
use crate::proto::engine::{Clock, Command, CommandError, CommandId, Dropped, Engine, Event, Output, Reply, Transmit};
use crate::proto::identity::{Contact, Enode, Record, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::OpenError;

/// Something that the handle asks of the loop.
pub(crate) enum Request {
    /// A command for the engine.
    Command(Command, oneshot::Sender<Reply>),
    /// A contact to be tried until it answers.
    AddBootnode(Contact),
    /// Change what the record says.
    SetRecord(RecordContent, oneshot::Sender<Result<(), crate::proto::identity::RecordError>>),
    /// Look at the engine between two packets.
    Inspect(Look),
    /// Send a datagram that is none of ours.
    SendForeign(SocketAddr, Bytes),
    /// Hand on the datagrams that are not discv4.
    Foreign(mpsc::Sender<(SocketAddr, Bytes)>),
    /// End.
    Shutdown(oneshot::Sender<()>),
}

/// A look at the engine.
pub(crate) type Look = Box<dyn FnOnce(&Engine<OwnContacts>, Time) + Send>;

/// What the handle can see without asking.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) record: RwLock<Arc<Record>>,
    pub(crate) local_addr: SocketAddr,
}

/// The two clocks of the system.
struct SystemClock {
    start: Instant,
    unix_at_start: u64,
}

/// A step of the system's clock below this many microseconds is not worth a word.
const CLOCK_STEP: u64 = 500_000;

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the driver: here the clock comes in")]
    fn start() -> Self {
        Self { start: Instant::now(), unix_at_start: unix_micros() }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the driver: here the clock comes in")]
    fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The Unix clock's step since it was last looked at, if there was one.
    fn step(&mut self, now: Time) -> Option<u64> {
        let unix = unix_micros();
        let expected = self.unix_at_start.saturating_add(now.0);
        if unix.abs_diff(expected) < CLOCK_STEP {
            return None;
        }
        self.unix_at_start = unix.saturating_sub(now.0);
        Some(unix)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the driver: here the clock comes in")]
fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// The engine, its socket, and whom it serves.
pub(crate) struct Driver {
    engine: Engine<OwnContacts>,
    socket: Socket,
    clock: SystemClock,
    requests: mpsc::Receiver<Request>,
    events: broadcast::Sender<Event>,
    shared: Arc<Shared>,
    on_record: Box<dyn FnMut(&Record) + Send>,
    replies: BTreeMap<CommandId, oneshot::Sender<Reply>>,
    next_command: u64,
    foreign: Option<mpsc::Sender<(SocketAddr, Bytes)>>,
    packet: BytesMut,
}

impl Driver {
    pub(crate) fn new<E>(
        socket: Socket,
        requests: mpsc::Receiver<Request>,
        events: broadcast::Sender<Event>,
        mut on_record: Box<dyn FnMut(&Record) + Send>,
        engine: impl FnOnce(Clock) -> Result<Engine<OwnContacts>, E>,
    ) -> Result<Self, E> {
        let clock = SystemClock::start();
        let engine = engine(Clock { now: clock.now(), unix_micros: clock.unix_at_start })?;
        on_record(engine.local_record());
        let shared =
            Arc::new(Shared { record: RwLock::new(engine.local_record().clone()), local_addr: socket.local_addr() });
        Ok(Self {
            engine,
            socket,
            clock,
            requests,
            events,
            shared,
            on_record,
            replies: BTreeMap::new(),
            next_command: 0,
            foreign: None,
            packet: BytesMut::new(),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Runs until it is told to end, or nobody holds a handle any more.
    pub(crate) async fn run(mut self) {
        let mut batch = Batch::new();
        loop {
            let deadline = self.drain(None).await;
            let now = self.clock.now();
            if deadline <= now {
                self.engine.handle_timeout(now);
                continue;
            }
            let sleep = tokio::time::sleep(deadline.since(now));
            tokio::select! {
                received = self.socket.receive(&mut batch) => match received {
                    Ok(()) => self.handle_batch(&batch).await,
                    // ICMP errors surface here on some systems; they concern single peers.
                    Err(error) => debug!(%error, "receiving failed"),
                },
                request = self.requests.recv() => match request {
                    Some(Request::Shutdown(done)) => {
                        // Whoever waits for the end finds the port free.
                        drop(self);
                        let _ = done.send(());
                        return;
                    }
                    Some(request) => self.handle_request(request).await,
                    None => return,
                },
                () = sleep => {}
            }
            let now = self.clock.now();
            if let Some(unix_micros) = self.clock.step(now) {
                warn!("the system's clock was set, or the system was asleep: packets carry the new time from now on");
                self.engine.set_clock(Clock { now, unix_micros });
            }
        }
    }

    async fn handle_batch(&mut self, batch: &Batch) {
        for datagram in batch.datagrams() {
            let now = self.clock.now();
            match self.engine.handle_datagram(now, datagram.from, datagram.bytes) {
                Ok(()) => {}
                Err(Dropped::Open(OpenError::TooShort | OpenError::TooLong | OpenError::Hash)) => {
                    self.hand_on(&datagram);
                }
                Err(reason) => trace!(from = %datagram.from, %reason, "dropped"),
            }
            self.drain(Some((datagram.from, datagram.to))).await;
        }
    }

    /// A datagram that is not discv4 goes to the application that shares the port; when its channel is full it is lost,
    /// as it would be in a full socket buffer.
    fn hand_on(&mut self, datagram: &Received<'_>) {
        let Some(foreign) = &self.foreign else { return };
        let sent = foreign.try_send((datagram.from, Bytes::copy_from_slice(datagram.bytes)));
        if let Err(mpsc::error::TrySendError::Closed(_)) = sent {
            self.foreign = None;
        }
    }

    async fn handle_request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            Request::Command(command, reply) => {
                // Those who gave up waiting need no answer.
                self.replies.retain(|_, reply| !reply.is_closed());
                self.next_command += 1;
                let id = CommandId(self.next_command);
                self.replies.insert(id, reply);
                self.engine.handle_command(now, id, command);
            }
            Request::AddBootnode(contact) => match self.engine.add_bootnode(now, &contact) {
                // One's own URL in a list that all nodes share is no mistake.
                Ok(()) | Err(CommandError::Itself) => {}
                Err(error) => warn!(enode = %Enode::from(contact), "a bootnode cannot be used: {error}"),
            },
            Request::SetRecord(content, done) => {
                let _ = done.send(self.engine.set_record_content(content));
            }
            Request::Inspect(look) => look(&self.engine, now),
            Request::SendForeign(to, bytes) => send(&self.socket, to, None, &bytes).await,
            Request::Foreign(channel) => self.foreign = Some(channel),
            Request::Shutdown(_) => {}
        }
    }

    /// Does all that the engine wants; returns when it wants to be woken. Answers to `source` leave from the local
    /// address that was asked.
    async fn drain(&mut self, source: Option<(SocketAddr, Option<IpAddr>)>) -> Time {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(transmit) => self.transmit(&transmit, source).await,
                Output::Event(event) => self.tell(event),
                Output::Reply(id, reply) => {
                    if let Some(waiting) = self.replies.remove(&id) {
                        let _ = waiting.send(reply);
                    }
                }
                Output::Wait(deadline) => return deadline,
            }
        }
    }

    async fn transmit(&mut self, transmit: &Transmit, source: Option<(SocketAddr, Option<IpAddr>)>) {
        let mut packet = std::mem::take(&mut self.packet);
        self.engine.seal(transmit, &mut packet);
        let from = source.and_then(|(source, local)| local.filter(|_| source == transmit.to));
        send(&self.socket, transmit.to, from, &packet).await;
        self.packet = packet;
    }

    fn tell(&mut self, event: Event) {
        if let Event::LocalRecord(record) = &event {
            (self.on_record)(record);
            if let Ok(mut shared) = self.shared.record.write() {
                *shared = record.clone();
            }
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

async fn send(socket: &Socket, to: SocketAddr, from: Option<IpAddr>, packet: &[u8]) {
    if !socket.reaches(to) {
        trace!(%to, "not sent: the socket is of the other address family");
    } else if let Err(error) = socket.send(to, from, packet).await {
        // No route, a firewall, a full queue: to the engine it is a lost packet.
        debug!(%to, %error, "sending failed");
    }
}
