//! How much clients may do: quotas of users, of client ids, of both together, and of addresses (KIP-546).
//!
//! An entity is a user, a client id, a user with a client id, or an address; without a name it stands for all that have
//! none of their own. For a client, each quota is taken from the first of these that has it: user and client id, user
//! and any client id, user, any user and client id, any user and any client id, any user, client id, any client id.
//!
//! Deliberately absent: counting what clients do, and making them wait.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::change::Delta;
use super::command::{QuotaOp, Refusal};
use super::image::ClusterImage;
use super::plan::{Plan, Planned};
use crate::machine::codec::{Code, CodeError};
use crate::wire::ErrorCode;

/// A principal's name.
pub const USER: &str = "user";
/// A client's id.
pub const CLIENT_ID: &str = "client-id";
/// An address.
pub const IP: &str = "ip";
/// Bytes a second that are produced.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
/// Bytes a second that are fetched.
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
/// Share of a thread's time that requests take, in percent.
pub const REQUEST_PERCENTAGE: &str = "request_percentage";
/// Partitions a second that are created or deleted.
pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
/// Connections a second.
pub const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";
/// There are never more entities with quotas.
pub const QUOTA_COUNT_MAX: usize = 100_000;

/// Kafka's numbers of how a component of a filter matches.
pub mod matching {
    /// This name.
    pub const EXACT: i8 = 0;
    /// The default.
    pub const DEFAULT: i8 = 1;
    /// Any name, and the default.
    pub const SPECIFIED: i8 = 2;
}

/// Whose quotas: names by their types; no name is the default.
pub type Entity = BTreeMap<String, Option<String>>;

/// A quota's value. Two are equal if their bits are, so that there is an order of bytes to agree on.
#[derive(Clone, Copy, Debug)]
pub struct Limit(pub f64);

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Limit {}

impl Code for Limit {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.to_bits().put(out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        u64::take(input).map(|bits| Self(f64::from_bits(bits)))
    }
}

/// An entity and its quotas.
pub type EntityLimits<'a> = (&'a Entity, &'a BTreeMap<String, Limit>);

/// A quota, and who shares it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuotaMatch {
    /// How much.
    pub limit: f64,
    /// Each user has it for themselves.
    pub by_user: bool,
    /// Each client id has it for itself.
    pub by_client_id: bool,
}

/// One component of a filter.
#[derive(Clone, Copy, Debug)]
pub struct QuotaFilter<'a> {
    /// The type of entity.
    pub kind: &'a str,
    /// Of [`matching`].
    pub matching: i8,
    /// The name, for an exact match.
    pub name: Option<&'a str>,
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
}

fn validate_entity(pairs: Vec<(String, Option<String>)>) -> Result<Entity, Refusal> {
    let mut entity = Entity::new();
    for (kind, name) in pairs {
        if entity.contains_key(&kind) {
            return refuse(format!("Invalid client quota entity, duplicate entity entry {kind}"));
        }
        if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
            return refuse(format!("Unhandled client quota entity type: {kind}"));
        }
        if name.as_ref().is_some_and(String::is_empty) {
            return refuse(format!("Empty {kind} not supported"));
        }
        entity.insert(kind, name);
    }
    if entity.is_empty() {
        return refuse("Invalid empty client quota entity");
    }
    if let Some(address) = entity.get(IP) {
        if entity.len() > 1 {
            return refuse("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId");
        }
        // A name would have to be looked up, and the replicas would not find the same.
        if let Some(address) = address
            && address.parse::<IpAddr>().is_err()
        {
            return refuse(format!("{address} is not a valid IP or resolvable host."));
        }
    }
    Ok(entity)
}

fn validate_limit(entity: &Entity, key: &str, value: f64) -> Result<(), Refusal> {
    let (largest, kind) = match (entity.contains_key(IP), key) {
        (false, PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE) => (9_223_372_036_854_775_807.0, Some("LONG")),
        (false, REQUEST_PERCENTAGE | CONTROLLER_MUTATION_RATE) => (f64::MAX, None),
        (true, CONNECTION_CREATION_RATE) => (2_147_483_647.0, Some("INT")),
        _ => return refuse(format!("Invalid configuration key {key}")),
    };
    if value.is_nan() || value <= 0.0 {
        return refuse(format!("Quota {key} must be greater than 0"));
    }
    if value > largest {
        return match kind {
            Some("INT") => refuse(format!("Proposed value for {key} is too large for an INT.")),
            Some(kind) => refuse(format!("Proposed value for {key} is too large for a {kind}.")),
            None => refuse(format!("Proposed value for {key} is too large for a DOUBLE.")),
        };
    }
    if kind.is_some() && value % 1.0 > 1e-6 {
        return refuse(format!("{key} cannot be a fractional value."));
    }
    Ok(())
}

pub(super) fn alter(image: &ClusterImage, entity: Vec<(String, Option<String>)>, ops: Vec<QuotaOp>) -> Planned {
    let entity = validate_entity(entity)?;
    let before = image.quotas().get(&entity);
    let mut limits = before.cloned().unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    for QuotaOp { key, value } in ops {
        if !seen.insert(key.clone()) {
            return refuse(format!("Duplicate quota key {key} not updating quota for this entity"));
        }
        match value {
            None => {
                limits.remove(&key);
            }
            Some(limit) => {
                validate_limit(&entity, &key, limit.0)?;
                limits.insert(key, limit);
            }
        }
    }
    if before.map_or(limits.is_empty(), |before| *before == limits) {
        return Ok(Plan::default());
    }
    if before.is_none() && image.quotas().len() >= QUOTA_COUNT_MAX {
        let message = format!("There are {QUOTA_COUNT_MAX} entities with quotas already.");
        return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
    }
    Ok(Plan::of([Delta::Quota { entity, limits }]))
}

fn validate_filter(filters: &[QuotaFilter<'_>]) -> Result<(), Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    for filter in filters {
        let kind = filter.kind;
        if kind.is_empty() {
            return refuse("Invalid empty entity type.");
        }
        if !seen.insert(kind) {
            return refuse(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            let message = format!("Unsupported entity type {kind}");
            return Err(Refusal::new(ErrorCode::UNSUPPORTED_VERSION, message));
        }
        match (filter.matching, filter.name) {
            (matching::EXACT, Some(_)) | (matching::DEFAULT | matching::SPECIFIED, None) => {}
            (matching::EXACT, None) => {
                return refuse("Request specified MATCH_TYPE_EXACT, but set match string to null.");
            }
            (matching::DEFAULT, Some(_)) => {
                return refuse("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.");
            }
            (matching::SPECIFIED, Some(_)) => {
                return refuse("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.");
            }
            (other, _) => return refuse(format!("Unknown match type {other}")),
        }
    }
    if seen.contains(IP) && seen.len() > 1 {
        return refuse(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId \
             filter component.",
        );
    }
    Ok(())
}

impl ClusterImage {
    /// The entities that match every component and their quotas; with `strict`, only those that have no other types.
    ///
    /// # Errors
    /// What Kafka answers to a filter that makes no sense.
    pub fn describe_quotas(&self, filters: &[QuotaFilter<'_>], strict: bool) -> Result<Vec<EntityLimits<'_>>, Refusal> {
        validate_filter(filters)?;
        let fits = |entity: &Entity, filter: &QuotaFilter<'_>| match (entity.get(filter.kind), filter.matching) {
            (None, _) => false,
            (Some(name), matching::EXACT | matching::DEFAULT) => name.as_deref() == filter.name,
            (Some(_), _) => true,
        };
        let matching = self.quotas().iter().filter(|(entity, _)| {
            (!strict || entity.len() == filters.len()) && filters.iter().all(|filter| fits(entity, filter))
        });
        Ok(matching.collect())
    }

    /// A client's quota, if it has one: the most specific that there is.
    #[must_use]
    pub fn quota_of(&self, user: &str, client_id: &str, key: &str) -> Option<QuotaMatch> {
        if self.quotas().is_empty() {
            return None;
        }
        // A type that is left out, the default, or the name.
        let (user, client) = (Some(Some(user)), Some(Some(client_id)));
        let any = Some(None);
        let order = [
            (user, client),
            (user, any),
            (user, None),
            (any, client),
            (any, any),
            (any, None),
            (None, client),
            (None, any),
        ];
        order.into_iter().find_map(|(user, client)| {
            let part =
                |kind: &str, name: Option<Option<&str>>| name.map(|name| (kind.to_owned(), name.map(str::to_owned)));
            let entity: Entity = part(USER, user).into_iter().chain(part(CLIENT_ID, client)).collect();
            let limit = self.quotas().get(&entity)?.get(key)?;
            Some(QuotaMatch { limit: limit.0, by_user: user.is_some(), by_client_id: client.is_some() })
        })
    }

    /// How many connections a second an address may open, if that is limited.
    #[must_use]
    pub fn connection_quota_of(&self, address: IpAddr) -> Option<f64> {
        if self.quotas().is_empty() {
            return None;
        }
        [Some(address.to_string()), None].into_iter().find_map(|name| {
            let entity = Entity::from([(IP.to_owned(), name)]);
            Some(self.quotas().get(&entity)?.get(CONNECTION_CREATION_RATE)?.0)
        })
    }
}
