//! One key of a configuration: its type, its default, and which values pass.
//!
//! Deliberately absent: parsing into anything but what the check needs. Values are kept as the texts that clients sent.

/// Kafka's types of values; the numbers are those of `DescribeConfigs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A number with a fraction.
    Double = 6,
    /// Texts with commas between them.
    List = 7,
    /// The name of a class of Kafka's; a text to us.
    Class = 8,
    /// A text that is not shown.
    Password = 9,
}

/// Who may set a key, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody, while the node runs.
    ReadOnly,
    /// For one node only.
    PerNode,
    /// For all nodes, or for one.
    Anywhere,
    /// For all nodes only: replicas must agree on it.
    Cluster,
}

/// Which values pass, beyond the type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Valid {
    /// All.
    Any,
    /// This, or more.
    AtLeast(i64),
    /// From the one to the other.
    Between(i64, i64),
    /// A share: from 0 to 1.
    Share,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Each element is one of these.
    EachOf(&'static [&'static str]),
    /// A level of gzip: -1, or 1 to 9.
    GzipLevel,
    /// `partition:node` pairs, or `*`.
    Throttled,
    /// `earliest`, `latest`, or `by_duration:` with a span of time.
    OffsetReset,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// What holds if nothing is set; absent for nothing.
    pub default: Option<&'static str>,
    pub(super) valid: Valid,
    /// Who may set it.
    pub mode: Mode,
    /// For a topic's key: the key of nodes that gives its default.
    pub synonym: Option<&'static str>,
    /// It may be set, and is not shown unless it is.
    pub(super) hidden: bool,
    /// What it does.
    pub documentation: &'static str,
}

impl ConfigKey {
    /// A key of a topic or a group.
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        documentation: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default: Some(default),
            valid: Valid::Any,
            mode: Mode::Anywhere,
            synonym: None,
            hidden: false,
            documentation,
        }
    }

    pub(super) const fn valid(self, valid: Valid) -> Self {
        Self { valid, ..self }
    }

    pub(super) const fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    pub(super) const fn like(self, synonym: &'static str) -> Self {
        Self { synonym: Some(synonym), ..self }
    }

    pub(super) const fn without_default(self) -> Self {
        Self { default: None, ..self }
    }

    pub(super) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// True for what clients must not see.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Does the value pass? If not, why, in Kafka's words.
    pub(super) fn check(&self, value: &str) -> Result<(), String> {
        self.reason(value).map_or(Ok(()), |reason| {
            let shown = if self.is_sensitive() { "[hidden]" } else { value };
            Err(format!("Invalid value {shown} for configuration {}: {reason}", self.name))
        })
    }

    fn reason(&self, value: &str) -> Option<String> {
        let trimmed = value.trim();
        let number = |kind: &str| Some(format!("Not a number of type {kind}"));
        match self.kind {
            Kind::Boolean => {
                let known = trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false");
                (!known).then(|| "Expected value to be either true or false".to_owned())
            }
            Kind::Int => match trimmed.parse::<i32>() {
                Ok(value) => self.out_of_range(i64::from(value)),
                Err(_) => number("INT"),
            },
            Kind::Short => match trimmed.parse::<i16>() {
                Ok(value) => self.out_of_range(i64::from(value)),
                Err(_) => number("SHORT"),
            },
            Kind::Long => match trimmed.parse::<i64>() {
                Ok(value) => self.out_of_range(value),
                Err(_) => number("LONG"),
            },
            Kind::Double => match trimmed.parse::<f64>().ok().filter(|value| value.is_finite()) {
                Some(value) if matches!(self.valid, Valid::Share) && value < 0.0 => {
                    Some("Value must be at least 0".to_owned())
                }
                Some(value) if matches!(self.valid, Valid::Share) && value > 1.0 => {
                    Some("Value must be no more than 1".to_owned())
                }
                Some(_) => None,
                None => number("DOUBLE"),
            },
            Kind::String | Kind::Class | Kind::Password => match self.valid {
                Valid::OneOf(known) => not_one_of(known, trimmed),
                Valid::OffsetReset => (!is_offset_reset(trimmed)).then(|| {
                    "Invalid value, it must be `earliest`, `latest` or `by_duration:` with a positive duration"
                        .to_owned()
                }),
                _ => None,
            },
            Kind::List => match self.valid {
                Valid::EachOf(known) => elements(value).find_map(|element| not_one_of(known, element)),
                Valid::Throttled => (!is_throttled(value)).then(|| {
                    "Must be the literal '*' or a list of replicas in the form [partitionId]:[brokerId]".to_owned()
                }),
                _ => None,
            },
        }
    }

    fn out_of_range(&self, value: i64) -> Option<String> {
        match self.valid {
            Valid::AtLeast(min) | Valid::Between(min, _) if value < min => {
                Some(format!("Value must be at least {min}"))
            }
            Valid::Between(_, max) if value > max => Some(format!("Value must be no more than {max}")),
            Valid::GzipLevel if value != -1 && !(1..=9).contains(&value) => {
                Some("Value must be between 1 and 9 or equal to -1".to_owned())
            }
            _ => None,
        }
    }
}

/// The elements of a list.
pub(super) fn elements(value: &str) -> impl Iterator<Item = &str> {
    let trimmed = value.trim();
    let all = (!trimmed.is_empty()).then(|| trimmed.split(','));
    all.into_iter().flatten().map(str::trim)
}

fn not_one_of(known: &[&str], value: &str) -> Option<String> {
    (!known.contains(&value)).then(|| format!("String must be one of: {}", known.join(", ")))
}

fn is_throttled(value: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    let pair = |text: &str| text.split_once(':').is_some_and(|(partition, node)| number(partition) && number(node));
    value.trim() == "*" || elements(value).all(pair)
}

fn is_offset_reset(value: &str) -> bool {
    match value.strip_prefix("by_duration:") {
        Some(span) => is_span(span),
        None => matches!(value, "earliest" | "latest"),
    }
}

/// True for spans of time as ISO 8601 writes them, with days, hours, minutes and seconds.
fn is_span(span: &str) -> bool {
    let Some(rest) = span.strip_prefix('P') else { return false };
    let (days, time) = rest.split_once('T').map_or((rest, None), |(days, time)| (days, Some(time)));
    let counted = |text: &str, units: &[char]| -> Option<bool> {
        let (mut rest, mut next, mut positive) = (text, 0, false);
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let unit = rest[end..].chars().next()?;
            let place = units.iter().skip(next).position(|known| *known == unit)?;
            let amount: f64 = rest[..end].parse().ok()?;
            if unit != 'S' && rest[..end].contains('.') {
                return None;
            }
            positive |= amount > 0.0;
            next += place + 1;
            rest = &rest[end + 1..];
        }
        Some(positive)
    };
    let days = counted(days, &['D']);
    let time = time.map_or(Some(false), |time| (!time.is_empty()).then(|| counted(time, &['H', 'M', 'S'])).flatten());
    matches!((days, time), (Some(days), Some(time)) if days || time)
}

#[cfg(test)]
mod tests {
    use super::super::{broker_keys, client_metrics_keys, group_keys, topic_keys};
    use super::*;

    #[test]
    fn tables_are_in_order_and_their_defaults_pass() {
        for table in [topic_keys(), broker_keys(), group_keys(), client_metrics_keys()] {
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name), "in order, each once");
            for key in table {
                assert!(!key.documentation.is_empty(), "{}", key.name);
                if let Some(default) = key.default {
                    assert_eq!(key.check(default), Ok(()), "{}", key.name);
                }
            }
        }
    }

    #[test]
    fn a_default_for_topics_is_a_key_of_nodes_of_the_same_type_that_replicas_agree_on() {
        for key in topic_keys() {
            let Some(synonym) = key.synonym else { continue };
            let node = super::super::find(broker_keys(), synonym).unwrap_or_else(|| panic!("{synonym}"));
            assert_eq!((node.kind, node.mode), (key.kind, Mode::Cluster), "{synonym}");
            if let Some(default) = node.default {
                assert_eq!(Some(default), key.default, "{synonym}");
            }
        }
    }

    #[test]
    fn values() {
        let check = |kind, valid, value: &str| ConfigKey::new("k", kind, "", "d").valid(valid).check(value);
        let wrong = |reason: &str, value: &str| Err(format!("Invalid value {value} for configuration k: {reason}"));
        assert_eq!(check(Kind::Boolean, Valid::Any, " TRUE "), Ok(()));
        assert_eq!(check(Kind::Boolean, Valid::Any, "1"), wrong("Expected value to be either true or false", "1"));
        assert_eq!(check(Kind::Int, Valid::Any, "2147483648"), wrong("Not a number of type INT", "2147483648"));
        assert_eq!(check(Kind::Long, Valid::AtLeast(0), "-1"), wrong("Value must be at least 0", "-1"));
        assert_eq!(check(Kind::Int, Valid::Between(1, 17), "18"), wrong("Value must be no more than 17", "18"));
        assert_eq!(check(Kind::Double, Valid::Share, "1.5"), wrong("Value must be no more than 1", "1.5"));
        assert!(check(Kind::Double, Valid::Share, "NaN").is_err());
        assert_eq!(check(Kind::Int, Valid::GzipLevel, "-1"), Ok(()));
        assert!(check(Kind::Int, Valid::GzipLevel, "0").is_err());
        let policies = Valid::EachOf(&["compact", "delete"]);
        assert_eq!(check(Kind::List, policies, "compact , delete"), Ok(()));
        assert_eq!(check(Kind::List, policies, "x"), wrong("String must be one of: compact, delete", "x"));
        for good in ["", "*", "0:1", "0:1, 2:3"] {
            assert_eq!(check(Kind::List, Valid::Throttled, good), Ok(()), "{good}");
        }
        for bad in ["1", "a:b", "1:2:3", "*,1:2"] {
            assert!(check(Kind::List, Valid::Throttled, bad).is_err(), "{bad}");
        }
        for good in ["earliest", "latest", "by_duration:PT1H", "by_duration:P2DT3H4M5.5S"] {
            assert_eq!(check(Kind::String, Valid::OffsetReset, good), Ok(()), "{good}");
        }
        for bad in ["none", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:PT0S", "by_duration:PT1S2M"]
        {
            assert!(check(Kind::String, Valid::OffsetReset, bad).is_err(), "{bad}");
        }
    }
}
