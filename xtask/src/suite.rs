//! The suites of `cargo xtask test`, in order.
//!
//! A suite that cannot run has failed; there are no skips.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::install;
use crate::shell::{cargo, command, output, root, run, target};

/// One suite.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    fast: bool,
    run: fn() -> Result<()>,
}

/// All suites.
pub(crate) const ALL: &[Suite] = &[
    Suite { name: "format", about: "rustfmt", fast: true, run: || run(&mut cargo(&["fmt", "--all", "--check"])) },
    Suite { name: "lints", about: "clippy, warnings are errors", fast: true, run: lints },
    Suite { name: "unit", about: "every crate's own tests, and the house's", fast: true, run: unit },
    Suite { name: "build", about: "the release binary", fast: true, run: build },
    Suite { name: "sim", about: "worlds full of faults; each seed in two processes", fast: true, run: sim },
    Suite { name: "kazoo", about: "the kazoo client against a running cluster", fast: false, run: kazoo },
    Suite { name: "kazoo-suite", about: "kazoo's own tests, which start our server", fast: false, run: kazoo_suite },
    Suite {
        name: "chaos",
        about: "kills, stops and cuts of real processes, judged",
        fast: false,
        run: crate::chaos::run_suite,
    },
    Suite {
        name: "kafka",
        about: "kcat, confluent-kafka and kafka-python against a running cluster",
        fast: false,
        run: crate::kafka::usual,
    },
    Suite {
        name: "librdkafka",
        about: "librdkafka's own tests against a running cluster",
        fast: false,
        run: crate::kafka::librdkafka,
    },
    Suite {
        name: "kafkajs",
        about: "the kafkajs client against a running cluster",
        fast: false,
        run: crate::kafka::kafkajs,
    },
    Suite {
        name: "rskafka",
        about: "rskafka's own tests against a running cluster",
        fast: false,
        run: crate::kafka::rskafka,
    },
    Suite {
        name: "cosmjs",
        about: "@cosmjs/tendermint-rpc against a running ledger",
        fast: false,
        run: crate::ledger::cosmjs,
    },
    Suite {
        name: "tendermint-rpc",
        about: "the tendermint-rpc crate, a light client and bad requests against a running ledger",
        fast: false,
        run: crate::ledger::tendermint_rpc,
    },
    Suite {
        name: "abci",
        about: "an application that others wrote for CometBFT, beside each node",
        fast: false,
        run: crate::ledger::abci,
    },
    Suite {
        name: "bitcoin-vectors",
        about: "scripts and transactions on which Bitcoin's nodes have said their verdict",
        fast: false,
        run: crate::bitcoin::vectors,
    },
    Suite {
        name: "bitcoin",
        about: "Core's test framework, its kernel library and clients against a running node",
        fast: false,
        run: crate::bitcoin::clients,
    },
    Suite { name: "clients", about: "clients in C, Java and Rust, and the bare wire", fast: false, run: clients },
    Suite { name: "fuzz", about: "every decoder against made-up bytes", fast: false, run: crate::fuzz::run_suite },
    Suite { name: "models", about: "every state of single-decree Paxos, within bounds", fast: false, run: models },
    Suite {
        name: "mutants",
        about: "each planted bug, caught by worlds that know of none",
        fast: false,
        run: crate::mutants::run_suite,
    },
    Suite { name: "oracle", about: "random requests, answered as ZooKeeper does", fast: false, run: oracle },
];

/// Runs the suites of these names, or all. False if one failed.
#[expect(clippy::disallowed_methods, reason = "a tool that reports how long its suites took")]
pub(crate) fn run_suites(names: &[String], fast: bool) -> Result<bool> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|suite| suite.name != name.as_str())) {
        bail!("there is no suite {unknown}; `cargo xtask test --list` names them");
    }
    let chosen = |suite: &&Suite| {
        if names.is_empty() { suite.fast || !fast } else { names.iter().any(|name| name == suite.name) }
    };
    let mut results = Vec::new();
    for suite in ALL.iter().filter(chosen) {
        println!("== {}: {}", suite.name, suite.about);
        let start = Instant::now();
        let result = (suite.run)();
        if result.is_err() {
            println!("== {} failed", suite.name);
        }
        results.push((suite.name, result, start.elapsed()));
    }
    println!();
    // What failed is told at the end, where one looks.
    for (name, error) in results.iter().filter_map(|(name, result, _)| Some((name, result.as_ref().err()?))) {
        println!("== {name} failed: {error:#}");
    }
    for (name, result, took) in &results {
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        println!("{name:<14} {word:<7} {:>7.1} s", took.as_secs_f64());
    }
    let failed = results.iter().filter(|(_, result, _)| result.is_err()).count();
    println!("\nsuites: {} passed, {failed} failed", results.len() - failed);
    Ok(failed == 0)
}

fn lints() -> Result<()> {
    install::cpp()?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn unit() -> Result<()> {
    install::cpp()?;
    run(&mut cargo(&["test", "--workspace", "--quiet", "--no-fail-fast"]))
}

/// The harness of the chaos suite is built along: by itself it would have some crates of ours built anew with other features.
fn build() -> Result<()> {
    run(&mut cargo(&["build", "--release", "--package", "verity", "--package", "verity-chaos-tests"]))
}

/// The release binary, built if it is not.
pub(crate) fn binary() -> Result<std::path::PathBuf> {
    build()?;
    let path = target().join("release/verity");
    path.canonicalize().with_context(|| format!("{} is not there", path.display()))
}

fn kazoo() -> Result<()> {
    let (python, binary) = (install::python()?, binary()?);
    run(command(python, &["-m", "pytest", "-q", "tests/clients/kazoo"]).env("VERITY", binary))
}

/// The tests that kazoo's authors wrote, with an executable `java` on PATH that starts our server. Which of them fail,
/// and why, stands in `tests/clients/kazoo_suite/expected.txt`; anything else fails the suite, an unexpected pass too.
fn kazoo_suite() -> Result<()> {
    const FOLDER: &str = "tests/clients/kazoo_suite";
    let python = install::environment("kazoo-suite", &format!("{FOLDER}/requirements.txt"))?;
    let sources = install::sources(&python, "kazoo-2.11.0", &format!("{FOLDER}/sources.txt"))?;
    // The run has a folder of its own; an interpreter's link must not be resolved, or it forgets its environment.
    let (python, sources) = (std::path::absolute(python)?, std::path::absolute(sources)?);
    let (binary, folder) = (binary()?, root().join(FOLDER));
    let temporary = target().join("xtask/kazoo-suite-data");
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary)?;
    }
    std::fs::create_dir_all(&temporary)?;
    let mut path = vec![folder.clone()];
    path.extend(python.parent().map(Path::to_path_buf));
    path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "expected", "-o", "log_cli=false"];
    let mut pytest = command(&python, &options);
    pytest.args(["--timeout=120", "--session-timeout=600", "-W", "ignore", "--tb=short", "--show-capture=no"]);
    // Their tests read at one server what they wrote at another, which no server of ZooKeeper's promises to show at once.
    pytest.args(["--reruns=1", "-rR"]);
    pytest.arg("kazoo/tests").current_dir(sources);
    pytest.env("PATH", std::env::join_paths(path)?).env("PYTHONPATH", folder).env("TMPDIR", temporary.canonicalize()?);
    // One of their tests runs only where this is set, and means the authors' own machines.
    pytest.env_remove("CI");
    pytest.env("VERITY", binary).env("ZOOKEEPER_CLASSPATH", "verity").env("ZOOKEEPER_VERSION", "3.8.0");
    run(&mut pytest)
}

/// Debian's C client and zkCli, the `zookeeper-client` crate, and requests by hand.
fn clients() -> Result<()> {
    install::apt(&["gcc", "libc6-dev", "libzookeeper-mt-dev", "default-jre-headless", "zookeeper"])?;
    let (python, binary) = (install::python()?, binary()?);
    let dir = target().join("clients");
    std::fs::create_dir_all(&dir)?;
    let (c_client, rust_client) = (dir.join("c-client"), dir.join("debug/verity-client-rust"));
    let strict = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-DTHREADED"];
    let link = ["-lzookeeper_mt", "-lpthread"];
    run(command("cc", &strict).args(["tests/clients/c/client.c", "-o"]).arg(&c_client).args(link))?;
    let manifest = ["--manifest-path", "tests/clients/rust/Cargo.toml"];
    run(cargo(&["fmt", "--check"]).args(manifest))?;
    run(cargo(&["build", "--quiet"]).args(manifest).arg("--target-dir").arg(&dir))?;
    let folders = ["c", "rust", "wire", "zkcli"].map(|client| format!("tests/clients/{client}"));
    let mut pytest = command(python, &["-m", "pytest", "-q"]);
    pytest.args(folders).env("VERITY", binary.canonicalize()?).env("C_CLIENT", c_client.canonicalize()?);
    run(pytest.env("RUST_CLIENT", rust_client.canonicalize()?))
}

/// What takes minutes without optimisation.
fn models() -> Result<()> {
    run(&mut cargo(&["test", "--release", "--quiet", "--package", "verity-paxos", "--", "--ignored"]))
}

/// Debian's ZooKeeper beside ours; the tests fail where it does not start.
fn oracle() -> Result<()> {
    install::apt(&["default-jre-headless", "zookeeper"])?;
    let (python, binary) = (install::python()?, binary()?);
    let seed = std::env::var("ORACLE_SEED").unwrap_or_else(|_| "1".into());
    run(command(python, &["-m", "pytest", "-q", "tests/oracle"]).env("VERITY", binary).env("ORACLE_SEED", seed))
}

/// Worlds from a fresh seed, of each system on each agreement; every seed once more in another process, whose trace must be
/// the same.
fn sim() -> Result<()> {
    /// So many more of ZooKeeper's have their whole history judged by the checker.
    const CHECKED: u64 = 20;
    let binary = binary()?;
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() % 1_000_000_000;
    const TRUSTING: &[&str] = &["raft", "paxos"];
    // Of five nodes not all host every partition of Kafka's, so that they move.
    let kinds = [
        ("zookeeper", "3", 40u64, TRUSTING, None),
        ("kafka", "3", 12, TRUSTING, None),
        ("kafka", "5", 12, TRUSTING, None),
        ("ledger", "4", 12, TRUSTING, None),
        ("zookeeper", "4", 24, &["pbft"], None),
        ("kafka", "4", 8, &["pbft"], None),
        ("ledger", "4", 12, &["pbft"], None),
        // No agreement among members: the flag says nothing there.
        ("bitcoin", "3", 20, &["raft"], None),
        ("bitcoin", "5", 10, &["raft"], None),
        // Topics on another agreement than the nodes.
        ("kafka", "5", 6, TRUSTING, Some("pbft")),
        ("kafka", "5", 6, &["raft"], Some("paxos")),
    ];
    for (system, nodes, worlds, agreements, topics) in kinds {
        let own: Vec<&str> = topics.iter().flat_map(|own| ["--topic-agreement", own]).collect();
        let with = topics.map(|own| format!(", with topics on {own}")).unwrap_or_default();
        for agreement in agreements {
            let (first, count) = (seed.to_string(), worlds.to_string());
            let flags = ["sim", "--json", "--seed", &first, "--seeds", &count, "--agreement", agreement];
            let run = || output(command(&binary, &flags).args(["--system", system, "--nodes", nodes]).args(&own));
            let (one, other) = (run()?, run()?);
            // The last line tells how fast they were, which differs.
            let verdicts = one.lines().zip(other.lines()).filter(|(line, _)| line.contains("\"verdict\""));
            if let Some((line, again)) = verdicts.into_iter().find(|(line, again)| line != again) {
                bail!("one seed gave two histories:\n{line}\n{again}");
            }
            println!(
                "{system} on {agreement}{with}: {worlds} worlds of {nodes} nodes from seed {seed} hold, each with one trace in two \
                 processes"
            );
        }
    }
    for agreement in ["raft", "paxos"] {
        let count = CHECKED.to_string();
        run(&mut command(&binary, &["sim", "--check", "--seed", "1", "--seeds", &count, "--agreement", agreement]))?;
    }
    Ok(())
}
