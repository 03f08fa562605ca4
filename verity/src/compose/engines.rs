//! Which agreement runs under a group, and with which keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use serde::Deserialize;
use verity_contract::{Agreement as Engine, Boot};
use verity_kafka::machine::cluster as kafka;
use verity_pbft::liar::{Liar, Lie};
use verity_pbft::{Config as PbftConfig, Keys, Pbft, Scope};
use verity_replica::EngineFactory;
use verity_storage::ClusterId;
use verity_types::{GroupId, Mono, Nanos, NodeId};

use super::watched::{Listener, Watched};

/// How the nodes of a group come to one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Agreement {
    /// Raft, by the engine inside TiKV.
    #[default]
    Raft,
    /// Multi-Paxos, our own.
    Paxos,
    /// PBFT, our own: of four nodes one may lie, of seven two.
    Pbft,
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raft => "raft",
            Self::Paxos => "paxos",
            Self::Pbft => "pbft",
        })
    }
}

impl From<Agreement> for kafka::Agreement {
    fn from(agreement: Agreement) -> Self {
        match agreement {
            Agreement::Raft => Self::Raft,
            Agreement::Paxos => Self::Paxos,
            Agreement::Pbft => Self::Pbft,
        }
    }
}

impl From<kafka::Agreement> for Agreement {
    fn from(agreement: kafka::Agreement) -> Self {
        match agreement {
            kafka::Agreement::Raft => Self::Raft,
            kafka::Agreement::Paxos => Self::Paxos,
            kafka::Agreement::Pbft => Self::Pbft,
        }
    }
}

/// With fewer nodes PBFT survives no liar: it would be slower than Raft and no better.
const PBFT_NODES_MIN: usize = 4;

impl Agreement {
    /// What the ledger runs on if nobody says: PBFT where it survives a liar, since that is what a ledger is for.
    pub(crate) fn of_ledger(wished: Option<Self>, nodes: usize, has_keys: bool) -> Self {
        let usual = if has_keys && nodes >= PBFT_NODES_MIN { Self::Pbft } else { Self::default() };
        wished.unwrap_or(usual)
    }

    /// Refuses a cluster of so many nodes in which it makes no sense.
    pub(crate) fn check_nodes(self, nodes: usize) -> Result<()> {
        if self == Self::Pbft && nodes < PBFT_NODES_MIN {
            bail!(
                "pbft needs {PBFT_NODES_MIN} nodes or more, all of them voters, to survive one that lies; {nodes} are too few"
            );
        }
        Ok(())
    }
}

/// What a node signs with as a replica, and whose signatures it believes.
#[derive(Clone)]
pub(crate) struct ReplicaKeys {
    /// The seed of this node's Ed25519 key (RFC 8032).
    pub(crate) secret: [u8; 32],
    /// Everybody's public keys.
    pub(crate) public: BTreeMap<NodeId, [u8; 32]>,
}

impl std::fmt::Debug for ReplicaKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaKeys").field("public", &self.public).finish_non_exhaustive()
    }
}

impl ReplicaKeys {
    /// The keys of a cluster whose secrets are all known here.
    pub(crate) fn of_all(secrets: &BTreeMap<NodeId, [u8; 32]>, id: NodeId) -> Option<Self> {
        let public = secrets.iter().map(|(node, secret)| (*node, Keys::public_of(*secret))).collect();
        Some(Self { secret: *secrets.get(&id)?, public })
    }

    /// The public ones in base64, for people and files.
    pub(crate) fn told(&self) -> BTreeMap<String, String> {
        self.public.iter().map(|(node, key)| (node.to_string(), STANDARD.encode(key))).collect()
    }

    /// To sign and to check with.
    pub(crate) fn keys(&self, id: NodeId) -> Result<Keys, String> {
        Keys::new(id, self.secret, &self.public).map_err(|error| error.to_string())
    }
}

/// How a node's engines are made.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    pub(crate) agreement: Agreement,
    pub(crate) cluster: ClusterId,
    /// Needed for groups on PBFT alone.
    pub(crate) keys: Option<Arc<ReplicaKeys>>,
    /// In the lab: what this node lies about.
    pub(crate) lie: Option<Lie>,
    /// Who listens to what they say.
    pub(crate) listener: Option<Listener>,
}

impl Engines {
    /// The engine of a group.
    pub(crate) fn of(&self, group: GroupId) -> EngineFactory {
        self.with(self.agreement, group)
    }

    /// The engine of a group that is to have an agreement of its own.
    pub(crate) fn with(&self, agreement: Agreement, group: GroupId) -> EngineFactory {
        let engines = self.clone();
        Box::new(move |boot, now| match agreement {
            Agreement::Pbft => engines.pbft(group, boot, now),
            _ => start_engine(agreement, boot, now, verity_paxos::Config::default()),
        })
    }

    fn pbft(&self, group: GroupId, boot: Boot, now: Mono) -> Result<Box<dyn Engine>, String> {
        let keys = self.keys.as_ref().ok_or_else(|| {
            let name = super::group_name(group);
            format!("{name} is on pbft, and this node has no keys: list every node's in [pbft.keys] of its file")
        })?;
        let keys = keys.keys(boot.id)?;
        let seed = boot.seed;
        let me = boot.id;
        let config = PbftConfig {
            group: group_scope(self.cluster, group),
            // A primary that does less than half of what the best of the last ones did is replaced.
            pace_window: Nanos::from_millis(2_000),
            pace_percent: 50,
            pace_rise_percent: 0,
            ..PbftConfig::default()
        };
        let scope = Scope { group: config.group.clone(), epoch: 0 };
        let pbft = Pbft::start(boot, config, keys, now).map_err(|error| error.to_string())?;
        let engine: Box<dyn Engine> = match self.lie {
            Some(lie) => Box::new(Liar::new(pbft, lie, seed)),
            None => Box::new(pbft),
        };
        Ok(match self.listener.clone() {
            Some(listener) => Box::new(Watched { inner: engine, group, me, scope, listener }),
            None => engine,
        })
    }
}

/// In whose name a group's members sign.
fn group_scope(ClusterId(cluster): ClusterId, group: GroupId) -> Bytes {
    let mut name = BytesMut::with_capacity(24);
    name.put_slice(&cluster);
    name.put_u64(group.0);
    name.freeze()
}

/// The group in whose name something is signed; none if it is no name of ours.
pub(crate) fn group_of_scope(name: &Bytes) -> Option<GroupId> {
    let whole: [u8; 24] = name[..].try_into().ok()?;
    Some(GroupId(u64::from_be_bytes(*whole.last_chunk()?)))
}

/// Starts an engine that needs no keys; Paxos as `paxos` says.
pub(crate) fn start_engine(
    agreement: Agreement,
    boot: Boot,
    now: Mono,
    paxos: verity_paxos::Config,
) -> Result<Box<dyn Engine>, String> {
    match agreement {
        Agreement::Raft => {
            let raft = verity_raft::Raft::start(boot, verity_raft::Config::default(), now);
            raft.map(|raft| Box::new(raft) as Box<dyn Engine>).map_err(|error| error.to_string())
        }
        Agreement::Paxos => {
            let paxos = verity_paxos::Paxos::start(boot, paxos, now);
            paxos.map(|paxos| Box::new(paxos) as Box<dyn Engine>).map_err(|error| error.to_string())
        }
        Agreement::Pbft => Err("pbft needs the nodes' keys".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_its_group() {
        let scope = group_scope(ClusterId([7; 16]), GroupId(5));
        assert_eq!(group_of_scope(&scope), Some(GroupId(5)));
        assert_eq!(group_of_scope(&scope.slice(1..)), None);
    }
}
