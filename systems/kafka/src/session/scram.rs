//! SCRAM, the server's side (RFC 5802, RFC 7677).
//!
//! - upon `client-first` (§5.1: `n,,n=user,r=nonce`): the answer is `server-first`, the nonce made longer, the salt and the
//!   iterations;
//! - upon `client-final` (`c=biws,r=nonce,p=proof`): the proof shows that the client has the key whose hash is kept; the
//!   answer is `server-final`, which shows that the server has the other one.
//!
//! A user who is not there gets a salt too, always the same, and is refused with the proof, as for a wrong password.
//!
//! Deliberately absent: channel bindings (§6), delegation tokens, and passwords: whoever sets one sends it salted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;

pub(super) use crate::scram::Hash;

use crate::machine::cluster::{ITERATIONS_MIN, ScramCredential};

/// How many bytes of salt a user has who is not there.
const SALT_SIZE: usize = 20;

/// It is not who they say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// What a client says first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst {
    pub(super) user: String,
    /// The header of GSS-API, which the client repeats at the end.
    gs2_header: String,
    bare: String,
    nonce: String,
}

/// An exchange that waits for its end.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) user: String,
    hash: Hash,
    gs2_header: String,
    /// Nobody, if there is no such user.
    keys: Option<(Vec<u8>, Vec<u8>)>,
    nonce: String,
    /// `client-first-bare`, a comma and `server-first`.
    said: String,
}

/// `=2C` and `=3D` stand for a comma and `=`.
fn saslname(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) =
            if let Some(rest) = part.strip_prefix("2C") { (',', rest) } else { ('=', part.strip_prefix("3D")?) };
        name.push(sign);
        name.push_str(rest);
    }
    Some(name)
}

impl ClientFirst {
    pub(super) fn parse(token: &[u8]) -> Result<Self, Failed> {
        let text = std::str::from_utf8(token).map_err(|_| Failed)?;
        let mut parts = text.splitn(3, ',');
        let mut next = || parts.next().ok_or(Failed);
        let (binding, authorize_as, bare) = (next()?, next()?, next()?);
        // A client that would bind a channel sees that no mechanism here does.
        if !matches!(binding, "n" | "y") {
            return Err(Failed);
        }
        let mut attributes = bare.split(',');
        let mut attribute = |name: &str| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(Failed);
        let user = saslname(attribute("n=")?).filter(|user| !user.is_empty()).ok_or(Failed)?;
        let nonce = attribute("r=")?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failed);
        }
        // Who wants a token instead of a password says so in an extension; there are no tokens.
        if attributes.any(|extension| extension == "tokenauth=true") {
            return Err(Failed);
        }
        let same = match authorize_as.strip_prefix("a=") {
            Some(name) => saslname(name).is_some_and(|name| name == user),
            None => authorize_as.is_empty(),
        };
        if !same {
            return Err(Failed);
        }
        let (gs2_header, bare, nonce) = (format!("{binding},{authorize_as},"), bare.to_owned(), nonce.to_owned());
        Ok(Self { user, gs2_header, bare, nonce })
    }
}

impl Exchange {
    /// Begins one; also what is to be said. `secret` makes up the salt of a user who is not there, `draw` the nonce.
    pub(super) fn begin(
        hash: Hash,
        first: ClientFirst,
        credential: Option<&ScramCredential>,
        secret: &[u8],
        draw: &str,
    ) -> (Self, String) {
        let ClientFirst { user, gs2_header, bare, nonce } = first;
        let (salt, iterations, keys) = match credential {
            Some(known) => {
                let keys = (known.stored_key.0.to_vec(), known.server_key.0.to_vec());
                (known.salt.0.to_vec(), known.iterations, Some(keys))
            }
            None => {
                let mut salt = hash.hmac(secret, user.as_bytes());
                salt.truncate(SALT_SIZE);
                (salt, ITERATIONS_MIN, None)
            }
        };
        let nonce = format!("{nonce}{draw}");
        let server_first = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let said = format!("{bare},{server_first}");
        (Self { user, hash, gs2_header, keys, nonce, said }, server_first)
    }

    /// Of which mechanism.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// Ends it. What is to be said to a client that has shown who it is.
    pub(super) fn end(&self, token: &[u8]) -> Result<String, Failed> {
        let text = std::str::from_utf8(token).map_err(|_| Failed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failed)?;
        let mut attributes = without_proof.split(',');
        let mut attribute = |name: &str| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(Failed);
        let binding = STANDARD.decode(attribute("c=")?).map_err(|_| Failed)?;
        let nonce = attribute("r=")?;
        let proof = STANDARD.decode(proof).map_err(|_| Failed)?;
        if binding != self.gs2_header.as_bytes() || nonce != self.nonce {
            return Err(Failed);
        }
        let auth_message = format!("{},{without_proof}", self.said);
        // The same is worked out for whoever is not there.
        let absent = (self.hash.hash(b""), self.hash.hash(b""));
        let (stored_key, server_key) = self.keys.as_ref().unwrap_or(&absent);
        let signature = self.hash.hmac(stored_key, auth_message.as_bytes());
        if proof.len() != signature.len() {
            return Err(Failed);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let same: bool = self.hash.hash(&client_key).ct_eq(stored_key).into();
        if !same || self.keys.is_none() {
            return Err(Failed);
        }
        Ok(format!("v={}", STANDARD.encode(self.hash.hmac(server_key, auth_message.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cluster::Secret;

    #[test]
    fn the_exchange_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = Hash::Sha256.salted(b"pencil", &salt, 4_096);
        let (stored_key, server_key) = Hash::Sha256.keys(&salted);
        let credential = ScramCredential {
            iterations: 4_096,
            salt: Secret(salt.into()),
            stored_key: Secret(stored_key.into()),
            server_key: Secret(server_key.into()),
        };
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let draw = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (exchange, said) = Exchange::begin(Hash::Sha256, first, Some(&credential), b"", draw);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        assert_eq!(said, format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        let last = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(exchange.end(last.as_bytes()).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let other = last.replace("dHzb", "eHzb");
        assert_eq!(exchange.end(other.as_bytes()), Err(Failed));
        assert_eq!(exchange.end(last.replace("biws", "eSws").as_bytes()), Err(Failed), "another header");
    }

    #[test]
    fn what_no_client_says_first() {
        let first = |text: &str| ClientFirst::parse(text.as_bytes()).map(|first| first.user);
        assert_eq!(first("n,,n=a=2Cb=3Dc,r=x"), Ok("a,b=c".to_owned()));
        assert_eq!(first("y,a=u,n=u,r=x,e=1"), Ok("u".to_owned()));
        for bad in [
            "",
            "n,,",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=,r=x",
            "n,,n=a=2X,r=x",
            "n,a=v,n=u,r=x",
            "n,v,n=u,r=x",
            "p=tls-unique,,n=u,r=x",
            "n,,m=1,n=u,r=x",
            "n,,n=u,r=x,tokenauth=true",
            "n,,n=u,r=\u{7f}",
        ] {
            assert_eq!(first(bad), Err(Failed), "{bad}");
        }
    }
}
