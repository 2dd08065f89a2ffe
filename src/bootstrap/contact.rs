//! One contact: an enode URL or a node record.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::proto::identity::{Contact, Enode, EnodeError, PublicKey, Record, RecordError};

/// A node to contact first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootnode {
    /// `enode://<128 hex digits>@<host>:<tcp port>[?discport=<udp port>]`; the host may be a DNS name.
    Enode(Enode),
    /// `enr:<base64>`, with an address and a UDP port in it.
    Record(Box<Record>),
}

/// Why a text is not a contact.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BootnodeError {
    /// It begins neither with `enode://` nor with `enr:`.
    #[error("a contact begins with enode:// or enr:")]
    Neither,
    /// It is an enode URL with a mistake.
    #[error(transparent)]
    Enode(#[from] EnodeError),
    /// It is a record with a mistake, or one that its node has not signed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is valid and does not say where the node is.
    #[error("the record is valid but holds no IP address with a UDP port, so its node cannot be contacted")]
    NoAddress,
    /// UDP port 0 receives nothing.
    #[error("the UDP port is 0, so the node cannot be contacted")]
    NoPort,
    /// The line of a file is no text.
    #[error("the line is not UTF-8 text")]
    NotText,
    /// The line of a file is longer than any contact.
    #[error("the line has {0} bytes, and a contact has at most {max}", max = super::MAX_LINE_LEN)]
    TooLong(usize),
}

impl Bootnode {
    /// The node's public key.
    pub fn key(&self) -> &PublicKey {
        match self {
            Bootnode::Enode(enode) => &enode.key,
            Bootnode::Record(record) => record.public_key(),
        }
    }

    /// Key and address; `None` when the host is a DNS name that has to be resolved first.
    pub fn contact(&self) -> Option<Contact> {
        match self {
            Bootnode::Enode(enode) => enode.contact(),
            Bootnode::Record(record) => record.contact(),
        }
    }
}

impl From<Contact> for Bootnode {
    fn from(contact: Contact) -> Self {
        Bootnode::Enode(contact.into())
    }
}

impl fmt::Display for Bootnode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bootnode::Enode(enode) => enode.fmt(f),
            Bootnode::Record(record) => record.fmt(f),
        }
    }
}

impl FromStr for Bootnode {
    type Err = BootnodeError;

    fn from_str(text: &str) -> Result<Self, BootnodeError> {
        if text.starts_with("enr:") {
            let record: Record = text.parse()?;
            let endpoint = record.endpoint().ok_or(BootnodeError::NoAddress)?;
            return if endpoint.udp == 0 { Err(BootnodeError::NoPort) } else { Ok(Bootnode::Record(Box::new(record))) };
        }
        if !text.starts_with("enode:") {
            return Err(BootnodeError::Neither);
        }
        let enode: Enode = text.parse()?;
        if enode.udp == 0 { Err(BootnodeError::NoPort) } else { Ok(Bootnode::Enode(enode)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::{NodeKey, RecordContent};

    #[test]
    fn contacts_come_back_as_they_went_in() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let content = RecordContent { v4: Some(([127, 0, 0, 1].into(), 5, 0)), ..Default::default() };
        let record = Record::sign(&key, 1, &content).unwrap();
        let public = key.public_key();
        for text in [
            record.to_string(),
            format!("enode://{public}@127.0.0.1:5"),
            format!("enode://{public}@127.0.0.1:0?discport=5"),
            format!("enode://{public}@boot.example.org:5"),
        ] {
            let contact: Bootnode = text.parse().unwrap();
            assert_eq!((contact.to_string(), contact.key()), (text, public));
        }
        let contact: Bootnode = record.to_string().parse().unwrap();
        assert_eq!(contact.contact().unwrap().endpoint.to_string(), "127.0.0.1:5");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let key = NodeKey::from_bytes(&[7; 32]).unwrap();
        let nowhere = Record::sign(&key, 1, &RecordContent::default()).unwrap().to_string();
        let public = key.public_key();
        let error = |text: &str| text.parse::<Bootnode>().unwrap_err();
        assert_eq!(error(&nowhere), BootnodeError::NoAddress);
        assert_eq!(error("hello"), BootnodeError::Neither);
        assert_eq!(error("enode:hello"), BootnodeError::Enode(EnodeError::Scheme));
        assert_eq!(error(&format!("enode://{public}@1.2.3.4:5?discport=0")), BootnodeError::NoPort);
        assert_eq!(error(&format!("enode://{public}@1.2.3.4")), BootnodeError::Enode(EnodeError::NoPort));
    }
}
