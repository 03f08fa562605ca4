//! Configurations are read and changed.
//!
//! - upon DescribeConfigs: this node's image says what holds and where it comes from; what a node reads from its own files
//!   only that node can say;
//! - upon AlterConfigs, IncrementalAlterConfigs: each resource is one command, decided for itself;
//! - upon ListConfigResources: what there is that has a configuration.
//!
//! Deliberately absent: loggers. A node has one level for all it logs, and clients do not set it.

use std::collections::{BTreeMap, BTreeSet};

use super::call::Call;
use super::commands::{self, Verdict};
use super::node::{Node, State};
use crate::machine::cluster::config::Described;
use crate::machine::cluster::{AGREEMENT, CLUSTER_NAME, Command, ConfigOp, ConfigResource, operation, resource};
use crate::wire::ErrorCode;
use crate::wire::message::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, DescribeConfigsRequest,
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
    ListConfigResourcesConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

/// Before this version, DescribeConfigs knew neither types nor documentation.
const DOCUMENTED: i16 = 3;

/// What this node was started with, as Kafka's configuration calls it.
pub(super) fn own(state: &State) -> BTreeMap<String, String> {
    let config = &state.config;
    let (id, host) = (config.node_id().to_string(), &config.host);
    let doors = [("PLAINTEXT", config.port), ("SSL", config.tls_port)].into_iter().filter(|(_, port)| *port != 0);
    let listeners: Vec<String> = doors.map(|(name, port)| format!("{name}://{host}:{port}")).collect();
    let mut own = BTreeMap::from([
        (AGREEMENT.to_owned(), config.agreement.name().to_owned()),
        ("advertised.listeners".to_owned(), listeners.join(",")),
        ("broker.id".to_owned(), id.clone()),
        ("listeners".to_owned(), listeners.join(",")),
        ("log.dirs".to_owned(), config.log_dir.clone()),
        ("node.id".to_owned(), id),
    ]);
    if let Some(span) = config.max_reauth {
        own.insert("connections.max.reauth.ms".to_owned(), (span.0 / 1_000_000).to_string());
    }
    if let Some(rack) = &config.rack {
        own.insert("broker.rack".to_owned(), rack.clone());
    }
    own
}

/// May they do this with what has such a configuration? If not, what they are told.
fn authorize(state: &State, call: &Call, wanted: i8, kind: i8, name: &str) -> Result<(), Verdict> {
    let (resource_type, name, error) = match kind {
        ConfigResource::TOPIC => (resource::TOPIC, name, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        ConfigResource::GROUP => (resource::GROUP, name, ErrorCode::GROUP_AUTHORIZATION_FAILED),
        ConfigResource::BROKER | ConfigResource::BROKER_LOGGER | ConfigResource::CLIENT_METRICS => {
            (resource::CLUSTER, CLUSTER_NAME, ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
        }
        _ => {
            let message = format!("Unexpected resource type {kind} for resource {name}");
            return Err(Verdict::refused(ErrorCode::INVALID_REQUEST, message));
        }
    };
    if call.may(state, wanted, resource_type, name) { Ok(()) } else { Err(Verdict::of(error)) }
}

/// Is this the node whose loggers are meant?
fn check_logger_node(state: &State, name: &str) -> Result<(), Verdict> {
    let own = state.config.node_id();
    let wrong = |message: String| Err(Verdict::refused(ErrorCode::INVALID_REQUEST, message));
    match name.parse::<i32>() {
        Ok(id) if id == own => Ok(()),
        Ok(_) => wrong(format!("Unexpected broker id, expected {own} but received {name}")),
        Err(_) if name.is_empty() => wrong("Broker id must not be empty".to_owned()),
        Err(_) => wrong(format!("Broker id must be an integer, but it is: {name}")),
    }
}

fn describe(state: &State, call: &Call, kind: i8, name: &str) -> Result<Vec<Described>, Verdict> {
    authorize(state, call, operation::DESCRIBE_CONFIGS, kind, name)?;
    if kind == ConfigResource::BROKER_LOGGER {
        return check_logger_node(state, name).map(|()| Vec::new());
    }
    let resource = ConfigResource::new(kind, name);
    Ok(state.image.describe_config(&resource, state.config.node_id(), &own(state))?)
}

fn entry(described: Described, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let shown = described.synonyms.into_iter().filter(|_| synonyms);
    DescribeConfigsResourceResult {
        name: described.name,
        value: described.value,
        read_only: described.read_only,
        config_source: described.source,
        is_sensitive: described.sensitive,
        synonyms: shown
            .map(|synonym| DescribeConfigsSynonym { name: synonym.name, value: synonym.value, source: synonym.source })
            .collect(),
        config_type: described.kind,
        documentation: described.documentation.filter(|_| documentation).map(str::to_owned),
    }
}

pub(super) fn describe_configs(node: &Node, call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let state = node.state();
    let documentation = request.include_documentation && call.version >= DOCUMENTED;
    let results = request.resources.into_iter().map(|wanted| {
        let (resource_type, resource_name) = (wanted.resource_type, wanted.resource_name);
        let described = match describe(&state, call, resource_type, &resource_name) {
            Ok(described) => described,
            Err(Verdict { error, message, .. }) => {
                let (error_code, error_message) = (error.0, message);
                let configs = Vec::new();
                return DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs };
            }
        };
        // An empty list asks for all, as nothing does.
        let keys = wanted.configuration_keys.filter(|keys| !keys.is_empty());
        let keys: Option<BTreeSet<String>> = keys.map(|keys| keys.into_iter().collect());
        let asked = described.into_iter().filter(|entry| keys.as_ref().is_none_or(|keys| keys.contains(&entry.name)));
        let configs = asked.map(|described| entry(described, request.include_synonyms, documentation)).collect();
        DescribeConfigsResult { resource_type, resource_name, configs, ..Default::default() }
    });
    DescribeConfigsResponse { throttle_time_ms: 0, results: results.collect() }
}

// ---- changes

/// A resource, what is to change, and what came of it.
struct Change<T> {
    kind: i8,
    name: String,
    entries: Vec<T>,
}

/// Which changes may be decided: each resource once, and only by whom it may.
fn plan<T>(
    node: &Node,
    call: &Call,
    changes: &[Change<T>],
    command: impl Fn(&Change<T>) -> Result<Command, Verdict>,
) -> Vec<Result<Command, Verdict>> {
    let mut counts: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    changes.iter().for_each(|change| *counts.entry((change.kind, &change.name)).or_default() += 1);
    let state = node.state();
    let one = |change: &Change<T>| {
        if counts[&(change.kind, change.name.as_str())] > 1 {
            let message = "Each resource must appear at most once.";
            return Err(Verdict::refused(ErrorCode::INVALID_REQUEST, message));
        }
        authorize(&state, call, operation::ALTER_CONFIGS, change.kind, &change.name)?;
        if change.kind == ConfigResource::BROKER_LOGGER {
            check_logger_node(&state, &change.name)?;
        }
        command(change)
    };
    changes.iter().map(one).collect()
}

pub(super) async fn alter_configs(node: &Node, call: &Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let validate_only = request.validate_only;
    let changes = request.resources.into_iter().map(|wanted| Change {
        kind: wanted.resource_type,
        name: wanted.resource_name,
        entries: wanted.configs,
    });
    let changes: Vec<_> = changes.collect();
    let planned = plan(node, call, &changes, |change| {
        if change.kind == ConfigResource::BROKER_LOGGER {
            let message = "Unknown resource type BROKER_LOGGER";
            return Err(Verdict::refused(ErrorCode::INVALID_REQUEST, message));
        }
        let values = change.entries.iter().map(|entry| (entry.name.clone(), entry.value.clone())).collect();
        let resource = ConfigResource::new(change.kind, change.name.clone());
        Ok(Command::AlterConfig { resource, values, validate_only })
    });
    let verdicts = commands::decide_some(node, planned, commands::TIMEOUT_MS).await;
    let responses = changes.into_iter().zip(verdicts).map(|(change, verdict)| AlterConfigsResourceResponse {
        error_code: verdict.error.0,
        error_message: verdict.message,
        resource_type: change.kind,
        resource_name: change.name,
    });
    AlterConfigsResponse { throttle_time_ms: 0, responses: responses.collect() }
}

pub(super) async fn incremental_alter_configs(
    node: &Node,
    call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let validate_only = request.validate_only;
    let changes = request.resources.into_iter().map(|wanted| Change {
        kind: wanted.resource_type,
        name: wanted.resource_name,
        entries: wanted.configs,
    });
    let changes: Vec<_> = changes.collect();
    let planned = plan(node, call, &changes, |change| {
        if change.kind == ConfigResource::BROKER_LOGGER {
            let logger = change.entries.first().map_or("", |entry| entry.name.as_str());
            let message = format!("Logger {logger} does not exist!");
            return Err(Verdict::refused(ErrorCode::INVALID_CONFIG, message));
        }
        let ops = change.entries.iter().map(|entry| ConfigOp {
            name: entry.name.clone(),
            op: entry.config_operation,
            value: entry.value.clone(),
        });
        let resource = ConfigResource::new(change.kind, change.name.clone());
        Ok(Command::IncrementalAlterConfig { resource, ops: ops.collect(), validate_only })
    });
    let verdicts = commands::decide_some(node, planned, commands::TIMEOUT_MS).await;
    let responses =
        changes.into_iter().zip(verdicts).map(|(change, verdict)| IncrementalAlterConfigsResourceResponse {
            error_code: verdict.error.0,
            error_message: verdict.message,
            resource_type: change.kind,
            resource_name: change.name,
        });
    IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses: responses.collect() }
}

// ---- ListConfigResources

/// Whatever kind of resource there is, in the order of Kafka's numbers.
const KINDS: [i8; 5] = [
    ConfigResource::TOPIC,
    ConfigResource::BROKER,
    ConfigResource::BROKER_LOGGER,
    ConfigResource::CLIENT_METRICS,
    ConfigResource::GROUP,
];

/// The names of all resources of a kind.
fn names(state: &State, kind: i8) -> Vec<String> {
    match kind {
        ConfigResource::TOPIC => state.image.topics().map(|topic| topic.name.clone()).collect(),
        ConfigResource::BROKER | ConfigResource::BROKER_LOGGER => {
            state.image.nodes().filter(|node| !node.fenced).map(|node| node.id.to_string()).collect()
        }
        _ => {
            let set = state.image.configs().filter(|(resource, _)| resource.kind == kind);
            set.map(|(resource, _)| resource.name.clone()).collect()
        }
    }
}

pub(super) fn list_config_resources(
    node: &Node,
    call: &Call,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let state = node.state();
    let refuse = |error: ErrorCode| ListConfigResourcesResponse { error_code: error.0, ..Default::default() };
    if !call.may_cluster(&state, operation::DESCRIBE_CONFIGS) {
        return refuse(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    // Version 0 was ListClientMetricsResources.
    let kinds: BTreeSet<i8> = match (call.version, request.resource_types.is_empty()) {
        (0, _) => BTreeSet::from([ConfigResource::CLIENT_METRICS]),
        (_, true) => KINDS.into(),
        (_, false) => request.resource_types.iter().copied().collect(),
    };
    if kinds.iter().any(|kind| !KINDS.contains(kind)) {
        return refuse(ErrorCode::UNSUPPORTED_VERSION);
    }
    let each = kinds.into_iter().flat_map(|kind| names(&state, kind).into_iter().map(move |name| (kind, name)));
    let config_resources = each
        .map(|(resource_type, resource_name)| ListConfigResourcesConfigResource { resource_name, resource_type })
        .collect();
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
