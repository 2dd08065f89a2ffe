//! stub
/// A bootnode.
#[derive(Clone, Debug, PartialEq)]
pub enum Bootnode {
    /// By URL.
    Enode(crate::proto::identity::Enode),
    /// By record.
    Record(Box<crate::proto::identity::Record>),
}
