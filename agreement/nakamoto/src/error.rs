//! Why a header is refused.

use thiserror::Error;

/// Why a header is refused. The words are those of the network's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Its hash is above the target that it names, or the target is out of range.
    #[error("high-hash")]
    HighHash,
    /// Nobody knows what it stands on.
    #[error("prev-blk-not-found")]
    PrevNotFound,
    /// What it stands on is invalid.
    #[error("bad-prevblk")]
    PrevInvalid,
    /// It is known, and known to be invalid.
    #[error("duplicate-invalid")]
    KnownInvalid,
    /// It names another difficulty than the rule gives.
    #[error("bad-diffbits")]
    BadBits,
    /// It is not later than the median of the eleven before it.
    #[error("time-too-old")]
    TimeTooOld,
    /// It begins a period too far before the end of the last (BIP 94).
    #[error("time-timewarp-attack")]
    Timewarp,
    /// It lies more than two hours ahead of the node's clock.
    #[error("time-too-new")]
    TimeTooNew,
    /// Its version is below what the rules at its height ask for.
    #[error("bad-version(0x{0:08x})")]
    BadVersion(u32),
}
