//! The portable backend and the reference: `k256`, in pure Rust.

use k256::ecdsa::signature::hazmat::PrehashVerifier;
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

use super::{CryptoError, SIGNATURE_LEN};

#[derive(Clone)]
pub(super) struct Signer(SigningKey);

impl Signer {
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        SigningKey::from_slice(bytes).map(Self).map_err(|_| CryptoError::SecretRange)
    }

    pub(super) fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    pub(super) fn public_key(&self) -> [u8; 64] {
        uncompressed(self.0.verifying_key())
    }

    pub(super) fn sign(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        let (signature, recovery_id) = self.0.sign_prehash_recoverable(hash);
        let mut bytes = [0; SIGNATURE_LEN];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = recovery_id.to_byte();
        bytes
    }
}

/// The signature's ranges have been checked.
pub(super) fn recover(hash: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> Option<[u8; 64]> {
    let recovery_id = RecoveryId::from_byte(signature[64])?;
    let signature = Signature::from_slice(&signature[..64]).ok()?;
    VerifyingKey::recover_from_prehash(hash, &signature, recovery_id).ok().map(|key| uncompressed(&key))
}

/// The key begins with the byte that names its form (SEC 1).
pub(super) fn verify(key: &[u8; 65], hash: &[u8; 32], signature: &[u8; 64]) -> bool {
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    // It verifies a low `s` only.
    let signature = signature.normalize_s();
    VerifyingKey::from_sec1_bytes(key).is_ok_and(|key| key.verify_prehash(hash, &signature).is_ok())
}

pub(super) fn decompress(compressed: &[u8; 33]) -> Option<[u8; 64]> {
    VerifyingKey::from_sec1_bytes(compressed).ok().map(|key| uncompressed(&key))
}

fn uncompressed(key: &VerifyingKey) -> [u8; 64] {
    let point = key.to_sec1_point(false);
    let mut bytes = [0; 64];
    // An uncompressed point is a tag byte and the two coordinates.
    bytes.copy_from_slice(&point.as_bytes()[1..]);
    bytes
}
