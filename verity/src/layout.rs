//! What a data folder was made as, and what it therefore cannot be opened as.
//!
//! - `nodes` in the folder of `verity up`: how many nodes the cluster has. Another number would leave nodes out, or start
//!   some that nobody took in;
//! - `agreement` in each node's folder: whose records its log holds; `agreement-ledger`: whose the ledger's are.
//!
//! Both are written before the first node of a new folder opens it, and hold from the moment that it has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use verity_storage::{Disk, read_sealed, write_sealed};

use crate::compose::Agreement;
use crate::secrets;

/// A node's folder that has been opened has this file.
const IDENTITY_FILE: &str = "identity";
const NODES_FILE: &str = "nodes";
pub(crate) const AGREEMENT_FILE: &str = "agreement";
/// What the ledger runs on.
pub(crate) const LEDGER_FILE: &str = "agreement-ledger";
const AGREEMENT_MAGIC: [u8; 8] = *b"VRTYAGRE";
/// How many nodes a new cluster has, if nobody says.
const NODES_DEFAULT: u16 = 4;

/// How many nodes the cluster in `dir` has: what it was made with, or what is wished for a new one.
pub(crate) fn nodes(dir: &Path, wished: Option<u16>) -> Result<u16> {
    let opened = |node: u16| dir.join(format!("node-{node}")).join(IDENTITY_FILE).exists();
    let found = (1..u16::MAX).take_while(|node| opened(*node)).count();
    if found == 0 {
        return Ok(new_nodes(wished));
    }
    let written = fs::read_to_string(dir.join(NODES_FILE)).ok().and_then(|text| text.trim().parse().ok());
    let nodes = written.unwrap_or(u16::try_from(found).expect("they were counted in 16 bits"));
    match wished {
        Some(wished) if wished != nodes => bail!(
            "{} holds a cluster of {nodes} nodes, not {wished}; leave --nodes out, or choose another --data-dir",
            dir.display()
        ),
        _ => Ok(nodes),
    }
}

/// How many nodes a new cluster has.
pub(crate) fn new_nodes(wished: Option<u16>) -> u16 {
    wished.unwrap_or(NODES_DEFAULT)
}

/// Writes down how many nodes the cluster in `dir` has.
pub(crate) fn keep_nodes(dir: &Path, nodes: u16) -> Result<()> {
    let path = dir.join(NODES_FILE);
    secrets::write_private(&path, &nodes.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Refuses a node's folder that was made with other agreements, and writes down those of a new one. What was never written
/// down was never served.
pub(crate) fn check_agreements(disk: &dyn Disk, agreements: &[(&str, Agreement)]) -> Result<()> {
    agreements.iter().try_for_each(|(file, agreement)| check_agreement(disk, file, *agreement))
}

fn check_agreement(disk: &dyn Disk, file: &str, agreement: Agreement) -> Result<()> {
    let written = read_sealed(disk, file, AGREEMENT_MAGIC)?;
    if written.is_none() || !disk.exists(IDENTITY_FILE)? {
        return Ok(write_sealed(disk, file, AGREEMENT_MAGIC, agreement.to_string().as_bytes())?);
    }
    let made = written.and_then(|name| Agreement::from_str(std::str::from_utf8(&name).ok()?, false).ok());
    match made {
        Some(made) if made != agreement => {
            bail!("its data folder was made with {made}, not {agreement}; keep to {made}, or choose another folder")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use verity_storage::MemoryDisk;

    use super::*;

    #[test]
    fn a_folder_keeps_its_number_of_nodes() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(nodes(dir.path(), None).expect("a new folder"), NODES_DEFAULT);
        assert_eq!(nodes(dir.path(), Some(2)).expect("a new folder"), 2);
        for node in 1..=2 {
            fs::create_dir(dir.path().join(format!("node-{node}"))).expect("the folder can be written");
            fs::write(dir.path().join(format!("node-{node}/identity")), "").expect("the folder can be written");
        }
        assert_eq!(nodes(dir.path(), None).expect("as many as there are"), 2);
        keep_nodes(dir.path(), 3).expect("the folder can be written");
        assert_eq!(nodes(dir.path(), None).expect("the third was never opened"), 3);
        assert_eq!(nodes(dir.path(), Some(3)).expect("the same"), 3);
        let error = nodes(dir.path(), Some(5)).expect_err("two nodes that nobody took in");
        assert!(error.to_string().contains("3 nodes, not 5"), "{error}");
    }

    #[test]
    fn a_folder_keeps_its_agreement() {
        let disk = MemoryDisk::new();
        let check = |agreement| check_agreements(&disk, &[(AGREEMENT_FILE, agreement)]);
        check(Agreement::Paxos).expect("it is new");
        check(Agreement::Raft).expect("nobody has opened it yet");
        write_sealed(&disk, IDENTITY_FILE, *b"VRTYNODE", b"").expect("the disk works");
        check(Agreement::Raft).expect("it was made so");
        let error = check(Agreement::Paxos).expect_err("its records are not Paxos's");
        assert!(error.to_string().contains("made with raft, not paxos"), "{error}");
        check_agreements(&disk, &[(LEDGER_FILE, Agreement::Pbft)]).expect("it was never served");
        let error = check_agreements(&disk, &[(LEDGER_FILE, Agreement::Raft)]).expect_err("it was, on PBFT");
        assert!(error.to_string().contains("made with pbft, not raft"), "{error}");
    }
}
