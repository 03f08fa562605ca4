//! `verity tour`: a system's best-known recipe, played on a real cluster, its events printed as they happen.

pub(crate) mod zookeeper;
