//! `verity server`: one node, one process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use verity_contract::Members;
use verity_node::{NodeClient, PeerTls, ServerTls};
use verity_storage::RealDisk;
use verity_types::NodeId;

use crate::admin::{Admin, AdminServer, Lab};
use crate::compose::{self, Place, Plan};
use crate::secrets;
use crate::settings::Settings;

/// How often the node is looked at, in case it stopped on its own.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
#[command(after_help = "A small verity.toml:\n  cluster = \"demo\"\n  voters = [1, 2, 3]\n  [node]\n  id = 1\n  \
    data_dir = \"data-1\"\n  peer = \"127.0.0.1:7071\"\n  admin = \"127.0.0.1:7070\"\n  [peers]\n  \
    1 = \"127.0.0.1:7071\"\n  2 = \"127.0.0.1:8071\"\n  3 = \"127.0.0.1:9071\"\n  [zookeeper]\n  port = 2181\n\n\
    VERITY_NODE__ID=2 in the environment overrides node.id, and so on.")]
pub(crate) struct Server {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "verity.toml", env = "VERITY_CONFIG")]
    config: PathBuf,
    /// Serve strangers without TLS.
    #[arg(long)]
    insecure: bool,
}

struct OneNode {
    id: NodeId,
    client: NodeClient,
    lab: bool,
}

impl Lab for OneNode {
    fn ids(&self) -> Vec<NodeId> {
        vec![self.id]
    }

    fn client(&self, id: NodeId) -> Option<NodeClient> {
        (id == self.id).then(|| self.client.clone())
    }

    fn crash(&self, id: NodeId) -> Result<()> {
        if id != self.id {
            bail!("node {id} is another process; ask its own admin API");
        }
        // What a power cut would leave is what the disk has.
        std::process::abort();
    }

    fn restart(&self, id: NodeId) -> Result<()> {
        bail!("start the process of node {id} again")
    }

    fn is_lab(&self) -> bool {
        self.lab
    }
}

impl Server {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let settings = Settings::read(&self.config)?;
        settings.check_exposure(self.insecure)?;
        let id = NodeId(settings.node.id);
        let token = secrets::admin_token(&settings.node.data_dir)?;
        let node = verity_node::start(compose::node(&plan(&settings)?, place(&settings)?)?)
            .with_context(|| format!("node {id} cannot start"))?;
        let lab = Arc::new(OneNode { id, client: node.client(), lab: settings.lab.enabled });
        let admin =
            AdminServer::start(vec![(settings.node.admin, Admin { lab, node: id, token: token.as_str().into() })])?;
        let doors: Vec<String> = node.doors.iter().map(ToString::to_string).collect();
        if json {
            println!(
                "{}",
                serde_json::json!({ "node": id.0, "doors": doors, "admin": settings.node.admin.to_string() })
            );
        } else {
            println!(
                "Verity node {id} of {:?} is up: clients at {}, admin at {}",
                settings.cluster,
                doors.join(", "),
                settings.node.admin
            );
        }
        while signals.pending().next().is_none() && !node.has_stopped() {
            wait(LOOK);
        }
        drop(admin);
        node.stop().with_context(|| format!("node {id}"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the main thread has nothing else to do")]
fn wait(span: Duration) {
    std::thread::sleep(span);
}

fn plan(settings: &Settings) -> Result<Plan> {
    let mut members = Members::of_voters(settings.voters.iter().copied().map(NodeId));
    members.learners = settings.peers()?.into_keys().filter(|peer| !members.voters.contains(peer)).collect();
    Ok(Plan { members, agreement: settings.agreement, seed: secrets::seed()?, secret: secrets::random()? })
}

fn place(settings: &Settings) -> Result<Place> {
    let tls = settings.tls.as_ref();
    let (port, tls_port) = (settings.zookeeper.port, settings.zookeeper.tls_port);
    Ok(Place {
        id: NodeId(settings.node.id),
        cluster: settings.cluster_id(),
        disk: Arc::new(RealDisk::new(&settings.node.data_dir)?),
        peer_addr: settings.node.peer,
        peers: settings.peers()?,
        peer_tls: tls.map(|tls| PeerTls::load(&tls.dir)).transpose()?,
        client_tls: tls.map(|tls| ServerTls::load(&tls.dir, false)).transpose()?,
        clients: settings.node.clients,
        port: Box::new(move |base| Ok(if base == compose::ZOOKEEPER_TLS_PORT { tls_port } else { port })),
    })
}
