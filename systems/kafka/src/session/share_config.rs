//! What a share group's configuration says, as this node's image has it.
//!
//! Deliberately absent: bounds. What may be set was checked when it was set.

use super::node::State;
use crate::machine::coordinator::ShareSettings;

/// Where a group begins to read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    Earliest,
    Latest,
    /// At the first record of the last so many milliseconds.
    Within(i64),
}

/// A topic for the dead of a group (KIP-1191).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetters {
    pub(super) topic: String,
    /// Keys and values come along.
    pub(super) copies: bool,
}

fn number(state: &State, group: &str, name: &str, otherwise: u32) -> u32 {
    state.image.group_config(group, name).trim().parse().unwrap_or(otherwise)
}

fn is_true(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("true")
}

/// True if share groups are on (`share.version`).
pub(super) fn enabled(state: &State) -> bool {
    state.image.feature(crate::machine::cluster::SHARE_VERSION) > 0
}

pub(super) fn settings(state: &State, group: &str) -> ShareSettings {
    let count = number(state, group, "share.delivery.count.limit", 5);
    ShareSettings {
        lock_ms: number(state, group, "share.record.lock.duration.ms", 30_000),
        delivery_count_max: u16::try_from(count).unwrap_or(u16::MAX),
        window: number(state, group, "share.partition.max.record.locks", 2_000),
        renews: is_true(state.image.group_config(group, "share.renew.acknowledge.enable")),
        dead_letter: dead_letters(state, group).is_some(),
    }
}

/// Session timeout, heartbeat interval and the largest size of a group.
pub(super) fn membership(state: &State, group: &str) -> (u32, u32, u32) {
    (
        number(state, group, "share.session.timeout.ms", 45_000),
        number(state, group, "share.heartbeat.interval.ms", 5_000),
        state.image.broker_value("group.share.max.size").trim().parse().unwrap_or(200),
    )
}

/// True if a group sees what is committed, and no more.
pub(super) fn committed(state: &State, group: &str) -> bool {
    state.image.group_config(group, "share.isolation.level").trim() == "read_committed"
}

pub(super) fn reset(state: &State, group: &str) -> Reset {
    let text = state.image.group_config(group, "share.auto.offset.reset").trim();
    match text.strip_prefix("by_duration:") {
        Some(span) => millis(span).map_or(Reset::Latest, Reset::Within),
        None if text == "earliest" => Reset::Earliest,
        None => Reset::Latest,
    }
}

/// The dead-letter topic of a group, if it has one whose name is legal.
pub(super) fn dead_letters(state: &State, group: &str) -> Option<DeadLetters> {
    let topic = state.image.group_config(group, "errors.deadletterqueue.topic.name").trim();
    if topic.is_empty() {
        return None;
    }
    let copies = is_true(state.image.group_config(group, "errors.deadletterqueue.copy.record.enable"));
    Some(DeadLetters { topic: topic.to_owned(), copies })
}

/// May dead-letter topics be created that are not there?
pub(super) fn creates_dead_letters(state: &State) -> bool {
    is_true(state.image.broker_value("errors.deadletterqueue.auto.create.topics.enable"))
}

/// May a topic have this name to be one for the dead?
pub(super) fn is_dead_letter_name(state: &State, topic: &str) -> bool {
    let prefix = state.image.broker_value("errors.deadletterqueue.topic.name.prefix").trim();
    !topic.starts_with("__") && topic.starts_with(prefix)
}

/// Has its administrator allowed that the dead are written there?
pub(super) fn takes_dead_letters(state: &State, topic: &str) -> bool {
    is_true(state.image.topic_config(topic, "errors.deadletterqueue.group.enable"))
}

/// The milliseconds of a span such as `P1DT2H3M4.5S`.
fn millis(span: &str) -> Option<i64> {
    let mut rest = span.strip_prefix('P')?;
    let mut total = 0.0f64;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            rest = time;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..end].parse().ok()?;
        let unit = match &rest[end..=end] {
            "D" => 86_400_000.0,
            "H" => 3_600_000.0,
            "M" => 60_000.0,
            "S" => 1_000.0,
            _ => return None,
        };
        total += amount * unit;
        rest = &rest[end + 1..];
    }
    // A span that is too long begins before all time.
    #[allow(clippy::cast_possible_truncation)]
    Some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn spans() {
        assert_eq!(millis("PT1H"), Some(3_600_000));
        assert_eq!(millis("P2DT3H4M5.5S"), Some(2 * 86_400_000 + 3 * 3_600_000 + 4 * 60_000 + 5_500));
        assert_eq!(millis("P99999999999999999999D"), Some(i64::MAX));
        for bad in ["1H", "PT1X", "PT1", "PTé"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }
}
