//! Commands for one node, PING and record; those for lookups are with the lookups.

use std::net::{IpAddr, SocketAddr};

use super::bond::Why;
use super::errands::Goal;
use super::{CommandError, CommandId, Engine, Output, Reply};
use crate::proto::contacts::{Contacts, NodeRef};
use crate::proto::identity::{Contact, reaches};
use crate::proto::time::Time;

impl<C: Contacts> Engine<C> {
    pub(super) fn command_ping(&mut self, now: Time, command: CommandId, contact: &Contact) {
        match self.reachable(contact) {
            Ok(node) if self.pings_wanted.len() < self.config.requests.max_pending => {
                self.pings_wanted.push((node, command));
                if !self.ping(now, node, Why::Told) {
                    self.pings_wanted.pop();
                    self.reply(command, Reply::Failed(CommandError::Busy));
                }
            }
            Ok(_) => self.reply(command, Reply::Failed(CommandError::Busy)),
            Err(error) => self.reply(command, Reply::Failed(error)),
        }
    }

    pub(super) fn command_record(&mut self, now: Time, command: CommandId, contact: &Contact) {
        let started = self.reachable(contact).and_then(|node| {
            let goal = Goal::Record(Some(command));
            // An errand that fails at once has told the command so.
            if self.errands.len() < self.config.requests.max_pending {
                self.start_errand(now, node, goal);
                Ok(())
            } else {
                Err(CommandError::Busy)
            }
        });
        if let Err(error) = started {
            self.reply(command, Reply::Failed(error));
        }
    }

    /// The handle of a contact that an application or a file named, if it can be sent to.
    pub(super) fn reachable(&mut self, contact: &Contact) -> Result<NodeRef, CommandError> {
        if contact.key == *self.local_key() {
            return Err(CommandError::Itself);
        }
        self.check_reachable(contact.endpoint.udp_addr())?;
        self.contacts.intern(contact).ok_or(CommandError::Busy)
    }

    /// Whether an address can be sent to.
    pub(super) fn check_reachable(&self, addr: SocketAddr) -> Result<(), CommandError> {
        let (ip, port) = (addr.ip(), addr.port());
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if port == 0 || ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(CommandError::Unreachable);
        }
        if !reaches(self.local.node.bound.ip(), ip) {
            return Err(CommandError::OtherFamily);
        }
        Ok(())
    }

    pub(super) fn reply(&mut self, command: CommandId, reply: Reply) {
        self.out.push_back(Output::Reply(command, reply));
    }

    pub(super) fn take_pings_wanted(&mut self, node: NodeRef) -> Vec<CommandId> {
        self.pings_wanted.extract_if(.., |(wanted, _)| *wanted == node).map(|(_, command)| command).collect()
    }
}
