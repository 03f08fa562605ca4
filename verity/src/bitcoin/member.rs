//! A Bitcoin node of this process, and the way to call it.
//!
//! - upon a start: it listens before this returns;
//! - upon a drop: it ends as if its process had died.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use verity_bitcoin::session::{Log, NoLog, P2P_DOOR, RPC_DOOR};
use verity_node::NodeHandle;
use verity_storage::{Disk, RamDisk};
use verity_types::NodeId;

use super::daemon::{Cookie, DebugLog, Folder, Listen};
use super::rpc::Node as Calls;
use super::{bitcoind, daemon};
use crate::secrets;

/// What nodes of their own and of clusters are called by.
const COOKIE_USER: &str = "__cookie__";

/// Peers meet, and blocks travel, within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for nodes of this process.
///
/// # Errors
/// It takes longer than peers and blocks ever do, or they cannot be asked.
#[expect(clippy::disallowed_methods, reason = "whoever waits here has a thread for it")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !holds()? {
        ensure!(begin.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A node.
pub(crate) struct Member {
    pub(crate) handle: NodeHandle,
    pub(crate) calls: Calls,
    /// Where its peers come in.
    pub(crate) p2p: SocketAddr,
    // Behind the handle: the folder is let go once the node has ended.
    _kept: Option<(Folder, Cookie)>,
}

/// What a node keeps, and where.
pub(crate) enum Keeps {
    /// In a folder of Core's layout, the network's own.
    Folder(PathBuf),
    /// In memory that outlives it; its clients know this password.
    Memory(Arc<dyn Disk>, String),
}

impl Member {
    /// A node beside a cluster's, by these flags.
    ///
    /// # Errors
    /// Its folder or one of its addresses cannot be had.
    pub(crate) fn beside(
        id: NodeId,
        keeps: Keeps,
        flags: &[String],
        p2p: SocketAddr,
        neighbours: BTreeMap<SocketAddr, NodeId>,
    ) -> Result<Self> {
        let (disk, own, folder, cookie) = match keeps {
            Keeps::Folder(own) => {
                let folder = Folder::open(&own)?;
                let cookie = Cookie::write(&own.join(".cookie"))?;
                (Arc::clone(&folder.disk), own, Some(folder), cookie)
            }
            Keeps::Memory(disk, password) => (disk, PathBuf::new(), None, Cookie::unwritten(password)),
        };
        let log_path = own.join("debug.log");
        let log: Box<dyn Log> = match folder {
            Some(_) => Box::new(DebugLog::open(Some(&log_path), false, false)?),
            None => Box::new(NoLog),
        };
        let shown: &Path = if folder.is_some() { &log_path } else { Path::new("") };
        let (config, listen) = bitcoind::beside(flags, &own, shown, &cookie)?;
        let handle = daemon::start(id, &disk, config, &listen, neighbours, log)?;
        let rpc = listen.iter().zip(&handle.doors).find(|(listen, _)| listen.door == RPC_DOOR).map(|(_, addr)| addr);
        let rpc = rpc.map(ToString::to_string).unwrap_or_default();
        let calls = Calls::new(&rpc, COOKIE_USER, &cookie.password);
        Ok(Self { handle, calls, p2p, _kept: folder.map(|folder| (folder, cookie)) })
    }

    /// A node that keeps nothing, at ports that are free.
    ///
    /// # Errors
    /// A mistake among the flags, or there are no ports.
    pub(crate) fn in_memory(id: u64, flags: &[&str]) -> Result<Self> {
        let password = secrets::new_token()?;
        let config = bitcoind::in_memory(flags, &password)?;
        let disk: Arc<dyn Disk> = Arc::new(RamDisk::default());
        let free = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let listen = [Listen { door: RPC_DOOR, addr: free }, Listen { door: P2P_DOOR, addr: free }];
        let handle = daemon::start(NodeId(id), &disk, config, &listen, BTreeMap::new(), Box::new(NoLog))?;
        let calls = Calls::new(&handle.doors[0].to_string(), "verity", &password);
        let p2p = handle.doors[1];
        Ok(Self { handle, calls, p2p, _kept: None })
    }
}
