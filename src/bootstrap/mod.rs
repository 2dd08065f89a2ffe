//! Where first contacts come from: contacts as text, files of them, DNS, and the LAN.

mod contact;
pub mod dns;
mod file;
#[cfg(feature = "lan")]
pub(crate) mod lan;

pub(crate) use contact::contacts;
pub use contact::{Address, Bootnode, BootnodeError, DEFAULT_PORT, Seed};
pub use file::{BadLine, BootnodeFile, FileError, GoodLine, MAX_FILE_LEN, MAX_LINE_LEN, MAX_LINES, parse, read};

/// The public bootnodes of Ethereum's mainnet, as this version of kadnode carries them: the repository's
/// `bootnodes.txt`.
pub fn mainnet() -> Vec<Bootnode> {
    // A test asserts that the file has no bad line.
    let file = parse(include_bytes!("../../bootnodes.txt"));
    file.map(|file| file.good.into_iter().map(|line| line.contact).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_contacts_that_are_built_in_are_all_valid() {
        let file = super::parse(include_bytes!("../../bootnodes.txt")).unwrap();
        assert!(file.bad.is_empty(), "{:?}", file.bad);
        assert_eq!(super::mainnet().len(), 9);
    }
}
