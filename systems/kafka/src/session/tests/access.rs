//! Rules, quotas, and who sets them.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_types::ConnId;

use super::admin::{create, topic};
use super::rig::{PLAIN, Rig, SASL, config};
use super::sasl::log_in_plain;
use crate::machine::cluster::{operation, pattern, permission, resource};
use crate::wire::ErrorCode;
use crate::wire::message::{
    AclCreation, AlterClientQuotasOpData, AlterClientQuotasRequest, AlterClientQuotasRequestEntityData,
    AlterClientQuotasRequestEntryData, AlterUserScramCredentialsRequest, CreateAclsRequest, DeleteAclsFilter,
    DeleteAclsRequest, DescribeAclsRequest, DescribeClientQuotasComponentData, DescribeClientQuotasRequest,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsUserName, ScramCredentialDeletion,
    ScramCredentialUpsertion,
};

fn rule(name: &str, operation: i8, permission_type: i8) -> AclCreation {
    AclCreation {
        resource_type: resource::TOPIC,
        resource_name: name.into(),
        resource_pattern_type: pattern::LITERAL,
        principal: "User:alice".into(),
        host: "*".into(),
        operation,
        permission_type,
    }
}

fn add(rig: &mut Rig, conn: ConnId, creations: Vec<AclCreation>) -> Vec<ErrorCode> {
    let results = ask!(rig, conn, 3, CreateAcls, CreateAclsRequest { creations }).results;
    results.iter().map(|result| ErrorCode(result.error_code)).collect()
}

#[test]
fn rules_are_made_listed_and_dropped_and_deny_meanwhile() {
    // As soon as one rule is about the cluster, nobody may do anything with it without another.
    let super_users = BTreeSet::from(["User:ANONYMOUS".to_owned()]);
    let mut rig = Rig::with(crate::session::Config { super_users, ..config() });
    let admin = rig.connect(PLAIN);
    let alice = rig.connect(SASL);
    log_in_plain(&mut rig, alice, "alice", "secret");
    let deny = vec![
        rule("a", operation::CREATE, permission::DENY),
        rule("", operation::CREATE, permission::DENY),
        rule("a", operation::ALL, permission::ALLOW),
    ];
    assert_eq!(add(&mut rig, admin, deny), [ErrorCode::NONE, ErrorCode::INVALID_REQUEST, ErrorCode::NONE]);
    // Whoever may create anything in the cluster may create this too; this rule takes it away.
    let cluster = AclCreation {
        resource_type: resource::CLUSTER,
        resource_name: "kafka-cluster".into(),
        ..rule("", operation::CREATE, permission::DENY)
    };
    assert_eq!(add(&mut rig, admin, vec![cluster]), [ErrorCode::NONE]);
    let denied = create(&mut rig, alice, vec![topic("a", 1, 1), topic("b", 1, 1)]);
    let told: Vec<_> = denied.iter().map(|result| ErrorCode(result.error_code)).collect();
    assert_eq!(told, [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::NONE]);
    let any = DescribeAclsRequest {
        resource_type_filter: resource::TOPIC,
        resource_name_filter: Some("a".into()),
        pattern_type_filter: pattern::ANY,
        operation: operation::ANY,
        permission_type: permission::ANY,
        ..Default::default()
    };
    let listed = ask!(rig, admin, 3, DescribeAcls, any.clone());
    assert_eq!((listed.error_code, listed.resources.len(), listed.resources[0].acls.len()), (0, 1, 2));
    let refused = ask!(rig, admin, 3, DescribeAcls, DescribeAclsRequest { operation: 99, ..any });
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST.0);
    let filter = DeleteAclsFilter {
        resource_type_filter: resource::ANY,
        pattern_type_filter: pattern::ANY,
        principal_filter: Some("User:alice".into()),
        operation: operation::CREATE,
        permission_type: permission::ANY,
        ..Default::default()
    };
    let gone = ask!(rig, admin, 3, DeleteAcls, DeleteAclsRequest { filters: vec![filter] });
    assert_eq!(gone.filter_results[0].matching_acls.len(), 2);
    assert_eq!(create(&mut rig, alice, vec![topic("a", 1, 1)])[0].error_code, 0);
}

#[test]
fn who_may_not_is_told_so_everywhere() {
    let mut config = config();
    (config.allow_if_no_rule, config.super_users) = (false, BTreeSet::from(["User:alice".to_owned()]));
    let mut rig = Rig::with(config);
    let nobody = rig.connect(PLAIN);
    const DENIED: ErrorCode = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    assert_eq!(add(&mut rig, nobody, vec![rule("a", operation::READ, permission::ALLOW)]), [DENIED]);
    let listed = ask!(rig, nobody, 3, DescribeAcls, DescribeAclsRequest::default());
    assert_eq!(listed.error_code, DENIED.0);
    let scram = ask!(rig, nobody, 0, DescribeUserScramCredentials, DescribeUserScramCredentialsRequest::default());
    assert_eq!(scram.error_code, DENIED.0);
    let quotas = ask!(rig, nobody, 1, DescribeClientQuotas, DescribeClientQuotasRequest::default());
    assert_eq!((quotas.error_code, quotas.entries), (DENIED.0, None));
    let alice = rig.connect(SASL);
    log_in_plain(&mut rig, alice, "alice", "secret");
    assert_eq!(add(&mut rig, alice, vec![rule("a", operation::READ, permission::ALLOW)]), [ErrorCode::NONE]);
}

#[test]
fn credentials_are_set_told_of_and_dropped() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let upsertion = |name: &str, mechanism: i8, iterations: i32| ScramCredentialUpsertion {
        name: name.into(),
        mechanism,
        iterations,
        salt: Bytes::from_static(b"salt"),
        salted_password: Bytes::from(vec![1; 32]),
    };
    let mut alter = |request: AlterUserScramCredentialsRequest| {
        let results = ask!(rig, conn, 0, AlterUserScramCredentials, request).results;
        results.into_iter().map(|result| (result.user, ErrorCode(result.error_code))).collect::<Vec<_>>()
    };
    let named = |user: &str, error: ErrorCode| (user.to_owned(), error);
    let request = AlterUserScramCredentialsRequest {
        deletions: vec![ScramCredentialDeletion { name: "nobody".into(), mechanism: 1 }],
        upsertions: vec![
            upsertion("bob", 1, 4_096),
            upsertion("bob", 2, 8_192),
            upsertion("few", 1, 10),
            upsertion("odd", 9, 4_096),
            upsertion("twice", 1, 4_096),
            upsertion("twice", 1, 4_096),
        ],
    };
    assert_eq!(
        alter(request),
        [
            named("bob", ErrorCode::NONE),
            named("few", ErrorCode::UNACCEPTABLE_CREDENTIAL),
            named("nobody", ErrorCode::RESOURCE_NOT_FOUND),
            named("odd", ErrorCode::UNSUPPORTED_SASL_MECHANISM),
            named("twice", ErrorCode::DUPLICATE_RESOURCE),
        ]
    );
    let users = ["bob", "eve"].map(|name| DescribeUserScramCredentialsUserName { name: name.into() }).to_vec();
    let request = DescribeUserScramCredentialsRequest { users: Some(users) };
    let results = ask!(rig, conn, 0, DescribeUserScramCredentials, request).results;
    let infos: Vec<_> = results[0].credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect();
    assert_eq!(infos, [(1, 4_096), (2, 8_192)]);
    assert_eq!(results[1].error_code, ErrorCode::RESOURCE_NOT_FOUND.0);
}

fn set_quota(rig: &mut Rig, conn: ConnId, key: &str, value: f64) -> ErrorCode {
    let entity =
        AlterClientQuotasRequestEntityData { entity_type: "user".into(), entity_name: Some("ANONYMOUS".into()) };
    let op = AlterClientQuotasOpData { key: key.into(), value, remove: false };
    let entries = vec![AlterClientQuotasRequestEntryData { entity: vec![entity], ops: vec![op] }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    ErrorCode(ask!(rig, conn, 1, AlterClientQuotas, request).entries[0].error_code)
}

#[test]
fn quotas_are_set_and_told() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    assert_eq!(set_quota(&mut rig, conn, "producer_byte_rate", 1_000.0), ErrorCode::NONE);
    assert_eq!(set_quota(&mut rig, conn, "no_such_rate", 1_000.0), ErrorCode::INVALID_REQUEST);
    let component = DescribeClientQuotasComponentData { entity_type: "user".into(), match_type: 2, r#match: None };
    let request = DescribeClientQuotasRequest { components: vec![component], strict: true };
    let entries = ask!(rig, conn, 1, DescribeClientQuotas, request.clone()).entries.unwrap();
    assert_eq!((entries[0].values[0].key.as_str(), entries[0].values[0].value), ("producer_byte_rate", 1_000.0));
    let twice = [request.components.clone(), request.components].concat();
    let request = DescribeClientQuotasRequest { components: twice, strict: true };
    let refused = ask!(rig, conn, 1, DescribeClientQuotas, request);
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST.0);
}

#[test]
fn who_makes_too_many_partitions_is_refused_for_a_while() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    assert_eq!(set_quota(&mut rig, conn, "controller_mutation_rate", 1.0), ErrorCode::NONE);
    let told = |results: &[crate::wire::message::CreatableTopicResult]| ErrorCode(results[0].error_code);
    assert_eq!(told(&create(&mut rig, conn, vec![topic("a", 13, 1)])), ErrorCode::NONE, "it may owe some");
    let request = crate::wire::message::CreateTopicsRequest { topics: vec![topic("b", 1, 1)], ..Default::default() };
    let refused = ask!(rig, conn, 6, CreateTopics, request);
    assert_eq!(refused.throttle_time_ms, 2_000);
    assert_eq!(told(&refused.topics), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    rig.advance(2_100);
    assert_eq!(told(&create(&mut rig, conn, vec![topic("b", 1, 1)])), ErrorCode::NONE);
}
