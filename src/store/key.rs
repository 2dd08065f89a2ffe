//! The key file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rand::TryRng;
use thiserror::Error;

use super::files;
use crate::proto::identity::NodeKey;

pub(super) const NAME: &str = "node.key";

/// A key file is 65 bytes; what is longer than this is not read to its end.
const MAX_LEN: u64 = 1024;

/// The node's key, and how it came here.
#[derive(Debug)]
pub struct StoredKey {
    /// The key.
    pub key: NodeKey,
    /// It was made just now.
    pub created: bool,
    /// Something that the owner should know.
    pub warning: Option<KeyWarning>,
}

/// Something that is wrong with a key file and does not keep the node from running.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyWarning {
    /// Others may read the private key.
    #[error(
        "others can read the key file {} (its mode is {mode:04o}), and whoever has the key can pose as this node: \
         chmod 600 it",
        path.display()
    )]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Why there is no key. No message shows what the file holds.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The system does not let us read it.
    #[error("cannot read the key file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing in it.
    #[error("the key file {} is empty; restore it from a backup, or move it away to have a new key made", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Fewer or more characters than a key has.
    #[error("the key file {} holds {len} characters, and a key is 64 hex digits; it is left as it is", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Characters in it, the line end aside.
        len: usize,
    },
    /// Something other than hex digits.
    #[error("the key file {} holds a character that is no hex digit; it is left as it is", path.display())]
    NotHex {
        /// The file.
        path: PathBuf,
    },
    /// Zero, or not below the order of the group.
    #[error("the key file {} holds a number that is no secp256k1 private key; it is left as it is", path.display())]
    NotScalar {
        /// The file.
        path: PathBuf,
    },
    /// A new key could not be written.
    #[error("cannot write the key file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a new key: {0}")]
    Entropy(String),
}

/// A new key from the system's entropy.
///
/// # Errors
/// [`KeyFileError::Entropy`] when the system has none.
pub fn fresh_key() -> Result<NodeKey, KeyFileError> {
    loop {
        let mut bytes = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|error| KeyFileError::Entropy(error.to_string()))?;
        // One number in 2^128 is no key.
        if let Ok(key) = NodeKey::from_bytes(&bytes) {
            return Ok(key);
        }
    }
}

pub(super) fn load_or_create(dir: &Path) -> Result<StoredKey, KeyFileError> {
    let path = dir.join(NAME);
    match File::open(&path) {
        Ok(file) => load(file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = fresh_key()?;
            let content = format!("{}\n", hex::encode(key.to_bytes()));
            // A dangling symbolic link looks absent to `open`; `write_new` refuses to replace it.
            files::write_new(dir, NAME, content.as_bytes()).map_err(|source| KeyFileError::Write { path, source })?;
            Ok(StoredKey { key, created: true, warning: None })
        }
        Err(source) => Err(KeyFileError::Read { path, source }),
    }
}

fn load(file: File, path: PathBuf) -> Result<StoredKey, KeyFileError> {
    let mut content = Vec::new();
    let warning = check_mode(&file, &path);
    if let Err(source) = file.take(MAX_LEN).read_to_end(&mut content) {
        return Err(KeyFileError::Read { path, source });
    }
    let digits = content.trim_ascii_end();
    if digits.is_empty() {
        return Err(KeyFileError::Empty { path });
    }
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(KeyFileError::NotHex { path });
    }
    let mut bytes = [0; 32];
    if hex::decode_to_slice(digits, &mut bytes).is_err() {
        return Err(KeyFileError::Length { path, len: digits.len() });
    }
    match NodeKey::from_bytes(&bytes) {
        Ok(key) => Ok(StoredKey { key, created: false, warning }),
        Err(_) => Err(KeyFileError::NotScalar { path }),
    }
}

#[cfg(unix)]
fn check_mode(file: &File, path: &Path) -> Option<KeyWarning> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| KeyWarning::ReadableByOthers { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn check_mode(_: &File, _: &Path) -> Option<KeyWarning> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let second = load_or_create(dir.path()).unwrap();
        assert!(first.created && !second.created);
        assert_eq!(first.key.id(), second.key.id());
        assert_eq!((first.warning, second.warning), (None, None));
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!((text.len(), text.ends_with('\n')), (65, true));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(NAME);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let third = load_or_create(dir.path()).unwrap();
            assert_eq!(third.warning, Some(KeyWarning::ReadableByOthers { path, mode: 0o640 }));
        }
    }

    #[test]
    fn a_bad_file_is_named_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for (content, expected) in [
            (String::new(), "is empty"),
            ("\n".into(), "is empty"),
            ("ab".repeat(31), "holds 62 characters"),
            ("ab".repeat(31) + "a", "holds 63 characters"),
            ("ab".repeat(33), "holds 66 characters"),
            ("xy".repeat(32), "no hex digit"),
            (format!("0x{}", "ab".repeat(31)), "no hex digit"),
            ("00".repeat(32), "no secp256k1 private key"),
            (order.into(), "no secp256k1 private key"),
        ] {
            fs::write(&path, &content).unwrap();
            let error = load_or_create(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("node.key"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::write(&path, "ab".repeat(32) + "\r\n").unwrap();
        load_or_create(dir.path()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_dangling_link_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join(NAME)).unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(KeyFileError::Write { .. })));
        assert!(dir.path().join(NAME).is_symlink());
    }
}
