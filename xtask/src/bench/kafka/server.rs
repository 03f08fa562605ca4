//! The servers that are compared, and how each is started.
//!
//! - Verity durable: each batch is synced to the disk before it is acknowledged; on three nodes, to those of a majority.
//! - Verity in memory: the same, without a disk.
//! - noida-db: one process for local development, which keeps its data in memory and writes it out as it changes.
//! - Tansu: one process over a store of its user's choice; here the one in memory.
//! - Null: our own, keeps nothing.
//!
//! Deliberately absent: tuning of any of them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::shell::{cargo, command, output, run, target};

/// The port of a cluster's first node; each further node is 1000 above.
const PORT: u16 = 24_092;
/// The version that `bench/requirements.txt` asks for.
pub(super) const NOIDA_VERSION: &str = "0.2.3";
/// The version of Tansu that is built.
pub(super) const TANSU_VERSION: &str = "0.6.0";

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Durable,
    Memory,
    Noida,
    Tansu,
    Null,
}

impl System {
    /// All, in the order of their turns.
    pub(super) const ALL: [System; 5] = [System::Durable, System::Memory, System::Noida, System::Tansu, System::Null];
    /// Those that others make.
    pub(super) const PEERS: [System; 2] = [System::Noida, System::Tansu];

    /// On how many nodes it runs.
    pub(super) fn nodes(self) -> &'static [u16] {
        match self {
            System::Durable | System::Memory => &[1, 3],
            System::Noida | System::Tansu | System::Null => &[1],
        }
    }
}

/// A system on so many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) system: System,
    pub(super) nodes: u16,
}

impl Place {
    /// Every one there is.
    pub(super) fn all() -> impl Iterator<Item = Place> {
        System::ALL.into_iter().flat_map(|system| system.nodes().iter().map(move |&nodes| Place { system, nodes }))
    }

    /// As it is called in the report.
    pub(super) fn name(self) -> String {
        let name = match self.system {
            System::Durable => "Verity, durable",
            System::Memory => "Verity, in memory",
            System::Noida => "noida-db",
            System::Tansu => "Tansu",
            System::Null => "null server",
        };
        if self.nodes == 1 { name.to_owned() } else { format!("{name}, {} nodes", self.nodes) }
    }

    /// How many replicas a topic gets.
    pub(super) fn replicas(self) -> i16 {
        i16::try_from(self.nodes).expect("a cluster is small")
    }
}

/// Where the programs are.
pub(super) struct Programs {
    pub(super) verity: PathBuf,
    pub(super) bench: PathBuf,
    pub(super) noida: PathBuf,
    pub(super) tansu: PathBuf,
}

/// noida-db's program, out of its Python package.
pub(super) fn noida() -> Result<PathBuf> {
    let python = crate::install::environment("noida", "bench/requirements.txt")?;
    let ask = "import noida_db, pathlib; print(pathlib.Path(noida_db.__file__).with_name('noida-db'))";
    Ok(PathBuf::from(output(&mut command(std::path::absolute(python)?, &["-c", ask]))?.trim()))
}

/// Tansu's program: the one given, or one that cargo installs.
pub(super) fn tansu(given: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| format!("{} is not there", path.display()));
    }
    let folder = std::path::absolute(target().join("xtask/tansu"))?;
    let program = folder.join("bin/tansu");
    if !program.exists() {
        let to = folder.to_string_lossy().into_owned();
        let features = ["--no-default-features", "--features", "dynostore"];
        let words = ["install", "tansu", "--version", TANSU_VERSION, "--locked", "--root", &to];
        run(cargo(&words).args(features))?;
    }
    Ok(program)
}

/// A running server, or several in one process; ended when dropped.
pub(super) struct Server {
    child: Option<Child>,
    /// Where its first node takes clients.
    pub(super) address: SocketAddr,
    /// When it was started.
    pub(super) started: Instant,
}

impl Server {
    /// Starts it on data under `directory`.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(super) fn start(place: Place, programs: &Programs, directory: &Path) -> Result<Server> {
        let (data, log) = (directory.join("data"), File::create(directory.join("log"))?);
        let mut command = match place.system {
            System::Durable | System::Memory => {
                let mut command = Command::new(&programs.verity);
                command.args(["up", "--json", "--only", "kafka", "--nodes", &place.nodes.to_string()]);
                command.args(["--port-offset", &(PORT - 9092).to_string()]);
                if place.system == System::Memory {
                    command.arg("--ephemeral");
                } else {
                    command.arg("--data-dir").arg(data);
                }
                command
            }
            System::Noida => {
                let mut command = Command::new(&programs.noida);
                command.args(["start", "--only", "kafka", "--kafka-port", &PORT.to_string(), "--data-dir"]).arg(data);
                command
            }
            System::Tansu => {
                let address = format!("tcp://127.0.0.1:{PORT}");
                let mut command = Command::new(&programs.tansu);
                command.args(["broker", "--storage-engine", "memory://tansu/", "--listener-url", &address]);
                command.args(["--advertised-listener-url", &address]);
                command
            }
            System::Null => {
                let mut command = Command::new(&programs.bench);
                command.args(["kafka", "null", &PORT.to_string()]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(directory);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Server { child: Some(child), address: SocketAddr::from(([127, 0, 0, 1], PORT)), started })
    }

    /// The ids of its processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.child.iter().map(Child::id).collect()
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            run(&mut command("kill", &["-TERM", &child.id().to_string()]))?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("xtask: a server could not be ended: {error:#}");
        }
    }
}
