//! How hard the next block must be.
//!
//! - every [`PowParams::interval`] blocks: the target is scaled by the time that they took to the time that they should have
//!   taken, by no more than four either way, and never above the limit;
//! - on testnets: a block that comes twice the spacing late may be as easy as the limit, and those behind it go by the last
//!   target that was not of that kind;
//! - by BIP 94: the scale applies to the target of the period's first block, which no exception touched, and a period does not
//!   begin much before the last one ended.
//!
//! HAZARD: a period is measured from its own first block, and not from the one before it: intervals are one short. That is how
//! the network does it, and so it is a rule.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::pow::{CompactTarget, Target, Work};

use crate::error::HeaderError;
use crate::tree::{BlockId, Tree};

/// A header may lie so many seconds ahead of the node's clock.
pub const FUTURE_SECONDS_MAX: u32 = 2 * 60 * 60;
/// A period may begin so many seconds before the last one's end (BIP 94).
const TIMEWARP_SECONDS_MAX: u32 = 600;

/// By which rules difficulty moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowParams {
    /// No target is above it.
    pub limit: Target,
    /// Seconds between blocks.
    pub spacing: u32,
    /// Seconds that a period should take.
    pub timespan: u32,
    /// Late blocks may be as easy as the limit.
    pub allow_min_difficulty: bool,
    /// Periods go by their first block, and do not begin early.
    pub enforce_bip94: bool,
    /// Difficulty never moves.
    pub no_retargeting: bool,
}

/// What a header must be at some height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRules {
    /// How hard.
    pub pow: PowParams,
    /// From here on version 2 at least (BIP 34).
    pub bip34_height: u32,
    /// From here on version 3 at least (BIP 66).
    pub bip66_height: u32,
    /// From here on version 4 at least (BIP 65).
    pub bip65_height: u32,
}

impl PowParams {
    /// Blocks of a period.
    #[must_use]
    pub fn interval(&self) -> u32 {
        self.timespan / self.spacing
    }
}

/// A number of 256 bits and 32 more, lowest first.
type Wide = [u32; 9];

fn wide(target: Target) -> Wide {
    let bytes = target.to_le_bytes();
    let mut limbs = [0; 9];
    for (limb, four) in limbs.iter_mut().zip(bytes.chunks_exact(4)) {
        *limb = u32::from_le_bytes(four.try_into().expect("chunks are of four"));
    }
    limbs
}

/// `target * by / through`, at most `limit`.
fn scaled(target: Target, by: u32, through: u32, limit: Target) -> Target {
    let mut limbs = wide(target);
    let mut carry = 0u64;
    for limb in &mut limbs {
        let product = u64::from(*limb) * u64::from(by) + carry;
        *limb = (product & 0xffff_ffff) as u32;
        carry = product >> 32;
    }
    let mut rest = 0u64;
    for limb in limbs.iter_mut().rev() {
        let part = rest << 32 | u64::from(*limb);
        *limb = (part / u64::from(through)) as u32;
        rest = part % u64::from(through);
    }
    if limbs.iter().rev().cmp(wide(limit).iter().rev()).is_gt() {
        return limit;
    }
    let mut bytes = [0; 32];
    for (four, limb) in bytes.chunks_exact_mut(4).zip(limbs) {
        four.copy_from_slice(&limb.to_le_bytes());
    }
    Target::from_le_bytes(bytes)
}

/// The target that these bits stand for; `None` if it is zero, negative, or above the limit.
#[must_use]
pub fn target(bits: CompactTarget, limit: Target) -> Option<Target> {
    let bits = bits.to_consensus();
    let (size, mantissa) = (bits >> 24, bits & 0x007f_ffff);
    let negative = bits & 0x0080_0000 != 0;
    let overflows = size > 34 || (mantissa > 0xff && size > 33) || (mantissa > 0xffff && size > 32);
    if mantissa == 0 || negative || overflows {
        return None;
    }
    let target = Target::from_compact(CompactTarget::from_consensus(bits));
    (target != Target::ZERO && target <= limit).then_some(target)
}

/// How many hashes it takes on average to meet these bits; nothing if they stand for no target.
pub(crate) fn work(bits: CompactTarget) -> Work {
    target(bits, Target::from_be_bytes([0xff; 32])).map_or(Work::from_be_bytes([0; 32]), Target::to_work)
}

/// True if the hash is as low as the bits ask, and they ask for enough.
#[must_use]
pub fn has_work(hash: BlockHash, bits: CompactTarget, limit: Target) -> bool {
    target(bits, limit).is_some_and(|target| target.is_met_by(hash))
}

/// The target of a block that stands on `prev` and bears this time.
#[must_use]
pub fn next_bits(tree: &Tree, prev: BlockId, time: u32, params: &PowParams) -> CompactTarget {
    let (last, limit) = (tree.entry(prev), params.limit.to_compact_lossy());
    let interval = params.interval();
    if (last.height + 1) % interval != 0 {
        if !params.allow_min_difficulty {
            return last.header.bits;
        }
        if u64::from(time) > u64::from(last.header.time) + u64::from(params.spacing) * 2 {
            return limit;
        }
        // The last one that was not allowed to be easy.
        let mut at = last;
        while let Some(below) = at.prev
            && at.height % interval != 0
            && at.header.bits == limit
        {
            at = tree.entry(below);
        }
        return at.header.bits;
    }
    if params.no_retargeting {
        return last.header.bits;
    }
    let first = tree.ancestor(prev, last.height + 1 - interval).expect("a period lies below its end");
    let first = &tree.entry(first).header;
    let took = i64::from(last.header.time) - i64::from(first.time);
    let (least, most) = (params.timespan / 4, params.timespan * 4);
    let took = took.clamp(i64::from(least), i64::from(most)) as u32;
    let from = if params.enforce_bip94 { first.bits } else { last.header.bits };
    scaled(Target::from_compact(from), took, params.timespan, params.limit).to_compact_lossy()
}

/// Could a block at `height` have these bits, if the one below it had those? What can be said of headers of which the times
/// are not kept.
#[must_use]
pub fn permitted_transition(params: &PowParams, height: u32, old: CompactTarget, new: CompactTarget) -> bool {
    if params.allow_min_difficulty {
        return true;
    }
    if !height.is_multiple_of(params.interval()) {
        return old == new;
    }
    let Some(seen) = target(new, params.limit) else { return false };
    let bound = |took| {
        let bound = scaled(Target::from_compact(old), took, params.timespan, params.limit);
        Target::from_compact(bound.to_compact_lossy())
    };
    bound(params.timespan / 4) <= seen && seen <= bound(params.timespan * 4)
}

/// Does a header keep the rules where it stands?
pub(crate) fn check(
    tree: &Tree,
    prev: BlockId,
    header: &Header,
    now: u32,
    rules: &HeaderRules,
) -> Result<(), HeaderError> {
    let below = tree.entry(prev);
    let height = below.height + 1;
    if header.bits != next_bits(tree, prev, header.time, &rules.pow) {
        return Err(HeaderError::BadBits);
    }
    if header.time <= tree.median_time_past(prev) {
        return Err(HeaderError::TimeTooOld);
    }
    let early = below.header.time.saturating_sub(TIMEWARP_SECONDS_MAX);
    if rules.pow.enforce_bip94 && height.is_multiple_of(rules.pow.interval()) && header.time < early {
        return Err(HeaderError::Timewarp);
    }
    if header.time > now.saturating_add(FUTURE_SECONDS_MAX) {
        return Err(HeaderError::TimeTooNew);
    }
    let version = header.version.to_consensus();
    let outdated = (version < 2 && height >= rules.bip34_height)
        || (version < 3 && height >= rules.bip66_height)
        || (version < 4 && height >= rules.bip65_height);
    if outdated {
        return Err(HeaderError::BadVersion(version.cast_unsigned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN_LIMIT: u32 = 0x1d00_ffff;

    fn main() -> PowParams {
        PowParams {
            limit: Target::from_compact(CompactTarget::from_consensus(MAIN_LIMIT)),
            spacing: 600,
            timespan: 14 * 24 * 60 * 60,
            allow_min_difficulty: false,
            enforce_bip94: false,
            no_retargeting: false,
        }
    }

    fn retarget(first: u32, last: u32, bits: u32) -> u32 {
        let took = (i64::from(last) - i64::from(first)).clamp(i64::from(14 * 86_400 / 4), 14 * 86_400 * 4) as u32;
        let from = Target::from_compact(CompactTarget::from_consensus(bits));
        scaled(from, took, main().timespan, main().limit).to_compact_lossy().to_consensus()
    }

    /// The network's own first retargets; the times are those of the periods' first and last blocks.
    #[test]
    fn the_network_retargeted_so() {
        assert_eq!(retarget(1_261_130_161, 1_262_152_739, 0x1d00_ffff), 0x1d00_d86a, "block 32,256");
        assert_eq!(retarget(1_231_006_505, 1_233_061_996, 0x1d00_ffff), 0x1d00_ffff, "never above the limit");
        assert_eq!(retarget(1_279_008_237, 1_279_297_671, 0x1c05_a3f4), 0x1c01_68fd, "four at most, block 68,544");
        assert_eq!(retarget(1_263_163_443, 1_269_211_443, 0x1c38_7f6f), 0x1d00_e1fd, "four at most, made up");
    }

    #[test]
    fn bits_that_stand_for_nothing_have_no_work() {
        let limit = main().limit;
        for bits in [0x1d80_ffff, 0x0000_0000, 0x0100_0000, 0x0080_0001, 0xff12_3456, 0x2300_0001, 0x1e00_ffff] {
            assert_eq!(target(CompactTarget::from_consensus(bits), limit), None, "{bits:08x}");
        }
        assert_eq!(target(CompactTarget::from_consensus(MAIN_LIMIT), limit), Some(limit));
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).header;
        assert!(has_work(genesis.block_hash(), genesis.bits, limit));
        assert!(!has_work(genesis.block_hash(), CompactTarget::from_consensus(0x1a00_ffff), limit));
    }

    #[test]
    fn a_transition_is_by_four_at_most() {
        let bits = CompactTarget::from_consensus;
        assert!(permitted_transition(&main(), 2_016, bits(0x1c05_a3f4), bits(0x1c01_68fd)));
        assert!(!permitted_transition(&main(), 2_016, bits(0x1c05_a3f4), bits(0x1c01_68fc)));
        assert!(!permitted_transition(&main(), 2_015, bits(0x1c05_a3f4), bits(0x1c01_68fd)));
        assert!(permitted_transition(&main(), 2_015, bits(0x1c05_a3f4), bits(0x1c05_a3f4)));
        assert!(permitted_transition(&main(), 2_016, bits(0x1d00_ffff), bits(0x1d00_ffff)));
    }
}
