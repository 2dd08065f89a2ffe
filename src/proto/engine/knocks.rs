//! Knocking at addresses: PINGs to nodes whose keys are not known.
use std::net::SocketAddr;

use super::{CommandError, CommandId, Engine};
use crate::proto::contacts::Contacts;
use crate::proto::identity::{Contact, IdPrefix};
use crate::proto::time::Time;

impl<C: Contacts> Engine<C> {
    /// Adds an address that is tried until a node answers there, with this ID where one is pinned.
    ///
    /// # Errors
    /// When it cannot be sent to, or there are too many.
    pub fn add_address(&mut self, _now: Time, _addr: SocketAddr, _pin: Option<IdPrefix>) -> Result<(), CommandError> {
        todo!()
    }
    /// Tries a contact no longer, unless it is a member.
    pub fn remove_bootnode(&mut self, _contact: &Contact) {
        todo!()
    }
    /// Tries an address no longer.
    pub fn remove_address(&mut self, _addr: SocketAddr) {
        todo!()
    }
    pub(super) fn command_knock(&mut self, _now: Time, _id: CommandId, _addr: SocketAddr, _pin: Option<IdPrefix>) {
        todo!()
    }
}
