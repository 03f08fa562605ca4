//! `POST /api/fault`: breaks a running cluster, and heals it.
//!
//! What cuts or crashes a node does so to its Bitcoin node as well. Faults of chains answer once they have taken effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use verity_node::{CLOCK_SKEW_MS_MAX, DISK_DELAY_MAX, Faults, NodeClient};
use verity_types::NodeId;

use crate::admin::{Admin, Refused, check_token};
use crate::bitcoin::attack::{self, Outcome};
use crate::bitcoin::chains::Chains;
use crate::bitcoin::miners::{Miners, Mining};

/// A pause is no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// A system whose order is made by work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Chain {
    /// Bitcoin.
    Bitcoin,
}

/// What to break.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FaultRequest {
    /// Cut the network between `from` and `to`; without `to`, between `from` and everybody.
    Partition {
        /// One side.
        from: u64,
        /// The other side.
        to: Option<u64>,
        /// Cut only what `from` sends.
        #[serde(default)]
        one_way: bool,
    },
    /// End a node as if its process had died.
    Crash {
        /// Which.
        node: u64,
    },
    /// Start a crashed node again.
    Restart {
        /// Which.
        node: u64,
    },
    /// Stop a node's thread for a while.
    Pause {
        /// Which.
        node: u64,
        /// For how long.
        ms: u64,
    },
    /// Move a node's civil time.
    Clock {
        /// Which.
        node: u64,
        /// By how much; negative for back.
        skew_ms: i64,
    },
    /// Make each sync of a node's disk slower.
    Disk {
        /// Which.
        node: u64,
        /// By how much.
        delay_ms: u64,
    },
    /// Take the last blocks of a chain from all nodes, by a longer one that was mined in secret.
    Reorg {
        /// Of which system.
        system: Chain,
        /// How many blocks.
        depth: u32,
        /// A payment that is to be reversed, by its id.
        #[serde(default)]
        double_spend: Option<String>,
    },
    /// One race of an attacker against everybody else.
    Attack {
        /// Upon which system.
        system: Chain,
        /// Its share of all hash power, between 0 and 1.
        share: f64,
        /// So many blocks a merchant waits for.
        confirmations: u32,
        /// A payment that is to be reversed, by its id. It is in no block yet.
        #[serde(default)]
        double_spend: Option<String>,
    },
    /// Let a node hear an attacker alone, which mines blocks for it, until the heal.
    Eclipse {
        /// Of which system.
        system: Chain,
        /// Which node.
        node: u64,
        /// How many blocks it is shown.
        blocks: u32,
        /// A payment that the victim sees in a block and nobody else does, by its id.
        #[serde(default)]
        double_spend: Option<String>,
    },
    /// Let nodes mine by themselves, until the heal.
    Miners {
        /// Of which system.
        system: Chain,
        /// The mean time between two blocks; 0 stops the miners.
        interval_ms: u64,
        /// Shares of the hash power by node; all alike if there are none.
        #[serde(default)]
        shares: BTreeMap<String, f64>,
        /// Whom the rewards are paid to.
        #[serde(default)]
        address: Option<String>,
    },
    /// Heal everything: network, clocks, disks, pauses; crashed nodes start again.
    Heal,
}

pub(crate) async fn serve(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<FaultRequest>,
) -> Result<Json<serde_json::Value>, Refused> {
    check_token(&admin, &headers)?;
    if !admin.lab.is_lab() {
        let text = "faults are off here; set [lab] enabled = true, or use verity up";
        return Err(Refused(StatusCode::FORBIDDEN, text.into()));
    }
    let Outcome { text, more } = bring_about(&admin, request).await?;
    tracing::warn!("fault: {text}");
    let mut answer = serde_json::json!({ "done": text });
    if let (Some(answer), serde_json::Value::Object(more)) = (answer.as_object_mut(), more) {
        answer.extend(more);
    }
    Ok(Json(answer))
}

async fn bring_about(admin: &Admin, request: FaultRequest) -> Result<Outcome> {
    let text = match request {
        FaultRequest::Reorg { system: Chain::Bitcoin, depth, double_spend } => {
            return on_chains(admin, move |chains| attack::reorganise(chains, depth, double_spend.as_deref())).await;
        }
        FaultRequest::Attack { system: Chain::Bitcoin, share, confirmations, double_spend } => {
            return on_chains(admin, move |chains| attack::race(chains, share, confirmations, double_spend.as_deref()))
                .await;
        }
        FaultRequest::Eclipse { system: Chain::Bitcoin, node, blocks, double_spend } => {
            return eclipse(admin, NodeId(node), blocks, double_spend).await;
        }
        FaultRequest::Miners { system: Chain::Bitcoin, interval_ms, shares, address } => {
            return on_chains(admin, move |chains| miners(chains, interval_ms, shares, address)).await;
        }
        other => bring_about_here(admin, other).await?,
    };
    Ok(Outcome { text, more: serde_json::Value::Null })
}

/// Cuts a node off from the cluster's others and lets an attacker speak to it. One that does not come about leaves nobody cut off.
async fn eclipse(admin: &Admin, victim: NodeId, blocks: u32, double_spend: Option<String>) -> Result<Outcome> {
    let (chains, ids) = (served(admin)?, admin.lab.ids());
    let others = ids.iter().copied().filter(|id| *id != victim).collect();
    let before = chain_faults(&chains, &ids).await?;
    cut_chains(&chains, victim, &others, false).await?;
    let deed = move |chains: &Arc<Chains>| attack::eclipse(chains, victim, blocks, double_spend.as_deref());
    let shown = on_chains(admin, deed).await;
    if shown.is_err() {
        for (client, faults) in before {
            client.set_faults(faults).await?;
        }
    }
    shown
}

/// Sets miners to work, or stops them.
fn miners(
    chains: &Arc<Chains>,
    interval_ms: u64,
    shares: BTreeMap<String, f64>,
    address: Option<String>,
) -> Result<Outcome> {
    let (set, text) = if interval_ms == 0 {
        (None, "nobody mines any more".to_owned())
    } else {
        let number = |(id, share): (String, f64)| {
            let id = id.parse().with_context(|| format!("{id:?} is no number of a node"))?;
            Ok((NodeId(id), share))
        };
        let shares = shares.into_iter().map(number).collect::<Result<_>>()?;
        let mining = Mining { interval: Duration::from_millis(interval_ms), shares, address };
        let started = Miners::start(chains, mining)?;
        (Some(started), format!("a block comes each {interval_ms} ms, give or take; `verity fault heal` ends it"))
    };
    chains.set_miners(set);
    Ok(Outcome { text, more: serde_json::Value::Null })
}

fn served(admin: &Admin) -> Result<Arc<Chains>> {
    admin.lab.chains().ok_or_else(|| anyhow!("this cluster serves no Bitcoin; verity up --only bitcoin does"))
}

/// Does something that waits for nodes, on a thread that may wait.
async fn on_chains(
    admin: &Admin,
    deed: impl FnOnce(&Arc<Chains>) -> Result<Outcome> + Send + 'static,
) -> Result<Outcome> {
    let chains = served(admin)?;
    tokio::task::spawn_blocking(move || deed(&chains)).await.context("it ended early")?
}

async fn bring_about_here(admin: &Admin, request: FaultRequest) -> Result<String> {
    match request {
        FaultRequest::Partition { from, to, one_way } => partition(admin, NodeId(from), to.map(NodeId), one_way).await,
        FaultRequest::Crash { node } => {
            admin.lab.crash(NodeId(node))?;
            Ok(format!("node {node} crashed"))
        }
        FaultRequest::Restart { node } => {
            admin.lab.restart(NodeId(node))?;
            Ok(format!("node {node} started"))
        }
        FaultRequest::Pause { node, ms } => {
            let span = Duration::from_millis(ms);
            if span > PAUSE_MAX {
                bail!("a pause is at most {} s", PAUSE_MAX.as_secs());
            }
            let client = admin.lab.client(NodeId(node)).ok_or_else(|| anyhow!("node {node} is not running"))?;
            if let Some(chain) = chain_client(admin, NodeId(node)) {
                chain.pause(span).await?;
            }
            client.pause(span).await?;
            Ok(format!("node {node} paused for {ms} ms"))
        }
        FaultRequest::Clock { node, skew_ms } => {
            if skew_ms.unsigned_abs() > CLOCK_SKEW_MS_MAX.unsigned_abs() {
                bail!("a clock is moved by at most {CLOCK_SKEW_MS_MAX} ms, which are ten years");
            }
            change(admin, NodeId(node), |faults| faults.clock_skew_ms = skew_ms).await?;
            Ok(format!("the clock of node {node} is moved by {skew_ms} ms"))
        }
        FaultRequest::Disk { node, delay_ms } => {
            let delay = Duration::from_millis(delay_ms);
            if delay > DISK_DELAY_MAX {
                bail!("a sync takes at most {} ms longer", DISK_DELAY_MAX.as_millis());
            }
            change(admin, NodeId(node), |faults| faults.disk_delay = delay).await?;
            Ok(format!("each sync of node {node} takes {delay_ms} ms longer"))
        }
        FaultRequest::Heal => heal(admin).await,
        FaultRequest::Reorg { .. }
        | FaultRequest::Attack { .. }
        | FaultRequest::Eclipse { .. }
        | FaultRequest::Miners { .. } => unreachable!("chains have these"),
    }
}

async fn change(admin: &Admin, id: NodeId, f: impl FnOnce(&mut Faults)) -> Result<()> {
    let client = admin.lab.client(id).ok_or_else(|| anyhow!("node {id} is not running"))?;
    let mut faults = client.status().await?.faults;
    f(&mut faults);
    if let Some(chain) = chain_client(admin, id) {
        // Who is cut off from whom it knows by itself: it is cut at both ends.
        let own = chain.status().await?.faults;
        let (send_cut, receive_cut) = (own.send_cut, own.receive_cut);
        chain.set_faults(Faults { send_cut, receive_cut, ..faults.clone() }).await?;
    }
    Ok(client.set_faults(faults).await?)
}

fn chain_client(admin: &Admin, id: NodeId) -> Option<NodeClient> {
    admin.lab.chains().and_then(|chains| chains.client(id))
}

/// The faults in force at the nodes' chains.
async fn chain_faults(chains: &Chains, ids: &[NodeId]) -> Result<Vec<(NodeClient, Faults)>> {
    let mut all = Vec::new();
    for client in ids.iter().filter_map(|id| chains.client(*id)) {
        let faults = client.status().await?.faults;
        all.push((client, faults));
    }
    Ok(all)
}

/// Cuts a node's chain off from others. Only who dialled a connection knows whose it is, so both ends are told.
async fn cut_chains(chains: &Chains, from: NodeId, others: &BTreeSet<NodeId>, one_way: bool) -> Result<()> {
    let ends = others.iter().map(|other| (*other, BTreeSet::from([from]), false));
    for (id, whom, sends) in ends.chain([(from, others.clone(), true)]) {
        let Some(client) = chains.client(id) else { continue };
        let mut faults = client.status().await?.faults;
        if sends || !one_way {
            faults.send_cut.extend(&whom);
        }
        if !sends || !one_way {
            faults.receive_cut.extend(&whom);
        }
        client.set_faults(faults).await?;
    }
    Ok(())
}

async fn partition(admin: &Admin, from: NodeId, to: Option<NodeId>, one_way: bool) -> Result<String> {
    let client = admin.lab.client(from).ok_or_else(|| anyhow!("node {from} is not running"))?;
    let status = client.status().await?;
    let members = status.groups.iter().flat_map(|group| group.agreement.members.all());
    let mut known: BTreeSet<NodeId> = members.chain(admin.lab.ids()).collect();
    known.extend(admin.lab.chains().iter().flat_map(|chains| chains.known()));
    let others: BTreeSet<NodeId> = match to {
        Some(to) if to == from => bail!("a node cannot be cut off from itself"),
        Some(to) if !known.contains(&to) => bail!("there is no node {to}"),
        Some(to) => BTreeSet::from([to]),
        None => known.into_iter().filter(|node| *node != from).collect(),
    };
    // Cutting both directions at one end is enough, and works when the other end is another process.
    change(admin, from, |faults| {
        faults.send_cut.extend(&others);
        if !one_way {
            faults.receive_cut.extend(&others);
        }
    })
    .await?;
    if let Some(chains) = admin.lab.chains() {
        cut_chains(&chains, from, &others, one_way).await?;
    }
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    let how = if one_way { "sends nothing to" } else { "is cut off from" };
    Ok(format!("node {from} {how} {}", names.join(", ")))
}

async fn heal(admin: &Admin) -> Result<String> {
    let mut sick = Vec::new();
    let chains = admin.lab.chains();
    if let Some(chains) = chains.clone() {
        tokio::task::spawn_blocking(move || chains.heal()).await.context("it ended early")?;
    }
    for id in admin.lab.ids() {
        if let Some(chain) = chains.as_ref().and_then(|chains| chains.client(id)) {
            chain.go_on();
            let healed = chain.set_faults(Faults::default()).await;
            sick.extend(healed.err().map(|error| format!("the Bitcoin node of node {id}: {error}")));
        } else if chains.is_some() && admin.lab.client(id).is_some() {
            sick.extend(admin.lab.restart(id).err().map(|error| format!("node {id}: {error:#}")));
        }
        let healed = match admin.lab.client(id) {
            Some(client) => {
                client.go_on();
                client.set_faults(Faults::default()).await.map_err(anyhow::Error::from)
            }
            None => admin.lab.restart(id),
        };
        // One that cannot be healed is no reason to leave the others as they are.
        sick.extend(healed.err().map(|error| format!("node {id}: {error:#}")));
    }
    if !sick.is_empty() {
        bail!("not healed: {}", sick.join("; "));
    }
    Ok("healed".into())
}
