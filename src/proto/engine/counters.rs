//! Counters: what came, what went, and what was dropped for which reason.

use thiserror::Error;

use crate::proto::wire::{MessageKind, OpenError};

/// Why a datagram, or the message in it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Dropped {
    /// It is no packet.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Too many datagrams came from its address.
    #[error("too many from one address")]
    Address,
    /// Too many datagrams came from its /24, /64 or /48.
    #[error("too many from one network")]
    Network,
    /// Too many datagrams came from all together.
    #[error("too many in all")]
    Overload,
    /// More came than could be worked off, and others had come before.
    #[error("the queue is full")]
    Queue,
    /// It has expired.
    #[error("expired")]
    Expired,
    /// It answers nothing that we asked, or comes from elsewhere than we asked.
    #[error("unsolicited")]
    Unsolicited,
    /// It answers a request, signed by another key than the request was for.
    #[error("signed by another node than was asked")]
    WrongSender,
    /// A request by a node that has not proved its endpoint, or not lately.
    #[error("the sender has not proved its endpoint")]
    Unproved,
    /// It is signed with our own key.
    #[error("signed with our own key")]
    FromSelf,
    /// The record in an ENRRESPONSE is not valid or another node's.
    #[error("the record is not valid")]
    BadRecord,
}

impl Dropped {
    /// All reasons, in the order of their counters.
    pub const ALL: [Dropped; 17] = [
        Dropped::Open(OpenError::TooShort),
        Dropped::Open(OpenError::TooLong),
        Dropped::Open(OpenError::Hash),
        Dropped::Open(OpenError::Type),
        Dropped::Open(OpenError::Payload),
        Dropped::Open(OpenError::SignatureRange),
        Dropped::Open(OpenError::Signature),
        Dropped::Address,
        Dropped::Network,
        Dropped::Overload,
        Dropped::Queue,
        Dropped::Expired,
        Dropped::Unsolicited,
        Dropped::WrongSender,
        Dropped::Unproved,
        Dropped::FromSelf,
        Dropped::BadRecord,
    ];

    /// A short name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Dropped::Open(OpenError::TooShort) => "too_short",
            Dropped::Open(OpenError::TooLong) => "too_long",
            Dropped::Open(OpenError::Hash) => "bad_hash",
            Dropped::Open(OpenError::Type) => "unknown_type",
            Dropped::Open(OpenError::Payload) => "bad_payload",
            Dropped::Open(OpenError::SignatureRange) => "signature_range",
            Dropped::Open(OpenError::Signature) => "bad_signature",
            Dropped::Address => "address_limit",
            Dropped::Network => "network_limit",
            Dropped::Overload => "overload",
            Dropped::Queue => "queue_full",
            Dropped::Expired => "expired",
            Dropped::Unsolicited => "unsolicited",
            Dropped::WrongSender => "wrong_sender",
            Dropped::Unproved => "unproved",
            Dropped::FromSelf => "from_self",
            Dropped::BadRecord => "bad_record",
        }
    }

    fn index(self) -> usize {
        // Every variant stands in ALL; a test walks them.
        Self::ALL.iter().position(|reason| *reason == self).unwrap_or(0)
    }
}

/// Counters since the engine was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    received: [u64; 6],
    sent: [u64; 6],
    dropped: [u64; Dropped::ALL.len()],
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not.
    pub unanswered: u64,
    /// Lookups that ended.
    pub lookups: u64,
    /// Requests that were not sent since as many were under way as may be.
    pub not_sent: u64,
    /// PINGs to strangers that were not sent since their endpoint, address or network had had enough of them.
    pub not_knocked: u64,
}

impl Counters {
    /// Messages of a kind that were taken in.
    pub fn received(&self, kind: MessageKind) -> u64 {
        self.received[kind as usize - 1]
    }

    /// Messages of a kind that were sent.
    pub fn sent(&self, kind: MessageKind) -> u64 {
        self.sent[kind as usize - 1]
    }

    /// Datagrams dropped for a reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason.index()]
    }

    /// All datagrams that came, dropped ones too.
    pub fn total_received(&self) -> u64 {
        self.received.iter().chain(&self.dropped).sum()
    }

    /// All messages sent.
    pub fn total_sent(&self) -> u64 {
        self.sent.iter().sum()
    }

    pub(super) fn count_received(&mut self, kind: MessageKind) {
        self.received[kind as usize - 1] += 1;
    }

    pub(super) fn count_sent(&mut self, kind: MessageKind) {
        self.sent[kind as usize - 1] += 1;
    }

    pub(super) fn count_dropped(&mut self, reason: Dropped) {
        self.dropped[reason.index()] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let names: std::collections::BTreeSet<_> = Dropped::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Dropped::ALL.len());
        for (index, reason) in Dropped::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            let mut counters = Counters::default();
            counters.count_dropped(*reason);
            assert_eq!((counters.dropped(*reason), counters.total_received()), (1, 1));
        }
    }
}
