//! Kafka's part of a node: the metadata, the coordinator, and a group for each partition that the metadata ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use verity_contract::{Service, Spawn};
use verity_kafka::machine::cluster::{Blueprint, Cluster, ClusterDuty};
use verity_kafka::machine::coordinator::{Coordinator, CoordinatorDuty};
use verity_kafka::machine::partition::{Partition, PartitionDuty};
use verity_kafka::session::{Config, Kafka, Listener, RequestKind};
use verity_node::{Count, Histogram, Meter};
use verity_replica::{GroupConfig, GroupSpec};
use verity_types::{GroupId, Nanos};

use super::{Agreement, DoorUse, PLAIN, Part, Place, Plan, PlannedDoor, System, TLS};
use crate::settings::Kafka as Settings;

/// The group of the metadata.
pub(crate) const CLUSTER: GroupId = GroupId(2);
/// The group of the coordinator.
pub(crate) const COORDINATOR: GroupId = GroupId(3);
/// How often a partition's leader looks after its log (`log.retention.check.interval.ms` is 300,000).
const TEND_EVERY: Nanos = Nanos::from_millis(15_000);

/// What Kafka's clients did.
#[derive(Debug, Default)]
struct Meters {
    produce: Arc<Histogram>,
    fetch: Arc<Histogram>,
    other: Arc<Histogram>,
    messages_received: Arc<AtomicU64>,
    messages_sent: Arc<AtomicU64>,
    bytes_received: Arc<AtomicU64>,
    bytes_sent: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl verity_kafka::session::Meter for Meters {
    fn answered(&self, kind: RequestKind, took: Nanos) {
        let histogram = match kind {
            RequestKind::Produce => &self.produce,
            RequestKind::Fetch => &self.fetch,
            RequestKind::Other => &self.other,
        };
        histogram.add(Duration::from_nanos(took.0));
    }

    fn received(&self, records: u64, bytes: u64) {
        self.messages_received.fetch_add(records, Ordering::Relaxed);
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sent(&self, records: u64, bytes: u64) {
        self.messages_sent.fetch_add(records, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    fn connected(&self, count: usize) {
        self.connections.store(count as u64, Ordering::Relaxed);
    }
}

impl Meters {
    fn timed(&self) -> Vec<Meter> {
        let kinds = [("produce", &self.produce), ("fetch", &self.fetch), ("other", &self.other)];
        kinds.map(|(kind, took)| Meter { system: "kafka", kind, took: Arc::clone(took) }).into()
    }

    fn counted(&self) -> Vec<Count> {
        let all = [
            ("messages_received", &self.messages_received),
            ("messages_sent", &self.messages_sent),
            ("bytes_received", &self.bytes_received),
            ("bytes_sent", &self.bytes_sent),
            ("connections", &self.connections),
        ];
        all.map(|(what, count)| Count { system: "kafka", what, count: Arc::clone(count) }).into()
    }
}

/// The listeners, with that for TLS if there are certificates.
pub(super) fn doors(settings: &Settings, tls: bool) -> [PlannedDoor; 2] {
    let tls_port = if tls { settings.tls_port } else { 0 };
    let system = System::Kafka;
    let door = |name, setting, port, door, used| PlannedDoor { system, name, setting, port, door, used };
    [
        door("kafka", "listeners", settings.port, PLAIN, DoorUse::Plain),
        door("kafka+tls", "listeners", tls_port, TLS, DoorUse::Tls),
    ]
}

/// The cluster's id as Kafka writes one: 16 bytes in URL-safe base64.
fn cluster_id(place: &Place) -> String {
    verity_kafka::wire::Uuid(place.cluster.0).to_string()
}

/// The groups that a node begins with, the founder of the others, and the service.
pub(super) fn part(plan: &Plan, place: &Place) -> Result<Part> {
    let settings = &plan.kafka;
    let tls = place.client_tls.contains_key(&System::Kafka);
    let port = |base: u16| if base == 0 { Ok(0) } else { (place.port)(base) };
    let clients = if place.clients.is_unspecified() { None } else { Some(place.clients.to_string()) };
    let peer = || place.seats.get(&place.id).and_then(|seat| Some(seat.peer.rsplit_once(':')?.0.to_owned()));
    let host = settings.host.clone().or(clients).or_else(peer).unwrap_or_else(|| "localhost".to_owned());
    let (id, secret, cluster_id) = (place.id, plan.secret, cluster_id(place));
    let log_dir = place.data_dir.clone().unwrap_or_else(|| "memory".to_owned());
    let (plain_port, tls_port) = (port(settings.port)?, if tls { port(settings.tls_port)? } else { 0 });
    let founders = plan.members.all().len();
    let agreement = plan.agreement;
    let keys = place.replica_keys.as_ref().map(|keys| keys.public.clone()).unwrap_or_default();
    let meters = Arc::<Meters>::default();
    let (timed, counted) = (meters.timed(), meters.counted());
    let service = {
        let settings = settings.clone();
        move |incarnation| {
            let listener = |tls| Listener { tls, sasl: settings.sasl };
            let config = Config {
                node: id,
                incarnation,
                cluster_id,
                cluster: CLUSTER,
                coordinator: COORDINATOR,
                founders,
                agreement: agreement.into(),
                keys,
                host,
                port: plain_port,
                tls_port,
                rack: settings.rack_of(id),
                doors: BTreeMap::from([(PLAIN, listener(false)), (TLS, listener(true))]),
                plain_users: settings.plain_users.clone(),
                max_reauth: settings.max_reauth(),
                super_users: settings.super_users.clone(),
                allow_if_no_rule: settings.allow_everyone_if_no_acl_found,
                log_dir,
                secret,
                meter: Some(meters),
            };
            Box::new(Kafka::new(config)) as Box<dyn Service>
        }
    };
    let engines = place.engines(plan);
    let group = |id, machine, duty| GroupSpec {
        id,
        members: plan.members.clone(),
        config: GroupConfig::default(),
        engine: engines.of(id),
        machine,
        duty: Some(duty),
    };
    let duty = CoordinatorDuty::new(settings.coordinator());
    let groups = vec![
        group(CLUSTER, Box::new(Cluster::new()) as _, Box::new(ClusterDuty::new()) as _),
        group(COORDINATOR, Box::new(Coordinator::new()) as _, Box::new(duty) as _),
    ];
    let (disk, engines) = (Arc::clone(&place.disk), engines.clone());
    let founder = move |spawn: &Spawn| {
        let blueprint = Blueprint::decode(&spawn.blueprint).map_err(|error| error.to_string())?;
        Ok(GroupSpec {
            id: spawn.group,
            members: spawn.members.clone(),
            config: GroupConfig::default(),
            engine: engines.with(blueprint.agreement.map_or(agreement, Agreement::from), spawn.group),
            machine: Box::new(Partition::new(Arc::clone(&disk), spawn.group, blueprint.config)),
            duty: Some(Box::new(PartitionDuty::new(TEND_EVERY))),
        })
    };
    Ok(Part {
        groups,
        founder: Some(Arc::new(founder)),
        service: Box::new(service),
        outsides: Vec::new(),
        meters: timed,
        counts: counted,
    })
}
