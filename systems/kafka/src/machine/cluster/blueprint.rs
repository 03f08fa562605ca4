//! What a partition's group is made from, on every node that ever hosts it.
//!
//! It is fixed when the partition is created, since replicas that begin with different configurations would shape their
//! files differently while they replay the same order. What changes later reaches a partition as a command.
//!
//! Deliberately absent: the topic's name, which a partition does not know.

use bytes::{Bytes, BytesMut};

use super::agreement::Agreement;
use crate::machine::codec::{Code, CodeError, decode, encode, record};
use crate::machine::partition::PartitionConfig;
use crate::wire::Uuid;

/// A configuration takes fewer bytes than this.
const CONFIG_SIZE_MAX: usize = 256;

record! {
    /// What a partition begins with.
    pub struct Blueprint {
        /// Its topic.
        pub topic: Uuid,
        /// Its place in the topic.
        pub partition: i32,
        /// The configuration that it was created with.
        pub config: PartitionConfig,
        /// What its group comes to one order by; what the cluster runs on if its topic says nothing.
        pub agreement: Option<Agreement>,
    }
}

impl Blueprint {
    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodeError`] if they are no blueprint.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
        decode(bytes)
    }
}

impl Code for PartitionConfig {
    fn put(&self, out: &mut Vec<u8>) {
        let mut bytes = BytesMut::new();
        self.encode(&mut bytes);
        out.extend_from_slice(&bytes);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        let mut bytes = Bytes::copy_from_slice(&input[..input.len().min(CONFIG_SIZE_MAX)]);
        let before = bytes.len();
        let config = Self::decode(&mut bytes).ok_or(CodeError("no configuration of a partition"))?;
        *input = &input[before - bytes.len()..];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blueprint_round_trips_and_no_cut_of_it_passes() {
        let config = PartitionConfig { version: 7, compact: true, ..PartitionConfig::default() };
        for agreement in [None, Some(Agreement::Paxos), Some(Agreement::Pbft)] {
            let blueprint = Blueprint { topic: Uuid([3; 16]), partition: 5, config, agreement };
            let bytes = blueprint.encode();
            assert_eq!(Blueprint::decode(&bytes), Ok(blueprint));
            (0..bytes.len()).for_each(|cut| assert!(Blueprint::decode(&bytes[..cut]).is_err(), "cut at {cut}"));
        }
    }
}
