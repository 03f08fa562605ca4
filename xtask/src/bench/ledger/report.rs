//! The report of `bench ledger`: tables in Markdown, each figure that has a target beside it.
//!
//! A missed target stays in the table and says by how much.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::super::target::{Target, at_most, section};
use super::{ATTACKS, Case, Delay, Figures, Shape, Siege, Way, chart, median, value};

/// Opens the part that a run leaves as it is.
const NOTES: &str = "## What limits it\n";

impl Figures {
    fn case(&self, shape: Shape, way: Way) -> Option<&Case> {
        self.cases.iter().find(|case| (case.shape, case.way) == (shape, way))
    }

    /// What this way does of what Raft does, within each round.
    fn ratios(&self, case: &Case) -> Result<Vec<f64>> {
        let raft = self.case(case.shape, Way::ALL[0]).context("Raft is measured")?;
        Ok(case.all("ops")?.iter().zip(raft.all("ops")?).map(|(ours, theirs)| ours / theirs).collect())
    }

    fn siege(&self, way: Way, name: &str) -> Result<&Siege> {
        let found = self.sieges.iter().find(|siege| siege.way == way && siege.attack.name == name);
        found.with_context(|| format!("{name} was measured"))
    }

    fn delay(&self, way: Way) -> Result<&Delay> {
        self.delays.iter().find(|delay| delay.way == way).context("its latency was measured")
    }
}

impl Siege {
    /// What is left of the calm turn, within each round.
    fn left(&self, calm: &Siege) -> Result<Vec<f64>> {
        let rounds = self.rounds.iter().zip(&calm.rounds);
        rounds.map(|(ours, calm)| Ok(value(ours, "ops")? / value(calm, "ops")?)).collect()
    }
}

fn of_rounds(rounds: &[super::Pairs], name: &str) -> Result<Vec<f64>> {
    rounds.iter().map(|round| value(round, name)).collect()
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, 0.0_f64), |(low, high), &one| (low.min(one), high.max(one)))
}

pub(super) fn size(bytes: usize) -> String {
    if bytes < 1 << 10 { format!("{bytes} B") } else { format!("{} KiB", bytes >> 10) }
}

/// One case on one line, for the terminal.
pub(super) fn line(case: &Case) -> Result<String> {
    let (shape, of) = (case.shape, |name| case.median(name));
    Ok(format!(
        "{} nodes, {:>6}, {:<24} {:>9.0} requests/s, {:>5.2} cores, {:>6.1} us each",
        shape.nodes,
        size(shape.size),
        case.way.name(),
        of("ops")?,
        of("cores")?,
        of("cpu_us_per_op")?
    ))
}

/// Writes `ledger.md` and `ledger.svg`.
pub(super) fn write(directory: &Path, figures: &Figures, conditions: &str) -> Result<()> {
    let mut text = String::from("# A ledger whose members may lie, beside one whose members may crash\n\n");
    text.push_str(
        "`cargo xtask bench ledger` runs the same ledger on PBFT, on Raft and on Multi-Paxos, in turns on the same disk, and \
         writes this file.\n\n![Requests a second](ledger.svg)\n\n",
    );
    writeln!(text, "## Conditions\n\n{conditions}\n")?;
    text.push_str(
        "All nodes of a ledger are in one process: each has its thread, its sockets on loopback, without TLS, and its folder, \
         in which every\nvote is synced before it is said. Signatures are Ed25519. The state machine is the ledger with its \
         `key=value` application, which makes\nblocks all the while, each signed by its validators.\n\n\
         A request is a transaction. It counts once its reply is there: ordered, checked by the application, and, on PBFT, \
         vouched for by f + 1\nmembers; that is what `broadcast_tx_sync` waits for, and the block follows. **There is no HTTP \
         in the way**: the load is a service inside\neach node, which keeps requests under way, 1,024 of all nodes together \
         and 16 MiB at most.\n\n\
         *Each signed*: every request is a PBFT request of its own, signed by the node that brings it, and verified by all \
         others. *16 a signature*:\nup to 16 requests that wait share one. *A turn a signature*: as many as the node found \
         ready at once, which is how `verity` runs.\n\n",
    );
    targets(&mut text, figures)?;
    for nodes in super::NODES {
        throughput(&mut text, figures, nodes)?;
    }
    cost_of_a_liar(&mut text, figures)?;
    attacks(&mut text, figures)?;
    latency(&mut text, figures)?;
    view_changes(&mut text, figures)?;
    fs::create_dir_all(directory)?;
    fs::write(directory.join("ledger.svg"), chart::chart(&figures.cases)?)?;
    let path = directory.join("ledger.md");
    // What stands below this line is written by hand, about the figures above it.
    let kept = fs::read_to_string(&path).ok().and_then(|old| old.find(NOTES).map(|at| old[at..].to_owned()));
    text.push_str(kept.as_deref().unwrap_or(NOTES));
    Ok(fs::write(path, text)?)
}

/// So many a second, or more. How much of the machine there was for the best round says how far to trust a miss.
fn rate(case: &Case, wanted: f64) -> Result<Target> {
    let (found, all) = (case.median("ops")?, case.all("ops")?);
    let rounds = all.into_iter().zip(case.all("cores")?);
    let (best, cores) = rounds.max_by(|a, b| a.0.total_cmp(&b.0)).context("there is a round")?;
    Ok(Target {
        what: format!("{} nodes, {}, {}", case.shape.nodes, size(case.shape.size), case.way.name()),
        wanted: format!(">= {wanted:.0}/s"),
        found: format!("{found:.0}/s; {best:.0}/s in the best round, on {cores:.2} cores"),
        missed_by: (found < wanted).then(|| format!("{:.0} %", (1.0 - found / wanted) * 100.0)),
    })
}

fn targets(text: &mut String, figures: &Figures) -> Result<()> {
    let mut targets = Vec::new();
    let shape = Shape { nodes: 4, size: 64 };
    let (each, sixteen) = (Way::ALL[2], Way::ALL[3]);
    for (way, wanted) in [(each, 8_000.0), (sixteen, 20_000.0)] {
        let case = figures.case(shape, way).context("four nodes are measured")?;
        targets.push(rate(case, wanted)?);
    }
    for way in [each, sixteen] {
        let p50 = median(of_rounds(&figures.delay(way)?.rounds, "p50_us")?) / 1e3;
        targets.push(at_most(format!("p50 at half load, {}", way.name()), p50, 10.0, "ms", 1));
    }
    for (nodes, silences) in &figures.silences {
        let longest = range(silences).1;
        targets.push(at_most(format!("view change, {nodes} nodes, the longest"), longest, 1_000.0, "ms", 0));
    }
    for way in [each, sixteen] {
        for attack in ATTACKS.iter().skip(1) {
            let left = median(figures.siege(way, attack.name)?.left(figures.siege(way, ATTACKS[0].name)?)?) * 100.0;
            let missed_by = (left < 50.0).then(|| format!("{:.0} %", (1.0 - left / 50.0) * 100.0));
            let what = format!("{}, {}: of calm", attack.name, way.name());
            targets.push(Target { what, wanted: ">= 50 %".into(), found: format!("{left:.0} %"), missed_by });
        }
    }
    section(text, &targets)
}

fn throughput(text: &mut String, figures: &Figures, nodes: u64) -> Result<()> {
    writeln!(text, "## Throughput of {nodes} nodes\n")?;
    text.push_str(
        "*Cores* is what the process got of the machine: load and nodes. A *batch* is what one place of the order holds; \
         votes of\nvalidators, which are commands as well, are not counted in.\n\n",
    );
    text.push_str("| Size | Way | requests/s (best) | MB/s | CPU us each | Cores | Batch | Syncs/s | p50, ms |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for case in figures.cases.iter().filter(|case| case.shape.nodes == nodes) {
        let (of, ops) = (|name| case.median(name), case.median("ops")?);
        writeln!(
            text,
            "| {} | {} | {ops:.0} ({:.0}) | {:.1} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} |",
            size(case.shape.size),
            case.way.name(),
            range(&case.all("ops")?).1,
            ops * case.shape.size as f64 / 1e6,
            of("cpu_us_per_op")?,
            of("cores")?,
            of("batch")?,
            of("syncs_per_s")?,
            of("p50_us")? / 1e3
        )?;
    }
    text.push('\n');
    Ok(())
}

fn cost_of_a_liar(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## What a liar costs\n\nThroughput as a share of what the same nodes do on Raft, which a single liar can fool: the \
         median of the rounds' own ratios, with the\nlowest and the highest.\n\n| Nodes | Size |",
    );
    Way::ALL.iter().skip(1).for_each(|way| text.push_str(&format!(" {} |", way.name())));
    text.push_str("\n|---:|---|---:|---:|---:|---:|\n");
    for raft in figures.cases.iter().filter(|case| case.way == Way::ALL[0]) {
        write!(text, "| {} | {} |", raft.shape.nodes, size(raft.shape.size))?;
        for way in Way::ALL.into_iter().skip(1) {
            let ratios = figures.ratios(figures.case(raft.shape, way).context("all ways are measured")?)?;
            let (low, high) = range(&ratios);
            write!(text, " **{:.2}x** ({low:.2} to {high:.2}) |", median(ratios))?;
        }
        text.push('\n');
    }
    text.push('\n');
    Ok(())
}

fn attacks(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## Under attack\n\nFour nodes, requests of 64 B, of which one member lies and brings none itself. The flooding client \
         is a process of its own that sends each\nof the others 400 requests every 10 ms: signed by nobody, or signed and far \
         ahead of their turn. *Liar's cores* is what the kernel says\nabout that process.\n\n",
    );
    text.push_str(
        "| Attack | Way | requests/s | Of calm (lowest to highest) | p50, ms | p99, ms | Liar's cores | Views |\n",
    );
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|\n");
    for siege in &figures.sieges {
        let left = siege.left(figures.siege(siege.way, ATTACKS[0].name)?)?;
        let (of, (low, high)) = (|name| of_rounds(&siege.rounds, name).map(median), range(&left));
        writeln!(
            text,
            "| {} | {} | {:.0} | **{:.0} %** ({:.0} to {:.0}) | {:.0} | {:.0} | {:.2} | {:.0} |",
            siege.attack.name,
            siege.way.name(),
            of("ops")?,
            median(left) * 100.0,
            low * 100.0,
            high * 100.0,
            of("p50_us")? / 1e3,
            of("p99_us")? / 1e3,
            of("flood_cores")?,
            of("views")?
        )?;
    }
    text.push('\n');
    Ok(())
}

fn latency(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## Latency at half load\n\nFour nodes, requests of 64 B at a steady pace: half of what the same way did at full \
         load. Latency counts from when a request was due.\n\n",
    );
    text.push_str("| Way | requests/s | p50, ms | p99, ms | Cores |\n|---|---:|---:|---:|---:|\n");
    for delay in &figures.delays {
        let of = |name| of_rounds(&delay.rounds, name).map(median);
        let (p50, p99, cores) = (of("p50_us")? / 1e3, of("p99_us")? / 1e3, of("cores")?);
        writeln!(text, "| {} | {:.0} | {p50:.1} | {p99:.1} | {cores:.2} |", delay.way.name(), of("ops")?)?;
    }
    let of = |name| value(&figures.floor, name);
    writeln!(text, "\nThe floor under these, measured before, in microseconds:\n")?;
    writeln!(text, "| Step | p50 | p99 |\n|---|---:|---:|")?;
    let (echo, sync) = ("round trip to a thread that echoes", "append and `fdatasync` of 170 bytes");
    writeln!(text, "| {echo} | {:.0} | {:.0} |", of("echo_p50_us")?, of("echo_p99_us")?)?;
    writeln!(text, "| {sync} | {:.0} | {:.0} |\n", of("sync_p50_us")?, of("sync_p99_us")?)?;
    Ok(())
}

fn view_changes(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## View change\n\nThe primary's node is ended under a load of 1,000 requests a second, as a crash would end it, and \
         comes back later; then the next\nprimary is. What it took is the longest time without a completed request, from \
         the last before to the first behind.\n\n",
    );
    text.push_str("| Nodes | Kills | Shortest, ms | Median, ms | Longest, ms |\n|---:|---:|---:|---:|---:|\n");
    for (nodes, silences) in &figures.silences {
        let (low, high) = range(silences);
        let middle = median(silences.iter().copied());
        writeln!(text, "| {nodes} | {} | {low:.0} | {middle:.0} | {high:.0} |", silences.len())?;
    }
    text.push('\n');
    Ok(())
}
