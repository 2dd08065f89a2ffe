//! Node IDs and the XOR metric (Maymounkov and Mazières 2002).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The 256-bit ID of a node: keccak256 of its 64-byte public key (discv4 specification, "Node Identities").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

/// The XOR of two IDs, read as a 256-bit big-endian number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub [u8; 32]);

/// The first hex digits of a node ID, at least [`IdPrefix::MIN`] of them: they pin who a node has to be whose public key is
/// not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdPrefix {
    /// The digits; zero behind them.
    bytes: [u8; 32],
    digits: u8,
}

/// Why a text is no [`IdPrefix`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not the beginning of a node ID: give 8 to 64 hex digits")]
pub struct IdPrefixError(String);

impl IdPrefix {
    /// Fewest digits: to make a key whose ID begins with 8 given ones takes four thousand million tries.
    pub const MIN: usize = 8;

    /// Whether an ID begins with it.
    pub fn matches(&self, id: &NodeId) -> bool {
        let (whole, half) = (usize::from(self.digits / 2), self.digits % 2 == 1);
        id.0[..whole] == self.bytes[..whole] && (!half || id.0[whole] >> 4 == self.bytes[whole] >> 4)
    }
}

impl From<NodeId> for IdPrefix {
    fn from(id: NodeId) -> Self {
        Self { bytes: id.0, digits: 64 }
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes)[..usize::from(self.digits)])
    }
}

impl FromStr for IdPrefix {
    type Err = IdPrefixError;

    fn from_str(text: &str) -> Result<Self, IdPrefixError> {
        let error = || IdPrefixError(text.to_owned());
        let digits = text.strip_prefix("0x").unwrap_or(text);
        // ASCII, since each byte is looked at below.
        if !(Self::MIN..=64).contains(&digits.len()) || !digits.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(format!("{digits:0<64}"), &mut bytes).map_err(|_| error())?;
        Ok(Self { bytes, digits: digits.len() as u8 })
    }
}

impl NodeId {
    /// The XOR distance to `other`.
    pub fn distance(&self, other: &NodeId) -> Distance {
        let mut xor = [0; 32];
        for (out, (a, b)) in xor.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *out = a ^ b;
        }
        Distance(xor)
    }

    /// The log distance to `other`: 0 for the ID itself, else the position of the highest differing bit, 1 to 256.
    pub fn log_distance(&self, other: &NodeId) -> u16 {
        for at in 0..4 {
            let differ = word(&self.0, at) ^ word(&other.0, at);
            if differ != 0 {
                return bit_length(at, differ);
            }
        }
        0
    }
}

impl Distance {
    /// The bit length: 0 for zero, 256 when the highest bit is set.
    pub fn log(&self) -> u16 {
        for at in 0..4 {
            let word = word(&self.0, at);
            if word != 0 {
                return bit_length(at, word);
            }
        }
        0
    }

    /// The 32 bits under the bit that gives a distance this logarithm, 1 to 256; what would be under bit 1 is 0.
    ///
    /// Of two IDs in the same bucket they say, seen from any third, which one is nearer, but for one case in 2^32.
    pub fn below(&self, log: u16) -> u32 {
        let start = 257 - usize::from(log);
        let word = |at: usize| if at < 4 { u128::from(word(&self.0, at)) } else { 0 };
        let bits = word(start / 64) << 64 | word(start / 64 + 1);
        (bits << (start % 64) >> 96) as u32
    }

    /// Which sixteenth of its bucket the distance lies in: the (up to) four bits under the highest set bit, 0 to 15.
    pub fn subrange(&self) -> u8 {
        subrange(self.below(self.log().max(1)))
    }
}

/// The sixteenth of a bucket, 0 to 15, from the bits that [`Distance::below`] the logarithm of the bucket tells.
pub(in crate::proto) fn subrange(below: u32) -> u8 {
    (below >> 28) as u8
}

/// The `at`-th of the four 64-bit words, the highest first.
fn word(bytes: &[u8; 32], at: usize) -> u64 {
    let (words, _) = bytes.as_chunks();
    u64::from_be_bytes(words[at])
}

/// The bit length of a 256-bit number whose highest word that is not zero is the `at`-th.
fn bit_length(at: usize, word: u64) -> u16 {
    // At most 256.
    (64 * (4 - at)) as u16 - word.leading_zeros() as u16
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    /// The first four bytes, which tell nodes apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}

impl FromStr for NodeId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)?;
        Ok(NodeId(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(low: &[u8]) -> NodeId {
        let mut bytes = [0; 32];
        bytes[32 - low.len()..].copy_from_slice(low);
        NodeId(bytes)
    }

    #[test]
    fn log_distance_is_the_bit_length_of_the_xor() {
        let zero = id(&[]);
        assert_eq!(zero.log_distance(&zero), 0);
        assert_eq!(zero.log_distance(&id(&[1])), 1);
        assert_eq!(zero.log_distance(&id(&[0x80])), 8);
        assert_eq!(zero.log_distance(&id(&[1, 0])), 9);
        assert_eq!(zero.log_distance(&NodeId([0xff; 32])), 256);
        assert_eq!(id(&[0b1100]).log_distance(&id(&[0b1010])), 3);
    }

    #[test]
    fn subrange_is_the_four_bits_under_the_top_bit() {
        assert_eq!(Distance([0xff; 32]).subrange(), 15);
        assert_eq!(id(&[0b1101_0110]).distance(&id(&[])).subrange(), 0b1010);
        assert_eq!(id(&[0b1, 0b1001_0000]).distance(&id(&[])).subrange(), 0b1001);
        assert_eq!(id(&[0b11]).distance(&id(&[])).subrange(), 0b1000);
        assert_eq!(id(&[1]).distance(&id(&[])).subrange(), 0);
        assert_eq!(id(&[]).distance(&id(&[])).subrange(), 0);
    }

    #[test]
    fn the_bits_below_are_those_that_follow() {
        let distance = Distance(std::array::from_fn(|at| at as u8 + 1));
        assert_eq!(distance.below(256), 0x0204_0608);
        assert_eq!(distance.below(249), 0x0203_0405);
        assert_eq!(distance.below(193), 0x090a_0b0c);
        assert_eq!(distance.below(65), 0x191a_1b1c);
        assert_eq!(distance.below(9), 0x2000_0000);
        assert_eq!(distance.below(1), 0);
        assert_eq!(id(&[0b11]).distance(&id(&[])).below(2), 1 << 31);
    }

    #[test]
    fn distance_orders_as_a_number() {
        let target = id(&[]);
        assert!(target.distance(&id(&[0, 2])) < target.distance(&id(&[1, 0])));
    }

    #[test]
    fn prefixes_pin_an_id_by_its_digits() {
        let id = NodeId(std::array::from_fn(|at| 0x1a + at as u8));
        for (text, matches) in [
            ("1a1b1c1d", true),
            ("0x1A1B1C1D1", true),
            ("1a1b1c1d2", false),
            ("1a1b1c1e", false),
            (&id.to_string(), true),
        ] {
            assert_eq!(text.parse::<IdPrefix>().unwrap().matches(&id), matches, "{text}");
        }
        assert_eq!("0x1A1B1C1D1".parse::<IdPrefix>().unwrap().to_string(), "1a1b1c1d1");
        assert!(IdPrefix::from(id).matches(&id));
        for text in ["", "1a1b1c1", "1a1b1c1g", "1a1b1c1\u{e9}", &format!("{id}0")] {
            assert_eq!(text.parse::<IdPrefix>(), Err(IdPrefixError(text.to_owned())), "{text}");
        }
    }
}
