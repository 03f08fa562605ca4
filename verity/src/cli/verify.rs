//! `verity verify`: checks signatures with public keys, and asks nobody.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use verity_kafka::machine::cluster::PARTITIONS;
use verity_pbft::{Evidence, Keys, Quorum, Scope};
use verity_replica::Certificate;
use verity_types::{GroupId, NodeId};

use crate::admin::{CertifiedReport, EvidenceReport, Place, parse_keys};
use crate::compose;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity verify answer.json --keys keys.json     of `verity --json read`\n  \
    verity verify proofs.json --keys keys.json     of `verity --json evidence`")]
pub(crate) struct Verify {
    /// What `verity --json read` or `verity --json evidence` said.
    file: PathBuf,
    /// The nodes' public keys: what `verity node keys` said, kept from a moment of trust.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Answer(CertifiedReport),
    Proofs(EvidenceReport),
}

fn read(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn bytes(base64: &str) -> Result<Bytes> {
    let bytes = STANDARD.decode(base64).ok().context("it holds what is no base64")?;
    Ok(bytes.into())
}

impl Verify {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let keys = parse_keys(&read(&self.keys)?).with_context(|| self.keys.display().to_string())?;
        let keys = Keys::of_watcher(&keys).map_err(|error| anyhow!("{}: {error}", self.keys.display()))?;
        let said: Said = serde_json::from_str(&read(&self.file)?)
            .with_context(|| format!("{} is neither an answer nor a list of proofs", self.file.display()))?;
        let lines = match said {
            Said::Answer(report) => vec![answer(&report, &keys)?],
            Said::Proofs(report) if report.proofs.is_empty() => bail!("there are no proofs in it"),
            Said::Proofs(report) => {
                report.proofs.iter().map(|proof| evidence(&proof.proof, &keys)).collect::<Result<_>>()?
            }
        };
        if json {
            println!("{}", serde_json::json!({ "holds": lines }));
        } else {
            lines.iter().for_each(|line| println!("holds: {line}"));
        }
        Ok(())
    }
}

/// A certificate, and who of the nodes whose keys are here signed it.
struct Signed {
    raw: Bytes,
    certificate: Certificate,
    /// The cluster that the group is of, and its number.
    scope: Scope,
    group: GroupId,
    signers: BTreeSet<NodeId>,
}

impl Signed {
    fn read(base64: &str, keys: &Keys) -> Result<Self> {
        let raw = bytes(base64)?;
        let strange = "this is no certificate";
        let certificate = Certificate::decode(raw.clone()).map_err(|error| anyhow!("{strange}: {error}"))?;
        let scope = Scope::decode(certificate.scope.clone()).map_err(|error| anyhow!("{strange}: {error}"))?;
        let group = compose::group_of_scope(&scope.group).context(strange)?;
        let statement = Certificate::statement(&certificate.query, &certificate.answer);
        let signatures = certificate.signatures.iter();
        let sound = signatures.filter(|(node, signature)| keys.is_answer(&scope, **node, statement, signature));
        let signers = sound.map(|(node, _)| *node).collect();
        Ok(Self { raw, certificate, scope, group, signers })
    }

    /// One of those who signed is honest, if no more than f of these members lie.
    fn check(&self, members: usize) -> Result<()> {
        let (count, enough) = (self.signers.len(), Quorum::of(members).weak());
        if count < enough {
            bail!("{count} of {members} nodes signed it, and {enough} are needed: it proves nothing");
        }
        Ok(())
    }
}

/// What f + 1 nodes signed. The words beside the signatures count for nothing: they are made from what was signed.
fn answer(report: &CertifiedReport, keys: &Keys) -> Result<String> {
    let mut signed = Signed::read(&report.certificate, keys)?;
    let place = report.place.as_ref().map(|place| Signed::read(place, keys)).transpose()?;
    match &place {
        // Another group's members would sign what its machine makes of the same query.
        None if signed.group == compose::TREE || signed.group.0 >= PARTITIONS => signed.check(keys.nodes())?,
        None => bail!("it was signed in the name of neither the znode tree nor a partition: it proves nothing"),
        Some(place) => {
            if place.group != compose::KAFKA_CLUSTER || place.scope.group[..16] != signed.scope.group[..16] {
                bail!("what says of which topic it is was not signed in the name of its cluster's metadata");
            }
            place.check(keys.nodes())?;
            let at = Place::of(&place.certificate.query, &place.certificate.answer)?;
            if at.group != signed.group {
                bail!("it was not signed in the name of partition {} of {}", at.partition, at.topic);
            }
            signed.signers.retain(|node| i32::try_from(node.0).is_ok_and(|node| at.members.contains(&node)));
            signed.check(at.members.len())?;
        }
    }
    let CertifiedReport { query, answer, .. } =
        CertifiedReport::of(&signed.raw, place.as_ref().map(|place| &place.raw))?;
    if query.starts_with("get ") != (signed.group == compose::TREE) {
        bail!("what was asked is nothing that the group it is signed for could answer");
    }
    let signers: Vec<String> = signed.signers.iter().map(|node| format!("node {node}")).collect();
    Ok(format!("{query}: {answer}; signed by {}", signers.join(", ")))
}

fn evidence(proof: &str, keys: &Keys) -> Result<String> {
    let evidence = Evidence::decode(bytes(proof)?).map_err(|error| anyhow!("this is no proof: {error}"))?;
    if !evidence.verify_with(keys) {
        bail!("a proof does not hold: node {} did not sign both statements", evidence.culprit);
    }
    Ok(evidence.to_string())
}
