//! A whole request: which record belongs to which operation, and how a multi lists its own.

use super::code::OpCode;
use super::jute::{Decode, DecodeError, Encode, Reader};
use super::record::{
    AddWatch, AuthPacket, CreateRequest, CreateTtlRequest, MultiHeader, PathOnly, PathVersion, PathWatch,
    ReconfigRequest, SaslToken, SetAclRequest, SetDataRequest, SetWatches, SetWatches2, WatchRemoval,
};

/// The most operations that one multi may hold.
pub const MULTI_COUNT_MAX: usize = 1 << 16;

/// The body of a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// create, create2 and createContainer, told apart by the opcode.
    Create(OpCode, CreateRequest<'a>),
    /// createTTL.
    CreateTtl(CreateTtlRequest<'a>),
    /// delete.
    Delete(PathVersion<'a>),
    /// deleteContainer.
    DeleteContainer(PathOnly<'a>),
    /// check.
    Check(PathVersion<'a>),
    /// exists.
    Exists(PathWatch<'a>),
    /// getData.
    GetData(PathWatch<'a>),
    /// setData.
    SetData(SetDataRequest<'a>),
    /// getACL.
    GetAcl(PathOnly<'a>),
    /// setACL.
    SetAcl(SetAclRequest<'a>),
    /// getChildren.
    GetChildren(PathWatch<'a>),
    /// getChildren2.
    GetChildren2(PathWatch<'a>),
    /// getEphemerals.
    GetEphemerals(PathOnly<'a>),
    /// getAllChildrenNumber.
    GetAllChildrenNumber(PathOnly<'a>),
    /// sync.
    Sync(PathOnly<'a>),
    /// multi.
    Multi(Vec<Request<'a>>),
    /// multiRead.
    MultiRead(Vec<Request<'a>>),
    /// reconfig.
    Reconfig(ReconfigRequest<'a>),
    /// auth.
    Auth(AuthPacket<'a>),
    /// sasl.
    Sasl(SaslToken<'a>),
    /// setWatches.
    SetWatches(SetWatches<'a>),
    /// setWatches2.
    SetWatches2(SetWatches2<'a>),
    /// addWatch.
    AddWatch(AddWatch<'a>),
    /// checkWatches.
    CheckWatches(WatchRemoval<'a>),
    /// removeWatches.
    RemoveWatches(WatchRemoval<'a>),
    /// whoAmI.
    WhoAmI,
    /// ping.
    Ping,
    /// closeSession.
    CloseSession,
}

impl<'a> Request<'a> {
    /// Reads the body of a request with this opcode.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::UnknownNumber`] for an opcode that clients do not send.
    pub fn decode(op: OpCode, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        use Decode as D;
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer => Self::Create(op, D::decode(reader)?),
            OpCode::CreateTtl => Self::CreateTtl(D::decode(reader)?),
            OpCode::Delete => Self::Delete(D::decode(reader)?),
            OpCode::DeleteContainer => Self::DeleteContainer(D::decode(reader)?),
            OpCode::Check => Self::Check(D::decode(reader)?),
            OpCode::Exists => Self::Exists(D::decode(reader)?),
            OpCode::GetData => Self::GetData(D::decode(reader)?),
            OpCode::SetData => Self::SetData(D::decode(reader)?),
            OpCode::GetAcl => Self::GetAcl(D::decode(reader)?),
            OpCode::SetAcl => Self::SetAcl(D::decode(reader)?),
            OpCode::GetChildren => Self::GetChildren(D::decode(reader)?),
            OpCode::GetChildren2 => Self::GetChildren2(D::decode(reader)?),
            OpCode::GetEphemerals => Self::GetEphemerals(D::decode(reader)?),
            OpCode::GetAllChildrenNumber => Self::GetAllChildrenNumber(D::decode(reader)?),
            OpCode::Sync => Self::Sync(D::decode(reader)?),
            OpCode::Multi => Self::Multi(decode_multi(reader, is_multi_write)?),
            OpCode::MultiRead => Self::MultiRead(decode_multi(reader, is_multi_read)?),
            OpCode::Reconfig => Self::Reconfig(D::decode(reader)?),
            OpCode::Auth => Self::Auth(D::decode(reader)?),
            OpCode::Sasl => Self::Sasl(D::decode(reader)?),
            OpCode::SetWatches => Self::SetWatches(D::decode(reader)?),
            OpCode::SetWatches2 => Self::SetWatches2(D::decode(reader)?),
            OpCode::AddWatch => Self::AddWatch(D::decode(reader)?),
            OpCode::CheckWatches => Self::CheckWatches(D::decode(reader)?),
            OpCode::RemoveWatches => Self::RemoveWatches(D::decode(reader)?),
            OpCode::WhoAmI => Self::WhoAmI,
            OpCode::Ping => Self::Ping,
            OpCode::CloseSession => Self::CloseSession,
            OpCode::Notification | OpCode::CreateSession | OpCode::Error => {
                return Err(DecodeError::UnknownNumber(op.number()));
            }
        })
    }

    /// The opcode that goes into the header.
    #[must_use]
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(op, _) => *op,
            Self::CreateTtl(_) => OpCode::CreateTtl,
            Self::Delete(_) => OpCode::Delete,
            Self::DeleteContainer(_) => OpCode::DeleteContainer,
            Self::Check(_) => OpCode::Check,
            Self::Exists(_) => OpCode::Exists,
            Self::GetData(_) => OpCode::GetData,
            Self::SetData(_) => OpCode::SetData,
            Self::GetAcl(_) => OpCode::GetAcl,
            Self::SetAcl(_) => OpCode::SetAcl,
            Self::GetChildren(_) => OpCode::GetChildren,
            Self::GetChildren2(_) => OpCode::GetChildren2,
            Self::GetEphemerals(_) => OpCode::GetEphemerals,
            Self::GetAllChildrenNumber(_) => OpCode::GetAllChildrenNumber,
            Self::Sync(_) => OpCode::Sync,
            Self::Multi(_) => OpCode::Multi,
            Self::MultiRead(_) => OpCode::MultiRead,
            Self::Reconfig(_) => OpCode::Reconfig,
            Self::Auth(_) => OpCode::Auth,
            Self::Sasl(_) => OpCode::Sasl,
            Self::SetWatches(_) => OpCode::SetWatches,
            Self::SetWatches2(_) => OpCode::SetWatches2,
            Self::AddWatch(_) => OpCode::AddWatch,
            Self::CheckWatches(_) => OpCode::CheckWatches,
            Self::RemoveWatches(_) => OpCode::RemoveWatches,
            Self::WhoAmI => OpCode::WhoAmI,
            Self::Ping => OpCode::Ping,
            Self::CloseSession => OpCode::CloseSession,
        }
    }
}

impl Encode for Request<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create(_, r) => r.encode(out),
            Self::CreateTtl(r) => r.encode(out),
            Self::Delete(r) | Self::Check(r) => r.encode(out),
            Self::Exists(r) | Self::GetData(r) | Self::GetChildren(r) | Self::GetChildren2(r) => r.encode(out),
            Self::SetData(r) => r.encode(out),
            Self::SetAcl(r) => r.encode(out),
            Self::DeleteContainer(r)
            | Self::GetAcl(r)
            | Self::GetEphemerals(r)
            | Self::GetAllChildrenNumber(r)
            | Self::Sync(r) => r.encode(out),
            Self::Multi(list) | Self::MultiRead(list) => {
                for request in list {
                    MultiHeader::of(request.op().number(), -1).encode(out);
                    request.encode(out);
                }
                MultiHeader::END.encode(out);
            }
            Self::Reconfig(r) => r.encode(out),
            Self::Auth(r) => r.encode(out),
            Self::Sasl(r) => r.encode(out),
            Self::SetWatches(r) => r.encode(out),
            Self::SetWatches2(r) => r.encode(out),
            Self::AddWatch(r) => r.encode(out),
            Self::CheckWatches(r) | Self::RemoveWatches(r) => r.encode(out),
            Self::WhoAmI | Self::Ping | Self::CloseSession => {}
        }
    }
}

fn is_multi_write(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::Check
    )
}

fn is_multi_read(op: OpCode) -> bool {
    matches!(op, OpCode::GetData | OpCode::GetChildren)
}

/// Reads headers and operations until the header that ends them. Nothing nests.
fn decode_multi<'a>(reader: &mut Reader<'a>, allowed: fn(OpCode) -> bool) -> Result<Vec<Request<'a>>, DecodeError> {
    let mut list = Vec::new();
    loop {
        let header = MultiHeader::decode(reader)?;
        if header.done {
            return Ok(list);
        }
        if list.len() == MULTI_COUNT_MAX {
            return Err(DecodeError::TooLong(super::jute::length_of(list.len())));
        }
        let op =
            OpCode::from_number(header.op).filter(|op| allowed(*op)).ok_or(DecodeError::UnknownNumber(header.op))?;
        list.push(Request::decode(op, reader)?);
    }
}

/// Reads any request from an untrusted body; the way in for a fuzzer.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(op: i32, body: &[u8]) -> Result<Request<'_>, DecodeError> {
    let op = OpCode::from_number(op).ok_or(DecodeError::UnknownNumber(op))?;
    Request::decode(op, &mut Reader::new(body))
}
