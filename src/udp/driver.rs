//! The loop between socket and engine.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// Hand on the datagrams that are not discv4, from the answer on.
    Foreign(mpsc::Sender<(SocketAddr, Bytes)>, oneshot::Sender<()>),
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

/// What wakes the loop.
enum Input {
    Received(io::Result<()>),
    Request(Option<Request>),
    Deadline,
}

/// How long the socket is left alone after a failure to receive: the first time, and at most; it doubles from failure to
/// failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

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
    fn step(&mut self, now: Time, unix: u64) -> Option<u64> {
        // Wrapping, since a clock may say 1970.
        let expected = self.unix_at_start.wrapping_add(now.0);
        if unix.abs_diff(expected) < CLOCK_STEP {
            return None;
        }
        self.unix_at_start = unix.wrapping_sub(now.0);
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
        let record =
            engine.local_record().expect("an engine behind a socket has a private key, and so a record").clone();
        on_record(&record);
        let shared = Arc::new(Shared { record: RwLock::new(record), local_addr: socket.local_addr() });
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
        let mut pause = Duration::ZERO;
        let mut deaf_until = Time::ZERO;
        loop {
            let deadline = self.drain(None);
            let now = self.clock.now();
            if deadline <= now {
                self.engine.handle_timeout(now);
                continue;
            }
            let deaf = deaf_until > now;
            let wake = if deaf { deadline.min(deaf_until) } else { deadline };
            let input = tokio::select! {
                received = self.socket.receive(&mut batch), if !deaf => Input::Received(received),
                request = self.requests.recv() => Input::Request(request),
                () = tokio::time::sleep(wake.since(now)) => Input::Deadline,
            };
            // Before the input is judged, and answered, by the time of day.
            self.follow_clock();
            match input {
                Input::Received(Ok(())) => {
                    pause = Duration::ZERO;
                    self.handle_batch(&batch).await;
                }
                Input::Received(Err(error)) => {
                    // On some systems the ICMP errors of single peers surface here, and are gone with the next call. On
                    // a socket that fails for good the loop must not spin.
                    debug!(%error, "receiving failed");
                    let longer = (pause * 2).clamp(PAUSE.0, PAUSE.1);
                    if longer == PAUSE.1 && pause != longer {
                        warn!("the UDP socket receives nothing: {error}; trying again every second");
                    }
                    pause = longer;
                    deaf_until = self.clock.now() + pause;
                }
                Input::Request(Some(Request::Shutdown(done))) => {
                    // Whoever waits for the end finds the port free.
                    drop(self);
                    let _ = done.send(());
                    return;
                }
                Input::Request(Some(request)) => self.handle_request(request),
                Input::Request(None) => return,
                Input::Deadline => {}
            }
        }
    }

    fn follow_clock(&mut self) {
        let now = self.clock.now();
        if let Some(unix_micros) = self.clock.step(now, unix_micros()) {
            warn!("the system's clock was set, or the system was asleep: packets carry the new time from now on");
            self.engine.set_clock(Clock { now, unix_micros });
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
            self.drain(Some((datagram.from, datagram.to)));
            // A batch may hold hundreds of them, each worth two signatures: others want to run as well.
            tokio::task::consume_budget().await;
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

    fn handle_request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            // Those who gave up waiting need no answer.
            Request::Command(_, reply) if reply.is_closed() => {}
            Request::Command(command, reply) => {
                self.replies.retain(|_, reply| !reply.is_closed());
                self.next_command += 1;
                let id = CommandId(self.next_command);
                self.replies.insert(id, reply);
                self.engine.handle_command(now, id, command);
            }
            // A name or a record may have addresses of both families.
            Request::AddBootnode(contact) => match self.engine.add_bootnode(now, &contact) {
                // One's own URL in a list that all nodes share is no mistake.
                Ok(()) | Err(CommandError::Itself) => {}
                Err(error) => warn!(enode = %Enode::from(contact), "a bootnode cannot be used: {error}"),
            },
            Request::SetRecord(content, done) => {
                let result = self.engine.set_record_content(content);
                // Whoever has the answer sees the new record.
                self.drain(None);
                let _ = done.send(result);
            }
            Request::Inspect(look) => look(&self.engine, now),
            Request::SendForeign(to, bytes) => send(&self.socket, to, None, &bytes),
            Request::Foreign(channel, done) => {
                self.foreign = Some(channel);
                let _ = done.send(());
            }
            Request::Shutdown(_) => {}
        }
    }

    /// Does all that the engine wants; returns when it wants to be woken. Answers to `source` leave from the local
    /// address that was asked.
    fn drain(&mut self, source: Option<(SocketAddr, Option<IpAddr>)>) -> Time {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(transmit) => self.transmit(&transmit, source),
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

    fn transmit(&mut self, transmit: &Transmit, source: Option<(SocketAddr, Option<IpAddr>)>) {
        let mut packet = std::mem::take(&mut self.packet);
        self.engine.seal(transmit, &mut packet);
        let from = source.and_then(|(source, local)| local.filter(|_| source == transmit.to));
        send(&self.socket, transmit.to, from, &packet);
        self.packet = packet;
    }

    fn tell(&mut self, event: Event) {
        if let Event::LocalRecord(record) = &event {
            (self.on_record)(record);
            *self.shared.record.write().unwrap_or_else(PoisonError::into_inner) = record.clone();
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

fn send(socket: &Socket, to: SocketAddr, from: Option<IpAddr>, packet: &[u8]) {
    if !socket.reaches(to) {
        trace!(%to, "not sent: the socket is of the other address family");
    } else if let Err(error) = socket.send(to, from, packet) {
        // No route, a firewall, a full queue: to the engine it is a lost packet. Waiting for the queue would stop the loop.
        debug!(%to, %error, "sending failed");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::proto::config::Config;
    use crate::proto::engine::LocalNode;
    use crate::proto::identity::{Endpoint, NodeKey};

    fn driver(socket: Socket) -> (Driver, mpsc::Sender<Request>) {
        let local = LocalNode {
            key: crate::proto::engine::LocalKey::Private(Arc::new(NodeKey::from_bytes(&[1; 32]).unwrap())),
            content: RecordContent::default(),
            seq: 1,
            bound: socket.local_addr(),
            host: (None, None),
            tcp: 0,
        };
        let (requests, receiver) = mpsc::channel(4);
        let engine = |clock| Engine::new(local, Arc::new(Config::default()), OwnContacts::default(), [1; 32], clock);
        let driver = Driver::new(socket, receiver, broadcast::channel(4).0, Box::new(|_| {}), engine).unwrap();
        (driver, requests)
    }

    fn socket() -> Socket {
        Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    #[tokio::test]
    async fn no_reply_is_kept_for_those_who_gave_up() {
        let (mut driver, _requests) = driver(socket());
        let key = *NodeKey::from_bytes(&[2; 32]).unwrap().public_key();
        // A port that nobody answers on.
        let silent = socket();
        let contact =
            Contact { key, endpoint: Endpoint::new(Ipv4Addr::LOCALHOST.into(), silent.local_addr().port(), 0) };

        let (done, answer) = oneshot::channel();
        drop(answer);
        driver.handle_request(Request::Command(Command::Ping(contact), done));
        driver.drain(None);
        assert_eq!((driver.replies.len(), driver.engine.under_way().0), (0, 0), "it is not even begun");

        let (done, given_up) = oneshot::channel();
        driver.handle_request(Request::Command(Command::Ping(contact), done));
        driver.drain(None);
        assert_eq!((driver.replies.len(), driver.engine.under_way().0), (1, 1));
        drop(given_up);

        let (done, mut answer) = oneshot::channel();
        driver.handle_request(Request::Command(Command::RequestRecord(contact), done));
        driver.drain(None);
        assert_eq!(driver.replies.len(), 1, "the next request clears what was given up");

        driver.engine.handle_timeout(Time::from_secs(3_600));
        driver.drain(None);
        assert_eq!(answer.try_recv(), Ok(Reply::Failed(CommandError::Timeout)));
        assert_eq!((driver.replies.len(), driver.engine.under_way()), (0, (0, 0, 0)));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_socket_that_fails_for_good_neither_spins_nor_stops_the_loop() {
        use std::io::Write;

        // A pipe that has something to read, and is no socket.
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut socket = socket();
        socket.fail_with(reader.into());
        let (driver, requests) = driver(socket);
        let mut run = Box::pin(driver.run());
        let mut polls = 0;
        let count = std::future::poll_fn(|cx| {
            polls += 1;
            run.as_mut().poll(cx)
        });
        assert!(tokio::time::timeout(Duration::from_millis(300), count).await.is_err(), "it goes on");
        // 1, 2, 4 ms and so on; each poll of a loop that spins is worth a hundred failures.
        assert!((2..40).contains(&polls), "polled {polls} times");

        let (done, seen) = oneshot::channel();
        requests.try_send(Request::Inspect(Box::new(|_, _| done.send(()).unwrap()))).unwrap_or_else(|_| panic!("full"));
        tokio::select! {
            () = run => panic!("it ended"),
            answered = seen => answered.unwrap(),
        }
    }

    #[test]
    fn steps_of_the_clock_are_noticed_once_wherever_it_goes() {
        let mut clock = SystemClock { start: SystemClock::start().start, unix_at_start: 1_700_000_000_000_000 };
        let at = |secs: u64, offset: u64| (Time::from_secs(secs), offset + secs * 1_000_000);
        let mut step = |(now, unix)| clock.step(now, unix);
        assert_eq!(step(at(5, 1_700_000_000_400_000)), None, "too little for a word");
        // To 2030, and to a board without a clock that was started after it: less than the node's own time after 1970.
        for unix in [1_900_000_000_000_000, 7] {
            assert_eq!(step((Time::from_secs(60), unix)), Some(unix));
            assert_eq!(step((Time::from_secs(70), unix + 10_000_000)), None);
        }
    }
}
