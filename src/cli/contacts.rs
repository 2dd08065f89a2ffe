//! The first contacts that the command line names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Sender;
use tracing::{info, warn};

use super::args::BootnodeArgs;
use super::failure::Failure;
use crate::bootstrap::{self, BadLine, Bootnode, BootnodeFile};

/// Bad lines of a file that are shown; of more the number is told.
const SHOWN: usize = 10;

/// How often files of contacts are looked at: whoever has edited one waits for it.
const LOOK: Duration = Duration::from_secs(2);

/// The contacts that the options name, by where they come from.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Those that do not change: of options, of pipes, or built in.
    fixed: Vec<Bootnode>,
    files: Vec<GivenFile>,
    skip_bad: bool,
}

/// A file of contacts.
#[derive(Debug)]
struct GivenFile {
    path: PathBuf,
    /// What told the file's content from others when it was last read.
    stamp: Stamp,
    contacts: Vec<Bootnode>,
}

/// Time of change and length; `None` where the file cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

/// What is different since the files were last read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: Vec<Bootnode>,
    pub(super) removed: Vec<Bootnode>,
    /// How many there are now, without `lan`.
    pub(super) count: usize,
}

/// Reads all contacts that the options name; without any option, those that are built in.
///
/// An empty file is an answer too: a node that is to wait until it is contacted.
pub(super) fn load(args: &BootnodeArgs) -> Result<Given, Failure> {
    if args.is_absent() {
        let contacts = bootstrap::mainnet();
        info!("no bootnodes were given: using the {} of Ethereum's mainnet that are built in", contacts.len());
        return Ok(Given { fixed: contacts, ..Given::default() });
    }
    let mut given = Given { fixed: args.bootnode.clone(), files: Vec::new(), skip_bad: args.skip_bad_bootnodes };
    for path in &args.bootnodes {
        let stamp = stamp(path);
        let contacts = read(path, given.skip_bad)?;
        info!("{} in {}", count(contacts.len()), path.display());
        if fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            given.files.push(GivenFile { path: path.clone(), stamp, contacts });
        } else {
            // A pipe can be read once, and whoever opens it again may wait for ever.
            given.fixed.extend(contacts);
        }
    }
    Ok(given)
}

/// Looks at the files again and again, and reads all of them when asked to, until nobody listens any more. A thread is
/// held up by it, since a file may be in a network that is gone.
pub(super) fn watch(mut given: Given, asked: &Receiver<()>, changed: &Sender<Changes>) {
    loop {
        let all = match asked.recv_timeout(LOOK) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let changes = given.reread(all);
        if !(changes.added.is_empty() && changes.removed.is_empty()) && changed.blocking_send(changes).is_err() {
            return;
        }
    }
}

impl Given {
    /// Whether any of them may change.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// All contacts, each once.
    pub(super) fn all(&self) -> Vec<Bootnode> {
        let all = self.fixed.iter().chain(self.files.iter().flat_map(|file| &file.contacts));
        let mut seen = BTreeSet::new();
        all.filter(|contact| seen.insert(contact.to_string())).cloned().collect()
    }

    /// Reads those files again that have changed, or all. A file that cannot be used is told of, and the contacts that it
    /// had stay.
    pub(super) fn reread(&mut self, all: bool) -> Changes {
        let before = self.all();
        for file in &mut self.files {
            let stamp = stamp(&file.path);
            if stamp == file.stamp && !all {
                continue;
            }
            file.stamp = stamp;
            match read(&file.path, self.skip_bad) {
                Ok(contacts) => {
                    info!("{} has been read again: {}", file.path.display(), count(contacts.len()));
                    file.contacts = contacts;
                }
                Err(failure) => warn!("{failure}; going on with what it said before ({})", count(file.contacts.len())),
            }
        }
        let after = self.all();
        let missing = |from: &[Bootnode], others: &[Bootnode]| {
            let others: BTreeSet<String> = others.iter().map(Bootnode::to_string).collect();
            from.iter().filter(|contact| !others.contains(&contact.to_string())).cloned().collect()
        };
        let count = after.iter().filter(|contact| **contact != Bootnode::Lan).count();
        Changes { added: missing(&after, &before), removed: missing(&before, &after), count }
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path, skip_bad: bool) -> Result<Vec<Bootnode>, Failure> {
    let file = bootstrap::read(path).map_err(Failure::input)?;
    if !file.bad.is_empty() {
        if !skip_bad {
            return Err(refuse(path, &file));
        }
        for BadLine { line, error } in &file.bad {
            warn!("{}:{line}: skipped, since it is no contact: {error}", path.display());
        }
    }
    Ok(file.good.into_iter().map(|line| line.contact).collect())
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
    use super::*;

    fn nodes() -> [Bootnode; 3] {
        [1_u8, 2, 3].map(|n| {
            let key = crate::proto::identity::NodeKey::from_bytes(&[n; 32]).unwrap();
            format!("enode://{}@127.0.0.1:{n}", key.public_key()).parse().unwrap()
        })
    }

    #[test]
    fn what_has_changed_in_a_file_is_found_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        let [one, two, three] = nodes();
        fs::write(&path, format!("{one}\n{two}\n{two}\nlan\n")).unwrap();
        let args = BootnodeArgs { bootnodes: vec![path.clone()], bootnode: vec![one.clone()], ..Default::default() };
        let mut given = load(&args).unwrap();
        assert_eq!(given.all(), [one.clone(), two.clone(), Bootnode::Lan]);
        assert_eq!(given.reread(true), Changes { count: 2, ..Changes::default() });
        // What an option names as well is not taken back.
        fs::write(&path, format!("{three}\nlan\n")).unwrap();
        assert_eq!(given.reread(false), Changes { added: vec![three.clone()], removed: vec![two], count: 2 });
        fs::write(&path, "nonsense, and more of it\n").unwrap();
        assert_eq!(given.reread(false), Changes { count: 2, ..Changes::default() });
        fs::remove_file(&path).unwrap();
        assert_eq!(given.reread(false), Changes { count: 2, ..Changes::default() });
        assert_eq!(given.all(), [one.clone(), three.clone(), Bootnode::Lan]);
        fs::write(&path, "").unwrap();
        assert_eq!(given.reread(false), Changes { added: vec![], removed: vec![three, Bootnode::Lan], count: 1 });
        assert_eq!(given.all(), [one]);
    }

    /// Time and length of two contents are made the same, so that it shows when they are read.
    #[test]
    fn a_file_is_read_again_when_it_looks_changed_or_that_is_asked_for_and_at_no_other_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        let [one, two, three] = nodes();
        let write = |contact: &Bootnode, seconds| {
            fs::write(&path, format!("{contact}\n")).unwrap();
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
        };
        write(&one, 1);
        let mut given = load(&BootnodeArgs { bootnodes: vec![path.clone()], ..Default::default() }).unwrap();
        write(&two, 1);
        assert_eq!(given.reread(false), Changes { count: 1, ..Changes::default() });
        write(&two, 2);
        assert_eq!(given.reread(false), Changes { added: vec![two.clone()], removed: vec![one], count: 1 });
        write(&three, 2);
        assert_eq!(given.reread(false), Changes { count: 1, ..Changes::default() });
        assert_eq!(given.reread(true), Changes { added: vec![three], removed: vec![two], count: 1 });
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let [one, ..] = nodes();
        let writer = std::thread::spawn({
            let (path, text) = (path.clone(), format!("{one}\n"));
            move || fs::write(path, text).unwrap()
        });
        let mut given = load(&BootnodeArgs { bootnodes: vec![path], ..Default::default() }).unwrap();
        writer.join().unwrap();
        // Once more it would wait for somebody who writes to it.
        assert_eq!(given.reread(true), Changes { count: 1, ..Changes::default() });
        assert_eq!((given.all(), given.has_files()), (vec![one], false));
    }

    #[test]
    fn line_numbers_are_told_briefly() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(ranges(&[1, 2, 3, 5, 9, 10]), "1-3, 5 and 9-10");
    }
}
