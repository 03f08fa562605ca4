//! How many are enough.
//!
//! Of N replicas f may lie, with f = floor((N - 1) / 3). A quorum is q = ceil((N + f + 1) / 2):
//!
//! - two quorums share 2q - N >= f + 1 replicas, so at least one that is honest (PBFT §4.2 has N = 3f + 1, where this is
//!   2f + 1);
//! - the N - f that are honest are a quorum by themselves, so liars stop nothing by silence;
//! - f + 1 are one honest replica at least: a weak certificate.
//!
//! HAZARD: 2f + 1 is a quorum only if N = 3f + 1. Of five, two threes can share nobody but the liar.

/// The numbers of a group of `count` replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Replicas that vote.
    pub count: usize,
    /// How many of them may lie.
    pub faulty: usize,
    /// A quorum.
    pub size: usize,
}

impl Quorum {
    /// For so many replicas.
    #[must_use]
    pub fn of(count: usize) -> Self {
        let faulty = count.saturating_sub(1) / 3;
        Self { count, faulty, size: (count + faulty + 1).div_ceil(2) }
    }

    /// One of so many is honest.
    #[must_use]
    pub fn weak(self) -> usize {
        self.faulty + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_quorums_share_an_honest_replica_and_the_honest_are_one() {
        for count in 1..=64 {
            let Quorum { faulty, size, .. } = Quorum::of(count);
            assert!(2 * size > count + faulty, "two quorums of {count} share an honest replica");
            assert!(size <= count - faulty, "the honest of {count} are a quorum");
            assert!(count > 3 * faulty && count <= 3 * (faulty + 1), "as many liars of {count} as can be");
            if count == 3 * faulty + 1 {
                assert_eq!(size, 2 * faulty + 1, "the paper's own number");
            }
        }
        assert_eq!(Quorum::of(5), Quorum { count: 5, faulty: 1, size: 4 });
        assert!(
            2 * (2 * Quorum::of(5).faulty + 1) < 5 + 1 + 1,
            "two threes of five share nobody that is surely honest"
        );
    }
}
