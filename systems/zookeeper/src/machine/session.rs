//! The table of sessions, and what opens, moves and closes one.

use std::collections::{BTreeMap, BTreeSet};

use verity_contract::{Command, Effects};
use verity_types::NodeId;

use super::command::{Envelope, flags};
use super::config::Mutant;
use super::tree::Tree;
use super::{digest, event};
use crate::wire::{Decode as _, Encode as _, ErrorCode, Reader};

/// The size of a session's password.
pub(super) const PASSWORD_SIZE: usize = 16;

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) timeout_ms: i32,
    pub(super) password: [u8; PASSWORD_SIZE],
    /// The node that serves it.
    pub(super) owner: NodeId,
    /// The transaction that created each ephemeral, and its slot.
    pub(super) ephemerals: BTreeSet<(i64, u32)>,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) map: BTreeMap<i64, Session>,
    /// The sum of the sessions' digest parts.
    pub(super) sum: u128,
}

impl Sessions {
    /// False if the id is taken.
    pub(super) fn insert(&mut self, id: i64, session: Session) -> bool {
        if self.map.contains_key(&id) {
            return false;
        }
        self.sum = self.sum.wrapping_add(digest::session(id, &session));
        self.map.insert(id, session);
        true
    }

    fn remove(&mut self, id: i64) -> Option<Session> {
        let session = self.map.remove(&id)?;
        self.sum = self.sum.wrapping_sub(digest::session(id, &session));
        Some(session)
    }

    fn set_owner(&mut self, id: i64, owner: NodeId) {
        let session = self.map.get_mut(&id).expect("the caller found it");
        self.sum = self.sum.wrapping_sub(digest::session(id, session));
        session.owner = owner;
        self.sum = self.sum.wrapping_add(digest::session(id, session));
    }
}

impl Tree {
    /// May this caller write, as far as its session is concerned?
    pub(super) fn check_session(&self, envelope: &Envelope<'_>, origin: NodeId) -> Result<(), ErrorCode> {
        if envelope.flags & (flags::LOCAL | flags::INTERNAL) != 0 {
            return Ok(());
        }
        match self.sessions.map.get(&envelope.session) {
            None => Err(ErrorCode::SessionExpired),
            Some(session) if session.owner != origin => Err(ErrorCode::SessionMoved),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn open_session(
        &mut self,
        command: &Command,
        envelope: &Envelope<'_>,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, ErrorCode> {
        let mut reader = Reader::new(envelope.body);
        let timeout_ms = i32::decode(&mut reader).map_err(|_| ErrorCode::MarshallingError)?;
        let password = Option::<&[u8]>::decode(&mut reader).map_err(|_| ErrorCode::MarshallingError)?;
        let password = password.unwrap_or_default().try_into().map_err(|_| ErrorCode::MarshallingError)?;
        let owner = command.request.origin;
        let session = Session { timeout_ms, password, owner, ephemerals: BTreeSet::new() };
        if envelope.session == 0 || !self.sessions.insert(envelope.session, session) {
            return Err(ErrorCode::NodeExists);
        }
        let (topic, bytes) = event::session_opened(envelope.session, timeout_ms);
        effects.event(topic, bytes);
        Ok(timeout_ms.to_bytes())
    }

    /// A connection elsewhere goes on with a session that it knows the password of.
    pub(super) fn move_session(
        &mut self,
        command: &Command,
        envelope: &Envelope<'_>,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, ErrorCode> {
        let password =
            Option::<&[u8]>::decode(&mut Reader::new(envelope.body)).map_err(|_| ErrorCode::MarshallingError)?;
        let session = self.sessions.map.get(&envelope.session).ok_or(ErrorCode::SessionExpired)?;
        if password != Some(&session.password[..]) {
            return Err(ErrorCode::AuthFailed);
        }
        let timeout_ms = session.timeout_ms;
        self.sessions.set_owner(envelope.session, command.request.origin);
        let (topic, bytes) = event::session_moved(envelope.session, command.request.origin);
        effects.event(topic, bytes);
        Ok(timeout_ms.to_bytes())
    }

    /// The session's ephemerals in the order of their creation.
    pub(super) fn ephemerals(&self, session: i64) -> Vec<(i64, String, u32)> {
        let Some(session) = self.sessions.map.get(&session) else { return Vec::new() };
        let mut list: Vec<_> = session.ephemerals.iter().map(|(czxid, id)| (*czxid, self.path_of(*id), *id)).collect();
        // Those of one multi share a transaction; their slots are no order that replicas share.
        list.sort_unstable();
        list
    }

    pub(super) fn close_session(&mut self, session: i64, effects: &mut Effects) -> Result<Vec<u8>, ErrorCode> {
        let mut list = self.ephemerals(session);
        if self.mutant == Mutant::EphemeralSurvivesSession {
            list.pop();
        }
        for (_, path, id) in list {
            self.delete_node(id, &path);
        }
        self.flush_events(effects);
        self.sessions.remove(session).ok_or(ErrorCode::SessionExpired)?;
        let (topic, bytes) = event::session_closed(session);
        effects.event(topic, bytes);
        Ok(Vec::new())
    }
}
