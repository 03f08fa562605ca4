//! The records of the protocol, field for field as `zookeeper.jute` lists them.
//!
//! Requests and replies borrow their strings and buffers: a server decodes without copying, a client encodes what it
//! already holds. Records with the same shape share a type, as jute's own comments do.

use super::jute::{Decode, DecodeError, Encode, Reader};

macro_rules! record {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$fdoc])* pub $field: $type,)*
        }

        record!(@impl $name $(<$life>)? { $($field,)* });
    )* };
    (@impl $name:ident <$life:lifetime> { $($field:ident,)* }) => {
        impl<$life> Decode<$life> for $name<$life> {
            fn decode(reader: &mut Reader<$life>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Decode::decode(reader)?,)* })
            }
        }
        impl Encode for $name<'_> {
            fn encode(&self, out: &mut Vec<u8>) { $(self.$field.encode(out);)* }
        }
    };
    (@impl $name:ident { $($field:ident,)* }) => {
        impl Decode<'_> for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Decode::decode(reader)?,)* })
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) { $(self.$field.encode(out);)* }
        }
    };
}

record! {
    /// Who someone is, under a scheme.
    Id<'a> {
        /// `world`, `auth`, `digest`, `ip`, `sasl`, `x509` or `super`.
        scheme: &'a str,
        /// What the scheme makes of it.
        id: &'a str,
    }
    /// What someone may do.
    Acl<'a> {
        /// Bits of [`crate::wire::perms`].
        perms: i32,
        /// Who.
        id: Id<'a>,
    }
    /// A node's metadata.
    Stat {
        /// The transaction that created it.
        czxid: i64,
        /// The transaction that last set its data.
        mzxid: i64,
        /// When it was created, in milliseconds since 1970.
        ctime: i64,
        /// When its data was last set.
        mtime: i64,
        /// How often its data was set.
        version: i32,
        /// How often its children changed.
        cversion: i32,
        /// How often its access list was set.
        aversion: i32,
        /// The session that owns it, if it is ephemeral; 0 otherwise.
        ephemeral_owner: i64,
        /// The size of its data.
        data_length: i32,
        /// How many children it has.
        num_children: i32,
        /// The transaction that last changed its children.
        pzxid: i64,
    }
    /// Precedes every request.
    RequestHeader {
        /// The client's number for it.
        xid: i32,
        /// [`crate::wire::OpCode`].
        op: i32,
    }
    /// Precedes every reply.
    ReplyHeader {
        /// The request's number.
        xid: i32,
        /// The last transaction that the server has applied.
        zxid: i64,
        /// [`crate::wire::ErrorCode`].
        err: i32,
    }
    /// Precedes every operation and result of a multi, and ends their list.
    MultiHeader {
        /// [`crate::wire::OpCode`]; -1 for an error and for the end.
        op: i32,
        /// True at the end.
        done: bool,
        /// The error; -1 at the end and in requests.
        err: i32,
    }
    /// create, create2 and createContainer.
    CreateRequest<'a> {
        /// Where.
        path: &'a str,
        /// What it holds.
        data: Option<&'a [u8]>,
        /// Who may do what.
        acl: Vec<Acl<'a>>,
        /// [`crate::wire::CreateMode`].
        flags: i32,
    }
    /// createTTL.
    CreateTtlRequest<'a> {
        /// Where.
        path: &'a str,
        /// What it holds.
        data: Option<&'a [u8]>,
        /// Who may do what.
        acl: Vec<Acl<'a>>,
        /// [`crate::wire::CreateMode`].
        flags: i32,
        /// For how many milliseconds it stays unchanged before it goes.
        ttl: i64,
    }
    /// delete and check.
    PathVersion<'a> {
        /// Which node.
        path: &'a str,
        /// The version that it must have; -1 for any.
        version: i32,
    }
    /// exists, getData, getChildren and getChildren2.
    PathWatch<'a> {
        /// Which node.
        path: &'a str,
        /// True to leave a watch.
        watch: bool,
    }
    /// sync, getACL, deleteContainer, getAllChildrenNumber and getEphemerals; the replies of create, sync and
    /// createContainer.
    PathOnly<'a> {
        /// Which node; a prefix for getEphemerals.
        path: &'a str,
    }
    /// The replies of create2, createContainer and createTTL.
    Create2Response<'a> {
        /// Where it was created.
        path: &'a str,
        /// Its metadata.
        stat: Stat,
    }
    /// The replies of exists, setData and setACL.
    StatResponse {
        /// The node's metadata.
        stat: Stat,
    }
    /// The reply of getData.
    GetDataResponse<'a> {
        /// What the node holds.
        data: Option<&'a [u8]>,
        /// Its metadata.
        stat: Stat,
    }
    /// setData.
    SetDataRequest<'a> {
        /// Which node.
        path: &'a str,
        /// What it shall hold.
        data: Option<&'a [u8]>,
        /// The version that it must have; -1 for any.
        version: i32,
    }
    /// The reply of getACL.
    GetAclResponse<'a> {
        /// Who may do what.
        acl: Vec<Acl<'a>>,
        /// The node's metadata.
        stat: Stat,
    }
    /// setACL.
    SetAclRequest<'a> {
        /// Which node.
        path: &'a str,
        /// Who may do what.
        acl: Vec<Acl<'a>>,
        /// The access list's version that it must have; -1 for any.
        version: i32,
    }
    /// The replies of getChildren and getEphemerals.
    Strings<'a> {
        /// Names of children, or paths of ephemerals.
        list: Vec<&'a str>,
    }
    /// The reply of getChildren2.
    GetChildren2Response<'a> {
        /// Names.
        children: Vec<&'a str>,
        /// The parent's metadata.
        stat: Stat,
    }
    /// The reply of getAllChildrenNumber.
    CountResponse {
        /// How many nodes lie below the path.
        count: i32,
    }
    /// The reply of whoAmI.
    WhoAmIResponse<'a> {
        /// The ids of the session.
        ids: Vec<Id<'a>>,
    }
    /// The error inside a multi's result.
    ErrorResponse {
        /// [`crate::wire::ErrorCode`].
        err: i32,
    }
    /// reconfig. Its reply is a [`GetDataResponse`].
    ReconfigRequest<'a> {
        /// `server.N=...` lines, comma separated, of those who join.
        joining: &'a str,
        /// Comma separated ids of those who leave.
        leaving: &'a str,
        /// A whole new membership, instead of the two above.
        members: &'a str,
        /// The version of the configuration that this starts from; -1 for any.
        config: i64,
    }
    /// Opens or reopens a session, up to protocol field `passwd`; see [`ConnectRequest`].
    ConnectBody<'a> {
        /// 0.
        protocol: i32,
        /// The last transaction that the client has seen.
        last_zxid_seen: i64,
        /// Asked for, in milliseconds.
        timeout: i32,
        /// 0 for a new session.
        session: i64,
        /// The session's password.
        password: Option<&'a [u8]>,
    }
    /// Answers a connect, up to protocol field `passwd`; see [`ConnectResponse`].
    ConnectResponseBody<'a> {
        /// 0.
        protocol: i32,
        /// Granted, in milliseconds; 0 if the session is gone.
        timeout: i32,
        /// The session; 0 if it is gone.
        session: i64,
        /// The session's password.
        password: Option<&'a [u8]>,
    }
    /// setWatches.
    SetWatches<'a> {
        /// The last transaction that the client has seen.
        relative_zxid: i64,
        /// Paths with data watches.
        data: Vec<&'a str>,
        /// Paths with watches for their creation.
        exist: Vec<&'a str>,
        /// Paths with child watches.
        child: Vec<&'a str>,
    }
    /// setWatches2.
    SetWatches2<'a> {
        /// The last transaction that the client has seen.
        relative_zxid: i64,
        /// Paths with data watches.
        data: Vec<&'a str>,
        /// Paths with watches for their creation.
        exist: Vec<&'a str>,
        /// Paths with child watches.
        child: Vec<&'a str>,
        /// Paths with persistent watches.
        persistent: Vec<&'a str>,
        /// Paths with persistent recursive watches.
        persistent_recursive: Vec<&'a str>,
    }
    /// checkWatches and removeWatches.
    WatchRemoval<'a> {
        /// Which node.
        path: &'a str,
        /// [`crate::wire::WatcherType`].
        kind: i32,
    }
    /// addWatch.
    AddWatch<'a> {
        /// Which node.
        path: &'a str,
        /// [`crate::wire::AddWatchMode`].
        mode: i32,
    }
    /// A watch event, behind a [`ReplyHeader`] with xid -1.
    WatcherEvent<'a> {
        /// [`crate::wire::EventType`].
        kind: i32,
        /// [`crate::wire::KeeperState`].
        state: i32,
        /// Which node; empty for a change of the session's state.
        path: &'a str,
    }
    /// auth.
    AuthPacket<'a> {
        /// 0.
        kind: i32,
        /// `digest`, for example.
        scheme: &'a str,
        /// `user:password`, for example.
        auth: Option<&'a [u8]>,
    }
    /// A step of a SASL exchange, either way.
    SaslToken<'a> {
        /// The mechanism's own bytes.
        token: Option<&'a [u8]>,
    }
}

/// Opens or reopens a session. Clients before 3.4 leave the last byte out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// All but the last byte.
    pub body: ConnectBody<'a>,
    /// Whether a read-only server will do; `None` if the client did not say.
    pub read_only: Option<bool>,
}

/// Answers a connect. The last byte goes to clients that sent theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectResponse<'a> {
    /// All but the last byte.
    pub body: ConnectResponseBody<'a>,
    /// Whether this server is read-only; `None` to leave the byte out.
    pub read_only: Option<bool>,
}

macro_rules! with_read_only {
    ($name:ident) => {
        impl<'a> Decode<'a> for $name<'a> {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                let body = Decode::decode(reader)?;
                let read_only = if reader.is_empty() { None } else { Some(bool::decode(reader)?) };
                Ok(Self { body, read_only })
            }
        }
        impl Encode for $name<'_> {
            fn encode(&self, out: &mut Vec<u8>) {
                self.body.encode(out);
                if let Some(read_only) = self.read_only {
                    read_only.encode(out);
                }
            }
        }
    };
}
with_read_only!(ConnectRequest);
with_read_only!(ConnectResponse);

impl MultiHeader {
    /// Ends the list.
    pub const END: Self = Self { op: -1, done: true, err: -1 };

    /// Precedes an operation, or its successful result if `err` is 0.
    #[must_use]
    pub const fn of(op: i32, err: i32) -> Self {
        Self { op, done: false, err }
    }
}

impl Id<'_> {
    /// Everybody.
    pub const ANYONE: Id<'static> = Id { scheme: "world", id: "anyone" };
}

impl Acl<'_> {
    /// Everybody may do everything.
    pub const OPEN: Acl<'static> = Acl { perms: super::perms::ALL, id: Id::ANYONE };
}
