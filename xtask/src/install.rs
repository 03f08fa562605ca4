//! What the suites need beyond cargo: a Python environment with clients, and Debian packages of peers.
//!
//! Everything lands beside the build output, or through the system's package manager; nothing in the checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, command, has, output, root, run, target};

/// The Python of an environment that holds what `tests/requirements.txt` lists.
pub(crate) fn python() -> Result<PathBuf> {
    environment("venv", "tests/requirements.txt")
}

/// The Python of the environment of this name, which holds what a file of the checkout lists.
pub(crate) fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(root().join(requirements))?;
    let venv = target().join("xtask").join(name);
    let python = venv.join("bin/python");
    let mark = venv.join("installed.txt");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !has("python3") {
        apt(&["python3", "python3-venv"])?;
    }
    let dir = venv.to_string_lossy().into_owned();
    if run(&mut command("python3", &["-m", "venv", "--clear", &dir])).is_err() {
        apt(&["python3-venv"])?;
        run(&mut command("python3", &["-m", "venv", "--clear", &dir]))?;
    }
    run(&mut command(&python, &["-m", "pip", "install", "--quiet", "-r", requirements]))?;
    std::fs::write(&mark, wanted)?;
    Ok(python)
}

/// The modules of npm that `tests/clients/CLIENT/package-lock.json` pins by their hashes.
pub(crate) fn modules(client: &str) -> Result<PathBuf> {
    if !has("node") || !has("npm") {
        apt(&["nodejs", "npm"])?;
    }
    let folder = target().join("xtask").join(client);
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(root().join("tests/clients").join(client).join(file), folder.join(file))?;
    }
    run(command("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder))?;
    Ok(std::path::absolute(folder.join("node_modules"))?)
}

/// The unpacked sources of the Python package that a file of the checkout pins by its hash.
pub(crate) fn sources(python: &Path, package: &str, pinned: &str) -> Result<PathBuf> {
    let folder = target().join("xtask/sources");
    let (unpacked, mark) = (folder.join(package), folder.join(format!("{package}.txt")));
    let wanted = std::fs::read_to_string(root().join(pinned))?;
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(unpacked);
    }
    let dir = folder.to_string_lossy().into_owned();
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"];
    run(command(python, &pip).args(["-d", &dir, "-r", pinned]))?;
    run(&mut command("tar", &["xzf", &format!("{dir}/{package}.tar.gz"), "-C", &dir]))?;
    std::fs::write(&mark, wanted)?;
    Ok(unpacked)
}

/// The unpacked archive of a crate that `tests/clients/CLIENT/Cargo.lock` pins by its hash: a copy that may be built in.
pub(crate) fn archive(client: &str, package: &str) -> Result<PathBuf> {
    let manifest = format!("tests/clients/{client}/Cargo.toml");
    let folder = std::path::absolute(target().join("xtask/archives").join(client))?;
    let (unpacked, mark) = (folder.join(package), folder.join(format!("{package}.txt")));
    let wanted = std::fs::read_to_string(root().join(&manifest).with_extension("lock"))?;
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(unpacked);
    }
    // What was built in it goes as well.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let vendor = ["vendor", "--quiet", "--locked", "--versioned-dirs", "--manifest-path", &manifest];
    run(cargo(&vendor).arg(&folder).stdout(std::process::Stdio::null()))?;
    std::fs::write(&mark, wanted)?;
    Ok(unpacked)
}

/// Lest cargo takes the package for a member of our workspace, below whose folder it may lie.
pub(crate) fn stand_alone(manifest: &Path) -> Result<()> {
    const TABLE: &str = "\n[workspace]\n";
    let text = std::fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    if !text.ends_with(TABLE) {
        std::fs::write(manifest, text + TABLE)?;
    }
    Ok(())
}

/// A C++ compiler, which libFuzzer and the library that our scripts are compared with are built by.
pub(crate) fn cpp() -> Result<()> {
    if has("c++") { Ok(()) } else { apt(&["g++"]) }
}

/// Installs Debian packages that are not there yet.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !has("apt-get") {
        bail!("this suite needs {}; install what provides them on this system", missing.join(", "));
    }
    let sudo: &[&str] = if output(&mut command("id", &["-u"]))?.trim() == "0" { &[] } else { &["sudo"] };
    let apt_get = |args: &[&str]| {
        let line: Vec<&str> = sudo.iter().copied().chain(["apt-get"]).chain(args.iter().copied()).collect();
        run(command(line[0], &line[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null()))
    };
    apt_get(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(&install)
}

fn installed(package: &str) -> bool {
    let query = command("dpkg-query", &["-W", "-f", "${Status}", package]).output();
    query.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("install ok installed"))
}
