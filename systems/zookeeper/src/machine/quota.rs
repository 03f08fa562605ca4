//! Quotas: limits and counts that live in nodes below `/zookeeper/quota`.
//!
//! - upon `zookeeper_limits` below `/zookeeper/quota/<path>`: everything at and below `<path>` is counted, by the
//!   deepest such path.
//! - upon `zookeeper_stats` there: it is overwritten with a fresh count.
//! - upon a create, delete or set at or below the path: the stats node's data follows; its stat and watches do not.
//! - upon a hard limit that a growth would pass, if enforcement is on: quota exceeded.
//!
//! Soft limits warn nobody here; whoever cares reads the stats node.

use std::collections::BTreeSet;

use super::tree::{Tree, Undo};
use crate::wire::ErrorCode;

const QUOTA: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What a limits or stats node says; -1 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Track {
    count: i64,
    bytes: i64,
    hard: Option<(i64, i64)>,
}

impl Track {
    /// Reads `count=1,bytes=2` or `count=1,bytes=2=;byteHardLimit=3;countHardLimit=4`.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (mut count, mut bytes, mut hard_count, mut hard_bytes) = (-1, -1, None, None);
        for part in text.split([',', ';']).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=')?;
            let value = value.trim_end_matches('=').parse().ok()?;
            match key {
                "count" => count = value,
                "bytes" => bytes = value,
                "countHardLimit" => hard_count = Some(value),
                "byteHardLimit" => hard_bytes = Some(value),
                _ => return None,
            }
        }
        let hard = (hard_count.is_some() || hard_bytes.is_some())
            .then_some((hard_count.unwrap_or(-1), hard_bytes.unwrap_or(-1)));
        Some(Self { count, bytes, hard })
    }

    fn write(self) -> String {
        let soft = format!("count={},bytes={}", self.count, self.bytes);
        match self.hard {
            None => soft,
            Some((count, bytes)) => format!("{soft}=;byteHardLimit={bytes};countHardLimit={count}"),
        }
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("sizes are below 2^63")
}

/// The path whose quota the node `name` below `parent` is about.
fn subject<'a>(parent: &'a str, name: &str, wanted: &str) -> Option<&'a str> {
    if name == wanted { parent.strip_prefix(QUOTA) } else { None }
}

/// Every path with limits, from a whole tree.
pub(super) fn limited_paths(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut stack: Vec<u32> = tree.find(QUOTA).into_iter().collect();
    while let Some(id) = stack.pop() {
        for child in tree.children(id) {
            if tree.slab.get(child).name() == LIMITS.as_bytes()
                && let Some(path) = tree.path_of(id).strip_prefix(QUOTA)
            {
                found.insert(path.to_owned());
            }
            stack.push(child);
        }
    }
    found
}

impl Tree {
    /// The deepest path with limits that is `path` or above it.
    fn quota_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.quotas.is_empty() {
            return None;
        }
        let mut prefix = path;
        while !prefix.is_empty() {
            if self.quotas.contains(prefix) {
                return Some(prefix);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
        None
    }

    /// May `path` grow by this much?
    pub(super) fn check_quota(&self, path: &str, old: usize, new: usize, count: i64) -> Result<(), ErrorCode> {
        if !self.config.enforce_quota {
            return Ok(());
        }
        let Some(prefix) = self.quota_of(path) else { return Ok(()) };
        let read = |name: &str| {
            let node = self.find(&format!("{QUOTA}{prefix}/{name}"))?;
            Some(Track::parse(self.slab.get(node).data().unwrap_or_default()))
        };
        let Some(limits) = read(LIMITS) else { return Ok(()) };
        let limits = limits.ok_or(ErrorCode::MarshallingError)?;
        let Some((count_max, bytes_max)) = limits.hard else { return Ok(()) };
        let Some(now) = read(STATS).flatten() else { return Ok(()) };
        let bytes = signed(new) - signed(old);
        let passes = |now: i64, growth: i64, max: i64| growth > 0 && max > -1 && now.saturating_add(growth) > max;
        if passes(now.count, count, count_max) || passes(now.bytes, bytes, bytes_max) {
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }

    /// `path` has grown by this much.
    pub(super) fn count_quota(&mut self, path: &str, old: usize, new: usize, count: i64) {
        let Some(prefix) = self.quota_of(path) else { return };
        let Some(id) = self.find(&format!("{QUOTA}{prefix}/{STATS}")) else { return };
        let before = Track::parse(self.slab.get(id).data().unwrap_or_default());
        let mut track = before.unwrap_or(Track { count: 0, bytes: 0, hard: None });
        track.count = track.count.saturating_add(count);
        track.bytes = track.bytes.saturating_add(signed(new) - signed(old));
        self.replace_data(id, Some(track.write().as_bytes()), false);
    }

    fn set_limited(&mut self, path: &str, present: bool) {
        let was = if present { !self.quotas.insert(path.to_owned()) } else { self.quotas.remove(path) };
        if let Some(journal) = &mut self.journal {
            journal.push(Undo::Quota { path: path.to_owned(), present: was });
        }
    }

    /// A node was created: is it one of the above?
    pub(super) fn quota_created(&mut self, parent: &str, name: &str, id: u32) {
        if let Some(path) = subject(parent, name, LIMITS) {
            self.set_limited(path, true);
        } else if let Some(path) = subject(parent, name, STATS)
            && let Some(top) = self.find(path)
        {
            let (mut count, mut bytes) = (0i64, 0i64);
            let mut stack = vec![top];
            while let Some(at) = stack.pop() {
                count += 1;
                bytes += signed(self.slab.get(at).data_size());
                stack.extend(self.children(at));
            }
            self.replace_data(id, Some(Track { count, bytes, hard: None }.write().as_bytes()), false);
        }
    }

    /// A node was deleted: was it one of the above?
    pub(super) fn quota_deleted(&mut self, parent: &str, name: &str) {
        if let Some(path) = subject(parent, name, LIMITS) {
            self.set_limited(path, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_are_read_and_written() {
        let track = Track::parse(b"count=5,bytes=-1=;byteHardLimit=20;countHardLimit=4").expect("valid");
        assert_eq!(track, Track { count: 5, bytes: -1, hard: Some((4, 20)) });
        assert_eq!(Track::parse(track.write().as_bytes()), Some(track));
        assert_eq!(Track::parse(b"count=1,bytes=2").map(Track::write).as_deref(), Some("count=1,bytes=2"));
        assert_eq!(Track::parse(b"garbage"), None);
        assert_eq!(Track::parse(b"").map(|track| track.hard), Some(None));
    }
}
