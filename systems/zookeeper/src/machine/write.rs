//! Writes: what each operation checks, in ZooKeeper's order, and what it changes.

use bytes::Bytes;
use verity_contract::{Command, Effects};

use super::acl;
use super::command::{Envelope, Ids, REPLY_HEAD, flags, internal};
use super::config::{Mutant, TreeConfig};
use super::node::{Kind, NODE_COUNT_MAX};
use super::path::{self, BadPath};
use super::tree::{Fresh, Tree};
use crate::wire::{
    Acl, CreateMode, Decode, DecodeError, Encode, ErrorCode, EventType, MultiHeader, OpCode, PathOnly, PathVersion,
    Reader, Request, SetAclRequest, SetDataRequest, Stat, decode_request, perms,
};

/// The longest time to live that fits ZooKeeper's encoding of it.
const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// What one operation answers.
enum Done {
    Nothing,
    Path(String),
    PathStat(String, Stat),
    Stat(Stat),
}

impl Done {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::Path(path) => path.as_str().encode(out),
            Self::PathStat(path, stat) => {
                path.as_str().encode(out);
                stat.encode(out);
            }
            Self::Stat(stat) => stat.encode(out),
        }
    }
}

/// A create, whichever its opcode.
struct Create<'a> {
    op: OpCode,
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: &'a [Acl<'a>],
    flags: i32,
    ttl: i64,
}

impl From<BadPath> for ErrorCode {
    fn from(_: BadPath) -> Self {
        Self::BadArguments
    }
}

impl From<DecodeError> for ErrorCode {
    fn from(_: DecodeError) -> Self {
        Self::MarshallingError
    }
}

/// Who asks, for one operation.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    session: i64,
    local: bool,
    /// An operator or a duty, not a client.
    pub(super) internal: bool,
    pub(super) ids: Ids<'a>,
}

/// An answer: error, zxid, body.
pub(super) fn answer(zxid: i64, result: Result<Vec<u8>, ErrorCode>) -> Bytes {
    let (err, body) = match result {
        Ok(body) => (ErrorCode::Ok, body),
        Err(err) => (err, Vec::new()),
    };
    let mut out = Vec::with_capacity(REPLY_HEAD + body.len());
    err.number().encode(&mut out);
    zxid.encode(&mut out);
    out.extend_from_slice(&body);
    Bytes::from(out)
}

impl Tree {
    pub(super) fn apply_one(&mut self, command: &Command, effects: &mut Effects) {
        // Stamps never go back along the log; a tree restored from it must not either.
        self.time = self.time.max(i64::try_from(command.time.0).unwrap_or(i64::MAX));
        let before = effects.list.len();
        let result = match Envelope::decode(&command.bytes) {
            Ok(envelope) => self.dispatch(command, &envelope, effects),
            Err(_) => Err(ErrorCode::MarshallingError),
        };
        if result.is_ok() {
            self.flush_events(effects);
        }
        assert!(self.pending.is_empty(), "a failed command has no events");
        effects.reply(command.request, answer(self.zxid, result));
        if self.mutant == Mutant::WatchAfterReply {
            effects.list[before..].rotate_right(1);
        }
    }

    fn dispatch(
        &mut self,
        command: &Command,
        envelope: &Envelope<'_>,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, ErrorCode> {
        let internal = envelope.flags & flags::INTERNAL != 0;
        match envelope.op {
            internal::MOVE_SESSION if internal => return self.move_session(command, envelope, effects),
            internal::CONFIGURE if internal => {
                self.config = TreeConfig::decode(&mut Reader::new(envelope.body))?;
                return Ok(Vec::new());
            }
            internal::CONFIG_TEXT if internal => {
                let text = Option::<&[u8]>::decode(&mut Reader::new(envelope.body))?;
                self.zxid += 1;
                self.set_config_text(text.unwrap_or_default(), effects);
                return Ok(Vec::new());
            }
            internal::END_RECONFIG if internal => {
                let mut reader = Reader::new(envelope.body);
                let version = i64::decode(&mut reader)?;
                let err = ErrorCode::from_number(i32::decode(&mut reader)?).unwrap_or(ErrorCode::SystemError);
                self.settle_wish(version, err, effects);
                return Ok(Vec::new());
            }
            _ => {}
        }
        let Some(op) = OpCode::from_number(envelope.op) else { return Err(ErrorCode::Unimplemented) };
        if !is_write(op) {
            // A session logs a read that a later write of its own must not overtake.
            let mut out = Vec::new();
            self.on_query(envelope, &mut out)?;
            return Ok(out.split_off(REPLY_HEAD));
        }
        self.zxid = self.zxid.checked_add(1).expect("2^63 transactions cannot be made");
        match op {
            OpCode::CreateSession if internal => return self.open_session(command, envelope, effects),
            OpCode::CloseSession => {
                if !internal {
                    self.check_session(envelope, command.request.origin)?;
                }
                return self.close_session(envelope.session, effects);
            }
            OpCode::DeleteContainer if !internal => return Err(ErrorCode::BadArguments),
            OpCode::CreateSession => return Err(ErrorCode::Unimplemented),
            _ => {}
        }
        let request = decode_request(envelope.op, envelope.body)?;
        let operator = internal && op == OpCode::Reconfig;
        if !operator {
            self.check_session(envelope, command.request.origin)?;
        }
        let local = envelope.flags & flags::LOCAL != 0;
        self.on_request(Caller { session: envelope.session, local, internal, ids: envelope.ids }, &request, effects)
    }

    fn on_request(
        &mut self,
        caller: Caller<'_>,
        request: &Request<'_>,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, ErrorCode> {
        match request {
            Request::Multi(list) => Ok(self.on_multi(caller, list)),
            Request::Reconfig(request) => self.on_reconfig(caller, request, effects),
            Request::SetAcl(request) => self.on_set_acl(caller, request).map(|stat| stat.to_bytes()),
            Request::DeleteContainer(request) => self.on_delete_container(request).map(|()| Vec::new()),
            // Alone, ZooKeeper 3.8 never answers a check that succeeds; the stat is what its reply was meant to be.
            Request::Check(request) => self.on_check(caller, request).map(|stat| stat.to_bytes()),
            _ => {
                let done = self.on_operation(caller, request)?;
                let mut body = Vec::new();
                done.encode(&mut body);
                Ok(body)
            }
        }
    }

    /// What may also be part of a multi.
    fn on_operation(&mut self, caller: Caller<'_>, request: &Request<'_>) -> Result<Done, ErrorCode> {
        match request {
            Request::Create(op, r) => {
                let create = Create { op: *op, path: r.path, data: r.data, acl: &r.acl, flags: r.flags, ttl: -1 };
                self.on_create(caller, &create)
            }
            Request::CreateTtl(r) => {
                let op = OpCode::CreateTtl;
                self.on_create(
                    caller,
                    &Create { op, path: r.path, data: r.data, acl: &r.acl, flags: r.flags, ttl: r.ttl },
                )
            }
            Request::Delete(request) => self.on_delete(caller, request).map(|()| Done::Nothing),
            Request::SetData(request) => self.on_set_data(caller, request).map(Done::Stat),
            Request::Check(request) => self.on_check(caller, request).map(|_| Done::Nothing),
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn on_multi(&mut self, caller: Caller<'_>, list: &[Request<'_>]) -> Vec<u8> {
        assert!(self.journal.is_none(), "multis do not nest");
        self.journal = Some(Vec::new());
        let mut out = Vec::new();
        let mut failure = None;
        for (at, request) in list.iter().enumerate() {
            match self.on_operation(caller, request) {
                Ok(done) => {
                    let op = match (request, &done) {
                        (_, Done::PathStat(..)) if request.op() != OpCode::Create => OpCode::Create2,
                        _ => request.op(),
                    };
                    MultiHeader::of(op.number(), 0).encode(&mut out);
                    done.encode(&mut out);
                }
                Err(err) => {
                    failure = Some((at, err));
                    break;
                }
            }
        }
        if let Some((failed_at, err)) = failure {
            self.roll_back();
            out.clear();
            for at in 0..list.len() {
                let code = match at.cmp(&failed_at) {
                    std::cmp::Ordering::Less => ErrorCode::Ok,
                    std::cmp::Ordering::Equal => err,
                    std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency,
                };
                MultiHeader::of(OpCode::Error.number(), code.number()).encode(&mut out);
                code.number().encode(&mut out);
            }
        } else {
            self.commit_journal();
        }
        MultiHeader::END.encode(&mut out);
        out
    }

    /// The mode, checked as far as it needs no tree.
    fn mode_of(&self, caller: Caller<'_>, create: &Create<'_>) -> Result<CreateMode, ErrorCode> {
        let mode = CreateMode::from_number(create.flags).ok_or(ErrorCode::BadArguments)?;
        if mode.is_ttl() && !self.config.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let ttl_fits = if mode.is_ttl() {
            create.op == OpCode::CreateTtl && (1..=TTL_MS_MAX).contains(&create.ttl)
        } else {
            create.op != OpCode::CreateTtl
        };
        if !ttl_fits {
            return Err(ErrorCode::BadArguments);
        }
        if mode.is_ephemeral() && caller.local {
            return Err(ErrorCode::EphemeralOnLocalSession);
        }
        Ok(mode)
    }

    fn on_create(&mut self, caller: Caller<'_>, create: &Create<'_>) -> Result<Done, ErrorCode> {
        let mode = self.mode_of(caller, create)?;
        let (parent_path, name_at) = path::split(create.path)?;
        let open = create.acl == [Acl::OPEN];
        let fixed = if open { Vec::new() } else { acl::fixup(create.acl, caller.ids, &self.config)? };
        let acl = if open { create.acl } else { &fixed };
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        let above = self.slab.get(parent);
        self.acls.check(above.acl, perms::CREATE, caller.ids, &self.config)?;
        let path = if mode.is_sequential() {
            format!("{}{}", create.path, sequence(above.cversion))
        } else {
            create.path.to_owned()
        };
        path::validate(&path)?;
        if self.find(&path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if above.kind() == Kind::Ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let size = create.data.map_or(0, <[u8]>::len);
        self.check_quota(&path, 0, size, 1)?;
        if self.slab.live() >= NODE_COUNT_MAX - 1 {
            return Err(ErrorCode::SystemError);
        }
        // The opcode decides what lives how long, and only for plain creates the mode: so does ZooKeeper.
        let (kind, owner) = match create.op {
            OpCode::CreateContainer => (Kind::Container, 0),
            OpCode::CreateTtl => (Kind::Ttl, create.ttl),
            _ if mode.is_ephemeral() => (Kind::Ephemeral, caller.session),
            _ => (Kind::Persistent, 0),
        };
        if kind == Kind::Ephemeral && !self.sessions.map.contains_key(&owner) {
            return Err(ErrorCode::SessionExpired);
        }
        let id = self.add_node(parent, &Fresh { path: &path, name_at, data: create.data, acl, kind, owner });
        if !self.quotas.is_empty() || parent_path.starts_with("/zookeeper/") {
            self.quota_created(parent_path, &path[name_at..], id);
            self.count_quota(&path, 0, size, 1);
        }
        let locks = [self.lock_of(id), self.lock_of(parent)];
        self.tell(EventType::NodeCreated, &path, [&locks[0], &locks[1]]);
        Ok(match create.op {
            OpCode::Create => Done::Path(path),
            _ => Done::PathStat(path, self.slab.get(id).stat()),
        })
    }

    fn on_delete(&mut self, caller: Caller<'_>, request: &PathVersion<'_>) -> Result<(), ErrorCode> {
        let (parent_path, _) = path::split(request.path)?;
        if path::is_special(request.path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        self.acls.check(self.slab.get(parent).acl, perms::DELETE, caller.ids, &self.config)?;
        let id = self.find(request.path).ok_or(ErrorCode::NoNode)?;
        let node = self.slab.get(id);
        check_version(node.version, request.version)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.delete_node(id, request.path);
        Ok(())
    }

    /// Deletes a childless node that may be deleted, and says so.
    pub(super) fn delete_node(&mut self, id: u32, path: &str) {
        let size = self.slab.get(id).data_size();
        let locks = [self.lock_of(id), self.lock_of(self.slab.get(id).parent)];
        self.remove_node(id);
        if !self.quotas.is_empty() {
            let (parent_path, name_at) = path::split(path).expect("the path of a node");
            self.quota_deleted(parent_path, &path[name_at..]);
            self.count_quota(path, size, 0, -1);
        }
        self.tell(EventType::NodeDeleted, path, [&locks[0], &locks[1]]);
    }

    /// Deletes a container or a node with a time to live, if it still should go.
    fn on_delete_container(&mut self, request: &PathOnly<'_>) -> Result<(), ErrorCode> {
        let id = self.find(request.path).ok_or(ErrorCode::NoNode)?;
        let node = self.slab.get(id);
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if !self.is_due(id, self.time) {
            return Err(ErrorCode::BadVersion);
        }
        self.delete_node(id, request.path);
        Ok(())
    }

    /// Containers go when their last child did, nodes with a time to live when they were not changed for it.
    pub(super) fn is_due(&self, id: u32, time: i64) -> bool {
        let node = self.slab.get(id);
        node.child_count == 0
            && match node.kind() {
                Kind::Container => node.cversion != 0,
                Kind::Ttl => time.saturating_sub(node.mtime) > node.owner,
                Kind::Persistent | Kind::Ephemeral => false,
            }
    }

    fn on_set_data(&mut self, caller: Caller<'_>, request: &SetDataRequest<'_>) -> Result<Stat, ErrorCode> {
        path::validate(request.path)?;
        let id = self.find(request.path).ok_or(ErrorCode::NoNode)?;
        let node = self.slab.get(id);
        self.acls.check(node.acl, perms::WRITE, caller.ids, &self.config)?;
        let (old, new) = (node.data_size(), request.data.map_or(0, <[u8]>::len));
        self.check_quota(request.path, old, new, 0)?;
        check_version(node.version, request.version)?;
        self.replace_data(id, request.data, true);
        self.count_quota(request.path, old, new, 0);
        self.tell(EventType::NodeDataChanged, request.path, [&self.lock_of(id), &[]]);
        Ok(self.slab.get(id).stat())
    }

    fn on_set_acl(&mut self, caller: Caller<'_>, request: &SetAclRequest<'_>) -> Result<Stat, ErrorCode> {
        path::validate(request.path)?;
        let fixed = acl::fixup(&request.acl, caller.ids, &self.config)?;
        let id = self.find(request.path).ok_or(ErrorCode::NoNode)?;
        let node = self.slab.get(id);
        self.acls.check(node.acl, perms::ADMIN, caller.ids, &self.config)?;
        check_version(node.aversion, request.version)?;
        let (old, new) = (node.acl, self.acls.acquire(&fixed));
        // The old list is let go last: the digest still needs it, and a snapshot under way has its own hold.
        self.set_acl(id, new);
        self.acls.release(old);
        Ok(self.slab.get(id).stat())
    }

    fn set_acl(&mut self, id: u32, acl: u32) {
        self.change_shared(id, |node| {
            node.acl = acl;
            node.aversion = node.aversion.wrapping_add(1);
        });
    }

    fn on_check(&mut self, caller: Caller<'_>, request: &PathVersion<'_>) -> Result<Stat, ErrorCode> {
        path::validate(request.path)?;
        let id = self.find(request.path).ok_or(ErrorCode::NoNode)?;
        let node = self.slab.get(id);
        self.acls.check(node.acl, perms::READ, caller.ids, &self.config)?;
        check_version(node.version, request.version)?;
        Ok(node.stat())
    }
}

fn check_version(version: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == version { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

/// Ten digits, sign included: behind 2147483647 the count goes on at -2147483648, as documented.
pub(super) fn sequence(count: i32) -> String {
    format!("{count:010}")
}

fn is_write(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::DeleteContainer
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Check
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CreateSession
            | OpCode::CloseSession
    )
}
