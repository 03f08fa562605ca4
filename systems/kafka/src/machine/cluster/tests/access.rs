//! Rules about who may do what: the verdict for every combination that matters, and what filters find.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::operation::{ALL, ALTER, ALTER_CONFIGS, CREATE, DELETE, DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE};
use super::super::pattern::{LITERAL, MATCH, PREFIXED};
use super::super::permission::{ALLOW, DENY};
use super::super::*;
use super::rig::Rig;
use crate::wire::ErrorCode;

fn acl(pattern: i8, name: &str, principal: &str, host: &str, operation: i8, permission: i8) -> Acl {
    Acl {
        resource_type: resource::TOPIC,
        name: name.into(),
        pattern,
        principal: principal.into(),
        host: host.into(),
        operation,
        permission,
    }
}

fn may(image: &ClusterImage, principal: &str, host: &str, operation: i8, name: &str) -> bool {
    let access = Access { principal, host, operation, resource_type: resource::TOPIC, name };
    image.authorize(&access, &BTreeSet::new(), false)
}

fn with(acls: &[Acl]) -> Rig {
    let mut rig = Rig::empty();
    for acl in acls {
        rig.ok(Command::CreateAcl { acl: acl.clone() });
    }
    rig
}

#[test]
fn the_truth_table() {
    let allow = |operation| acl(LITERAL, "t", "User:a", "*", operation, ALLOW);
    // Which operations an allowing rule allows.
    let implied: [(i8, &[i8]); 8] = [
        (READ, &[READ, DESCRIBE]),
        (WRITE, &[WRITE, DESCRIBE]),
        (DELETE, &[DELETE, DESCRIBE]),
        (ALTER, &[ALTER, DESCRIBE]),
        (CREATE, &[CREATE]),
        (DESCRIBE, &[DESCRIBE]),
        (ALTER_CONFIGS, &[ALTER_CONFIGS, DESCRIBE_CONFIGS]),
        (ALL, &[READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, 9, DESCRIBE_CONFIGS, ALTER_CONFIGS, 12, 13, 14, 15]),
    ];
    for (given, allowed) in implied {
        let rig = with(&[allow(given)]);
        for asked in READ..=15 {
            assert_eq!(may(&rig.heard, "User:a", "h", asked, "t"), allowed.contains(&asked), "{given} for {asked}");
        }
    }
    // A denying rule denies what it names, and nothing by implication.
    let rig = with(&[allow(ALL), acl(LITERAL, "t", "User:a", "*", READ, DENY)]);
    assert!(!may(&rig.heard, "User:a", "h", READ, "t"));
    assert!(may(&rig.heard, "User:a", "h", DESCRIBE, "t"));
    let rig = with(&[allow(READ), acl(PREFIXED, "t", "User:*", "bad", ALL, DENY)]);
    assert!(may(&rig.heard, "User:a", "good", READ, "t"));
    assert!(!may(&rig.heard, "User:a", "bad", READ, "t"), "denied by a prefix, from there, for everybody");
}

#[test]
fn names_principals_and_hosts_match_as_rules_say() {
    let rig = with(&[
        acl(PREFIXED, "pay", "User:a", "*", READ, ALLOW),
        acl(LITERAL, "payments", "User:b", "10.0.0.1", READ, ALLOW),
        acl(LITERAL, "*", "User:c", "*", READ, ALLOW),
        acl(LITERAL, "open", "User:*", "*", READ, ALLOW),
        acl(PREFIXED, "paz", "User:z", "*", READ, ALLOW),
        acl(PREFIXED, "paym", "User:y", "*", READ, ALLOW),
    ]);
    let image = &rig.heard;
    assert!(may(image, "User:a", "h", READ, "payments") && may(image, "User:a", "h", READ, "pay"));
    assert!(!may(image, "User:a", "h", READ, "pa") && !may(image, "User:a", "h", READ, "other"));
    assert!(may(image, "User:b", "10.0.0.1", READ, "payments"));
    assert!(!may(image, "User:b", "10.0.0.2", READ, "payments"));
    assert!(!may(image, "User:b", "10.0.0.1", READ, "payments2"), "a literal name is no prefix");
    assert!(may(image, "User:c", "h", READ, "anything"));
    assert!(may(image, "User:nobody", "h", READ, "open"));
    assert!(may(image, "User:y", "h", READ, "payments") && !may(image, "User:z", "h", READ, "payments"));
    let group = Access { principal: "User:c", host: "h", operation: READ, resource_type: resource::GROUP, name: "t" };
    assert!(!image.authorize(&group, &BTreeSet::new(), false), "another kind of resource");
}

#[test]
fn super_users_may_everything_and_what_no_rule_is_about_is_the_nodes_to_decide() {
    let rig = with(&[acl(LITERAL, "t", "User:a", "*", ALL, DENY), acl(LITERAL, "u", "User:b", "*", READ, ALLOW)]);
    let access =
        |principal, name| Access { principal, host: "h", operation: READ, resource_type: resource::TOPIC, name };
    let supers = BTreeSet::from(["User:a".to_owned()]);
    assert!(rig.heard.authorize(&access("User:a", "t"), &supers, false));
    assert!(!rig.heard.authorize(&access("User:a", "t"), &BTreeSet::new(), true));
    assert!(rig.heard.authorize(&access("User:a", "free"), &BTreeSet::new(), true));
    assert!(!rig.heard.authorize(&access("User:a", "free"), &BTreeSet::new(), false));
    assert!(
        !rig.heard.authorize(&access("User:a", "u"), &BTreeSet::new(), true),
        "a rule is about it, for somebody else"
    );
}

#[test]
fn any_resource_of_a_kind_is_enough() {
    let any = |rig: &Rig, principal, if_no_rule| {
        let access = Access { principal, host: "h", operation: WRITE, resource_type: resource::TOPIC, name: "" };
        rig.heard.authorize_any(&access, &BTreeSet::from(["User:root".to_owned()]), if_no_rule)
    };
    let rig = with(&[acl(LITERAL, "t", "User:a", "*", WRITE, ALLOW), acl(LITERAL, "t", "User:b", "*", READ, ALLOW)]);
    assert!(any(&rig, "User:a", false) && any(&rig, "User:root", false));
    assert!(!any(&rig, "User:b", false) && any(&rig, "User:b", true));
    let rig = with(&[acl(LITERAL, "t", "User:a", "*", WRITE, ALLOW), acl(PREFIXED, "t", "User:a", "*", WRITE, DENY)]);
    assert!(!any(&rig, "User:a", false), "all that is allowed is denied");
    let rig = with(&[acl(PREFIXED, "t", "User:a", "*", WRITE, ALLOW), acl(LITERAL, "*", "User:a", "*", WRITE, DENY)]);
    assert!(!any(&rig, "User:a", true));
    let rig = with(&[acl(LITERAL, "*", "User:b", "*", WRITE, ALLOW)]);
    assert!(!any(&rig, "User:a", true), "a rule is about every topic");
}

#[test]
fn rules_are_made_once_found_by_filters_and_deleted_by_them() {
    let rules = [
        acl(LITERAL, "t", "User:a", "*", READ, ALLOW),
        acl(LITERAL, "*", "User:b", "*", WRITE, ALLOW),
        acl(PREFIXED, "t", "User:c", "h", ALL, DENY),
        Acl { resource_type: resource::GROUP, ..acl(LITERAL, "t", "User:a", "*", READ, ALLOW) },
    ];
    let mut rig = with(&rules);
    let before = rig.heard.version();
    rig.ok(Command::CreateAcl { acl: rules[0].clone() });
    assert_eq!(rig.heard.version(), before, "it is there already");
    let found = |rig: &Rig, filter: &AclFilter| rig.heard.describe_acls(filter).expect("a filter").len();
    let any = AclFilter::any();
    assert_eq!(found(&rig, &any), 4);
    let topics = AclFilter { resource_type: resource::TOPIC, ..any.clone() };
    assert_eq!(found(&rig, &topics), 3);
    let named = |pattern, name: &str| AclFilter { pattern, name: Some(name.into()), ..topics.clone() };
    assert_eq!(found(&rig, &named(MATCH, "tx")), 2, "by the prefix and by the wildcard");
    assert_eq!(found(&rig, &named(MATCH, "t")), 3);
    assert_eq!(found(&rig, &named(LITERAL, "t")), 1);
    assert_eq!(found(&rig, &named(pattern::ANY, "t")), 2);
    assert_eq!(found(&rig, &AclFilter { principal: Some("User:a".into()), ..any.clone() }), 2);
    assert_eq!(found(&rig, &AclFilter { host: Some("h".into()), permission: DENY, ..any.clone() }), 1);
    for broken in [
        AclFilter { resource_type: 0, ..any.clone() },
        AclFilter { pattern: 9, ..any.clone() },
        AclFilter { operation: 0, ..any.clone() },
        AclFilter { permission: -1, ..any.clone() },
    ] {
        assert_eq!(rig.refused(Command::DeleteAcls { filter: broken }).0, ErrorCode::INVALID_REQUEST);
    }
    let Outcome::Acls { acls } = rig.ok(Command::DeleteAcls { filter: topics }) else { panic!() };
    assert_eq!(acls.len(), 3);
    assert_eq!(rig.heard.describe_acls(&any), Ok(vec![rules[3].clone()]));
}

#[test]
fn rules_that_mean_nothing_are_refused() {
    let good = acl(LITERAL, "t", "User:a", "*", READ, ALLOW);
    let mut rig = Rig::empty();
    for (bad, message) in [
        (Acl { resource_type: 1, ..good.clone() }, "Invalid resourceType ANY"),
        (Acl { resource_type: 99, ..good.clone() }, "Invalid resourceType UNKNOWN"),
        (Acl { pattern: 2, ..good.clone() }, "Invalid patternType MATCH"),
        (Acl { operation: 1, ..good.clone() }, "Invalid operation ANY"),
        (Acl { permission: 0, ..good.clone() }, "Invalid permissionType UNKNOWN"),
        (Acl { name: String::new(), ..good.clone() }, "Resource name should not be empty"),
        (
            Acl { resource_type: resource::CLUSTER, ..good.clone() },
            "The only valid name for the CLUSTER resource is kafka-cluster",
        ),
        (
            Acl { principal: "nobody".into(), ..good.clone() },
            "expected a string in format principalType:principalName but got nobody",
        ),
    ] {
        assert_eq!(rig.refused(Command::CreateAcl { acl: bad }), (ErrorCode::INVALID_REQUEST, message.into()));
    }
}

fn name() -> impl Strategy<Value = String> {
    "[ab\u{e9}*]{1,4}"
}

proptest! {
    /// The quick search finds what looking at every rule finds.
    #[test]
    fn the_search_by_prefixes_misses_nothing(
        rules in prop::collection::vec((name(), prop::bool::ANY, prop::bool::ANY, READ..=WRITE), 0..24),
        asked in name(),
    ) {
        let mut rig = Rig::empty();
        let rules: Vec<Acl> = rules
            .into_iter()
            .map(|(name, prefixed, allow, operation)| {
                let pattern = if prefixed { PREFIXED } else { LITERAL };
                acl(pattern, &name, "User:a", "*", operation, if allow { ALLOW } else { DENY })
            })
            .collect();
        for acl in &rules {
            rig.ok(Command::CreateAcl { acl: acl.clone() });
        }
        let about = |acl: &&Acl| match acl.pattern {
            LITERAL => acl.name == asked || acl.name == "*",
            _ => asked.starts_with(&acl.name),
        };
        let about: Vec<&Acl> = rules.iter().filter(about).collect();
        let read: Vec<&&Acl> = about.iter().filter(|acl| acl.operation == READ).collect();
        let expected = if about.is_empty() {
            true
        } else {
            read.iter().all(|acl| acl.permission == ALLOW) && !read.is_empty()
        };
        let access =
            Access { principal: "User:a", host: "h", operation: READ, resource_type: resource::TOPIC, name: &asked };
        prop_assert_eq!(rig.heard.authorize(&access, &BTreeSet::new(), true), expected);
    }
}
