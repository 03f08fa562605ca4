//! Silent: says nothing at all, as a replica that crashed would, but that it is there.

/// Keeps everything to itself.
pub(super) fn on_send() {}
