//! Who is around the victim: honest nodes all over the address space, and identities that were made for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::proto::config::K;
use crate::proto::identity::{AddressClass, Contact, Endpoint, NodeId, Prefix, PublicKey};
use crate::sim::population::PORT;
use crate::sim::random::{mix, unit};
use crate::sim::truth::Truth;
use crate::sim::warm::{self, Choice};

/// All nodes but the victim, named by numbers: the honest ones first, then the attackers.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) victim: Contact,
    contacts: Vec<Contact>,
    honest: usize,
    by_addr: BTreeMap<SocketAddr, u32>,
    /// The honest nodes and, with the number after theirs, the victim.
    truth: Truth,
    attackers: Truth,
    /// Where the attackers are.
    addresses: Vec<IpAddr>,
    /// The tables of the honest nodes that have been asked, filled when they are.
    tables: BTreeMap<u32, Vec<u32>>,
    seed: u64,
}

/// The ports of the attackers begin here.
const FIRST_PORT: u16 = 20_000;

impl Crowd {
    /// `honest` nodes with random IDs, and `per_bucket` attackers for each of so many of the victim's buckets, the farthest
    /// ones; the nearest of these stands for all that are nearer. They share `addresses` addresses, each in a /24 of its
    /// own.
    pub(super) fn new(honest: usize, buckets: usize, per_bucket: usize, addresses: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(mix(seed, 0x6563_6c69));
        let mut places = Places::default();
        let victim = Contact { key: random_key(&mut rng), endpoint: places.draw(&mut rng) };
        let addresses: Vec<IpAddr> = (0..addresses).map(|_| places.draw(&mut rng).ip).collect();
        let mut contacts: Vec<Contact> = Vec::with_capacity(honest + buckets * per_bucket);
        contacts.extend((0..honest).map(|_| Contact { key: random_key(&mut rng), endpoint: places.draw(&mut rng) }));
        let ids = contacts.iter().map(Contact::id).zip(0..);
        let truth = Truth::new(ids.chain([(victim.id(), honest as u32)]));
        for (number, key) in craft(&victim.id(), buckets, per_bucket, &mut rng).into_iter().enumerate() {
            // There are at most 2^13 of them.
            let port = FIRST_PORT + (number / addresses.len()) as u16;
            contacts.push(Contact { key, endpoint: Endpoint::new(addresses[number % addresses.len()], port, 0) });
        }
        let attackers = Truth::new(contacts.iter().map(Contact::id).zip(0..).skip(honest));
        let by_addr = contacts.iter().map(|contact| contact.endpoint.udp_addr()).zip(0..).collect();
        Self { victim, contacts, honest, by_addr, truth, attackers, addresses, tables: BTreeMap::new(), seed }
    }

    /// The numbers of the honest nodes.
    pub(super) fn honest(&self) -> std::ops::Range<u32> {
        0..self.honest as u32
    }

    /// The numbers of the attackers.
    pub(super) fn attackers(&self) -> std::ops::Range<u32> {
        self.honest as u32..self.contacts.len() as u32
    }

    /// Whether a number is that of an attacker.
    pub(super) fn is_attacker(&self, peer: u32) -> bool {
        peer as usize >= self.honest
    }

    /// Whether an attacker lives at an address.
    pub(super) fn is_theirs(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }

    /// Who lives at an address.
    pub(super) fn at(&self, addr: SocketAddr) -> Option<u32> {
        self.by_addr.get(&addr).copied()
    }

    /// Key and address of a node; the number after the last honest one's is not the victim's here.
    pub(super) fn contact(&self, peer: u32) -> &Contact {
        &self.contacts[peer as usize]
    }

    /// Whether an honest node has the victim in its table: as likely as if its bucket were a fair sample.
    pub(super) fn knows_victim(&self, peer: u32) -> bool {
        let id = self.contacts[peer as usize].id();
        let rivals = self.truth.bucket(&id, id.log_distance(&self.victim.id())).len();
        unit(mix(mix(self.seed, 0x6b6e_6f77), u64::from(peer))) * (rivals as f64) < K as f64
    }

    /// What a node says to a FINDNODE: an honest one the nearest of its table, an attacker the nearest of its kind.
    pub(super) fn neighbors(&mut self, peer: u32, target: &NodeId) -> Vec<Contact> {
        if self.is_attacker(peer) {
            let others = self.attackers.closest(target, K, Some(peer));
            return others.into_iter().map(|other| self.contacts[other as usize]).collect();
        }
        let (truth, id, seed) = (&self.truth, self.contacts[peer as usize].id(), self.seed);
        let table =
            self.tables.entry(peer).or_insert_with(|| warm::members(truth, peer, &id, K, Choice::Diverse, seed));
        let all =
            table.iter().map(|&member| self.contacts.get(member as usize).filter(|_| (member as usize) < self.honest));
        let mut all: Vec<(NodeId, Contact)> =
            all.map(|contact| *contact.unwrap_or(&self.victim)).map(|contact| (contact.id(), contact)).collect();
        all.sort_unstable_by_key(|(id, _)| target.distance(id));
        all.into_iter().take(K).map(|(_, contact)| contact).collect()
    }
}

/// Keys whose IDs fall evenly into the victim's farthest buckets, found as an attacker finds them: by trying.
fn craft(victim: &NodeId, buckets: usize, per_bucket: usize, rng: &mut StdRng) -> Vec<PublicKey> {
    // There are 256 buckets at most.
    let nearest = 257 - buckets as u16;
    let mut made: Vec<Vec<PublicKey>> = vec![Vec::new(); buckets];
    let mut missing = buckets * per_bucket;
    let mut key = random_key(rng);
    while missing > 0 {
        let (tried, _) = key.0.split_at_mut(8);
        tried.copy_from_slice(&rng.random::<u64>().to_be_bytes());
        let bucket = &mut made[usize::from(victim.log_distance(&key.node_id()).max(nearest) - nearest)];
        if bucket.len() < per_bucket {
            bucket.push(key);
            missing -= 1;
        }
    }
    made.into_iter().flatten().collect()
}

fn random_key(rng: &mut StdRng) -> PublicKey {
    let mut key = PublicKey([0; 64]);
    rng.fill(&mut key.0);
    key
}

/// Addresses of the internet, no two in one /24.
#[derive(Default)]
struct Places(BTreeSet<Prefix>);

impl Places {
    fn draw(&mut self, rng: &mut StdRng) -> Endpoint {
        loop {
            let ip = IpAddr::V4(Ipv4Addr::from(rng.random::<u32>()));
            if AddressClass::of(ip) == AddressClass::Global && self.0.insert(Prefix::of(ip)) {
                return Endpoint::new(ip, PORT, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_fall_evenly_into_the_buckets_of_the_victim() {
        let mut crowd = Crowd::new(300, 10, 4, 2, 1);
        let victim = crowd.victim.id();
        let mut counts = BTreeMap::new();
        for attacker in crowd.attackers() {
            *counts.entry(victim.log_distance(&crowd.contact(attacker).id()).max(247)).or_insert(0) += 1;
        }
        assert_eq!(counts, (247..=256).map(|log| (log, 4)).collect());
        let addresses: BTreeSet<IpAddr> = crowd.attackers().map(|peer| crowd.contact(peer).endpoint.ip).collect();
        assert!(addresses.len() == 2 && addresses.iter().all(|ip| crowd.is_theirs(*ip)));
        let prefixes: BTreeSet<Prefix> = addresses.into_iter().map(Prefix::of).collect();
        assert_eq!(prefixes.len(), 2);
        assert_eq!(crowd.by_addr.len(), 340, "nobody shares a port");

        let target = crowd.contact(17).id();
        let told = crowd.neighbors(300, &target);
        assert!(told.len() == 16 && told.iter().all(|contact| crowd.is_theirs(contact.endpoint.ip)));
        let told = crowd.neighbors(3, &target);
        assert!(told.len() == 16 && !told.iter().any(|contact| crowd.is_theirs(contact.endpoint.ip)));
        let known = crowd.honest().filter(|peer| crowd.knows_victim(*peer)).count();
        // The victim is in a bucket of 16 out of about 150, 75, 38, 19 and fewer: some 16 * 4 + 37.
        assert!((60..140).contains(&known), "{known}");
    }
}
