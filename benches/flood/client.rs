//! An honest client.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kadnode::proto::identity::{Contact, Endpoint, NodeKey, PublicKey};
use kadnode::proto::wire::{self, FindNode, Hash, Message, Opened, Ping, Pong, WireEndpoint};

use crate::packets::expiration;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);

/// How long after its last question it still listens, and how often it asks.
const PATIENCE: Duration = Duration::from_millis(600);
const EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Client {
    key: NodeKey,
    socket: UdpSocket,
    to: SocketAddr,
    /// What waits for an answer, PINGs by hash and FINDNODEs in their order.
    pings: Vec<(Hash, Instant)>,
    finds: Vec<Instant>,
    latencies: Vec<Duration>,
    asked: u64,
}

impl Client {
    /// A client that has bonded with the program.
    pub(crate) fn bond(target: &Contact) -> io::Result<Self> {
        let socket = UdpSocket::bind((ADDRESS, 0))?;
        let mut client = Self {
            key: NodeKey::from_bytes(&[9; 32]).map_err(io::Error::other)?,
            socket,
            to: target.endpoint.udp_addr(),
            pings: Vec::new(),
            finds: Vec::new(),
            latencies: Vec::new(),
            asked: 0,
        };
        // A second in which strangers are left in peace, and some time for the PINGs of both sides.
        for _ in 0..12 {
            client.ping()?;
            client.listen_until(Instant::now() + Duration::from_millis(100))?;
        }
        client.find()?;
        client.listen_until(Instant::now() + Duration::from_millis(300))?;
        if !client.finds.is_empty() || !client.pings.is_empty() {
            return Err(io::Error::other("the program does not bond with the client"));
        }
        client.latencies.clear();
        client.asked = 0;
        Ok(client)
    }

    /// Asks ten PINGs and ten FINDNODEs a second, in turn.
    pub(crate) fn ask_for(&mut self, length: Duration) -> io::Result<()> {
        let begun = Instant::now();
        let mut next = begun;
        while begun.elapsed() < length {
            if self.asked.is_multiple_of(2) {
                self.ping()?
            } else {
                self.find()?
            }
            next += EVERY;
            self.listen_until(next)?;
        }
        Ok(())
    }

    /// Waits for the last answers; how long each took, of those that came.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<Duration>> {
        self.listen_until(Instant::now() + PATIENCE)?;
        Ok(std::mem::take(&mut self.latencies))
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    fn ping(&mut self) -> io::Result<()> {
        let from = Endpoint::new(ADDRESS.into(), self.socket.local_addr()?.port(), 0).into();
        let to = Endpoint::new(self.to.ip(), self.to.port(), 0).into();
        // Two that are alike would have one hash.
        let expiration = expiration() + self.asked % 8;
        let hash = self.send(&Message::Ping(Ping { from, to, expiration, enr_seq: None }))?;
        self.pings.push((hash, Instant::now()));
        self.asked += 1;
        Ok(())
    }

    fn find(&mut self) -> io::Result<()> {
        let target = PublicKey([self.asked as u8; 64]);
        self.send(&Message::FindNode(FindNode { target, expiration: expiration() }))?;
        self.finds.push(Instant::now());
        self.asked += 1;
        Ok(())
    }

    fn send(&self, message: &Message) -> io::Result<Hash> {
        let mut packet = Vec::new();
        let hash = wire::seal(&self.key, message, &mut packet);
        self.socket.send_to(&packet, self.to)?;
        Ok(hash)
    }

    fn listen_until(&mut self, end: Instant) -> io::Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) if from == self.to => {
                    let came = Instant::now();
                    if let Ok(opened) = wire::open(&buffer[..len]) {
                        self.take_in(came, opened)?;
                    }
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take_in(&mut self, came: Instant, opened: Opened) -> io::Result<()> {
        match opened.message {
            Message::Ping(_) => {
                let to = WireEndpoint { ip: Some(self.to.ip()), udp: self.to.port(), tcp: 0 };
                let pong = Pong { to, ping_hash: opened.hash, expiration: expiration(), enr_seq: None };
                self.send(&Message::Pong(pong))?;
            }
            Message::Pong(pong) => {
                if let Some(at) = self.pings.iter().position(|(hash, _)| *hash == pong.ping_hash) {
                    self.latencies.push(came - self.pings.remove(at).1);
                }
            }
            // The first of two packets ends the wait; the second finds nobody waiting, or one who has asked only now.
            Message::Neighbors(neighbors) if neighbors.nodes.len() != 4 => {
                self.finds.retain(|asked| came - *asked < Duration::from_secs(1));
                if !self.finds.is_empty() {
                    self.latencies.push(came - self.finds.remove(0));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
