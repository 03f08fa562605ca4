//! `/api/members`: who takes part in the cluster, and the change of it.
//!
//! ```text
//! GET  /api/members   who they are, as JSON
//! POST /api/members   {"join": [{"id", "peer", "client", "observer"}], "leave": [id]}; needs the token
//! ```
//! The answer to a change comes when the group has the new members, or cannot have them. What is asked for goes through
//! the same order as a client's `reconfig`, and follows the same rules.
//!
//! - upon a node that is no member: it is not asked, since what it knows is old and nobody hears it;
//! - upon a node without a leader, before or behind the wish: it waits [`LEADER_WAIT`] for one, and says that there is
//!   none;
//! - upon the removal of the node that is asked: it answers once it is out, with what it last knew. A leader that leaves
//!   applies its own removal; others may never be told. One is out if its removal has its place in the order, and nobody
//!   leads it, though it is connected to most of those who remain.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use verity_contract::Consistency;
use verity_node::NodeClient;
use verity_replica::{CHANGE_WAIT_MAX, GroupStatus};
use verity_types::NodeId;
use verity_zookeeper::machine::{self, Ensemble, Reply, Server, TreeConfig, TreeStatus, internal};
use verity_zookeeper::wire::{Decode as _, ErrorCode, GetDataResponse, OpCode, PathWatch, ReconfigRequest};

use crate::admin::{Admin, Refused, check_token};
use crate::compose::TREE;

/// A cluster that elects has a leader within this.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// A node whose removal is ordered, and that then has no leader for so long, is not led any more.
const OUT_WAIT: Duration = Duration::from_secs(3);
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
    /// The public keys with which the nodes sign under PBFT, in base64.
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, String>,
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
    /// The node that tells it knows no leader: it may have been let go, and what it tells may be old.
    #[serde(default)]
    pub(crate) alone: bool,
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
    check_member(&admin).await?;
    Ok(Json(report(&admin).await?))
}

pub(crate) async fn change(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<MembersRequest>,
) -> Result<Json<MembersReport>, Refused> {
    check_token(&admin, &headers)?;
    Ok(Json(tokio::select! {
        done = carry_out(&admin, &request) => done?,
        alone = leaderless(&admin) => return Err(alone.into()),
    }))
}

fn client(admin: &Admin) -> Result<NodeClient> {
    admin.lab.client(admin.node).ok_or_else(|| anyhow!("node {} is not running", admin.node))
}

/// The tree's group, as this node sees it.
async fn group(admin: &Admin) -> Result<GroupStatus> {
    let groups = client(admin)?.status().await?.groups;
    groups.into_iter().find(|group| group.group == TREE).context("the node hosts the tree")
}

fn is_member(admin: &Admin, group: &GroupStatus) -> bool {
    group.agreement.members.contains(admin.node)
}

/// Refuses to speak for a cluster that this node does not belong to.
async fn check_member(admin: &Admin) -> Result<GroupStatus> {
    let group = group(admin).await?;
    if !is_member(admin, &group) {
        bail!("node {} is no member of the cluster, or not any more; ask one that is", admin.node);
    }
    Ok(group)
}

/// Waits until this node, which is a member, has had no leader for longer than an election may take.
async fn leaderless(admin: &Admin) -> anyhow::Error {
    let mut looks = 0;
    while u128::from(looks) * LOOK.as_millis() < LEADER_WAIT.as_millis() {
        match group(admin).await {
            Ok(group) if group.role.leader.is_none() && is_member(admin, &group) => looks += 1u32,
            Ok(_) => looks = 0,
            Err(error) => return error,
        }
        tokio::time::sleep(LOOK).await;
    }
    anyhow!(
        "node {} knows no leader: most voters are down or out of reach, or it was let go; ask another node",
        admin.node
    )
}

/// Waits for a leader. Who never finds one is told by [`leaderless`].
async fn await_leader(admin: &Admin) -> Result<()> {
    while check_member(admin).await?.role.leader.is_none() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
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
    let changing = is_changing(admin).await?;
    let alone = group(admin).await?.role.leader.is_none();
    Ok(MembersReport { alone, ..describe(admin, ensemble(admin).await?, changing).await? })
}

async fn describe(admin: &Admin, ensemble: Ensemble, changing: bool) -> Result<MembersReport> {
    let Ensemble { servers, version } = ensemble;
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
        changing,
        alone: false,
    })
}

/// True once this node, whose removal has its place in the order, is out. `unled` counts the looks without a leader.
async fn is_out(admin: &Admin, wished: &Ensemble, unled: &mut u32) -> Result<bool> {
    let status = client(admin)?.status().await?;
    let group = status.groups.iter().find(|group| group.group == TREE).context("the node hosts the tree")?;
    *unled = if group.role.leader.is_none() { *unled + 1 } else { 0 };
    let voters: Vec<NodeId> = wished.servers.iter().filter(|(_, server)| !server.observer).map(|(id, _)| *id).collect();
    let met = voters.iter().filter(|voter| status.peers_up.contains(voter)).count();
    let unled_for = u128::from(*unled) * LOOK.as_millis();
    Ok(!is_member(admin, group) || (unled_for >= OUT_WAIT.as_millis() && 2 * met > voters.len()))
}

async fn carry_out(admin: &Admin, request: &MembersRequest) -> Result<MembersReport> {
    await_leader(admin).await?;
    let leaves = request.leave.contains(&admin.node.0);
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
    let done = async {
        let mut unled = 0;
        while !leaves || !is_out(admin, &wished, &mut unled).await? {
            // First whether it is under way: it may end while one looks.
            let changing = is_changing(admin).await?;
            if ensemble(admin).await?.version >= wished.version {
                return report(admin).await;
            }
            if !changing {
                bail!(
                    "the new members did not answer in time; are they running, and reachable at their peer addresses?"
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        describe(admin, wished.clone(), false).await
    };
    tokio::time::timeout(Duration::from_nanos(2 * CHANGE_WAIT_MAX.0), done)
        .await
        .unwrap_or_else(|_| bail!("the change is still under way; `verity node list` shows when it is done"))
}
