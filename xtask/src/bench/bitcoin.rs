//! `cargo xtask bench bitcoin`: a node of ours beside Bitcoin Core's kernel library, on the same disk, in turns.
//!
//! - The same blocks are taken in by both, with as many threads for scripts as there are processors; a round is one turn each,
//!   and the median of the full blocks is what a turn reports.
//! - Calls, starts, memory and syncs are of processes of ours: the library has none of them.
//!
//! Deliberately absent: Bitcoin Core itself, which is in no package registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use verity_bench::process;

use super::target::{Target, at_most, section};
use super::{Pairs, built, load_average, machine, median, pairs, value};
use crate::install;
use crate::shell::{command, output, root, target};

/// Blocks without payments that a peer is sent.
const EMPTY_BLOCKS: u64 = 10_000;
/// A node that is not there within this does not come.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a node idles before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
const RPC_PORT: u16 = 28_443;
const PASSWORD: &str = "bench:bench";

#[derive(Args)]
pub(crate) struct Options {
    /// Rounds: one turn of each side.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Full blocks that are judged.
    #[arg(long, default_value_t = 40)]
    blocks: usize,
    /// Full blocks that a peer is sent.
    #[arg(long, default_value_t = 500)]
    sync_blocks: usize,
    /// Seconds of each turn of signatures, calls and hashes.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// A Verity binary to measure; built if not given.
    #[arg(long, env = "VERITY")]
    binary: Option<PathBuf>,
    /// A load tool; built if not given.
    #[arg(long, env = "VERITY_BENCH")]
    client: Option<PathBuf>,
}

/// What was measured.
#[derive(Default)]
struct Figures {
    ours: Vec<Pairs>,
    kernel: Vec<Pairs>,
    signatures: Vec<Pairs>,
    calls: Vec<f64>,
    /// By `sha2` and by ours, in MH/s.
    hashes: Vec<(String, f64)>,
    ready_ms: Vec<f64>,
    idle_mib: f64,
    sync_empty_s: f64,
    sync_full_s: f64,
}

struct Bench {
    options: Options,
    verity: PathBuf,
    client: PathBuf,
    python: PathBuf,
    directory: PathBuf,
}

/// A node of ours, which ends with this.
struct Node {
    child: Child,
    bench: PathBuf,
    rpc: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark lets a server settle")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

impl Node {
    fn start(bench: &Bench, name: &str, at: u16, flags: &[String]) -> Result<(Self, Duration)> {
        let folder = bench.directory.join(name);
        fs::create_dir_all(&folder)?;
        let rpc = RPC_PORT + 2 * at;
        let own = [
            "bitcoind".to_owned(),
            "-regtest".to_owned(),
            format!("-datadir={}", folder.display()),
            format!("-rpcport={rpc}"),
            format!("-port={}", rpc + 1),
            "-rpcuser=bench".to_owned(),
            "-rpcpassword=bench".to_owned(),
        ];
        let begin = now();
        let mut line = command(&bench.verity, &[]);
        let child = line.args(&own).args(flags).stdout(Stdio::null()).spawn()?;
        let node = Self { child, bench: bench.client.clone(), rpc };
        while std::net::TcpStream::connect(("127.0.0.1", rpc)).is_err() {
            ensure!(begin.elapsed() < PATIENCE, "the node does not answer");
            pause(Duration::from_millis(1));
        }
        node.call("getblockcount", "[]")?;
        Ok((node, begin.elapsed()))
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.rpc)
    }

    /// One call, by its result in JSON.
    fn call(&self, method: &str, params: &str) -> Result<String> {
        output(&mut command(&self.bench, &["bitcoin", "call", &self.address(), PASSWORD, method, params]))
    }

    fn height(&self) -> Result<u64> {
        self.call("getblockcount", "[]")?.trim().parse().context("a height is a number")
    }

    fn wait_for(&self, height: u64) -> Result<Duration> {
        let begin = now();
        while self.height()? < height {
            ensure!(begin.elapsed() < PATIENCE, "the node stays at {}", self.height()?);
            pause(Duration::from_millis(20));
        }
        Ok(begin.elapsed())
    }
}

/// Runs the comparison and writes `docs/benchmarks/bitcoin.md` and `.svg`.
pub(crate) fn bitcoin(options: Options) -> Result<()> {
    ensure!(
        options.rounds > 0 && options.blocks > 1 && options.sync_blocks > 1,
        "a comparison takes blocks and a round"
    );
    let python = install::environment("bitcoin", "tests/clients/bitcoin/requirements.txt")?;
    let (verity, client) = (built(&options.binary, "verity")?, built(&options.client, "verity-bench")?);
    let directory = target().join("xtask/bench-bitcoin");
    let bench = Bench { options, verity, client, python, directory };
    let (begin, before) = (now(), load_average()?);
    let figures = bench.run()?;
    let conditions = format!(
        "{}; {} rounds; {} full blocks. Load average (1, 5, 15 minutes) before the run: {before}; after: {}. The run took {:.0} s.",
        machine(),
        bench.options.rounds,
        bench.options.blocks,
        load_average()?,
        begin.elapsed().as_secs_f64(),
    );
    report(&root().join("docs/benchmarks"), &figures, bench.options.sync_blocks, &conditions)?;
    fs::remove_dir_all(&bench.directory)?;
    Ok(())
}

impl Bench {
    fn clear(&self) -> Result<()> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        Ok(fs::create_dir_all(&self.directory)?)
    }

    fn make(&self, name: &str, blocks: usize) -> Result<String> {
        let file = self.directory.join(name).to_string_lossy().into_owned();
        output(&mut command(&self.client, &["bitcoin", "make", &file, &blocks.to_string()]))?;
        Ok(file)
    }

    fn run(&self) -> Result<Figures> {
        self.clear()?;
        let mut figures = Figures::default();
        let file = self.make("blocks", self.options.blocks)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let (seconds, folder) = (self.options.seconds.to_string(), self.directory.join("chain"));
        for _ in 0..self.options.rounds {
            let place = folder.to_string_lossy().into_owned();
            figures
                .ours
                .push(pairs(&output(&mut command(&self.client, &["bitcoin", "connect", &file, &place, &threads]))?)?);
            fs::remove_dir_all(&folder)?;
            let script = root().join("bench/bitcoin_kernel.py").to_string_lossy().into_owned();
            let place = self.directory.to_string_lossy().into_owned();
            figures.kernel.push(pairs(&output(&mut command(&self.python, &[&script, &file, &place]))?)?);
            let words = ["bitcoin", "signatures", &file, &seconds];
            figures.signatures.push(pairs(&output(&mut command(&self.client, &words))?)?);
            println!("{:?}\n{:?}", figures.ours.last(), figures.kernel.last());
        }
        let whole = (self.options.seconds.ceil() as u64).max(1).to_string();
        let lines = output(&mut command(&self.verity, &["bitcoin", "mine", "--bench", &whole, "--json"]))?;
        for line in lines.lines() {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let way = row["way"].as_str().context("a way has a name")?.to_owned();
            figures.hashes.push((way, row["mhs"].as_f64().context("a rate is a number")?));
        }
        self.live(&mut figures, &seconds)?;
        self.sync(&mut figures)?;
        Ok(figures)
    }

    /// Starts, memory and calls.
    fn live(&self, figures: &mut Figures, seconds: &str) -> Result<()> {
        for round in 0..self.options.rounds {
            let (node, ready) = Node::start(self, &format!("start-{round}"), 0, &["-connect=0".to_owned()])?;
            figures.ready_ms.push(ready.as_secs_f64() * 1e3);
            pause(SETTLE);
            figures.idle_mib = process::rss(&[node.child.id()])? as f64 / f64::from(1 << 20);
            let words = ["bitcoin", "calls", &node.address(), PASSWORD, seconds];
            figures.calls.push(value(&pairs(&output(&mut command(&self.client, &words))?)?, "calls")?);
        }
        Ok(())
    }

    /// One node has blocks, another asks it for them.
    fn sync(&self, figures: &mut Figures) -> Result<()> {
        let listens = "-bind=127.0.0.1".to_owned();
        let from = |node: &Node| vec![format!("-connect=127.0.0.1:{}", node.rpc + 1), "-listen=0".to_owned()];
        let (first, _) = Node::start(self, "empty-a", 1, std::slice::from_ref(&listens))?;
        for _ in 0..EMPTY_BLOCKS / 1_000 {
            first.call("generatetodescriptor", "[1000,\"raw(51)\"]")?;
        }
        let (second, _) = Node::start(self, "empty-b", 2, &from(&first))?;
        figures.sync_empty_s = second.wait_for(EMPTY_BLOCKS)?.as_secs_f64();
        drop((first, second));
        let file = self.make("long", self.options.sync_blocks)?;
        let (first, _) = Node::start(self, "full-a", 3, &[listens])?;
        output(&mut command(&self.client, &["bitcoin", "submit", &first.address(), PASSWORD, &file]))?;
        let height = first.height()?;
        let (second, _) = Node::start(self, "full-b", 4, &from(&first))?;
        figures.sync_full_s = second.wait_for(height)?.as_secs_f64();
        Ok(())
    }
}

fn of(rounds: &[Pairs], name: &str) -> Result<f64> {
    Ok(median(rounds.iter().map(|round| value(round, name)).collect::<Result<Vec<f64>>>()?))
}

fn ratio(figures: &Figures, name: &str) -> Result<f64> {
    let pairs = figures.ours.iter().zip(&figures.kernel);
    Ok(median(pairs.map(|(ours, theirs)| Ok(value(ours, name)? / value(theirs, name)?)).collect::<Result<Vec<f64>>>()?))
}

fn hash_rate(figures: &Figures, way: &str) -> Option<f64> {
    figures.hashes.iter().find(|(name, _)| name == way).map(|(_, rate)| *rate)
}

fn targets(figures: &Figures) -> Result<Vec<Target>> {
    let times = ratio(figures, "full_ms")?;
    let mut all = vec![
        Target {
            what: "A full block of payments with two inputs, to the kernel library's time".to_owned(),
            wanted: "<= 1.30x".to_owned(),
            found: format!("{times:.2}x"),
            missed_by: (times > 1.3).then(|| format!("{:.0} %", (times / 1.3 - 1.0) * 100.0)),
        },
        at_most(
            "A transaction of 2,000 inputs, in its block".to_owned(),
            of(&figures.ours, "wide_ms")?,
            500.0,
            "ms",
            0,
        ),
        at_most("From start to the first answer".to_owned(), median(figures.ready_ms.iter().copied()), 50.0, "ms", 0),
        at_most("Memory when idle".to_owned(), figures.idle_mib, 40.0, "MiB", 0),
    ];
    if let Some(rate) = hash_rate(figures, "ShaNi") {
        all.push(Target {
            what: "Hashes of a core, where there are instructions for SHA".to_owned(),
            wanted: ">= 20 MH/s".to_owned(),
            found: format!("{rate:.1} MH/s"),
            missed_by: (rate < 20.0).then(|| format!("{:.0} %", (1.0 - rate / 20.0) * 100.0)),
        });
    }
    Ok(all)
}

fn report(folder: &Path, figures: &Figures, sync_blocks: usize, conditions: &str) -> Result<()> {
    let mut text = String::from("# Bitcoin: measured\n\nBy `cargo xtask bench bitcoin`, which writes this page.\n\n");
    text.push_str(conditions);
    text.push_str("\n\n![Time to judge a block](bitcoin.svg)\n\n");
    section(&mut text, &targets(figures)?)?;
    text.push_str("## Beside Bitcoin Core's kernel library\n\n| | Verity | kernel library | |\n|---|---:|---:|---:|\n");
    let both = |name| -> Result<(f64, f64, f64)> {
        Ok((of(&figures.ours, name)?, of(&figures.kernel, name)?, ratio(figures, name)?))
    };
    let (ours, theirs, times) = both("full_ms")?;
    text.push_str(&format!(
        "| a full block: 4,780 payments, 9,560 inputs | {ours:.0} ms | {theirs:.0} ms | {times:.2}x |\n"
    ));
    let (ours, theirs, times) = both("wide_ms")?;
    text.push_str(&format!("| one transaction of 2,000 inputs | {ours:.0} ms | {theirs:.0} ms | {times:.2}x |\n"));
    let (library, own) = (of(&figures.signatures, "library")?, of(&figures.signatures, "own")?);
    text.push_str(&format!(
        "| inputs a second on one core | {own:.0} (our interpreter) | {library:.0} (`bitcoinconsensus`) | {:.2}x |\n",
        own / library
    ));
    if let (Some(own), Some(plain)) = (hash_rate(figures, "ShaNi"), hash_rate(figures, "Portable")) {
        text.push_str(&format!(
            "| hashes a second on one core | {own:.1} MH/s | {plain:.1} MH/s (`sha2`) | {:.2}x |\n",
            own / plain
        ));
    }
    text.push_str(&format!(
        "\n## A node\n\n| | |\n|---|---:|\n| calls a second, one after the other | {:.0} |\n| from start to the first answer | {:.0} ms |\n\
         | memory when idle | {:.0} MiB |\n| {EMPTY_BLOCKS} blocks without payments, from a peer | {:.1} s |\n\
         | {sync_blocks} full blocks, from a peer | {:.1} s |\n",
        median(figures.calls.iter().copied()),
        median(figures.ready_ms.iter().copied()),
        figures.idle_mib,
        figures.sync_empty_s,
        figures.sync_full_s,
    ));
    fs::create_dir_all(folder)?;
    fs::write(folder.join("bitcoin.md"), text)?;
    Ok(fs::write(folder.join("bitcoin.svg"), chart(figures)?)?)
}

/// Bars: how long a block takes, by who judges it.
fn chart(figures: &Figures) -> Result<String> {
    let rows = [
        ("full block, Verity", of(&figures.ours, "full_ms")?, "#2f6fb0"),
        ("full block, kernel library", of(&figures.kernel, "full_ms")?, "#8f8f8f"),
        ("2,000 inputs, Verity", of(&figures.ours, "wide_ms")?, "#2f6fb0"),
        ("2,000 inputs, kernel library", of(&figures.kernel, "wide_ms")?, "#8f8f8f"),
    ];
    let most = rows.iter().map(|(_, ms, _)| *ms).fold(1.0, f64::max);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 680 170\" width=\"680\" height=\"170\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"680\" height=\"170\" fill=\"#ffffff\"/>\n<text x=\"16\" y=\"28\" font-size=\"15\" \
         font-weight=\"bold\">Time to judge a block and apply it</text>\n",
    );
    for (at, (name, ms, colour)) in rows.into_iter().enumerate() {
        let (y, long) = (50.0 + 28.0 * at as f64, ms / most * 380.0);
        svg.push_str(&format!(
            "<text x=\"200\" y=\"{}\" text-anchor=\"end\">{name}</text>\n<rect x=\"210\" y=\"{y}\" width=\"{long:.1}\" height=\"18\" \
             fill=\"{colour}\"/>\n<text x=\"{:.1}\" y=\"{}\">{ms:.0} ms</text>\n",
            y + 14.0,
            218.0 + long,
            y + 14.0,
        ));
    }
    Ok(svg + "</svg>\n")
}
