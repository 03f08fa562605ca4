//! ZooKeeper's part of a node: one group, the znode tree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use verity_contract::{Door, Service};
use verity_node::{Histogram, Meter};
use verity_replica::{GroupConfig, GroupSpec};
use verity_types::{GroupId, Nanos, NodeId};
use verity_zookeeper::machine::{Tree, TreeConfig};
use verity_zookeeper::session::{Config, DoorKind, DutyConfig, ZooKeeper, ZooKeeperDuty};

use super::{DoorUse, PLAIN, Part, Place, Plan, PlannedDoor, Seat, System, TLS};
use crate::settings::ZooKeeper as Settings;

/// The group of the znode tree.
pub(crate) const TREE: GroupId = GroupId(1);
/// The listener of the AdminServer.
const ADMIN: Door = Door(2);

/// How long ZooKeeper's requests took.
#[derive(Debug, Default)]
struct Meters {
    reads: Arc<Histogram>,
    writes: Arc<Histogram>,
}

impl verity_zookeeper::session::Meter for Meters {
    fn answered(&self, write: bool, took: Nanos) {
        let histogram = if write { &self.writes } else { &self.reads };
        histogram.add(Duration::from_nanos(took.0));
    }
}

/// The listeners, with those for TLS if there are certificates.
pub(super) fn doors(settings: &Settings, tls: bool) -> [PlannedDoor; 3] {
    let tls_port = if tls { settings.tls_port } else { 0 };
    let system = System::ZooKeeper;
    let door = |name, setting, port, door, used| PlannedDoor { system, name, setting, port, door, used };
    [
        door("zookeeper", "clientPort", settings.port, PLAIN, DoorUse::Plain),
        door("zookeeper+tls", "secureClientPort", tls_port, TLS, DoorUse::Tls),
        door("zookeeper-admin", "admin.serverPort", settings.admin_port, ADMIN, DoorUse::Admin),
    ]
}

fn kind(used: DoorUse) -> DoorKind {
    match used {
        DoorUse::Plain => DoorKind::Plain,
        DoorUse::Tls => DoorKind::Tls,
        DoorUse::Admin => DoorKind::Admin,
    }
}

/// The tree's group and its service.
pub(super) fn part(plan: &Plan, place: &Place, doors: &[&PlannedDoor]) -> Result<Part> {
    let mut lines = Vec::new();
    for door in doors {
        lines.push((door.setting.to_owned(), (place.port)(door.port)?.to_string()));
    }
    lines.extend(place.data_dir.clone().map(|dir| ("dataDir".to_owned(), dir)));
    let (ensemble, own) = ensemble(plan, place);
    let join = place.join.then_some(own);
    let (id, secret, standalone) = (place.id, plan.secret, plan.members.all().len() == 1);
    let settings = plan.zookeeper.clone();
    let kinds: BTreeMap<Door, DoorKind> = doors.iter().map(|door| (door.door, kind(door.used))).collect();
    let meters = Arc::<Meters>::default();
    let meter = |kind, took: &Arc<Histogram>| Meter { system: "zookeeper", kind, took: Arc::clone(took) };
    let counted = vec![meter("read", &meters.reads), meter("write", &meters.writes)];
    let service = move |incarnation| {
        let config = settings.sessions(id, incarnation, TREE, secret, kinds);
        let meter = Some(meters as _);
        Box::new(ZooKeeper::new(Config { standalone, join, settings: lines, meter, ..config })) as Box<dyn Service>
    };
    let tree = GroupSpec {
        id: TREE,
        members: plan.members.clone(),
        config: GroupConfig::default(),
        engine: place.engines(plan).of(TREE),
        // Every replica begins with the same switches; what the settings say comes through the order.
        machine: Box::new(Tree::with_index_seed(TreeConfig::default(), plan.seed)),
        duty: Some(Box::new(ZooKeeperDuty::new(DutyConfig { config_text: ensemble, ..plan.zookeeper.duty() }))),
    };
    Ok(Part {
        groups: vec![tree],
        founder: None,
        service: Box::new(service),
        outsides: Vec::new(),
        meters: counted,
        counts: Vec::new(),
    })
}

/// The text of `/zookeeper/config` in a new cluster, and this node's own line of it.
fn ensemble(plan: &Plan, place: &Place) -> (String, String) {
    let line = |id: NodeId, seat: &Seat, observer: bool| {
        let role = if observer { "observer" } else { "participant" };
        let port = seat.peer.rsplit_once(':').map_or("0", |(_, port)| port);
        format!("server.{id}={}:{port}:{role};{}", seat.peer, seat.client)
    };
    let members = place.seats.iter().filter(|(id, _)| plan.members.contains(**id));
    let lines = members.map(|(id, seat)| line(*id, seat, plan.members.learners.contains(id)) + "\n");
    let own = place.seats.get(&place.id).map(|seat| line(place.id, seat, place.observer)).unwrap_or_default();
    (lines.collect::<String>() + "version=0", own)
}
