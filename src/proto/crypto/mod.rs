//! keccak256, and recoverable ECDSA over secp256k1: the only place that names the signature libraries.
//!
//! There are two backends, and they take and refuse the very same signatures and keys, and sign with the same bytes: a
//! pure Rust one, and libsecp256k1, which needs half the time and a C compiler, with the feature `libsecp256k1`.

#[cfg(feature = "libsecp256k1")]
mod libsecp256k1;
#[cfg(any(test, not(feature = "libsecp256k1")))]
mod pure;

use rand::CryptoRng;
use sha3::{Digest, Keccak256};
use thiserror::Error;

#[cfg(feature = "libsecp256k1")]
use self::libsecp256k1 as backend;
#[cfg(not(feature = "libsecp256k1"))]
use self::pure as backend;

/// The signature library in use.
pub const BACKEND: &str = if cfg!(feature = "libsecp256k1") { "libsecp256k1" } else { "k256" };

/// Bytes of a recoverable signature: `r || s || recovery id`.
pub const SIGNATURE_LEN: usize = 65;

/// Why a signature or a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CryptoError {
    /// `r` or `s` is zero or not below the order of the group, or the recovery id is above 3.
    #[error("the signature is not a signature: r, s or the recovery id is out of range")]
    SignatureRange,
    /// The signature belongs to no public key.
    #[error("no public key can be recovered from the signature")]
    NoPublicKey,
    /// A private key has to be a number from 1 to the order of the group less one.
    #[error("not a secp256k1 private key: the number is zero or not below the order of the group")]
    SecretRange,
}

/// keccak256, as Ethereum uses it (not the SHA-3 that NIST made of it).
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// A secp256k1 private key.
#[derive(Clone)]
pub struct SecretKey(backend::Signer);

impl SecretKey {
    /// A new key from `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            // Fails for about one number in 2^128.
            if let Ok(key) = Self::from_bytes(&bytes) {
                return key;
            }
        }
    }

    /// The key whose scalar is `bytes`, big-endian.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        backend::Signer::from_bytes(bytes).map(Self)
    }

    /// The scalar, big-endian.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key: 64 bytes, `x || y`.
    pub fn public_key(&self) -> [u8; 64] {
        self.0.public_key()
    }

    /// Signs a 32-byte hash, deterministically (RFC 6979), with a low `s`.
    pub fn sign_recoverable(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(hash)
    }
}

/// The order of the group (SEC 2, section 2.4.1), big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// Checks all that can be checked without arithmetic on the curve: the ranges of `r`, `s` and the recovery id.
pub fn check_signature_range(signature: &[u8; SIGNATURE_LEN]) -> Result<(), CryptoError> {
    let is_scalar = |bytes: &[u8]| bytes < &ORDER[..] && bytes.iter().any(|byte| *byte != 0);
    if is_scalar(&signature[..32]) && is_scalar(&signature[32..64]) && signature[64] < 4 {
        Ok(())
    } else {
        Err(CryptoError::SignatureRange)
    }
}

/// The public key that made `signature` over `hash`. Takes a high `s` as well.
pub fn recover(hash: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> Result<[u8; 64], CryptoError> {
    check_signature_range(signature)?;
    backend::recover(hash, signature).ok_or(CryptoError::NoPublicKey)
}

/// Whether `signature` (64 bytes, `r || s`) over `hash` was made by `public_key`. Takes a high `s` as well.
pub fn verify(public_key: &[u8; 64], hash: &[u8; 32], signature: &[u8]) -> bool {
    let Ok(signature) = <&[u8; 64]>::try_from(signature) else { return false };
    let mut key = [4; 65];
    key[1..].copy_from_slice(public_key);
    backend::verify(&key, hash, signature)
}

/// The 64-byte form of a compressed public key (33 bytes).
pub fn decompress(compressed: &[u8]) -> Option<[u8; 64]> {
    let compressed: &[u8; 33] = compressed.try_into().ok()?;
    // SEC 1 knows other tags, and the backends know different ones of them.
    if matches!(compressed[0], 2 | 3) { backend::decompress(compressed) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keccak_of_nothing() {
        assert_eq!(hex::encode(keccak256(b"")), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    }

    #[test]
    fn what_is_signed_is_recovered() {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        let hash = keccak256(b"message");
        let signature = key.sign_recoverable(&hash);
        assert_eq!(recover(&hash, &signature), Ok(key.public_key()));
        assert!(verify(&key.public_key(), &hash, &signature[..64]));
        assert!(!verify(&key.public_key(), &keccak256(b"other"), &signature[..64]));
        assert_eq!(signature, key.sign_recoverable(&hash), "signing is deterministic");
    }

    #[test]
    fn high_s_is_accepted() {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        let hash = keccak256(b"message");
        let mut signature = key.sign_recoverable(&hash);
        // s' = n - s, with the parity of R flipped, is the same signature.
        let n = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
        let mut borrow = 0i16;
        for i in (0..32).rev() {
            let d = i16::from(n[i]) - i16::from(signature[32 + i]) - borrow;
            borrow = i16::from(d < 0);
            signature[32 + i] = d.rem_euclid(256) as u8;
        }
        signature[64] ^= 1;
        assert_eq!(recover(&hash, &signature), Ok(key.public_key()));
    }

    #[test]
    fn out_of_range_is_refused_before_any_curve_work() {
        let hash = keccak256(b"message");
        let good = SecretKey::from_bytes(&[7; 32]).unwrap().sign_recoverable(&hash);
        for (range, value) in [(0..32, [0; 32]), (0..32, ORDER), (32..64, [0; 32]), (32..64, ORDER)] {
            let mut signature = good;
            signature[range].copy_from_slice(&value);
            assert_eq!(recover(&hash, &signature), Err(CryptoError::SignatureRange));
        }
        let mut signature = good;
        signature[64] = 4;
        assert_eq!(recover(&hash, &signature), Err(CryptoError::SignatureRange));
        assert_eq!(recover(&hash, &[0xff; 65]), Err(CryptoError::SignatureRange));
        // The last number below the order is in range, and no such curve point exists.
        let mut signature = good;
        signature[..32].copy_from_slice(&ORDER);
        signature[31] -= 1;
        assert_eq!(check_signature_range(&signature), Ok(()));
        for bytes in [[0; 32], ORDER, [0xff; 32]] {
            assert_eq!(SecretKey::from_bytes(&bytes).err(), Some(CryptoError::SecretRange));
        }
    }

    /// RFC 6979 with SHA-256 over secp256k1, as Bitcoin's clients test it: key 1, "Satoshi Nakamoto".
    #[test]
    fn a_published_vector() {
        let mut one = [0; 32];
        one[31] = 1;
        let hash = hex::decode("a0dc65ffca799873cbea0ac274015b9526505daaaed385155425f7337704883e").unwrap();
        let signature = SecretKey::from_bytes(&one).unwrap().sign_recoverable(&hash.try_into().unwrap());
        assert_eq!(
            hex::encode(&signature[..64]),
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
             2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
        );
    }
}

/// Both backends side by side.
#[cfg(all(test, feature = "libsecp256k1"))]
mod agreement {
    use proptest::prelude::*;

    use super::{ORDER, SIGNATURE_LEN, check_signature_range, libsecp256k1, pure};

    /// What both say of a signature, which has to be the same.
    fn recovered(hash: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> Option<[u8; 64]> {
        let (one, other) = (libsecp256k1::recover(hash, signature), pure::recover(hash, signature));
        assert_eq!(one, other, "hash {hash:02x?}, signature {signature:02x?}");
        one
    }

    /// A number near an end of the range, or any.
    fn scalar() -> impl Strategy<Value = [u8; 32]> {
        let near = |base: [u8; 32]| {
            (-3i16..=3).prop_map(move |by| {
                let mut bytes = base;
                // No carry: the last bytes of the bases are far enough from the ends, or wrap to the other end.
                bytes[31] = (i16::from(base[31]) + by).rem_euclid(256) as u8;
                bytes
            })
        };
        let mut half = ORDER;
        for i in (0..32).rev() {
            half[i] = (half[i] >> 1) | if i > 0 { ORDER[i - 1] << 7 } else { 0 };
        }
        prop_oneof![near([0; 32]), near(ORDER), near(half), any::<[u8; 32]>(), any::<[u8; 32]>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn keys_and_signatures_are_the_same(secret in scalar(), hash in any::<[u8; 32]>()) {
            let (one, other) = (libsecp256k1::Signer::from_bytes(&secret), pure::Signer::from_bytes(&secret));
            prop_assert_eq!(one.is_ok(), other.is_ok());
            let (Ok(one), Ok(other)) = (one, other) else { return Ok(()) };
            prop_assert_eq!(one.public_key(), other.public_key());
            prop_assert_eq!(one.to_bytes(), other.to_bytes());
            let mut signature = one.sign(&hash);
            prop_assert_eq!(signature, other.sign(&hash));
            prop_assert_eq!(recovered(&hash, &signature), Some(one.public_key()));
            // The other three keys that it could be by, and what is no recovery id at all.
            for id in 0..=255 {
                signature[64] = id;
                recovered(&hash, &signature);
            }
        }

        #[test]
        fn any_signature_is_taken_or_refused_by_both(
            hash in any::<[u8; 32]>(), r in scalar(), s in scalar(), id in 0u8..6,
        ) {
            let mut signature = [0; SIGNATURE_LEN];
            signature[..32].copy_from_slice(&r);
            signature[32..64].copy_from_slice(&s);
            signature[64] = id;
            let key = recovered(&hash, &signature);
            if check_signature_range(&signature).is_err() {
                prop_assert_eq!(key, None);
            }
            let Some(key) = key else { return Ok(()) };
            let mut tagged = [4; 65];
            tagged[1..].copy_from_slice(&key);
            let signature = signature[..64].try_into().unwrap();
            for hash in [hash, [0; 32]] {
                let both = (libsecp256k1::verify(&tagged, &hash, signature), pure::verify(&tagged, &hash, signature));
                prop_assert_eq!(both.0, both.1);
            }
            prop_assert!(pure::verify(&tagged, &hash, signature));
        }

        #[test]
        fn public_keys_are_read_alike(tag in 1u8..6, x in scalar(), y in any::<[u8; 32]>()) {
            let mut compressed = [tag; 33];
            compressed[1..].copy_from_slice(&x);
            let key = super::decompress(&compressed);
            if matches!(tag, 2 | 3) {
                prop_assert_eq!(key, pure::decompress(&compressed));
                prop_assert_eq!(key, libsecp256k1::decompress(&compressed));
            } else {
                prop_assert_eq!(key, None);
            }
            // A point that is not on the curve verifies nothing, and stops nobody.
            let mut tagged = [4; 65];
            tagged[1..33].copy_from_slice(&x);
            tagged[33..].copy_from_slice(&y);
            prop_assert!(!pure::verify(&tagged, &[1; 32], &[1; 64]) && !libsecp256k1::verify(&tagged, &[1; 32], &[1; 64]));
        }
    }

    /// With a recovery id of 2 or 3 the x coordinate of R is `r` plus the order, which has to be below the field's prime:
    /// almost no `r` is small enough.
    #[test]
    fn recovery_ids_above_1() {
        let mut found = 0;
        for low in 1..=40 {
            for id in 0..4 {
                let mut signature = [0; SIGNATURE_LEN];
                (signature[31], signature[63], signature[64]) = (low, 1, id);
                found += u32::from(id > 1 && recovered(&[9; 32], &signature).is_some());
                signature[0] = 0x80;
                assert!(id < 2 || recovered(&[9; 32], &signature).is_none());
            }
        }
        assert!(found > 10, "{found}");
    }

    #[test]
    fn the_point_at_infinity_is_no_key() {
        // R = k G with k = 1, s = k^-1 (z + r d) with d = 0: the key would be zero times G.
        let g = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let mut signature = [0; SIGNATURE_LEN];
        signature[..32].copy_from_slice(&hex::decode(g).unwrap());
        signature[32..64].copy_from_slice(&[5; 32]);
        assert_eq!(recovered(&[5; 32], &signature), None);
        signature[63] = 4;
        assert!(recovered(&[5; 32], &signature).is_some());
    }
}
