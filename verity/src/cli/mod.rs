//! The commands.

mod admin;
mod bitcoin;
mod cert;
mod check;
mod evidence;
mod fault;
mod kafka;
mod node;
mod read;
mod server;
mod sim;
mod status;
mod tour;
mod up;
mod verify;

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use verity_node::TRACE;

use crate::telemetry::Spans;

/// The heading of the flags that every command has.
const EVERYWHERE: &str = "With every command";

/// Verity serves every level of truth over the wire protocols that its users already speak, and lets you break it on
/// purpose and see what holds.
#[derive(Debug, Parser)]
#[command(name = "verity", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Start here:\n  verity up                     a cluster in this process, on loopback\n  \
    verity status                 what it is doing\n  verity fault partition 1      cut node 1 off, and watch your application\n  \
    verity fault heal             heal everything")]
pub(crate) struct Cli {
    /// Print JSON, for machines.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// How logs are written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "VERITY_LOG_FORMAT", help_heading = EVERYWHERE)]
    log_format: LogFormat,
    /// What is logged: off, error, warn, info, debug, or a filter such as verity_node=debug. Without it, RUST_LOG
    /// decides; without that, warn.
    #[arg(long, global = true, value_name = "FILTER", env = "VERITY_LOG", help_heading = EVERYWHERE)]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Ctrl-C and SIGTERM. A file at its size limit fails the write, as a full disk does: the signal for it is caught.
pub(crate) fn end_signals() -> Result<Signals> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(Signals::new([SIGINT, SIGTERM])?)
}

/// What is logged if nobody says otherwise.
const LOG_DEFAULT: &str = "warn";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster in this process: loopback only, data under ./verity-data.
    Up(up::Up),
    /// Run one node of a cluster, one process a node.
    Server(server::Server),
    /// Make the certificates of a cluster.
    Cert(cert::Cert),
    /// Show nodes, groups, leaders and lag of a running cluster.
    Status(status::Status),
    /// Show, add and remove the nodes of a running cluster.
    Node(node::Node),
    /// Break a running cluster on purpose, and heal it.
    Fault(fault::Fault),
    /// Work with topics, records and groups of a Kafka cluster, Verity's or any other.
    Kafka(kafka::Kafka),
    /// Run one Bitcoin node by Core's own flags: verity bitcoind -regtest -datadir=DIR, and verity bitcoind -help.
    Bitcoind {
        /// Core's.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<String>,
    },
    /// Call a Bitcoin node, Verity's or any other, by the flags of Core's client: verity bitcoin-cli -regtest getblockcount.
    BitcoinCli {
        /// Core's, then a method and its parameters.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<String>,
    },
    /// Tell what confirmations of Bitcoin are worth.
    Bitcoin(bitcoin::Bitcoin),
    /// Run a cluster in a deterministic world full of faults: one seed, one history.
    Sim(sim::Sim),
    /// Watch a system's best-known recipe on a cluster of its own.
    Tour(tour::Tour),
    /// Show which nodes lied, and the proofs.
    Evidence(evidence::Evidence),
    /// Read a znode with the signatures of so many nodes that one of them is honest.
    Read(read::Read),
    /// Check signatures of an answer or a proof, asking nobody.
    Verify(verify::Verify),
    /// Judge a history of your own: is it linearizable, and if not, why?
    Check(check::Check),
}

impl Cli {
    pub(crate) fn run(self) -> Result<()> {
        self.start_logs()?;
        let json = self.json;
        match self.command {
            Command::Up(up) => up.run(json),
            Command::Server(server) => server.run(json),
            Command::Cert(cert) => cert.run(json),
            Command::Status(status) => status.run(json),
            Command::Node(node) => node.run(json),
            Command::Fault(fault) => fault.run(json),
            Command::Kafka(kafka) => kafka.run(json),
            Command::Bitcoind { flags } => crate::bitcoin::bitcoind::run(&flags),
            Command::BitcoinCli { flags } => std::process::exit(crate::bitcoin::client::run(&flags).into()),
            Command::Bitcoin(bitcoin) => bitcoin.run(json),
            Command::Sim(sim) => sim.run(json),
            Command::Tour(tour) => tour.run(json),
            Command::Evidence(evidence) => evidence.run(json),
            Command::Read(read) => read.run(json),
            Command::Verify(verify) => verify.run(json),
            Command::Check(check) => check.run(json),
        }
    }

    /// Logs go to standard error, so that standard output stays what the command says.
    fn start_logs(&self) -> Result<()> {
        let wanted = self.log.clone().or_else(|| std::env::var("RUST_LOG").ok());
        let wanted = wanted.as_deref().filter(|wanted| !wanted.is_empty()).unwrap_or(LOG_DEFAULT);
        let filter = tracing_subscriber::EnvFilter::try_new(wanted)
            .with_context(|| format!("{wanted:?} does not say what to log; try --log info"))?;
        // Spans for traces say again what the lines within them say.
        let filter = filter.and(filter_fn(|metadata| metadata.target() != TRACE));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match self.log_format {
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
            LogFormat::Json => lines.json().with_filter(filter).boxed(),
        };
        let traced = Targets::new().with_target(TRACE, LevelFilter::INFO);
        tracing_subscriber::registry().with(lines).with(Spans.with_filter(traced)).init();
        Ok(())
    }
}
