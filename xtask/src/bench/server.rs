//! The servers that are compared: Verity, and Debian's ZooKeeper, one or three of each.
//!
//! Both sync every write before they acknowledge it; both keep their data under the same directory. ZooKeeper runs
//! as Debian packages it, with the JVM's own defaults; its log goes nowhere, as no logging backend is on its path.
//!
//! Deliberately absent: tuning of either.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use verity_bench::session::Session;
use verity_bench::wire::Operation;

use crate::shell;

/// How long a server may take until it serves.
const START_MAX: Duration = Duration::from_secs(60);
/// How long one attempt may take: ZooKeeper accepts connections before it serves, and never answers those.
const ATTEMPT_MAX: Duration = Duration::from_millis(250);
/// Where Debian keeps ZooKeeper.
pub(crate) const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Verity,
    Zookeeper,
}

impl System {
    /// The two, in the order of their turns.
    pub(crate) const BOTH: [System; 2] = [System::Verity, System::Zookeeper];

    fn port_base(self) -> u16 {
        match self {
            System::Verity => 21_181,
            System::Zookeeper => 21_481,
        }
    }

    fn directory(self) -> &'static str {
        match self {
            System::Verity => "verity",
            System::Zookeeper => "zookeeper",
        }
    }
}

/// The running processes of one system; ended when dropped.
pub(crate) struct Cluster {
    children: Vec<Child>,
    pub(crate) servers: Vec<SocketAddr>,
    /// When the first process was started.
    pub(crate) started: Instant,
}

impl Cluster {
    /// Starts this many nodes on the data under `directory`, which may hold what an earlier run has left.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(crate) fn start(system: System, verity: &Path, directory: &Path, nodes: u16) -> Result<Cluster> {
        let directory = directory.join(system.directory());
        fs::create_dir_all(&directory)?;
        let stride = 1_000;
        let port = |node: u16| system.port_base() + stride * node;
        let servers = (0..nodes).map(|node| SocketAddr::from(([127, 0, 0, 1], port(node)))).collect();
        let commands = match system {
            System::Verity => {
                let mut command = Command::new(verity);
                command
                    .args(["up", "--json", "--only", "zookeeper", "--nodes", &nodes.to_string(), "--data-dir"])
                    .arg(&directory);
                command.args(["--port-offset", &(system.port_base() - 2_181).to_string()]);
                vec![command]
            }
            System::Zookeeper => {
                let configs = (0..nodes).map(|node| zookeeper_config(&directory, node, nodes, port));
                configs.map(|config| config.map(|path| zookeeper_command(&path))).collect::<Result<_>>()?
            }
        };
        let started = Instant::now();
        let mut cluster = Cluster { children: Vec::new(), servers, started };
        for (number, mut command) in commands.into_iter().enumerate() {
            let log = File::create(directory.join(format!("log-{number}")))?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
            cluster.children.push(child);
        }
        Ok(cluster)
    }

    /// Asks every server until it has done this once; says how long after the start the last one had.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time and polls for a server to come up")]
    pub(crate) fn first(&self, operation: Operation, path: &str) -> Result<Duration> {
        for &server in &self.servers {
            let attempt = || -> Result<()> {
                let mut session = Session::open_within(server, ATTEMPT_MAX)?;
                session.call(operation, path)?;
                session.close()
            };
            while let Err(error) = attempt() {
                ensure!(self.started.elapsed() < START_MAX, "{server} does not serve: {error:#}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(self.started.elapsed())
    }

    /// The ids of its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Asks every process to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        for child in &self.children {
            shell::run(&mut shell::command("kill", &["-TERM", &child.id().to_string()]))?;
        }
        for mut child in self.children.drain(..) {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("xtask: a server could not be ended: {error:#}");
        }
    }
}

fn zookeeper_command(config: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-cp", ZOOKEEPER_JAR, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(config);
    command
}

fn zookeeper_config(directory: &Path, node: u16, nodes: u16, port: impl Fn(u16) -> u16) -> Result<std::path::PathBuf> {
    let data = directory.join(format!("data-{node}"));
    fs::create_dir_all(&data)?;
    let mut text = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\nforceSync=yes\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         dataDir={}\n",
        data.display()
    );
    if nodes == 1 {
        text.push_str(&format!("clientPort={}\nclientPortAddress=127.0.0.1\n", port(node)));
    } else {
        fs::write(data.join("myid"), format!("{}\n", node + 1))?;
        let members: String = (0..nodes)
            .map(|member| {
                let client = port(member);
                let (number, quorum, election) = (member + 1, client + 1, client + 2);
                format!("server.{number}=127.0.0.1:{quorum}:{election}:participant;127.0.0.1:{client}\n")
            })
            .collect();
        let dynamic = directory.join(format!("zoo-{node}.cfg.dynamic"));
        fs::write(&dynamic, members)?;
        text.push_str(&format!("reconfigEnabled=true\ndynamicConfigFile={}\n", dynamic.display()));
    }
    let path = directory.join(format!("zoo-{node}.cfg"));
    fs::write(&path, text)?;
    Ok(path)
}
