//! A socket with an identity, from which requests go out one after the other.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use super::now;
use super::packets::{Packets, hash_of};
use crate::cli::failure::Failure;
use crate::proto::identity::{Contact, Endpoint, NodeKey};
use crate::proto::wire::{self, HEADER_LEN, Hash, MAX_NEIGHBORS_LEN, Message, MessageKind, Pong, Unverified};

/// How long after its PONG the target may take to ping back. ethereumjs and geth take no time, others a moment.
const PING_BACK: Duration = Duration::from_millis(500);

/// Silence after which a NEIGHBORS answer is taken as whole.
const QUIET: Duration = Duration::from_millis(100);

/// What counts as the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// A packet that names the request's hash.
    Echo,
    /// So many NEIGHBORS packets.
    Neighbors(usize),
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// PONG or ENRRESPONSE, with the hash that it names.
    Echo(Hash),
    /// NEIGHBORS, with the number of its nodes.
    Neighbors(usize),
    /// Whatever it was, it is no answer.
    Other,
}

/// A connected socket and who speaks there.
pub(super) struct Slot {
    socket: UdpSocket,
    pub(super) key: NodeKey,
    pub(super) me: Endpoint,
    target: SocketAddr,
    /// The expiration of PONGs, when the target's PINGs are answered, so that it takes this endpoint as proved.
    answers: Option<u64>,
    /// PINGs of the target that were answered.
    pub(super) pinged: u32,
    /// Nodes in the NEIGHBORS that counted as answers.
    pub(super) nodes: u64,
    /// Packets that look like answers, to nothing that was asked.
    pub(super) stray: u64,
    buffer: Box<[u8; BUFFER]>,
}

/// Longer than any packet.
const BUFFER: usize = MAX_NEIGHBORS_LEN + 1;

impl Slot {
    /// Opens a socket that speaks with `target` alone.
    pub(super) async fn open(target: SocketAddr, key: NodeKey) -> Result<Self, Failure> {
        let any: SocketAddr =
            if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let open = async || {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(target).await?;
            let local = socket.local_addr()?;
            Ok((socket, local))
        };
        let (socket, local) = open().await.map_err(|error: io::Error| {
            Failure::runtime(format!("cannot open a socket to {target}: {error}; each request under way takes one"))
        })?;
        let me = Endpoint::new(local.ip(), local.port(), 0);
        let buffer = Box::new([0; BUFFER]);
        Ok(Self { socket, key, me, target, answers: None, pinged: 0, nodes: 0, stray: 0, buffer })
    }

    /// From now on answers the target's PINGs, with PONGs of this expiration.
    pub(super) fn answer_pings(&mut self, expiration: u64) {
        self.answers = Some(expiration);
    }

    /// Sends a datagram. That nobody listens at the target is no error here: it is found out by waiting.
    pub(super) async fn send(&self, datagram: &[u8]) -> Result<(), Failure> {
        // A refusal is told to the next one who sends, whose datagram stays here.
        for _ in 0..2 {
            match self.socket.send(datagram).await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(Failure::runtime(format!("cannot send to {}: {error}", self.target))),
                Ok(_) => break,
            }
        }
        Ok(())
    }

    /// Waits for a packet other than PING until a moment; PINGs are answered meanwhile if that was asked for.
    pub(super) async fn receive(&mut self, until: Instant) -> Result<Option<Unverified>, Failure> {
        loop {
            let len = match timeout_at(until.into(), self.socket.recv(&mut self.buffer[..])).await {
                Err(_) => return Ok(None),
                Ok(Ok(len)) => len,
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => 0,
                Ok(Err(error)) => {
                    return Err(Failure::runtime(format!("cannot receive from {}: {error}", self.target)));
                }
            };
            let is_ping = self.buffer[..len].get(HEADER_LEN - 1) == Some(&(MessageKind::Ping as u8));
            // What need not be answered need not be read: the hash would cost more than all else here.
            if let (true, Some(expiration)) = (is_ping, self.answers) {
                if let Ok(packet) = wire::parse(&self.buffer[..len]) {
                    self.pong(*packet.hash(), expiration).await?;
                }
            } else if !is_ping && let Ok(packet) = wire::parse(&self.buffer[..len]) {
                return Ok(Some(packet));
            }
            // A target that never falls silent must not keep us here.
            if now() >= until {
                return Ok(None);
            }
        }
    }

    /// Sends a request and waits for its answer: how long that took, or `None` when none came in time.
    pub(super) async fn request(
        &mut self,
        packet: &[u8],
        expect: Expect,
        timeout: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let (hash, sent) = (hash_of(packet), now());
        let mut packets = 0;
        self.send(packet).await?;
        while let Some(received) = self.receive(sent + timeout).await? {
            match (read(&received), expect) {
                (Heard::Echo(echo), Expect::Echo) if echo == hash => return Ok(Some(now() - sent)),
                (Heard::Neighbors(nodes), Expect::Neighbors(wanted)) => {
                    self.nodes += nodes as u64;
                    packets += 1;
                    if packets == wanted {
                        return Ok(Some(now() - sent));
                    }
                }
                _ => self.stray += 1,
            }
        }
        Ok(None)
    }

    /// Pings the target and says who has answered; `None` for nobody.
    pub(super) async fn greet(&mut self, ping: &[u8], timeout: Duration) -> Result<Option<Contact>, Failure> {
        let (hash, until) = (hash_of(ping), now() + timeout);
        self.send(ping).await?;
        while let Some(received) = self.receive(until).await? {
            if read(&received) == Heard::Echo(hash)
                && let Ok(opened) = received.recover()
            {
                let endpoint = Endpoint::new(self.target.ip(), self.target.port(), 0);
                return Ok(Some(Contact { key: opened.sender, endpoint }));
            }
        }
        Ok(None)
    }

    /// Has the target take this endpoint as proved: pings it and answers its PING, for which it gets a moment if there was
    /// none yet. Says whether the target answered; a PING of it may not come because it knows this endpoint.
    pub(super) async fn prove(&mut self, ping: &[u8], timeout: Duration) -> Result<bool, Failure> {
        if self.request(ping, Expect::Echo, timeout).await?.is_none() {
            return Ok(false);
        }
        let until = now() + PING_BACK;
        // `receive` comes back for other packets alone, so it is given its time in small pieces.
        while self.pinged == 0 && now() < until {
            self.receive(until.min(now() + Duration::from_millis(1))).await?;
        }
        Ok(true)
    }

    /// Proves this endpoint and tries whether the target serves a request now, as often as there are PINGs. Says whether
    /// it does.
    pub(super) async fn bond(
        &mut self,
        pings: &Packets,
        trials: &Packets,
        expect: Expect,
        timeout: Duration,
    ) -> Result<bool, Failure> {
        for (ping, trial) in pings.iter().zip(trials.iter()) {
            if self.prove(ping, timeout).await? && self.request(trial, expect, timeout).await?.is_some() {
                // A second NEIGHBORS must not be taken for the answer to what is asked next.
                self.listen(now() + QUIET).await?;
                return Ok(true);
            }
            // Some ping later than others.
            self.listen(now() + PING_BACK).await?;
        }
        Ok(false)
    }

    /// Asks with a FINDNODE and counts what comes: packets, and nodes in them.
    pub(super) async fn survey(
        &mut self,
        find: &[u8],
        full: usize,
        timeout: Duration,
    ) -> Result<(usize, usize), Failure> {
        let (mut packets, mut nodes) = (0, 0);
        let mut until = now() + timeout;
        self.send(find).await?;
        while nodes < full
            && let Some(received) = self.receive(until).await?
        {
            if let Heard::Neighbors(more) = read(&received) {
                packets += 1;
                nodes += more;
                until = now() + QUIET.min(timeout);
            }
        }
        Ok((packets, nodes))
    }

    /// Answers PINGs and forgets all else until a moment.
    pub(super) async fn listen(&mut self, until: Instant) -> Result<(), Failure> {
        while self.receive(until).await?.is_some() {}
        Ok(())
    }

    async fn pong(&mut self, ping_hash: Hash, expiration: u64) -> Result<(), Failure> {
        let to = Endpoint::new(self.target.ip(), self.target.port(), 0).into();
        let pong = Pong { to, ping_hash, expiration, enr_seq: None };
        let mut buffer = Vec::new();
        wire::seal(&self.key, &Message::Pong(pong), &mut buffer);
        self.pinged += 1;
        self.send(&buffer).await
    }
}

/// What a packet says, as far as it matters here.
pub(super) fn read(packet: &Unverified) -> Heard {
    match packet.message() {
        Message::Pong(pong) => Heard::Echo(pong.ping_hash),
        Message::EnrResponse(response) => Heard::Echo(response.request_hash),
        Message::Neighbors(neighbors) => Heard::Neighbors(neighbors.nodes.len()),
        _ => Heard::Other,
    }
}
