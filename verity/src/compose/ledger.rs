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
use verity_types::{GroupId, Nanos, NodeId};

use super::{DoorUse, PLAIN, Part, Place, Plan, PlannedDoor, System, TLS};
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
    wire::base64(&SigningKey::from_bytes(seed).verifying_key().to_bytes())
}

/// What a chain of these nodes begins with.
pub(crate) fn genesis(chain_id: String, unix_nanos: u64, keys: &BTreeMap<NodeId, [u8; 32]>) -> Genesis {
    let validator = |(node, seed): (&NodeId, &[u8; 32])| GenesisValidator {
        key: PublicKey(SigningKey::from_bytes(seed).verifying_key().to_bytes()),
        name: format!("node-{node}"),
    };
    Genesis { chain_id, time: Time::from_unix_nanos(unix_nanos), validators: keys.iter().map(validator).collect() }
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
        key: SigningKey::from_bytes(seed),
        genesis: Arc::clone(genesis),
        moniker: format!("node-{}", place.id),
        rpc_address: format!("{}:{port}", place.clients),
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
        machine: Box::new(Ledger::new(kept, Arc::clone(genesis), Box::new(KvStore::new()))),
        duty: Some(Box::new(LedgerDuty::new(duty))),
    };
    let service = move |_| Box::new(LedgerService::new(config)) as Box<dyn Service>;
    Ok(Part { groups: vec![group], founder: None, service: Box::new(service), meters: Vec::new(), counts: Vec::new() })
}
