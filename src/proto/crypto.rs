//! keccak256, and recoverable ECDSA over secp256k1: the only place that names the signature library.

use k256::ecdsa::signature::hazmat::PrehashVerifier;
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
use rand::CryptoRng;
use sha3::{Digest, Keccak256};
use thiserror::Error;

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

/// A secp256k1 private key with its public key at hand.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

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
        SigningKey::from_slice(bytes).map(Self).map_err(|_| CryptoError::SecretRange)
    }

    /// The scalar, big-endian.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    /// The public key: 64 bytes, `x || y`.
    pub fn public_key(&self) -> [u8; 64] {
        uncompressed(self.0.verifying_key())
    }

    /// Signs a 32-byte hash, deterministically (RFC 6979), with a low `s`.
    pub fn sign_recoverable(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        let (signature, recovery_id) = self.0.sign_prehash_recoverable(hash);
        let mut bytes = [0; SIGNATURE_LEN];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = recovery_id.to_byte();
        bytes
    }
}

/// Checks all that can be checked without arithmetic on the curve: the ranges of `r`, `s` and the recovery id.
pub fn check_signature_range(signature: &[u8; SIGNATURE_LEN]) -> Result<(), CryptoError> {
    parse(signature).map(|_| ())
}

/// The public key that made `signature` over `hash`. Takes a high `s` as well, as libsecp256k1 does.
pub fn recover(hash: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> Result<[u8; 64], CryptoError> {
    let (signature, recovery_id) = parse(signature)?;
    VerifyingKey::recover_from_prehash(hash, &signature, recovery_id)
        .map(|key| uncompressed(&key))
        .map_err(|_| CryptoError::NoPublicKey)
}

/// Whether `signature` (64 bytes, `r || s`) over `hash` was made by `public_key`.
pub fn verify(public_key: &[u8; 64], hash: &[u8; 32], signature: &[u8]) -> bool {
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    let mut bytes = [4; 65];
    bytes[1..].copy_from_slice(public_key);
    VerifyingKey::from_sec1_bytes(&bytes).is_ok_and(|key| key.verify_prehash(hash, &signature).is_ok())
}

/// The 64-byte form of a compressed public key (33 bytes).
pub fn decompress(compressed: &[u8]) -> Option<[u8; 64]> {
    if compressed.len() != 33 {
        return None;
    }
    VerifyingKey::from_sec1_bytes(compressed).ok().map(|key| uncompressed(&key))
}

fn parse(bytes: &[u8; SIGNATURE_LEN]) -> Result<(Signature, RecoveryId), CryptoError> {
    let signature = Signature::from_slice(&bytes[..64]).map_err(|_| CryptoError::SignatureRange)?;
    let recovery_id = RecoveryId::from_byte(bytes[64]).ok_or(CryptoError::SignatureRange)?;
    Ok((signature, recovery_id))
}

fn uncompressed(key: &VerifyingKey) -> [u8; 64] {
    let point = key.to_sec1_point(false);
    let mut bytes = [0; 64];
    // An uncompressed point is a tag byte and the two coordinates.
    bytes.copy_from_slice(&point.as_bytes()[1..]);
    bytes
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
        assert_eq!(recover(&hash, &[0; 65]), Err(CryptoError::SignatureRange));
        assert_eq!(recover(&hash, &[0xff; 65]), Err(CryptoError::SignatureRange));
        let mut signature = SecretKey::from_bytes(&[7; 32]).unwrap().sign_recoverable(&hash);
        signature[64] = 4;
        assert_eq!(recover(&hash, &signature), Err(CryptoError::SignatureRange));
        assert_eq!(SecretKey::from_bytes(&[0; 32]).err(), Some(CryptoError::SecretRange));
        assert_eq!(SecretKey::from_bytes(&[0xff; 32]).err(), Some(CryptoError::SecretRange));
    }
}
