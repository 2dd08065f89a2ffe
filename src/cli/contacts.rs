//! The first contacts that the command line names.

use std::path::Path;

use tracing::{info, warn};

use super::args::BootnodeArgs;
use super::failure::Failure;
use crate::bootstrap::{self, BadLine, Bootnode, BootnodeFile};

/// Bad lines of a file that are shown; of more the number is told.
const SHOWN: usize = 10;

/// Reads all contacts that the options name; without any option, those that are built in.
///
/// An empty file is an answer too: a node that is to wait until it is contacted.
pub(super) fn load(args: &BootnodeArgs) -> Result<Vec<Bootnode>, Failure> {
    if args.is_absent() {
        let contacts = bootstrap::mainnet();
        info!("no bootnodes were given: using the {} of Ethereum's mainnet that are built in", contacts.len());
        return Ok(contacts);
    }
    let mut contacts = Vec::new();
    for path in &args.bootnodes {
        let file = bootstrap::read(path).map_err(Failure::input)?;
        if !file.bad.is_empty() {
            if !args.skip_bad_bootnodes {
                return Err(refuse(path, &file));
            }
            for BadLine { line, error } in &file.bad {
                warn!("{}:{line}: skipped, since it is no contact: {error}", path.display());
            }
        }
        info!("{} in {}", count(file.good.len()), path.display());
        contacts.extend(file.good.into_iter().map(|line| line.contact));
    }
    contacts.extend(args.bootnode.iter().cloned());
    Ok(contacts)
}

/// A command that asks the built-in bootnodes says so: in another network they know nothing.
pub(super) fn warn_of_mainnet(args: &BootnodeArgs) {
    if args.is_absent() {
        warn!(
            "asking the bootnodes of Ethereum's mainnet, which are built in; name others with --bootnodes or --bootnode"
        );
    }
}

/// `1 contact`, `2 contacts`.
pub(super) fn count(contacts: usize) -> String {
    if contacts == 1 { "1 contact".to_owned() } else { format!("{contacts} contacts") }
}

fn refuse(path: &Path, file: &BootnodeFile) -> Failure {
    let path = path.display();
    let mut sentences: Vec<String> =
        file.bad.iter().take(SHOWN).map(|BadLine { line, error }| format!("{path}:{line}: {error}")).collect();
    if file.bad.len() > SHOWN {
        sentences.push(format!("{path}: {} more lines are no contacts", file.bad.len() - SHOWN));
    }
    let lines: Vec<usize> = file.good.iter().map(|good| good.line).collect();
    let valid = match lines.len() {
        0 => "no line of it is valid".to_owned(),
        1 => format!("1 contact is valid, on line {}; to go on with it alone, add --skip-bad-bootnodes", lines[0]),
        many => {
            let list = ranges(&lines);
            format!("{many} contacts are valid, on lines {list}; to go on with them alone, add --skip-bad-bootnodes")
        }
    };
    Failure::inputs(sentences, format!("{path}: {valid}"))
}

/// `1-3, 5 and 9-10`. The numbers rise.
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut texts: Vec<String> = ranges.iter().map(text).collect();
    match texts.pop() {
        Some(last) if !texts.is_empty() => format!("{} and {last}", texts.join(", ")),
        last => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn line_numbers_are_told_briefly() {
        assert_eq!(super::ranges(&[]), "");
        assert_eq!(super::ranges(&[4]), "4");
        assert_eq!(super::ranges(&[1, 2, 3, 5, 9, 10]), "1-3, 5 and 9-10");
    }
}
