//! The loop between socket and engine.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, info, trace, warn};

use super::backlog::{Backlog, Waiting};
use super::clock::{Step, SystemClock, unix_micros};
use super::crew::{Crew, Done, Job};
use super::parcel::{Outbox, Sender, send};
use super::socket::{Batch, Received, Socket, host_addresses};
use super::watch::{Cause, SLEEP, Watch};
use crate::proto::contacts::OwnContacts;
use crate::proto::engine::{Clock, Command, CommandError, CommandId, Dropped, Engine, Event, LocalKey, Output, Reply};
use crate::proto::identity::{Contact, Enode, IdPrefix, Record, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{self, OpenError, Opened};

/// Something that the handle asks of the loop.
pub(crate) enum Request {
    /// A command for the engine.
    Command(Command, oneshot::Sender<Reply>),
    /// A contact to be tried until it answers.
    AddBootnode(Contact),
    /// An address to be tried until a node answers there, with this ID where one is pinned.
    AddAddress(SocketAddr, Option<IdPrefix>),
    /// A contact that is not to be tried any more, unless it is a member.
    RemoveBootnode(Contact),
    /// An address that is not to be tried any more.
    RemoveAddress(SocketAddr, Option<IdPrefix>),
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
    Readable(io::Result<()>),
    Request(Option<Request>),
    Deadline,
}

/// How long the socket is left alone after a failure to receive: the first time, and at most; it doubles from failure to
/// failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// Packets that are opened at a time: some 2 ms of work for one thread.
const PORTION: usize = 64;

/// Batches that are received before any packet is opened: more than come in meanwhile, however cheap they are, so that
/// the queue of the kernel, which drops anybody's packets, stays short.
const BATCHES: usize = 32;

/// Requests of the handle that are served between two batches while there is no end of packets.
const REQUESTS_BETWEEN: usize = 16;

/// The engine, its socket, and whom it serves.
pub(crate) struct Driver {
    engine: Engine<OwnContacts>,
    socket: Arc<Socket>,
    clock: SystemClock,
    requests: mpsc::Receiver<Request>,
    events: broadcast::Sender<Event>,
    shared: Arc<Shared>,
    on_record: Box<dyn FnMut(&Record) + Send>,
    replies: BTreeMap<CommandId, oneshot::Sender<Reply>>,
    next_command: u64,
    foreign: Option<mpsc::Sender<(SocketAddr, Bytes)>>,
    /// What is to be sent.
    outbox: Outbox,
    crew: Crew,
    desk: Desk,
    backlog: Backlog,
    /// How long the socket is left alone after its last failure, and until when.
    pause: Duration,
    deaf_until: Time,
    watch: Watch,
}

/// The packets under way between backlog and engine; empty between two portions.
#[derive(Default)]
struct Desk {
    arrivals: Vec<Arrival>,
    jobs: VecDeque<Job>,
    done: Vec<Done>,
}

/// A packet that has come, with its sender when that is known.
struct Arrival {
    from: SocketAddr,
    /// The local address that it was sent to, where the system tells.
    to: Option<IpAddr>,
    opened: Option<Result<Opened, OpenError>>,
}

impl Driver {
    /// `threads` open and seal packets: this one and helpers.
    pub(crate) fn new<E>(
        socket: Socket,
        threads: usize,
        requests: mpsc::Receiver<Request>,
        events: broadcast::Sender<Event>,
        mut on_record: Box<dyn FnMut(&Record) + Send>,
        engine: impl FnOnce(Clock) -> Result<Engine<OwnContacts>, E>,
    ) -> Result<Self, E> {
        let clock = SystemClock::start();
        let engine = engine(Clock { now: clock.now(), unix_micros: clock.unix_at_start })?;
        let LocalKey::Private(key) = engine.local().key.clone() else {
            unreachable!("an engine behind a socket has a private key")
        };
        let record = engine.local_record().expect("with a private key there is a record").clone();
        on_record(&record);
        let watch = Watch::new(socket.local_addr().ip(), engine.local().host, host_addresses);
        let socket = Arc::new(socket);
        let crew = Crew::new(Sender::new(key, socket.clone()), threads.saturating_sub(1));
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
            outbox: Outbox::default(),
            crew,
            desk: Desk::default(),
            backlog: Backlog::default(),
            pause: Duration::ZERO,
            deaf_until: Time::ZERO,
            watch,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Runs until it is told to end, or nobody holds a handle any more.
    ///
    /// What the engine wants sent is worked off together with the next portion of packets when there is one already, so
    /// that all threads have something to do; else at once.
    pub(crate) async fn run(mut self) {
        let mut batch = Batch::new();
        loop {
            let deadline = self.drain(None);
            let now = self.clock.now();
            if deadline <= now {
                self.engine.handle_timeout(now);
                continue;
            }
            let inputs = if self.outbox.is_empty() && self.backlog.is_empty() {
                let input = self.wait(deadline, now).await;
                self.heed(input)
            } else {
                // Portions may follow one another without an end, and others want to run as well.
                tokio::task::yield_now().await;
                self.serve_requests()
            };
            match inputs {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(done) => {
                    // Whoever waits for the end finds the port free.
                    drop(self);
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                    return;
                }
            }
            // Before the packets are judged, and answered, by the time of day.
            self.follow_clock();
            self.follow_watch(deadline);
            self.receive(&mut batch);
            self.work();
            self.take_in();
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, deadline: Time, now: Time) -> Input {
        let deaf = self.deaf_until > now;
        let deadline = deadline.min(self.watch.deadline());
        let wake = if deaf { deadline.min(self.deaf_until) } else { deadline };
        tokio::select! {
            ready = self.socket.readable(), if !deaf => Input::Readable(ready),
            request = self.requests.recv() => Input::Request(request),
            () = tokio::time::sleep(wake.since(now)) => Input::Deadline,
        }
    }

    fn heed(&mut self, input: Input) -> ControlFlow<Option<oneshot::Sender<()>>> {
        match input {
            Input::Readable(Ok(())) | Input::Deadline => ControlFlow::Continue(()),
            Input::Readable(Err(error)) => {
                self.on_deaf(&error);
                ControlFlow::Continue(())
            }
            Input::Request(request) => self.serve(request),
        }
    }

    /// Serves the requests that are there, as many as may hold up the packets.
    fn serve_requests(&mut self) -> ControlFlow<Option<oneshot::Sender<()>>> {
        for _ in 0..REQUESTS_BETWEEN {
            match self.requests.try_recv() {
                Ok(request) => self.serve(Some(request))?,
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return ControlFlow::Break(None),
            }
        }
        ControlFlow::Continue(())
    }

    fn serve(&mut self, request: Option<Request>) -> ControlFlow<Option<oneshot::Sender<()>>> {
        match request {
            Some(Request::Shutdown(done)) => ControlFlow::Break(Some(done)),
            Some(request) => {
                self.follow_clock();
                self.handle_request(request);
                self.drain(None);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(None),
        }
    }

    fn follow_clock(&mut self) {
        let now = self.clock.now();
        if let Some(Step { unix_micros, ahead }) = self.clock.step(now, unix_micros()) {
            warn!("the system's clock was set, or the system was asleep: packets carry the new time from now on");
            self.engine.set_clock(Clock { now, unix_micros });
            if ahead >= SLEEP {
                self.renew(now);
            }
        }
    }

    /// The loop is awake, and wanted to be at `deadline` at the latest.
    fn follow_watch(&mut self, deadline: Time) {
        let now = self.clock.now();
        match self.watch.wake(deadline, now) {
            None => return,
            Some(Cause::Slept(time)) => warn!("this process did nothing for {} s", time.as_secs()),
            Some(Cause::Moved(host)) => {
                let both = [host.0.map(IpAddr::from), host.1.map(IpAddr::from)];
                let addresses: Vec<String> = both.into_iter().flatten().map(|ip| ip.to_string()).collect();
                info!("this host has another address now: {}", addresses.join(" and "));
                self.engine.set_host(host);
            }
        }
        self.renew(now);
    }

    fn renew(&mut self, now: Time) {
        info!(members = self.engine.table().len(), "asking all members of the table anew");
        self.engine.renew(now);
        self.drain(None);
    }

    /// Takes the datagrams that are there, and keeps those whose sender is worth finding out.
    fn receive(&mut self, batch: &mut Batch) {
        for _ in 0..BATCHES {
            batch.clear();
            if self.deaf_until > self.clock.now() {
                return;
            }
            match self.socket.receive(batch) {
                Ok(()) => self.pause = Duration::ZERO,
                Err(error) => self.on_deaf(&error),
            }
            for datagram in batch.datagrams() {
                if let Err(reason) = self.admit(&datagram) {
                    trace!(from = %datagram.from, %reason, "dropped");
                }
            }
            if !batch.is_full() {
                return;
            }
        }
    }

    /// Keeps a datagram if its sender is worth finding out.
    fn admit(&mut self, datagram: &Received<'_>) -> Result<(), Dropped> {
        let now = self.clock.now();
        // What an application does on a port that it shares with us is not for us to limit.
        let shared = self.foreign.is_some();
        if !shared {
            wire::check_len(datagram.bytes).map_err(|error| self.engine.handle_unreadable(error))?;
            self.engine.admit(now, datagram.from)?;
        }
        let framed = wire::frame(datagram.bytes).map_err(|error| {
            if matches!(error, OpenError::TooShort | OpenError::TooLong | OpenError::Hash) {
                self.hand_on(datagram);
            }
            self.engine.handle_unreadable(error)
        })?;
        if shared {
            self.engine.admit(now, datagram.from)?;
        }
        let packet = self.engine.screen(now, datagram.from, framed)?;
        let standing = self.engine.standing(now, datagram.from);
        let waiting = Waiting { from: datagram.from, to: datagram.to, packet };
        if self.backlog.push(standing, waiting) { Ok(()) } else { Err(self.engine.drop_for_room()) }
    }

    /// On some systems the ICMP errors of single peers surface when receiving, and are gone with the next call. On a
    /// socket that fails for good the loop must not spin.
    fn on_deaf(&mut self, error: &io::Error) {
        debug!(%error, "receiving failed");
        let longer = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        if longer == PAUSE.1 && self.pause != longer {
            warn!("the UDP socket receives nothing: {error}; trying again every second");
        }
        self.pause = longer;
        self.deaf_until = self.clock.now() + self.pause;
    }

    /// Has all threads recover the senders of the next portion, and seal and send what is to go.
    fn work(&mut self) {
        let Desk { arrivals, jobs, done } = &mut self.desk;
        while arrivals.len() < PORTION
            && let Some(Waiting { from, to, packet }) = self.backlog.pop()
        {
            jobs.push_back(Job::Recover(arrivals.len(), packet));
            arrivals.push(Arrival { from, to, opened: None });
        }
        // What goes has been waiting for longer.
        jobs.extend(self.outbox.take().map(Job::Send));
        jobs.rotate_left(arrivals.len());
        self.crew.work(jobs, done);
        for done in done.drain(..) {
            match done {
                Done::Recovered(number, opened) => arrivals[number].opened = Some(opened),
                Done::Sealed(parcel) => {
                    for letter in parcel.letters() {
                        // No answer can have been received yet.
                        if let Some(request) = letter.request {
                            self.engine.handle_sealed(request, letter.hash);
                        }
                        self.engine.recycle(letter.message);
                    }
                }
            }
        }
    }

    /// Hands the packets to the engine, in the order in which they came.
    fn take_in(&mut self) {
        let mut arrivals = std::mem::take(&mut self.desk.arrivals);
        for Arrival { from, to, opened } in arrivals.drain(..) {
            let now = self.clock.now();
            let result = match opened {
                Some(Ok(opened)) => self.engine.handle_message(now, from, opened),
                Some(Err(error)) => Err(self.engine.handle_unreadable(error)),
                // Its thread has died.
                None => continue,
            };
            if let Err(reason) = result {
                trace!(%from, %reason, "dropped");
            }
            self.drain(Some((from, to)));
        }
        self.desk.arrivals = arrivals;
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
            Request::AddAddress(addr, pin) => {
                if let Err(error) = self.engine.add_address(now, addr, pin) {
                    warn!(%addr, "a bootnode cannot be used: {error}");
                }
            }
            Request::RemoveBootnode(contact) => self.engine.remove_bootnode(&contact),
            Request::RemoveAddress(addr, pin) => self.engine.remove_address(addr, pin),
            Request::SetRecord(content, done) => {
                let result = self.engine.set_record_content(content);
                // Whoever has the answer sees the new record.
                self.drain(None);
                let _ = done.send(result);
            }
            Request::Inspect(look) => look(&self.engine, now),
            Request::SendForeign(to, bytes) => send(&self.socket, to, None, &bytes, &[bytes.len()]),
            Request::Foreign(channel, done) => {
                self.foreign = Some(channel);
                let _ = done.send(());
            }
            Request::Shutdown(_) => {}
        }
    }

    /// Does what the engine wants, but for sending, which waits in the outbox; returns when it wants to be woken. Answers
    /// to `source` leave from the local address that was asked.
    fn drain(&mut self, source: Option<(SocketAddr, Option<IpAddr>)>) -> Time {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(transmit) => {
                    let from = source.and_then(|(source, local)| local.filter(|_| source == transmit.to));
                    self.outbox.add(transmit, from);
                }
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

    fn tell(&mut self, event: Event) {
        if let Event::LocalRecord(record) = &event {
            (self.on_record)(record);
            *self.shared.record.write().unwrap_or_else(PoisonError::into_inner) = record.clone();
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::parcel::Parcel;
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
        let driver = Driver::new(socket, 1, receiver, broadcast::channel(4).0, Box::new(|_| {}), engine).unwrap();
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

    /// What the driver would send.
    fn posted(driver: &mut Driver) -> Vec<wire::Message> {
        driver.drain(None);
        driver.outbox.take().flat_map(Parcel::letters).map(|letter| letter.message).collect()
    }

    /// The addresses that PINGs tell as ours which a renewal brings about: a silent contact is tried at once.
    fn renewed_by(cause: impl FnOnce(&mut Driver)) -> Vec<Option<IpAddr>> {
        let age = Duration::from_secs(6);
        // Nothing of this is ever sent.
        let (mut driver, _requests) = driver(Socket::bind((ANY, 0).into()).unwrap());
        let key = *NodeKey::from_bytes(&[2; 32]).unwrap().public_key();
        let silent = Contact { key, endpoint: Endpoint::new([10, 0, 0, 2].into(), 30303, 0) };
        driver.handle_request(Request::AddBootnode(silent));
        while let due = driver.drain(None)
            && due < Time::ZERO + age
        {
            driver.engine.handle_timeout(due);
        }
        posted(&mut driver);
        driver.clock = SystemClock::started(age);
        cause(&mut driver);
        let source = |message| match message {
            wire::Message::Ping(ping) => ping.from.ip,
            other => panic!("{other:?}"),
        };
        posted(&mut driver).into_iter().map(source).collect()
    }

    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    #[tokio::test]
    async fn a_sleep_a_step_ahead_and_a_move_renew_what_was_proved() {
        const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(renewed_by(|driver| driver.follow_watch(Time::ZERO)), [Some(ANY.into())], "it slept");
        let stepped = |by| {
            renewed_by(|driver| {
                driver.clock.unix_at_start -= by;
                driver.follow_clock();
            })
        };
        assert_eq!(stepped(5_000_000), [Some(ANY.into())]);
        assert_eq!(stepped(4_000_000), []);
        let moved = |host| {
            renewed_by(|driver| {
                driver.watch = Watch::new(ANY.into(), (host, None), || (Some(HOST), None));
                driver.follow_watch(Time::NEVER);
            })
        };
        assert_eq!(moved(None), [Some(HOST.into())]);
        assert_eq!(moved(Some(HOST)), []);
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
}
