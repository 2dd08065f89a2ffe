//! The fast backend: libsecp256k1, in C, by its safe bindings.
//!
//! A context that has been randomised once hides the secret from whoever measures time or power. The bindings from 0.32
//! on do it anew for each signature, which doubles the cost of signing.

use std::fmt;
use std::sync::{Arc, LazyLock};

use secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey, SignOnly, VerifyOnly};

use super::{CryptoError, SIGNATURE_LEN, keccak256};

/// What recovering and verifying need. It holds no secret and never changes.
static PUBLIC: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// A key with the context that it signs with.
#[derive(Clone)]
pub(super) struct Signer(Arc<Inner>);

struct Inner {
    context: Secp256k1<SignOnly>,
    secret: SecretKey,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inner")
    }
}

impl Signer {
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        let secret = SecretKey::from_byte_array(*bytes).map_err(|_| CryptoError::SecretRange)?;
        let mut context = Secp256k1::signing_only();
        // Nobody can tell this seed who does not have the key, and it draws nothing from the system.
        context.seeded_randomize(&keccak256(&[&bytes[..], b"kadnode: blinding"].concat()));
        Ok(Self(Arc::new(Inner { context, secret })))
    }

    pub(super) fn to_bytes(&self) -> [u8; 32] {
        self.0.secret.secret_bytes()
    }

    pub(super) fn public_key(&self) -> [u8; 64] {
        uncompressed(&PublicKey::from_secret_key(&self.0.context, &self.0.secret))
    }

    pub(super) fn sign(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        let signature = self.0.context.sign_ecdsa_recoverable(Message::from_digest(*hash), &self.0.secret);
        let (recovery_id, compact) = signature.serialize_compact();
        let mut bytes = [0; SIGNATURE_LEN];
        bytes[..64].copy_from_slice(&compact);
        // It is 0 to 3.
        bytes[64] = i32::from(recovery_id) as u8;
        bytes
    }
}

/// The signature's ranges have been checked.
pub(super) fn recover(hash: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> Option<[u8; 64]> {
    let recovery_id = RecoveryId::try_from(i32::from(signature[64])).ok()?;
    let signature = RecoverableSignature::from_compact(&signature[..64], recovery_id).ok()?;
    PUBLIC.recover_ecdsa(Message::from_digest(*hash), &signature).ok().map(|key| uncompressed(&key))
}

/// The key begins with the byte that names its form (SEC 1).
pub(super) fn verify(key: &[u8; 65], hash: &[u8; 32], signature: &[u8; 64]) -> bool {
    let (Ok(key), Ok(mut signature)) = (PublicKey::from_slice(key), Signature::from_compact(signature)) else {
        return false;
    };
    // It verifies a low `s` only.
    signature.normalize_s();
    PUBLIC.verify_ecdsa(Message::from_digest(*hash), &signature, &key).is_ok()
}

pub(super) fn decompress(compressed: &[u8; 33]) -> Option<[u8; 64]> {
    PublicKey::from_slice(compressed).ok().map(|key| uncompressed(&key))
}

fn uncompressed(key: &PublicKey) -> [u8; 64] {
    let mut bytes = [0; 64];
    // A tag byte and the two coordinates.
    bytes.copy_from_slice(&key.serialize_uncompressed()[1..]);
    bytes
}
