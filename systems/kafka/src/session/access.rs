//! Who may do what, who is known by which password, and how much clients may do: as administrators ask for it.
//!
//! - upon a question: this node's image answers;
//! - upon a change: each rule, user or entity is one command, decided for itself;
//! - upon a SCRAM credential: the client sends a salted password, and only the keys that follow from it are kept.
//!
//! Deliberately absent: what the rules mean (`machine::cluster`), and how quotas are enforced (`quotas`).

use std::collections::BTreeMap;

use super::call::Call;
use super::commands::{self, Verdict};
use super::node::Node;
use super::scram::Hash;
use crate::machine::cluster::{
    Acl, AclFilter, Command, Limit, Outcome, QuotaFilter, QuotaOp, ScramUpsertion, Secret, operation,
};
use crate::wire::ErrorCode;
use crate::wire::message::{
    AclCreationResult, AclDescription, AlterClientQuotasRequest, AlterClientQuotasResponse,
    AlterClientQuotasResponseEntityData, AlterClientQuotasResponseEntryData, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult, CreateAclsRequest, CreateAclsResponse,
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResource, DescribeAclsResponse, DescribeClientQuotasEntityData, DescribeClientQuotasEntryData,
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, DescribeClientQuotasValueData,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
    ScramCredentialInfo, ScramCredentialUpsertion,
};

fn denied() -> Verdict {
    Verdict::of(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
}

/// Has all of these decided if whoever asks may do this with the cluster, and none otherwise.
async fn decide_if(node: &Node, call: &Call, wanted: i8, commands: Vec<Command>) -> Vec<Verdict> {
    let may = call.may_cluster(&node.state(), wanted);
    if !may {
        return vec![denied(); commands.len()];
    }
    commands::decide(node, commands, commands::TIMEOUT_MS).await
}

// ---- rules

pub(super) fn describe_acls(node: &Node, call: &Call, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let filter = AclFilter {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter,
        pattern: request.pattern_type_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    };
    let state = node.state();
    let found = match call.may_cluster(&state, operation::DESCRIBE) {
        true => state.image.describe_acls(&filter).map_err(Verdict::from),
        false => Err(denied()),
    };
    let acls = match found {
        Ok(acls) => acls,
        Err(Verdict { error, message, .. }) => {
            return DescribeAclsResponse { error_code: error.0, error_message: message, ..Default::default() };
        }
    };
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for acl in acls {
        let about = |last: &DescribeAclsResource| {
            (last.resource_type, last.pattern_type) == (acl.resource_type, acl.pattern)
                && last.resource_name == acl.name
        };
        if !resources.last().is_some_and(about) {
            resources.push(DescribeAclsResource {
                resource_type: acl.resource_type,
                resource_name: acl.name,
                pattern_type: acl.pattern,
                acls: Vec::new(),
            });
        }
        resources.last_mut().expect("it was just put there").acls.push(AclDescription {
            principal: acl.principal,
            host: acl.host,
            operation: acl.operation,
            permission_type: acl.permission,
        });
    }
    DescribeAclsResponse { resources, ..Default::default() }
}

pub(super) async fn create_acls(node: &Node, call: &Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let commands = request.creations.into_iter().map(|creation| Command::CreateAcl {
        acl: Acl {
            resource_type: creation.resource_type,
            name: creation.resource_name,
            pattern: creation.resource_pattern_type,
            principal: creation.principal,
            host: creation.host,
            operation: creation.operation,
            permission: creation.permission_type,
        },
    });
    let verdicts = decide_if(node, call, operation::ALTER, commands.collect()).await.into_iter();
    let results =
        verdicts.map(|verdict| AclCreationResult { error_code: verdict.error.0, error_message: verdict.message });
    CreateAclsResponse { throttle_time_ms: 0, results: results.collect() }
}

pub(super) async fn delete_acls(node: &Node, call: &Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let commands = request.filters.into_iter().map(|filter| Command::DeleteAcls {
        filter: AclFilter {
            resource_type: filter.resource_type_filter,
            name: filter.resource_name_filter,
            pattern: filter.pattern_type_filter,
            principal: filter.principal_filter,
            host: filter.host_filter,
            operation: filter.operation,
            permission: filter.permission_type,
        },
    });
    let verdicts = decide_if(node, call, operation::ALTER, commands.collect()).await;
    let gone = |acl: Acl| DeleteAclsMatchingAcl {
        error_code: super::NO_ERROR,
        error_message: None,
        resource_type: acl.resource_type,
        resource_name: acl.name,
        pattern_type: acl.pattern,
        principal: acl.principal,
        host: acl.host,
        operation: acl.operation,
        permission_type: acl.permission,
    };
    let results = verdicts.into_iter().map(|verdict| DeleteAclsFilterResult {
        error_code: verdict.error.0,
        error_message: verdict.message,
        matching_acls: match verdict.outcome {
            Outcome::Acls { acls } => acls.into_iter().map(gone).collect(),
            _ => Vec::new(),
        },
    });
    DeleteAclsResponse { throttle_time_ms: 0, filter_results: results.collect() }
}

// ---- SCRAM

pub(super) fn describe_scram(
    node: &Node,
    call: &Call,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let state = node.state();
    if !call.may_cluster(&state, operation::DESCRIBE) {
        let Verdict { error, message, .. } = denied();
        let (error_code, error_message) = (error.0, message);
        return DescribeUserScramCredentialsResponse { error_code, error_message, ..Default::default() };
    }
    let users: Option<Vec<String>> = request.users.map(|users| users.into_iter().map(|user| user.name).collect());
    let described = state.image.describe_scram(users.as_deref());
    let results = described.into_iter().map(|(user, facts)| match facts {
        Ok(facts) => {
            let info = |(mechanism, iterations)| ScramCredentialInfo { mechanism, iterations };
            let credential_infos = facts.into_iter().map(info).collect();
            DescribeUserScramCredentialsResult { user, credential_infos, ..Default::default() }
        }
        Err(refusal) => DescribeUserScramCredentialsResult {
            user,
            error_code: refusal.error.0,
            error_message: Some(refusal.message),
            credential_infos: Vec::new(),
        },
    });
    DescribeUserScramCredentialsResponse { results: results.collect(), ..Default::default() }
}

/// What is kept of a salted password. Of a mechanism that nobody knows nothing is; the machine refuses it.
fn keep(upsertion: ScramCredentialUpsertion) -> ScramUpsertion {
    let ScramCredentialUpsertion { mechanism, iterations, salt, salted_password, .. } = upsertion;
    let hash = Hash::from_number(mechanism);
    let keys = hash.filter(|_| !salted_password.is_empty()).map(|hash| hash.keys(&salted_password));
    let (stored_key, server_key) = keys.unwrap_or_default();
    ScramUpsertion {
        mechanism,
        iterations,
        salt: Secret(salt),
        stored_key: Secret(stored_key.into()),
        server_key: Secret(server_key.into()),
    }
}

pub(super) async fn alter_scram(
    node: &Node,
    call: &Call,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut changes: BTreeMap<String, (Vec<i8>, Vec<ScramUpsertion>)> = BTreeMap::new();
    for deletion in request.deletions {
        changes.entry(deletion.name).or_default().0.push(deletion.mechanism);
    }
    for upsertion in request.upsertions {
        changes.entry(upsertion.name.clone()).or_default().1.push(keep(upsertion));
    }
    let users: Vec<String> = changes.keys().cloned().collect();
    let commands = changes
        .into_iter()
        .map(|(user, (deletions, upsertions))| Command::AlterScram { user, deletions, upsertions })
        .collect();
    let verdicts = decide_if(node, call, operation::ALTER, commands).await;
    let results = users.into_iter().zip(verdicts).map(|(user, verdict)| AlterUserScramCredentialsResult {
        user,
        error_code: verdict.error.0,
        error_message: verdict.message,
    });
    AlterUserScramCredentialsResponse { throttle_time_ms: 0, results: results.collect() }
}

// ---- quotas

pub(super) fn describe_quotas(
    node: &Node,
    call: &Call,
    request: &DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filters = request.components.iter().map(|component| QuotaFilter {
        kind: &component.entity_type,
        matching: component.match_type,
        name: component.r#match.as_deref(),
    });
    let filters: Vec<_> = filters.collect();
    let state = node.state();
    let found = match call.may_cluster(&state, operation::DESCRIBE_CONFIGS) {
        true => state.image.describe_quotas(&filters, request.strict).map_err(Verdict::from),
        false => Err(denied()),
    };
    let found = match found {
        Ok(found) => found,
        Err(Verdict { error, message, .. }) => {
            let (error_code, error_message) = (error.0, message);
            return DescribeClientQuotasResponse { throttle_time_ms: 0, error_code, error_message, entries: None };
        }
    };
    let entries = found.into_iter().map(|(entity, limits)| {
        let part = |(kind, name): (&String, &Option<String>)| DescribeClientQuotasEntityData {
            entity_type: kind.clone(),
            entity_name: name.clone(),
        };
        let value =
            |(key, limit): (&String, &Limit)| DescribeClientQuotasValueData { key: key.clone(), value: limit.0 };
        DescribeClientQuotasEntryData {
            entity: entity.iter().map(part).collect(),
            values: limits.iter().map(value).collect(),
        }
    });
    DescribeClientQuotasResponse { entries: Some(entries.collect()), ..Default::default() }
}

pub(super) async fn alter_quotas(
    node: &Node,
    call: &Call,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let commands = request.entries.iter().map(|entry| {
        let entity = entry.entity.iter().map(|part| (part.entity_type.clone(), part.entity_name.clone()));
        let ops =
            entry.ops.iter().map(|op| QuotaOp { key: op.key.clone(), value: (!op.remove).then_some(Limit(op.value)) });
        Command::AlterQuota { entity: entity.collect(), ops: ops.collect(), validate_only: request.validate_only }
    });
    let commands = commands.collect();
    let verdicts = decide_if(node, call, operation::ALTER_CONFIGS, commands).await;
    let entries = request.entries.into_iter().zip(verdicts).map(|(entry, verdict)| {
        let entity = entry.entity.into_iter().map(|part| AlterClientQuotasResponseEntityData {
            entity_type: part.entity_type,
            entity_name: part.entity_name,
        });
        AlterClientQuotasResponseEntryData {
            error_code: verdict.error.0,
            error_message: verdict.message,
            entity: entity.collect(),
        }
    });
    AlterClientQuotasResponse { throttle_time_ms: 0, entries: entries.collect() }
}
