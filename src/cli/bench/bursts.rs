//! Packets that get no answer: what it costs to drop them.

use std::time::Duration;

use super::cpu::Meter;
use super::now;
use super::packets::Packets;
use super::slot::{Expect, Slot};
use crate::cli::failure::Failure;

/// What came of a load that is not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    /// Packets sent.
    pub(super) sent: u64,
    /// Bursts in which they went out, each with a good PING at its end.
    pub(super) bursts: u64,
    /// Good PINGs that were answered, which shows that the burst was worked off.
    pub(super) answered: u64,
    /// Answers to what should have been dropped.
    pub(super) stray: u64,
    /// From the first packet to the last PONG.
    pub(super) took: Duration,
    /// CPU nanoseconds of the target for all PINGs alone, and for the bursts with as many PINGs.
    pub(super) cpu: Option<(u64, u64)>,
}

/// Sends `pings` alone, one after the other; then the packets in bursts of `window`, each followed by one of `markers`, of
/// which there are as many.
pub(super) async fn run(
    slot: &mut Slot,
    packets: &Packets,
    [pings, markers]: [&Packets; 2],
    window: usize,
    timeout: Duration,
    meter: Option<&Meter>,
) -> Result<Dropped, Failure> {
    let idle = read(meter).await?;
    for ping in pings.iter() {
        slot.request(ping, Expect::Echo, timeout).await?;
    }
    let alone = read(meter).await?;
    let mut dropped = Dropped::default();
    let (start, stray) = (now(), slot.stray);
    let mut packets = packets.iter();
    let mut silent = 0;
    for marker in markers.iter() {
        for packet in packets.by_ref().take(window) {
            slot.send(packet).await?;
            dropped.sent += 1;
        }
        dropped.bursts += 1;
        match slot.request(marker, Expect::Echo, timeout).await? {
            Some(_) => {
                silent = 0;
                dropped.answered += 1;
                dropped.took = now() - start;
            }
            None => silent += 1,
        }
        if silent == super::load::PATIENCE {
            break;
        }
    }
    dropped.stray = slot.stray - stray;
    let end = read(meter).await?;
    dropped.cpu =
        idle.zip(alone).zip(end).map(|((idle, alone), end)| (alone.saturating_sub(idle), end.saturating_sub(alone)));
    Ok(dropped)
}

/// Reads the meter, if there is one, when the target has come to rest.
pub(super) async fn read(meter: Option<&Meter>) -> Result<Option<u64>, Failure> {
    let Some(meter) = meter else { return Ok(None) };
    tokio::time::sleep(REST).await;
    meter.read().map(Some)
}

/// The system counts the time of a thread when it comes to rest, or at the next tick (10 ms at the latest).
const REST: Duration = Duration::from_millis(20);
