//! How far the clock of this host is from that of its peers.
//!
//! A packet says when it expires: a fixed time after it was sent, by the clock of its sender. That time is 20 s with geth,
//! reth, nethermind and this node, 60 s with besu and ethereumjs. What most peers say, from many networks, tells how wrong
//! our own clock is, without any time server. Only peers are heard that have proved themselves, by a packet that we can
//! tie to them: a PONG to a PING of ours, or a PING.
//!
//! Two errors cannot be told from their opposites. Where all peers use 60 s, a clock that is 40 s ahead looks like one
//! that is right among peers that use 20 s; and while all use 20 s, one that is 40 s behind looks right among peers that
//! use 60 s. The first lifetime is by far the commoner, so what explains most peers by it is preferred, after no error at
//! all. And a clock that was more than 20 s behind from the start has nobody who answers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Alarm, Engine, Event};
use crate::proto::contacts::Contacts;
use crate::proto::identity::{AddressClass, Prefix, PublicKey};
use crate::proto::time::Time;
use crate::proto::wire::Pong;

/// How long packets of other clients are good, in seconds, the commoner first.
const LIFETIMES: [i64; 2] = [20, 60];

/// How far an expiration may be from what is expected, in seconds: for the way, whole seconds, and clocks of peers that
/// are not quite right either. A smaller error of our own clock does no harm.
const TOLERANCE: i64 = 5;

/// Witnesses below which nothing is said, as for the votes on our address.
const MIN_WITNESSES: usize = 5;

/// Witnesses that are kept; at the bound the oldest goes. Some 3 kB.
const MAX_WITNESSES: usize = 64;

/// How long what a witness said counts, and the time after which an error that lasts is told again.
const LASTS: Duration = Duration::from_hours(1);

/// A change of the error, in seconds, that is told at once.
const CHANGE: i64 = 10;

/// What peers say of the time; no memory while there is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Skew(Option<Box<Testimony>>);

#[derive(Clone, Debug, Default)]
struct Testimony {
    seen: Vec<Seen>,
    /// When which error was told last.
    told: Option<(Time, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    by: Witness,
    at: Time,
    /// In how many seconds its packet was to expire, by our clock.
    expires_in: i64,
}

/// Who has one voice: a network prefix of the internet, or a host of a private network or of this one, where there may be
/// only one prefix. Nodes of one host share its clock, so each of them is no witness of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    Network(Prefix),
    Host(IpAddr),
}

impl Witness {
    fn of(ip: IpAddr) -> Self {
        match AddressClass::of(ip) {
            AddressClass::Global => Self::Network(Prefix::of(ip)),
            _ => Self::Host(ip),
        }
    }
}

impl Skew {
    /// Notes in how many seconds a packet expires that has just come, and returns by how many our clock is ahead when
    /// that is worth telling.
    fn note(&mut self, now: Time, from: IpAddr, expires_in: i64) -> Option<i64> {
        let Testimony { seen, told } = &mut **self.0.get_or_insert_default();
        let by = Witness::of(from);
        seen.retain(|seen| seen.by != by && now.since(seen.at) < LASTS);
        if seen.len() >= MAX_WITNESSES {
            // They stand in the order of their time.
            seen.remove(0);
        }
        seen.push(Seen { by, at: now, expires_in });
        let ahead = estimate(seen).filter(|ahead| ahead.abs() > TOLERANCE)?;
        let known = |&(at, last): &(Time, i64)| now.since(at) < LASTS && ahead.abs_diff(last) <= CHANGE as u64;
        if told.as_ref().is_some_and(known) {
            return None;
        }
        *told = Some((now, ahead));
        Some(ahead)
    }

    /// The clock was set: what was seen by the old one is void.
    pub(super) fn forget(&mut self) {
        if let Some(testimony) = &mut self.0 {
            testimony.seen.clear();
        }
    }

    pub(super) fn assert_bounds(&self) {
        assert!(self.0.as_ref().is_none_or(|testimony| testimony.seen.len() <= MAX_WITNESSES));
    }
}

/// By how many seconds our clock is ahead, if one number explains what most witnesses have seen.
fn estimate(seen: &[Seen]) -> Option<i64> {
    if seen.len() < MIN_WITNESSES {
        return None;
    }
    let explained = |ahead: i64| seen.iter().filter(|seen| lifetime(seen, ahead).is_some()).count();
    let most = |count: usize| 2 * count > seen.len();
    // As a rule that is so, and the rest need not be looked at.
    if most(explained(0)) {
        return Some(0);
    }
    let commonly = |ahead: i64| seen.iter().filter(|seen| lifetime(seen, ahead) == Some(LIFETIMES[0])).count();
    let errors = seen.iter().flat_map(|seen| LIFETIMES.map(|lifetime| lifetime - seen.expires_in));
    let best = errors.max_by_key(|&ahead| (explained(ahead), commonly(ahead), -ahead.abs()))?;
    if !most(explained(best)) {
        return None;
    }
    let mut errors: Vec<i64> = seen.iter().filter_map(|seen| Some(lifetime(seen, best)? - seen.expires_in)).collect();
    errors.sort_unstable();
    errors.get(errors.len() / 2).copied()
}

/// How long the packet of a witness was good, if our clock is ahead by so much.
fn lifetime(seen: &Seen, ahead: i64) -> Option<i64> {
    LIFETIMES.into_iter().find(|lifetime| (seen.expires_in + ahead - lifetime).abs() <= TOLERANCE)
}

/// What to tell people of a clock that is ahead by so many seconds.
pub(super) struct SkewSentence(pub(super) i64);

impl fmt::Display for SkewSentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.0 < 0 { "behind" } else { "ahead of" };
        let seconds = self.0.unsigned_abs();
        let expire = LIFETIMES[0];
        write!(f, "the clock of this host is about {seconds} s {place} that of its peers: ")?;
        write!(f, "packets expire after {expire} s, so set the clock")
    }
}

impl<C: Contacts> Engine<C> {
    /// A node that has proved itself says when its packet expires.
    pub(super) fn note_expiration(&mut self, now: Time, from: IpAddr, expiration: u64) {
        let unix = i64::try_from(self.unix_secs(now));
        // What does not fit is no time.
        let (Ok(unix), Ok(expiration), true) = (unix, i64::try_from(expiration), self.config.alarms.skew) else {
            return;
        };
        // A century is enough, and sums of it do not overflow.
        let expires_in = (expiration.saturating_sub(unix)).clamp(-CENTURY, CENTURY);
        if let Some(ahead) = self.skew.note(now, from, expires_in) {
            self.emit(Event::Alarm(Alarm::ClockSkew { ahead }));
        }
    }

    /// Whether a PONG that has expired is worth a look: all have when our clock is ahead. One for each PING is, which
    /// nobody can answer who has not got it.
    pub(super) fn wants_expired(&self, from: SocketAddr, pong: &Pong) -> bool {
        let answers = |hash: Option<_>| hash == Some(pong.ping_hash);
        self.config.alarms.skew
            && self.requests.at(from).any(|(_, request)| answers(request.hash) && !request.expired_pong)
    }

    /// A PONG has expired. It proves nothing, but what it says of the time counts if it is by the node that was asked.
    pub(super) fn on_expired_pong(&mut self, now: Time, from: SocketAddr, sender: &PublicKey, pong: &Pong) {
        let asked = self.requests.at(from).find(|(_, request)| request.hash == Some(pong.ping_hash));
        let Some((id, node)) = asked.map(|(id, request)| (id, request.node)) else { return };
        if let Some(request) = self.requests.get_mut(id)
            && !std::mem::replace(&mut request.expired_pong, true)
            && self.contacts.key(node) == sender
        {
            self.note_expiration(now, from.ip(), pong.expiration);
        }
    }
}

const CENTURY: i64 = 100 * 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [i64; 0] = [];

    /// What is told after packets from so many networks, one a second, that expire in so many seconds.
    fn told(skew: &mut Skew, from: u64, expires_in: &[i64]) -> Vec<i64> {
        let said = (0..).zip(expires_in).filter_map(|(n, expires_in)| {
            let at = Time::from_secs(from + n);
            skew.note(at, IpAddr::from([20, 0, n as u8, 1]), *expires_in)
        });
        said.collect()
    }

    fn of(expires_in: &[i64]) -> Vec<i64> {
        told(&mut Skew::default(), 0, expires_in)
    }

    #[test]
    fn the_error_is_what_explains_most_by_either_lifetime() {
        assert_eq!(of(&[20, 20, 60, 20, 60, 19, 21, 60]), NOTHING);
        assert_eq!(of(&[60, 60, 60, 60, 60]), NOTHING, "besu alone");
        // 25 s behind, 15 s ahead, an hour ahead; among both.
        assert_eq!(of(&[45, 45, 85, 45, 45]), [-25]);
        assert_eq!(of(&[5, 4, 45, 45, 5]), [15]);
        assert_eq!(of(&[-3580, -3580, -3580, -3540, -3581]), [3600]);
        // All the same: by the commoner lifetime.
        assert_eq!(of(&[35; 5]), [-15]);
        assert_eq!(of(&[26; 9]), [-6]);
        assert_eq!(of(&[25; 9]), NOTHING, "5 s do no harm");
        assert_eq!(of(&[20, 20, 20, 45, 45, 45, 45]), [-25], "as soon as most say so");
    }

    #[test]
    fn few_or_divided_witnesses_say_nothing() {
        assert_eq!(of(&[45, 45, 45, 45]), NOTHING);
        assert_eq!(of(&[20, 20, 20, 45, 45, 45]), NOTHING, "half is not most");
        assert_eq!(of(&[100, 200, 300, 400, 500, 600]), NOTHING);
        assert_eq!(of(&[CENTURY, -CENTURY, CENTURY, -CENTURY, 20]), NOTHING);
        let mut skew = Skew::default();
        for n in 0..100 {
            let one_network = IpAddr::from([20, 0, 0, n]);
            assert_eq!(skew.note(Time::ZERO, one_network, 45), None);
        }
        for n in 1..=4 {
            let of_a_lan = IpAddr::from([10, 0, 0, n]);
            assert_eq!(skew.note(Time::ZERO, of_a_lan, 45), (n == 4).then_some(-25));
        }
    }

    #[test]
    fn an_error_is_told_again_when_it_changes_or_after_an_hour() {
        let mut skew = Skew::default();
        let all = |expires_in| [expires_in; 9];
        assert_eq!(told(&mut skew, 0, &all(45)), [-25]);
        assert_eq!(told(&mut skew, 10, &all(55)), NOTHING, "10 s more");
        // Five of nine have to say so; the fifth is heard 4 s after the first.
        assert_eq!(told(&mut skew, 20, &all(38)), NOTHING);
        assert_eq!(told(&mut skew, 3580, &all(38)), NOTHING);
        assert_eq!(told(&mut skew, 3604, &all(38)), [-18]);
        assert_eq!(told(&mut skew, 4000, &all(49)), [-29], "11 s more");
        skew.forget();
        assert_eq!(told(&mut skew, 4010, &all(49)[..4]), NOTHING, "too few since the clock was set");
    }

    #[test]
    fn witnesses_are_bounded_and_heard_for_an_hour() {
        let mut skew = Skew::default();
        for n in 0..=255 {
            skew.note(Time::from_secs(u64::from(n)), IpAddr::from([20, 0, n, 1]), 20);
            skew.assert_bounds();
        }
        assert_eq!(skew.0.as_ref().unwrap().seen.len(), MAX_WITNESSES);
        assert_eq!(told(&mut skew, 255 + 3600, &[45, 45, 45, 45, 45]), [-25], "the others are an hour old");
    }

    #[test]
    fn the_sentence_says_which_way_and_what_to_do() {
        assert_eq!(
            SkewSentence(-25).to_string(),
            "the clock of this host is about 25 s behind that of its peers: packets expire after 20 s, so set the clock"
        );
        assert!(
            SkewSentence(7).to_string().starts_with("the clock of this host is about 7 s ahead of that of its peers")
        );
    }
}
