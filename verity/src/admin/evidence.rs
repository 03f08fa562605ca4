//! What convinces others of what happened here.
//!
//! ```text
//! GET  /api/evidence  who lied, and the proofs, as JSON
//! GET  /api/keys      the public keys with which the nodes sign under PBFT: {"1": base64}
//! POST /api/certified {"path": "/a"} or {"topic": "orders", "partition": 0, "offset": 42}: a znode or a record, and f + 1
//!                     nodes' signatures under it; needs the token
//! ```

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use verity_contract::{Consistency, Failure};
use verity_pbft::Evidence;
use verity_replica::Certificate;
use verity_types::GroupId;

use crate::admin::records_query::Place;
use crate::admin::{Admin, Lab, Refused, check_token, records_query, tree_query};
use crate::compose::{self, KAFKA_CLUSTER, TREE};

/// All proofs that the nodes of one process have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EvidenceReport {
    pub(crate) proofs: Vec<ProofReport>,
}

/// One proof.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProofReport {
    /// The group's name.
    pub(crate) group: String,
    /// Who lied.
    pub(crate) culprit: u64,
    /// What it said, in words.
    pub(crate) said: String,
    /// The nodes of this process that have the proof.
    pub(crate) held_by: Vec<u64>,
    /// The proof, for `verity verify`, in base64.
    pub(crate) proof: String,
}

/// What is to be certified.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum CertifiedRequest {
    /// What a znode holds.
    Znode { path: String },
    /// A record of a partition.
    Record { topic: String, partition: i32, offset: i64 },
}

/// An answer that others can check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertifiedReport {
    /// What was asked, in words.
    pub(crate) query: String,
    /// The answer, in words.
    pub(crate) answer: String,
    /// Who signed.
    pub(crate) signed_by: Vec<u64>,
    /// All of it, for `verity verify`, in base64.
    pub(crate) certificate: String,
    /// Of a record: the metadata's certificate of which topic and partition it is, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
}

impl CertifiedReport {
    /// Puts certificates into words: of an answer, and of the place of the partition that gave it.
    pub(crate) fn of(bytes: &Bytes, place: Option<&Bytes>) -> Result<Self> {
        let certificate = decode(bytes)?;
        let named = place.map(decode).transpose()?.map(|place| Place::of(&place.query, &place.answer)).transpose()?;
        let said = |named| records_query::words(&certificate.query, &certificate.answer, named);
        let (query, answer) = match &named {
            Some(named) => said(Some(named))?,
            None => tree_query::words(&certificate.query, &certificate.answer).or_else(|_| said(None))?,
        };
        let signed_by = certificate.signatures.keys().map(|node| node.0).collect();
        let place = place.map(|bytes| STANDARD.encode(bytes));
        Ok(Self { query, answer, signed_by, certificate: STANDARD.encode(bytes), place })
    }
}

fn decode(bytes: &Bytes) -> Result<Certificate> {
    Certificate::decode(bytes.clone()).map_err(|error| anyhow!("this is no certificate: {error}"))
}

/// What the nodes of this process know of liars.
pub(super) async fn report(lab: &dyn Lab) -> EvidenceReport {
    let mut all: BTreeMap<(GroupId, Bytes), Vec<u64>> = BTreeMap::new();
    for id in lab.ids() {
        let Some(client) = lab.client(id) else { continue };
        // One that does not answer has nothing to say.
        let Ok(status) = client.status().await else { continue };
        status.evidence.into_iter().for_each(|proof| all.entry(proof).or_default().push(id.0));
    }
    let word = |((group, bytes), held_by): ((GroupId, Bytes), Vec<u64>)| {
        let evidence = Evidence::decode(bytes.clone()).ok()?;
        Some(ProofReport {
            group: compose::group_name(group),
            culprit: evidence.culprit.0,
            said: evidence.to_string(),
            held_by,
            proof: STANDARD.encode(&bytes),
        })
    };
    EvidenceReport { proofs: all.into_iter().filter_map(word).collect() }
}

pub(super) async fn serve(State(admin): State<Admin>) -> Json<EvidenceReport> {
    Json(report(admin.lab.as_ref()).await)
}

pub(super) async fn keys(State(admin): State<Admin>) -> Json<BTreeMap<String, String>> {
    Json(admin.lab.about().keys)
}

pub(super) async fn certified(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<CertifiedRequest>,
) -> Result<Json<CertifiedReport>, Refused> {
    check_token(&admin, &headers)?;
    let about = admin.lab.about();
    let signs = about.agreement == compose::Agreement::Pbft.to_string();
    let client = admin.lab.client(admin.node).ok_or_else(|| anyhow!("the node is not running"))?;
    let certify = async |group: GroupId, query: Bytes| -> Result<Bytes> {
        let answer = client.certify(group, query).await?;
        answer.map_err(|failure| match failure {
            Failure::NoSuchGroup => anyhow!("node {} does not hold that: ask one that does", admin.node),
            _ => anyhow!("too few nodes sign the same answer: {failure:?}"),
        })
    };
    let report = match request {
        CertifiedRequest::Znode { .. } if !signs => {
            return Err(anyhow!("nobody signs answers under {}; certificates need pbft", about.agreement).into());
        }
        CertifiedRequest::Znode { path } => {
            CertifiedReport::of(&certify(TREE, tree_query::encode(&path)?).await?, None)?
        }
        CertifiedRequest::Record { topic, partition, offset } => {
            let query = records_query::locate(&topic, partition);
            let answer =
                client.read(KAFKA_CLUSTER, query.clone(), Consistency::Local).await.map_err(anyhow::Error::from)?;
            let answer = answer.map_err(|_| anyhow!("node {} does not serve Kafka: ask one that does", admin.node))?;
            let group = Place::of(&query, &answer)?.group;
            let place = if signs { Some(certify(KAFKA_CLUSTER, query).await?) } else { None };
            CertifiedReport::of(&certify(group, records_query::batch(offset)).await?, place.as_ref())?
        }
    };
    Ok(Json(report))
}

/// Reads the keys that a user keeps: what `GET /api/keys` said, in a file.
pub(crate) fn parse_keys(text: &str) -> Result<BTreeMap<verity_types::NodeId, [u8; 32]>> {
    let keys: BTreeMap<u64, String> =
        serde_json::from_str(text).context("the keys are JSON such as {\"1\": base64}")?;
    if keys.is_empty() {
        bail!("there are no keys in it");
    }
    let parse = |(node, key): (u64, String)| {
        let bytes = STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes: [u8; 32] = bytes.with_context(|| format!("the key of node {node} is none of 32 bytes in base64"))?;
        Ok((verity_types::NodeId(node), bytes))
    };
    keys.into_iter().map(parse).collect()
}
