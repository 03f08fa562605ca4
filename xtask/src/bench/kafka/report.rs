//! The report: each figure beside its target, tables of all of them, and a bar chart of the throughput.
//!
//! A missed target stays in the table and says by how much. What is written by hand below the figures is kept.

mod chart;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::super::target::{Target, at_least, at_most, section};
use super::super::{median, value};
use super::fresh;
use super::server::{Place, System};
use super::tool::CONSUME_MAX_S;
use super::{Case, Cost, Delay, Figures, Life, SIZES, Shape, Turn};

const MIB: f64 = 1024.0 * 1024.0;
/// Opens the part that a run leaves as it is.
const NOTES: &str = "## What limits it\n";
const DURABLE: Place = Place { system: System::Durable, nodes: 1 };

impl Case {
    fn median(&self, of: fn(&Turn) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    fn consumed(&self) -> Option<(f64, f64)> {
        let all: Option<Vec<(f64, f64)>> = self.rounds.iter().map(|turn| turn.consumed).collect();
        let all = all.filter(|all| !all.is_empty())?;
        Some((median(all.iter().map(|one| one.0)), median(all.iter().map(|one| one.1))))
    }

    fn name(&self) -> String {
        self.shape.name()
    }
}

impl Shape {
    /// As it is called in the report.
    pub(super) fn name(self) -> String {
        format!("{}, acks={}", self.load(), self.acks)
    }

    fn load(self) -> String {
        let unit = if self.partitions == 1 { "partition" } else { "partitions" };
        format!("{} B, {} {unit}", self.size, self.partitions)
    }
}

impl Delay {
    fn median(&self, name: &str) -> Result<f64> {
        Ok(median(self.rounds.iter().map(|found| value(found, name)).collect::<Result<Vec<_>>>()?))
    }
}

impl Figures {
    fn case(&self, place: Place, shape: Shape) -> Option<&Case> {
        let measured = |case: &&Case| case.place == place && case.shape == shape && !case.rounds.is_empty();
        self.cases.iter().find(measured)
    }

    fn delay(&self, place: Place) -> Result<&Delay> {
        let measured = |delay: &&Delay| delay.place == place && !delay.rounds.is_empty();
        self.delays.iter().find(measured).context("a latency was not measured")
    }

    fn life(&self, system: System) -> Result<&Life> {
        self.lives.iter().find(|life| life.place.system == system).context("a start was not measured")
    }
}

/// One case on one line, for the terminal.
pub(super) fn line(case: &Case) -> String {
    let (rate, cpu_us) = (case.median(|turn| turn.rate), case.median(|turn| turn.cpu_us));
    format!("{:<28} {:<36} {rate:>9.0} msg/s  {cpu_us:>7.2} CPU s/M", case.place.name(), case.name())
}

/// A latency on one line.
pub(super) fn delay_line(delay: &Delay) -> String {
    let of = |name| delay.median(name).map_or(f64::NAN, |us| us / 1e3);
    let (p50, p99, p999) = (of("p50_us"), of("p99_us"), of("p999_us"));
    format!("{:<28} p50 {p50:.2} ms  p99 {p99:.2} ms  p99.9 {p999:.2} ms", delay.place.name())
}

/// A start on one line.
pub(super) fn life_line(life: &Life) -> String {
    let (first, rss) = (median(life.first_ms.iter().copied()), median(life.rss.iter().copied()) / MIB);
    format!("{:<28} first message after {first:.0} ms  idle {rss:.1} MiB", life.place.name())
}

/// The cost of a request on one line.
pub(super) fn cost_line(cost: &Cost) -> String {
    let (cpu_us, rate) = (median(cost.cpu_us.iter().copied()), median(cost.rate.iter().copied()));
    format!("{:>4} partitions: {cpu_us:.0} CPU us a request, {rate:.0} requests a second", cost.partitions)
}

/// Writes `kafka.md` and `kafka.svg`.
pub(super) fn write(directory: &Path, figures: &Figures, conditions: &str) -> Result<()> {
    let mut text = String::from("# Verity against what else speaks Kafka's protocol\n\n");
    text.push_str(
        "`cargo xtask bench kafka` starts one server after another on the same disk, loads each with librdkafka's own \
         `rdkafka_performance`\nat its defaults, and writes this file. Figures are medians over the rounds.\n\n\
         ![Throughput](kafka.svg)\n\n",
    );
    writeln!(text, "## Conditions\n\n{conditions}\n")?;
    text.push_str(
        "Tool and servers share the cores, so a server that spends little leaves more to the tool that drives it.\n\n\
         - *Verity, durable* syncs each batch to the disk before it acknowledges it, whatever `acks` says; on three nodes a \
         majority has.\n  Three nodes are one process with three data directories that talk over loopback sockets, on one \
         disk.\n\
         - *Verity, in memory* is `--ephemeral`: the same without a disk.\n\
         - *noida-db* is a single process for local development. It keeps its data in memory and writes it out as it changes; \
         it has no\n  option that makes it sync what it acknowledges, so it is compared with Verity in either mode.\n\
         - The *null server* is ours: it answers at once and keeps nothing. Nothing can be faster than the tool is against \
         it.\n\
         - *Tansu* is a single process over a store that its user chooses. Here it is the one in memory, the fastest; its \
         durable ones are\n  not measured.\n\
         - *Apache Kafka* itself comes from none of the registries that this uses, and is not measured.\n\n",
    );
    section(&mut text, &targets(figures)?)?;
    throughput(&mut text, figures)?;
    consuming(&mut text, figures)?;
    latency(&mut text, figures)?;
    lifetime(&mut text, figures)?;
    fresh::section(&mut text, &figures.fresh)?;
    costs(&mut text, figures)?;
    fs::create_dir_all(directory)?;
    fs::write(directory.join("kafka.svg"), chart::draw(&figures.cases)?)?;
    let path = directory.join("kafka.md");
    let kept = fs::read_to_string(&path).ok().and_then(|old| old.find(NOTES).map(|at| old[at..].to_owned()));
    text.push_str(kept.as_deref().unwrap_or(NOTES));
    Ok(fs::write(path, text)?)
}

fn targets(figures: &Figures) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    let main = Shape { partitions: 12, size: 100, acks: "all" };
    let rate = |place, shape| figures.case(place, shape).map(|case| case.median(|turn| turn.rate));
    let null = Place { system: System::Null, nodes: 1 };
    if let (Some(ours), Some(limit)) = (rate(DURABLE, main), rate(null, main)) {
        targets.push(full_speed(format!("{} into one durable node", main.name()), ours, limit));
    }
    for (size, partitions) in SIZES.into_iter().flat_map(|size| super::PARTITIONS.map(|partitions| (size, partitions)))
    {
        let shape = Shape { partitions, size, acks: "all" };
        if let (Some(three), Some(one)) = (rate(Place { nodes: 3, ..DURABLE }, shape), rate(DURABLE, shape)) {
            targets.push(at_least(format!("{}: three nodes to one", shape.name()), three / one, 0.4, 1));
        }
    }
    for system in [System::Durable, System::Memory] {
        let place = Place { system, nodes: 1 };
        let name = place.name();
        for peer in System::PEERS.map(|system| Place { system, nodes: 1 }) {
            let other = peer.name();
            if let Some((rate, cpu_us)) = against_peer(figures, place, peer) {
                let (of_rate, of_cpu) =
                    ("throughput to it, the least of all loads", "its CPU to ours, the least of all loads");
                targets.push(at_least(format!("{name}, {other}: {of_rate}"), rate, 1.0, 0));
                targets.push(at_least(format!("{name}, {other}: {of_cpu}"), cpu_us, 1.0, 0));
            }
            if let Ok(theirs) = figures.delay(peer) {
                let (ours, theirs) = (figures.delay(place)?.median("p99_us")?, theirs.median("p99_us")?);
                targets.push(at_least(format!("{name}, {other}: its p99 latency to ours"), theirs / ours, 1.0, 0));
            }
        }
    }
    for place in [DURABLE, Place { nodes: 3, ..DURABLE }] {
        let delay = figures.delay(place)?;
        let what = format!("p99 latency at 100k msg/s, {}", place.name());
        targets.push(at_most(what, delay.median("p99_us")? / 1e3, 10.0, "ms", 2));
    }
    let life = figures.life(System::Durable)?;
    targets.push(at_most(
        "start to first message acknowledged".into(),
        median(life.first_ms.iter().copied()),
        50.0,
        "ms",
        0,
    ));
    targets.push(at_most("idle memory".into(), median(life.rss.iter().copied()) / MIB, 20.0, "MiB", 1));
    targets.extend(fresh::targets(&figures.fresh));
    let costs = figures.costs.iter().map(|cost| median(cost.cpu_us.iter().copied()));
    let (low, high) = costs.fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(one), high.max(one)));
    let what = "CPU of a request, from 1 to 1000 partitions: the most beyond the least".into();
    targets.push(at_most(what, (high / low - 1.0) * 100.0, 30.0, "%", 0));
    Ok(targets)
}

/// A million a second, or nine in ten of what the tool can do here.
fn full_speed(what: String, ours: f64, limit: f64) -> Target {
    let wanted = (limit * 0.9).min(1e6);
    let missed_by = (ours < wanted).then(|| format!("{:.0} %", (1.0 - ours / wanted) * 100.0));
    let found = format!("{ours:.0} msg/s, {:.0} % of null", ours / limit * 100.0);
    Target { what, wanted: ">= 1M msg/s or 90 % of null".into(), found, missed_by }
}

/// How much of a peer's throughput, and how many times less than its CPU, at the load where that is least.
fn against_peer(figures: &Figures, place: Place, peer: Place) -> Option<(f64, f64)> {
    let pairs = figures.cases.iter().filter(|case| case.place == place);
    let pairs: Vec<_> = pairs.filter_map(|case| Some((case, figures.case(peer, case.shape)?))).collect();
    let least = |of: &dyn Fn(&Case, &Case) -> f64, pairs: &[(&Case, &Case)]| {
        pairs.iter().map(|(ours, theirs)| of(ours, theirs)).fold(f64::MAX, f64::min)
    };
    if pairs.is_empty() {
        return None;
    }
    let rate = least(&|ours, theirs| ours.median(|turn| turn.rate) / theirs.median(|turn| turn.rate), &pairs);
    let cpu_us = least(&|ours, theirs| theirs.median(|turn| turn.cpu_us) / ours.median(|turn| turn.cpu_us), &pairs);
    Some((rate, cpu_us))
}

/// A server's name, and how many rounds it did not survive.
fn survivors(place: Place, rounds: usize, failed: usize) -> String {
    let name = place.name();
    if failed == 0 { name } else { format!("{name} (failed in {failed} of {} rounds)", failed + rounds) }
}

fn throughput(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str("## Producing\n\n");
    text.push_str("| Load | Server | msg/s (best) | MB/s | of null | CPU s per million | Written per byte |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    let mut cases: Vec<&Case> = figures.cases.iter().collect();
    cases.sort_by_key(|case| (case.shape.size, case.shape.partitions, case.shape.acks));
    for case in cases {
        let server = survivors(case.place, case.rounds.len(), case.failed);
        if case.rounds.is_empty() {
            writeln!(text, "| {} | {server} | | | | | |", case.name())?;
            continue;
        }
        let rate = case.median(|turn| turn.rate);
        let best = case.rounds.iter().map(|turn| turn.rate).fold(0.0, f64::max);
        let limit = figures.case(Place { system: System::Null, nodes: 1 }, case.shape);
        let share = limit.map_or(f64::NAN, |limit| rate / limit.median(|turn| turn.rate) * 100.0);
        let (cpu_us, written) = (case.median(|turn| turn.cpu_us), case.median(|turn| turn.written));
        let mb = rate * case.shape.size as f64 / 1e6;
        let row = format!("| {} | {} | {rate:.0} ({best:.0}) | {mb:.0} | {share:.0} %", case.name(), server);
        writeln!(text, "{row} | {cpu_us:.2} | {written:.2} |")?;
    }
    text.push('\n');
    Ok(())
}

fn consuming(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str("## Consuming\n\nWhat a turn with `acks=all` has produced, from its beginning, by one consumer.\n\n");
    text.push_str("| Load | Server | msg/s | MB/s | CPU s per million |\n|---|---|---:|---:|---:|\n");
    let mut cases: Vec<&Case> = figures.cases.iter().collect();
    cases.sort_by_key(|case| (case.shape.size, case.shape.partitions));
    for case in cases {
        if case.shape.acks != "all" || case.place.system == System::Null {
            continue;
        }
        let (load, server) = (case.shape.load(), case.place.name());
        let Some((rate, cpu_us)) = case.consumed() else {
            writeln!(text, "| {load} | {server} | did not come to its end in {CONSUME_MAX_S} s | | |")?;
            continue;
        };
        let mb = rate * case.shape.size as f64 / 1e6;
        writeln!(text, "| {load} | {server} | {rate:.0} | {mb:.0} | {cpu_us:.2} |")?;
    }
    text.push('\n');
    Ok(())
}

fn latency(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## Latency from producer to consumer\n\n100,000 messages of 100 bytes a second, acks=all, over 12 partitions, by our own \
         client (`verity-bench kafka paced`): each\nmillisecond the messages that have become due leave as one batch, to the next \
         partition in turn; a consumer waits for them in\nlong fetches. Latency counts from when a message was due, so the \
         millisecond is part of it, and so is what waits in the producer.\n\n",
    );
    text.push_str("| Server | p50, ms | p99, ms | p99.9, ms | Came in time | CPU s per million |\n|---|---:|---:|---:|---:|---:|\n");
    for delay in &figures.delays {
        let name = survivors(delay.place, delay.rounds.len(), delay.failed);
        if delay.rounds.is_empty() {
            writeln!(text, "| {name} | | | | | |")?;
            continue;
        }
        let of = |name| delay.median(name);
        let (p50, p99, p999) = (of("p50_us")? / 1e3, of("p99_us")? / 1e3, of("p999_us")? / 1e3);
        let (received, cpu_us) = (of("received")? * 100.0, of("cpu_us")?);
        writeln!(text, "| {name} | {p50:.2} | {p99:.2} | {p999:.2} | {received:.0} % | {cpu_us:.2} |")?;
    }
    text.push('\n');
    Ok(())
}

fn lifetime(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## Start and memory\n\nOne node on an empty folder: from the start of the process until a topic was made and one message \
         acknowledged; memory 2 s later.\n\n| Server | First message, ms | Memory, MiB |\n|---|---:|---:|\n",
    );
    for life in &figures.lives {
        let (first, rss) = (median(life.first_ms.iter().copied()), median(life.rss.iter().copied()) / MIB);
        writeln!(text, "| {} | {first:.0} | {rss:.1} |", life.place.name())?;
    }
    text.push('\n');
    Ok(())
}

fn costs(text: &mut String, figures: &Figures) -> Result<()> {
    text.push_str(
        "## Cost of a request\n\nRequests of one batch of 16 KiB (149 messages of 100 bytes), 16 under way on one connection, to one \
         partition after the other of\none durable node.\n\n| Partitions | CPU us per request | Requests per second |\n|---:|---:|---:|\n",
    );
    for cost in &figures.costs {
        let (cpu_us, rate) = (median(cost.cpu_us.iter().copied()), median(cost.rate.iter().copied()));
        writeln!(text, "| {} | {cpu_us:.0} | {rate:.0} |", cost.partitions)?;
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(system: System, rate: f64, cpu_us: f64) -> Case {
        let shape = Shape { partitions: 12, size: 100, acks: "all" };
        let rounds = vec![Turn { rate, cpu_us, ..Turn::default() }];
        Case { place: Place { system, nodes: 1 }, shape, rounds, failed: 0 }
    }

    #[test]
    fn nine_in_ten_of_the_limit_are_enough_and_so_is_a_million() {
        assert_eq!(full_speed("a".into(), 450.0, 500.0).missed_by, None);
        assert_eq!(full_speed("a".into(), 1e6, 5e6).missed_by, None);
        assert_eq!(full_speed("a".into(), 225.0, 500.0).missed_by.as_deref(), Some("50 %"));
    }

    #[test]
    fn the_peer_is_compared_where_it_is_strongest() {
        let cases = vec![case(System::Durable, 30.0, 2.0), case(System::Noida, 10.0, 8.0)];
        let figures = Figures { cases, ..Figures::default() };
        let peer = Place { system: System::Noida, nodes: 1 };
        assert_eq!(against_peer(&figures, DURABLE, peer), Some((3.0, 4.0)));
    }
}
