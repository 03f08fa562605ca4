//! What a replica remembers, and how it is written down.
//!
//! - `State`: the view, whether it is entered, the last stable checkpoint with its proof, the last snapshot that took the place
//!   of the log, the floor, the founding members, and who the members were since (`epoch`);
//! - `Entry`: the batch that was accepted at a sequence number, in which epoch and view, and the one that prepared there if that
//!   is another;
//! - `Proof`: the certificate that it prepared and, once there is one, the proof that it is committed.
//!
//! Entries and proofs stand before the `State` of one `Persist`. `Truncate` is never written: what was accepted is a vote.
//!
//! Beside a snapshot stands what the engine must know as of its index ([`Context`]): the epoch and its members, who endorses
//! which others, the last stamp, and the last request of each client that was executed (PBFT §4.1).
//!
//! HAZARD: a vote of an earlier epoch that is found again behind the start of a later one was said to other members. Records
//! name their epoch.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::codec::{put_members, put_number, take_byte, take_many, take_members};
use verity_contract::{Boot, Members, Record, RecordKind};
use verity_types::{Digest, LogIndex, NodeId};

use crate::Error;
use crate::epoch::{CLIENTS_MAX, Chain, Ending, Wish};
use crate::keys::Sig;
use crate::message::{
    Batch, Prepared, Proof, Request, Scope, Stable, check_members, put_batch, put_prepared, put_proof, put_stable,
    take_batch, take_digest, take_number, take_prepared, take_proof, take_sig, take_stable,
};

const VERSION: u8 = 2;

/// The payload of a `State` record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) view: u64,
    /// False while the view is only wished for.
    pub(crate) entered: bool,
    /// The log begins behind this one at least.
    pub(crate) installed: u64,
    /// What this node may have forgotten reaches up to here.
    pub(crate) floor: u64,
    pub(crate) stable: Stable,
    /// The proof of the snapshot's checkpoint, if that is another and there is one; of index 0 otherwise. Without it nobody could be
    /// given the snapshot after a crash.
    pub(crate) kept: Stable,
    /// What proves the state that another node sent, until it is compared with it; of index 0 if there is none.
    pub(crate) trial: Stable,
    /// Members as of index 0; without voters on a node that began with a snapshot.
    pub(crate) founders: Members,
    pub(crate) chain: Chain,
}

impl State {
    pub(crate) fn to_record(&self) -> Record {
        let mut out = BytesMut::with_capacity(512);
        out.put_u8(VERSION);
        put_number(&mut out, self.view);
        out.put_u8(u8::from(self.entered));
        put_number(&mut out, self.installed);
        put_number(&mut out, self.floor);
        put_stable(&mut out, &self.stable);
        put_stable(&mut out, &self.kept);
        put_stable(&mut out, &self.trial);
        put_members(&mut out, &self.founders);
        self.chain.put(&mut out);
        Record { kind: RecordKind::State, index: LogIndex(0), payload: out.freeze().into() }
    }

    fn from_payload(mut bytes: Bytes) -> Result<Self, Error> {
        let bytes = &mut bytes;
        if take_byte(bytes)? != VERSION {
            return Err(Error::Storage("the state record has an unknown version".into()));
        }
        Ok(Self {
            view: take_number(bytes)?,
            entered: take_byte(bytes)? == 1,
            installed: take_number(bytes)?,
            floor: take_number(bytes)?,
            stable: take_stable(bytes)?,
            kept: take_stable(bytes)?,
            trial: take_stable(bytes)?,
            founders: take_members(bytes)?,
            chain: Chain::take(bytes)?,
        })
    }
}

/// An `Entry` record: what was accepted in which view with which signature, if anything was, and all batches that matter.
pub(crate) fn entry_record<'a>(
    epoch: u64,
    n: u64,
    vote: Option<(u64, Digest, Sig)>,
    batches: impl Iterator<Item = &'a Batch>,
) -> Record {
    let mut out = BytesMut::with_capacity(256);
    put_number(&mut out, epoch);
    out.put_u8(u8::from(vote.is_some()));
    if let Some((view, digest, lead)) = vote {
        put_number(&mut out, view);
        out.put_slice(&digest.0);
        out.put_slice(&lead.0);
    }
    batches.for_each(|batch| put_batch(&mut out, batch));
    Record { kind: RecordKind::Entry, index: LogIndex(n), payload: out.freeze().into() }
}

/// The payload of a `Proof` record.
pub(crate) fn proof_record(
    epoch: u64,
    n: u64,
    prepared: Option<&Prepared>,
    committed: Option<&(Digest, Proof)>,
) -> Record {
    let mut out = BytesMut::with_capacity(1024);
    put_number(&mut out, epoch);
    out.put_u8(u8::from(prepared.is_some()) | u8::from(committed.is_some()) << 1);
    prepared.iter().for_each(|prepared| put_prepared(&mut out, prepared));
    if let Some((digest, proof)) = committed {
        out.put_slice(&digest.0);
        put_proof(&mut out, proof);
    }
    Record { kind: RecordKind::Proof, index: LogIndex(n), payload: out.freeze().into() }
}

/// What storage held of one sequence number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// In which epoch that was.
    pub(crate) vote_epoch: u64,
    pub(crate) proof_epoch: u64,
    /// What was accepted last: view, digest, the primary's signature.
    pub(crate) vote: Option<(u64, Digest, Sig)>,
    pub(crate) batches: Vec<(Digest, Batch)>,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) committed: Option<(Digest, Proof)>,
}

impl Kept {
    fn take_entry(&mut self, scope: &Scope, mut bytes: Bytes) -> Result<(), Error> {
        let bytes = &mut bytes;
        self.vote_epoch = take_number(bytes)?;
        self.vote = match take_byte(bytes)? {
            0 => None,
            _ => Some((take_number(bytes)?, take_digest(bytes)?, take_sig(bytes)?)),
        };
        self.batches.clear();
        while !bytes.is_empty() {
            let batch = take_batch(bytes)?;
            self.batches.push((scope.batch(&batch), batch));
        }
        Ok(())
    }

    fn take_proof(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        let epoch = take_number(&mut bytes)?;
        if epoch != self.proof_epoch {
            (self.proof_epoch, self.prepared, self.committed) = (epoch, None, None);
        }
        let flags = take_byte(&mut bytes)?;
        if flags & 1 == 1 {
            // A proof that nothing waited for may stand behind a certificate of a later view.
            let prepared = take_prepared(&mut bytes)?;
            if self.prepared.as_ref().is_none_or(|held| held.view <= prepared.view) {
                self.prepared = Some(prepared);
            }
        }
        if flags & 2 == 2 {
            let digest = take_digest(&mut bytes)?;
            self.committed = Some((digest, take_proof(&mut bytes)?));
        }
        Ok(())
    }

    /// The batch with this digest.
    pub(crate) fn batch(&self, digest: Digest) -> Option<&Batch> {
        self.batches.iter().find(|(of, _)| *of == digest).map(|(_, batch)| batch)
    }

    /// The batch that is committed, if it is known to be.
    fn chosen(&self) -> Option<(&Batch, Digest, &Proof)> {
        let (digest, proof) = self.committed.as_ref()?;
        Some((self.batch(*digest)?, *digest, proof))
    }
}

/// An executed entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) batch: Batch,
    pub(crate) digest: Digest,
    pub(crate) proof: Proof,
}

/// What is known as of one index beside the machine's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) epoch: u64,
    /// Behind this index it began.
    pub(crate) start: u64,
    /// Its members.
    pub(crate) members: Members,
    /// What each of them endorses.
    pub(crate) endorsed: BTreeMap<NodeId, Wish>,
    /// The change that has begun.
    pub(crate) ending: Option<Ending>,
    /// The highest term so far.
    pub(crate) term: u64,
    /// The highest stamp so far.
    pub(crate) time: u64,
    /// The last request of each client that was executed: incarnation and number.
    pub(crate) clients: BTreeMap<NodeId, (u64, u64)>,
}

impl Context {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        [self.epoch, self.start, self.term, self.time].iter().for_each(|number| put_number(&mut out, *number));
        put_members(&mut out, &self.members);
        put_number(&mut out, self.endorsed.len() as u64);
        for (member, wish) in &self.endorsed {
            put_number(&mut out, member.0);
            wish.put(&mut out);
        }
        out.put_u8(u8::from(self.ending.is_some()));
        if let Some(ending) = &self.ending {
            put_number(&mut out, ending.at);
            ending.wish.put(&mut out);
        }
        put_number(&mut out, self.clients.len() as u64);
        for (client, (incarnation, seq)) in &self.clients {
            [client.0, *incarnation, *seq].iter().for_each(|number| put_number(&mut out, *number));
        }
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Error> {
        let bytes = &mut bytes;
        if take_byte(bytes)? != VERSION {
            return Err(Error::InvalidMessage("a snapshot's context has an unknown version".into()));
        }
        let (epoch, start) = (take_number(bytes)?, take_number(bytes)?);
        let (term, time) = (take_number(bytes)?, take_number(bytes)?);
        let members = take_members(bytes)?;
        let wishes = take_many(bytes, 4, |bytes| Ok::<_, Error>((NodeId(take_number(bytes)?), Wish::take(bytes)?)))?;
        let endorsed: BTreeMap<NodeId, Wish> = wishes.into_iter().collect();
        if !endorsed.keys().all(|member| members.voters.contains(member)) {
            return Err(Error::InvalidMessage("endorsements of those who are no members".into()));
        }
        let ending = match take_byte(bytes)? {
            0 => None,
            _ => Some(Ending { at: take_number(bytes)?, wish: Wish::take(bytes)? }),
        };
        let count = take_number(bytes)?;
        if count > CLIENTS_MAX as u64 {
            return Err(Error::InvalidMessage(format!("{count} clients are too many")));
        }
        let mut clients = BTreeMap::new();
        for _ in 0..count {
            let client = NodeId(take_number(bytes)?);
            let last = (verity_contract::codec::take_number(bytes)?, take_number(bytes)?);
            clients.insert(client, last);
        }
        Ok(Self { epoch, start, members, endorsed, ending, term, time, clients })
    }

    /// True if this request is the next of its client; it then counts as executed.
    pub(crate) fn admit(&mut self, request: &Request) -> bool {
        let next = self.next_of(request.client, request.incarnation);
        if next == Some(request.seq) {
            self.clients.insert(request.client, (request.incarnation, request.seq));
        }
        next == Some(request.seq)
    }

    /// The number of the request that a client's incarnation may have executed next; none if a later one has begun.
    pub(crate) fn next_of(&self, client: NodeId, incarnation: u64) -> Option<u64> {
        match self.clients.get(&client) {
            Some((last, _)) if *last > incarnation => None,
            Some((last, seq)) if *last == incarnation => Some(seq + 1),
            _ => Some(1),
        }
    }
}

/// What a replica starts from.
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// The last index that is no longer in the log.
    pub(crate) base: u64,
    /// As of the snapshot.
    pub(crate) context: Context,
    /// Executed, without gaps behind `base`.
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// What was voted for, and what proves anything.
    pub(crate) kept: BTreeMap<u64, Kept>,
}

fn collect(boot: &Boot, scope: &Scope) -> Result<(Option<State>, BTreeMap<u64, Kept>), Error> {
    let mut state = None;
    let mut kept: BTreeMap<u64, Kept> = BTreeMap::new();
    for record in &boot.records {
        let payload = record.payload.clone().join();
        match record.kind {
            RecordKind::State => state = Some(State::from_payload(payload).map_err(damaged)?),
            RecordKind::Entry => {
                kept.entry(record.index.0).or_default().take_entry(scope, payload).map_err(damaged)?;
            }
            RecordKind::Proof => kept.entry(record.index.0).or_default().take_proof(payload).map_err(damaged)?,
            RecordKind::Truncate => {
                return Err(Error::Storage("a cut in the log, which this engine never writes".into()));
            }
        }
    }
    Ok((state, kept))
}

impl Recovered {
    /// Rebuilds what a replica knows from what stable storage held.
    pub(crate) fn from_boot(boot: &Boot, scope: &Scope) -> Result<Self, Error> {
        let (state, kept) = collect(boot, scope)?;
        let state = state.unwrap_or_else(|| State {
            founders: boot.members.clone(),
            floor: boot.floor.0,
            entered: true,
            chain: Chain::from(0, 0, boot.members.clone()),
            ..State::default()
        });
        let mut state = state;
        let mut base = boot.snapshot.as_ref().map_or(0, |meta| meta.index.0);
        if state.installed > base {
            let at = state.installed;
            return Err(Error::Storage(format!(
                "the log begins behind a snapshot at {at}, but the latest is at {base}"
            )));
        }
        let context = match &boot.snapshot {
            Some(meta) => Context::decode(meta.context.clone()).map_err(damaged)?,
            None => Context { members: state.founders.clone(), ..Context::default() },
        };
        if context.epoch > state.chain.epoch() && context.start < base
            || state.chain.members().voters.is_empty() && !context.members.voters.is_empty()
        {
            // A snapshot that is proven, of an epoch in which this node has said nothing: it died before it wrote that down.
            let stable = Stable { n: context.start, epoch: context.epoch.saturating_sub(1), ..Stable::default() };
            let chain = Chain::from(context.epoch, context.start, context.members.clone());
            state = State { view: 0, entered: true, chain, stable, trial: Stable::default(), ..state };
        }
        // The log may reach back behind the snapshot, for those who are behind.
        while base > 0 && kept.get(&base).and_then(Kept::chosen).is_some() {
            base -= 1;
        }
        let mut entries = BTreeMap::new();
        for n in base + 1.. {
            let Some((batch, digest, proof)) = kept.get(&n).and_then(Kept::chosen) else { break };
            entries.insert(n, Entry { batch: batch.clone(), digest, proof: proof.clone() });
        }
        let members = state.chain.members();
        if !members.voters.is_empty() {
            check_members(members).map_err(damaged)?;
        }
        Ok(Self { state, base, context, entries, kept })
    }
}

fn damaged(error: Error) -> Error {
    match error {
        Error::Storage(what) => Error::Storage(what),
        other => Error::Storage(format!("a record cannot be read: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_of_the_highest_view_is_found_again_whatever_was_written_last() {
        let prepared =
            |view: u64| Prepared { n: 6, view, digest: Digest([1; 32]), lead: Sig([0; 64]), votes: Vec::new() };
        let committed = (Digest([1; 32]), Proof { view: 0, votes: Vec::new() });
        let late = proof_record(0, 6, Some(&prepared(0)), Some(&committed));
        let mut kept = Kept::default();
        for record in [proof_record(0, 6, Some(&prepared(1)), None), late] {
            kept.take_proof(record.payload.join()).unwrap();
        }
        assert_eq!(kept.prepared.map(|prepared| prepared.view), Some(1), "a commit of view 1 was said because of it");
        assert_eq!(kept.committed, Some(committed));
    }
}
