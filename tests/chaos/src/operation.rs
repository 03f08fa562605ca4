//! What clients ask: on the wire, and as lines of a history (`docs/check-format.md`).
//!
//! Deliberately absent: what the answers ought to be. The checker knows.

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use verity_zookeeper::wire::{
    Acl, Create2Response, CreateMode, CreateRequest, Decode as _, Encode as _, ErrorCode, ErrorResponse,
    GetChildren2Response, GetDataResponse, MultiHeader, OpCode, PathOnly, PathVersion, PathWatch, Reader, Request,
    SetDataRequest, Stat, StatResponse,
};

use crate::session::{Reply, session_name};

/// A request to the tree. A version of -1 fits any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the protocol")]
pub enum Operation {
    /// Make a node.
    Create { path: String, value: String, ephemeral: bool, sequential: bool },
    /// Remove a node.
    Delete { path: String, version: i32 },
    /// Replace a node's value.
    Set { path: String, value: String, version: i32 },
    /// Fail if the node has another version; only inside a multi.
    Check { path: String, version: i32 },
    /// What is the value?
    Get { path: String },
    /// Is it there?
    Exists { path: String },
    /// What are the names of its children?
    Children { path: String },
    /// All of these or none.
    Multi(Vec<Operation>),
    /// Bring the node up to date.
    Sync,
    /// End the session.
    Close,
}

impl Operation {
    /// True if its answer may be stale, unless the client has asked for linearizable reads.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Exists { .. } | Self::Children { .. })
    }

    fn request(&self) -> Request<'_> {
        match self {
            Self::Create { path, value, ephemeral, sequential } => {
                let mode = match (ephemeral, sequential) {
                    (false, false) => CreateMode::Persistent,
                    (false, true) => CreateMode::PersistentSequential,
                    (true, false) => CreateMode::Ephemeral,
                    (true, true) => CreateMode::EphemeralSequential,
                };
                let data = Some(value.as_bytes());
                let create = CreateRequest { path, data, acl: vec![Acl::OPEN], flags: mode.number() };
                Request::Create(OpCode::Create2, create)
            }
            Self::Delete { path, version } => Request::Delete(PathVersion { path, version: *version }),
            Self::Check { path, version } => Request::Check(PathVersion { path, version: *version }),
            Self::Set { path, value, version } => {
                Request::SetData(SetDataRequest { path, data: Some(value.as_bytes()), version: *version })
            }
            Self::Get { path } => Request::GetData(PathWatch { path, watch: false }),
            Self::Exists { path } => Request::Exists(PathWatch { path, watch: false }),
            Self::Children { path } => Request::GetChildren2(PathWatch { path, watch: false }),
            Self::Multi(parts) => Request::Multi(parts.iter().map(Self::request).collect()),
            Self::Sync => Request::Sync(PathOnly { path: "/" }),
            Self::Close => Request::CloseSession,
        }
    }

    /// Opcode and body.
    #[must_use]
    pub fn encode(&self) -> (OpCode, Vec<u8>) {
        let request = self.request();
        (request.op(), request.to_bytes())
    }

    /// The fields of its `invoke` line.
    #[must_use]
    pub fn asked(&self) -> Json {
        match self {
            Self::Create { path, value, ephemeral, sequential } => {
                json!({ "f": "create", "path": path, "value": value, "ephemeral": ephemeral, "sequential": sequential })
            }
            Self::Delete { path, version } => json!({ "f": "delete", "path": path, "version": version }),
            Self::Check { path, version } => json!({ "f": "check", "path": path, "version": version }),
            Self::Set { path, value, version } => {
                json!({ "f": "set", "path": path, "value": value, "version": version })
            }
            Self::Get { path } => json!({ "f": "get", "path": path }),
            Self::Exists { path } => json!({ "f": "exists", "path": path }),
            Self::Children { path } => json!({ "f": "children", "path": path }),
            Self::Multi(parts) => json!({ "f": "multi", "ops": parts.iter().map(Self::asked).collect::<Vec<_>>() }),
            Self::Sync => json!({ "f": "sync" }),
            Self::Close => json!({ "f": "close" }),
        }
    }

    /// The fields of its `ok` line.
    ///
    /// # Errors
    /// When the reply is not what the protocol says.
    pub fn answered(&self, reply: &Reply) -> Result<Json> {
        let mut line = if reply.err == 0 {
            self.fields(&mut Reader::new(&reply.body)).with_context(|| format!("the reply to {self:?}"))?
        } else {
            json!({ "error": error_name(reply.err) })
        };
        line["f"] = self.asked()["f"].take();
        if reply.zxid > 0 {
            line["zxid"] = json!(reply.zxid);
        }
        Ok(line)
    }

    fn fields(&self, reader: &mut Reader<'_>) -> Result<Json> {
        Ok(match self {
            Self::Create { .. } => {
                let reply = Create2Response::decode(reader)?;
                let mut line = seen(&reply.stat);
                line["created"] = json!(reply.path);
                line
            }
            Self::Set { .. } | Self::Exists { .. } => seen(&StatResponse::decode(reader)?.stat),
            Self::Get { .. } => {
                let reply = GetDataResponse::decode(reader)?;
                let mut line = seen(&reply.stat);
                line["value"] = json!(String::from_utf8_lossy(reply.data.unwrap_or_default()));
                line
            }
            Self::Children { .. } => {
                let reply = GetChildren2Response::decode(reader)?;
                let mut line = seen(&reply.stat);
                line["value"] = json!(reply.children);
                line
            }
            Self::Multi(parts) => json!({ "results": results(parts, reader)? }),
            Self::Delete { .. } | Self::Check { .. } | Self::Sync | Self::Close => json!({}),
        })
    }
}

fn results(parts: &[Operation], reader: &mut Reader<'_>) -> Result<Vec<Json>> {
    let mut list = Vec::new();
    for part in parts {
        let header = MultiHeader::decode(reader)?;
        if header.op == OpCode::Error.number() {
            list.push(json!({ "error": error_name(ErrorResponse::decode(reader)?.err) }));
        } else {
            list.push(part.fields(reader)?);
        }
    }
    Ok(list)
}

/// What a node's Stat tells.
fn seen(stat: &Stat) -> Json {
    json!({
        "version": stat.version,
        "cversion": stat.cversion,
        "children": stat.num_children,
        "owner": session_name(stat.ephemeral_owner),
    })
}

/// An error as the format names it.
#[must_use]
pub fn error_name(number: i32) -> String {
    let name = match ErrorCode::from_number(number) {
        Some(ErrorCode::NoNode) => "no_node",
        Some(ErrorCode::BadVersion) => "bad_version",
        Some(ErrorCode::NoChildrenForEphemerals) => "no_children_for_ephemerals",
        Some(ErrorCode::NodeExists) => "node_exists",
        Some(ErrorCode::NotEmpty) => "not_empty",
        Some(ErrorCode::SessionExpired) => "session_expired",
        // Parts of a multi that were done and undone, or never tried.
        Some(ErrorCode::Ok | ErrorCode::RuntimeInconsistency) => "rolled_back",
        Some(other) => return format!("{other:?}"),
        None => return number.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_becomes_a_line() {
        let stat = Stat { version: 3, num_children: 2, cversion: 4, ephemeral_owner: 0x1f, ..Stat::default() };
        let body = GetDataResponse { data: Some(b"x"), stat }.to_bytes();
        let line = Operation::Get { path: "/a".into() }.answered(&Reply { zxid: 9, err: 0, body }).unwrap();
        assert_eq!(line, json!({"f":"get","zxid":9,"value":"x","version":3,"cversion":4,"children":2,"owner":"0x1f"}));
    }

    #[test]
    fn a_failed_multi_says_which_part() {
        let multi = Operation::Multi(vec![
            Operation::Check { path: "/a".into(), version: 1 },
            Operation::Delete { path: "/b".into(), version: -1 },
            Operation::Delete { path: "/c".into(), version: -1 },
        ]);
        let mut body = Vec::new();
        for err in [0, ErrorCode::NoNode.number(), ErrorCode::RuntimeInconsistency.number()] {
            MultiHeader::of(OpCode::Error.number(), err).encode(&mut body);
            ErrorResponse { err }.encode(&mut body);
        }
        MultiHeader::END.encode(&mut body);
        let line = multi.answered(&Reply { zxid: 1, err: 0, body }).unwrap();
        let errors: Vec<&str> =
            line["results"].as_array().unwrap().iter().filter_map(|result| result["error"].as_str()).collect();
        assert_eq!(errors, ["rolled_back", "no_node", "rolled_back"]);
    }

    #[test]
    fn a_short_reply_is_an_error() {
        let reply = Reply { zxid: 1, err: 0, body: vec![0; 5] };
        assert!(Operation::Set { path: "/a".into(), value: String::new(), version: -1 }.answered(&reply).is_err());
    }
}
