//! A Bitcoin node as a process of its own, in Core's folders: `.cookie`, `debug.log`, `.lock`, `blocks`, `chainstate`.
//!
//! - upon a start: the folder is locked, the cookie written, and every address bound before the first call is answered;
//! - upon `stop`, SIGINT or SIGTERM: what is kept is written, the cookie is removed, and the process ends with 0.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use verity_bitcoin::session::{BitcoinConfig, BitcoinService, Log};
use verity_contract::{Door, Service};
use verity_ledger::wire::Time;
use verity_node::{Count, DoorSpec, HostClock, NodeHandle, NodeSpec};
use verity_storage::{ClusterId, Disk, RamDisk, RealDisk};
use verity_types::NodeId;

use crate::secrets;

/// How often the main thread looks for a signal, or the node's end.
const LOOK: Duration = Duration::from_millis(20);
/// A node of its own keeps no log of groups.
const LOG_BYTES: u64 = 1 << 20;

/// Where a node listens, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    /// For peers, clients or subscribers.
    pub(crate) door: Door,
    /// Where.
    pub(crate) addr: SocketAddr,
}

/// `debug.log`: each line with its moment, in UTC.
#[derive(Debug)]
pub(crate) struct DebugLog {
    /// None with `-nodebuglogfile`.
    file: Option<File>,
    micros: bool,
    clock: HostClock,
    console: bool,
}

impl DebugLog {
    /// Appends to the file, if there is to be one: what it says is nobody else's business.
    pub(crate) fn open(path: Option<&Path>, micros: bool, console: bool) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            file.map_err(|_| anyhow::anyhow!("Could not open debug log file {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, micros, clock: HostClock::new(), console })
    }
}

/// A moment as Core's log has it.
fn moment(nanos: u64, micros: bool) -> String {
    let second = Time::from_unix_nanos(nanos / 1_000_000_000 * 1_000_000_000).to_string();
    let fraction = nanos % 1_000_000_000 / 1_000;
    if micros { format!("{}.{fraction:06}Z", second.trim_end_matches('Z')) } else { second }
}

impl Log for DebugLog {
    fn line(&mut self, category: &str, text: &str) {
        let moment = moment(self.clock.now().wall.midpoint(), self.micros);
        let category = if category.is_empty() { String::new() } else { format!("[{category}] ") };
        let line = format!("{moment} {category}{text}\n");
        // A log that cannot be written stops nobody.
        let _ = self.file.as_mut().map(|file| file.write_all(line.as_bytes()));
        if self.console {
            print!("{line}");
        }
    }
}

/// The password that clients on this machine read.
pub(crate) struct Cookie {
    /// Where; nowhere for a node that keeps nothing.
    path: Option<PathBuf>,
    pub(crate) password: String,
}

impl Cookie {
    /// Writes a new one, for this user's eyes alone.
    pub(crate) fn write(path: &Path) -> Result<Self> {
        let password = secrets::random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = format!("__cookie__:{password}");
        secrets::write_private(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: Some(path.to_owned()), password })
    }

    /// One that is told by word of mouth.
    pub(crate) fn unwritten(password: String) -> Self {
        Self { path: None, password }
    }
}

impl Drop for Cookie {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It is of no use any more, wherever it is.
            let _ = fs::remove_file(path);
        }
    }
}

/// Starts a node of one service on a thread of its own.
///
/// # Errors
/// Its folder or one of its addresses cannot be had.
pub(crate) fn start(
    id: NodeId,
    disk: &Arc<dyn Disk>,
    config: BitcoinConfig,
    listen: &[Listen],
    neighbours: BTreeMap<SocketAddr, NodeId>,
    log: Box<dyn Log>,
) -> Result<NodeHandle> {
    let service = BitcoinService::open(disk, config, HostClock::new().now(), log)?;
    let figures = service.figures();
    let count = |what, count: &Arc<AtomicU64>| Count { system: "bitcoin", what, count: Arc::clone(count) };
    let doors = listen.iter().map(|listen| DoorSpec { service: 0, door: listen.door, addr: listen.addr, tls: None });
    let spec = NodeSpec {
        id,
        cluster: ClusterId(secrets::random()?),
        // No group runs here: what would be its log is empty.
        disk: Arc::new(RamDisk::default()),
        seed: secrets::seed()?,
        log_bytes: LOG_BYTES,
        peer_addr: None,
        peers: Default::default(),
        peer_tls: None,
        groups: Vec::new(),
        founder: None,
        services: vec![Box::new(move |_| Box::new(service) as Box<dyn Service>)],
        outsides: Vec::new(),
        doors: doors.collect(),
        neighbours,
        meters: Vec::new(),
        counts: vec![
            count("height", &figures.height),
            count("headers", &figures.headers),
            count("tip", &figures.tip),
            count("peers", &figures.peers),
            count("transactions", &figures.transactions),
        ],
    };
    Ok(verity_node::start(spec)?)
}

/// A node's folder, which no other process has.
pub(crate) struct Folder {
    pub(crate) disk: Arc<dyn Disk>,
    _lock: File,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // Keys are nobody else's business.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("cannot create {}", path.display()))?;
        let lock = File::create(path.join(".lock")).with_context(|| format!("cannot write to {}", path.display()))?;
        if lock.try_lock().is_err() {
            bail!("Cannot obtain a lock on directory {}. Verity is probably already running.", path.display());
        }
        Ok(Self { disk: Arc::new(RealDisk::new(path)?), _lock: lock })
    }
}

/// Waits until the node ends, or a signal ends it; `ending` is done before all is written.
pub(crate) fn wait(node: NodeHandle, ending: impl FnOnce()) -> Result<()> {
    let mut signals = super::super::cli::end_signals()?;
    while !node.has_stopped() && signals.pending().next().is_none() {
        pause(LOOK);
    }
    ending();
    node.stop().map_err(Into::into)
}

#[expect(clippy::disallowed_methods, reason = "a main thread that has nothing else to do")]
pub(super) fn pause(span: Duration) {
    std::thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use verity_bitcoin::session::Log as _;

    use super::{DebugLog, Folder, moment};

    #[test]
    fn what_a_node_keeps_is_for_its_own_user() {
        let place = tempfile::tempdir().expect("a folder");
        let own = place.path().join("a/regtest");
        let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let _folder = Folder::open(&own).expect("it is made");
        assert_eq!((mode(&own), mode(&place.path().join("a"))), (0o700, 0o700));
        let path = own.join("debug.log");
        DebugLog::open(None, false, false).expect("no file").line("", "a");
        assert!(!path.exists());
        DebugLog::open(Some(&path), false, false).expect("a file").line("net", "a");
        assert_eq!(mode(&path), 0o600);
        assert!(std::fs::read_to_string(&path).expect("a file").ends_with("Z [net] a\n"));
    }

    #[test]
    fn moments_are_civil() {
        assert_eq!(moment(0, false), "1970-01-01T00:00:00Z");
        assert_eq!(moment(951_827_696_000_000_000, false), "2000-02-29T12:34:56Z");
        assert_eq!(moment(1_798_761_599_123_456_789, true), "2026-12-31T23:59:59.123456Z");
    }
}
