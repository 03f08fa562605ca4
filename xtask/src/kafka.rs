//! The suites of Kafka's clients: each client as it is, against clusters of our binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::install;
use crate::shell::{cargo, command, run, target};
use crate::suite::binary;

const FOLDER: &str = "tests/clients";

/// A Python that has pytest, confluent-kafka and kafka-python.
pub(crate) fn python() -> Result<PathBuf> {
    install::environment("kafka", &format!("{FOLDER}/kafka/requirements.txt"))
}

/// kcat, confluent-kafka (librdkafka) and kafka-python, unchanged.
pub(crate) fn usual() -> Result<()> {
    install::apt(&["kafkacat"])?;
    let (python, binary) = (python()?, binary()?);
    run(command(python, &["-m", "pytest", "-q", "-W", "ignore", &format!("{FOLDER}/kafka")]).env("VERITY", binary))
}

/// The tests of librdkafka's authors. Which of them do not pass, and why, stands in `expected.txt`; anything else fails the
/// suite, an unexpected pass too. `LIBRDKAFKA_ALL=1` runs those that take minutes as well, and all parts of each.
pub(crate) fn librdkafka() -> Result<()> {
    let packages = ["gcc", "g++", "make", "pkg-config", "zlib1g-dev", "libzstd-dev", "libssl-dev", "rapidjson-dev"];
    install::apt(&packages)?;
    let sources = install::archive("librdkafka", "rdkafka-sys-4.10.0+2.12.1")?.join("librdkafka");
    let tests = sources.join("tests");
    if !tests.join("test-runner").exists() {
        // Unoptimised: what is built is used once.
        let without = ["--disable-gssapi", "--disable-curl", "--disable-lz4-ext", "--disable-optimization"];
        let jobs = format!("-j{}", std::thread::available_parallelism()?);
        let quiet =
            |step: &mut std::process::Command| run(step.current_dir(&sources).stdout(std::process::Stdio::null()));
        quiet(command("bash", &["./configure"]).args(without))?;
        quiet(&mut command("make", &[&jobs, "libs"]))?;
        quiet(&mut command("make", &[&jobs, "-C", "tests", "test-runner"]))?;
    }
    let (python, binary) = (std::path::absolute(python()?)?, binary()?);
    let mut tool = command(python, &[&format!("{FOLDER}/librdkafka/run.py")]);
    if std::env::var_os("LIBRDKAFKA_ALL").is_some() {
        tool.arg("--all");
    }
    run(tool.arg(tests).env("VERITY", binary))
}

/// kafkajs, on node's own test runner.
pub(crate) fn kafkajs() -> Result<()> {
    let modules = install::modules("kafkajs")?;
    let (python, binary) = (python()?, binary()?);
    let mut pytest = command(python, &["-m", "pytest", "-q", "-W", "ignore", &format!("{FOLDER}/kafkajs")]);
    run(pytest.env("VERITY", binary).env("NODE_PATH", modules))
}

/// The tests of rskafka's authors, unchanged.
pub(crate) fn rskafka() -> Result<()> {
    install::apt(&["gcc", "g++", "make", "pkg-config", "zlib1g-dev"])?;
    let sources = install::archive("rskafka", "rskafka-0.6.0")?;
    let manifest = sources.join("Cargo.toml");
    install::stand_alone(&manifest)?;
    // The one that they pin does not compile any more (rust-lang/rust#141402).
    run(cargo(&["update", "--quiet", "rsasl", "--precise", "2.3.1", "--manifest-path"]).arg(&manifest))?;
    let built = std::path::absolute(target().join("xtask/rskafka-target"))?;
    let mut build = cargo(&["test", "--no-run", "--quiet", "--locked", "--manifest-path"]);
    let place = |command: &mut std::process::Command| {
        // What is built is run once; debuggers have no part in it, and its warnings are not ours.
        command.env("CARGO_TARGET_DIR", &built).env("CARGO_PROFILE_DEV_DEBUG", "0").env("RUSTFLAGS", "-Awarnings");
    };
    build.arg(&manifest);
    place(&mut build);
    run(&mut build)?;
    let (python, binary) = (python()?, binary()?);
    let mut pytest = command(python, &["-m", "pytest", "-q", "-W", "ignore", &format!("{FOLDER}/rskafka")]);
    place(&mut pytest);
    run(pytest.env("VERITY", binary).env("CARGO", env!("CARGO")).env("MANIFEST", manifest))
}
