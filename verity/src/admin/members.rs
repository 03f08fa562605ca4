//! `/api/members`: who takes part in the cluster, and the change of it.
//!
//! ```text
//! GET  /api/members   who they are, as JSON
//! POST /api/members   {"join": [{"id", "peer", "client", "observer"}], "leave": [id]}; needs the token
//! ```
//! The answer to a change comes when the group has the new members, or cannot have them. What is asked for goes through
//! the same order as a client's `reconfig`, and follows the same rules.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use verity_contract::Consistency;
use verity_node::NodeClient;
use verity_replica::CHANGE_WAIT_MAX;
use verity_types::NodeId;
use verity_zookeeper::machine::{self, Ensemble, Reply, Server, TreeConfig, TreeStatus, internal};
use verity_zookeeper::wire::{Decode as _, ErrorCode, GetDataResponse, OpCode, PathWatch, ReconfigRequest};

use crate::admin::{Admin, Refused, check_token};
use crate::compose::TREE;

/// How often a change is looked after.
const LOOK: Duration = Duration::from_millis(50);

/// What the cluster is, as one who wants to join must know it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct About {
    /// The cluster's id, in hexadecimal.
    pub(crate) cluster: String,
    pub(crate) agreement: String,
    /// Nodes talk over mutual TLS.
    pub(crate) tls: bool,
}

/// What decides how the tree answers, as `[zookeeper]` calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switches {
    pub(crate) extended_types: bool,
    pub(crate) reconfig_enabled: bool,
    pub(crate) enforce_quota: bool,
    pub(crate) skip_acl: bool,
}

/// One member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// Where its peers meet it.
    pub(crate) peer: String,
    /// Where its clients meet it.
    pub(crate) client: String,
    /// It learns and does not vote.
    #[serde(default)]
    pub(crate) observer: bool,
}

/// All members.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct MembersReport {
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) members: Vec<Member>,
    /// The tree's switches, which every node's settings should name alike.
    pub(crate) switches: Switches,
    /// The transaction that made it so.
    pub(crate) version: i64,
    /// True while a change is under way.
    pub(crate) changing: bool,
}

/// Who shall come and go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MembersRequest {
    pub(crate) join: Vec<Member>,
    pub(crate) leave: Vec<u64>,
}

impl Member {
    /// Its line in the configuration of the ensemble.
    pub(crate) fn line(&self) -> Result<String> {
        let Self { id, peer, client, observer } = self;
        let Some((_, port)) = peer.rsplit_once(':') else { bail!("{peer:?} is not HOST:PORT") };
        let role = if *observer { "observer" } else { "participant" };
        Ok(format!("server.{id}={peer}:{port}:{role};{client}"))
    }
}

pub(crate) async fn list(State(admin): State<Admin>) -> Result<Json<MembersReport>, Refused> {
    Ok(Json(report(&admin).await?))
}

pub(crate) async fn change(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<MembersRequest>,
) -> Result<Json<MembersReport>, Refused> {
    check_token(&admin, &headers)?;
    carry_out(&admin, &request).await?;
    Ok(Json(report(&admin).await?))
}

fn client(admin: &Admin) -> Result<NodeClient> {
    admin.lab.client(admin.node).ok_or_else(|| anyhow!("node {} is not running", admin.node))
}

async fn read(admin: &Admin, op: i32, body: &impl verity_zookeeper::wire::Encode) -> Result<Vec<u8>> {
    let query = machine::query(op, body);
    let Ok(answer) = client(admin)?.read(TREE, query, Consistency::Local).await? else {
        bail!("node {} has no answer", admin.node)
    };
    let reply = Reply::decode(&answer)?;
    if reply.err != 0 {
        bail!("the tree answers {}", reply.err);
    }
    Ok(reply.body.to_vec())
}

async fn ensemble(admin: &Admin) -> Result<Ensemble> {
    let node = PathWatch { path: "/zookeeper/config", watch: false };
    let body = read(admin, OpCode::GetData.number(), &node).await?;
    let data = GetDataResponse::from_bytes(&body)?.data.unwrap_or_default();
    let parsed = std::str::from_utf8(data).ok().and_then(Ensemble::parse);
    parsed.ok_or_else(|| anyhow!("/zookeeper/config is not readable"))
}

async fn is_changing(admin: &Admin) -> Result<bool> {
    let body = read(admin, internal::WISH, &0i32).await?;
    Ok(Option::<&[u8]>::from_bytes(&body)?.is_some())
}

async fn report(admin: &Admin) -> Result<MembersReport> {
    let Ensemble { servers, version } = ensemble(admin).await?;
    let status = TreeStatus::from_bytes(&read(admin, internal::STATUS, &0i32).await?)?;
    let TreeConfig { extended_types, enforce_quota, skip_acl, reconfig, .. } =
        TreeConfig::from_bytes(&status.config.to_be_bytes())?;
    let member = |(id, server): (NodeId, Server)| {
        let Server { peer, observer, client, .. } = server;
        Member { id: id.0, peer, client, observer }
    };
    Ok(MembersReport {
        about: admin.lab.about(),
        members: servers.into_iter().map(member).collect(),
        switches: Switches { extended_types, reconfig_enabled: reconfig, enforce_quota, skip_acl },
        version,
        changing: is_changing(admin).await?,
    })
}

async fn carry_out(admin: &Admin, request: &MembersRequest) -> Result<()> {
    let joining: Vec<String> = request.join.iter().map(Member::line).collect::<Result<_>>()?;
    let leaving: Vec<String> = request.leave.iter().map(u64::to_string).collect();
    let (joining, leaving) = (joining.join(","), leaving.join(","));
    let request = ReconfigRequest { joining: &joining, leaving: &leaving, members: "", config: -1 };
    let answer = client(admin)?.propose(TREE, machine::reconfig(&request)).await?;
    let Ok(answer) = answer else { bail!("the cluster has no leader, or did not answer in time") };
    let reply = Reply::decode(&answer)?;
    match ErrorCode::from_number(reply.err) {
        Some(ErrorCode::Ok) => {}
        Some(ErrorCode::ReconfigInProgress) => bail!("another change of members is under way"),
        Some(ErrorCode::BadArguments) => {
            bail!("this cannot be: somebody must vote, addresses are HOST:PORT, and no two nodes share one")
        }
        _ => bail!("refused with error {}", reply.err),
    }
    let data = GetDataResponse::from_bytes(reply.body)?.data.unwrap_or_default();
    let wished = std::str::from_utf8(data).ok().and_then(Ensemble::parse).unwrap_or_default();
    let looks = Duration::from_nanos(2 * CHANGE_WAIT_MAX.0).as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        // This node may have left with the change, and hear no more of it.
        let now = ensemble(admin).await?;
        if now.version >= wished.version {
            return Ok(());
        }
        if !is_changing(admin).await? {
            bail!("the new members did not answer in time; are they running, and reachable at their peer addresses?");
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("the change is still under way; `verity node list` shows when it is done")
}
