//! Values of options and arguments.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::Advertise;
use crate::bootstrap::dns::Resolver;
use crate::bootstrap::{Bootnode, BootnodeError};
use crate::proto::identity::{AddressClass, Enode, PublicKey, Record};

/// Options that name first contacts.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Contacts")]
pub(super) struct BootnodeArgs {
    /// Read contacts from a file: one a line, in any form that --bootnode takes; a # at the start of a line or after white
    /// space begins a comment. Can be given several times [default: the public bootnodes of Ethereum's mainnet, which are built in]
    #[arg(long, value_name = "FILE")]
    pub(super) bootnodes: Vec<PathBuf>,
    /// One contact: an enode URL; an enr: record; HOST:PORT of a node whose key is not known, with #ID to pin its node ID
    /// by 8 hex digits or more; dns:NAME[:PORT], a DNS seed; enrtree://KEY@DOMAIN, a tree of records in DNS (EIP-1459);
    /// lan, for whoever is in the local network. Can be given several times
    #[arg(long, value_name = "CONTACT")]
    pub(super) bootnode: Vec<Bootnode>,
    /// Go on without the lines of a bootnodes file that are no contacts, with a warning for each
    #[arg(long)]
    pub(super) skip_bad_bootnodes: bool,
    #[command(flatten)]
    pub(super) dns: DnsArgs,
}

/// How names are resolved.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Contacts")]
pub(super) struct DnsArgs {
    /// Ask this DNS server, and no other, for the names of contacts; the port is 53 unless it is given [default: the DNS
    /// servers of the system]
    #[arg(long, value_name = "IP[:PORT]", value_parser = parse_dns_server)]
    pub(super) dns_server: Option<SocketAddr>,
}

impl DnsArgs {
    pub(super) fn resolver(&self) -> Resolver {
        self.dns_server.map_or_else(Resolver::system, Resolver::with_server)
    }
}

impl BootnodeArgs {
    /// Whether no contact was named at all; a file without contacts is not that.
    pub(super) fn is_absent(&self) -> bool {
        self.bootnodes.is_empty() && self.bootnode.is_empty()
    }
}

/// What is looked for: a key, and maybe where its node was last known to be.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) key: PublicKey,
    pub(super) contact: Option<Bootnode>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("enr:") && !text.starts_with("enode:") {
            // What has a colon or is `lan` is no key, and maybe a contact.
            if (text.contains(':') || text == "lan") && text.parse::<Bootnode>().is_ok() {
                return Err(format!(
                    "{text} names no key to look for: give a public key, an enode URL or an enr: record (`kadnode ping` \
                     tells the key of the node at an address)"
                ));
            }
            let key = text.parse().map_err(|error| format!("{error}"))?;
            return Ok(Self { key, contact: None });
        }
        match text.parse::<Bootnode>() {
            Ok(contact) => match contact.key() {
                Some(key) => Ok(Self { key: *key, contact: Some(contact) }),
                None => Err(format!("{text} names no key to look for")),
            },
            // It cannot be contacted, and can be looked for all the same.
            Err(BootnodeError::NoAddress | BootnodeError::NoPort) => {
                let key = text.parse::<Enode>().map(|enode| enode.key);
                let key = key.or_else(|_| text.parse::<Record>().map(|record| *record.public_key()));
                Ok(Self { key: key.map_err(|error| error.to_string())?, contact: None })
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Reads `IP:PORT`.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give IP:PORT, such as 0.0.0.0:30303 or [::]:30303; port 0 takes a free one".to_owned())
}

/// Reads `IP[:PORT]`, with an IPv6 address in brackets where a port follows.
fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let server = text.parse().or_else(|_| inner.parse().map(|ip| SocketAddr::new(ip, 53)));
    match server {
        Ok(server) if server.port() != 0 => Ok(server),
        _ => Err("give IP[:PORT] of a DNS server, such as 9.9.9.9, 127.0.0.1:5353 or [2a00::7]:53".to_owned()),
    }
}

/// Reads `IP[:UDP[:TCP]]`, with an IPv6 address in brackets where a port follows.
pub(super) fn parse_advertise(text: &str) -> Result<Advertise, String> {
    let shape = || "give IP[:UDP[:TCP]], such as 1.2.3.4:30303 or [2a00::7]:30303:30303".to_owned();
    let (ip, ports) = if let Ok(ip) = text.parse::<IpAddr>() {
        (ip, "")
    } else if let Some(rest) = text.strip_prefix('[') {
        let (ip, ports) = rest.split_once(']').ok_or_else(shape)?;
        (IpAddr::V6(ip.parse().map_err(|_| shape())?), ports)
    } else {
        let at = text.find(':').ok_or_else(shape)?;
        (IpAddr::V4(text[..at].parse().map_err(|_| shape())?), &text[at..])
    };
    if AddressClass::of(ip) == AddressClass::Special {
        return Err(format!("no node can be reached at {ip}"));
    }
    let mut numbers = Vec::new();
    if !ports.is_empty() {
        for port in ports.strip_prefix(':').ok_or_else(shape)?.split(':') {
            numbers.push(port.parse::<u16>().map_err(|_| format!("{port:?} is not a port number"))?);
        }
    }
    match numbers[..] {
        [] => Ok(Advertise { ip, udp: None, tcp: None }),
        [0, ..] => Err("UDP port 0 receives nothing; leave it out to advertise the port of --listen".to_owned()),
        [udp] => Ok(Advertise { ip, udp: Some(udp), tcp: None }),
        [udp, tcp] => Ok(Advertise { ip, udp: Some(udp), tcp: Some(tcp) }),
        _ => Err(shape()),
    }
}

/// Reads a number that has no other bounds than its type.
pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "it has to be a whole number, and not below 0")
}

/// Reads a number of a range.
pub(super) fn within(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("it has to be a whole number from {} to {}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{NodeKey, RecordContent};

    #[test]
    fn advertised_addresses() {
        let parts = |text: &str| {
            let advertise = parse_advertise(text).unwrap();
            (advertise.ip.to_string(), advertise.udp, advertise.tcp)
        };
        assert_eq!(parts("8.8.8.8"), ("8.8.8.8".into(), None, None));
        assert_eq!(parts("8.8.8.8:5"), ("8.8.8.8".into(), Some(5), None));
        assert_eq!(parts("8.8.8.8:5:0"), ("8.8.8.8".into(), Some(5), Some(0)));
        assert_eq!(parts("2a00::1"), ("2a00::1".into(), None, None));
        assert_eq!(parts("[2a00::1]"), ("2a00::1".into(), None, None));
        assert_eq!(parts("[2a00::1]:5:6"), ("2a00::1".into(), Some(5), Some(6)));
        for (text, error) in [
            ("", "give IP"),
            ("host", "give IP"),
            ("8.8.8.8:5:6:7", "give IP"),
            ("[2a00::1", "give IP"),
            ("[2a00::1]5", "give IP"),
            ("8.8.8.8:", "\"\" is not a port"),
            ("8.8.8.8:70000", "\"70000\" is not a port"),
            ("8.8.8.8:0", "UDP port 0"),
            ("0.0.0.0", "no node can be reached"),
            ("224.0.0.1:5", "no node can be reached"),
        ] {
            let found = parse_advertise(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }

    #[test]
    fn dns_servers() {
        for (text, server) in [
            ("9.9.9.9", "9.9.9.9:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("2a00::1", "[2a00::1]:53"),
            ("[2a00::1]", "[2a00::1]:53"),
            ("[2a00::1]:5", "[2a00::1]:5"),
        ] {
            assert_eq!(parse_dns_server(text).unwrap().to_string(), server);
        }
        for text in ["", "dns.example.org", "9.9.9.9:0", "9.9.9.9:x", "[2a00::1"] {
            assert!(parse_dns_server(text).unwrap_err().starts_with("give IP[:PORT]"), "{text}");
        }
    }

    #[test]
    fn targets() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let nowhere = Record::sign(&key, 1, &RecordContent::default()).unwrap();
        let public = key.public_key();
        for (text, contact) in [
            (public.to_string(), false),
            (nowhere.to_string(), false),
            (format!("enode://{public}@127.0.0.1:0"), false),
            (format!("enode://{public}@127.0.0.1:5"), true),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.key, target.contact.is_some()), (*public, contact), "{text}");
        }
        let error = "127.0.0.1:5".parse::<Target>().unwrap_err();
        assert!(error.starts_with("127.0.0.1:5 names no key to look for: give a public key"), "{error}");
        assert!(key.id().to_string().parse::<Target>().unwrap_err().starts_with("this is a 32-byte node ID"));
    }
}
