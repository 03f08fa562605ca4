//! Answers to light clients that match blocks by themselves (BIP 157).
//!
//! Upon a request that is out of bounds, of another kind, or of a block that is not given away: the client is let go.

use bitcoin::BlockHash;
use verity_nakamoto::BlockId;

use super::PeerId;
use super::machine::{Peers, Step};
use super::serve::may_serve;
use crate::chain::Chain;
use crate::wire::{BASIC, CHECKPOINT_INTERVAL, FilterRange, Message, Services};

const FILTERS_MAX: u32 = 1_000;
const HEADERS_MAX: u32 = 2_000;

/// A block's filter, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFilter {
    /// Its content (BIP 158).
    pub content: Vec<u8>,
    /// Its hash.
    pub hash: [u8; 32],
    /// Its header, which stands on that of the block below.
    pub header: [u8; 32],
}

/// Basic filters by their blocks.
pub trait FilterIndex: Send {
    /// `None` while the index does not have it.
    fn filter(&self, chain: &Chain, block: BlockId) -> Option<StoredFilter>;
}

impl Peers {
    /// The last block that is asked for, or `None` if the client is let go.
    fn stop_block(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        kind: u8,
        start: u32,
        stop: BlockHash,
        most: u32,
    ) -> Option<BlockId> {
        if kind != BASIC || !self.peers[&id].our_services.has(Services::COMPACT_FILTERS) {
            self.close(step, id, &format!("peer requested unsupported block filter type: {kind}"));
            return None;
        }
        let chain = step.node.chain();
        let found = chain.tree().find(&stop).filter(|found| may_serve(chain, *found));
        let Some(found) = found else {
            self.close(step, id, &format!("peer requested invalid block hash: {stop}"));
            return None;
        };
        let height = chain.entry(found).height;
        if start > height {
            let why = format!(
                "peer sent invalid getcfilters/getcfheaders with start height {start} and stop height {height}"
            );
            self.close(step, id, &why);
            return None;
        }
        if height - start >= most {
            let count = height - start + 1;
            self.close(step, id, &format!("peer requested too many cfilters/cfheaders: {count} / {most}"));
            return None;
        }
        Some(found)
    }

    /// The filters of these heights, upwards; `None` if one is missing.
    fn filters_at(
        &self,
        step: &Step<'_>,
        stop: BlockId,
        heights: impl Iterator<Item = u32>,
    ) -> Option<Vec<(BlockHash, StoredFilter)>> {
        let (chain, mut found) = (step.node.chain(), Vec::new());
        let index = self.filters.as_ref()?;
        for height in heights {
            let block = chain.tree().ancestor(stop, height).expect("it is no higher than the last");
            let filter = index.filter(chain, block)?;
            found.push((chain.entry(block).hash, filter));
        }
        Some(found)
    }

    pub(super) fn on_getcfilters(&mut self, step: &mut Step<'_>, id: PeerId, range: &FilterRange) {
        let stop = self.stop_block(step, id, range.kind, range.start, range.stop, FILTERS_MAX);
        let Some(stop) = stop else { return };
        let height = step.node.chain().entry(stop).height;
        for (block, filter) in self.filters_at(step, stop, range.start..=height).unwrap_or_default() {
            self.send(step, id, &Message::Filter { kind: BASIC, block, content: filter.content });
        }
    }

    pub(super) fn on_getcfheaders(&mut self, step: &mut Step<'_>, id: PeerId, range: &FilterRange) {
        let stop = self.stop_block(step, id, range.kind, range.start, range.stop, HEADERS_MAX);
        let Some(stop) = stop else { return };
        let height = step.node.chain().entry(stop).height;
        let before = range.start.checked_sub(1);
        let Some(first) = self.filters_at(step, stop, before.into_iter()) else { return };
        let Some(filters) = self.filters_at(step, stop, range.start..=height) else { return };
        let prev = first.first().map_or([0; 32], |(_, filter)| filter.header);
        let hashes = filters.into_iter().map(|(_, filter)| filter.hash).collect();
        self.send(step, id, &Message::FilterHeaders { kind: BASIC, stop: range.stop, prev, hashes });
    }

    pub(super) fn on_getcfcheckpt(&mut self, step: &mut Step<'_>, id: PeerId, kind: u8, stop: BlockHash) {
        let Some(found) = self.stop_block(step, id, kind, 0, stop, u32::MAX) else { return };
        let count = step.node.chain().entry(found).height / CHECKPOINT_INTERVAL;
        let heights = (1..=count).map(|index| index * CHECKPOINT_INTERVAL);
        let Some(filters) = self.filters_at(step, found, heights) else { return };
        let headers = filters.into_iter().map(|(_, filter)| filter.header).collect();
        self.send(step, id, &Message::FilterCheckpoints { kind: BASIC, stop, headers });
    }
}
