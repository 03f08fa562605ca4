//! The report: a table in Markdown, each figure beside its target, and a bar chart of the ratios.
//!
//! A missed target stays in the table and says by how much. Deliberately absent: a verdict on what is within noise;
//! the spread of the rounds is printed instead.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::target::{at_least, at_most, section};
use super::{Case, Life, OPERATIONS, Pairs, ZNODE_COUNT, median, value};

/// The bytes of data in each znode, which are not overhead.
const VALUE_SIZE: f64 = verity_bench::wire::VALUE_SIZE as f64;
const MIB: f64 = 1024.0 * 1024.0;

impl Case {
    fn ratios(&self) -> Vec<f64> {
        self.rounds.iter().map(|[ours, theirs]| ours.ops / theirs.ops).collect()
    }

    fn median(&self, side: usize, of: fn(&super::Turn) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| of(&round[side])))
    }

    fn best(&self, side: usize) -> f64 {
        self.rounds.iter().map(|round| round[side].ops).fold(0.0, f64::max)
    }

    fn name(&self) -> String {
        format!("{} {}x{}", self.operation, self.shape.0, self.shape.1)
    }
}

/// One case on one line, for the terminal.
pub(crate) fn line(case: &Case) -> String {
    let ops = |side| case.median(side, |turn| turn.ops);
    let ratio = median(case.ratios());
    format!("{} nodes, {:<14} {:>9.0} to {:>9.0} ops/s  {ratio:>6.2}x", case.nodes, case.name(), ops(0), ops(1))
}

/// Writes `zookeeper.md` and `zookeeper.svg`.
pub(crate) fn write(
    directory: &Path,
    cases: &[Case],
    life: Option<&Life>,
    floor: &Pairs,
    conditions: &str,
) -> Result<()> {
    let mut text = String::from("# Verity against ZooKeeper\n\n");
    text.push_str(
        "`cargo xtask bench zookeeper` starts both on the same disk, drives them in turns with one raw-wire client, \
         and writes this file.\nBoth sync each write before they acknowledge it. A case is *connections x window*: how \
         many sessions, and how many requests each keeps\nunder way; data are 100 bytes. A ratio is taken within a \
         round, and the median over the rounds is given.\n\n![Ratios](zookeeper.svg)\n\n",
    );
    writeln!(text, "## Conditions\n\n{conditions}\n")?;
    text.push_str(
        "Client and servers share the cores, and other work ran beside them, so a figure in ops/s says less than the \
         ratio beside it, and the\nspread of the ratios says how far to trust that. ZooKeeper runs with the JVM's own \
         defaults, warmed by three turns of each operation.\nVerity's three nodes are one process with three data \
         directories that talk over loopback sockets; ZooKeeper's are three processes.\nWith three nodes the sessions \
         are spread over them, and a single session goes to another node each round.\n\n",
    );
    targets(&mut text, cases, life)?;
    for nodes in [1, 3] {
        throughput(&mut text, cases, nodes)?;
    }
    latency(&mut text, cases, floor)?;
    if let Some(life) = life {
        lifetime(&mut text, life)?;
    }
    fs::create_dir_all(directory)?;
    fs::write(directory.join("zookeeper.svg"), chart(cases)?)?;
    let path = directory.join("zookeeper.md");
    // What stands below this line is written by hand, about the figures above it.
    let kept = fs::read_to_string(&path).ok().and_then(|old| old.find(NOTES).map(|at| old[at..].to_owned()));
    text.push_str(kept.as_deref().unwrap_or(NOTES));
    Ok(fs::write(path, text)?)
}

/// Opens the part that a run leaves as it is.
const NOTES: &str = "## What limits it\n";

fn targets(text: &mut String, cases: &[Case], life: Option<&Life>) -> Result<()> {
    let mut targets = Vec::new();
    for case in cases {
        let wanted = match (case.operation, case.nodes) {
            ("create", 1) => 2.0,
            ("create", 3) => 3.0,
            ("get", _) => 6.0,
            _ => continue,
        };
        let place = if case.nodes == 1 { "standalone" } else { "three nodes" };
        targets.push(at_least(format!("{}, {place}", case.name()), median(case.ratios()), wanted, 0));
    }
    for case in cases.iter().filter(|case| case.operation == "get" && case.shape == (8, 120) && case.nodes == 1) {
        let cpu_us = case.median(0, |turn| turn.cpu_us);
        targets.push(at_most("server CPU of a get, 8x120".into(), cpu_us, 5.0, "us", 2));
    }
    if let Some(life) = life {
        let overhead = (life.rss_full[0] - life.rss_idle[0]) / ZNODE_COUNT as f64 - VALUE_SIZE;
        let first = median(life.first_create_ms[0].iter().copied());
        let restart = median(life.restart_ms[0].iter().copied());
        targets.push(at_most("first create from a cold start".into(), first, 50.0, "ms", 0));
        targets.push(at_most("idle memory".into(), life.rss_idle[0] / MIB, 15.0, "MiB", 1));
        targets.push(at_most("memory of a znode beyond its data".into(), overhead, 150.0, "B", 0));
        targets.push(at_most("restart with 300,000 znodes".into(), restart, 1000.0, "ms", 0));
    }
    section(text, &targets)
}

fn throughput(text: &mut String, cases: &[Case], nodes: u16) -> Result<()> {
    if cases.iter().all(|case| case.nodes != nodes) {
        return Ok(());
    }
    let place = if nodes == 1 { "one node" } else { "three nodes" };
    writeln!(text, "## Throughput on {place}\n")?;
    text.push_str("| Case | Verity, ops/s (best) | ZooKeeper, ops/s (best) | Ratio | Lowest to highest | ");
    text.push_str("Verity, CPU us/op | ZooKeeper, CPU us/op |\n|---|---:|---:|---:|---:|---:|---:|\n");
    for case in cases.iter().filter(|case| case.nodes == nodes) {
        let ratios = case.ratios();
        let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), &one| (low.min(one), high.max(one)));
        let ops = |side| format!("{:.0} ({:.0})", case.median(side, |turn| turn.ops), case.best(side));
        let cpu = |side| case.median(side, |turn| turn.cpu_us);
        let (name, ratio) = (case.name(), median(ratios));
        let row = format!("| {name} | {} | {} | **{ratio:.1}x** | {low:.1} to {high:.1} |", ops(0), ops(1));
        writeln!(text, "{row} {:.1} | {:.1} |", cpu(0), cpu(1))?;
    }
    text.push('\n');
    Ok(())
}

fn latency(text: &mut String, cases: &[Case], floor: &Pairs) -> Result<()> {
    text.push_str("## Latency of one request at a time\n\nMedians over the rounds, in microseconds.\n\n");
    text.push_str("| Case | Verity p50 | Verity p99 | ZooKeeper p50 | ZooKeeper p99 |\n|---|---:|---:|---:|---:|\n");
    for case in cases.iter().filter(|case| case.shape == (1, 1)) {
        let place = if case.nodes == 1 { "one node" } else { "three nodes" };
        let (p50, p99) = (|side| case.median(side, |turn| turn.p50_us), |side| case.median(side, |turn| turn.p99_us));
        let (name, ours, theirs) = (case.operation, (p50(0), p99(0)), (p50(1), p99(1)));
        let row = format!("| {name}, {place} | {:.0} | {:.0} |", ours.0, ours.1);
        writeln!(text, "{row} {:.0} | {:.0} |", theirs.0, theirs.1)?;
    }
    let of = |name| value(floor, name);
    writeln!(text, "\nThe floor under these, measured just before:\n")?;
    writeln!(text, "| Step | p50 | p99 |\n|---|---:|---:|")?;
    let (echo, sync) = ("round trip to a thread that echoes", "append and `fdatasync` of 170 bytes");
    writeln!(text, "| {echo} | {:.0} | {:.0} |", of("echo_p50_us")?, of("echo_p99_us")?)?;
    writeln!(text, "| {sync} | {:.0} | {:.0} |\n", of("sync_p50_us")?, of("sync_p99_us")?)?;
    Ok(())
}

fn lifetime(text: &mut String, life: &Life) -> Result<()> {
    text.push_str(
        "## Start, memory, restart\n\nOne node. A cold start has an empty data directory; times run from the ",
    );
    text.push_str(
        "start of the process to the first reply.\nZooKeeper's memory holds a JVM heap that is collected late, ",
    );
    text.push_str("so it bounds what a znode needs from above only.\n\n");
    text.push_str("| What | Verity | ZooKeeper |\n|---|---:|---:|\n");
    let row = |text: &mut String, what: &str, unit: &str, figures: [f64; 2], digits: usize| {
        writeln!(text, "| {what} | {:.digits$} {unit} | {:.digits$} {unit} |", figures[0], figures[1])
    };
    let medians = |all: &[Vec<f64>; 2]| [0, 1].map(|side| median(all[side].iter().copied()));
    row(text, "start to first create", "ms", medians(&life.first_create_ms), 0)?;
    row(text, "memory, idle", "MiB", life.rss_idle.map(|bytes| bytes / MIB), 1)?;
    row(text, "memory, 300,000 znodes", "MiB", life.rss_full.map(|bytes| bytes / MIB), 1)?;
    let overhead = [0, 1].map(|side| (life.rss_full[side] - life.rss_idle[side]) / ZNODE_COUNT as f64 - VALUE_SIZE);
    row(text, "memory of a znode beyond its data", "B", overhead, 0)?;
    row(text, "restart to first read, 300,000 znodes", "ms", medians(&life.restart_ms), 0)?;
    text.push('\n');
    Ok(())
}

/// Horizontal bars, one a case, on a logarithmic scale, with a line at 1x.
fn chart(cases: &[Case]) -> Result<String> {
    const ROW: f64 = 22.0;
    const LEFT: f64 = 190.0;
    const WIDTH: f64 = 560.0;
    let ratios: Vec<f64> = cases.iter().map(|case| median(case.ratios())).collect();
    let high = ratios.iter().copied().fold(10.0_f64, f64::max).log10().ceil();
    let low = ratios.iter().copied().fold(1.0_f64, f64::min).log10().floor();
    let x = |ratio: f64| LEFT + (ratio.log10() - low) / (high - low) * WIDTH;
    let groups = if cases.iter().any(|case| case.nodes == 3) { 2.0 } else { 1.0 };
    let bottom = 50.0 + cases.len() as f64 * ROW + groups * 26.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 830 {0}\" width=\"830\" height=\"{0}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"830\" height=\"{0}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Verity's throughput, as a multiple of \
         ZooKeeper's (logarithmic)</text>\n",
        bottom + 34.0
    );
    let mut tick = 10.0_f64.powf(low);
    while tick <= 10.0_f64.powf(high) * 1.001 {
        let (at, colour) = (x(tick), if (tick - 1.0).abs() < 1e-6 { "#333333" } else { "#dddddd" });
        writeln!(svg, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"44\" y2=\"{bottom}\" stroke=\"{colour}\"/>")?;
        writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555555\">{tick}x</text>",
            bottom + 18.0
        )?;
        tick *= 10.0;
    }
    let (mut y, mut nodes) = (44.0, 0);
    for (case, ratio) in cases.iter().zip(ratios) {
        if case.nodes != nodes {
            nodes = case.nodes;
            let place = if nodes == 1 { "One node" } else { "Three nodes" };
            writeln!(svg, "<text x=\"16\" y=\"{}\" font-weight=\"bold\">{place}</text>", y + 19.0)?;
            y += 26.0;
        }
        let colour =
            ["#c0504d", "#e0a030", "#3a78b5"][OPERATIONS.iter().position(|&one| one == case.operation).unwrap_or(0)];
        let (from, to) = (x(1.0).min(x(ratio)), x(1.0).max(x(ratio)));
        let (label, name) = (LEFT - 10.0, case.name());
        writeln!(svg, "<text x=\"{label}\" y=\"{}\" text-anchor=\"end\">{name}</text>", y + 15.0)?;
        let bar = format!("x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"16\"", y + 3.0, to - from);
        writeln!(svg, "<rect {bar} fill=\"{colour}\"/>")?;
        writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{ratio:.1}x</text>", to + 6.0, y + 15.0)?;
        y += ROW;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::super::Turn;
    use super::*;

    fn turn(ops: f64) -> Turn {
        Turn { ops, p50_us: 1.0, p99_us: 2.0, cpu_us: 3.0 }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_own_ratios() {
        let rounds = vec![[turn(10.0), turn(5.0)], [turn(90.0), turn(10.0)], [turn(3.0), turn(1.0)]];
        let case = Case { nodes: 1, operation: "create", shape: (1, 1), rounds };
        assert!((median(case.ratios()) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_chart_has_a_bar_for_each_case() {
        let of = |nodes| Case { nodes, operation: "get", shape: (1, 64), rounds: vec![[turn(4.0), turn(2.0)]] };
        let svg = chart(&[of(1), of(3)]).unwrap();
        assert_eq!(svg.matches("<rect ").count(), 3);
        assert_eq!(svg.matches("2.0x").count(), 2);
    }
}
