//! The servers of an ensemble, as `/zookeeper/config` writes them and `reconfig` changes them.
//!
//! ```text
//! server.<id>=<host>:<peer port>:<election port>:<participant | observer>;<client host>:<client port>
//! version=<hexadecimal: the transaction that made it>
//! ```
//! - upon a list of joining and leaving servers: those that leave go, those that join come, or replace what had their id;
//! - upon a list of members: it is the new ensemble;
//! - upon an address that two servers claim, an id that is none, or an ensemble without a participant: refused.
//!
//! A participant votes in the tree's group; an observer learns. The peer port is where nodes meet; the election port is
//! kept as text, since elections go over the same connections.
//!
//! Deliberately absent: hierarchical quorums, and several addresses of one server.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use verity_contract::Members;
use verity_types::NodeId;

use crate::wire::{ErrorCode, ReconfigRequest};

/// The most servers of an ensemble.
pub const SERVER_COUNT_MAX: usize = 255;

/// One server's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where its peers meet it: `host:port`.
    pub peer: String,
    /// The port that ZooKeeper's elections would use.
    pub election: u16,
    /// It learns and does not vote.
    pub observer: bool,
    /// Where its clients meet it: `host:port`.
    pub client: String,
}

/// All servers, and which transaction made it so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ensemble {
    /// By id.
    pub servers: BTreeMap<NodeId, Server>,
    /// The transaction.
    pub version: i64,
}

/// Splits `host:port`, with `[...]` around a host that has colons.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host, port.parse().ok()?)).filter(|(host, _)| is_host(host))
}

fn is_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let (name, colons) = bare.map_or((host, false), |bare| (bare, true));
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b) || (colons && b == b':'))
}

/// True for an address that stands for all of a machine's, which two servers may share.
fn is_any(address: &str) -> bool {
    address.starts_with("0.0.0.0:") || address.starts_with("[::]:")
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let (own, client) = text.trim().split_once(';')?;
        let (own, observer) = match own.rsplit_once(':')? {
            (rest, "observer") => (rest, true),
            (rest, "participant") => (rest, false),
            _ => (own, false),
        };
        let (peer, election) = own.rsplit_once(':')?;
        host_and_port(peer)?;
        let client = match client.parse::<u16>() {
            Ok(port) => format!("0.0.0.0:{port}"),
            Err(_) => host_and_port(client).map(|_| client.to_owned())?,
        };
        Some(Self { peer: peer.to_owned(), election: election.parse().ok()?, observer, client })
    }

    fn clashes(&self, other: &Self) -> bool {
        let election = |server: &Self| {
            let host = server.peer.rsplit_once(':').map_or("", |(host, _)| host);
            format!("{host}:{}", server.election)
        };
        let of = |server: &Self| {
            let all = [server.peer.clone(), election(server), server.client.clone()];
            all.into_iter().filter(|address| !is_any(address)).collect::<Vec<_>>()
        };
        let theirs = of(other);
        of(self).iter().any(|address| theirs.contains(address))
    }
}

impl Ensemble {
    /// Reads what [`Ensemble::to_text`] writes, or a person did: lines or commas part the servers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut ensemble = Self::default();
        for line in text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix("version=") {
                Some(version) => ensemble.version = i64::from_str_radix(version, 16).ok()?,
                None => ensemble.join(line)?,
            }
        }
        Some(ensemble)
    }

    /// The text of `/zookeeper/config`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (id, Server { peer, election, observer, client }) in &self.servers {
            let role = if *observer { "observer" } else { "participant" };
            writeln!(out, "server.{id}={peer}:{election}:{role};{client}").expect("writing to a string succeeds");
        }
        write!(out, "version={:x}", self.version).expect("writing to a string succeeds");
        out
    }

    fn join(&mut self, line: &str) -> Option<()> {
        let (name, server) = line.split_once('=')?;
        let id = name.trim().strip_prefix("server.")?.parse().ok().filter(|id| *id > 0).map(NodeId)?;
        let server = Server::parse(server)?;
        if self.servers.iter().any(|(other, theirs)| *other != id && theirs.clashes(&server)) {
            return None;
        }
        self.servers.insert(id, server);
        Some(())
    }

    fn leave(&mut self, id: &str) -> Option<()> {
        self.servers.remove(&NodeId(id.trim().parse().ok()?));
        Some(())
    }

    /// What follows from a request, as of transaction `version`.
    ///
    /// # Errors
    /// [`ErrorCode::BadArguments`].
    pub fn change(&self, request: &ReconfigRequest<'_>, version: i64) -> Result<Self, ErrorCode> {
        let next = if request.members.is_empty() { self.step(request) } else { Self::parse(request.members) };
        let next = next.ok_or(ErrorCode::BadArguments)?;
        if next.servers.len() > SERVER_COUNT_MAX || next.members().voters.is_empty() {
            return Err(ErrorCode::BadArguments);
        }
        Ok(Self { version, ..next })
    }

    fn step(&self, request: &ReconfigRequest<'_>) -> Option<Self> {
        let mut next = self.clone();
        let parts = |text: &'_ str| text.split(',').filter(|part| !part.trim().is_empty()).map(str::to_owned).collect();
        let (leaving, joining): (Vec<String>, Vec<String>) = (parts(request.leaving), parts(request.joining));
        for id in leaving {
            next.leave(&id)?;
        }
        for line in joining {
            next.join(&line)?;
        }
        Some(next)
    }

    /// Who votes and who learns.
    #[must_use]
    pub fn members(&self) -> Members {
        let of = |observer| self.servers.iter().filter(move |(_, s)| s.observer == observer).map(|(id, _)| *id);
        Members { learners: of(true).collect(), ..Members::of_voters(of(false)) }
    }

    /// Where each server is met by its peers.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        self.servers.iter().map(|(id, server)| (*id, server.peer.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "server.1=a:1:2:participant;a:3\nserver.2=b:1:2:participant;0.0.0.0:3\nversion=1f";

    fn change<'a>(joining: &'a str, leaving: &'a str, members: &'a str) -> Result<String, ErrorCode> {
        let old = Ensemble::parse(TWO).expect("it is one");
        let request = ReconfigRequest { joining, leaving, members, config: -1 };
        old.change(&request, 0x20).map(|next| next.to_text())
    }

    #[test]
    fn text_round_trips() {
        let two = Ensemble::parse(TWO).expect("it is one");
        assert_eq!(two.to_text(), TWO);
        assert_eq!(two.version, 0x1f);
        assert_eq!(two.addresses()[&NodeId(2)], "b:1");
        let spoken = Ensemble::parse("server.7=[::1]:1:2;2181").expect("role and client host may be left out");
        assert_eq!(spoken.to_text(), "server.7=[::1]:1:2:participant;0.0.0.0:2181\nversion=0");
    }

    #[test]
    fn servers_join_and_leave() {
        let three = change("server.3=c:1:2:observer;c:3", "", "").expect("a third");
        assert_eq!(three, format!("{}server.3=c:1:2:observer;c:3\nversion=20", TWO.trim_end_matches("version=1f")));
        assert_eq!(
            change("", "2,9", "").expect("ids that are not there"),
            "server.1=a:1:2:participant;a:3\nversion=20"
        );
        let moved = change("server.1=d:1:2:participant;d:3", "", "").expect("an id that is there is replaced");
        assert!(moved.starts_with("server.1=d:1"), "{moved}");
        let other = change("", "", "server.4=x:1:2;3,server.5=y:1:2:observer;3").expect("a whole list");
        assert_eq!(Ensemble::parse(&other).expect("ours").members().voters.len(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let joining = [
            "some thing",
            "server.3=c:1:2:observer",
            "server.x=c:1:2;3",
            "server.0=c:1:2;3",
            "server.3=c:1;3",
            "server.3=c:1:2:boss;3",
            "server.3=c d:1:2;3",
            "server.3=c:99999:2;3",
            "server.3=a:1:9:observer;c:3",
            "server.3=c:1:2;a:3",
        ];
        for joining in joining {
            assert_eq!(change(joining, "", ""), Err(ErrorCode::BadArguments), "{joining}");
        }
        assert_eq!(change("", "two", ""), Err(ErrorCode::BadArguments));
        assert_eq!(change("", "1,2", ""), Err(ErrorCode::BadArguments), "nobody is left");
        assert_eq!(change("", "", "server.1=a:1:2:observer;3"), Err(ErrorCode::BadArguments), "nobody votes");
    }
}
