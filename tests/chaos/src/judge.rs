//! What a run's histories come to.
//!
//! - writes and linearizable reads of each phase, with what every node has at the end: `zookeeper-linearizable`;
//! - everything of each phase, where plain reads may be stale: `zookeeper`, with its laws of sessions and zxids;
//! - every sequential node that was acknowledged is found on every node, at the end of its phase and of the run.
//!
//! Deliberately absent: any pardon. A search that gives up is a failure.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::Value as Json;
use verity_checker::linearizability::Limits;
use verity_checker::{ModelKind, Verdict, Violation, check};

use crate::run::{Outcome, Phase};

/// What the judge found.
#[derive(Debug, Default)]
pub struct Finding {
    /// Operations that were judged with every read linearizable.
    pub strong: usize,
    /// Operations that were judged with plain reads.
    pub all: usize,
    /// Acknowledged nodes that some node does not have at the end.
    pub lost: BTreeSet<String>,
    /// Phases and what is wrong with them.
    pub violations: Vec<(String, Violation)>,
}

/// Judges all phases of a run.
///
/// # Errors
/// When a history cannot be read, or cannot be judged within the limits.
pub fn judge(outcome: &Outcome) -> Result<Finding> {
    let mut finding = Finding::default();
    for phase in &outcome.phases {
        let strong = linearizable_part(phase)?;
        let whole: Vec<&str> = phase.lines.iter().chain(phase.finals.iter().flatten()).map(String::as_str).collect();
        let mut counts = [0; 2];
        let models = [(strong, ModelKind::ZookeeperLinearizable), (whole, ModelKind::Zookeeper)];
        for (count, (lines, model)) in counts.iter_mut().zip(models) {
            match check(lines.join("\n").as_bytes(), Some(model), &Limits::default())? {
                Verdict::Ok { operations, .. } => *count = operations,
                Verdict::Violation(violation) => finding.violations.push((phase.folder.clone(), *violation)),
                Verdict::Unknown { why } => bail!("{} as {}: {why}", phase.folder, model.name()),
            }
        }
        finding.strong += counts[0];
        finding.all += counts[1];
        finding.lost.extend(lost(phase)?);
    }
    Ok(finding)
}

/// Writes, the reads of clients that asked for linearizable ones, and what was found at the end.
fn linearizable_part(phase: &Phase) -> Result<Vec<&str>> {
    let mut lines = Vec::new();
    for line in phase.lines.iter().chain(phase.finals.iter().flatten()) {
        let json: Json = serde_json::from_str(line)?;
        if json["reads"] != "local" {
            lines.push(line.as_str());
        }
    }
    Ok(lines)
}

/// Acknowledged nodes of a phase that are missing from some node, at its end or at the end of the run.
fn lost(phase: &Phase) -> Result<BTreeSet<String>> {
    let mut times_found = std::collections::BTreeMap::<String, usize>::new();
    let finals = phase.lines.iter().chain(phase.finals.iter().flatten());
    let mut looks = 0;
    for line in finals.filter(|line| line.contains("\"final\"")) {
        let json: Json = serde_json::from_str(line)?;
        if json["type"] != "final" || json["f"] != "get" {
            continue;
        }
        let path = json["path"].as_str().unwrap_or_default();
        looks += usize::from(path == phase.folder);
        if json["error"].is_null() {
            *times_found.entry(path.to_owned()).or_default() += 1;
        }
    }
    let missing = |path: &&String| times_found.get(*path).copied().unwrap_or(0) < looks;
    Ok(phase.kept.iter().filter(missing).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(last: &str) -> Outcome {
        let line = |text: &str| text.to_owned();
        let phase = Phase {
            folder: "/p".into(),
            lines: vec![
                line(r#"{"process":"a","type":"invoke","f":"create","path":"/p","value":"","time":1}"#),
                line(r#"{"process":"a","type":"ok","f":"create","created":"/p","zxid":1,"time":2}"#),
                line(
                    r#"{"process":"a","type":"invoke","f":"create","path":"/p/s-","value":"x","sequential":true,"time":3}"#,
                ),
                line(r#"{"process":"a","type":"ok","f":"create","created":"/p/s-0000000000","zxid":2,"time":4}"#),
                line(r#"{"process":"b","type":"invoke","f":"get","path":"/p/s-0000000000","reads":"local","time":5}"#),
                line(r#"{"process":"b","type":"ok","f":"get","error":"no_node","zxid":1,"reads":"local","time":6}"#),
            ],
            kept: vec!["/p/s-0000000000".into()],
            finals: vec![vec![
                line(r#"{"type":"final","f":"get","path":"/p","value":""}"#),
                format!(r#"{{"type":"final","f":"get","path":"/p/s-0000000000",{last}}}"#),
            ]],
        };
        Outcome { phases: vec![phase], ..Outcome::default() }
    }

    #[test]
    fn a_plain_read_may_be_stale_and_nothing_may_be_lost() {
        let fine = judge(&outcome(r#""value":"x""#)).unwrap();
        assert!(fine.violations.is_empty() && fine.lost.is_empty(), "{fine:?}");
        assert_eq!((fine.strong, fine.all), (4, 5), "the plain read is judged as one");
        let broken = judge(&outcome(r#""error":"no_node""#)).unwrap();
        assert_eq!(broken.lost.len(), 1);
        assert_eq!(broken.violations.len(), 2, "both models see that it is gone");
    }

    #[test]
    fn a_linearizable_read_may_not_be_stale() {
        let mut strong = outcome(r#""value":"x""#);
        for line in &mut strong.phases[0].lines {
            *line = line.replace("local", "linearizable");
        }
        let finding = judge(&strong).unwrap();
        assert_eq!(finding.violations.len(), 1);
        assert_eq!(finding.violations[0].1.model, ModelKind::ZookeeperLinearizable);
    }
}
