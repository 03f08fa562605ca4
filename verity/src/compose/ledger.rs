//! The ledger's part of a node: one group, in which every node votes and signs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use verity_contract::{Members, Service};
use verity_ledger::machine::{KvStore, Ledger, LedgerConfig};
use verity_ledger::session::{Config, DutyConfig, LedgerDuty, LedgerService};
use verity_ledger::wire::{Genesis, GenesisValidator, PublicKey, Time};
use verity_ledger::{SigningKey, wire};
use verity_replica::{GroupConfig, GroupSpec};
use verity_storage::ClusterId;
use verity_types::{GroupId, Nanos, NodeId};

use super::{DoorUse, PLAIN, Part, Place, Plan, PlannedDoor, System, TLS};
use crate::abci;
use crate::settings::Ledger as Settings;

/// The group of the ledger.
pub(crate) const LEDGER: GroupId = GroupId(4);

/// The listeners, with that for TLS if there are certificates.
pub(super) fn doors(settings: &Settings, tls: bool) -> [PlannedDoor; 2] {
    let tls_port = if tls { settings.tls_port } else { 0 };
    let system = System::Ledger;
    let door = |name, port, door, used| PlannedDoor { system, name, setting: "laddr", port, door, used };
    [door("ledger", settings.port, PLAIN, DoorUse::Plain), door("ledger+tls", tls_port, TLS, DoorUse::Tls)]
}

/// A validator's public key as `genesis.json` has it.
pub(crate) fn public_key(seed: &[u8; 32]) -> String {
    wire::base64(&PublicKey::of(&SigningKey::from(*seed)).0)
}

/// What a chain of these nodes begins with.
pub(crate) fn genesis(chain_id: String, unix_nanos: u64, keys: &BTreeMap<NodeId, [u8; 32]>) -> Genesis {
    let validator = |(node, seed): (&NodeId, &[u8; 32])| GenesisValidator {
        key: PublicKey::of(&SigningKey::from(*seed)),
        name: format!("node-{node}"),
    };
    let (time, validators) = (Time::from_unix_nanos(unix_nanos), keys.iter().map(validator).collect());
    Genesis { chain_id, time, validators, app_state: String::new() }
}

/// What the chain of a cluster begins with whose settings list its validators' keys.
pub(crate) fn genesis_of(settings: &Settings, cluster: ClusterId, own: (NodeId, &[u8; 32])) -> Result<Genesis> {
    let Some(time) = settings.genesis_time.as_deref() else {
        bail!("ledger.genesis_time is missing; it is the same on all nodes, such as 2026-01-31T00:00:00Z");
    };
    let Some(time) = Time::parse(time) else {
        bail!("ledger.genesis_time is a moment such as 2026-01-31T00:00:00Z, not {time:?}")
    };
    let mut validators = Vec::new();
    for (node, key) in &settings.validators {
        if node.parse::<u64>().is_err() {
            bail!("ledger.validators.{node}: validators stand under their nodes' ids");
        }
        let bytes = wire::from_base64(key).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(bytes) = bytes else { bail!("ledger.validators.{node} is no ed25519 key in base64") };
        validators.push(GenesisValidator { key: PublicKey(bytes), name: format!("node-{node}") });
    }
    let (id, seed) = own;
    let listed = settings.validators.get(&id.to_string());
    if listed.is_some_and(|listed| *listed != public_key(seed)) {
        bail!("ledger.validators.{id} is another key than this node's, which is {}", public_key(seed));
    }
    let chain_id = settings.chain_id.clone().unwrap_or_else(|| chain_id(cluster));
    let genesis = Genesis { chain_id, time, validators, app_state: String::new() };
    genesis.check()?;
    Ok(genesis)
}

/// What a cluster's chain is called, if nobody says.
pub(crate) fn chain_id(cluster: ClusterId) -> String {
    format!("verity-{}", cluster.to_string().chars().take(12).collect::<String>())
}

/// The ledger's group and its service.
pub(super) fn part(plan: &Plan, place: &Place) -> Result<Part> {
    let (Some(genesis), Some(seed)) = (&plan.genesis, &place.validator) else {
        bail!("the ledger has no genesis; ledger.genesis names the file of one");
    };
    let settings = plan.ledger.clone();
    let port = (place.port)(if settings.port == 0 { settings.tls_port } else { settings.port })?;
    let config = Config {
        node: place.id,
        group: LEDGER,
        key: SigningKey::from(*seed),
        genesis: Arc::clone(genesis),
        moniker: format!("node-{}", place.id),
        rpc_address: format!("{}:{port}", place.clients),
        external: place.application.is_some(),
        any_origin: !place.clients.is_loopback(),
        linearizable_reads: settings.linearizable_reads,
        commit_timeout: Nanos::from_millis(settings.timeout_broadcast_tx_commit_ms),
    };
    let duty = DutyConfig {
        empty_blocks: (settings.create_empty_blocks_interval_ms > 0)
            .then(|| Nanos::from_millis(settings.create_empty_blocks_interval_ms)),
    };
    let kept = LedgerConfig {
        retain_blocks: settings.retain_blocks,
        retain_bytes: settings.retain_mib << 20,
        ..LedgerConfig::default()
    };
    let group = GroupSpec {
        id: LEDGER,
        members: Members::of_voters(plan.members.all()),
        config: GroupConfig::default(),
        engine: place.engines(plan).with(plan.ledger_agreement, LEDGER),
        machine: Box::new(match &place.application {
            Some(_) => Ledger::abroad(kept, Arc::clone(genesis)),
            None => Ledger::new(kept, Arc::clone(genesis), Box::new(KvStore::new())),
        }),
        duty: Some(Box::new(LedgerDuty::new(duty))),
    };
    let outsides = place.application.as_ref().map(|app| abci::connections(app, genesis, &place.disk));
    let service = move |_| Box::new(LedgerService::new(config)) as Box<dyn Service>;
    Ok(Part {
        groups: vec![group],
        founder: None,
        service: Box::new(service),
        outsides: outsides.unwrap_or_default(),
        meters: Vec::new(),
        counts: Vec::new(),
    })
}
