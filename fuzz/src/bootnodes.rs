//! Files of contacts: each line is counted once and right, the errors name theirs, and the contacts come back as printed.

use std::fmt::Write as _;

use kadnode::bootstrap::{Bootnode, MAX_LINES, parse};

use super::assert_sentence;

/// Reads `data` as a file of contacts.
pub fn check(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let Some(file) = parse(data) else {
        assert!(lines.len() > MAX_LINES);
        return;
    };
    assert!(lines.len() <= MAX_LINES + 1);
    let good = file.good.iter().map(|good| good.line);
    let bad = file.bad.iter().map(|bad| bad.line);
    assert!(good.clone().is_sorted_by(|one, other| one < other) && bad.clone().is_sorted_by(|one, other| one < other));
    let mut all: Vec<usize> = good.chain(bad).collect();
    all.sort_unstable();
    assert!(all.is_sorted_by(|one, other| one < other), "a line is good and bad");
    // Whatever is neither is a comment or blank; the byte order mark is no part of the first line.
    for (index, line) in lines.iter().enumerate() {
        let line = if index == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let says_something = line.trim_ascii_start().first().is_some_and(|byte| *byte != b'#');
        assert_eq!(all.binary_search(&(index + 1)).is_ok(), says_something, "line {}", index + 1);
    }
    for bad in &file.bad {
        assert_sentence(&bad.error);
    }
    let mut printed = String::new();
    for good in &file.good {
        let line = String::from_utf8_lossy(lines[good.line - 1]);
        let text = line.trim_start_matches('\u{feff}').split_ascii_whitespace().next().unwrap_or_default();
        assert_eq!(text.parse().as_ref(), Ok(&good.contact), "line {} says something else", good.line);
        writeln!(printed, "{}", good.contact).expect("a string takes everything");
    }
    let again = parse(printed.as_bytes()).expect("no more lines than before");
    let contacts = |file: &kadnode::bootstrap::BootnodeFile| -> Vec<Bootnode> {
        file.good.iter().map(|good| good.contact.clone()).collect()
    };
    assert!(again.bad.is_empty() && contacts(&again) == contacts(&file));
}
