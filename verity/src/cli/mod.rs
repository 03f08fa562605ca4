//! The commands.

mod cert;
mod check;
mod fault;
mod server;
mod sim;
mod status;
mod tour;
mod up;

use std::io::IsTerminal as _;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

/// Verity serves every level of truth over the wire protocols that its users already speak, and lets you break it on
/// purpose and see what holds.
#[derive(Debug, Parser)]
#[command(name = "verity", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Start here:\n  verity up                     a cluster in this process, on loopback\n  \
    verity status                 what it is doing\n  verity fault partition 1      cut node 1 off, and watch your application\n  \
    verity fault heal             heal everything")]
pub(crate) struct Cli {
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
    /// How logs are written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "VERITY_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: off, error, warn, info, debug, or a filter such as verity_node=debug.
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn", env = "VERITY_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

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
    /// Break a running cluster on purpose, and heal it.
    Fault(fault::Fault),
    /// Run a cluster in a deterministic world full of faults: one seed, one history.
    Sim(sim::Sim),
    /// Watch a system's best-known recipe on a cluster of its own.
    Tour(tour::Tour),
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
            Command::Fault(fault) => fault.run(json),
            Command::Sim(sim) => sim.run(json),
            Command::Tour(tour) => tour.run(json),
            Command::Check(check) => check.run(json),
        }
    }

    /// Logs go to standard error, so that standard output stays what the command says.
    fn start_logs(&self) -> Result<()> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }
}
