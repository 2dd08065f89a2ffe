//! Sends datagrams at a rate, whatever comes of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use crate::packets::Packets;

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
}

/// How long the sender rests between two bursts.
const REST: Duration = Duration::from_millis(1);

/// Sends the packets in turn, each from its address, until the time is over.
pub(crate) fn flood(
    to: SocketAddr,
    packets: Packets,
    rate: u64,
    length: Duration,
    end: &AtomicBool,
) -> io::Result<Sent> {
    let mut sent = Sent { datagrams: 0 };
    if packets.is_empty() {
        return Ok(sent);
    }
    // One socket for all addresses of 127.0.0.0/8.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // What comes back is thrown away by the kernel when this is full.
    let begun = Instant::now();
    let mut turn = packets.iter().cycle();
    while begun.elapsed() < length && !end.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent.datagrams < due {
            let Some((from, contents)) = turn.next() else { break };
            let transmit =
                Transmit { destination: to, ecn: None, contents, segment_size: None, src_ip: Some((*from).into()) };
            match state.try_send(UdpSockRef::from(&socket), &transmit) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => return Err(error),
            }
            sent.datagrams += 1;
        }
        thread::sleep(REST);
    }
    Ok(sent)
}
