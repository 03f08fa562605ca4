//! Runs commands from the root of the checkout.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// The root of the checkout. `cargo run` says which; a program in a shared target folder may have been built in another.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().expect("xtask lies in the checkout").to_path_buf()
}

/// Where build output goes.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A command that runs in the root of the checkout.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// `cargo` with these arguments, without what the `cargo` that runs us says about us: build scripts that look at it would
/// run once more, and all that rests on them be built once more, whenever it is not there.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = command(env!("CARGO"), args);
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a command to its end and shows what it prints; anything but success is an error, which ends with its last lines.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().map_err(|error| anyhow::anyhow!("cannot run {shown}: {error}"))?;
    let (stdout, stderr, last) = (child.stdout.take(), child.stderr.take(), Mutex::default());
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|stdout| show(stdout, std::io::stdout(), &last)));
        scope.spawn(|| stderr.map(|stderr| show(stderr, std::io::stderr(), &last)));
    });
    let status = child.wait()?;
    if !status.success() {
        let last = last.into_inner().unwrap_or_default();
        bail!("{shown}: {status}\n{}", Vec::from(last).concat());
    }
    Ok(())
}

/// Passes lines on, and keeps the last ones.
fn show(from: impl Read, mut to: impl Write, last: &Mutex<VecDeque<String>>) {
    const KEPT: usize = 30;
    let (mut from, mut line) = (BufReader::new(from), Vec::new());
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Where nobody listens, the command runs on.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        if let Ok(mut last) = last.lock() {
            last.push_back(String::from_utf8_lossy(&line).into_owned());
            let above = last.len().saturating_sub(KEPT);
            last.drain(..above);
        }
        line.clear();
    }
}

/// Runs a command and takes what it prints on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True if the program can be started.
pub(crate) fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|found| found.status.success())
}
