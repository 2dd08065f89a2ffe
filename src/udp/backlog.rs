//! Packets that wait for their sender to be found out.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::proto::engine::Standing;
use crate::proto::wire::Unverified;

/// Packets of strangers, and of others, that wait at a time: some 25 ms of work for one thread, in 0.2 MB.
const MAX_WAITING: usize = 512;

/// A packet whose form is right.
pub(super) struct Waiting {
    pub(super) from: SocketAddr,
    /// The local address that it was sent to, where the system tells.
    pub(super) to: Option<IpAddr>,
    pub(super) packet: Unverified,
}

/// Those of known sources go before those of strangers. What comes when it is full is turned away.
#[derive(Default)]
pub(super) struct Backlog {
    known: VecDeque<Waiting>,
    strangers: VecDeque<Waiting>,
}

impl Backlog {
    /// Takes a packet in, unless there is no room.
    pub(super) fn push(&mut self, standing: Standing, waiting: Waiting) -> bool {
        let queue = match standing {
            Standing::Known => &mut self.known,
            Standing::Stranger => &mut self.strangers,
        };
        let room = queue.len() < MAX_WAITING;
        if room {
            queue.push_back(waiting);
        }
        room
    }

    /// The packet whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.known.pop_front().or_else(|| self.strangers.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.strangers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::NodeKey;
    use crate::proto::wire::{self, EnrRequest, Message};

    fn waiting(port: u16) -> Waiting {
        let mut packet = Vec::new();
        let message = Message::EnrRequest(EnrRequest { expiration: 1 });
        wire::seal(&NodeKey::from_bytes(&[1; 32]).unwrap(), &message, &mut packet);
        Waiting { from: ([127, 0, 0, 1], port).into(), to: None, packet: wire::parse(&packet).unwrap() }
    }

    #[test]
    fn the_known_go_first_and_each_in_their_order() {
        let mut backlog = Backlog::default();
        for (port, standing) in
            [(1, Standing::Stranger), (2, Standing::Known), (3, Standing::Stranger), (4, Standing::Known)]
        {
            assert!(backlog.push(standing, waiting(port)));
        }
        let order: Vec<u16> = std::iter::from_fn(|| backlog.pop()).map(|waiting| waiting.from.port()).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn strangers_leave_room_for_the_known() {
        let mut backlog = Backlog::default();
        let one = waiting(1);
        let mut push = |standing| {
            let Waiting { from, to, ref packet } = one;
            backlog.push(standing, Waiting { from, to, packet: packet.clone() })
        };
        assert_eq!((0..1000).filter(|_| push(Standing::Stranger)).count(), MAX_WAITING);
        assert_eq!((0..1000).filter(|_| push(Standing::Known)).count(), MAX_WAITING);
        assert!(!push(Standing::Stranger) && !push(Standing::Known));
        assert_eq!(std::iter::from_fn(|| backlog.pop()).count(), 2 * MAX_WAITING);
    }
}
