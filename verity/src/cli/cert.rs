//! `verity cert`: the certificates of a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use verity_node::Issued;
use verity_types::NodeId;

use crate::secrets;

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity cert ca --cluster production --dir ca           once; keep ca.key away from the nodes\n  \
    verity cert node --id 1 --dir tls-1 --host 10.0.0.1 --host db1.example\n  \
    verity cert client --name alice --dir alice            for the TLS port, and access lists of scheme x509\n\
    A node is met at localhost and at the names and addresses that --host gives it."
)]
pub(crate) struct Cert {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Make a cluster's certificate authority: ca.pem and ca.key.
    Ca {
        /// The cluster's name.
        #[arg(long, default_value = "verity")]
        cluster: String,
        /// Where the files go. Keep ca.key away from the nodes.
        #[arg(long, default_value = "ca")]
        dir: PathBuf,
    },
    /// Make a node's certificate: ca.pem, node.pem and node.key, for `[tls] dir`.
    Node {
        /// The node.
        #[arg(long)]
        id: u64,
        /// A further name or address under which clients reach it.
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
        /// The folder of the authority.
        #[arg(long, default_value = "ca")]
        ca: PathBuf,
        /// Where the files go.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make a client's certificate: ca.pem, client.pem and client.key.
    Client {
        /// The client's name, which access lists of scheme x509 call CN=<name>.
        #[arg(long)]
        name: String,
        /// The folder of the authority.
        #[arg(long, default_value = "ca")]
        ca: PathBuf,
        /// Where the files go.
        #[arg(long)]
        dir: PathBuf,
    },
}

impl Cert {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let made = match self.kind {
            Kind::Ca { cluster, dir } => {
                let ca = verity_node::make_ca(&cluster)?;
                write(&dir, &[("ca.pem", &ca.certificate), ("ca.key", &ca.key)])?
            }
            Kind::Node { id, host, ca, dir } => {
                let ca = read_ca(&ca)?;
                let node = verity_node::issue_node(&ca, NodeId(id), &host)?;
                write(&dir, &[("ca.pem", &ca.certificate), ("node.pem", &node.certificate), ("node.key", &node.key)])?
            }
            Kind::Client { name, ca, dir } => {
                let ca = read_ca(&ca)?;
                let client = verity_node::issue_client(&ca, &name)?;
                let files =
                    [("ca.pem", &ca.certificate), ("client.pem", &client.certificate), ("client.key", &client.key)];
                write(&dir, &files)?
            }
        };
        if json {
            println!("{}", serde_json::json!({ "files": made }));
        } else {
            made.iter().for_each(|path| println!("{}", path.display()));
        }
        Ok(())
    }
}

pub(crate) fn read_ca(dir: &Path) -> Result<Issued> {
    let read = |file: &str| {
        let path = dir.join(file);
        std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}; make an authority with `verity cert ca`", path.display()))
    };
    Ok(Issued { certificate: read("ca.pem")?, key: read("ca.key")? })
}

fn write(dir: &Path, files: &[(&str, &String)]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut made = Vec::new();
    for (name, text) in files {
        let path = dir.join(name);
        secrets::write_private(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        made.push(path);
    }
    Ok(made)
}
