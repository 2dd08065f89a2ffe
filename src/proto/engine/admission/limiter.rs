//! Token buckets for as many sources as there is room for.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::proto::config::Rate;
use crate::proto::time::Time;

/// Buckets that a source may stand in: one line of a processor's cache.
const WAYS: usize = 4;

/// One bucket, as the time at which it would be full again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Whose it is.
    tag: u64,
    /// In microseconds; at or before now, the bucket is full.
    full_at: u64,
}

/// A token bucket for each of the sources seen last, in memory that is taken once.
///
/// A source has one of four places that a secret hash names, so nobody knows whom he shares them with. When all four
/// are taken, a new source gets the bucket that is fullest, as full as it is: however many sources come, four places
/// together let through what four sources may.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    key: (u64, u64),
    buckets: Vec<Bucket>,
}

impl Limiter {
    /// Room for `sources`, rounded up to a power of two. The key is a secret.
    pub(super) fn new(sources: usize, key: (u64, u64)) -> Self {
        Self { key, buckets: vec![Bucket::default(); Self::room(sources)] }
    }

    /// How many buckets there are for so many sources.
    pub(super) fn room(sources: usize) -> usize {
        sources.max(WAYS).next_power_of_two()
    }

    /// How many of them were ever used.
    pub(super) fn used(&self) -> usize {
        self.buckets.iter().filter(|bucket| bucket.tag != 0).count()
    }

    /// Takes a token of a source. Says whether there was one.
    pub(super) fn take(&mut self, source: Source, now: Time, rate: Rate) -> bool {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u128(source.0);
        hasher.write_u16(source.1);
        let hash = hasher.finish();
        // 0 is nobody's.
        let tag = hash | 1;
        let sets = self.buckets.len() / WAYS;
        let first = (hash >> 32) as usize % sets * WAYS;
        let set = &mut self.buckets[first..first + WAYS];
        let bucket = match set.iter().position(|bucket| bucket.tag == tag) {
            Some(at) => &mut set[at],
            None => set.iter_mut().min_by_key(|bucket| bucket.full_at).expect("a set has four"),
        };
        // A source that is turned away takes nobody's place.
        let Some(full_at) = spend(bucket.full_at, now, rate) else { return false };
        *bucket = Bucket { tag, full_at };
        true
    }
}

/// One token bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tokens {
    full_at: u64,
}

impl Tokens {
    /// Takes a token. Says whether there was one.
    pub(super) fn take(&mut self, now: Time, rate: Rate) -> bool {
        let spent = spend(self.full_at, now, rate);
        self.full_at = spent.unwrap_or(self.full_at);
        spent.is_some()
    }
}

/// When a bucket is full again after one more token is taken, if there is one.
fn spend(full_at: u64, now: Time, rate: Rate) -> Option<u64> {
    let each = u64::try_from(rate.every.as_nanos()).unwrap_or(u64::MAX);
    // In nanoseconds less than a microsecond each would be lost.
    let now = now.0.saturating_mul(1000);
    let full_at = full_at.max(now);
    let room = each.saturating_mul(u64::from(rate.burst.saturating_sub(1)));
    (full_at - now <= room).then(|| full_at.saturating_add(each))
}

/// Who or what a token is taken for: an address, with a number that says which part of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(u128, u16);

impl Source {
    /// The first `bits` of an address, IPv4 ones mapped into IPv6.
    pub(super) fn prefix(ip: std::net::IpAddr, bits: u16) -> Self {
        let ip = match ip {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        debug_assert!((1..=128).contains(&bits));
        Self(ip.to_bits() >> (128 - bits), bits)
    }

    /// An address with its port.
    pub(super) fn endpoint(addr: std::net::SocketAddr) -> Self {
        let Self(ip, _) = Self::prefix(addr.ip(), 128);
        // Apart from the lengths of prefixes, which are below 256.
        Self(ip ^ 1 << 127, addr.port())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { every: Duration::from_millis(100), burst: 3 };

    fn source(n: u32) -> Source {
        Source::prefix(IpAddr::from(n.to_be_bytes()), 128)
    }

    /// How many of `asked` tokens there are at a time.
    fn taken(limiter: &mut Limiter, n: u32, millis: u64, asked: usize) -> usize {
        (0..asked).filter(|_| limiter.take(source(n), Time::from_millis(millis), RATE)).count()
    }

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let mut limiter = Limiter::new(64, (1, 2));
        assert_eq!(taken(&mut limiter, 1, 0, 9), 3);
        assert_eq!(taken(&mut limiter, 1, 99, 9), 0);
        assert_eq!(taken(&mut limiter, 1, 100, 9), 1);
        assert_eq!(taken(&mut limiter, 1, 350, 9), 2);
        assert_eq!(taken(&mut limiter, 1, 60_000, 9), 3, "it does not overflow");
        assert_eq!(taken(&mut limiter, 2, 60_000, 9), 3, "others have their own");
    }

    #[test]
    fn crowds_get_no_more_than_there_is_room_for() {
        let mut limiter = Limiter::new(16, (1, 2));
        let at_once: usize = (0..10_000).map(|n| taken(&mut limiter, n, 0, 1)).sum();
        // Each bucket gave its burst, whoever came.
        assert_eq!(at_once, 16 * 3);
        let later: usize = (10_000..20_000).map(|n| taken(&mut limiter, n, 100, 1)).sum();
        assert_eq!(later, 16);
        assert_eq!((limiter.buckets.capacity(), limiter.used()), (16, 16));
    }

    #[test]
    fn rates_beyond_a_million_a_second_are_kept() {
        let rate = Rate { every: Duration::from_nanos(250), burst: 1 };
        let mut tokens = Tokens::default();
        assert_eq!((0..1000).filter(|n| tokens.take(Time(n / 8), rate)).count(), 125, "one an instant");
        let mut tokens = Tokens::default();
        let rate = Rate { burst: 8, ..rate };
        assert_eq!(
            (0..1000).filter(|n| tokens.take(Time(n / 8), rate)).count(),
            504,
            "four a microsecond, and a burst"
        );
        let mut unlimited = Tokens::default();
        assert!((0..1000).all(|_| unlimited.take(Time::ZERO, Rate::UNLIMITED)));
    }

    #[test]
    fn sources_are_prefixes_or_endpoints() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let v4 = |text, bits: u16| Source::prefix(ip(text), 96 + bits);
        assert_eq!(v4("1.2.3.4", 24), v4("1.2.3.200", 24));
        assert_ne!(v4("1.2.3.4", 24), v4("1.2.4.4", 24));
        assert_ne!(v4("1.2.3.4", 32), v4("1.2.3.5", 32));
        assert_eq!(Source::prefix(ip("2a00::1"), 64), Source::prefix(ip("2a00::2"), 64));
        assert_ne!(Source::prefix(ip("2a00::1"), 48), Source::prefix(ip("2a00::1"), 64));
        let at = |text: &str| Source::endpoint(text.parse().unwrap());
        assert_ne!(at("1.2.3.4:128"), Source::prefix(ip("1.2.3.4"), 128));
        assert_ne!(at("1.2.3.4:1"), at("1.2.3.4:2"));
    }
}
