//! Endpoints, and which addresses make sense to whom.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Where a node is: an IP address, a UDP port for discovery and a TCP port for whatever runs above it (0: none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The IP address; never an IPv4 address in IPv6 clothing.
    pub ip: IpAddr,
    /// The UDP port.
    pub udp: u16,
    /// The TCP port.
    pub tcp: u16,
}

/// Why an endpoint cannot be contacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Port 0 receives nothing.
    #[error("its UDP port is 0")]
    NoPort,
    /// Ports up to 1024 belong to other services, which must not be knocked at on hearsay.
    #[error("its UDP port is a privileged one")]
    PrivilegedPort,
    /// An address that no host can have.
    #[error("its address is in a special range")]
    Special,
    /// An address that makes no sense as seen from the one who told us, or from here.
    #[error("its address is of a nearer kind than the one who told of it")]
    Nearer,
}

/// What kind of network an address belongs to, from near to far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressClass {
    /// This host.
    Loopback,
    /// A private network: RFC 1918, RFC 6598, unique local, link local.
    Lan,
    /// The internet.
    Global,
    /// Nothing that can be sent to: unspecified, multicast, documentation, reserved.
    Special,
}

impl Endpoint {
    /// An endpoint; IPv4-mapped IPv6 addresses become IPv4.
    pub fn new(ip: IpAddr, udp: u16, tcp: u16) -> Self {
        Self { ip: ip.to_canonical(), udp, tcp }
    }

    /// The address that datagrams go to.
    pub fn udp_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.udp)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.udp_addr().fmt(f)
    }
}

impl AddressClass {
    /// The class of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, c, _] = ip.octets();
        // The registry of special-purpose addresses, RFC 6890.
        match (a, b, c) {
            (127, ..) => Self::Loopback,
            (10, ..) | (172, 16..=31, _) | (192, 168, _) | (169, 254, _) | (100, 64..=127, _) => Self::Lan,
            (0, ..) | (224..=255, ..) => Self::Special,
            (192, 0, 0 | 2) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => Self::Special,
            _ => Self::Global,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        let s = ip.segments();
        if ip.is_loopback() {
            Self::Loopback
        } else if s[0] & 0xfe00 == 0xfc00 || s[0] & 0xffc0 == 0xfe80 {
            Self::Lan
        } else if s[0] & 0xe000 != 0x2000 || (s[0] == 0x2001 && s[1] == 0x0db8) || (s[0] == 0x3fff && s[1] < 0x1000) {
            // Only 2000::/3 is global unicast; documentation is cut out of it (RFC 3849, RFC 9637).
            Self::Special
        } else {
            Self::Global
        }
    }
}

/// Whether an endpoint that we were told of at `teller` can be worth a packet.
///
/// Rejects port 0, privileged ports unless allowed, special ranges, and whatever lies nearer to us than the teller:
/// nobody on the internet may send us to our LAN, nor anybody on the LAN to our loopback.
pub fn plausible(endpoint: &Endpoint, teller: IpAddr, allow_privileged: bool) -> Result<(), EndpointError> {
    if endpoint.udp == 0 {
        return Err(EndpointError::NoPort);
    }
    if endpoint.udp <= 1024 && !allow_privileged {
        return Err(EndpointError::PrivilegedPort);
    }
    let class = AddressClass::of(endpoint.ip);
    if class == AddressClass::Special {
        return Err(EndpointError::Special);
    }
    if class < AddressClass::of(teller) { Err(EndpointError::Nearer) } else { Ok(()) }
}

/// Whether we may name a node at `about` to somebody at `asker`: the same rule, from the other side.
pub fn may_tell(about: IpAddr, asker: IpAddr) -> bool {
    let class = AddressClass::of(about);
    class != AddressClass::Special && class >= AddressClass::of(asker)
}

/// Whether a socket that is bound to `bound` can send to `to`: a socket speaks one address family, and the one on `[::]`
/// both.
pub fn reaches(bound: IpAddr, to: IpAddr) -> bool {
    bound.is_ipv4() == to.is_ipv4() || (to.is_ipv4() && bound.is_unspecified())
}

/// The network prefix by which nodes are limited: /24 for IPv4, /64 for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// The upper 24 bits of an IPv4 address.
    V4([u8; 3]),
    /// The upper 64 bits of an IPv6 address.
    V6([u8; 8]),
}

impl Prefix {
    /// The prefix under which `ip` is limited; `None` for loopback, and for private networks where they are exempt.
    pub fn limited(ip: IpAddr, exempt_lan: bool) -> Option<Self> {
        match AddressClass::of(ip) {
            AddressClass::Loopback => None,
            AddressClass::Lan if exempt_lan => None,
            _ => Some(Self::of(ip)),
        }
    }

    /// The prefix of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Prefix::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let o = ip.octets();
                Prefix::V6([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn classes() {
        for (text, class) in [
            ("127.0.0.1", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            ("::ffff:127.0.0.1", AddressClass::Loopback),
            ("10.1.2.3", AddressClass::Lan),
            ("172.31.0.1", AddressClass::Lan),
            ("172.32.0.1", AddressClass::Global),
            ("192.168.0.1", AddressClass::Lan),
            ("100.64.0.1", AddressClass::Lan),
            ("fe80::1", AddressClass::Lan),
            ("fd00::1", AddressClass::Lan),
            ("8.8.8.8", AddressClass::Global),
            ("2a00::1", AddressClass::Global),
            ("0.0.0.0", AddressClass::Special),
            ("224.0.0.1", AddressClass::Special),
            ("255.255.255.255", AddressClass::Special),
            ("192.0.2.1", AddressClass::Special),
            ("2001:db8::1", AddressClass::Special),
            ("::", AddressClass::Special),
            ("ff02::1", AddressClass::Special),
        ] {
            assert_eq!(AddressClass::of(ip(text)), class, "{text}");
        }
    }

    #[test]
    fn nothing_nearer_is_believed_or_told() {
        let at = |text: &str, port| Endpoint::new(ip(text), port, 0);
        assert_eq!(plausible(&at("8.8.8.8", 30303), ip("127.0.0.1"), false), Ok(()));
        assert_eq!(plausible(&at("10.0.0.1", 30303), ip("10.0.0.2"), false), Ok(()));
        assert_eq!(plausible(&at("10.0.0.1", 30303), ip("8.8.8.8"), false), Err(EndpointError::Nearer));
        assert_eq!(plausible(&at("127.0.0.1", 30303), ip("10.0.0.1"), false), Err(EndpointError::Nearer));
        assert_eq!(plausible(&at("8.8.8.8", 0), ip("8.8.4.4"), true), Err(EndpointError::NoPort));
        assert_eq!(plausible(&at("8.8.8.8", 53), ip("8.8.4.4"), false), Err(EndpointError::PrivilegedPort));
        assert_eq!(plausible(&at("8.8.8.8", 53), ip("8.8.4.4"), true), Ok(()));
        assert_eq!(plausible(&at("224.0.0.1", 30303), ip("8.8.4.4"), true), Err(EndpointError::Special));
        assert!(may_tell(ip("10.0.0.1"), ip("127.0.0.1")));
        assert!(!may_tell(ip("127.0.0.1"), ip("10.0.0.1")));
        assert!(!may_tell(ip("10.0.0.1"), ip("1.1.1.1")));
        assert!(!may_tell(ip("0.0.0.0"), ip("127.0.0.1")));
    }

    #[test]
    fn a_socket_speaks_one_family_and_the_wildcard_of_ipv6_both() {
        for (bound, v4, v6) in
            [("0.0.0.0", true, false), ("10.0.0.1", true, false), ("::1", false, true), ("::", true, true)]
        {
            assert_eq!((reaches(ip(bound), ip("8.8.8.8")), reaches(ip(bound), ip("2a00::1"))), (v4, v6), "{bound}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(Prefix::of(ip("1.2.3.4")), Prefix::of(ip("1.2.3.200")));
        assert_ne!(Prefix::of(ip("1.2.3.4")), Prefix::of(ip("1.2.4.4")));
        assert_eq!(Prefix::of(ip("::ffff:1.2.3.4")), Prefix::of(ip("1.2.3.200")));
        assert_eq!(Prefix::of(ip("2a00::1")), Prefix::of(ip("2a00::ffff")));
        assert_ne!(Prefix::of(ip("2a00::1")), Prefix::of(ip("2a00:0:0:1::1")));
    }
}
