//! Share sessions (KIP-932): which partitions a member reads through this node is said once, and later only what changes.
//!
//! - upon epoch 0 of a fetch: a new session; if the member has one, that begins anew and holds what it held;
//! - upon the next epoch: what the request names is added or forgotten;
//! - upon another epoch, or a session that is not there: an error, and the client begins anew;
//! - upon epoch -1, or the end of the connection: the session ends, and what was acquired through it is given back.
//!
//! A node keeps [`SESSION_COUNT_MAX`] sessions, and refuses more: a session that made room would give back records that are
//! being worked on.
//!
//! Deliberately absent: records. Who has which stands with the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use verity_types::ConnId;

use crate::wire::{ErrorCode, Uuid};

/// `group.share.max.share.sessions`.
pub(super) const SESSION_COUNT_MAX: usize = 2_000;
/// No session has more partitions.
const PARTITION_COUNT_MAX: usize = 20_000;
/// The epoch that begins a session.
pub(super) const FIRST_EPOCH: i32 = 0;
/// The epoch that ends one.
pub(super) const FINAL_EPOCH: i32 = -1;

/// A partition of a topic.
pub(super) type Place = (Uuid, i32);

/// A group, and one of its members.
pub(super) type Reader = (String, String);

#[derive(Debug)]
struct Session {
    conn: ConnId,
    /// What is acquired bears it.
    number: u64,
    epoch: i32,
    wanted: BTreeSet<Place>,
    /// Those of which records were acquired.
    held: BTreeSet<Place>,
    /// Grows with each fetch, so that each partition is the first in turn.
    fetches: usize,
}

/// All share sessions of a node.
#[derive(Debug, Default)]
pub(super) struct ShareSessions {
    sessions: BTreeMap<Reader, Session>,
    /// How many there were.
    count: u64,
    /// Partitions from which somebody is acquiring at this moment.
    busy: BTreeSet<(String, Place)>,
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

impl ShareSessions {
    /// The partitions to be fetched, and whether all of them are to be answered for.
    pub(super) fn fetch(
        &mut self,
        reader: &Reader,
        conn: ConnId,
        epoch: i32,
        named: &[Place],
        forgotten: &[Place],
    ) -> Result<(Vec<Place>, bool), ErrorCode> {
        if epoch == FIRST_EPOCH {
            if self.sessions.len() >= SESSION_COUNT_MAX && !self.sessions.contains_key(reader) {
                return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
            }
            let (number, held) = match self.sessions.remove(reader) {
                // It holds what it held.
                Some(old) => (old.number, old.held),
                None => {
                    self.count += 1;
                    (self.count, BTreeSet::new())
                }
            };
            let session = Session { conn, number, epoch, wanted: BTreeSet::new(), held, fetches: 0 };
            self.sessions.insert(reader.clone(), session);
        }
        let session = self.advance(reader, epoch)?;
        if session.wanted.len() + named.len() > PARTITION_COUNT_MAX {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        session.wanted.extend(named);
        session.wanted.retain(|place| !forgotten.contains(place));
        if epoch == FINAL_EPOCH {
            return Ok((Vec::new(), false));
        }
        let mut places: Vec<Place> = session.wanted.iter().copied().collect();
        let turn = session.fetches % places.len().max(1);
        places.rotate_left(turn);
        session.fetches = session.fetches.wrapping_add(1);
        Ok((places, epoch == FIRST_EPOCH))
    }

    /// A request that only settles records.
    pub(super) fn acknowledge(&mut self, reader: &Reader, epoch: i32) -> Result<(), ErrorCode> {
        if epoch == FIRST_EPOCH {
            return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
        }
        self.advance(reader, epoch).map(|_| ())
    }

    fn advance(&mut self, reader: &Reader, epoch: i32) -> Result<&mut Session, ErrorCode> {
        let session = self.sessions.get_mut(reader).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
        if epoch != FINAL_EPOCH {
            if session.epoch != epoch {
                return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
            }
            session.epoch = next_epoch(epoch);
        }
        Ok(session)
    }

    /// The number of a member's session; 0 if it has none.
    pub(super) fn number(&self, reader: &Reader) -> u64 {
        self.sessions.get(reader).map_or(0, |session| session.number)
    }

    /// Records were acquired through a session. False if it has ended meanwhile.
    pub(super) fn hold(&mut self, reader: &Reader, number: u64, place: Place) -> bool {
        let session = self.sessions.get_mut(reader).filter(|session| session.number == number);
        session.map(|session| session.held.insert(place)).is_some()
    }

    /// Ends the session of this number. The partitions of which it may hold records; none if it has ended before, and the
    /// member may have another.
    pub(super) fn end(&mut self, reader: &Reader, number: u64) -> Vec<Place> {
        if self.number(reader) != number {
            return Vec::new();
        }
        self.sessions.remove(reader).map(|session| session.held.into_iter().collect()).unwrap_or_default()
    }

    /// A connection is gone: whose sessions end.
    pub(super) fn of(&self, conn: ConnId) -> Vec<Reader> {
        let own = self.sessions.iter().filter(|(_, session)| session.conn == conn);
        own.map(|(reader, _)| reader.clone()).collect()
    }

    /// Begins to acquire from a partition for a group, unless somebody does so already.
    pub(super) fn enter(&mut self, group: &str, place: Place) -> bool {
        self.busy.insert((group.to_owned(), place))
    }

    /// Has acquired.
    pub(super) fn leave(&mut self, group: &str, place: Place) {
        self.busy.remove(&(group.to_owned(), place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Uuid = Uuid([7; 16]);

    fn reader(member: &str) -> Reader {
        ("g".to_owned(), member.to_owned())
    }

    #[test]
    fn a_session_says_what_changes() {
        let (mut sessions, me) = (ShareSessions::default(), reader("m"));
        let conn = ConnId(1);
        assert_eq!(sessions.fetch(&me, conn, 1, &[], &[]), Err(ErrorCode::SHARE_SESSION_NOT_FOUND));
        assert_eq!(sessions.fetch(&me, conn, 0, &[(T, 0), (T, 1)], &[]), Ok((vec![(T, 0), (T, 1)], true)));
        assert_eq!(sessions.fetch(&me, conn, 0, &[(T, 0), (T, 1)], &[]), Ok((vec![(T, 0), (T, 1)], true)), "anew");
        assert_eq!(sessions.fetch(&me, conn, 2, &[], &[]), Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH));
        assert_eq!(sessions.fetch(&me, conn, 1, &[], &[]), Ok((vec![(T, 1), (T, 0)], false)), "in turns");
        assert_eq!(sessions.acknowledge(&me, 0), Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH));
        assert_eq!(sessions.acknowledge(&me, 2), Ok(()));
        assert_eq!(sessions.fetch(&me, conn, 3, &[(T, 2)], &[(T, 0), (T, 1)]), Ok((vec![(T, 2)], false)));
        assert!(sessions.hold(&me, 1, (T, 2)) && !sessions.hold(&reader("other"), 1, (T, 2)));
        assert!(!sessions.hold(&me, 2, (T, 3)), "another session acquired");
        assert_eq!(sessions.of(conn), std::slice::from_ref(&me));
        assert_eq!(sessions.fetch(&me, conn, -1, &[], &[]), Ok((Vec::new(), false)));
        assert_eq!(sessions.end(&me, 1), [(T, 2)]);
        assert!(sessions.fetch(&me, conn, 0, &[(T, 2)], &[]).is_ok());
        assert!(sessions.hold(&me, 2, (T, 2)));
        assert_eq!(sessions.end(&me, 1), [], "that one has ended");
        assert_eq!(sessions.end(&me, 2), [(T, 2)]);
        assert_eq!(sessions.acknowledge(&me, 4), Err(ErrorCode::SHARE_SESSION_NOT_FOUND));
    }

    #[test]
    fn sessions_are_bounded() {
        let mut sessions = ShareSessions::default();
        for at in 0..SESSION_COUNT_MAX {
            assert!(sessions.fetch(&reader(&at.to_string()), ConnId(1), 0, &[], &[]).is_ok());
        }
        let full = Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
        assert_eq!(sessions.fetch(&reader("x"), ConnId(1), 0, &[], &[]), full);
        assert!(sessions.fetch(&reader("1"), ConnId(1), 0, &[], &[]).is_ok(), "an old one may begin anew");
    }

    #[test]
    fn one_acquires_at_a_time() {
        let mut sessions = ShareSessions::default();
        assert!(sessions.enter("g", (T, 0)) && !sessions.enter("g", (T, 0)) && sessions.enter("h", (T, 0)));
        sessions.leave("g", (T, 0));
        assert!(sessions.enter("g", (T, 0)));
    }
}
