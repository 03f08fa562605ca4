//! How long a consumer that did not exist before takes until it has its first message, beside what the client itself waits.
//!
//! - The client is confluent-kafka, unchanged; each consumer has a group of its own, by the classic protocol or by KIP-848's.
//! - librdkafka's own mock of a cluster answers at once, in the client's process: what is left are the client's own waits.
//!
//! Deliberately absent: how the client is timed (`bench/first_message.py`).

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::super::target::{Target, at_most};
use super::super::{median, value};
use super::server::{Place, System};
use super::{Bench, pairs, survive};
use crate::shell::{command, output, root};

const PROTOCOLS: [&str; 2] = ["classic", "consumer"];
/// Consumers of a round.
const CONSUMERS: &str = "5";

/// Fresh consumers of one protocol against one server, or against the client's own mock.
pub(super) struct Fresh {
    place: Option<Place>,
    protocol: &'static str,
    /// Milliseconds.
    rounds: Vec<f64>,
    /// Rounds in which no message came.
    failed: usize,
}

impl Fresh {
    fn name(&self) -> String {
        self.place.map_or_else(|| "librdkafka's own mock".to_owned(), Place::name)
    }

    /// `None` if no consumer got a message.
    fn ms(&self) -> Option<f64> {
        (!self.rounds.is_empty()).then(|| median(self.rounds.iter().copied()))
    }
}

impl Bench {
    /// Fresh consumers of everything that keeps what it gets, on one node.
    pub(super) fn fresh(&self) -> Result<Vec<Fresh>> {
        let python = std::path::absolute(crate::kafka::python()?)?;
        let systems = [System::Durable, System::Memory, System::Noida, System::Tansu];
        let places = [None].into_iter().chain(systems.map(|system| Some(Place { system, nodes: 1 })));
        let mut all: Vec<Fresh> = places
            .flat_map(|place| PROTOCOLS.map(|protocol| Fresh { place, protocol, rounds: Vec::new(), failed: 0 }))
            .collect();
        for _ in 0..self.options.rounds {
            for fresh in &mut all {
                let server = fresh.place.map(|place| self.start(place)).transpose()?;
                let address = server.as_ref().map_or_else(|| "mock".to_owned(), |server| server.address.to_string());
                match first_message(&python, &address, fresh.protocol) {
                    Ok(ms) => fresh.rounds.push(ms),
                    Err(error) => {
                        let Some(place) = fresh.place else { return Err(error) };
                        fresh.failed += survive(place, error)?;
                    }
                }
                if let Some(server) = server {
                    server.stop()?;
                }
            }
        }
        for fresh in &all {
            let ms = fresh.ms().map_or_else(|| "none".to_owned(), |ms| format!("{ms:.0} ms"));
            println!("{:<28} fresh {} consumer: first message after {ms}", fresh.name(), fresh.protocol);
        }
        Ok(all)
    }
}

fn first_message(python: &Path, address: &str, protocol: &str) -> Result<f64> {
    let script = root().join("bench/first_message.py");
    let words = [&*script.to_string_lossy(), address, "fresh-p1", protocol, CONSUMERS];
    value(&pairs(&output(&mut command(python, &words))?)?, "ms")
}

/// No more than the client's own waits and a tenth.
pub(super) fn targets(all: &[Fresh]) -> Vec<Target> {
    let of = |system: Option<System>, protocol| {
        let found = all.iter().find(|one| one.place.map(|place| place.system) == system && one.protocol == protocol);
        found.and_then(Fresh::ms)
    };
    let target = |protocol| {
        let (ours, floor) = (of(Some(System::Durable), protocol)?, of(None, protocol)?);
        let what = format!("first message of a fresh consumer, {protocol} protocol: beyond the client's own waits");
        Some(at_most(what, (ours / floor - 1.0) * 100.0, 10.0, "%", 0))
    };
    PROTOCOLS.into_iter().filter_map(target).collect()
}

/// The section of the report.
pub(super) fn section(text: &mut String, all: &[Fresh]) -> Result<()> {
    text.push_str(
        "## A fresh consumer\n\nFrom before a consumer is made until it has its first message, of a topic that has one: confluent-kafka, \
         unchanged, each consumer in\na group of its own. Medians over the rounds of the median of five consumers, one after the \
         other. librdkafka's own mock of a\ncluster answers at once, inside the client's process: what is left are the client's \
         waits.\n\n| Server | Classic protocol, ms | Consumer protocol, ms |\n|---|---:|---:|\n",
    );
    for pair in all.chunks(PROTOCOLS.len()) {
        let cells = pair.iter().map(|one| match (one.ms(), one.failed) {
            (None, _) => "none came".to_owned(),
            (Some(ms), 0) => format!("{ms:.0}"),
            (Some(ms), failed) => format!("{ms:.0} (none came in {failed} rounds)"),
        });
        writeln!(text, "| {} | {} |", pair[0].name(), cells.collect::<Vec<_>>().join(" | "))?;
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(system: Option<System>, rounds: Vec<f64>) -> Fresh {
        Fresh { place: system.map(|system| Place { system, nodes: 1 }), protocol: "classic", rounds, failed: 0 }
    }

    #[test]
    fn we_are_held_to_the_clients_own_waits() {
        let of = |ours| targets(&[one(None, vec![100.0]), one(Some(System::Durable), ours)]);
        assert_eq!(of(vec![104.0])[0].missed_by, None);
        assert_eq!(of(vec![120.0])[0].missed_by.as_deref(), Some("100 %"));
        assert!(of(vec![]).is_empty());
    }
}
