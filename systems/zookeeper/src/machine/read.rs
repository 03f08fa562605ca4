//! Reads: answered from the applied state, never a transaction.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::acl::Entry;
use super::command::{Envelope, Ids, REPLY_HEAD, flags, internal};
use super::ensemble::Ensemble;
use super::query::{
    DUE_COUNT_MAX, DueQuery, DueWatch, MissedEvent, SESSION_COUNT_MAX, SessionEphemerals, SessionInfo, SessionRow,
    SessionsQuery, TreeStatus, WatchesAnswer, watches,
};
use super::tree::Tree;
use super::write;
use crate::wire::{
    Acl, Decode, Encode, ErrorCode, EventType, Id, MultiHeader, OpCode, PathOnly, PathWatch, Reader, Request,
    SetWatches2, decode_request, length_of, perms,
};

/// The most bytes that an answer about persistent watches takes; behind it the answer says that it is not complete.
const MISSED_SIZE_MAX: usize = 512 << 10;

/// Bytes of a stat on the wire.
const STAT_SIZE: usize = 68;

impl Tree {
    pub(super) fn answer(&self, query: &[u8]) -> Bytes {
        let Ok(envelope) = Envelope::decode(query) else {
            return write::answer(self.zxid, Err(ErrorCode::MarshallingError));
        };
        let mut out = Vec::new();
        // Room for the head, which is written last.
        let result = self.on_query(&envelope, &mut out);
        let err = match result {
            Ok(()) => ErrorCode::Ok,
            Err(err) => {
                out.clear();
                out.resize(REPLY_HEAD, 0);
                err
            }
        };
        out[..4].copy_from_slice(&err.number().to_be_bytes());
        out[4..REPLY_HEAD].copy_from_slice(&self.zxid.to_be_bytes());
        Bytes::from(out)
    }

    pub(super) fn on_query(&self, envelope: &Envelope<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let mut reader = Reader::new(envelope.body);
        let ids = envelope.ids;
        // The one read that matters most takes the shortest way, with one allocation of the right size.
        if envelope.op == OpCode::GetData.number() {
            return self.get_data(ids, PathWatch::decode(&mut reader)?.path, out);
        }
        out.resize(REPLY_HEAD, 0);
        if envelope.op < OpCode::CloseSession.number() {
            if envelope.flags & flags::INTERNAL == 0 {
                return Err(ErrorCode::Unimplemented);
            }
            return self.on_internal(envelope, out);
        }
        let Some(op) = OpCode::from_number(envelope.op) else { return Err(ErrorCode::Unimplemented) };
        match op {
            OpCode::Exists => {
                let path = PathWatch::decode(&mut reader)?.path;
                // The one read whose argument ZooKeeper looks at.
                if path.contains('\0') {
                    return Err(ErrorCode::BadArguments);
                }
                let id = self.find(path).ok_or(ErrorCode::NoNode)?;
                self.slab.get(id).stat().encode(out);
                Ok(())
            }
            OpCode::GetChildren | OpCode::GetChildren2 => {
                let path = PathWatch::decode(&mut reader)?.path;
                self.get_children(ids, path, op == OpCode::GetChildren2, out)
            }
            OpCode::GetAcl => self.get_acl(ids, PathOnly::decode(&mut reader)?.path, out),
            OpCode::GetAllChildrenNumber => self.count_below(ids, PathOnly::decode(&mut reader)?.path, out),
            OpCode::GetEphemerals => {
                let prefix = PathOnly::decode(&mut reader)?.path;
                let all = self.ephemerals(envelope.session);
                let list: Vec<&str> =
                    all.iter().map(|(_, path, _)| path.as_str()).filter(|path| path.starts_with(prefix)).collect();
                list.encode(out);
                Ok(())
            }
            OpCode::MultiRead => {
                if let Request::MultiRead(list) = decode_request(envelope.op, envelope.body)? {
                    self.on_multi_read(ids, &list, out);
                }
                Ok(())
            }
            OpCode::Sync => {
                PathOnly::decode(&mut reader)?.encode(out);
                Ok(())
            }
            OpCode::SetWatches | OpCode::SetWatches2 => {
                let request = watches(op == OpCode::SetWatches2, envelope.body)?;
                self.on_watches(ids, &request, out);
                Ok(())
            }
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn readable(&self, ids: Ids<'_>, path: &str) -> Result<u32, ErrorCode> {
        let id = self.find(path).ok_or(ErrorCode::NoNode)?;
        self.acls.check(self.slab.get(id).acl, perms::READ, ids, &self.config)?;
        Ok(id)
    }

    fn get_data(&self, ids: Ids<'_>, path: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.slab.get(self.readable(ids, path)?);
        out.reserve_exact(REPLY_HEAD + 4 + node.data_size() + STAT_SIZE);
        out.resize(REPLY_HEAD, 0);
        node.data().encode(out);
        node.stat().encode(out);
        Ok(())
    }

    fn get_children(&self, ids: Ids<'_>, path: &str, with_stat: bool, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let id = self.readable(ids, path)?;
        length_of(self.slab.get(id).child_count as usize).encode(out);
        for child in self.children(id) {
            Some(self.slab.get(child).name()).encode(out);
        }
        if with_stat {
            self.slab.get(id).stat().encode(out);
        }
        Ok(())
    }

    /// Those who may not administer the node see who is named, but no hash of a password.
    fn get_acl(&self, ids: Ids<'_>, path: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.slab.get(self.find(path).ok_or(ErrorCode::NoNode)?);
        self.acls.check(node.acl, perms::READ | perms::ADMIN, ids, &self.config)?;
        let admin = self.acls.check(node.acl, perms::ADMIN, ids, &self.config).is_ok();
        let list = self.acls.list(node.acl);
        length_of(list.len()).encode(out);
        for entry in list.iter() {
            match masked(entry).filter(|_| !admin) {
                Some(id) => Acl { perms: entry.perms, id: Id { scheme: "digest", id: &id } }.encode(out),
                None => entry.view().encode(out),
            }
        }
        node.stat().encode(out);
        Ok(())
    }

    fn count_below(&self, ids: Ids<'_>, path: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let mut stack = vec![self.readable(ids, path)?];
        let mut count = 0usize;
        while let Some(id) = stack.pop() {
            count += self.slab.get(id).child_count as usize;
            stack.extend(self.children(id));
        }
        length_of(count).encode(out);
        Ok(())
    }

    fn on_multi_read(&self, ids: Ids<'_>, list: &[Request<'_>], out: &mut Vec<u8>) {
        for request in list {
            let mut body = Vec::new();
            let result = match request {
                Request::GetData(r) => self.get_data(ids, r.path, &mut body).map(|()| REPLY_HEAD),
                Request::GetChildren(r) => self.get_children(ids, r.path, false, &mut body).map(|()| 0),
                _ => Err(ErrorCode::Unimplemented),
            };
            match result {
                Ok(start) => {
                    MultiHeader::of(request.op().number(), 0).encode(out);
                    out.extend_from_slice(&body[start..]);
                }
                Err(err) => {
                    MultiHeader::of(OpCode::Error.number(), err.number()).encode(out);
                    err.number().encode(out);
                }
            }
        }
        MultiHeader::END.encode(out);
    }

    /// Which one-time watches fire at once, by ZooKeeper's rules, and what the persistent ones missed.
    fn on_watches(&self, ids: Ids<'_>, request: &SetWatches2<'_>, out: &mut Vec<u8>) {
        let since = request.relative_zxid;
        let mut answer = WatchesAnswer { complete: self.ring.forgotten <= since, ..WatchesAnswer::default() };
        let mut due = |list: i32, path, kind: EventType| {
            answer.due.push(DueWatch { list, kind: kind.number(), path });
        };
        for path in &request.data {
            match self.find(path).map(|id| self.slab.get(id)) {
                None => due(0, *path, EventType::NodeDeleted),
                Some(node) if node.mzxid > since => due(0, *path, EventType::NodeDataChanged),
                Some(_) => {}
            }
        }
        for path in &request.exist {
            if self.find(path).is_some() {
                due(1, *path, EventType::NodeCreated);
            }
        }
        for path in &request.child {
            match self.find(path).map(|id| self.slab.get(id)) {
                None => due(2, *path, EventType::NodeDeleted),
                Some(node) if node.pzxid > since => due(2, *path, EventType::NodeChildrenChanged),
                Some(_) => {}
            }
        }
        if !request.persistent.is_empty() || !request.persistent_recursive.is_empty() {
            self.replay(request, &mut answer);
        }
        let since = self.ring.since(since).filter(|past| past.secret && !answer.missed.is_empty());
        let secret: BTreeSet<i64> = since.map(|past| past.zxid).collect();
        // Whoever lost the right to read a node learns nothing of it; the watch itself may stay.
        answer.missed.retain(|event| match self.find(event.path) {
            Some(id) => self.acls.check(self.slab.get(id).acl, perms::READ, ids, &self.config).is_ok(),
            None => !secret.contains(&event.zxid),
        });
        answer.encode(out);
    }

    fn replay<'a>(&'a self, request: &SetWatches2<'_>, answer: &mut WatchesAnswer<'a>) {
        let mut exact = request.persistent.clone();
        exact.sort_unstable();
        let mut recursive = request.persistent_recursive.clone();
        recursive.sort_unstable();
        let mut size = 0;
        for past in self.ring.since(request.relative_zxid) {
            let path = std::str::from_utf8(&past.path).expect("events name paths of nodes");
            if size > MISSED_SIZE_MAX {
                answer.complete = false;
                break;
            }
            if exact.binary_search(&path).is_ok() || covered(&recursive, path) {
                size += path.len() + 16;
                answer.missed.push(MissedEvent { kind: past.kind.number(), zxid: past.zxid, path });
            }
            let parent = &path[..path.rfind('/').unwrap_or_default()];
            let parent = if parent.is_empty() { "/" } else { parent };
            if past.kind != EventType::NodeDataChanged && exact.binary_search(&parent).is_ok() {
                size += parent.len() + 16;
                let kind = EventType::NodeChildrenChanged.number();
                answer.missed.push(MissedEvent { kind, zxid: past.zxid, path: parent });
            }
        }
    }

    fn on_internal(&self, envelope: &Envelope<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let mut reader = Reader::new(envelope.body);
        match envelope.op {
            internal::SESSIONS => {
                let rows: Vec<SessionRow> = self
                    .listed(&SessionsQuery::decode(&mut reader)?)
                    .map(|(id, s)| SessionRow {
                        session: *id,
                        timeout_ms: s.timeout_ms,
                        owner: s.owner.0.cast_signed(),
                    })
                    .collect();
                rows.encode(out);
            }
            internal::EPHEMERALS => {
                let all: Vec<(i64, Vec<_>)> = self
                    .listed(&SessionsQuery::decode(&mut reader)?)
                    .filter(|(_, session)| !session.ephemerals.is_empty())
                    .map(|(id, _)| (*id, self.ephemerals(*id)))
                    .collect();
                let views = all.iter().map(|(session, list)| SessionEphemerals {
                    session: *session,
                    paths: list.iter().map(|(_, path, _)| path.as_str()).collect(),
                });
                views.collect::<Vec<_>>().encode(out);
            }
            internal::SESSION => {
                let session = self.sessions.map.get(&i64::decode(&mut reader)?).ok_or(ErrorCode::SessionExpired)?;
                let info = SessionInfo {
                    timeout_ms: session.timeout_ms,
                    owner: session.owner.0.cast_signed(),
                    password: Some(&session.password),
                    ephemerals: length_of(session.ephemerals.len()),
                };
                info.encode(out);
            }
            internal::DUE => {
                let query = DueQuery::decode(&mut reader)?;
                let count_max = usize::try_from(query.count_max).unwrap_or(0).min(DUE_COUNT_MAX);
                let paths: Vec<String> = self
                    .containers
                    .iter()
                    .chain(&self.ttls)
                    .filter(|id| self.is_due(**id, query.time))
                    .take(count_max)
                    .map(|id| self.path_of(*id))
                    .collect();
                paths.iter().map(String::as_str).collect::<Vec<_>>().encode(out);
            }
            internal::STATUS => self.status().encode(out),
            internal::WISH => self.wish.as_ref().map(Ensemble::to_text).as_deref().map(str::as_bytes).encode(out),
            internal::ENSEMBLE => {
                self.ensemble().as_ref().map(Ensemble::to_text).as_deref().map(str::as_bytes).encode(out)
            }
            _ => return Err(ErrorCode::Unimplemented),
        }
        Ok(())
    }

    fn listed(&self, query: &SessionsQuery) -> impl Iterator<Item = (&i64, &super::session::Session)> {
        let count_max = usize::try_from(query.count_max).unwrap_or(0).min(SESSION_COUNT_MAX);
        // `i64::MIN` itself is no session's id: ids are drawn above it.
        self.sessions.map.range((std::ops::Bound::Excluded(query.after), std::ops::Bound::Unbounded)).take(count_max)
    }

    fn status(&self) -> TreeStatus {
        let count = |count: usize| i64::try_from(count).expect("counts are below 2^63");
        let mut config = Vec::new();
        self.config.encode(&mut config);
        TreeStatus {
            zxid: self.zxid,
            nodes: i64::from(self.slab.live()),
            ephemerals: self.sessions.map.values().map(|session| count(session.ephemerals.len())).sum(),
            sessions: count(self.sessions.map.len()),
            data_size: self.body_bytes.cast_signed(),
            memory: verity_contract::StateMachine::size(self).cast_signed(),
            snapshot_zxid: self.kept.0,
            snapshot_time: self.kept.1,
            config: i32::from_bytes(&config).expect("a configuration is one number"),
        }
    }
}

/// `user:x` instead of a digest's hash.
fn masked(entry: &Entry) -> Option<String> {
    if &*entry.scheme != "digest" {
        return None;
    }
    let user = entry.id.split(':').next().unwrap_or_default();
    Some(format!("{user}:x"))
}

/// Is `path` or one above it in the sorted list?
fn covered(sorted: &[&str], path: &str) -> bool {
    if sorted.is_empty() {
        return false;
    }
    let mut prefix = path;
    loop {
        if sorted.binary_search(&prefix).is_ok() {
            return true;
        }
        match prefix.rfind('/') {
            Some(0) if prefix.len() > 1 => prefix = "/",
            Some(at) if at > 0 => prefix = &prefix[..at],
            _ => return false,
        }
    }
}
