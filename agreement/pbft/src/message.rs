//! What replicas of one group say to each other, as bytes, and what of it is signed.
//!
//! ```text
//! frame       = version:u8 kind:u8 epoch body              (numbers are LEB128, below 2^60)
//! request     = client incarnation seq kind:u8 op sig      REQUEST(o, t, c): t is incarnation and seq, sig is the client's;
//!                                                          kind: an operation 0, an endorsement of other members 1
//! pre-prepare = view n batch sig                           sig is the primary's, over view, n and the batch's digest
//! prepare     = view n digest lead sig                     lead is the primary's signature of the pre-prepare
//! commit      = view n digest sig
//! checkpoint  = n digest sig
//! view-change = replica view stable count prepared* sig
//! new-view    = view count view-change* count lead* sig    a lead for each pre-prepare of the set O, in order
//! want        = n digest        batch = n batch            the content of a digest
//! status      = view flags:u8 executed stable first        flags: the view is entered 1
//! fetch       = from
//! entries     = first count (batch proof)*                 executed entries, each with its proof
//! snapshot    = index term members context proof-of-it count link*     the proof is a stable checkpoint's
//! stable      = n epoch digest votes                       q checkpoints, said in that epoch
//! link        = stable digest members                      how an epoch ended (`epoch`)
//! batch       = kind:u8 term time [count request*]              0 null, 1 requests
//! prepared    = n view digest lead votes                   a pre-prepare and q - 1 prepares
//! proof       = view votes                                 q commits
//! votes       = count (replica sig)*
//! ```
//!
//! The sender is absent: the driver authenticates it. Signatures are there for those who hear it from somebody else. Each is
//! over a hash that begins with the kind of statement, the group's name and the epoch, so that nothing that was said
//! elsewhere, earlier or about something else can be taken for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use verity_contract::codec::{self, put_blob, put_members, put_number, take_blob, take_byte, take_many};
use verity_contract::{Members, SnapshotMeta};
use verity_types::{Digest, LogIndex, NodeId, Term};

use crate::Error;
use crate::epoch::{Link, Wish};
use crate::keys::{SIGNATURE_BYTES, Sig, Signed};

const VERSION: u8 = 2;
/// Bytes of a group's name.
pub(crate) const GROUP_BYTES_MAX: usize = 256;
/// The largest frame.
pub const MAX_MESSAGE_BYTES: usize = 48 << 20;
/// The largest batch.
pub const MAX_BATCH_BYTES: usize = 16 << 20;
/// The largest operation of one request.
pub const MAX_OPERATION_BYTES: usize = MAX_BATCH_BYTES - 1024;
/// The most members of a group, counted per set.
pub const MAX_MEMBERS: usize = codec::MEMBERS_MAX;
/// Views, sequence numbers and counters stay below this, so that no addition to one overflows.
pub(crate) const MAX_NUMBER: u64 = 1 << 60;
/// Bytes of what a snapshot says for the engine.
const CONTEXT_BYTES_MAX: usize = 2 << 20;
/// Bytes of a link, at least.
pub(crate) const LINK_BYTES_MIN: usize = 64;
/// What a request costs beside its operation, at most.
pub(crate) const REQUEST_OVERHEAD: usize = 128;

/// An operation that a client asks for (PBFT §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Who asks.
    pub client: NodeId,
    /// The client's start count; with `seq` the paper's timestamp.
    pub incarnation: u64,
    /// Counts the client's requests within its incarnation, from 1.
    pub seq: u64,
    /// True if it endorses other members, and is no operation of a client's.
    pub endorses: bool,
    /// What it asks.
    pub op: Bytes,
    /// The client's signature.
    pub sig: Sig,
}

/// What a sequence number is given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing: a new view found nothing prepared here (§4.4).
    Null,
    /// Requests, in order.
    Requests(Vec<Request>),
}

/// What a pre-prepare assigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The term in which it was first proposed: part of it, so that every replica reports the same. 0 for nothing.
    pub term: u64,
    /// The primary's clock, in milliseconds since 1970; 0 if it has none.
    pub time: u64,
    /// What is ordered.
    pub content: Content,
}

impl Batch {
    pub(crate) const NULL: Batch = Batch { term: 0, time: 0, content: Content::Null };

    /// Its requests.
    #[must_use]
    pub(crate) fn requests(&self) -> &[Request] {
        if let Content::Requests(requests) = &self.content { requests } else { &[] }
    }

    /// Its size in a frame, at most.
    pub(crate) fn size(&self) -> usize {
        16 + self.requests().iter().map(|request| request.op.len() + REQUEST_OVERHEAD).sum::<usize>()
    }
}

/// Signatures of one statement by several replicas.
pub(crate) type Votes = Vec<(NodeId, Sig)>;

/// The proof that a batch prepared: a pre-prepare and q - 1 prepares of other replicas (§4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The sequence number.
    pub n: u64,
    /// In this view.
    pub view: u64,
    /// Of the batch.
    pub digest: Digest,
    /// The primary's signature of the pre-prepare.
    pub lead: Sig,
    /// The prepares.
    pub votes: Votes,
}

/// The proof that a batch is committed: q commits (§4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// In this view.
    pub view: u64,
    /// The commits.
    pub votes: Votes,
}

/// The proof of a stable checkpoint: q replicas say that the state has this digest (§4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stable {
    /// The state after this sequence number; 0 before the first checkpoint, which needs no proof.
    pub n: u64,
    /// In this epoch the votes were said.
    pub epoch: u64,
    /// Of the state.
    pub digest: Digest,
    /// The checkpoints.
    pub votes: Votes,
}

/// A replica's wish for a view (§4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewChange {
    /// Whose wish.
    pub replica: NodeId,
    /// For this view.
    pub view: u64,
    /// C: its last stable checkpoint.
    pub stable: Stable,
    /// P: what prepared behind it, by sequence number, in the highest view in which it did.
    pub prepared: Vec<Prepared>,
    /// The replica's signature.
    pub sig: Sig,
}

/// The proof that a view may begin (§4.4). The pre-prepares of O follow from V, so only their signatures are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewView {
    /// The view.
    pub view: u64,
    /// V: q wishes.
    pub changes: Vec<ViewChange>,
    /// The primary's signature of each pre-prepare in O.
    pub leads: Vec<Sig>,
    /// The primary's signature.
    pub sig: Sig,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) view: u64,
    pub(crate) entered: bool,
    pub(crate) executed: u64,
    pub(crate) stable: u64,
    /// The first entry that it can send.
    pub(crate) first: u64,
}

/// One message, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request(Request),
    PrePrepare { view: u64, n: u64, batch: Batch, sig: Sig },
    Prepare { view: u64, n: u64, digest: Digest, lead: Sig, sig: Sig },
    Commit { view: u64, n: u64, digest: Digest, sig: Sig },
    Checkpoint { n: u64, digest: Digest, sig: Sig },
    ViewChange(ViewChange),
    NewView(NewView),
    Want { n: u64, digest: Digest },
    Batch { n: u64, batch: Batch },
    Status(Status),
    Fetch { from: u64 },
    Entries { first: u64, entries: Vec<(Batch, Proof)> },
    Snapshot { meta: SnapshotMeta, stable: Stable, links: Vec<Link> },
    Stable(Stable),
    Link(Link),
}

impl Message {
    /// Small, and worth nothing once it is late.
    pub(crate) fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. } | Self::Commit { .. } | Self::Checkpoint { .. } | Self::Status(_) | Self::Fetch { .. }
        )
    }
}

/// Which group, in which epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The group's name.
    pub group: Bytes,
    /// Counts the changes of members.
    pub epoch: u64,
}

const SAID: &[u8] = b"verity-pbft-1";

impl Scope {
    fn begin(&self, kind: &[u8]) -> Sha256 {
        let mut hash = Sha256::new().chain_update(SAID);
        hash.update([kind.len() as u8]);
        hash.update(kind);
        hash.update((self.group.len() as u64).to_be_bytes());
        hash.update(&self.group);
        hash
    }

    fn statement(&self, kind: &[u8], numbers: &[u64], digest: &[u8]) -> Digest {
        let mut hash = self.begin(kind).chain_update(self.epoch.to_be_bytes());
        numbers.iter().for_each(|number| hash.update(number.to_be_bytes()));
        Digest(hash.chain_update(digest).finalize().into())
    }

    /// What a member signs under an answer of its group's machine.
    #[must_use]
    pub(crate) fn answer(&self, statement: Digest) -> Digest {
        self.statement(b"answer", &[], &statement.0)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.group.len() + 12);
        put_number(&mut out, self.epoch);
        put_blob(&mut out, &self.group);
        out.freeze()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Error::InvalidMessage`] says what is wrong with it.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Error> {
        let epoch = take_number(&mut bytes)?;
        let group = take_blob(&mut bytes, GROUP_BYTES_MAX)?;
        if bytes.is_empty() { Ok(Self { group, epoch }) } else { invalid("bytes behind a group's name") }
    }

    /// What a client signs. It holds in every epoch, since a client need not know in which its request is ordered.
    #[must_use]
    pub(crate) fn request(&self, request: &Request) -> Digest {
        let mut hash = self.begin(if request.endorses { b"endorsement" } else { b"request" });
        [request.client.0, request.incarnation, request.seq].iter().for_each(|n| hash.update(n.to_be_bytes()));
        Digest(hash.chain_update(&request.op).finalize().into())
    }

    /// What a request's client is said to have signed.
    pub(crate) fn of_request(&self, request: &Request) -> Signed {
        Signed { node: request.client, hash: self.request(request), sig: request.sig }
    }

    /// A batch's digest.
    #[must_use]
    pub(crate) fn batch(&self, batch: &Batch) -> Digest {
        let mut hash = self.begin(b"batch");
        [batch.term, batch.time].iter().for_each(|number| hash.update(number.to_be_bytes()));
        match &batch.content {
            Content::Null => hash.update([0]),
            Content::Requests(requests) => {
                hash.update([1]);
                requests.iter().for_each(|request| hash.update(self.request(request).0));
            }
        }
        Digest(hash.finalize().into())
    }

    /// What a primary signs.
    #[must_use]
    pub(crate) fn pre_prepare(&self, view: u64, n: u64, digest: Digest) -> Digest {
        self.statement(b"pre-prepare", &[view, n], &digest.0)
    }

    /// What a backup signs first.
    #[must_use]
    pub(crate) fn prepare(&self, view: u64, n: u64, digest: Digest) -> Digest {
        self.statement(b"prepare", &[view, n], &digest.0)
    }

    /// What everybody signs once a batch prepared.
    #[must_use]
    pub(crate) fn commit(&self, view: u64, n: u64, digest: Digest) -> Digest {
        self.statement(b"commit", &[view, n], &digest.0)
    }

    /// What everybody signs of the state.
    #[must_use]
    pub(crate) fn checkpoint(&self, n: u64, digest: Digest) -> Digest {
        self.statement(b"checkpoint", &[n], &digest.0)
    }

    /// What a replica signs that wants a view.
    #[must_use]
    pub(crate) fn view_change(&self, change: &ViewChange) -> Digest {
        let mut out = BytesMut::new();
        put_view_change_body(&mut out, change);
        self.statement(b"view-change", &[], &Sha256::digest(&out))
    }

    /// What a primary signs that begins a view.
    #[must_use]
    pub(crate) fn new_view(&self, new: &NewView) -> Digest {
        let mut out = BytesMut::new();
        put_new_view_body(&mut out, new);
        self.statement(b"new-view", &[], &Sha256::digest(&out))
    }

    /// The prepares and the pre-prepare of a certificate, whose primary is `primary`.
    pub(crate) fn of_prepared(&self, prepared: &Prepared, primary: NodeId) -> Vec<Signed> {
        let lead = self.pre_prepare(prepared.view, prepared.n, prepared.digest);
        let vote = self.prepare(prepared.view, prepared.n, prepared.digest);
        let first = Signed { node: primary, hash: lead, sig: prepared.lead };
        std::iter::once(first).chain(signed(&prepared.votes, vote)).collect()
    }
}

/// Each of the votes as what its replica is said to have signed.
pub(crate) fn signed(votes: &Votes, hash: Digest) -> impl Iterator<Item = Signed> + '_ {
    votes.iter().map(move |(node, sig)| Signed { node: *node, hash, sig: *sig })
}

fn invalid<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidMessage(what.into()))
}

pub(crate) fn take_number(bytes: &mut Bytes) -> Result<u64, Error> {
    Ok(codec::take_below(bytes, MAX_NUMBER)?)
}

pub(crate) fn take_digest(bytes: &mut Bytes) -> Result<Digest, Error> {
    let mut digest = Digest::default();
    bytes.try_copy_to_slice(&mut digest.0).or_else(|_| invalid("a digest ends early"))?;
    Ok(digest)
}

pub(crate) fn take_sig(bytes: &mut Bytes) -> Result<Sig, Error> {
    let mut sig = Sig([0; SIGNATURE_BYTES]);
    bytes.try_copy_to_slice(&mut sig.0).or_else(|_| invalid("a signature ends early"))?;
    Ok(sig)
}

fn put_votes(out: &mut BytesMut, votes: &Votes) {
    put_number(out, votes.len() as u64);
    for (node, sig) in votes {
        put_number(out, node.0);
        out.put_slice(&sig.0);
    }
}

fn take_vote(bytes: &mut Bytes) -> Result<(NodeId, Sig), Error> {
    Ok((NodeId(take_number(bytes)?), take_sig(bytes)?))
}

fn take_entry(bytes: &mut Bytes) -> Result<(Batch, Proof), Error> {
    Ok((take_batch(bytes)?, take_proof(bytes)?))
}

/// Votes of as many replicas as a group can have, each once.
fn take_votes(bytes: &mut Bytes) -> Result<Votes, Error> {
    let votes = take_many(bytes, SIGNATURE_BYTES + 1, take_vote)?;
    let rising = votes.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if rising && votes.len() <= MAX_MEMBERS { Ok(votes) } else { invalid("votes that are not each of another replica") }
}

fn put_request(out: &mut BytesMut, request: &Request) {
    [request.client.0, request.incarnation, request.seq].iter().for_each(|number| put_number(out, *number));
    out.put_u8(u8::from(request.endorses));
    put_blob(out, &request.op);
    out.put_slice(&request.sig.0);
}

fn take_request(bytes: &mut Bytes) -> Result<Request, Error> {
    // An incarnation may be a larger number than those of the protocol, which are added to.
    let (client, incarnation) = (NodeId(take_number(bytes)?), codec::take_number(bytes)?);
    let seq = take_number(bytes)?;
    let endorses = match take_byte(bytes)? {
        kind @ 0..=1 => kind == 1,
        other => return invalid(format!("{other} is no kind of request")),
    };
    let op = take_blob(bytes, MAX_OPERATION_BYTES)?;
    Ok(Request { client, incarnation, seq, endorses, op, sig: take_sig(bytes)? })
}

/// Appends a batch.
pub(crate) fn put_batch(out: &mut BytesMut, batch: &Batch) {
    out.reserve(batch.size());
    out.put_u8(match &batch.content {
        Content::Null => 0,
        Content::Requests(_) => 1,
    });
    put_number(out, batch.term);
    put_number(out, batch.time);
    if let Content::Requests(requests) = &batch.content {
        put_number(out, requests.len() as u64);
        requests.iter().for_each(|request| put_request(out, request));
    }
}

/// Takes a batch.
pub(crate) fn take_batch(bytes: &mut Bytes) -> Result<Batch, Error> {
    let (kind, term, time) = (take_byte(bytes)?, take_number(bytes)?, take_number(bytes)?);
    let content = match kind {
        0 if term == 0 && time == 0 => Content::Null,
        1 => Content::Requests(take_many(bytes, SIGNATURE_BYTES + 4, take_request)?),
        other => return invalid(format!("{other} is no kind of batch")),
    };
    let batch = Batch { term, time, content };
    if batch.size() > MAX_BATCH_BYTES + 2 * REQUEST_OVERHEAD { invalid("a batch that is too large") } else { Ok(batch) }
}

/// True members: somebody votes, nobody both votes and learns, and nothing is joint.
pub(crate) fn check_members(members: &Members) -> Result<(), Error> {
    let both = !members.voters.is_disjoint(&members.learners);
    if members.voters.is_empty() || !members.outgoing.is_empty() || both {
        return invalid("members of whom nobody votes, or one twice");
    }
    if members.all().len() > MAX_MEMBERS || members.all().contains(&NodeId(0)) {
        return invalid("more members than a group can have, or one that is nobody");
    }
    Ok(())
}

/// Appends a certificate.
pub(crate) fn put_prepared(out: &mut BytesMut, prepared: &Prepared) {
    put_number(out, prepared.n);
    put_number(out, prepared.view);
    out.put_slice(&prepared.digest.0);
    out.put_slice(&prepared.lead.0);
    put_votes(out, &prepared.votes);
}

/// Takes a certificate.
pub(crate) fn take_prepared(bytes: &mut Bytes) -> Result<Prepared, Error> {
    let (n, view) = (take_number(bytes)?, take_number(bytes)?);
    let (digest, lead) = (take_digest(bytes)?, take_sig(bytes)?);
    Ok(Prepared { n, view, digest, lead, votes: take_votes(bytes)? })
}

/// Appends a proof.
pub(crate) fn put_proof(out: &mut BytesMut, proof: &Proof) {
    put_number(out, proof.view);
    put_votes(out, &proof.votes);
}

/// Takes a proof.
pub(crate) fn take_proof(bytes: &mut Bytes) -> Result<Proof, Error> {
    Ok(Proof { view: take_number(bytes)?, votes: take_votes(bytes)? })
}

/// Appends the proof of a stable checkpoint.
pub(crate) fn put_stable(out: &mut BytesMut, stable: &Stable) {
    put_number(out, stable.n);
    put_number(out, stable.epoch);
    out.put_slice(&stable.digest.0);
    put_votes(out, &stable.votes);
}

/// Takes the proof of a stable checkpoint.
pub(crate) fn take_stable(bytes: &mut Bytes) -> Result<Stable, Error> {
    let (n, epoch) = (take_number(bytes)?, take_number(bytes)?);
    Ok(Stable { n, epoch, digest: take_digest(bytes)?, votes: take_votes(bytes)? })
}

fn put_view_change_body(out: &mut BytesMut, change: &ViewChange) {
    put_number(out, change.replica.0);
    put_number(out, change.view);
    put_stable(out, &change.stable);
    put_number(out, change.prepared.len() as u64);
    change.prepared.iter().for_each(|prepared| put_prepared(out, prepared));
}

/// Appends a wish for a view.
pub(crate) fn put_view_change(out: &mut BytesMut, change: &ViewChange) {
    put_view_change_body(out, change);
    out.put_slice(&change.sig.0);
}

/// Takes a wish for a view.
pub(crate) fn take_view_change(bytes: &mut Bytes) -> Result<ViewChange, Error> {
    let (replica, view) = (NodeId(take_number(bytes)?), take_number(bytes)?);
    let stable = take_stable(bytes)?;
    let prepared = take_many(bytes, 2 * SIGNATURE_BYTES, take_prepared)?;
    if !prepared.windows(2).all(|pair| pair[0].n < pair[1].n) {
        return invalid("a view change that names a sequence number twice");
    }
    Ok(ViewChange { replica, view, stable, prepared, sig: take_sig(bytes)? })
}

fn put_new_view_body(out: &mut BytesMut, new: &NewView) {
    put_number(out, new.view);
    put_number(out, new.changes.len() as u64);
    new.changes.iter().for_each(|change| put_view_change(out, change));
    put_number(out, new.leads.len() as u64);
    new.leads.iter().for_each(|lead| out.put_slice(&lead.0));
}

fn take_new_view(bytes: &mut Bytes) -> Result<NewView, Error> {
    let view = take_number(bytes)?;
    let changes = take_many(bytes, SIGNATURE_BYTES + 32, take_view_change)?;
    if changes.len() > MAX_MEMBERS || !changes.windows(2).all(|pair| pair[0].replica < pair[1].replica) {
        return invalid("a new view whose wishes are not each of another replica");
    }
    let leads = take_many(bytes, SIGNATURE_BYTES, take_sig)?;
    Ok(NewView { view, changes, leads, sig: take_sig(bytes)? })
}

fn put_meta(out: &mut BytesMut, meta: &SnapshotMeta) {
    put_number(out, meta.index.0);
    put_number(out, meta.term.0);
    put_members(out, &meta.members);
    put_blob(out, &meta.context);
}

fn take_meta(bytes: &mut Bytes) -> Result<SnapshotMeta, Error> {
    let (index, term) = (LogIndex(take_number(bytes)?), Term(take_number(bytes)?));
    let members = codec::take_members(bytes)?;
    check_members(&members)?;
    Ok(SnapshotMeta { index, term, members, context: take_blob(bytes, CONTEXT_BYTES_MAX)? })
}

fn put_status(out: &mut BytesMut, status: &Status) {
    put_number(out, status.view);
    out.put_u8(u8::from(status.entered));
    [status.executed, status.stable, status.first].iter().for_each(|number| put_number(out, *number));
}

fn take_status(bytes: &mut Bytes) -> Result<Status, Error> {
    let view = take_number(bytes)?;
    let entered = match take_byte(bytes)? {
        flag @ 0..=1 => flag == 1,
        other => return invalid(format!("{other} are no flags")),
    };
    let (executed, stable) = (take_number(bytes)?, take_number(bytes)?);
    Ok(Status { view, entered, executed, stable, first: take_number(bytes)? })
}

mod kind {
    pub(super) const REQUEST: u8 = 1;
    pub(super) const PRE_PREPARE: u8 = 2;
    pub(super) const PREPARE: u8 = 3;
    pub(super) const COMMIT: u8 = 4;
    pub(super) const CHECKPOINT: u8 = 5;
    pub(super) const VIEW_CHANGE: u8 = 6;
    pub(super) const NEW_VIEW: u8 = 7;
    pub(super) const WANT: u8 = 8;
    pub(super) const BATCH: u8 = 9;
    pub(super) const STATUS: u8 = 10;
    pub(super) const FETCH: u8 = 11;
    pub(super) const ENTRIES: u8 = 12;
    pub(super) const SNAPSHOT: u8 = 13;
    pub(super) const STABLE: u8 = 14;
    pub(super) const LINK: u8 = 15;
}

fn kind_of(message: &Message) -> u8 {
    match message {
        Message::Request(_) => kind::REQUEST,
        Message::PrePrepare { .. } => kind::PRE_PREPARE,
        Message::Prepare { .. } => kind::PREPARE,
        Message::Commit { .. } => kind::COMMIT,
        Message::Checkpoint { .. } => kind::CHECKPOINT,
        Message::ViewChange(_) => kind::VIEW_CHANGE,
        Message::NewView(_) => kind::NEW_VIEW,
        Message::Want { .. } => kind::WANT,
        Message::Batch { .. } => kind::BATCH,
        Message::Status(_) => kind::STATUS,
        Message::Fetch { .. } => kind::FETCH,
        Message::Entries { .. } => kind::ENTRIES,
        Message::Snapshot { .. } => kind::SNAPSHOT,
        Message::Stable(_) => kind::STABLE,
        Message::Link(_) => kind::LINK,
    }
}

/// The bytes of a message, said in `epoch`.
pub(crate) fn encode(epoch: u64, message: &Message) -> Bytes {
    let mut out = BytesMut::with_capacity(192);
    out.put_u8(VERSION);
    out.put_u8(kind_of(message));
    put_number(&mut out, epoch);
    match message {
        Message::Request(request) => put_request(&mut out, request),
        Message::PrePrepare { view, n, batch, sig } => {
            put_place(&mut out, *view, *n);
            put_batch(&mut out, batch);
            out.put_slice(&sig.0);
        }
        Message::Prepare { view, n, digest, lead, sig } => {
            put_place(&mut out, *view, *n);
            [&digest.0[..], &lead.0, &sig.0].iter().for_each(|piece| out.put_slice(piece));
        }
        Message::Commit { view, n, digest, sig } => {
            put_place(&mut out, *view, *n);
            [&digest.0[..], &sig.0].iter().for_each(|piece| out.put_slice(piece));
        }
        Message::Checkpoint { n, digest, sig } => {
            put_number(&mut out, *n);
            [&digest.0[..], &sig.0].iter().for_each(|piece| out.put_slice(piece));
        }
        Message::ViewChange(change) => put_view_change(&mut out, change),
        Message::NewView(new) => {
            put_new_view_body(&mut out, new);
            out.put_slice(&new.sig.0);
        }
        Message::Want { n, digest } => {
            put_number(&mut out, *n);
            out.put_slice(&digest.0);
        }
        Message::Batch { n, batch } => {
            put_number(&mut out, *n);
            put_batch(&mut out, batch);
        }
        Message::Status(status) => put_status(&mut out, status),
        Message::Fetch { from } => put_number(&mut out, *from),
        Message::Entries { first, entries } => {
            put_number(&mut out, *first);
            put_number(&mut out, entries.len() as u64);
            for (batch, proof) in entries {
                put_batch(&mut out, batch);
                put_proof(&mut out, proof);
            }
        }
        Message::Snapshot { meta, stable, links } => {
            put_meta(&mut out, meta);
            put_stable(&mut out, stable);
            put_number(&mut out, links.len() as u64);
            links.iter().for_each(|link| link.put(&mut out));
        }
        Message::Stable(stable) => put_stable(&mut out, stable),
        Message::Link(link) => link.put(&mut out),
    }
    out.freeze()
}

fn put_place(out: &mut BytesMut, view: u64, n: u64) {
    put_number(out, view);
    put_number(out, n);
}

fn take_place(bytes: &mut Bytes) -> Result<(u64, u64), Error> {
    Ok((take_number(bytes)?, take_number(bytes)?))
}

/// True for a message that comes with a snapshot.
pub(crate) fn is_snapshot(bytes: &Bytes) -> bool {
    bytes.get(..2) == Some(&[VERSION, kind::SNAPSHOT])
}

/// Reads a message and the epoch that it was said in.
///
/// # Errors
/// [`Error::InvalidMessage`] says what is wrong with it.
pub(crate) fn parse(mut bytes: Bytes) -> Result<(u64, Message), Error> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return invalid(format!("{} bytes exceed the largest frame", bytes.len()));
    }
    let bytes = &mut bytes;
    match take_byte(bytes)? {
        VERSION => {}
        other => return invalid(format!("version {other} is not {VERSION}")),
    }
    let (kind, epoch) = (take_byte(bytes)?, take_number(bytes)?);
    let message = take_body(kind, bytes)?;
    if bytes.is_empty() { Ok((epoch, message)) } else { invalid("bytes behind the message") }
}

fn take_body(kind: u8, bytes: &mut Bytes) -> Result<Message, Error> {
    Ok(match kind {
        kind::REQUEST => Message::Request(take_request(bytes)?),
        kind::PRE_PREPARE => {
            let (view, n) = take_place(bytes)?;
            Message::PrePrepare { view, n, batch: take_batch(bytes)?, sig: take_sig(bytes)? }
        }
        kind::PREPARE => {
            let (view, n) = take_place(bytes)?;
            let (digest, lead) = (take_digest(bytes)?, take_sig(bytes)?);
            Message::Prepare { view, n, digest, lead, sig: take_sig(bytes)? }
        }
        kind::COMMIT => {
            let (view, n) = take_place(bytes)?;
            Message::Commit { view, n, digest: take_digest(bytes)?, sig: take_sig(bytes)? }
        }
        kind::CHECKPOINT => {
            Message::Checkpoint { n: take_number(bytes)?, digest: take_digest(bytes)?, sig: take_sig(bytes)? }
        }
        kind::VIEW_CHANGE => Message::ViewChange(take_view_change(bytes)?),
        kind::NEW_VIEW => Message::NewView(take_new_view(bytes)?),
        kind::WANT => Message::Want { n: take_number(bytes)?, digest: take_digest(bytes)? },
        kind::BATCH => Message::Batch { n: take_number(bytes)?, batch: take_batch(bytes)? },
        kind::STATUS => Message::Status(take_status(bytes)?),
        kind::FETCH => Message::Fetch { from: take_number(bytes)? },
        kind::ENTRIES => {
            let first = take_number(bytes)?;
            Message::Entries { first, entries: take_many(bytes, 4, take_entry)? }
        }
        kind::STABLE => Message::Stable(take_stable(bytes)?),
        kind::LINK => Message::Link(Link::take(bytes)?),
        kind::SNAPSHOT => {
            let (meta, stable) = (take_meta(bytes)?, take_stable(bytes)?);
            Message::Snapshot { meta, stable, links: take_many(bytes, LINK_BYTES_MIN, Link::take)? }
        }
        other => return invalid(format!("{other} is no kind of message")),
    })
}

/// Reads bytes as a message and says whether they are one: for fuzzing.
#[must_use]
pub fn decode(bytes: Bytes) -> bool {
    parse(bytes).is_ok()
}

/// Reads bytes as a message and writes it again, and what is endorsed in it; none if they are no message: for fuzzing.
#[must_use]
pub fn rewrite(bytes: Bytes) -> Option<Bytes> {
    let (epoch, mut message) = parse(bytes).ok()?;
    if let Message::Request(request) = &mut message
        && request.endorses
        && let Ok(wish) = Wish::decode(request.op.clone())
    {
        request.op = wish.encode();
    }
    Some(encode(epoch, &message))
}
