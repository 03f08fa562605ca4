//! What SCRAM needs to know of users: never their passwords (RFC 5802 §3, KIP-554).
//!
//! Whoever proposes works out the keys from a salted password, which goes no further.
//!
//! Deliberately absent: the exchange itself, which is a session's.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Formatter};

use bytes::Bytes;

use super::change::Delta;
use super::command::{Refusal, ScramUpsertion};
use super::image::ClusterImage;
use super::plan::{Plan, Planned};
use crate::machine::codec::{Code, CodeError, record};
use crate::wire::ErrorCode;

/// Kafka's number of SCRAM-SHA-256.
pub const SHA_256: i8 = 1;
/// Kafka's number of SCRAM-SHA-512.
pub const SHA_512: i8 = 2;
/// A password is hashed at least so often.
pub const ITERATIONS_MIN: i32 = 4_096;
/// A password is hashed at most so often.
pub const ITERATIONS_MAX: i32 = 16_384;
/// There are never more credentials.
pub const CREDENTIAL_COUNT_MAX: usize = 100_000;
/// A salt has no more bytes.
pub const SALT_SIZE_MAX: usize = 1_024;

/// Bytes that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Bytes);

impl Debug for Secret {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("[hidden]")
    }
}

impl Code for Secret {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        Bytes::take(input).map(Self)
    }
}

record! {
    /// What a user is known by.
    pub struct ScramCredential {
        /// How often the password was hashed.
        pub iterations: i32,
        /// What it was hashed with.
        pub salt: Secret,
        /// The hash of the client's key.
        pub stored_key: Secret,
        /// The server's key.
        pub server_key: Secret,
    }
}

/// A mechanism and how often it hashes: what may be told about a credential.
pub type ScramFact = (i8, i32);

fn refuse<T>(error: ErrorCode, message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(error, message))
}

/// The size of a mechanism's keys.
fn key_size(mechanism: i8) -> Result<usize, Refusal> {
    match mechanism {
        SHA_256 => Ok(32),
        SHA_512 => Ok(64),
        _ => refuse(ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
    }
}

fn validate(upsertion: &ScramUpsertion) -> Result<(), Refusal> {
    let size = key_size(upsertion.mechanism)?;
    if upsertion.iterations < ITERATIONS_MIN {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Too few iterations");
    }
    if upsertion.iterations > ITERATIONS_MAX {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Too many iterations");
    }
    if upsertion.salt.0.is_empty() || upsertion.salt.0.len() > SALT_SIZE_MAX {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "The salt is empty or too long");
    }
    if upsertion.stored_key.0.len() != size || upsertion.server_key.0.len() != size {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "The keys are not of the mechanism's size");
    }
    Ok(())
}

pub(super) fn alter(image: &ClusterImage, user: &str, deletions: &[i8], upsertions: Vec<ScramUpsertion>) -> Planned {
    if user.is_empty() {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
    }
    let mut seen = BTreeSet::new();
    for mechanism in deletions.iter().copied().chain(upsertions.iter().map(|upsertion| upsertion.mechanism)) {
        key_size(mechanism)?;
        if !seen.insert(mechanism) {
            let message = "A user credential cannot be altered twice in the same request";
            return refuse(ErrorCode::DUPLICATE_RESOURCE, message);
        }
    }
    let mut plan = Plan::default();
    for mechanism in deletions {
        if image.scram(user, *mechanism).is_none() {
            let message = "Attempt to delete a user credential that does not exist";
            return refuse(ErrorCode::RESOURCE_NOT_FOUND, message);
        }
        plan.deltas.push(Delta::Scram { user: user.to_owned(), mechanism: *mechanism, credential: None });
    }
    if image.scram_all().len() + upsertions.len() > CREDENTIAL_COUNT_MAX {
        return refuse(ErrorCode::POLICY_VIOLATION, "There are too many credentials already.");
    }
    for upsertion in upsertions {
        validate(&upsertion)?;
        let ScramUpsertion { mechanism, iterations, salt, stored_key, server_key } = upsertion;
        let credential = Some(ScramCredential { iterations, salt, stored_key, server_key });
        plan.deltas.push(Delta::Scram { user: user.to_owned(), mechanism, credential });
    }
    Ok(plan)
}

impl ClusterImage {
    /// What a user is known by.
    #[must_use]
    pub fn scram(&self, user: &str, mechanism: i8) -> Option<&ScramCredential> {
        self.scram_all().get(&(user.to_owned(), mechanism))
    }

    /// Which mechanisms users have credentials for: these users, or all.
    #[must_use]
    pub fn describe_scram(&self, users: Option<&[String]>) -> Vec<(String, Result<Vec<ScramFact>, Refusal>)> {
        let facts = |user: &String| -> Vec<ScramFact> {
            let own = self.scram_all().range((user.clone(), i8::MIN)..=(user.clone(), i8::MAX));
            own.map(|((_, mechanism), credential)| (*mechanism, credential.iterations)).collect()
        };
        let Some(users) = users.filter(|users| !users.is_empty()) else {
            let all: BTreeSet<&String> = self.scram_all().keys().map(|(user, _)| user).collect();
            return all.into_iter().map(|user| (user.clone(), Ok(facts(user)))).collect();
        };
        let distinct: BTreeSet<&String> = users.iter().collect();
        let mut counts: std::collections::BTreeMap<&String, usize> = std::collections::BTreeMap::new();
        users.iter().for_each(|user| *counts.entry(user).or_default() += 1);
        let describe = |user: &String| {
            if counts[user] > 1 {
                let message =
                    format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
                return Err(Refusal::new(ErrorCode::DUPLICATE_RESOURCE, message));
            }
            let facts = facts(user);
            if facts.is_empty() {
                let message = format!("Attempt to describe a user credential that does not exist: {user}");
                return Err(Refusal::new(ErrorCode::RESOURCE_NOT_FOUND, message));
            }
            Ok(facts)
        };
        distinct.into_iter().map(|user| (user.clone(), describe(user))).collect()
    }
}
