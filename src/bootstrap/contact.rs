//! One contact: an enode URL, a node record, an address without a key, or a place where contacts are found.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

use super::dns::{TreeUrl, TreeUrlError};
use crate::proto::identity::{
    Contact, Enode, EnodeError, Host, IdPrefix, IdPrefixError, PublicKey, Record, RecordError, parse_port,
};

/// The port of a DNS seed that names none: that of discv4.
pub const DEFAULT_PORT: u16 = 30303;

/// A node to contact first, or where to find such nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootnode {
    /// `enode://<128 hex digits>@<host>:<tcp port>[?discport=<udp port>]`; the host may be a DNS name.
    Enode(Enode),
    /// `enr:<base64>`, with an address and a UDP port in it.
    Record(Box<Record>),
    /// `<host>:<udp port>[#<node ID, or its beginning>]`: an address whose node says itself who it is.
    Address(Address),
    /// `dns:<name>[:<udp port>]`: a DNS seed, all of whose addresses are contacts.
    Seed(Seed),
    /// `enrtree://<key>@<domain>`: a signed tree of records in DNS (EIP-1459).
    Tree(TreeUrl),
    /// `lan`: whoever announces itself in the local network.
    Lan,
}

/// An address whose node's key is not known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where it is.
    pub host: Host,
    /// The UDP port of discovery.
    pub port: u16,
    /// What the ID of the node has to begin with.
    pub pin: Option<IdPrefix>,
}

/// A DNS name whose A and AAAA records are addresses of nodes. Where it has SRV records (`_discv4._udp.<name>`), their
/// targets are contacts as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seed {
    /// The name.
    pub name: String,
    /// The UDP port of discovery, but for those that SRV records name.
    pub port: u16,
}

/// Why a text is not a contact.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BootnodeError {
    /// It has none of the forms that a contact can have.
    #[error("{0:?} is no contact: give an enode URL, an enr: record, HOST:PORT, dns:NAME, enrtree://KEY@DOMAIN or lan")]
    Neither(String),
    /// It is an enode URL with a mistake.
    #[error(transparent)]
    Enode(#[from] EnodeError),
    /// It is a record with a mistake, or one that its node has not signed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is the URL of a tree with a mistake.
    #[error(transparent)]
    Tree(#[from] TreeUrlError),
    /// What stands behind the `#` of an address.
    #[error("what stands behind the # is wrong: {0}")]
    Pin(#[from] IdPrefixError),
    /// The record is valid and does not say where the node is.
    #[error("the record is valid but holds no IP address with a UDP port, so its node cannot be contacted")]
    NoAddress,
    /// UDP port 0 receives nothing.
    #[error("the UDP port is 0, so the node cannot be contacted")]
    NoPort,
    /// A host without a port.
    #[error("{0} is followed by no port: write {0}:{DEFAULT_PORT}, or whatever UDP port its node listens on")]
    MissingPort(String),
    /// An IPv6 address that does not say where it ends and the port begins.
    #[error("an IPv6 address stands in brackets, and a UDP port behind them: [2a00::7]:{DEFAULT_PORT}")]
    Brackets,
    /// An address with a mistake in its port.
    #[error("{0:?} is no UDP port, which is a number from 1 to 65535")]
    Port(String),
    /// What stands behind `dns:`.
    #[error("{0:?} is no DNS name with or without a port, as stands behind dns:; an IP address is written as IP:PORT")]
    Seed(String),
    /// DNS is left out of this build.
    #[error("this build cannot look up seeds and trees in DNS: build it with the feature dns, or give other contacts")]
    NoDns,
    /// The line of a file is no text.
    #[error("the line is not UTF-8 text")]
    NotText,
    /// The line of a file is longer than any contact.
    #[error("the line has {0} bytes, and a contact has at most {max}", max = super::MAX_LINE_LEN)]
    TooLong(usize),
}

impl Bootnode {
    /// The node's public key, when it is one node whose key is known.
    pub fn key(&self) -> Option<&PublicKey> {
        match self {
            Bootnode::Enode(enode) => Some(&enode.key),
            Bootnode::Record(record) => Some(record.public_key()),
            Bootnode::Address(_) | Bootnode::Seed(_) | Bootnode::Tree(_) | Bootnode::Lan => None,
        }
    }

    /// Key and address; `None` when one of them is not known, as when the host is a DNS name that has to be resolved
    /// first.
    pub fn contact(&self) -> Option<Contact> {
        match self {
            Bootnode::Enode(enode) => enode.contact(),
            Bootnode::Record(record) => contacts(record).next(),
            Bootnode::Address(_) | Bootnode::Seed(_) | Bootnode::Tree(_) | Bootnode::Lan => None,
        }
    }
}

impl From<Contact> for Bootnode {
    fn from(contact: Contact) -> Self {
        Bootnode::Enode(contact.into())
    }
}

impl fmt::Display for Bootnode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bootnode::Enode(enode) => enode.fmt(f),
            Bootnode::Record(record) => record.fmt(f),
            Bootnode::Address(address) => address.fmt(f),
            Bootnode::Seed(seed) => seed.fmt(f),
            Bootnode::Tree(url) => url.fmt(f),
            Bootnode::Lan => f.write_str("lan"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => std::net::SocketAddr::new(*ip, self.port).fmt(f)?,
            Host::Name(name) => write!(f, "{name}:{}", self.port)?,
        }
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dns:{}", self.name)?;
        if self.port == DEFAULT_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl FromStr for Bootnode {
    type Err = BootnodeError;

    fn from_str(text: &str) -> Result<Self, BootnodeError> {
        if text.starts_with("enr:") {
            let record: Record = text.parse()?;
            record.endpoint().ok_or(BootnodeError::NoAddress)?;
            let contact = contacts(&record).next();
            return contact.map(|_| Bootnode::Record(Box::new(record))).ok_or(BootnodeError::NoPort);
        }
        if text.starts_with("enode:") {
            let enode: Enode = text.parse()?;
            return if enode.udp == 0 { Err(BootnodeError::NoPort) } else { Ok(Bootnode::Enode(enode)) };
        }
        if text == "lan" {
            return Ok(Bootnode::Lan);
        }
        let found = if text.starts_with("enrtree:") {
            Bootnode::Tree(text.parse()?)
        } else if let Some(seed) = text.strip_prefix("dns:") {
            Bootnode::Seed(parse_seed(seed)?)
        } else {
            return Ok(Bootnode::Address(parse_address(text)?));
        };
        if cfg!(feature = "dns") { Ok(found) } else { Err(BootnodeError::NoDns) }
    }
}

/// Wherever a record says that its node can be sent to, IPv4 first.
pub(crate) fn contacts(record: &Record) -> impl Iterator<Item = Contact> {
    let endpoints = [record.endpoint_v4(), record.endpoint_v6()].into_iter().flatten();
    let key = *record.public_key();
    endpoints.filter(|endpoint| endpoint.udp != 0).map(move |endpoint| Contact { key, endpoint })
}

fn parse_seed(text: &str) -> Result<Seed, BootnodeError> {
    let found = host_and_port(text).or_else(|| Some((text.parse().ok()?, DEFAULT_PORT)));
    let Some((Host::Name(name), port)) = found else { return Err(BootnodeError::Seed(text.to_owned())) };
    if port == 0 { Err(BootnodeError::NoPort) } else { Ok(Seed { name, port }) }
}

/// Reads `host:port`, with the hosts that enode URLs have; the port may be 0.
fn host_and_port(text: &str) -> Option<(Host, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host.parse().ok()?, parse_port(port).ok()?))
}

fn parse_address(text: &str) -> Result<Address, BootnodeError> {
    let (place, pin) = match text.split_once('#') {
        Some((place, pin)) => (place, Some(pin)),
        None => (text, None),
    };
    let Some((host, port)) = host_and_port(place) else { return Err(what_is_wrong(place)) };
    if port == 0 {
        return Err(BootnodeError::NoPort);
    }
    Ok(Address { host, port, pin: pin.map(str::parse).transpose()? })
}

/// Why a text is not `host:port`.
fn what_is_wrong(text: &str) -> BootnodeError {
    let is_host = |text: &str| text.parse::<Host>().is_ok();
    let before_port = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if [text, before_port].iter().any(|text| text.parse::<Ipv6Addr>().is_ok()) {
        return BootnodeError::Brackets;
    }
    match text.rsplit_once(':') {
        _ if is_host(text) => BootnodeError::MissingPort(text.to_owned()),
        // Two slashes: a URL of another kind.
        Some((host, port)) if is_host(host) && !port.starts_with("//") => BootnodeError::Port(port.to_owned()),
        _ => BootnodeError::Neither(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{NodeKey, RecordContent};

    #[test]
    fn contacts_come_back_as_they_went_in() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let content = RecordContent { v4: Some(([127, 0, 0, 1].into(), 5, 0)), ..Default::default() };
        let record = Record::sign(&key, 1, &content).unwrap();
        let public = key.public_key();
        for text in [
            record.to_string(),
            format!("enode://{public}@127.0.0.1:5"),
            format!("enode://{public}@127.0.0.1:0?discport=5"),
            format!("enode://{public}@boot.example.org:5"),
        ] {
            let contact: Bootnode = text.parse().unwrap();
            assert_eq!((contact.to_string(), contact.key()), (text, Some(public)));
        }
        let contact: Bootnode = record.to_string().parse().unwrap();
        assert_eq!(contact.contact().unwrap().endpoint.to_string(), "127.0.0.1:5");
        let id = key.id();
        for text in
            ["127.0.0.1:5", "[2a00::1]:5", "boot-1.example.org:5", &format!("localhost:5#{id}"), "a:5#0badcafe0", "lan"]
        {
            let contact: Bootnode = text.parse().unwrap();
            assert_eq!((contact.to_string(), contact.key(), contact.contact()), (text.to_owned(), None, None));
        }
        let mapped: Bootnode = "[::ffff:1.2.3.4]:5#0xABCDEF012".parse().unwrap();
        assert_eq!(mapped.to_string(), "1.2.3.4:5#abcdef012");
    }

    #[cfg(feature = "dns")]
    #[test]
    fn places_in_dns() {
        let tree = "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org";
        for text in ["dns:seed.example.org", "dns:seed:5", tree] {
            let contact: Bootnode = text.parse().unwrap();
            assert_eq!((contact.to_string(), contact.key(), contact.contact()), (text.to_owned(), None, None));
        }
        let seed = Seed { name: "seed.example.org".into(), port: 30303 };
        assert_eq!("dns:Seed.Example.org.:30303".parse(), Ok(Bootnode::Seed(seed)));
    }

    #[cfg(not(feature = "dns"))]
    #[test]
    fn places_in_dns_need_the_feature() {
        assert_eq!("dns:seed.example.org".parse::<Bootnode>(), Err(BootnodeError::NoDns));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let nowhere = Record::sign(&key, 1, &RecordContent::default()).unwrap().to_string();
        let public = key.public_key();
        let error = |text: &str| text.parse::<Bootnode>().unwrap_err();
        assert_eq!(error(&nowhere), BootnodeError::NoAddress);
        assert_eq!(error("enode:hello"), BootnodeError::Enode(EnodeError::Scheme));
        assert_eq!(error(&format!("enode://{public}@1.2.3.4:5?discport=0")), BootnodeError::NoPort);
        assert_eq!(error(&format!("enode://{public}@1.2.3.4")), BootnodeError::Enode(EnodeError::NoPort));
        for text in ["", "bad host", "http://example.org", "1.2.3:5", "a b:5", "-a:5", ":5", "[1.2.3.4]:5"] {
            assert_eq!(error(text), BootnodeError::Neither(text.to_owned()), "{text}");
        }
        for text in ["hello", "1.2.3.4", "[2a00::1]", "boot.example.org"] {
            assert_eq!(error(text), BootnodeError::MissingPort(text.to_owned()));
        }
        for text in ["2a00::1", "2a00::1:303", "2a00::1:30303"] {
            assert_eq!(error(text), BootnodeError::Brackets, "{text}");
        }
        for (text, port) in [("a:", ""), ("a:x", "x"), ("1.2.3.4:65536", "65536"), ("a:5?discport=6", "5?discport=6")] {
            assert_eq!(error(text), BootnodeError::Port(port.to_owned()));
        }
        assert_eq!(error("a:0#0badcafe"), BootnodeError::NoPort);
        for pin in ["", "0badcaf", "0badcafg", &"0".repeat(65)] {
            assert_eq!(
                error(&format!("a:5#{pin}")).to_string(),
                format!(
                    "what stands behind the # is wrong: {pin:?} is not the beginning of a node ID: give 8 to 64 hex digits"
                )
            );
        }
        for seed in ["", "1.2.3.4", "1.2.3.4:5", "a:b", "a:70000", "[2a00::1]:5"] {
            assert_eq!(error(&format!("dns:{seed}")), BootnodeError::Seed(seed.to_owned()));
        }
        assert_eq!(error("dns:a:0"), BootnodeError::NoPort);
        assert_eq!(error("enrtree:a"), BootnodeError::Tree(TreeUrlError::Scheme));
    }
}
