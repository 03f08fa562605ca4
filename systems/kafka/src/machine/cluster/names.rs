//! What a topic may be called.
//!
//! Metrics write every `.` of a name as `_`, so two names that differ only there are one name to them: the second is
//! refused.
//!
//! Deliberately absent: regular expressions. A name is looked at byte by byte.

use super::command::Refusal;
use crate::wire::ErrorCode;

/// A name has no more characters.
pub const NAME_SIZE_MAX: usize = 249;

/// Where Kafka keeps its own state. Here machines of their own do, so nobody may create them.
const INTERNAL: [&str; 4] = ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// True for the names of topics in which Kafka keeps its own state.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// The name as metrics write it.
#[must_use]
pub fn unify(name: &str) -> String {
    name.replace('.', "_")
}

/// May a topic be called so?
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION`, with the reason.
pub fn validate(name: &str) -> Result<(), Refusal> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if matches!(name, "." | "..") {
        format!("'{name}' is not allowed")
    } else if name.chars().count() > NAME_SIZE_MAX {
        format!("the length of '{name}' is longer than the max allowed length {NAME_SIZE_MAX}")
    } else if !name.bytes().all(legal) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("Topic name is invalid: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "A.b_c-9", "...", "_", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("", "Topic name is invalid: the empty string is not allowed"),
            (".", "Topic name is invalid: '.' is not allowed"),
            ("..", "Topic name is invalid: '..' is not allowed"),
            (
                "a b",
                "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                 and '-'",
            ),
        ] {
            let refusal = validate(bad).expect_err(bad);
            assert_eq!((refusal.error, refusal.message.as_str()), (ErrorCode::INVALID_TOPIC_EXCEPTION, reason));
        }
        assert!(validate("é").is_err());
        assert!(validate(&"x".repeat(250)).is_err());
    }
}
