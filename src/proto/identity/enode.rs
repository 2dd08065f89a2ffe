//! enode URLs: `enode://<128 hex digits>@<host>:<tcp port>[?discport=<udp port>]`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use super::{Contact, Endpoint, KeyError, PublicKey};

/// Why a text is not an enode URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnodeError {
    /// It does not begin with `enode://`.
    #[error("an enode URL begins with enode://")]
    Scheme,
    /// No `@` between key and host.
    #[error("there is no @ between the public key and the host")]
    NoHost,
    /// The part before the `@`.
    #[error("the part before the @ is no public key: {0}")]
    Key(#[from] KeyError),
    /// Neither an address nor a host name.
    #[error("{0:?} is neither an IP address nor a host name")]
    Host(String),
    /// The host is not followed by a port.
    #[error("the host is not followed by :port")]
    NoPort,
    /// Not a number from 0 to 65535.
    #[error("{0:?} is not a port number")]
    Port(String),
    /// Something other than `discport=` after the question mark.
    #[error("the only option of an enode URL is ?discport=PORT; this says {0:?}")]
    Option(String),
}

/// The host of an enode URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A DNS name, to be resolved by whoever wants to contact the node.
    Name(String),
}

/// A node as its enode URL names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Enode {
    /// The node's public key.
    pub key: PublicKey,
    /// Where it is.
    pub host: Host,
    /// TCP port of the protocol above discovery.
    pub tcp: u16,
    /// UDP port of discovery.
    pub udp: u16,
}

impl Enode {
    /// The contact, when the host is an address.
    pub fn contact(&self) -> Option<Contact> {
        match self.host {
            Host::Ip(ip) => Some(self.at(ip)),
            Host::Name(_) => None,
        }
    }

    /// The contact, once the host is known to be at `ip`.
    pub fn at(&self, ip: IpAddr) -> Contact {
        Contact { key: self.key, endpoint: Endpoint::new(ip, self.udp, self.tcp) }
    }
}

impl From<Contact> for Enode {
    fn from(contact: Contact) -> Self {
        let Endpoint { ip, udp, tcp } = contact.endpoint;
        Self { key: contact.key, host: Host::Ip(ip), tcp, udp }
    }
}

impl fmt::Display for Enode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enode://{}@", self.key)?;
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Name(name) => f.write_str(name)?,
        }
        write!(f, ":{}", self.tcp)?;
        if self.udp != self.tcp {
            write!(f, "?discport={}", self.udp)?;
        }
        Ok(())
    }
}

impl FromStr for Enode {
    type Err = EnodeError;

    fn from_str(text: &str) -> Result<Self, EnodeError> {
        let rest = text.strip_prefix("enode://").ok_or(EnodeError::Scheme)?;
        let (key, rest) = rest.split_once('@').ok_or(EnodeError::NoHost)?;
        let key = key.parse()?;
        let (address, option) = match rest.split_once('?') {
            Some((address, option)) => (address, Some(option)),
            None => (rest, None),
        };
        let (host, tcp) = address.rsplit_once(':').ok_or(EnodeError::NoPort)?;
        // An unbracketed IPv6 address would have lost its last group to the port.
        let host = host.parse()?;
        let tcp = parse_port(tcp)?;
        let udp = match option {
            None => tcp,
            Some(option) => match option.strip_prefix("discport=") {
                Some(port) => parse_port(port)?,
                None => return Err(EnodeError::Option(option.to_owned())),
            },
        };
        Ok(Self { key, host, tcp, udp })
    }
}

impl FromStr for Host {
    type Err = EnodeError;

    /// Reads an IPv4 address, an IPv6 address in brackets, or a DNS name.
    fn from_str(text: &str) -> Result<Self, EnodeError> {
        parse_host(text).ok_or_else(|| EnodeError::Host(text.to_owned()))
    }
}

pub(crate) fn parse_port(text: &str) -> Result<u16, EnodeError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EnodeError::Port(text.to_owned()));
    }
    text.parse().map_err(|_| EnodeError::Port(text.to_owned()))
}

fn parse_host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(IpAddr::V6(ip).to_canonical()));
    }
    if let Ok(ip) = text.parse() {
        return Some(Host::Ip(IpAddr::V4(ip)));
    }
    // RFC 1123 host names, with the underscore that Docker and Kubernetes use. Digits and dots alone are a bad address.
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (name.len() <= 253 && !numeric && name.split('.').all(label)).then(|| Host::Name(name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d860a01f9722d78051619d1e2351aba3f43f943f6f00718d1b9baa4101932a1f\
                       5011f16bb2b1bb35db20d6fe28fa0bf09636d26a87d31de9ec6203eeedb1f666";

    fn parse(rest: &str) -> Result<Enode, EnodeError> {
        format!("enode://{KEY}@{rest}").parse()
    }

    #[test]
    fn urls_come_back_as_they_went_in() {
        for (rest, tcp, udp) in [
            ("18.138.108.67:30303", 30303, 30303),
            ("127.0.0.1:0?discport=31301", 0, 31301),
            ("[2a00::1]:30303?discport=30304", 30303, 30304),
            ("boot-1.example.org:30303", 30303, 30303),
        ] {
            let enode = parse(rest).unwrap();
            assert_eq!((enode.tcp, enode.udp), (tcp, udp));
            assert_eq!(enode.to_string(), format!("enode://{KEY}@{rest}"));
        }
        assert_eq!(parse("[::ffff:1.2.3.4]:1").unwrap().to_string(), format!("enode://{KEY}@1.2.3.4:1"));
        assert_eq!(parse("1.2.3.4:5?discport=5").unwrap().to_string(), format!("enode://{KEY}@1.2.3.4:5"));
        assert_eq!(parse("Example.ORG.:5").unwrap().host, Host::Name("example.org".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!("http://x".parse::<Enode>(), Err(EnodeError::Scheme));
        assert_eq!("enode://abc".parse::<Enode>(), Err(EnodeError::NoHost));
        assert_eq!("enode://abc@1.2.3.4:1".parse::<Enode>(), Err(EnodeError::Key(KeyError::Length(3))));
        assert_eq!(parse("1.2.3.4"), Err(EnodeError::NoPort));
        assert_eq!(parse("1.2.3.4:70000"), Err(EnodeError::Port("70000".into())));
        assert_eq!(parse("1.2.3.4:+1"), Err(EnodeError::Port("+1".into())));
        assert_eq!(parse("1.2.3:30303"), Err(EnodeError::Host("1.2.3".into())));
        assert_eq!(parse("2a00::1:30303"), Err(EnodeError::Host("2a00::1".into())));
        assert_eq!(parse("bad host:30303"), Err(EnodeError::Host("bad host".into())));
        assert_eq!(parse("1.2.3.4:1?port=2"), Err(EnodeError::Option("port=2".into())));
        assert_eq!(parse("1.2.3.4:1?discport="), Err(EnodeError::Port(String::new())));
    }
}
