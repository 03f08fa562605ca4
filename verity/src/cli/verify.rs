//! `verity verify`: checks signatures with public keys, and asks nobody.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use verity_pbft::{Evidence, Keys, Quorum, Scope};
use verity_replica::Certificate;

use crate::admin::{CertifiedReport, EvidenceReport, parse_keys};
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

/// What f + 1 nodes signed. The words beside the signatures count for nothing: they are made from what was signed.
fn answer(report: &CertifiedReport, keys: &Keys) -> Result<String> {
    let raw = bytes(&report.certificate)?;
    let certificate = Certificate::decode(raw.clone()).map_err(|error| anyhow!("this is no certificate: {error}"))?;
    let scope = Scope::decode(certificate.scope.clone()).map_err(|error| anyhow!("this is no certificate: {error}"))?;
    // Another group's members would sign what its machine makes of the same query.
    if compose::group_of_scope(&scope.group) != Some(compose::TREE) {
        bail!("it was not signed in the znode tree's name: it proves nothing of a znode");
    }
    let statement = Certificate::statement(&certificate.query, &certificate.answer);
    let signers: Vec<u64> = certificate
        .signatures
        .iter()
        .filter(|(node, signature)| keys.is_answer(&scope, **node, statement, signature))
        .map(|(node, _)| node.0)
        .collect();
    let enough = Quorum::of(keys.nodes()).weak();
    if signers.len() < enough {
        bail!("{} of {} nodes signed it, and {enough} are needed: it proves nothing", signers.len(), keys.nodes());
    }
    let CertifiedReport { query, answer, .. } = CertifiedReport::of(&raw)?;
    let signers: Vec<String> = signers.iter().map(|node| format!("node {node}")).collect();
    Ok(format!("{query}: {answer}; signed by {}", signers.join(", ")))
}

fn evidence(proof: &str, keys: &Keys) -> Result<String> {
    let evidence = Evidence::decode(bytes(proof)?).map_err(|error| anyhow!("this is no proof: {error}"))?;
    if !evidence.verify_with(keys) {
        bail!("a proof does not hold: node {} did not sign both statements", evidence.culprit);
    }
    Ok(evidence.to_string())
}
