//! The arrows between rooms point one way, files keep to their size, every dependency has its line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// No file is longer.
const LINES_MAX: usize = 1000;

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"))
        .join("../..")
        .canonicalize()
        .expect("the checkout is there")
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON")
}

/// The room of a crate, as a place in the order of the arrows. Crates of `core` are ordered among themselves.
fn rank(folder: &str) -> Option<u32> {
    let order = [
        "core/types",
        "core/clock",
        "core/sha256d",
        "core/http",
        "core/contract",
        "core/storage",
        "proof/checker",
        "agreement/",
        "replica",
        "systems/",
        "runtime/",
        "verity",
    ];
    let at = order.iter().position(|room| folder == *room || (room.ends_with('/') && folder.starts_with(room)))?;
    u32::try_from(at).ok()
}

/// Folder and dependencies of each crate of the workspace.
fn crates() -> BTreeMap<String, (String, Vec<String>)> {
    let root = root();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    packages
        .iter()
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().expect("a manifest has a path"));
            let folder = manifest.parent().expect("a manifest has a folder").strip_prefix(&root).expect("in the tree");
            let dependencies = package["dependencies"].as_array().expect("a list");
            let names = dependencies.iter().map(|d| d["name"].as_str().expect("a name").to_owned()).collect();
            let name = package["name"].as_str().expect("a name").to_owned();
            (name, (folder.to_str().expect("plain names").to_owned(), names))
        })
        .collect()
}

/// Says what is wrong with one arrow, if anything is.
fn judge(from: &str, to: &str) -> Option<String> {
    let free = |folder: &str| ["xtask", "tests/", "bench", "fuzz"].iter().any(|room| folder.starts_with(room));
    if free(to) && !free(from) {
        return Some(format!("{from} imports {to}, which only tools and tests may"));
    }
    if free(from) {
        return None;
    }
    let (Some(from_rank), Some(to_rank)) = (rank(from), rank(to)) else {
        return Some(format!("{from} or {to} stands in no room"));
    };
    if from == "proof/checker" && to != "core/types" {
        return Some(format!("{from} imports {to}: a checker shares nothing with what it judges but the types"));
    }
    (to_rank >= from_rank).then(|| format!("{from} imports {to}, which does not stand before it"))
}

#[test]
fn arrows_point_one_way() {
    let crates = crates();
    let mut wrong = Vec::new();
    for (folder, dependencies) in crates.values() {
        for dependency in dependencies {
            if let Some((to, _)) = crates.get(dependency) {
                wrong.extend(judge(folder, to));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_arrow_would_be_seen() {
    assert!(judge("core/storage", "replica").is_some(), "upwards");
    assert!(judge("agreement/raft", "agreement/paxos").is_some(), "sideways");
    assert!(judge("proof/checker", "core/contract").is_some(), "a checker that shares code");
    assert!(judge("replica", "tests/agreement").is_some(), "into the tests");
    assert!(judge("runtime/node", "replica").is_none());
}

fn files(dir: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the tree can be listed") {
        let path = entry.expect("a folder of the tree can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "verity-data" {
                files(&path, ending, into);
            }
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

#[test]
fn files_keep_to_their_size() {
    let mut sources = Vec::new();
    files(&root(), ".rs", &mut sources);
    assert!(sources.len() > 20, "the walk found the sources");
    for path in sources {
        let lines = fs::read_to_string(&path).expect("sources are text").lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; split it by its nouns", path.display());
    }
}

#[test]
fn every_dependency_has_its_line() {
    let listed = fs::read_to_string(root().join("docs/dependencies.md")).expect("docs/dependencies.md is there");
    let crates = crates();
    for (folder, dependencies) in crates.values() {
        for name in dependencies.iter().filter(|name| !crates.contains_key(*name)) {
            assert!(
                listed.contains(&format!("`{name}`")),
                "{folder} uses {name}, which docs/dependencies.md does not explain"
            );
        }
    }
}

/// `cargo run --release -- up`, the README's first command, names no program.
#[test]
fn cargo_run_runs_verity() {
    let metadata = metadata();
    let programs = |package: &&Value| {
        let targets = package["targets"].as_array().expect("each has a list");
        targets.iter().any(|target| target["kind"][0] == "bin")
    };
    let default = metadata["workspace_default_members"].as_array().expect("a workspace has a list");
    let packages = metadata["packages"].as_array().expect("a workspace has packages");
    let run = packages.iter().filter(|package| default.contains(&package["id"])).filter(programs);
    assert_eq!(run.map(|package| &package["name"]).collect::<Vec<_>>(), ["verity"]);
}
