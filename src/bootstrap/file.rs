//! Files of contacts: one a line, `#` comments, blank lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Bootnode, BootnodeError};

/// Longest file that is read, in bytes: 1 MiB. Whoever passes a disk image by mistake gets a sentence at once.
pub const MAX_FILE_LEN: u64 = 1 << 20;

/// Most lines of a file: 10,000, ten times as many contacts as a node keeps.
pub const MAX_LINES: usize = 10_000;

/// Longest contact, in bytes: a record has at most 404 characters (300 bytes in base64, and `enr:`), an enode URL at
/// most 412 (a key of 128, a host name of 253, two ports).
pub const MAX_LINE_LEN: usize = 1024;

/// What a file of contacts holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootnodeFile {
    /// The contacts, in the order of the file.
    pub good: Vec<GoodLine>,
    /// The lines that are no contacts.
    pub bad: Vec<BadLine>,
}

/// A line with a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodLine {
    /// Counted from 1.
    pub line: usize,
    /// The contact.
    pub contact: Bootnode,
}

/// A line that is no contact, no comment and not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: BootnodeError,
}

/// Why a file could not be read at all.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is not there, or may not be read.
    #[error("cannot read the bootnodes file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Longer than [`MAX_FILE_LEN`].
    #[error("the bootnodes file {} is longer than {MAX_FILE_LEN} bytes; is it the right file?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// More than [`MAX_LINES`] lines.
    #[error("the bootnodes file {} has more than {MAX_LINES} lines; is it the right file?", path.display())]
    TooManyLines {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file of contacts.
///
/// # Errors
/// When it cannot be read or is too large. Bad lines are no error here; they are in the result.
pub fn read(path: &Path) -> Result<BootnodeFile, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE_LEN + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_FILE_LEN {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    parse(&content).ok_or_else(|| FileError::TooManyLines { path: path.to_owned() })
}

/// Reads contacts from the content of a file; `None` when it has more than [`MAX_LINES`] lines.
///
/// A `#` begins a comment at the start of a line and after white space. Line ends may be those of Windows, and the
/// UTF-8 byte order mark that its editors write is skipped.
pub fn parse(content: &[u8]) -> Option<BootnodeFile> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut file = BootnodeFile::default();
    // The last line may lack its line end; when it has one, no line follows it.
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if index >= MAX_LINES {
            return None;
        }
        match parse_line(line) {
            Ok(None) => {}
            Ok(Some(contact)) => file.good.push(GoodLine { line: index + 1, contact }),
            Err(error) => file.bad.push(BadLine { line: index + 1, error }),
        }
    }
    Some(file)
}

fn parse_line(line: &[u8]) -> Result<Option<Bootnode>, BootnodeError> {
    let comment = (0..line.len()).find(|at| line[*at] == b'#' && (*at == 0 || line[at - 1].is_ascii_whitespace()));
    let text = line[..comment.unwrap_or(line.len())].trim_ascii();
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_LINE_LEN {
        return Err(BootnodeError::TooLong(text.len()));
    }
    std::str::from_utf8(text).map_err(|_| BootnodeError::NotText)?.parse().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d860a01f9722d78051619d1e2351aba3f43f943f6f00718d1b9baa4101932a1f\
                       5011f16bb2b1bb35db20d6fe28fa0bf09636d26a87d31de9ec6203eeedb1f666";

    fn lines(content: &[u8]) -> (Vec<usize>, Vec<usize>) {
        let file = parse(content).unwrap();
        (file.good.iter().map(|good| good.line).collect(), file.bad.iter().map(|bad| bad.line).collect())
    }

    #[test]
    fn comments_blank_lines_and_foreign_line_ends() {
        let node = format!("enode://{KEY}@127.0.0.1:30303");
        let text = format!("\u{feff}{node}\r\n# all of this\r\n\r\n  {node}\t# the rest\n\t\nnode {node}\n#\n{node}");
        assert_eq!(lines(text.as_bytes()), (vec![1, 4, 8], vec![6]));
        assert_eq!(lines(b""), (vec![], vec![]));
        assert_eq!(lines(b"# nothing\n\n"), (vec![], vec![]));
        // Only white space makes a # a comment.
        assert_eq!(lines(format!("{node}#x\n").as_bytes()), (vec![], vec![1]));
    }

    #[test]
    fn a_bad_line_says_why_and_leaves_the_others() {
        let node = format!("enode://{KEY}@127.0.0.1:30303\n");
        let mut text = format!("{node}enr:abc\n{node}").into_bytes();
        text.extend(b"\xff\xfe\n");
        text.extend([b'x'; 2000]);
        let file = parse(&text).unwrap();
        assert_eq!(file.good.iter().map(|good| good.line).collect::<Vec<_>>(), [1, 3]);
        assert!(matches!(file.bad[0], BadLine { line: 2, error: BootnodeError::Record(_) }));
        assert_eq!(file.bad[1], BadLine { line: 4, error: BootnodeError::NotText });
        assert_eq!(file.bad[2], BadLine { line: 5, error: BootnodeError::TooLong(2000) });
    }

    #[test]
    fn files_have_a_bound() {
        assert!(parse("\n".repeat(MAX_LINES).as_bytes()).is_some());
        assert!(parse("\n".repeat(MAX_LINES + 1).as_bytes()).is_none());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        std::fs::write(&path, vec![b'#'; MAX_FILE_LEN as usize + 1]).unwrap();
        assert!(matches!(read(&path), Err(FileError::TooLong { .. })));
        assert!(matches!(read(dir.path()), Err(FileError::Read { .. })));
        assert!(matches!(read(&dir.path().join("none")), Err(FileError::Read { .. })));
    }
}
