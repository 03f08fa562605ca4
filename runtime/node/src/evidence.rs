//! Proofs that a member lied: written down, and shown to whoever asks.
//!
//! ```text
//! file = (group:u64 proof:blob)*, sealed
//! ```
//! It is written anew for each proof: they are small, and engines tell few about one member. One that cannot be written is
//! still shown as long as the node runs.
//!
//! Deliberately absent: what a proof says. The engine made it, and whoever has the public keys can check it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use verity_contract::codec::{put_blob, take_blob};
use verity_storage::{Disk, read_sealed, write_sealed};
use verity_types::GroupId;

const FILE: &str = "evidence";
const MAGIC: [u8; 8] = *b"VRTYLIED";
/// So many are kept.
const KEPT_MAX: usize = 1_024;
/// No proof is longer.
const PROOF_BYTES_MAX: usize = 64 * 1024;

/// All that this node has.
pub(crate) struct Evidence {
    disk: Arc<dyn Disk>,
    all: BTreeSet<(GroupId, Bytes)>,
}

impl Evidence {
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Self {
        let body = read_sealed(disk.as_ref(), FILE, MAGIC).unwrap_or_else(|error| {
            tracing::warn!(%error, "what is known of members that lied cannot be read");
            None
        });
        let mut body = Bytes::from(body.unwrap_or_default());
        let mut all = BTreeSet::new();
        while let Ok(group) = body.try_get_u64()
            && let Ok(proof) = take_blob(&mut body, PROOF_BYTES_MAX)
        {
            all.insert((GroupId(group), proof));
        }
        Self { disk, all }
    }

    /// Keeps a proof; false if it is known.
    pub(crate) fn add(&mut self, group: GroupId, proof: Bytes) -> bool {
        let fits = self.all.len() < KEPT_MAX && proof.len() <= PROOF_BYTES_MAX;
        if !fits || !self.all.insert((group, proof)) {
            return false;
        }
        let mut body = BytesMut::new();
        for (group, proof) in &self.all {
            body.put_u64(group.0);
            put_blob(&mut body, proof);
        }
        if let Err(error) = write_sealed(self.disk.as_ref(), FILE, MAGIC, &body) {
            tracing::warn!(%error, "a proof that a member lied cannot be written");
        }
        true
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(GroupId, Bytes)> {
        self.all.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use verity_storage::MemoryDisk;

    use super::*;

    #[test]
    fn what_is_known_is_kept_once_and_over_a_restart() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let mut evidence = Evidence::open(Arc::clone(&disk));
        let proof = Bytes::from_static(b"it said both");
        assert!(evidence.add(GroupId(3), proof.clone()));
        assert!(!evidence.add(GroupId(3), proof.clone()));
        assert!(evidence.add(GroupId(4), proof.clone()));
        let mut again = Evidence::open(disk);
        assert_eq!(again.all(), [(GroupId(3), proof.clone()), (GroupId(4), proof.clone())]);
        assert!(!again.add(GroupId(3), proof));
    }
}
