//! DIGEST-MD5, the server's side (RFC 2831), as ZooKeeper's clients speak it.
//!
//! - upon the first token, empty: a challenge with realm `zk-sasl-md5` and a fresh nonce (§2.1.1);
//! - upon the answer: `response` must be `HEX(KD(HEX(H(A1)), nonce:nc:cnonce:qop:HEX(H(A2))))` with
//!   `A1 = H(user:realm:password):nonce:cnonce[:authzid]` and `A2 = AUTHENTICATE:digest-uri` (§2.1.2.1);
//! - upon a right one: `rspauth`, the same with `A2 = :digest-uri` (§2.1.3).
//!
//! A nonce is answered once, so `nc` is 1. Deliberately absent: integrity and confidentiality layers, charsets other
//! than UTF-8, and reauthentication (§2.2).

use std::collections::BTreeMap;

use base64::Engine as _;
use md5::{Digest as _, Md5};

const REALM: &str = "zk-sasl-md5";
/// The longest answer that is looked at.
const ANSWER_SIZE_MAX: usize = 4096;

/// A challenge that is not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    nonce: String,
}

/// What follows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this.
    Challenge(String),
    /// The client is `user`; tell it `token`.
    Granted {
        user: String,
        token: String,
    },
    Refused,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fields of `name=value,name="value"`; `None` if the text is not that.
fn fields(text: &str) -> Option<BTreeMap<&str, String>> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim_matches([' ', ',']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => text.push(chars.next()?.1),
                    (at, '"') => break at,
                    (_, other) => text.push(other),
                }
            };
            value = text;
            rest = &quoted[end + 1..];
        } else {
            let end = after.find(',').unwrap_or(after.len());
            value = after[..end].trim().to_owned();
            rest = &after[end..];
        }
        if fields.insert(name.trim(), value).is_some() {
            return None;
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    Some(fields)
}

/// The response value for one of the two `A2` prefixes.
fn response(fields: &BTreeMap<&str, String>, password: &str, prefix: &str) -> Option<String> {
    let get = |name: &str| fields.get(name).map(String::as_str);
    let (user, nonce, cnonce) = (get("username")?, get("nonce")?, get("cnonce")?);
    let realm = get("realm").unwrap_or_default();
    let mut a1 = Md5::digest(format!("{user}:{realm}:{password}")).to_vec();
    a1.extend_from_slice(format!(":{nonce}:{cnonce}").as_bytes());
    if let Some(authzid) = get("authzid") {
        a1.extend_from_slice(format!(":{authzid}").as_bytes());
    }
    let a1 = hex(&Md5::digest(a1));
    let a2 = hex(&Md5::digest(format!("{prefix}:{}", get("digest-uri")?)));
    let (count, qop) = (get("nc")?, get("qop").unwrap_or("auth"));
    Some(hex(&Md5::digest(format!("{a1}:{nonce}:{count}:{cnonce}:{qop}:{a2}"))))
}

/// Compares without telling by its time where two differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

impl Exchange {
    /// A challenge. Nobody may be able to guess `nonce`.
    pub(super) fn begin(nonce: &[u8]) -> (Self, String) {
        let nonce = base64::engine::general_purpose::STANDARD.encode(nonce);
        let challenge = format!("realm=\"{REALM}\",nonce=\"{nonce}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess");
        (Self { nonce }, challenge)
    }

    /// Judges the answer.
    pub(super) fn answer(self, token: &[u8], users: &BTreeMap<String, String>) -> Step {
        self.judge(token, users).map_or(Step::Refused, |(user, token)| Step::Granted { user, token })
    }

    fn judge(self, token: &[u8], users: &BTreeMap<String, String>) -> Option<(String, String)> {
        let text = std::str::from_utf8(token).ok().filter(|text| text.len() <= ANSWER_SIZE_MAX)?;
        let fields = fields(text)?;
        let is = |name: &str, wanted: &str| fields.get(name).is_some_and(|value| value == wanted);
        let fits = is("nonce", &self.nonce)
            && is("nc", "00000001")
            && fields.get("realm").is_none_or(|realm| realm == REALM)
            && fields.get("qop").is_none_or(|qop| qop == "auth")
            && fields.get("digest-uri").is_some_and(|uri| uri.starts_with("zookeeper/"));
        let user = fields.get("username").filter(|_| fits)?;
        // Nobody acts for another.
        if fields.get("authzid").is_some_and(|other| !other.is_empty() && other != user) {
            return None;
        }
        let password = users.get(user)?;
        let expected = response(&fields, password, "AUTHENTICATE")?;
        if !same(fields.get("response")?, &expected) {
            return None;
        }
        Some((user.clone(), format!("rspauth={}", response(&fields, password, "")?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 2831 §4.
    #[test]
    fn the_example_of_the_rfc() {
        let text = r#"charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",nc=00000001,cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",response=d388dad90d4bbd760a152321f2143af7,qop=auth"#;
        let fields = fields(text).expect("well formed");
        assert_eq!(response(&fields, "secret", "AUTHENTICATE").as_deref(), Some("d388dad90d4bbd760a152321f2143af7"));
        assert_eq!(response(&fields, "secret", "").as_deref(), Some("ea40f60335c427b5527b84dbabcdfffd"));
    }

    fn answer(nonce: &str, password: &str, extra: &str) -> String {
        let text = format!(
            r#"username="jaasuser",realm="zk-sasl-md5",nonce="{nonce}",nc=00000001,cnonce="c",digest-uri="zookeeper/zk-sasl-md5",qop=auth{extra}"#
        );
        let response = response(&fields(&text).unwrap(), password, "AUTHENTICATE").unwrap();
        format!("{text},response={response}")
    }

    #[test]
    fn only_the_password_opens() {
        let users = BTreeMap::from([("jaasuser".to_owned(), "jaas_password".to_owned())]);
        let (exchange, challenge) = Exchange::begin(&[7; 16]);
        assert!(challenge.contains("realm=\"zk-sasl-md5\""));
        let nonce = exchange.nonce.clone();
        let good = exchange.clone().answer(answer(&nonce, "jaas_password", "").as_bytes(), &users);
        assert!(matches!(good, Step::Granted { user, token } if user == "jaasuser" && token.starts_with("rspauth=")));
        for bad in [
            answer(&nonce, "other", ""),
            answer("another nonce", "jaas_password", ""),
            answer(&nonce, "jaas_password", r#",authzid="root""#),
            answer(&nonce, "jaas_password", "").replace("jaasuser", "nobody"),
            answer(&nonce, "jaas_password", "") + ",qop=auth",
            String::new(),
            "username=\"x".to_owned(),
            "a=\"\\".to_owned(),
        ] {
            assert_eq!(exchange.clone().answer(bad.as_bytes(), &users), Step::Refused, "{bad}");
        }
    }
}
