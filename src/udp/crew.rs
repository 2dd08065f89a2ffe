//! The threads that open and seal packets.
//!
//! The loop hands out what there is to do and does its own share of it, until all is done. So nothing is handled out of
//! its order, whichever thread took it up, and nothing can pile up between loop and threads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tracing::warn;

use super::parcel::{Parcel, Sender};
use crate::proto::wire::{OpenError, Opened, Unverified};

/// Something to do.
#[expect(clippy::large_enum_variant, reason = "moving it costs a thousandth of doing it, and a box is an allocation")]
pub(super) enum Job {
    /// Find out who signed the packet that has this number.
    Recover(usize, Unverified),
    /// Seal and send.
    Send(Parcel),
}

/// What came of it.
#[expect(clippy::large_enum_variant, reason = "moving it costs a thousandth of doing it, and a box is an allocation")]
pub(super) enum Done {
    /// The sender of that packet.
    Recovered(usize, Result<Opened, OpenError>),
    /// It is sealed, and sent when all jobs are done.
    Sealed(Parcel),
}

/// Jobs for each thread below which another is not woken: that takes as long as half a job.
const WORTH_WAKING: usize = 2;

/// The loop's own hands, and helpers that are started when they are first needed.
pub(super) struct Crew {
    hands: Sender,
    helpers: Vec<JoinHandle<()>>,
    max_helpers: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    work: Mutex<Work>,
    /// There are jobs, or the end has come.
    begin: Condvar,
    /// No helper is at work any more.
    finished: Condvar,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    done: Vec<Done>,
    /// Helpers that are at work.
    helping: usize,
    end: bool,
}

impl Crew {
    /// A crew of the calling thread and up to `max_helpers` others.
    pub(super) fn new(hands: Sender, max_helpers: usize) -> Self {
        Self { hands, helpers: Vec::new(), max_helpers, shared: Arc::default() }
    }

    /// Does all jobs and appends what came of them to `done`, in any order.
    pub(super) fn work(&mut self, jobs: &mut VecDeque<Job>, done: &mut Vec<Done>) {
        let helpers = (jobs.len() / WORTH_WAKING).saturating_sub(1).min(self.max_helpers);
        if helpers == 0 || !self.hire(helpers) {
            done.extend(jobs.drain(..).map(|job| perform(&mut self.hands, job)));
            self.hands.flush();
            return;
        }
        let mut work = self.shared.lock();
        std::mem::swap(&mut work.jobs, jobs);
        (0..helpers).for_each(|_| self.shared.begin.notify_one());
        work = self.shared.do_share(work, &mut self.hands);
        while work.helping > 0 {
            work = self.shared.finished.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        done.append(&mut work.done);
        std::mem::swap(&mut work.jobs, jobs);
    }

    /// Sees to it that there are so many helpers; says whether there is any.
    fn hire(&mut self, helpers: usize) -> bool {
        while self.helpers.len() < helpers {
            let (shared, hands) = (self.shared.clone(), self.hands.another());
            let name = format!("kadnode-{}", self.helpers.len() + 1);
            match thread::Builder::new().name(name).spawn(move || shared.help(hands)) {
                Ok(helper) => self.helpers.push(helper),
                Err(error) => {
                    warn!("no more threads can be started ({error}); going on with {}", self.helpers.len() + 1);
                    self.max_helpers = self.helpers.len();
                    break;
                }
            }
        }
        !self.helpers.is_empty()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.begin.notify_all();
        for helper in self.helpers.drain(..) {
            // It has nothing to say.
            let _ = helper.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a helper.
    fn help(&self, mut hands: Sender) {
        let mut work = self.lock();
        while !work.end {
            if work.jobs.is_empty() {
                work = self.begin.wait(work).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            work.helping += 1;
            let helping = Helping(self);
            drop(self.do_share(work, &mut hands));
            drop(helping);
            work = self.lock();
        }
    }

    /// Does jobs until there are none.
    fn do_share<'a>(&'a self, mut work: MutexGuard<'a, Work>, hands: &mut Sender) -> MutexGuard<'a, Work> {
        while let Some(job) = work.jobs.pop_front() {
            drop(work);
            let result = perform(hands, job);
            work = self.lock();
            work.done.push(result);
        }
        drop(work);
        hands.flush();
        self.lock()
    }
}

/// A helper at work. Were it to panic, the loop would still not wait for it for ever.
struct Helping<'a>(&'a Shared);

impl Drop for Helping<'_> {
    fn drop(&mut self) {
        let mut work = self.0.lock();
        work.helping -= 1;
        if work.helping == 0 {
            self.0.finished.notify_one();
        }
    }
}

fn perform(hands: &mut Sender, job: Job) -> Done {
    match job {
        Job::Recover(number, packet) => Done::Recovered(number, packet.recover()),
        Job::Send(mut parcel) => {
            hands.seal(&mut parcel);
            Done::Sealed(parcel)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::super::parcel::Outbox;
    use super::super::socket::Socket;
    use super::*;
    use crate::proto::engine::Transmit;
    use crate::proto::identity::{NodeKey, PublicKey};
    use crate::proto::wire::{self, EnrRequest, FindNode, Message};

    fn key(n: u8) -> NodeKey {
        NodeKey::from_bytes(&[n; 32]).unwrap()
    }

    fn find(n: u64) -> Message {
        Message::FindNode(FindNode { target: PublicKey([9; 64]), expiration: n })
    }

    fn packet(n: u64) -> Unverified {
        let mut packet = Vec::new();
        wire::seal(&key(1 + (n % 3) as u8), &find(n), &mut packet);
        wire::parse(&packet).unwrap()
    }

    fn crew(helpers: usize) -> Crew {
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Crew::new(Sender::new(Arc::new(key(9)), Arc::new(socket)), helpers)
    }

    fn recovered(crew: &mut Crew, count: u64) -> Vec<Opened> {
        let mut jobs: VecDeque<Job> = (0..count).map(|n| Job::Recover(n as usize, packet(n))).collect();
        let (mut done, mut opened) = (Vec::new(), vec![None; count as usize]);
        crew.work(&mut jobs, &mut done);
        assert!(jobs.is_empty());
        for done in done {
            let Done::Recovered(number, Ok(packet)) = done else { panic!("all are rightly signed") };
            assert!(opened[number].replace(packet).is_none(), "each is done once");
        }
        opened.into_iter().map(|packet| packet.expect("each is done")).collect()
    }

    #[tokio::test]
    async fn all_is_done_once_however_many_help() {
        for helpers in [0, 1, 3] {
            let mut crew = crew(helpers);
            for count in [0, 1, 3, 4, 33, 1, 100] {
                for (n, opened) in (0..).zip(recovered(&mut crew, count)) {
                    assert_eq!((&opened.sender, opened.message), (key(1 + (n % 3) as u8).public_key(), find(n)));
                }
            }
            assert_eq!(crew.helpers.len(), helpers);
        }
    }

    #[tokio::test]
    async fn helpers_are_started_when_they_are_needed() {
        let mut crew = crew(3);
        recovered(&mut crew, 3);
        assert_eq!(crew.helpers.len(), 0);
        recovered(&mut crew, 4);
        assert_eq!(crew.helpers.len(), 1);
        recovered(&mut crew, 7);
        assert_eq!(crew.helpers.len(), 2);
    }

    /// What one peer gets arrives in the order in which the engine said it, in the middle of what others get.
    #[tokio::test]
    async fn what_goes_to_one_peer_keeps_its_order() {
        let peers: Vec<_> = (0..3).map(|_| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let addrs: Vec<SocketAddr> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
        let mut crew = crew(2);
        let (mut outbox, mut done) = (Outbox::default(), Vec::new());
        for round in 0..50 {
            // Three each; the second one is the longest, so they cannot leave as one run.
            for n in 0..9u64 {
                let expiration = round * 9 + n;
                let message =
                    if n / 3 == 1 { find(expiration) } else { Message::EnrRequest(EnrRequest { expiration }) };
                outbox.add(Transmit { to: addrs[n as usize % 3], message, request: None }, None);
            }
            let mut jobs: VecDeque<Job> = outbox.take().map(Job::Send).collect();
            assert_eq!(jobs.len(), 3, "one parcel for each peer");
            crew.work(&mut jobs, &mut done);
            for (n, peer) in (0..).zip(&peers) {
                for expected in [n, n + 3, n + 6] {
                    let mut buffer = [0; 1280];
                    let len = peer.recv(&mut buffer).unwrap();
                    let opened = wire::open(&buffer[..len]).unwrap();
                    assert_eq!(opened.message.expiration(), Some(round * 9 + expected));
                    assert_eq!(opened.sender, *key(9).public_key());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_parcel_that_is_full_is_followed_by_another() {
        let mut outbox = Outbox::default();
        let to = (Ipv4Addr::LOCALHOST, 9).into();
        for n in 0..10 {
            outbox.add(Transmit { to, message: find(n), request: None }, None);
        }
        let told: Vec<Vec<_>> =
            outbox.take().map(|parcel| parcel.letters().map(|letter| letter.message.expiration()).collect()).collect();
        assert_eq!(told.concat(), (0..10).map(Some).collect::<Vec<_>>());
        assert_eq!(told.len(), 3);
    }
}
