//! Reads a snapshot back (format: [`super::draw`]).
//!
//! Nothing of a snapshot is believed: each block must name the one before it, the votes must verify, and what comes out must
//! have the digest that was written.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use verity_contract::{RestoreError, StateMachine as _};

use super::draw::{kind, record};
use super::ledger::{Ledger, Proposal, Tip};
use super::store::Stored;
use crate::wire::{Block, Commit, ExecTxResult, Hash, ProtoError, Reader, Vote, sha256};

/// The largest record that is read.
const RECORD_SIZE_MAX: usize = 256 << 20;
const RECORD_HEAD: usize = 5;

struct Refused(String);

impl From<ProtoError> for Refused {
    fn from(error: ProtoError) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn refuse<T>(text: &str) -> Result<T, Refused> {
    Err(Refused(text.to_owned()))
}

impl Ledger {
    pub(super) fn restore_from(
        &mut self,
        chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>,
    ) -> Result<(), RestoreError> {
        self.forget();
        let invalid = |refused: Refused| RestoreError::Invalid(refused.0);
        let (mut carry, mut begun, mut ended, mut sum) = (BytesMut::new(), false, false, Sha256::new());
        for chunk in chunks {
            carry.extend_from_slice(&chunk?);
            while let Some((kind, payload)) = take_record(&mut carry).map_err(invalid)? {
                if ended || begun == (kind == kind::HEAD) {
                    return Err(RestoreError::Invalid("its records are out of order".to_owned()));
                }
                begun = true;
                ended = kind == kind::END;
                if ended && payload.get(32..) != Some(&sum.clone().finalize()[..]) {
                    return Err(RestoreError::Invalid("its records are not those that were written".to_owned()));
                }
                let mut bytes = Vec::with_capacity(RECORD_HEAD + payload.len());
                record(&mut bytes, kind, &payload);
                sum.update(&bytes);
                self.on_record(kind, payload).map_err(invalid)?;
            }
        }
        if !ended || !carry.is_empty() {
            return Err(RestoreError::Invalid("it ends early".to_owned()));
        }
        Ok(())
    }

    /// As a ledger that begins.
    fn forget(&mut self) {
        self.app.restore_begin();
        self.abroad = self.abroad.is_some().then(super::abroad::Abroad::default);
        self.pool = super::pool::Pool::default();
        self.store = super::store::Store::default();
        self.index = super::index::Index::default();
        self.proposal = None;
        self.drawing = None;
    }

    fn on_record(&mut self, kind: u8, payload: Bytes) -> Result<(), Refused> {
        match kind {
            kind::HEAD if payload != self.head() => refuse("it is of another chain, or of another version"),
            kind::HEAD => Ok(()),
            kind::TRAILS => self.on_trails(&payload),
            kind::ABROAD => self.on_abroad(&payload),
            kind::SEEN => {
                let (hashes, rest): (&[Hash], _) = payload.as_chunks();
                hashes.iter().for_each(|hash| self.pool.put_seen(&self.config.pool, *hash));
                if rest.is_empty() { Ok(()) } else { refuse("half a hash") }
            }
            kind::WAITING => {
                self.pool.put_waiting(sha256(&payload), &payload);
                Ok(())
            }
            kind::APP => Ok(self.app.restore_chunk(&payload)?),
            kind::BLOCK => self.on_block(payload),
            kind::COMMIT => self.on_last(Commit::read(Reader::new(payload))?),
            kind::PROPOSAL => self.on_proposal(payload),
            kind::END if payload.starts_with(&self.digest().0) => Ok(()),
            kind::END => refuse("what comes out has another digest"),
            _ => refuse("a record of an unknown kind"),
        }
    }

    fn on_abroad(&mut self, payload: &[u8]) -> Result<(), Refused> {
        let Some(abroad) = &mut self.abroad else { return refuse("its application runs in another process") };
        let Some(([begun, version @ ..], first_hash)) = payload.split_first_chunk::<9>() else {
            return refuse("half a version of an application");
        };
        abroad.version = (*begun == 1).then_some(u64::from_be_bytes(*version));
        abroad.first_hash = Bytes::copy_from_slice(first_hash);
        Ok(())
    }

    fn on_trails(&mut self, payload: &[u8]) -> Result<(), Refused> {
        let ([waiting, seen, blocks], []) = payload.as_chunks() else { return refuse("there are three trails") };
        if self.store.height() > 0 || self.pool.count() > 0 || !self.pool.seen().is_empty() {
            return refuse("trails come before what they are of");
        }
        self.pool = super::pool::Pool::beginning_at([*waiting, *seen]);
        self.store = super::store::Store::beginning_at(*blocks);
        Ok(())
    }

    fn on_block(&mut self, payload: Bytes) -> Result<(), Refused> {
        let stored = Stored::decode(payload)?;
        if let Some(last) = self.store.get(self.store.height())
            && (stored.block.header.last_block_id != last.id || stored.height() != last.height() + 1)
        {
            return refuse("a block does not follow the one before it");
        }
        let results = stored.decoded();
        self.keep(Arc::new(stored), &results, 0);
        Ok(())
    }

    /// Takes the votes for the last block: the tip is whole.
    fn on_last(&mut self, seen: Commit) -> Result<(), Refused> {
        let last = self.store.get(self.store.height()).cloned();
        let app_hash = match (&self.abroad, &last) {
            (None, _) => self.app.app_hash(),
            (Some(abroad), None) => abroad.first_hash.clone(),
            (Some(_), Some(stored)) => stored.app_hash.clone(),
        };
        let Some(stored) = last else {
            self.tip = Tip {
                height: 0,
                id: crate::wire::BlockId::default(),
                time: self.genesis.time,
                said: Bytes::new(),
                app_hash,
                results_hash: crate::wire::root::<Bytes>(&[]),
                seen: Commit::default(),
            };
            return Ok(());
        };
        if seen.block_id != stored.id || stored.app_hash != app_hash {
            return refuse("the last block is not that of the votes, or not that of the application");
        }
        self.check_votes(&seen)?;
        if !self.validators.is_quorum(seen.votes()) {
            return refuse("the last block is not signed");
        }
        self.tip = Tip {
            height: stored.height(),
            id: stored.id,
            time: stored.block.header.time,
            said: stored.block.header.app_hash.clone(),
            app_hash,
            results_hash: ExecTxResult::hash_of(&stored.decoded()),
            seen,
        };
        Ok(())
    }

    fn check_votes(&self, commit: &Commit) -> Result<(), Refused> {
        if commit.signatures.len() != self.validators.count() {
            return refuse("a commit has a place for each validator");
        }
        for (at, signature) in commit.signatures.iter().enumerate() {
            let Some((time, address, signature)) = signature.vote.clone() else { continue };
            let vote = Vote { height: commit.height, address, time, signature };
            match self.validators.find(&address) {
                Some((place, key)) if place == at && vote.is_by(&key, &self.genesis.chain_id, commit.block_id) => {}
                _ => return refuse("a vote does not verify"),
            }
        }
        Ok(())
    }

    fn on_proposal(&mut self, payload: Bytes) -> Result<(), Refused> {
        let (mut encoded, mut votes, mut proposed) = (Bytes::new(), Commit::default(), 0);
        Reader::new(payload).fields(|field| {
            match field.number {
                1 => encoded = field.bytes()?,
                2 => votes = Commit::read(field.message()?)?,
                3 => proposed = field.uint()?,
                _ => {}
            }
            Ok(())
        })?;
        let block = Block::decode(encoded.clone())?;
        if block.id(&encoded) != votes.block_id || block.header.height != self.tip.height + 1 {
            return refuse("the block under way is not that of the votes");
        }
        self.check_votes(&votes)?;
        let proposed = usize::try_from(proposed).unwrap_or(usize::MAX);
        if proposed > self.pool.count() {
            return refuse("the block under way took more than waits");
        }
        self.pool.proposed = proposed;
        let (time, height) = (block.header.time, block.header.height);
        self.proposal = Some(Proposal { encoded, time, height, votes, others: std::collections::BTreeMap::new() });
        Ok(())
    }
}

/// Takes a whole record.
fn take_record(carry: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Refused> {
    let Some(head) = carry.first_chunk::<RECORD_HEAD>() else { return Ok(None) };
    let (kind, size) = (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize);
    if size > RECORD_SIZE_MAX {
        return refuse("a record is too long");
    }
    if carry.len() < RECORD_HEAD + size {
        return Ok(None);
    }
    carry.advance(RECORD_HEAD);
    Ok(Some((kind, carry.split_to(size).freeze())))
}
