//! The numbers of the protocol: operations, errors, events, create modes, permissions.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The value with this number on the wire, if there is one.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                self as i32
            }
        }
    };
}

numbered! {
    /// What a request asks for.
    OpCode {
        /// Tells a server's watches of something; never sent by clients.
        Notification = 0,
        /// Creates a node; the reply is its path.
        Create = 1,
        /// Deletes a node.
        Delete = 2,
        /// Asks for a node's stat.
        Exists = 3,
        /// Asks for a node's data and stat.
        GetData = 4,
        /// Replaces a node's data.
        SetData = 5,
        /// Asks for a node's access list.
        GetAcl = 6,
        /// Replaces a node's access list.
        SetAcl = 7,
        /// Asks for the names of a node's children.
        GetChildren = 8,
        /// Brings the server up to date with the leader.
        Sync = 9,
        /// Keeps the session alive; xid -2.
        Ping = 11,
        /// Asks for the names of a node's children and its stat.
        GetChildren2 = 12,
        /// Fails unless the node has this version.
        Check = 13,
        /// Several writes, all or none.
        Multi = 14,
        /// Creates a node; the reply is its path and stat.
        Create2 = 15,
        /// Changes the ensemble.
        Reconfig = 16,
        /// Fails unless the connection has such a watch.
        CheckWatches = 17,
        /// Removes watches of the connection.
        RemoveWatches = 18,
        /// Creates a node that goes away once its last child did.
        CreateContainer = 19,
        /// Deletes an empty container or an expired node; servers only.
        DeleteContainer = 20,
        /// Creates a node that goes away when it was not changed for a while.
        CreateTtl = 21,
        /// Several reads, each with its own result.
        MultiRead = 22,
        /// Adds credentials; xid -4.
        Auth = 100,
        /// Registers watches again after a reconnect; xid -8.
        SetWatches = 101,
        /// A step of a SASL exchange.
        Sasl = 102,
        /// Asks for the session's ephemeral nodes below a prefix.
        GetEphemerals = 103,
        /// Asks for the number of nodes below a path.
        GetAllChildrenNumber = 104,
        /// [`OpCode::SetWatches`] with persistent watches.
        SetWatches2 = 105,
        /// Adds a watch of a given mode.
        AddWatch = 106,
        /// Asks for the session's authenticated ids.
        WhoAmI = 107,
        /// Opens a session; servers only.
        CreateSession = -10,
        /// Closes the session.
        CloseSession = -11,
        /// A result that is an error, inside a multi.
        Error = -1,
    }
}

numbered! {
    /// Why a request failed.
    ErrorCode {
        /// It did not.
        Ok = 0,
        /// The server is at fault.
        SystemError = -1,
        /// Inside a failed multi: not reached, or undone.
        RuntimeInconsistency = -2,
        /// Data was lost or altered.
        DataInconsistency = -3,
        /// The connection broke.
        ConnectionLoss = -4,
        /// The request does not decode.
        MarshallingError = -5,
        /// No such operation here.
        Unimplemented = -6,
        /// It took too long.
        OperationTimeout = -7,
        /// An argument is invalid, such as a path.
        BadArguments = -8,
        /// The session does not exist.
        UnknownSession = -12,
        /// A reconfiguration started from another configuration.
        NewConfigNoQuorum = -13,
        /// A reconfiguration is under way.
        ReconfigInProgress = -14,
        /// The api is at fault; below are its errors.
        ApiError = -100,
        /// The node does not exist.
        NoNode = -101,
        /// The access list forbids it.
        NoAuth = -102,
        /// The node has another version.
        BadVersion = -103,
        /// Ephemeral nodes have no children.
        NoChildrenForEphemerals = -108,
        /// The node exists.
        NodeExists = -110,
        /// The node has children.
        NotEmpty = -111,
        /// The session has expired.
        SessionExpired = -112,
        /// The access list is invalid.
        InvalidAcl = -114,
        /// The credentials are wrong.
        AuthFailed = -115,
        /// The session is served by another server now.
        SessionMoved = -118,
        /// A read-only server does not write.
        NotReadOnly = -119,
        /// A local session has no ephemeral nodes.
        EphemeralOnLocalSession = -120,
        /// The connection has no such watch.
        NoWatcher = -121,
        /// The request did not fit its time or the server's limits.
        RequestTimeout = -122,
        /// Reconfiguration is switched off.
        ReconfigDisabled = -123,
        /// The server wants an authenticated session.
        SessionClosedRequireSaslAuth = -124,
        /// A quota forbids it.
        QuotaExceeded = -125,
        /// Too many requests wait.
        Throttled = -127,
    }
}

numbered! {
    /// What happened to a node.
    EventType {
        /// Nothing: the session's state changed.
        None = -1,
        /// It was created.
        NodeCreated = 1,
        /// It was deleted.
        NodeDeleted = 2,
        /// Its data changed.
        NodeDataChanged = 3,
        /// A child came or went.
        NodeChildrenChanged = 4,
        /// A data watch was removed.
        DataWatchRemoved = 5,
        /// A child watch was removed.
        ChildWatchRemoved = 6,
        /// A persistent watch was removed.
        PersistentWatchRemoved = 7,
    }
}

numbered! {
    /// How a client stands to the ensemble, in a watch event.
    KeeperState {
        /// Not connected.
        Disconnected = 0,
        /// Connected.
        SyncConnected = 3,
        /// Credentials were refused.
        AuthFailed = 4,
        /// Connected to a server that serves no writes.
        ConnectedReadOnly = 5,
        /// Authenticated by SASL.
        SaslAuthenticated = 6,
        /// The session is gone.
        Expired = -112,
        /// The client closed.
        Closed = 7,
    }
}

numbered! {
    /// What kind of watch to check or remove.
    WatcherType {
        /// One that awaits a node's children.
        Children = 1,
        /// One that awaits a node's data.
        Data = 2,
        /// Either.
        Any = 3,
    }
}

numbered! {
    /// What an added watch covers.
    AddWatchMode {
        /// A node, until removed.
        Persistent = 0,
        /// A node and everything below it, until removed.
        PersistentRecursive = 1,
    }
}

numbered! {
    /// What kind of node to create.
    CreateMode {
        /// One that stays.
        Persistent = 0,
        /// One that goes with its session.
        Ephemeral = 1,
        /// One that stays, with a number appended to its name.
        PersistentSequential = 2,
        /// One that goes with its session, with a number appended to its name.
        EphemeralSequential = 3,
        /// One that goes some time after its last child.
        Container = 4,
        /// One that goes some time after its last change.
        PersistentWithTtl = 5,
        /// The same, with a number appended to its name.
        PersistentSequentialWithTtl = 6,
    }
}

impl CreateMode {
    /// True if the node goes with its session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// True if a number is appended to the name.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(self, Self::PersistentSequential | Self::EphemeralSequential | Self::PersistentSequentialWithTtl)
    }

    /// True if the node goes some time after its last change.
    #[must_use]
    pub const fn is_ttl(self) -> bool {
        matches!(self, Self::PersistentWithTtl | Self::PersistentSequentialWithTtl)
    }
}

/// Bits of [`crate::wire::Acl::perms`].
pub mod perms {
    /// May get data and list children.
    pub const READ: i32 = 1;
    /// May set data.
    pub const WRITE: i32 = 1 << 1;
    /// May create children.
    pub const CREATE: i32 = 1 << 2;
    /// May delete children.
    pub const DELETE: i32 = 1 << 3;
    /// May set the access list.
    pub const ADMIN: i32 = 1 << 4;
    /// Everything.
    pub const ALL: i32 = 31;
}

/// Request numbers with a meaning of their own.
pub mod xid {
    /// A watch event.
    pub const NOTIFICATION: i32 = -1;
    /// A ping and its answer.
    pub const PING: i32 = -2;
    /// Credentials and their answer.
    pub const AUTH: i32 = -4;
    /// Watches registered again and their answer.
    pub const SET_WATCHES: i32 = -8;
}
