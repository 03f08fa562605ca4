//! The root of a list of hashes, as blocks commit to transactions.
//!
//! HAZARD: a list whose last part is repeated has the same root (CVE-2012-2459). A block of that kind is not the one that its
//! header speaks of, which may be good: it must be refused and not remembered.

use bitcoin::block::Block;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};

pub(super) type Leaf = [u8; 32];

/// The root, and true if two neighbours were equal that make one hash of the next level.
pub(super) fn root(mut level: Vec<Leaf>) -> (Leaf, bool) {
    let mut repeated = false;
    if level.is_empty() {
        return ([0; 32], false);
    }
    while level.len() > 1 {
        repeated |= level.chunks_exact(2).any(|pair| pair[0] == pair[1]);
        if level.len() % 2 == 1 {
            level.extend_from_within(level.len() - 1..);
        }
        for at in 0..level.len() / 2 {
            let mut engine = sha256d::Hash::engine();
            engine.input(&level[2 * at]);
            engine.input(&level[2 * at + 1]);
            level[at] = sha256d::Hash::from_engine(engine).to_byte_array();
        }
        level.truncate(level.len() / 2);
    }
    (level[0], repeated)
}

/// The root of the transactions with their witnesses; the first counts as zeros (BIP 141).
pub(super) fn witness_root(block: &Block) -> Leaf {
    let rest = block.txdata.iter().skip(1).map(|tx| tx.compute_wtxid().to_byte_array());
    root(std::iter::once([0; 32]).chain(rest).collect()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_end_is_seen() {
        let leaves: Vec<Leaf> = (0..6).map(|at| [at; 32]).collect();
        let (honest, repeated) = root(leaves.clone());
        assert!(!repeated);
        let twice: Vec<Leaf> = leaves.iter().chain(&leaves[4..]).copied().collect();
        assert_eq!(root(twice), (honest, true));
        let block = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
        let of_one = root(vec![block.txdata[0].compute_txid().to_byte_array()]);
        assert_eq!(of_one, (block.header.merkle_root.to_byte_array(), false));
    }
}
