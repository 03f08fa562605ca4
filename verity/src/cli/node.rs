//! `verity node`: who takes part in a cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use verity_pbft::Keys;
use verity_types::NodeId;

use crate::admin::{Member, MembersReport, MembersRequest};
use crate::cli::admin::AdminArgs;
use crate::cli::cert::read_ca;
use crate::join::{Credentials, JoinToken};
use crate::secrets;

#[derive(Args, Debug)]
#[command(
    after_help = "A node joins in two steps:\n  verity node token 5 > token           on a machine that reaches the cluster\n  \
    verity server --join @token --data-dir data-5 --peer 127.0.0.1:11071    on the new one"
)]
pub(crate) struct Node {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Show the members.
    List,
    /// Show the public key with which the node of a data folder signs under PBFT, for [pbft.keys]. A new folder gets one.
    Key {
        /// The data folder.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Show the public keys with which the nodes sign under PBFT, for `verity verify`.
    Keys,
    /// Make a join token for a new node.
    Token {
        /// The new node's id.
        id: u64,
        /// The folder of the certificate authority, for a cluster with TLS.
        #[arg(long, value_name = "DIR")]
        ca: Option<PathBuf>,
        /// A further name or address under which clients reach the new node.
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
    },
    /// Take in a node that runs and waits, or change one that is a member.
    Add {
        /// Its id.
        id: u64,
        /// Where its peers meet it.
        #[arg(long, value_name = "HOST:PORT")]
        peer: String,
        /// Where its ZooKeeper clients meet it.
        #[arg(long, value_name = "HOST:PORT")]
        client: String,
        /// It learns and does not vote.
        #[arg(long)]
        observer: bool,
    },
    /// Let a member go.
    Remove {
        /// Its id.
        id: u64,
    },
}

impl Node {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let request = match &self.kind {
            Kind::Key { data_dir } => return show_key(data_dir, json),
            Kind::Keys => {
                println!("{}", serde_json::to_string(&self.admin.get::<BTreeMap<String, String>>("/api/keys")?)?);
                return Ok(());
            }
            Kind::List => return show(&self.list()?, json),
            Kind::Token { id, ca, host } => return self.make_token(*id, ca.as_ref(), host, json),
            Kind::Add { id, peer, client, observer } => {
                let member = Member { id: *id, peer: peer.clone(), client: client.clone(), observer: *observer };
                MembersRequest { join: vec![member], leave: Vec::new() }
            }
            Kind::Remove { id } => {
                if !self.list()?.members.iter().any(|member| member.id == *id) {
                    bail!("node {id} is no member; `verity node list` shows who is");
                }
                MembersRequest { join: Vec::new(), leave: vec![*id] }
            }
        };
        show(&self.admin.change("/api/members", &request)?, json)
    }

    fn list(&self) -> Result<MembersReport> {
        self.admin.get("/api/members")
    }

    fn make_token(&self, id: u64, ca: Option<&PathBuf>, hosts: &[String], json: bool) -> Result<()> {
        let MembersReport { about, members, switches, .. } = self.list()?;
        if id == 0 || members.iter().any(|member| member.id == id) {
            bail!("the new node needs an id of its own; {id} is taken or 0");
        }
        let credentials = match ca {
            None if about.tls => bail!("the cluster uses TLS; name the folder of its authority with --ca"),
            None => None,
            Some(dir) => {
                let ca = read_ca(dir)?;
                let node = verity_node::issue_node(&ca, NodeId(id), hosts)?;
                Some(Credentials { ca: ca.certificate, certificate: node.certificate, key: node.key })
            }
        };
        let peers = members.into_iter().map(|member| (member.id, member.peer)).collect();
        let token = JoinToken { cluster: about.cluster, agreement: about.agreement, id, peers, switches, credentials }
            .encode()?;
        if json {
            println!("{}", serde_json::json!({ "token": token }));
        } else {
            println!("{token}");
        }
        Ok(())
    }
}

fn show_key(data_dir: &Path, json: bool) -> Result<()> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("cannot create {}", data_dir.display()))?;
    let key = STANDARD.encode(Keys::public_of(secrets::replica_seed(data_dir)?));
    println!("{}", if json { serde_json::json!({ "key": key }).to_string() } else { key });
    Ok(())
}

fn show(report: &MembersReport, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{}", table(report));
    }
    Ok(())
}

fn table(report: &MembersReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{:<6} {:<12} {:<24} clients", "node", "role", "peers");
    for Member { id, peer, client, observer } in &report.members {
        let role = if *observer { "observer" } else { "participant" };
        let _ = writeln!(out, "{id:<6} {role:<12} {peer:<24} {client}");
    }
    if report.alone {
        let _ = writeln!(out, "the node that was asked knows no leader; this may be old, and another node knows more");
    }
    if report.changing {
        let _ = writeln!(out, "a change is under way");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_everybody() {
        let member = |id, observer| Member { id, peer: format!("h{id}:1"), client: format!("h{id}:2"), observer };
        let members = vec![member(1, false), member(2, true)];
        let text = table(&MembersReport { members, changing: true, ..MembersReport::default() });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("1      participant  h1:1"), "{text}");
        assert!(lines[2].contains("observer") && lines[2].ends_with("h2:2"), "{text}");
    }
}
