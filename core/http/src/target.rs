//! The target of a request (RFC 9112 §3.2).
//!
//! - upon the origin form, `/path?query`: as it is (§3.2.1).
//! - upon the absolute form, `http://host/path?query`: taken apart; its host counts in place of the field `Host` (§3.2.2).
//! - upon the authority form, CONNECT's: refused, this is no proxy (§3.2.3).
//! - upon the asterisk form: taken from OPTIONS (§3.2.4).
//! - upon a fragment, or a byte that no URI has: refused, never repaired (§3.2).

use crate::{Refusal, host};

/// A target, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The absolute form's host.
    pub(crate) authority: Option<String>,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
}

impl Target {
    pub(crate) fn parse(method: &str, target: &str) -> Result<Self, Refusal> {
        if method == "CONNECT" {
            return Err(Refusal::Tunnel);
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Refusal::InvalidMessage("the target has a byte that no URI has"));
        }
        if target.starts_with('/') {
            return Ok(Self::split(None, target));
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Self { authority: None, path: "*".into(), query: None });
        }
        let Some(rest) = after_scheme(target) else {
            return Err(Refusal::InvalidMessage("the target is neither a path nor a URI of HTTP"));
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        match host::split_authority(authority) {
            Some((host, _)) if !host.is_empty() => Ok(Self::split(Some(authority.into()), rest)),
            _ => Err(Refusal::InvalidMessage("the target's host is none")),
        }
    }

    fn split(authority: Option<String>, rest: &str) -> Self {
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = if path.is_empty() { "/" } else { path };
        Self { authority, path: path.into(), query: query.map(Into::into) }
    }
}

fn after_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}
