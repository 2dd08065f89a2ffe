//! The record of the former run: it says which sequence number was used last.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use thiserror::Error;

use super::files;
use crate::proto::identity::{PublicKey, Record, RecordError};

pub(super) const NAME: &str = "record.enr";

/// A record has at most 404 characters; what is longer than this is not read to its end.
const MAX_LEN: u64 = 4096;

/// What is known of the former run.
#[derive(Debug, Default)]
pub struct LastRecord {
    /// Its last record.
    pub record: Option<Record>,
    /// Why there is none although there is a file.
    pub warning: Option<RecordWarning>,
}

/// Why the file with the last record was not used.
#[derive(Debug, Error)]
pub enum RecordWarning {
    /// It holds something else, and was given another name.
    #[error("{} held no record of this node ({why}); it is kept as {}, and the record's sequence starts anew", path.display(), aside.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Its name now.
        aside: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be read, or not be renamed.
    #[error("cannot read or set aside {}: {source}; the record's sequence starts anew", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The sequence number of a first record: the Unix time in milliseconds, as in geth. A node that has lost what it knew
/// of former runs thus begins above all that it used then.
#[expect(clippy::disallowed_methods, reason = "the sequence has to rise from run to run when nothing was kept")]
pub fn fresh_seq() -> u64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A clock before 1970 gives 0; sequences begin at 1.
    u64::try_from(since.as_millis()).unwrap_or(1).max(1)
}

pub(super) fn load(dir: &Path, owner: &PublicKey) -> LastRecord {
    let path = dir.join(NAME);
    let mut content = Vec::new();
    match File::open(&path).and_then(|file| file.take(MAX_LEN).read_to_end(&mut content)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return LastRecord::default(),
        Err(source) => return LastRecord { record: None, warning: Some(RecordWarning::Unusable { path, source }) },
    }
    let why = match parse(&content) {
        Ok(record) if record.public_key() == owner => return LastRecord { record: Some(record), warning: None },
        Ok(_) => "it is signed with another key".to_owned(),
        Err(error) => error.to_string(),
    };
    let warning = match files::set_aside(dir, NAME) {
        Ok(aside) => RecordWarning::SetAside { path, aside, why },
        Err(source) => RecordWarning::Unusable { path, source },
    };
    LastRecord { record: None, warning: Some(warning) }
}

pub(super) fn save(dir: &Path, record: &Record) -> io::Result<()> {
    files::replace(dir, NAME, format!("{record}\n").as_bytes())
}

fn parse(content: &[u8]) -> Result<Record, RecordError> {
    let text = std::str::from_utf8(content).map_err(|_| RecordError::Prefix)?;
    text.trim_end().parse()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::proto::identity::{NodeKey, RecordContent};

    fn record(key: &NodeKey, seq: u64) -> Record {
        Record::sign(key, seq, &RecordContent::default()).unwrap()
    }

    #[test]
    fn a_record_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        assert!(load(dir.path(), key.public_key()).record.is_none());
        for seq in [5, 6] {
            save(dir.path(), &record(&key, seq)).unwrap();
            let last = load(dir.path(), key.public_key());
            assert_eq!(last.record, Some(record(&key, seq)));
            assert!(last.warning.is_none());
        }
    }

    #[test]
    fn what_cannot_be_used_is_set_aside_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let other = record(&NodeKey::from_bytes(&[8; 32]).unwrap(), 1).to_string();
        let path = dir.path().join(NAME);
        for (number, content) in ["", "enr:", "\u{0}\u{0}", &other].into_iter().enumerate() {
            fs::write(&path, content).unwrap();
            let last = load(dir.path(), key.public_key());
            assert!(last.record.is_none());
            let Some(RecordWarning::SetAside { aside, .. }) = last.warning else { panic!("no warning") };
            assert_eq!(aside, dir.path().join(format!("record.enr.bad-{}", number + 1)));
            assert_eq!(fs::read_to_string(aside).unwrap(), content);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_first_sequence_number_is_a_time() {
        // 2020-09-13 and the year 2286, in milliseconds.
        assert!((1_600_000_000_000..10_000_000_000_000).contains(&fresh_seq()));
    }
}
