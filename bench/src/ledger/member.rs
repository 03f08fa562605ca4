//! A member in a process of its own, that floods the others with requests.
//!
//! What it costs is the kernel's word about its process. It ends when whoever started it does: then its standard input ends.

use std::io::{Read as _, stdin};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use verity_pbft::liar::Lie;
use verity_types::NodeId;

use super::Plan;
use super::cluster::Cluster;
use super::gateway::Gate;

/// The process; ended when dropped.
pub(super) struct Member {
    child: Child,
}

impl Member {
    /// Starts it from this program.
    pub(super) fn start(plan: &Plan, id: NodeId, ports: &[u16]) -> Result<Self> {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let words = [
            format!("id={id}"),
            format!("nodes={}", plan.nodes),
            format!("ports={}", ports.join(",")),
            format!("dir={}", plan.directory.display()),
        ];
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ledger", "member"]).args(words).stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Self { child: command.spawn().context("a member's process does not start")? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("verity-bench: a member could not be ended: {error:#}");
        }
    }
}

/// Is that member until standard input ends.
pub(super) fn serve(plan: &Plan) -> Result<String> {
    let (id, ports) = plan.member.clone().context("a member has id= and ports=")?;
    let plan = Plan { lie: Some((Lie::Flood, id)), ..plan.clone() };
    let mut cluster = Cluster::new(&plan, ports, Arc::new(Gate::new()));
    cluster.start(id)?;
    stdin().read_to_end(&mut Vec::new())?;
    Ok(String::new())
}
