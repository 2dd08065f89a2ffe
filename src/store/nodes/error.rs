//! What can be wrong with `nodes.db`, a sentence each.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the memory of nodes cannot be used, now or at all. The file is never deleted, and never written when it is not
/// our own.
#[derive(Debug, Error)]
pub enum NodeDbError {
    /// A later version of kadnode made it.
    #[error(
        "{} was written by a newer kadnode (its version is {version}, and this program knows {known}); it is left as it \
         is: update kadnode, or move the file away to have a new one made",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// It is the database of another program.
    #[error("{} is a database of another program; it is left as it is: move it away to have a new one made", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was damaged and has another name now. The memory can be used, and is empty.
    #[error("{} is damaged ({why}); it is kept as {}, and a new one is begun", path.display(), aside.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Its name now.
        aside: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is damaged and cannot be renamed.
    #[error("{} is damaged ({why}) and cannot be set aside: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is no room for it.
    #[error("{} cannot be written: the disk, or the room that the file may take, is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another program, such as `sqlite3`, has it locked.
    #[error("{} cannot be used: another program has locked it", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It can be read and not be written.
    #[error("{} cannot be written: the file, or its directory, is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened, read or written.
    #[error("{} cannot be used: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What is wrong, before anything has been done about it.
#[derive(Debug)]
pub(super) enum Problem {
    Foreign,
    Newer(i32),
    Damaged(String),
    Io(io::Error),
    Sql(rusqlite::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // What has no code is a value of another type than it has to be.
            None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Sql(error),
        }
    }
}

impl Problem {
    /// The sentence for a problem that nothing can be done about.
    pub(super) fn at(self, path: &Path, known: i32) -> NodeDbError {
        let path = path.to_owned();
        match self {
            Self::Foreign => NodeDbError::Foreign { path },
            Self::Newer(version) => NodeDbError::Newer { path, version, known },
            Self::Damaged(why) => NodeDbError::Unusable { path, why },
            Self::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => NodeDbError::Full { path },
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => NodeDbError::ReadOnly { path },
                _ => NodeDbError::Unusable { path, why: error.to_string() },
            },
            Self::Sql(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => NodeDbError::Full { path },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => NodeDbError::Busy { path },
                Some(ErrorCode::ReadOnly) => NodeDbError::ReadOnly { path },
                _ => NodeDbError::Unusable { path, why: error.to_string() },
            },
        }
    }
}
