//! What a data folder knows and nobody else should: the cluster's id and the admin token.
//!
//! A file is there whole or not at all: a disk that is full at the first start leaves no token that anybody could guess.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use verity_storage::ClusterId;

const CLUSTER_FILE: &str = "cluster";
const GENESIS_FILE: &str = "genesis.json";
const VALIDATOR_FILE: &str = "validator.key";
const REPLICA_FILE: &str = "replica.key";
const TOKEN_FILE: &str = "admin.token";
/// A token that is shorter can be guessed. Ours have 32 characters.
const TOKEN_CHARS_MIN: usize = 16;

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the operating system gives no random bytes")?;
    Ok(bytes)
}

/// Printable characters that nobody can guess.
pub(crate) fn nonce() -> Result<String> {
    Ok(hex(&random::<18>()?))
}

/// A random seed for the engines' timers.
pub(crate) fn seed() -> Result<u64> {
    Ok(u64::from_le_bytes(random()?))
}

/// The id of the cluster whose folder this is; a new folder gets a new one.
pub(crate) fn cluster_id(dir: &Path) -> Result<ClusterId> {
    let hex = keep(dir, CLUSTER_FILE, || Ok(hex(&random::<16>()?)))?;
    let bytes = unhex(&hex).and_then(|bytes| bytes.try_into().ok());
    let Some(bytes) = bytes else {
        bail!(
            "{} does not hold a cluster id; restore it or choose another data folder",
            dir.join(CLUSTER_FILE).display()
        );
    };
    Ok(ClusterId(bytes))
}

/// What the node of this folder signs the ledger's blocks with; a new folder gets a new one.
pub(crate) fn validator_seed(dir: &Path) -> Result<[u8; 32]> {
    seed_in(dir, VALIDATOR_FILE)
}

/// What the node of this folder signs with as a replica under PBFT; a new folder gets a new one.
pub(crate) fn replica_seed(dir: &Path) -> Result<[u8; 32]> {
    seed_in(dir, REPLICA_FILE)
}

fn seed_in(dir: &Path, file: &str) -> Result<[u8; 32]> {
    let hex = keep(dir, file, || Ok(hex(&random::<32>()?)))?;
    let seed = unhex(&hex).and_then(|bytes| bytes.try_into().ok());
    seed.with_context(|| format!("{} does not hold a key; restore it", dir.join(file).display()))
}

/// The genesis of the ledger in this folder; a new folder gets one that `make` makes.
pub(crate) fn genesis(dir: &Path, make: impl FnOnce() -> String) -> Result<String> {
    keep(dir, GENESIS_FILE, || Ok(make()))
}

/// The token that changes through the admin API need.
pub(crate) fn admin_token(dir: &Path) -> Result<String> {
    let token = keep(dir, TOKEN_FILE, new_token)?;
    if token.len() < TOKEN_CHARS_MIN {
        bail!(
            "{} holds a token of {} characters, and {TOKEN_CHARS_MIN} are the least; remove it, and a new one is made",
            dir.join(TOKEN_FILE).display(),
            token.len()
        );
    }
    Ok(token)
}

/// Reads a folder's token, if it has one.
pub(crate) fn read_admin_token(dir: &Path) -> Option<String> {
    fs::read_to_string(dir.join(TOKEN_FILE)).ok().map(|token| token.trim().to_owned())
}

/// A fresh token for a cluster without a folder.
pub(crate) fn new_token() -> Result<String> {
    Ok(hex(&random::<16>()?))
}

fn keep(dir: &Path, file: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
    let path = dir.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).with_context(|| format!("cannot create the data folder {}", dir.display()))?;
            let text = make()?;
            write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file that only its owner can read. Nobody ever sees a part of it.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || {
        let mut file = options.open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(dir)?.sync_all()
    };
    write().inspect_err(|_| {
        // What is wrong is said; a rest that cannot be removed is overwritten next time.
        let _ = fs::remove_file(&beside);
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        assert_eq!(unhex(&hex(&[0, 15, 255])), Some(vec![0, 15, 255]));
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("000"), None);
    }
}
