//! Where a key belongs: the murmur2 hash that Java's producer places records by, so that both place a key alike.

/// The partition of a key among `count`.
///
/// # Panics
/// If there are no partitions.
#[must_use]
pub fn partition_of(key: &[u8], count: i32) -> i32 {
    assert!(count > 0, "a topic has partitions");
    // The sign is cut off rather than turned, as Java does it.
    let hash = i32::from_ne_bytes((murmur2(key) & 0x7fff_ffff).to_ne_bytes());
    hash % count
}

/// MurmurHash2 of 32 bits, with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let length = u32::try_from(bytes.len()).expect("keys are shorter than 4 GiB");
    let mut hash = SEED ^ length;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks of four"));
        k = k.wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Java's `UtilsTest` holds its hash to.
    #[test]
    fn the_hash_is_javas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(i32::from_ne_bytes(murmur2(key.as_bytes()).to_ne_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        assert!((0..1000u32).all(|key| (0..7).contains(&partition_of(&key.to_le_bytes(), 7))));
        assert_eq!(partition_of(b"", 1), 0);
    }
}
