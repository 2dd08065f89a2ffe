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
    /// It was sent.
    Sent(Parcel),
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
    /// The last job of a helper is done.
    finished: Condvar,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    done: Vec<Done>,
    /// Jobs that helpers have in hand.
    in_hand: usize,
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
            return;
        }
        let mut work = self.shared.lock();
        std::mem::swap(&mut work.jobs, jobs);
        (0..helpers).for_each(|_| self.shared.begin.notify_one());
        while let Some(job) = work.jobs.pop_front() {
            drop(work);
            let result = perform(&mut self.hands, job);
            work = self.shared.lock();
            work.done.push(result);
        }
        while work.in_hand > 0 {
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
            let Some(job) = work.jobs.pop_front() else {
                work = self.begin.wait(work).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            work.in_hand += 1;
            drop(work);
            let mut in_hand = InHand { shared: self, result: None };
            in_hand.result = Some(perform(&mut hands, job));
            drop(in_hand);
            work = self.lock();
        }
    }
}

/// A job that a helper has in hand. Were it to panic, the loop would still not wait for it for ever.
struct InHand<'a> {
    shared: &'a Shared,
    result: Option<Done>,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let mut work = self.shared.lock();
        work.done.extend(self.result.take());
        work.in_hand -= 1;
        if work.in_hand == 0 && work.jobs.is_empty() {
            self.shared.finished.notify_one();
        }
    }
}

fn perform(hands: &mut Sender, job: Job) -> Done {
    match job {
        Job::Recover(number, packet) => Done::Recovered(number, packet.recover()),
        Job::Send(mut parcel) => {
            hands.send(&mut parcel);
            Done::Sent(parcel)
        }
    }
}
