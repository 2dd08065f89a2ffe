//! The data directory and its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::files;
use super::{KeyFileError, LastRecord, StoredKey, key, record};
use crate::proto::identity::{PublicKey, Record};

/// Why the data directory cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It is not there and cannot be made.
    #[error("cannot create the data directory {}: {source}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No file can be made in it.
    #[error("cannot write in the data directory {}: {source}", path.display())]
    Write {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("the data directory {} is in use by another kadnode", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refuses locks.
    #[error("cannot lock the data directory {}: {source}", path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// A data directory that no other process uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock goes when the file is closed, also when the process is killed. The file itself stays: if it were
    /// deleted, a process that has just opened it would lock a file that no other one sees.
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "it is held"))]
    lock: Arc<File>,
}

impl DataDir {
    /// Opens the directory, makes it (mode 0700) when it is not there, and locks it.
    ///
    /// # Errors
    /// When it cannot be made or written, or is in use.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create(path).map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        files::private(&mut options);
        let lock =
            options.open(path.join("LOCK")).map_err(|source| StoreError::Write { path: path.to_owned(), source })?;
        match lock.try_lock() {
            Ok(()) => {
                // A key file that was being made would else stay there twice.
                for name in [key::NAME, record::NAME] {
                    files::sweep(path, name).map_err(|source| StoreError::Write { path: path.to_owned(), source })?;
                }
                Ok(Self { path: path.to_owned(), lock: Arc::new(lock) })
            }
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(StoreError::Lock { path: path.to_owned(), source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, for what outlives this handle and writes in the directory.
    #[cfg(feature = "store")]
    pub(super) fn lock(&self) -> Arc<File> {
        self.lock.clone()
    }

    /// The node's key: read from `node.key`, or made and written there when there is no such file.
    ///
    /// # Errors
    /// When the file is there and holds no key, or cannot be read or written. It is never overwritten.
    pub fn node_key(&self) -> Result<StoredKey, KeyFileError> {
        key::load_or_create(&self.path)
    }

    /// The record of the former run, from `record.enr`.
    ///
    /// A file that cannot be used, or holds the record of another key than `owner`, is set aside under another name,
    /// and the result says so.
    pub fn last_record(&self, owner: &PublicKey) -> LastRecord {
        record::load(&self.path, owner)
    }

    /// Keeps a record for the next run, replacing the former one; when this returns, it outlasts a loss of power.
    ///
    /// # Errors
    /// When it cannot be written; then the former one is still there.
    pub fn save_record(&self, record: &Record) -> io::Result<()> {
        record::save(&self.path, record)
    }
}

fn create(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(first.path(), path);
        let error = DataDir::open(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("the data directory {} is in use by another kadnode", path.display()));
        drop(first);
        for left in ["node.key.tmp", "record.enr.tmp"] {
            fs::write(path.join(left), "left by a crash").unwrap();
        }
        DataDir::open(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "only the lock is there");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(&path.join("LOCK"))), (0o700, 0o600));
        }
    }

    #[test]
    fn a_directory_without_room_for_a_lock_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("LOCK")).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot write in the data directory {}: ", dir.path().display())),
            "{error}"
        );
    }

    #[test]
    fn a_file_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(DataDir::open(&path), Err(StoreError::Create { .. })));
        assert!(matches!(DataDir::open(&path.join("below")), Err(StoreError::Create { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
