//! Whom a client takes this server for.
//!
//! - upon a page whose name's owner lets it point to this machine (DNS rebinding): the browser sends that name as `Host`.
//!   Only names that no DNS answers for are safe: `localhost` (RFC 6761 §6.3) and literal addresses.
//! - upon a page of another site: the browser sends the site as `Origin` (RFC 6454 §7). `null` is anybody's.
//!
//! HAZARD: this is about browsers. Any other client says what it likes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Takes `host [":" port]` apart (RFC 3986 §3.2); the brackets of an IPv6 address stay. `None` if it is no such thing: no
/// user is let in front of a host (RFC 9110 §4.2.4).
#[must_use]
pub fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let (host, rest) = authority.split_at(end);
        host[1..end - 1].parse::<Ipv6Addr>().ok()?;
        (host, rest)
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
    if !host.starts_with('[') && !host.bytes().all(allowed) {
        return None;
    }
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some("") => Some((host, None)),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(port.parse().ok()?))),
        _ => None,
    }
}

/// The address that a host is, if it is a literal one.
fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// True for `localhost` and the addresses of loopback, with or without a port.
#[must_use]
pub fn is_loopback_host(authority: &str) -> bool {
    let Some((host, _)) = split_authority(authority) else { return false };
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|address| address.to_canonical().is_loopback())
}

/// True for `localhost` and literal addresses, with or without a port: names that nobody's DNS can let point here.
#[must_use]
pub fn is_rebind_safe(authority: &str) -> bool {
    let Some((host, _)) = split_authority(authority) else { return false };
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some()
}

/// Host and port of an `Origin`. `None` for `null`, and for what is no origin.
#[must_use]
pub fn origin_host(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    let scheme_ok =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (scheme_ok && split_authority(authority).is_some()).then_some(authority)
}
