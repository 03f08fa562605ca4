//! A snapshot's bytes.
//!
//! ```text
//! header   magic "VRTYSNAP" | version u32 | length u32 | crc32c of the rest u32 | zero u32
//!          | cluster 16 bytes | group u64 | index u64 | term u64
//!          | voters u32 | outgoing u32 | learners u32 | context u32 | their ids, u64 each | the context
//! blocks   length u32, not 0 | crc32c u32 over the header, the block's number u64, its length u32 and its bytes | bytes
//! trailer  zero u32 | crc32c u32 over the header and the rest | blocks u64 | bytes in them u64
//! ```
//!
//! Integers are little-endian. Every checksum begins with the header's bytes, so that no block of one snapshot passes for
//! a block of another, and a block's number keeps it in its place. Nothing follows the trailer.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::{Members, SnapshotMeta};
use verity_types::{GroupId, LogIndex, NodeId, Term};

use crate::Error;
use crate::codec::{Put, Reader};
use crate::disk::DiskFile;
use crate::identity::{ClusterId, SEAL_SIZE, seal, unseal};

/// The longest block, and the most that one raw read answers.
pub const BLOCK_MAX: usize = 4 << 20;
/// How many members a header may list in all.
pub const MEMBERS_MAX: usize = 4096;

/// How long the context of a snapshot may be.
const CONTEXT_MAX: usize = 64 << 10;

pub(super) const MAGIC: [u8; 8] = *b"VRTYSNAP";
const HEADER_MAX: usize = SEAL_SIZE + 56 + 8 * MEMBERS_MAX + CONTEXT_MAX;
const BLOCK_HEADER: usize = 8;
const TRAILER: usize = 24;

pub(super) fn encode_header(cluster: ClusterId, group: GroupId, meta: &SnapshotMeta) -> Result<Vec<u8>, Error> {
    let sets = [&meta.members.voters, &meta.members.outgoing, &meta.members.learners];
    let count: usize = sets.iter().map(|set| set.len()).sum();
    if count > MEMBERS_MAX {
        return Err(Error::TooLarge { what: "member list", size: count as u64 * 8, max: MEMBERS_MAX as u64 * 8 });
    }
    if meta.context.len() > CONTEXT_MAX {
        return Err(Error::TooLarge { what: "context", size: meta.context.len() as u64, max: CONTEXT_MAX as u64 });
    }
    let mut body = Vec::with_capacity(56 + 8 * count + meta.context.len());
    body.extend_from_slice(&cluster.0);
    body.put_u64(group.0);
    body.put_u64(meta.index.0);
    body.put_u64(meta.term.0);
    for set in sets {
        body.put_u32(u32::try_from(set.len()).expect("members are bounded"));
    }
    body.put_u32(u32::try_from(meta.context.len()).expect("the context is bounded"));
    sets.into_iter().flatten().for_each(|node| body.put_u64(node.0));
    body.extend_from_slice(&meta.context);
    Ok(seal(MAGIC, &body))
}

fn decode_header(body: &[u8]) -> Option<(ClusterId, GroupId, SnapshotMeta)> {
    let mut fields = Reader(body);
    let cluster = ClusterId(fields.array()?);
    let (group, index, term) = (GroupId(fields.u64()?), LogIndex(fields.u64()?), Term(fields.u64()?));
    let counts = [fields.u32()?, fields.u32()?, fields.u32()?];
    let context = fields.u32()?;
    let mut sets = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for (set, count) in sets.iter_mut().zip(counts) {
        for _ in 0..count {
            set.insert(NodeId(fields.u64()?));
        }
    }
    let [voters, outgoing, learners] = sets;
    let context = Bytes::copy_from_slice(fields.bytes(usize::try_from(context).ok()?)?);
    let members = Members { voters, outgoing, learners };
    Some((cluster, group, SnapshotMeta { index, term, members, context }))
}

/// Writes blocks and the trailer.
#[derive(Debug)]
pub(super) struct Sealer {
    seed: u32,
    blocks: u64,
    bytes: u64,
}

impl Sealer {
    pub(super) fn new(header: &[u8]) -> Self {
        Self { seed: crc32c::crc32c(header), blocks: 0, bytes: 0 }
    }

    pub(super) fn block(&mut self, out: &mut Vec<u8>, block: &[u8]) {
        assert!((1..=BLOCK_MAX).contains(&block.len()), "blocks are cut to size before");
        out.put_u32(u32::try_from(block.len()).expect("blocks are bounded"));
        out.put_u32(self.block_crc(block));
        out.extend_from_slice(block);
        self.blocks += 1;
        self.bytes += block.len() as u64;
    }

    pub(super) fn trailer(&self, out: &mut Vec<u8>) {
        out.put_u32(0);
        out.put_u32(self.trailer_crc());
        out.put_u64(self.blocks);
        out.put_u64(self.bytes);
    }

    fn block_crc(&self, block: &[u8]) -> u32 {
        let len = u32::try_from(block.len()).expect("blocks are bounded");
        let crc = crc32c::crc32c_append(self.seed, &self.blocks.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(crc, &len.to_le_bytes()), block)
    }

    fn trailer_crc(&self) -> u32 {
        let crc = crc32c::crc32c_append(self.seed, &self.blocks.to_le_bytes());
        crc32c::crc32c_append(crc, &self.bytes.to_le_bytes())
    }
}

/// Reads a snapshot block by block. Ends behind the trailer, or with an error.
#[derive(Debug)]
pub struct SnapshotChunks {
    file: Box<dyn DiskFile>,
    path: String,
    size: u64,
    at: u64,
    seen: Sealer,
    meta: SnapshotMeta,
    done: bool,
}

impl SnapshotChunks {
    pub(super) fn open(
        file: Box<dyn DiskFile>,
        path: String,
        cluster: ClusterId,
        group: GroupId,
        index: LogIndex,
    ) -> Result<Self, Error> {
        let mut head = vec![0; HEADER_MAX];
        let read = file.read_at(0, &mut head)?;
        let body = unseal(&path, MAGIC, &head[..read])?;
        let header_size = SEAL_SIZE + body.len();
        let Some((found, of, meta)) = decode_header(body) else {
            return Err(Error::corrupt(&path, 0, "its header does not decode"));
        };
        if found != cluster {
            return Err(Error::incompatible(&path, format!("a snapshot of cluster {found}, not of {cluster}")));
        }
        if (of, meta.index) != (group, index) {
            let reason = format!("a snapshot of group {of} at {}, not of group {group} at {index}", meta.index);
            return Err(Error::incompatible(&path, reason));
        }
        let seen = Sealer::new(&head[..header_size]);
        let size = file.size()?;
        Ok(Self { file, path, size, at: header_size as u64, seen, meta, done: false })
    }

    /// What the snapshot replaces.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Reads to the end and answers the meta if everything checks.
    pub(super) fn verify(mut self) -> Result<SnapshotMeta, Error> {
        for block in &mut self {
            block?;
        }
        Ok(self.meta)
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        if at.saturating_add(len as u64) > self.size {
            return Err(self.damaged("it ends too early"));
        }
        let mut out = vec![0; len];
        let read = self.file.read_at(at, &mut out)?;
        if read == len { Ok(out) } else { Err(self.damaged("it ends too early")) }
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::corrupt(&self.path, self.at, reason)
    }

    fn block(&mut self) -> Result<Option<Bytes>, Error> {
        let head = self.read(self.at, BLOCK_HEADER)?;
        let mut fields = Reader(&head);
        let (len, crc) = fields.u32().zip(fields.u32()).expect("eight bytes were read");
        if len == 0 {
            let mut expected = Vec::with_capacity(TRAILER);
            self.seen.trailer(&mut expected);
            if self.read(self.at, TRAILER)? != expected || self.at + TRAILER as u64 != self.size {
                return Err(self.damaged("its trailer does not check"));
            }
            return Ok(None);
        }
        if len as usize > BLOCK_MAX {
            return Err(self.damaged("a block is too long"));
        }
        let mut block = self.read(self.at, BLOCK_HEADER + len as usize)?;
        let bytes = Bytes::from(block.split_off(BLOCK_HEADER));
        if self.seen.block_crc(&bytes) != crc {
            return Err(self.damaged("a block does not check"));
        }
        self.seen.blocks += 1;
        self.seen.bytes += u64::from(len);
        self.at += BLOCK_HEADER as u64 + u64::from(len);
        Ok(Some(bytes))
    }
}

impl Iterator for SnapshotChunks {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let block = self.block();
        self.done = !matches!(block, Ok(Some(_)));
        block.transpose()
    }
}
