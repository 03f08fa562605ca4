//! The suites of Bitcoin: its own vectors, its own test framework, its kernel library beside us, and clients.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::install;
use crate::shell::{cargo, command, root, run, target};
use crate::suite::binary;

const FOLDER: &str = "tests/clients/bitcoin";

/// The vectors of the network's nodes, out of the archive of their own library; nothing of it is built.
fn data() -> Result<PathBuf> {
    let data = install::archive("bitcoin-vectors", "libbitcoinkernel-sys-0.4.1")?.join("bitcoin/src/test/data");
    ensure!(data.is_dir(), "{} is not there", data.display());
    Ok(data)
}

/// Scripts, transactions, signature hashes and filters with the verdicts of the network's nodes.
pub(crate) fn vectors() -> Result<()> {
    let test = ["test", "--quiet", "--package", "verity-bitcoin", "--test", "vectors", "--", "--ignored"];
    run(cargo(&test).env("BITCOIN_VECTORS", data()?))
}

/// The folder in which Core's package `test_framework` lies.
fn framework(python: &PathBuf) -> Result<PathBuf> {
    let folder = std::path::absolute(target().join("xtask/warnet"))?;
    let (mark, pinned) = (folder.join("installed.txt"), format!("{FOLDER}/framework.txt"));
    let wanted = std::fs::read_to_string(root().join(&pinned))?;
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(folder);
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target"];
    run(command(python, &pip).arg(&folder).args(["-r", &pinned]))?;
    std::fs::write(&mark, wanted)?;
    Ok(folder)
}

/// Our tests on Core's functional test framework, random trees of blocks beside its kernel library, and clients.
pub(crate) fn clients() -> Result<()> {
    let python = install::environment("bitcoin", &format!("{FOLDER}/requirements.txt"))?;
    let (framework, binary) = (framework(&python)?, binary()?);
    let mut pytest = command(&python, &["-m", "pytest", "-q", "-W", "ignore", FOLDER]);
    run(pytest
        .env("VERITY", binary)
        .env("TEST_FRAMEWORK", framework)
        .env("NODE_PATH", install::modules("bitcoinjs")?)
        .env("BITCOIN_VECTORS", data()?))
}
