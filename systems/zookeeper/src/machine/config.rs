//! What changes the tree's answers, and therefore must be equal on all replicas.
//!
//! A group starts from one configuration; afterwards it changes only through the log ([`super::command::configure`]) and
//! travels in snapshots. A node whose own file says otherwise proposes the change when it leads; it never just differs.
//! The super user's digest is not here: a session that knows the password gives itself the id of scheme `super`.

use crate::wire::{Decode, DecodeError, Encode, Reader};

/// The switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeConfig {
    /// Nodes with a time to live exist; otherwise `Unimplemented`.
    pub extended_types: bool,
    /// Hard quotas refuse; otherwise they only count.
    pub enforce_quota: bool,
    /// Access lists are stored, never asked.
    pub skip_acl: bool,
    /// `reconfig` is served; otherwise `ReconfigDisabled`.
    pub reconfig: bool,
    /// Access lists may name certificates.
    pub x509: bool,
    /// Access lists may name SASL users.
    pub sasl: bool,
}

impl Default for TreeConfig {
    /// As ZooKeeper without a line of configuration, but that every authentication that a session offers may be named.
    fn default() -> Self {
        Self { extended_types: false, enforce_quota: false, skip_acl: false, reconfig: false, x509: true, sasl: true }
    }
}

impl Encode for TreeConfig {
    fn encode(&self, out: &mut Vec<u8>) {
        let all = [self.extended_types, self.enforce_quota, self.skip_acl, self.reconfig, self.x509, self.sasl];
        let bits = all.iter().enumerate().fold(0, |bits, (at, on)| bits | (i32::from(*on) << at));
        bits.encode(out);
    }
}

impl Decode<'_> for TreeConfig {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bits = i32::decode(reader)?;
        if !(0..1 << 6).contains(&bits) {
            return Err(DecodeError::UnknownNumber(bits));
        }
        let on = |at: u32| bits >> at & 1 == 1;
        Ok(Self {
            extended_types: on(0),
            enforce_quota: on(1),
            skip_acl: on(2),
            reconfig: on(3),
            x509: on(4),
            sasl: on(5),
        })
    }
}

/// Published bugs that can be planted, to see that the checkers find them. Never set outside of a simulation.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Correct behaviour.
    #[default]
    None,
    /// The newest session is left out of snapshots.
    SnapshotMissingSession,
    /// A closed session leaves its newest ephemeral behind.
    EphemeralSurvivesSession,
    /// A reply leaves before the watch events that it caused.
    WatchAfterReply,
}
