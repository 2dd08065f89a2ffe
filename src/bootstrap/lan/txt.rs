//! A node record in the TXT strings of a DNS-SD service.

use thiserror::Error;

use crate::proto::identity::{Record, RecordError};

/// The keys that the text of a record is spread over, in this order. RFC 6763, section 6.4, advises at most nine
/// characters.
const KEYS: [&str; 2] = ["enr", "enr2"];

/// The key that tells the version of these rules, and stands first (RFC 6763, section 6.7).
const VERSION: (&str, &str) = ("txtvers", "1");

/// Characters under one key. A TXT string holds 255 bytes, the longest key and its `=` take 5 of them, and the longest
/// record, 404 characters, goes into two.
const PART: usize = 250;

/// Why the TXT strings of a service hold no node record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TxtError {
    /// Written by rules that are newer than this program.
    #[error("its TXT record is of another version than {}", VERSION.1)]
    Version,
    /// The first key is not there or is empty.
    #[error("its TXT record has no node record under the key {}", KEYS[0])]
    Missing,
    /// A string that no record has in it.
    #[error("the node record in its TXT record is not text")]
    NotText,
    /// A record with a mistake, or cut off, or with another signature than its own.
    #[error("its TXT record: {0}")]
    Record(#[from] RecordError),
}

/// The pairs that carry `record`.
pub(crate) fn split(record: &Record) -> Vec<(&'static str, String)> {
    let text = record.to_string();
    // Base64 is ASCII, so that parts of bytes are parts of characters.
    let parts = text.as_bytes().chunks(PART).map(|part| String::from_utf8_lossy(part).into_owned());
    std::iter::once((VERSION.0, VERSION.1.to_owned())).chain(KEYS.into_iter().zip(parts)).collect()
}

/// Reads the record back from the values of keys, and checks its signature.
pub(crate) fn join<'a>(value: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Record, TxtError> {
    if value(VERSION.0).is_some_and(|version| version != VERSION.1.as_bytes()) {
        return Err(TxtError::Version);
    }
    let first = value(KEYS[0]).filter(|part| !part.is_empty()).ok_or(TxtError::Missing)?;
    // A TXT string, and so each part, has at most 255 bytes.
    let text = [first, value(KEYS[1]).unwrap_or_default()].concat();
    Ok(std::str::from_utf8(&text).map_err(|_| TxtError::NotText)?.parse::<Record>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{MAX_RECORD_LEN, NodeKey, RecordContent};

    fn record(key: u8, padding: usize) -> Result<Record, RecordError> {
        let mut content = RecordContent { v4: Some(([10, 0, 0, key].into(), 5, 0)), ..Default::default() };
        if padding > 0 {
            content.extra.insert(b"x".to_vec(), rlp::encode(&vec![key; padding]).to_vec());
        }
        Record::sign(&NodeKey::from_bytes(&[key; 32]).unwrap(), 1, &content)
    }

    fn read(pairs: &[(&str, String)]) -> Result<Record, TxtError> {
        join(|key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_bytes()))
    }

    /// The longest record there can be.
    fn longest(key: u8) -> Record {
        let record = (0..MAX_RECORD_LEN).map_while(|padding| record(key, padding).ok()).last().unwrap();
        assert_eq!(record.as_bytes().len(), MAX_RECORD_LEN);
        record
    }

    #[test]
    fn a_record_of_any_length_comes_back() {
        let short = split(&record(7, 0).unwrap());
        assert_eq!(short.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["txtvers", "enr"]);
        assert!(short[1].1.starts_with("enr:"), "a person can copy it");
        assert_eq!(read(&short), record(7, 0).map_err(TxtError::Record));

        let long = split(&longest(7));
        assert_eq!(long.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["txtvers", "enr", "enr2"]);
        assert_eq!(long.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), [1, 250, 154]);
        assert!(long.iter().all(|(key, value)| key.len() + 1 + value.len() <= 255));
        assert_eq!(read(&long), Ok(longest(7)));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let long = split(&longest(7));
        assert_eq!(read(&[]), Err(TxtError::Missing));
        assert_eq!(read(&[("enr", String::new())]), Err(TxtError::Missing));
        assert_eq!(read(&long[2..]), Err(TxtError::Missing));
        assert!(matches!(read(&long[..2]), Err(TxtError::Record(RecordError::Base64 | RecordError::Encoding))));
        assert_eq!(read(&long[1..]), Ok(longest(7)), "without a version it is the first");
        assert_eq!(read(&[("txtvers", "2".to_owned()), long[1].clone(), long[2].clone()]), Err(TxtError::Version));
        assert_eq!(join(|key| (key == "enr").then_some(b"enr:\xff\xfe")), Err(TxtError::NotText));
        assert_eq!(read(&[("enr", "hello".to_owned())]), Err(TxtError::Record(RecordError::Prefix)));

        let twice = [("enr", long[1].1.clone()), ("enr2", format!("{}{}", long[2].1, "A".repeat(96)))];
        assert_eq!(read(&twice), Err(TxtError::Record(RecordError::TooLong(372))));
    }

    #[test]
    fn parts_of_two_records_make_none() {
        let (one, other) = (split(&longest(7)), split(&longest(8)));
        let mixed = [one[1].clone(), other[2].clone()];
        assert_eq!(read(&mixed), Err(TxtError::Record(RecordError::Signature)));
    }
}
