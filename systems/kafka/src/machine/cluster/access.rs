//! Who may do what: rules, and the verdict of all rules together, as Kafka's `StandardAuthorizer` finds it.
//!
//! - a rule matches a resource by its name, by a prefix of it, or by the literal name `*`;
//! - a rule matches who asks by principal or `User:*`, and by address or `*`;
//! - if a rule denies, the answer is no, whatever allows;
//! - if none denies and one allows, the answer is yes. Allowing `READ`, `WRITE`, `DELETE` or `ALTER` allows `DESCRIBE`,
//!   and `ALTER_CONFIGS` allows `DESCRIBE_CONFIGS`. Denying implies nothing;
//! - otherwise the answer is no; only if no rule is about the resource at all does the node's own setting decide.
//!
//! Numbers are Kafka's, since clients send them as they are.
//!
//! Deliberately absent: who a client is, and who may do everything: the caller says so.

use std::collections::BTreeSet;

use super::change::Delta;
use super::command::{Outcome, Refusal};
use super::image::ClusterImage;
use super::plan::{Plan, Planned};
use crate::machine::codec::record;
use crate::wire::ErrorCode;

/// There are never more rules.
pub const ACL_COUNT_MAX: usize = 100_000;
/// The only resource of its kind.
pub const CLUSTER_NAME: &str = "kafka-cluster";
/// Every principal.
const ANYBODY: &str = "User:*";
/// Every host, and every literal name.
const WILDCARD: &str = "*";

/// Kinds of resources.
pub mod resource {
    /// Any, in filters.
    pub const ANY: i8 = 1;
    /// A topic.
    pub const TOPIC: i8 = 2;
    /// A consumer group.
    pub const GROUP: i8 = 3;
    /// The cluster.
    pub const CLUSTER: i8 = 4;
    /// A transactional id.
    pub const TRANSACTIONAL_ID: i8 = 5;
    /// A delegation token.
    pub const DELEGATION_TOKEN: i8 = 6;
    /// A user.
    pub const USER: i8 = 7;
}

/// How a rule's name matches.
pub mod pattern {
    /// Any, in filters.
    pub const ANY: i8 = 1;
    /// Whatever matches the name, in filters.
    pub const MATCH: i8 = 2;
    /// As it stands.
    pub const LITERAL: i8 = 3;
    /// As the beginning of a name.
    pub const PREFIXED: i8 = 4;
}

/// What is done.
pub mod operation {
    /// Any, in filters.
    pub const ANY: i8 = 1;
    /// Everything.
    pub const ALL: i8 = 2;
    /// Read.
    pub const READ: i8 = 3;
    /// Write.
    pub const WRITE: i8 = 4;
    /// Create.
    pub const CREATE: i8 = 5;
    /// Delete.
    pub const DELETE: i8 = 6;
    /// Alter.
    pub const ALTER: i8 = 7;
    /// Describe.
    pub const DESCRIBE: i8 = 8;
    /// What only nodes do.
    pub const CLUSTER_ACTION: i8 = 9;
    /// Describe configurations.
    pub const DESCRIBE_CONFIGS: i8 = 10;
    /// Alter configurations.
    pub const ALTER_CONFIGS: i8 = 11;
    /// Produce with an id.
    pub const IDEMPOTENT_WRITE: i8 = 12;
    /// Create tokens.
    pub const CREATE_TOKENS: i8 = 13;
    /// Describe tokens.
    pub const DESCRIBE_TOKENS: i8 = 14;
    /// Take part in transactions as their coordinator's client (KIP-939).
    pub const TWO_PHASE_COMMIT: i8 = 15;
}

/// What a rule says.
pub mod permission {
    /// Any, in filters.
    pub const ANY: i8 = 1;
    /// No.
    pub const DENY: i8 = 2;
    /// Yes.
    pub const ALLOW: i8 = 3;
}

record! {
    /// A rule.
    #[derive(PartialOrd, Ord)]
    pub struct Acl {
        /// The kind of resource.
        pub resource_type: i8,
        /// Its name, or the beginning of it.
        pub name: String,
        /// Which of the two.
        pub pattern: i8,
        /// Who, as `User:name`.
        pub principal: String,
        /// From where.
        pub host: String,
        /// Does what.
        pub operation: i8,
        /// May they?
        pub permission: i8,
    }
}

record! {
    /// Which rules are meant: an absent text and the number of `ANY` mean all.
    pub struct AclFilter {
        /// The kind of resource.
        pub resource_type: i8,
        /// Its name.
        pub name: Option<String>,
        /// How the name matches.
        pub pattern: i8,
        /// Who.
        pub principal: Option<String>,
        /// From where.
        pub host: Option<String>,
        /// Does what.
        pub operation: i8,
        /// May they?
        pub permission: i8,
    }
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AclPattern {
    pub(super) resource_type: i8,
    pub(super) pattern: i8,
    pub(super) name: String,
}

/// What it says about that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AclGrant {
    pub(super) principal: String,
    pub(super) host: String,
    pub(super) operation: i8,
    pub(super) permission: i8,
}

/// Who wants to do what.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// As `User:name`.
    pub principal: &'a str,
    /// The client's address.
    pub host: &'a str,
    /// What, of [`operation`].
    pub operation: i8,
    /// With what kind, of [`resource`].
    pub resource_type: i8,
    /// And with which of that kind.
    pub name: &'a str,
}

impl Acl {
    pub(super) fn split(self) -> (AclPattern, AclGrant) {
        let Self { resource_type, name, pattern, principal, host, operation, permission } = self;
        (AclPattern { resource_type, pattern, name }, AclGrant { principal, host, operation, permission })
    }

    fn join(pattern: &AclPattern, grant: &AclGrant) -> Self {
        Self {
            resource_type: pattern.resource_type,
            name: pattern.name.clone(),
            pattern: pattern.pattern,
            principal: grant.principal.clone(),
            host: grant.host.clone(),
            operation: grant.operation,
            permission: grant.permission,
        }
    }
}

impl AclFilter {
    /// Every rule.
    #[must_use]
    pub fn any() -> Self {
        Self {
            resource_type: resource::ANY,
            name: None,
            pattern: pattern::ANY,
            principal: None,
            host: None,
            operation: operation::ANY,
            permission: permission::ANY,
        }
    }

    /// # Errors
    /// `INVALID_REQUEST` for numbers that mean nothing.
    fn validate(&self) -> Result<(), Refusal> {
        let wrong = |message| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        let known = |number: i8, last: i8| (1..=last).contains(&number);
        if !known(self.resource_type, resource::USER) || !known(self.pattern, pattern::PREFIXED) {
            return wrong("Unknown patternFilter.");
        }
        if !known(self.operation, operation::TWO_PHASE_COMMIT) || !known(self.permission, permission::ALLOW) {
            return wrong("Unknown entryFilter.");
        }
        Ok(())
    }

    fn matches_pattern(&self, about: &AclPattern) -> bool {
        if self.resource_type != resource::ANY && self.resource_type != about.resource_type {
            return false;
        }
        if !matches!(self.pattern, pattern::ANY | pattern::MATCH) && self.pattern != about.pattern {
            return false;
        }
        let Some(name) = &self.name else { return true };
        if self.pattern == pattern::ANY || self.pattern == about.pattern {
            return *name == about.name;
        }
        match about.pattern {
            pattern::LITERAL => *name == about.name || about.name == WILDCARD,
            _ => name.starts_with(&about.name),
        }
    }

    fn matches_grant(&self, grant: &AclGrant) -> bool {
        self.principal.as_ref().is_none_or(|principal| *principal == grant.principal)
            && self.host.as_ref().is_none_or(|host| *host == grant.host)
            && (self.operation == operation::ANY || self.operation == grant.operation)
            && (self.permission == permission::ANY || self.permission == grant.permission)
    }
}

impl AclGrant {
    fn is_for(&self, access: &Access<'_>) -> bool {
        (self.principal == access.principal || self.principal == ANYBODY)
            && (self.host == WILDCARD || self.host == access.host)
    }

    /// What it says about this: yes, no, or nothing.
    fn verdict(&self, access: &Access<'_>) -> Option<bool> {
        use operation::{ALL, ALTER, ALTER_CONFIGS, DELETE, DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE};
        if !self.is_for(access) {
            return None;
        }
        let allows = self.permission == permission::ALLOW;
        let implied = match access.operation {
            DESCRIBE => matches!(self.operation, READ | WRITE | DELETE | ALTER),
            DESCRIBE_CONFIGS => self.operation == ALTER_CONFIGS,
            _ => false,
        };
        let about = self.operation == ALL || self.operation == access.operation || allows && implied;
        about.then_some(allows)
    }
}

/// May there be such a rule?
fn validate(acl: &Acl) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    if !(resource::TOPIC..=resource::USER).contains(&acl.resource_type) {
        return wrong(format!("Invalid resourceType {}", if acl.resource_type == 1 { "ANY" } else { "UNKNOWN" }));
    }
    if !matches!(acl.pattern, pattern::LITERAL | pattern::PREFIXED) {
        let name = ["UNKNOWN", "ANY", "MATCH"].get(usize::try_from(acl.pattern).unwrap_or(0)).unwrap_or(&"UNKNOWN");
        return wrong(format!("Invalid patternType {name}"));
    }
    if !(operation::ALL..=operation::TWO_PHASE_COMMIT).contains(&acl.operation) {
        return wrong(format!("Invalid operation {}", if acl.operation == 1 { "ANY" } else { "UNKNOWN" }));
    }
    if !matches!(acl.permission, permission::DENY | permission::ALLOW) {
        return wrong(format!("Invalid permissionType {}", if acl.permission == 1 { "ANY" } else { "UNKNOWN" }));
    }
    if acl.name.is_empty() {
        return wrong("Resource name should not be empty".to_owned());
    }
    if acl.resource_type == resource::CLUSTER && acl.name != CLUSTER_NAME {
        return wrong(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}"));
    }
    if !acl.principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
        return wrong(format!("expected a string in format principalType:principalName but got {}", acl.principal));
    }
    if acl.host.is_empty() {
        return wrong("Host should not be empty".to_owned());
    }
    Ok(())
}

pub(super) fn create(image: &ClusterImage, acl: Acl) -> Planned {
    validate(&acl)?;
    let (about, grant) = acl.clone().split();
    if image.acls().get(&about).is_some_and(|grants| grants.contains(&grant)) {
        return Ok(Plan::default());
    }
    if image.acl_count() >= ACL_COUNT_MAX {
        let message = format!("There are {ACL_COUNT_MAX} rules already.");
        return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
    }
    Ok(Plan::of([Delta::Acl { acl }]))
}

pub(super) fn delete(image: &ClusterImage, filter: &AclFilter) -> Planned {
    filter.validate()?;
    let acls: Vec<Acl> = image.acls_matching(filter).collect();
    let mut plan = Plan::of(acls.iter().cloned().map(|acl| Delta::AclGone { acl }));
    plan.outcome = Outcome::Acls { acls };
    Ok(plan)
}

/// How far two names are the same, in whole characters of the first.
fn shared<'a>(name: &'a str, other: &str) -> &'a str {
    let bytes = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let end = (0..=bytes).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    &name[..end]
}

impl ClusterImage {
    pub(super) fn each_acl(&self) -> impl Iterator<Item = Acl> {
        self.acls().iter().flat_map(|(about, grants)| grants.iter().map(move |grant| Acl::join(about, grant)))
    }

    fn acls_matching<'a>(&'a self, filter: &'a AclFilter) -> impl Iterator<Item = Acl> + 'a {
        let patterns = self.acls().iter().filter(|(about, _)| filter.matches_pattern(about));
        patterns.flat_map(move |(about, grants)| {
            grants.iter().filter(|grant| filter.matches_grant(grant)).map(move |grant| Acl::join(about, grant))
        })
    }

    /// The rules that match a filter, those about one resource side by side.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a filter of numbers that mean nothing.
    pub fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Refusal> {
        filter.validate()?;
        Ok(self.acls_matching(filter).collect())
    }

    /// The rules about one resource: by its name, by `*`, and by each prefix that rules have of its name. Looks up as
    /// many times as there are such rules, and once for each place where a rule's name parts from this one.
    fn grants_about(&self, resource_type: i8, name: &str) -> Vec<&BTreeSet<AclGrant>> {
        let key = |pattern: i8, name: &str| AclPattern { resource_type, pattern, name: name.to_owned() };
        let mut found: Vec<&BTreeSet<AclGrant>> = Vec::new();
        found.extend(self.acls().get(&key(pattern::LITERAL, name)));
        if name != WILDCARD {
            found.extend(self.acls().get(&key(pattern::LITERAL, WILDCARD)));
        }
        let lowest = key(pattern::PREFIXED, "");
        let mut below = key(pattern::PREFIXED, name);
        // Each round goes on with a shorter prefix of the name, or with a rule further down that may still be one.
        while let Some((about, grants)) = self.acls().range(&lowest..=&below).next_back() {
            let same = shared(name, &about.name);
            if same.len() < about.name.len() {
                below.name.clear();
                below.name.push_str(same);
                continue;
            }
            found.push(grants);
            let Some((last, _)) = same.char_indices().next_back() else { break };
            below.name.clear();
            below.name.push_str(&same[..last]);
        }
        found
    }

    /// May they? `super_users` may everything; `if_no_rule` decides where no rule is about the resource
    /// (`allow.everyone.if.no.acl.found`).
    #[must_use]
    pub fn authorize(&self, access: &Access<'_>, super_users: &BTreeSet<String>, if_no_rule: bool) -> bool {
        if super_users.contains(access.principal) {
            return true;
        }
        if self.acl_count() == 0 {
            return if_no_rule;
        }
        let about = self.grants_about(access.resource_type, access.name);
        if about.is_empty() {
            return if_no_rule;
        }
        let verdicts = about.into_iter().flatten().filter_map(|grant| grant.verdict(access));
        let mut allowed = false;
        for verdict in verdicts {
            if !verdict {
                return false;
            }
            allowed = true;
        }
        allowed
    }

    /// May they do this with at least one resource of the kind? Asked for what names none, such as an idempotent
    /// producer. `access.name` is not looked at.
    #[must_use]
    pub fn authorize_any(&self, access: &Access<'_>, super_users: &BTreeSet<String>, if_no_rule: bool) -> bool {
        if super_users.contains(access.principal) {
            return true;
        }
        let of_kind = self.acls().iter().filter(|(about, _)| about.resource_type == access.resource_type);
        let says = |grants: &BTreeSet<AclGrant>, permission: i8| {
            grants.iter().any(|grant| {
                grant.permission == permission
                    && grant.is_for(access)
                    && (grant.operation == operation::ALL || grant.operation == access.operation)
            })
        };
        let denied: Vec<&AclPattern> =
            of_kind.clone().filter(|(_, grants)| says(grants, permission::DENY)).map(|(about, _)| about).collect();
        if denied.iter().any(|about| about.pattern == pattern::LITERAL && about.name == WILDCARD) {
            return false;
        }
        let hidden = |about: &AclPattern| {
            denied.iter().any(|deny| match deny.pattern {
                pattern::LITERAL => about.pattern == pattern::LITERAL && about.name == deny.name,
                _ => about.name.starts_with(&deny.name),
            })
        };
        let mut allowed = of_kind.clone().filter(|(_, grants)| says(grants, permission::ALLOW)).map(|(about, _)| about);
        let wildcard = |about: &AclPattern| about.pattern == pattern::LITERAL && about.name == WILDCARD;
        // If no rule is about all resources, there is one that no rule is about.
        let free = if_no_rule && !of_kind.clone().any(|(about, _)| wildcard(about));
        free || allowed.any(|about| wildcard(about) || !hidden(about))
    }
}
