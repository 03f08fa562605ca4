//! `verity check`: judges a history that a user recorded.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use verity_checker::linearizability::Limits;
use verity_checker::{ModelKind, Verdict};

#[derive(Args, Debug)]
#[command(after_help = "The format stands in docs/check-format.md. One line an event, for example:\n  \
    {\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"x\",\"value\":1,\"time\":10}\n  \
    {\"process\":0,\"type\":\"ok\",\"f\":\"write\",\"key\":\"x\",\"value\":1,\"time\":20}")]
pub(crate) struct Check {
    /// The history, one JSON object a line; `-` reads standard input.
    history: PathBuf,
    /// What the history is of; told from its operations if it is not given.
    #[arg(long, value_enum)]
    model: Option<Model>,
    /// Where the timeline of a violation is drawn.
    #[arg(long, value_name = "FILE", default_value = "violation.svg")]
    svg: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Model {
    Register,
    Kv,
    Zookeeper,
    ZookeeperLinearizable,
}

impl Check {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let source: Box<dyn Read> = if self.history.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(&self.history).with_context(|| format!("cannot read {}", self.history.display()))?)
        };
        let model = self.model.map(|model| match model {
            Model::Register => ModelKind::Register,
            Model::Kv => ModelKind::Kv,
            Model::Zookeeper => ModelKind::Zookeeper,
            Model::ZookeeperLinearizable => ModelKind::ZookeeperLinearizable,
        });
        match verity_checker::check(BufReader::new(source), model, &Limits::default())? {
            Verdict::Ok { operations: 0, .. } => {
                bail!("{} holds no operation; there is nothing to judge", self.history.display())
            }
            Verdict::Ok { operations, unknown, .. } => {
                if json {
                    println!("{}", serde_json::json!({ "ok": true, "operations": operations, "unknown": unknown }));
                } else {
                    println!("holds: {operations} operations, {unknown} of them with unknown outcome");
                }
                Ok(())
            }
            Verdict::Violation(violation) => {
                std::fs::write(&self.svg, &violation.svg)
                    .with_context(|| format!("cannot write {}", self.svg.display()))?;
                if json {
                    println!(
                        "{}",
                        serde_json::json!({
                            "ok": false, "law": violation.law, "words": violation.words,
                            "smallest": violation.smallest, "svg": self.svg,
                        })
                    );
                } else {
                    println!(
                        "{}\n\nThe smallest conflicting part is drawn in {}.",
                        violation.words,
                        self.svg.display()
                    );
                }
                bail!("the history breaks a law: {}", violation.law)
            }
            Verdict::Unknown { why } => bail!("not decided: {why}"),
        }
    }
}
