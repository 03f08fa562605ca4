//! Who may call, and what.
//!
//! Passwords are kept as HMAC-SHA256 with a salt, as `-rpcauth` gives them; a name and a password in the clear (the cookie's,
//! or `-rpcuser` and `-rpcpassword`) become the same.
//!
//! Deliberately absent: drawing the cookie, and the file that it stands in. Both are the host's.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::hex::DisplayHex;

/// The user whose password stands in the cookie.
pub const COOKIE_USER: &str = "__cookie__";

#[derive(Clone, Debug)]
struct Credential {
    user: String,
    salt: String,
    hash: String,
}

/// Who may call, and what.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    credentials: Vec<Credential>,
    allowed: BTreeMap<String, BTreeSet<String>>,
    /// Users of whom nothing is said may call nothing.
    deny_others: bool,
}

impl Auth {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This user with this password, kept with this salt.
    pub fn add_password(&mut self, user: &str, password: &str, salt: [u8; 16]) {
        let salt = salt.to_lower_hex_string();
        let hash = keyed(&salt, password);
        self.credentials.push(Credential { user: user.into(), salt, hash });
    }

    /// Takes an `-rpcauth`: `user:salt$hash`.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn add_rpcauth(&mut self, text: &str) -> Result<(), &'static str> {
        const WORDS: &str = "Invalid -rpcauth argument.";
        let (user, rest) = text.split_once(':').ok_or(WORDS)?;
        let (salt, hash) = rest.split_once('$').ok_or(WORDS)?;
        if rest.contains(':') || hash.contains('$') {
            return Err(WORDS);
        }
        self.credentials.push(Credential { user: user.into(), salt: salt.into(), hash: hash.into() });
        Ok(())
    }

    /// Takes an `-rpcwhitelist`: `user:method,method`. What is said of a user twice must be in both.
    pub fn add_whitelist(&mut self, text: &str) {
        let (user, methods) = text.split_once(':').map_or((text, None), |(user, methods)| (user, Some(methods)));
        let known = self.allowed.contains_key(user);
        let allowed = self.allowed.entry(user.into()).or_default();
        let Some(methods) = methods else { return };
        let named: BTreeSet<String> = methods.split([',', ' ']).map(Into::into).collect();
        *allowed = if known { allowed.intersection(&named).cloned().collect() } else { named };
    }

    /// `-rpcwhitelistdefault`.
    pub fn set_deny_others(&mut self, deny: bool) {
        self.deny_others = deny;
    }

    /// The user that the field `Authorization` names, if the password is right.
    #[must_use]
    pub fn user_of(&self, field: &str) -> Option<String> {
        let encoded = field.strip_prefix("Basic ")?.trim();
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        let right = |own: &&Credential| own.user == user && same(&keyed(&own.salt, password), &own.hash);
        self.credentials.iter().find(right).map(|own| own.user.clone())
    }

    /// True if nothing is allowed to this user.
    pub(super) fn denies_all(&self, user: &str) -> bool {
        self.deny_others && !self.allowed.contains_key(user)
    }

    /// True if this user may call this.
    pub(super) fn allows(&self, user: &str, method: &str) -> bool {
        self.allowed.get(user).is_none_or(|allowed| allowed.contains(method))
    }

    pub(super) fn is_limited(&self, user: &str) -> bool {
        self.allowed.contains_key(user)
    }
}

fn keyed(salt: &str, password: &str) -> String {
    let mut engine = HmacEngine::<sha256::Hash>::new(salt.as_bytes());
    engine.input(password.as_bytes());
    Hmac::<sha256::Hash>::from_engine(engine).to_byte_array().to_lower_hex_string()
}

/// Takes as long for texts that differ early as for those that differ late.
fn same(own: &str, other: &str) -> bool {
    let differences = own.bytes().zip(other.bytes()).fold(0, |sum, (own, other)| sum | (own ^ other));
    own.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    #[test]
    fn passwords_are_checked() {
        let mut auth = Auth::new();
        auth.add_password(COOKIE_USER, "00ff", [7; 16]);
        // The pair that share/rpcauth's own documentation and Core's functional tests have.
        auth.add_rpcauth(
            "rt:93648e835a54c573682c2eb19f882535$7681e9c5b74bdd85e78166031d2058e1069b3ed7ed967c93fc63abba06f31144",
        )
        .expect("well formed");
        assert_eq!(auth.user_of(&basic("__cookie__:00ff")).as_deref(), Some(COOKIE_USER));
        assert_eq!(auth.user_of(&basic("rt:cA773lm788buwYe4g4WT+05pKyNruVKjQ25x3n0DQcM=")).as_deref(), Some("rt"));
        for wrong in ["rt:x", "x:00ff", "__cookie__00ff", "__cookie__:"] {
            assert_eq!(auth.user_of(&basic(wrong)), None, "{wrong}");
        }
        assert_eq!(auth.user_of("Bearer x"), None);
        assert_eq!(auth.user_of("Basic !"), None);
    }

    #[test]
    fn malformed_rpcauth_is_refused() {
        for text in ["a", "a:b", "a:b$c$d", "a:b:c$d"] {
            assert!(Auth::new().add_rpcauth(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whitelists_meet() {
        let mut auth = Auth::new();
        auth.add_whitelist("a:getblock,help");
        auth.add_whitelist("a:help,stop");
        auth.add_whitelist("b");
        assert!(auth.allows("a", "help") && !auth.allows("a", "getblock") && !auth.allows("a", "stop"));
        assert!(!auth.allows("b", "help") && auth.allows("c", "help"));
        auth.set_deny_others(true);
        assert!(auth.denies_all("c") && !auth.denies_all("a"));
    }
}
