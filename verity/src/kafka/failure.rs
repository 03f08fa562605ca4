//! What may go wrong, in one line for people.

use std::fmt;

use thiserror::Error;
use verity_kafka::wire::ErrorCode;

/// Why something was not done.
#[derive(Clone, Debug, Error)]
pub(crate) enum Failure {
    /// The connection failed or the broker is not who leads or coordinates: another try may help.
    #[error("{0}")]
    Passing(String),
    /// It will fail again.
    #[error("{0}")]
    Lasting(String),
    /// The broker says so.
    #[error("{}", told(*.code, .about))]
    Code {
        /// In its words.
        code: ErrorCode,
        /// About what: `topic orders`, `group billing`.
        about: String,
    },
}

impl Failure {
    /// The broker's word, if it is an error.
    pub(crate) fn check(code: i16, about: impl fmt::Display) -> Result<(), Self> {
        let code = ErrorCode(code);
        if code.is_none() { Ok(()) } else { Err(Self::Code { code, about: about.to_string() }) }
    }

    /// The same, with what the broker says beside it.
    pub(crate) fn check_said(code: i16, said: Option<&str>, about: impl fmt::Display) -> Result<(), Self> {
        let Err(failure) = Self::check(code, &about) else { return Ok(()) };
        match said.filter(|said| !said.is_empty() && ErrorCode(code).name() != Some(said)) {
            Some(said) if !is_known(ErrorCode(code)) => Err(Self::Lasting(format!("{about}: {said}"))),
            _ => Err(failure),
        }
    }

    /// May another try help?
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Passing(_) => true,
            Self::Lasting(_) => false,
            Self::Code { code, .. } => code.is_retriable(),
        }
    }

    /// The broker's code, if it told one.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Code { code, .. } => Some(*code),
            Self::Passing(_) | Self::Lasting(_) => None,
        }
    }
}

/// Codes for which there is a better line than the broker's.
fn is_known(code: ErrorCode) -> bool {
    !told(code, "").ends_with(')')
}

fn told(code: ErrorCode, about: &str) -> String {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            format!("there is no {about}; `verity kafka topics list` shows what there is")
        }
        ErrorCode::TOPIC_ALREADY_EXISTS => format!("{about} is there already"),
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => format!("not allowed: {about}; the cluster's rules say so"),
        ErrorCode::GROUP_ID_NOT_FOUND => {
            format!("there is no {about}; `verity kafka groups list` shows those there are")
        }
        ErrorCode::NON_EMPTY_GROUP => format!("{about} has members; stop them first"),
        ErrorCode::OFFSET_OUT_OF_RANGE => format!("{about} has no such offset"),
        ErrorCode::MESSAGE_TOO_LARGE => format!("a record is larger than {about} takes (max.message.bytes)"),
        code => format!("{about}: refused ({code})"),
    }
}

/// An error's line without what stands in it twice.
pub(crate) fn clear(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        ErrorKind::TimedOut => "no answer in time".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            "the connection was closed".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_wrong_and_what_helps() {
        let line = |code: ErrorCode| Failure::check(code.0, "topic t").unwrap_err().to_string();
        assert_eq!(
            line(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            "there is no topic t; `verity kafka topics list` shows what there is"
        );
        assert_eq!(line(ErrorCode::INVALID_PARTITIONS), "topic t: refused (INVALID_PARTITIONS)");
        let said = Failure::check_said(ErrorCode::INVALID_PARTITIONS.0, Some("3 are fewer than 4"), "topic t");
        assert_eq!(said.unwrap_err().to_string(), "topic t: 3 are fewer than 4");
        let known =
            Failure::check_said(ErrorCode::TOPIC_ALREADY_EXISTS.0, Some("Topic 't' already exists."), "topic t");
        assert_eq!(known.unwrap_err().to_string(), "topic t is there already");
    }
}
