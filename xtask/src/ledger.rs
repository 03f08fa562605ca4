//! The suites of the ledger's clients, as they are, against clusters of our binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::install;
use crate::shell::{cargo, command, run, target};
use crate::suite::binary;

const FOLDER: &str = "tests/clients";

/// @cosmjs/tendermint-rpc, on node's own test runner.
pub(crate) fn cosmjs() -> Result<()> {
    let modules = install::modules("cosmjs")?;
    let (python, binary) = (install::python()?, binary()?);
    let mut pytest = command(python, &["-m", "pytest", "-q", &format!("{FOLDER}/cosmjs")]);
    run(pytest.env("VERITY", binary).env("NODE_PATH", modules))
}

/// The `tendermint-rpc` crate with `tendermint-light-client-verifier`, and requests by hand.
pub(crate) fn tendermint_rpc() -> Result<()> {
    let program = client("tendermint-rpc")?;
    let (python, binary) = (install::python()?, binary()?);
    let mut pytest = command(python, &["-m", "pytest", "-q", &format!("{FOLDER}/tendermint-rpc")]);
    run(pytest.env("VERITY", binary).env("TENDERMINT_RPC", program))
}

/// An application that others wrote for CometBFT 0.38, in processes of its own.
pub(crate) fn abci() -> Result<()> {
    let manifest = install::archive("abci", "tower-abci-0.19.1")?.join("Cargo.toml");
    install::stand_alone(&manifest)?;
    let built = std::path::absolute(target().join("xtask/abci-target"))?;
    let mut build = cargo(&["build", "--quiet", "--locked", "--example", "kvstore_38", "--manifest-path"]);
    // Debuggers have no part in it, and its warnings are not ours.
    build.env("CARGO_TARGET_DIR", &built).env("CARGO_PROFILE_DEV_DEBUG", "0").env("RUSTFLAGS", "-Awarnings");
    run(build.arg(&manifest))?;
    let (python, binary) = (install::python()?, binary()?);
    let mut pytest = command(python, &["-m", "pytest", "-q", &format!("{FOLDER}/abci")]);
    run(pytest.env("VERITY", binary).env("APPLICATION", built.join("debug/examples/kvstore_38")))
}

/// The program of a client that has a workspace of its own, built.
fn client(name: &str) -> Result<PathBuf> {
    let manifest = ["--manifest-path", &format!("{FOLDER}/{name}/Cargo.toml")].map(str::to_owned);
    let dir = std::path::absolute(target().join("clients").join(name))?;
    run(cargo(&["fmt", "--check"]).args(&manifest))?;
    run(cargo(&["build", "--quiet", "--locked"]).args(&manifest).arg("--target-dir").arg(&dir))?;
    Ok(dir.join("debug").join(format!("verity-client-{name}")))
}
