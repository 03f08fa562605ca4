//! `POST /api/fault`: breaks a running cluster, and heals it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use verity_node::{CLOCK_SKEW_MS_MAX, DISK_DELAY_MAX, Faults};
use verity_types::NodeId;

use crate::admin::{Admin, Refused, check_token};

/// A pause is no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(600);

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
    let done = bring_about(&admin, request).await?;
    tracing::warn!("fault: {done}");
    Ok(Json(serde_json::json!({ "done": done })))
}

async fn bring_about(admin: &Admin, request: FaultRequest) -> Result<String> {
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
    }
}

async fn change(admin: &Admin, id: NodeId, f: impl FnOnce(&mut Faults)) -> Result<()> {
    let client = admin.lab.client(id).ok_or_else(|| anyhow!("node {id} is not running"))?;
    let mut faults = client.status().await?.faults;
    f(&mut faults);
    Ok(client.set_faults(faults).await?)
}

async fn partition(admin: &Admin, from: NodeId, to: Option<NodeId>, one_way: bool) -> Result<String> {
    let client = admin.lab.client(from).ok_or_else(|| anyhow!("node {from} is not running"))?;
    let status = client.status().await?;
    let known: BTreeSet<NodeId> = status.groups.iter().flat_map(|group| group.agreement.members.all()).collect();
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
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    let how = if one_way { "sends nothing to" } else { "is cut off from" };
    Ok(format!("node {from} {how} {}", names.join(", ")))
}

async fn heal(admin: &Admin) -> Result<String> {
    let mut sick = Vec::new();
    for id in admin.lab.ids() {
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
