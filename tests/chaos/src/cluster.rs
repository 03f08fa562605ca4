//! Five server processes on loopback, and what can be done to them.
//!
//! - upon start: each node gets a folder, a configuration and three ports below the range that outgoing connections
//!   take theirs from, so that a client cannot sit on the port of a node that is down;
//! - upon a kill, stop or cut: it counts only once the kernel, or the node itself, says that it took effect;
//! - upon drop: every process that was started here is continued, killed and awaited. No other process is touched.
//!
//! Deliberately absent: which fault comes when; see [`crate::nemesis`].

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::run::Options;

/// How many nodes there are; all vote.
pub const NODES: usize = 5;
/// Ports are taken from here on; Linux begins outgoing ports at 32768.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// A node answers its admin API within this, or not at all.
const ADMIN_WAIT: Duration = Duration::from_secs(2);
/// A cluster in which nothing is broken serves within this.
const READY_WAIT: Duration = Duration::from_secs(60);
const KILLED: i32 = 9;

/// What `[lab] disk` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LabDisk {
    /// A kill takes what was not synced.
    Volatile,
    /// The same, and no sync does anything.
    Forgetful,
}

/// Whom the nodes serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// The znode tree, judged by the checker.
    #[value(name = "zookeeper")]
    ZooKeeper,
    /// Partitioned logs, judged by the laws of the simulator's worlds.
    Kafka,
}

/// A node, by its place from 0.
#[derive(Debug)]
struct Node {
    folder: PathBuf,
    clients: SocketAddr,
    admin: SocketAddr,
    process: Option<Child>,
    stopped: bool,
}

/// The nodes of a run.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    nodes: Vec<Mutex<Node>>,
    agent: ureq::Agent,
}

impl Cluster {
    /// Starts all nodes of a new cluster in `folder`.
    ///
    /// # Errors
    /// When the binary cannot be run, or the cluster does not serve in time.
    pub fn start(options: &Options, rng: &mut fastrand::Rng) -> Result<Self> {
        let ports = free_ports(3 * NODES, rng)?;
        let port = |node: usize, which: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[3 * node + which]));
        let peers: String = (0..NODES).map(|node| format!("{} = \"{}\"\n", node + 1, port(node, 2))).collect();
        let disk = match options.disk {
            LabDisk::Volatile => "volatile",
            LabDisk::Forgetful => "forgetful",
        };
        let agreement = &options.agreement;
        let (system, admin_port) = match options.system {
            System::ZooKeeper => ("zookeeper", "admin_port = 0\n"),
            System::Kafka => ("kafka", ""),
        };
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let home = options.folder.join(format!("node-{}", node + 1));
            fs::create_dir_all(&home)?;
            let (clients, admin, peer) = (port(node, 0), port(node, 1), port(node, 2));
            let text = format!(
                "cluster = \"chaos\"\nvoters = [1, 2, 3, 4, 5]\nagreement = \"{agreement}\"\nsystems = [\"{system}\"]\n[node]\nid = {}\n\
                 data_dir = \"{}\"\npeer = \"{peer}\"\nadmin = \"{admin}\"\n[peers]\n{peers}[{system}]\nport = {}\n\
                 {admin_port}[lab]\nenabled = true\ndisk = \"{disk}\"\n",
                node + 1,
                home.join("data").display(),
                clients.port(),
            );
            fs::write(home.join("verity.toml"), text)?;
            nodes.push(Mutex::new(Node { folder: home, clients, admin, process: None, stopped: false }));
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(ADMIN_WAIT)).http_status_as_error(false);
        let cluster = Self { binary: options.binary.clone(), nodes, agent: config.build().into() };
        (0..NODES).try_for_each(|node| cluster.restart(node))?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Where the node serves its clients.
    #[must_use]
    pub fn clients(&self, node: usize) -> SocketAddr {
        self.node(node).clients
    }

    fn node(&self, node: usize) -> std::sync::MutexGuard<'_, Node> {
        self.nodes[node].lock().expect("nobody panics while holding a node")
    }

    /// Starts a node whose process is gone.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn restart(&self, node: usize) -> Result<()> {
        let mut node = self.node(node);
        assert!(node.process.is_none(), "a node runs once");
        let log = File::options().create(true).append(true).open(node.folder.join("log"))?;
        let process = Command::new(&self.binary)
            .args(["server", "--config"])
            .arg(node.folder.join("verity.toml"))
            .env_remove("VERITY_BIN")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        node.process = Some(process);
        Ok(())
    }

    /// `kill -9`. False if the process had ended by itself before.
    ///
    /// # Errors
    /// When the process cannot be awaited.
    pub fn kill(&self, node: usize) -> Result<bool> {
        let mut node = self.node(node);
        let Some(mut process) = node.process.take() else { return Ok(false) };
        node.stopped = false;
        process.kill()?;
        Ok(process.wait()?.signal() == Some(KILLED))
    }

    /// SIGSTOP. False if the kernel does not show it stopped.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn stop(&self, node: usize) -> Result<bool> {
        let mut node = self.node(node);
        let Some(process) = &node.process else { return Ok(false) };
        let id = process.id();
        kill_process(pid(id), Signal::STOP)?;
        node.stopped = true;
        drop(node);
        for _ in 0..100 {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // The command, in parentheses, may hold spaces; the state follows it.
            if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
                return Ok(true);
            }
            sleep(Duration::from_millis(1));
        }
        Ok(false)
    }

    /// SIGCONT, if it is stopped.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn go_on(&self, node: usize) -> Result<()> {
        let mut node = self.node(node);
        if let (true, Some(process)) = (node.stopped, &node.process) {
            kill_process(pid(process.id()), Signal::CONT)?;
        }
        node.stopped = false;
        Ok(())
    }

    /// Takes away what `from` sends to `to`, or to everybody. False if the node does not say that it is so.
    #[must_use]
    pub fn cut(&self, from: usize, to: Option<usize>) -> bool {
        let fault = json!({ "fault": "partition", "from": from + 1, "to": to.map(|to| to + 1), "one_way": true });
        let said = self.fault(from, &fault).is_ok();
        said && self.status(from).is_ok_and(|status| {
            let words = status["nodes"][0]["faults"].as_array().map_or(0, Vec::len);
            words >= if to.is_some() { 1 } else { NODES - 1 }
        })
    }

    /// Heals what was cut at this node, if it runs.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn heal(&self, node: usize) -> Result<()> {
        self.fault(node, &json!({ "fault": "heal" }))
    }

    fn fault(&self, node: usize, fault: &Json) -> Result<()> {
        let (admin, folder) = {
            let node = self.node(node);
            (node.admin, node.folder.clone())
        };
        let token = fs::read_to_string(folder.join("data/admin.token")).context("the node has no token yet")?;
        let answer = self
            .agent
            .post(format!("http://{admin}/api/fault"))
            .header("Authorization", format!("Bearer {}", token.trim()))
            .send_json(fault)?;
        ensure!(answer.status().is_success(), "node {} answered {} to {fault}", node + 1, answer.status());
        Ok(())
    }

    fn status(&self, node: usize) -> Result<Json> {
        let admin = self.node(node).admin;
        let mut answer = self.agent.get(format!("http://{admin}/api/status")).call()?;
        Ok(answer.body_mut().read_json()?)
    }

    /// The node that leads, as it says itself; the highest term wins.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let claims = (0..NODES).filter(|node| self.is_up(*node)).filter_map(|node| {
            let status = self.status(node).ok()?;
            let group = &status["nodes"][0]["groups"][0];
            (group["role"] == "leader").then(|| (group["term"].as_u64().unwrap_or(0), node))
        });
        claims.max().map(|(_, node)| node)
    }

    /// True if the process runs and is not stopped.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        let node = self.node(node);
        node.process.is_some() && !node.stopped
    }

    /// Makes everything whole: stopped processes go on, cuts are healed, dead nodes start. Waits until all serve.
    ///
    /// # Errors
    /// When a node ended by itself, or the cluster does not serve in time.
    pub fn repair(&self) -> Result<()> {
        for node in 0..NODES {
            self.go_on(node)?;
            if self.node(node).process.is_none() {
                self.restart(node)?;
            }
        }
        self.wait_ready()?;
        (0..NODES).try_for_each(|node| self.heal(node))?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        let start = Instant::now();
        for node in 0..NODES {
            let admin = self.node(node).admin;
            let ready =
                || self.agent.get(format!("http://{admin}/readyz")).call().is_ok_and(|a| a.status().is_success());
            while !ready() {
                self.check_alive()?;
                ensure!(start.elapsed() < READY_WAIT, "node {} does not serve within {READY_WAIT:?}", node + 1);
                sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Fails if a process that nobody killed is gone.
    ///
    /// # Errors
    /// With the last lines of its log.
    pub fn check_alive(&self) -> Result<()> {
        for place in 0..NODES {
            let mut node = self.node(place);
            let Some(process) = &mut node.process else { continue };
            if let Some(status) = process.try_wait()? {
                let log = fs::read_to_string(node.folder.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(20).collect();
                let last: Vec<&str> = lines.into_iter().rev().collect();
                bail!("node {} ended by itself, {status}:\n{}", place + 1, last.join("\n"));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..NODES {
            // A process that is gone already is what is wanted.
            let _ = self.go_on(node);
            let _ = self.kill(node);
        }
    }
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process that was started has an id")
}

/// Ports that nobody listens on.
fn free_ports(count: usize, rng: &mut fastrand::Rng) -> Result<Vec<u16>> {
    const TRIES_MAX: usize = 10_000;
    let mut ports = Vec::new();
    for _ in 0..TRIES_MAX {
        let port = rng.u16(PORTS);
        if !ports.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    bail!("there are no {count} free ports in {PORTS:?}")
}
