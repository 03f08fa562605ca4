//! Which version of a request both sides speak.
//!
//! - upon the answer to ApiVersions: what the broker takes is known;
//! - upon a request: the highest version that both know, and that names topics. Later versions of some requests have ids of
//!   topics instead, which a client learns only from a broker that has them.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::wire::ApiKey;
use crate::wire::message::ApiVersionsResponse;

/// The last versions that are asked: those in which topics have names, and, of Metadata, what every broker answers alike.
const LAST: [(ApiKey, i16); 5] = [
    (ApiKey::Produce, 12),
    (ApiKey::Fetch, 12),
    (ApiKey::Metadata, 12),
    (ApiKey::OffsetCommit, 9),
    (ApiKey::OffsetFetch, 9),
];

/// A request that the broker cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// It does not know it.
    #[error("the broker does not know {0}; it may be too old")]
    Unknown(ApiKey),
    /// No version is common to both.
    #[error("the broker speaks {key} in versions {min} to {max}, and none of these is spoken here")]
    NoneInCommon {
        /// Which.
        key: ApiKey,
        /// The broker's lowest.
        min: i16,
        /// The broker's highest.
        max: i16,
    },
}

/// What a broker takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// As the broker says.
    #[must_use]
    pub fn new(answer: &ApiVersionsResponse) -> Self {
        Self(answer.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version))).collect())
    }

    /// The version to ask in.
    ///
    /// # Errors
    /// [`Unsupported`].
    pub fn pick(&self, key: ApiKey) -> Result<i16, Unsupported> {
        let (min, max) = *self.0.get(&key.number()).ok_or(Unsupported::Unknown(key))?;
        let asked = LAST.iter().find(|(one, _)| *one == key).map_or(i16::MAX, |(_, last)| *last);
        let version = max.min(*key.versions().end()).min(asked);
        let known = version >= min && key.versions().contains(&version);
        known.then_some(version).ok_or(Unsupported::NoneInCommon { key, min, max })
    }
}
