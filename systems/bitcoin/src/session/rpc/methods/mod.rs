//! What each method does, by category.

pub(crate) mod addresses;
pub(crate) mod blocks;
pub(crate) mod coins;
pub(crate) mod control;
pub(crate) mod deployments;
pub(crate) mod fees;
pub(crate) mod mempool;
pub(crate) mod mining;
pub(crate) mod network;
pub(crate) mod proof;
pub(crate) mod psbt;
pub(crate) mod raw;
pub(crate) mod scan;
pub(crate) mod sign;
pub(crate) mod stats;
pub(crate) mod submit;
pub(crate) mod template;
pub(crate) mod wallet;
