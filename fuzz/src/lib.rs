//! What the fuzz targets do with their bytes: one module for each, with one function, which panics when something is
//! wrong. `cargo test` of the main package runs the same functions over the corpora, and over random bytes.

pub mod bootnodes;
pub mod engine;
pub mod enode;
mod made;
pub mod message;
pub mod packet_open;
pub mod record;

/// A target: it panics when something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("packet_open", packet_open::check),
    ("message", message::check),
    ("record", record::check),
    ("enode", enode::check),
    ("bootnodes", bootnodes::check),
    ("engine", engine::check),
];

/// A sentence for users: there is one, and nothing in it could take hold of a terminal.
fn assert_sentence(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}
