//! The suite of Bitcoin's own vectors.

use anyhow::{Result, ensure};

use crate::install;
use crate::shell::{cargo, run};

/// Scripts, transactions and signature hashes with the verdicts of the network's nodes, out of the archive of their own
/// library; nothing of it is built.
pub(crate) fn vectors() -> Result<()> {
    let data = install::archive("bitcoin-vectors", "libbitcoinkernel-sys-0.4.1")?.join("bitcoin/src/test/data");
    ensure!(data.is_dir(), "{} is not there", data.display());
    let test = ["test", "--quiet", "--package", "verity-bitcoin", "--test", "vectors", "--", "--ignored"];
    run(cargo(&test).env("BITCOIN_VECTORS", data))
}
