//! A UDP socket that receives in batches, knows the local address of each datagram, and can answer from it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::proto::identity::reaches;

/// Receive buffer asked of the kernel, in bytes. Linux takes twice of it, and a small packet takes 0.8 kB of that with
/// the kernel's own, so it holds some 2,500 packets, which one thread answers in 0.1 s. With a longer queue a flood would
/// have the answers come when nobody waits for them any more; geth gives up after 0.5 s.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Datagrams, or runs of them that the kernel has coalesced, taken with one call.
const BATCH: usize = 32;

/// The longest run of datagrams that the kernel coalesces, in bytes.
const RUN: usize = 65_535;

/// A bound UDP socket.
#[derive(Debug)]
pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    receive_buffer: usize,
}

/// Buffers for one batch of datagrams.
pub(super) struct Batch {
    bytes: Vec<u8>,
    meta: [RecvMeta; BATCH],
    filled: usize,
}

/// One received datagram.
pub(super) struct Received<'a> {
    pub(super) from: SocketAddr,
    /// The local address that it was sent to, where the system tells.
    pub(super) to: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
}

impl Socket {
    /// Binds to `addr`; port 0 takes a free one. An IPv6 wildcard address takes IPv4 too.
    ///
    /// # Errors
    /// Those of the system, such as a port in use. Needs a tokio runtime.
    pub(crate) fn bind(mut addr: SocketAddr) -> io::Result<Self> {
        // An IPv4 address in IPv6 clothing would make a socket that takes IPv4 only and cannot say so.
        if let IpAddr::V4(ip) = addr.ip().to_canonical() {
            addr = (ip, addr.port()).into();
        }
        let raw = RawSocket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // Some systems know no dual-stack sockets; IPv6 alone will do there.
            let _ = raw.set_only_v6(false);
        }
        // What the kernel grants is logged; a small buffer is no reason not to run.
        let _ = raw.set_recv_buffer_size(RECEIVE_BUFFER);
        raw.set_nonblocking(true)?;
        raw.bind(&addr.into())?;
        let receive_buffer = raw.recv_buffer_size().unwrap_or(0);
        let std_socket = StdSocket::from(raw);
        let state = UdpSocketState::new(UdpSockRef::from(&std_socket))?;
        let io = UdpSocket::from_std(std_socket)?;
        let local = io.local_addr()?;
        Ok(Self { io, state, local, receive_buffer })
    }

    /// The address that it is bound to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The receive buffer that the kernel granted, in bytes.
    pub(crate) fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Waits until there may be something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Fills the batch with the datagrams that are there, if there are any.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        let Batch { bytes, meta, .. } = batch;
        let received = self.io.try_io(Interest::READABLE, || {
            let mut runs = bytes.chunks_exact_mut(RUN).map(IoSliceMut::new);
            // `bytes` is BATCH runs long.
            let mut slices: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| runs.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            self.state.recv(UdpSockRef::from(&self.io), &mut slices, meta)
        });
        batch.filled = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        Ok(())
    }

    /// Sends a datagram, or with `segment` several of that many bytes, the last of which may have fewer, from the given
    /// local address where the socket listens on several. It does not wait: when the system's queue is full, that is an
    /// error like others.
    pub(super) fn send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        contents: &[u8],
        segment: Option<usize>,
    ) -> io::Result<()> {
        let destination = self.address_for_socket(to);
        let src_ip = from.filter(|_| self.local.ip().is_unspecified());
        let transmit = Transmit { destination, ecn: None, contents, segment_size: segment, src_ip };
        self.state.try_send(UdpSockRef::from(&self.io), &transmit)
    }

    /// How many datagrams can be sent with one call.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Whether an address of this family can be sent to.
    pub(super) fn reaches(&self, to: SocketAddr) -> bool {
        reaches(self.local.ip(), to.ip())
    }

    /// Puts a file in place of the socket, so that each call fails.
    #[cfg(all(test, unix))]
    pub(super) fn fail_with(&mut self, file: std::os::fd::OwnedFd) {
        let file = StdSocket::from(file);
        file.set_nonblocking(true).unwrap();
        self.io = UdpSocket::from_std(file).unwrap();
    }

    fn address_for_socket(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BATCH * RUN], meta: [RecvMeta::default(); BATCH], filled: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Whether there may be more where it came from.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// The datagrams of the batch, in the order of their arrival.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Received<'_>> {
        self.meta[..self.filled].iter().zip(self.bytes.chunks_exact(RUN)).flat_map(|(meta, run)| {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            // An empty datagram has no stride, and is one nevertheless.
            let (len, stride) = (meta.len, meta.stride.max(1));
            (0..len.max(1)).step_by(stride).map(move |start| {
                let bytes = &run[start.min(len)..len.min(start + stride)];
                Received { from, to: meta.dst_ip, bytes }
            })
        })
    }
}

/// This host's own addresses on the way to the internet, as the system would choose them. No packet is sent: connecting
/// a UDP socket only asks the routing table.
pub(crate) fn host_addresses() -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let probe = |bind: SocketAddr, to: SocketAddr| -> Option<IpAddr> {
        let socket = StdSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
    };
    // Addresses for documentation (RFC 5737, RFC 3849), which nobody has.
    let v4 = probe((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into());
    let v6 = probe((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into());
    let v4 = v4.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
    let v6 = v6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
    (v4, v6)
}
