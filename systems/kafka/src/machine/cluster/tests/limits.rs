//! Credentials, quotas and features.

use bytes::Bytes;

use super::super::*;
use super::rig::Rig;
use crate::wire::ErrorCode;

fn upsertion(mechanism: i8, iterations: i32) -> ScramUpsertion {
    let size = if mechanism == SHA_512 { 64 } else { 32 };
    let secret = |byte: u8, size| Secret(Bytes::from(vec![byte; size]));
    let (salt, stored_key, server_key) = (secret(1, 8), secret(2, size), secret(3, size));
    ScramUpsertion { mechanism, iterations, salt, stored_key, server_key }
}

fn scram(user: &str, deletions: &[i8], upsertions: &[ScramUpsertion]) -> Command {
    Command::AlterScram { user: user.into(), deletions: deletions.to_vec(), upsertions: upsertions.to_vec() }
}

#[test]
fn credentials_are_set_described_and_deleted_and_never_shown() {
    let mut rig = Rig::empty();
    rig.ok(scram("u", &[], &[upsertion(SHA_256, 4096), upsertion(SHA_512, 8192)]));
    assert_eq!(rig.heard.scram("u", SHA_256).map(|credential| credential.iterations), Some(4096));
    let shown = format!("{:?}", rig.heard);
    assert!(
        shown.contains("[hidden]") && !shown.contains("\\x02\\x02") && !shown.contains("2, 2, 2"),
        "no key is shown"
    );
    assert_eq!(rig.heard.describe_scram(None), [("u".to_owned(), Ok(vec![(SHA_256, 4096), (SHA_512, 8192)]))]);
    let users = ["u".to_owned(), "x".to_owned(), "y".to_owned(), "y".to_owned()];
    let described = rig.heard.describe_scram(Some(&users));
    let codes: Vec<_> = described.iter().map(|(_, facts)| facts.as_ref().err().map(|refusal| refusal.error)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::RESOURCE_NOT_FOUND), Some(ErrorCode::DUPLICATE_RESOURCE)]);
    let unacceptable = ErrorCode::UNACCEPTABLE_CREDENTIAL;
    for (command, code, message) in [
        (scram("u", &[], &[upsertion(SHA_256, 4095)]), unacceptable, "Too few iterations"),
        (scram("u", &[], &[upsertion(SHA_256, 16_385)]), unacceptable, "Too many iterations"),
        (scram("", &[], &[upsertion(SHA_256, 4096)]), unacceptable, "Username must not be empty"),
        (scram("u", &[3], &[]), ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
        (
            scram("x", &[SHA_256], &[]),
            ErrorCode::RESOURCE_NOT_FOUND,
            "Attempt to delete a user credential that does not exist",
        ),
        (
            scram("u", &[SHA_256], &[upsertion(SHA_256, 4096)]),
            ErrorCode::DUPLICATE_RESOURCE,
            "A user credential cannot be altered twice in the same request",
        ),
    ] {
        assert_eq!(rig.refused(command), (code, message.into()));
    }
    let short = ScramUpsertion { stored_key: Secret(Bytes::from_static(b"x")), ..upsertion(SHA_256, 4096) };
    assert_eq!(rig.refused(scram("u", &[], &[short])).0, unacceptable);
    rig.ok(scram("u", &[SHA_256], &[]));
    assert_eq!(rig.heard.scram("u", SHA_256), None);
}

fn quota(entity: &[(&str, Option<&str>)], key: &str, value: Option<f64>) -> Command {
    Command::AlterQuota {
        entity: entity.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect(),
        ops: vec![QuotaOp { key: key.into(), value: value.map(Limit) }],
        validate_only: false,
    }
}

#[test]
fn the_most_specific_quota_counts() {
    let mut rig = Rig::empty();
    // From the least specific on, each with a value of its own.
    let order: [&[(&str, Option<&str>)]; 8] = [
        &[(CLIENT_ID, None)],
        &[(CLIENT_ID, Some("c"))],
        &[(USER, None)],
        &[(USER, None), (CLIENT_ID, None)],
        &[(USER, None), (CLIENT_ID, Some("c"))],
        &[(USER, Some("u"))],
        &[(USER, Some("u")), (CLIENT_ID, None)],
        &[(USER, Some("u")), (CLIENT_ID, Some("c"))],
    ];
    assert_eq!(rig.heard.quota_of("u", "c", PRODUCER_BYTE_RATE), None);
    for (value, entity) in (1..).zip(order) {
        rig.ok(quota(entity, PRODUCER_BYTE_RATE, Some(f64::from(value))));
        let found = rig.heard.quota_of("u", "c", PRODUCER_BYTE_RATE).expect("there is one");
        let has = |kind| entity.iter().any(|(of, _)| *of == kind);
        let expected = QuotaMatch { limit: f64::from(value), by_user: has(USER), by_client_id: has(CLIENT_ID) };
        assert_eq!(found, expected, "{entity:?}");
    }
    assert_eq!(rig.heard.quota_of("u", "c", CONSUMER_BYTE_RATE), None, "each quota is looked for by itself");
    assert_eq!(rig.heard.quota_of("x", "y", PRODUCER_BYTE_RATE).map(|found| found.limit), Some(4.0));
    rig.ok(quota(&[(CLIENT_ID, Some("c"))], CONSUMER_BYTE_RATE, Some(7.0)));
    assert_eq!(rig.heard.quota_of("u", "c", CONSUMER_BYTE_RATE).map(|found| found.limit), Some(7.0));
    rig.ok(quota(order[7], PRODUCER_BYTE_RATE, None));
    assert_eq!(rig.heard.quota_of("u", "c", PRODUCER_BYTE_RATE).map(|found| found.limit), Some(7.0));
    rig.ok(quota(&[(IP, None)], CONNECTION_CREATION_RATE, Some(5.0)));
    rig.ok(quota(&[(IP, Some("10.0.0.1"))], CONNECTION_CREATION_RATE, Some(6.0)));
    let address = |last| std::net::IpAddr::from([10, 0, 0, last]);
    assert_eq!(rig.heard.connection_quota_of(address(1)), Some(6.0));
    assert_eq!(rig.heard.connection_quota_of(address(2)), Some(5.0));
}

#[test]
fn quotas_that_make_no_sense_are_refused() {
    let mut rig = Rig::empty();
    let user: &[(&str, Option<&str>)] = &[(USER, Some("u"))];
    let ip: &[(&str, Option<&str>)] = &[(IP, Some("10.0.0.1"))];
    for (command, message) in [
        (quota(&[], PRODUCER_BYTE_RATE, Some(1.0)), "Invalid empty client quota entity"),
        (quota(&[("x", None)], PRODUCER_BYTE_RATE, Some(1.0)), "Unhandled client quota entity type: x"),
        (quota(&[(USER, Some(""))], PRODUCER_BYTE_RATE, Some(1.0)), "Empty user not supported"),
        (
            quota(&[(USER, None), (USER, None)], PRODUCER_BYTE_RATE, Some(1.0)),
            "Invalid client quota entity, duplicate entity entry user",
        ),
        (
            quota(&[(USER, None), (IP, None)], PRODUCER_BYTE_RATE, Some(1.0)),
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
        ),
        (
            quota(&[(IP, Some("host"))], CONNECTION_CREATION_RATE, Some(1.0)),
            "host is not a valid IP or resolvable host.",
        ),
        (quota(user, "x", Some(1.0)), "Invalid configuration key x"),
        (quota(user, CONNECTION_CREATION_RATE, Some(1.0)), "Invalid configuration key connection_creation_rate"),
        (quota(user, PRODUCER_BYTE_RATE, Some(0.0)), "Quota producer_byte_rate must be greater than 0"),
        (quota(user, PRODUCER_BYTE_RATE, Some(f64::NAN)), "Quota producer_byte_rate must be greater than 0"),
        (quota(user, PRODUCER_BYTE_RATE, Some(1.5)), "producer_byte_rate cannot be a fractional value."),
        (
            quota(user, PRODUCER_BYTE_RATE, Some(1e300)),
            "Proposed value for producer_byte_rate is too large for a LONG.",
        ),
        (
            quota(ip, CONNECTION_CREATION_RATE, Some(3e9)),
            "Proposed value for connection_creation_rate is too large for an INT.",
        ),
    ] {
        assert_eq!(rig.refused(command), (ErrorCode::INVALID_REQUEST, message.into()));
    }
    rig.ok(quota(user, REQUEST_PERCENTAGE, Some(0.5)));
    rig.ok(quota(user, PRODUCER_BYTE_RATE, None));
}

#[test]
fn quotas_are_found_by_filters() {
    let mut rig = Rig::empty();
    let entities: [&[(&str, Option<&str>)]; 4] = [
        &[(USER, Some("u"))],
        &[(USER, None)],
        &[(USER, Some("u")), (CLIENT_ID, Some("c"))],
        &[(CLIENT_ID, Some("c"))],
    ];
    for entity in entities {
        rig.ok(quota(entity, PRODUCER_BYTE_RATE, Some(1.0)));
    }
    let filter = |kind, matching, name| QuotaFilter { kind, matching, name };
    let found =
        |filters: &[QuotaFilter<'_>], strict| rig.heard.describe_quotas(filters, strict).map(|found| found.len());
    assert_eq!(found(&[], false), Ok(4));
    assert_eq!(found(&[], true), Ok(0));
    let user = filter(USER, matching::EXACT, Some("u"));
    assert_eq!(found(&[user], false), Ok(2));
    assert_eq!(found(&[user], true), Ok(1));
    assert_eq!(found(&[filter(USER, matching::DEFAULT, None)], false), Ok(1));
    assert_eq!(found(&[filter(USER, matching::SPECIFIED, None)], false), Ok(3));
    assert_eq!(found(&[user, filter(CLIENT_ID, matching::EXACT, Some("c"))], true), Ok(1));
    let code = |filters: &[QuotaFilter<'_>]| found(filters, false).map_err(|refusal| refusal.error);
    for bad in [
        &[filter("", 0, Some("u"))][..],
        &[filter(USER, matching::EXACT, None)],
        &[filter(USER, matching::DEFAULT, Some("u"))],
        &[filter(USER, matching::SPECIFIED, Some("u"))],
        &[filter(USER, 9, None)],
        &[user, user],
        &[user, filter(IP, matching::DEFAULT, None)],
    ] {
        assert_eq!(code(bad), Err(ErrorCode::INVALID_REQUEST), "{bad:?}");
    }
    assert_eq!(code(&[filter("x", 1, None)]), Err(ErrorCode::UNSUPPORTED_VERSION));
}

fn switch(name: &str, level: i16, upgrade: i8) -> Command {
    let updates = vec![FeatureUpdate { name: name.into(), level, upgrade }];
    Command::UpdateFeatures { updates, validate_only: false }
}

#[test]
fn features_go_up_and_down_as_they_may() {
    let mut rig = Rig::empty();
    let level = |rig: &Rig, name| rig.heard.feature(name);
    assert_eq!((level(&rig, TRANSACTION_VERSION), level(&rig, GROUP_VERSION)), (2, 1));
    assert_eq!((level(&rig, SHARE_VERSION), level(&rig, METADATA_VERSION)), (1, 30));
    let wrong = ErrorCode::INVALID_UPDATE_VERSION;
    for (command, message) in [
        (
            switch(GROUP_VERSION, 0, 1),
            "Invalid update version 0 for feature group.version. Can't downgrade the version of this feature without \
             setting the upgrade type to either safe or unsafe downgrade.",
        ),
        (
            switch(TRANSACTION_VERSION, 3, 1),
            "Invalid update version 3 for feature transaction.version. The cluster only supports versions 0-2",
        ),
        (
            switch(TRANSACTION_VERSION, -1, 1),
            "Invalid update version -1 for feature transaction.version. A feature version cannot be less than 0.",
        ),
        (switch("x", 1, 1), "Invalid update version 1 for feature x. The cluster does not support this feature."),
        (
            switch(GROUP_VERSION, 1, 9),
            "Invalid update version 1 for feature group.version. The controller does not support the given upgrade \
             type.",
        ),
        (
            switch(METADATA_VERSION, 29, 2),
            "Invalid metadata.version 29. Refusing to perform the requested downgrade because it might delete metadata \
             information.",
        ),
        (
            switch(METADATA_VERSION, 29, 3),
            "Invalid metadata.version 29. Unsafe metadata downgrade is not supported in this version.",
        ),
    ] {
        assert_eq!(rig.refused(command), (wrong, message.into()));
    }
    rig.ok(switch(GROUP_VERSION, 0, 2));
    assert_eq!((level(&rig, GROUP_VERSION), rig.heard.features().contains_key(GROUP_VERSION)), (0, false));
    assert_eq!(rig.refused(switch(GROUP_VERSION, 1, 2)).0, wrong);
    rig.ok(switch(GROUP_VERSION, 1, 1));
    let both = vec![
        FeatureUpdate { name: GROUP_VERSION.into(), level: 0, upgrade: 2 },
        FeatureUpdate { name: TRANSACTION_VERSION.into(), level: 9, upgrade: 1 },
    ];
    assert_eq!(rig.refused(Command::UpdateFeatures { updates: both, validate_only: false }).0, wrong);
    assert_eq!(level(&rig, GROUP_VERSION), 1, "all or none");
    let none = Command::UpdateFeatures { updates: Vec::new(), validate_only: false };
    assert_eq!(rig.refused(none).0, ErrorCode::INVALID_REQUEST);
}
