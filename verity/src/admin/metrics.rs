//! `GET /metrics`: the node behind this port, in Prometheus text.
//!
//! What a node counts costs it an addition; everything else is read when it is asked for. A count begins anew with each
//! start of the node, as Prometheus expects of a process that was restarted.

mod kafka;

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use verity_node::Timings;

use crate::admin::status::{BitcoinReport, GroupReport, NodeReport, measured};
use crate::admin::{Admin, Refused};

/// What tells the values of a figure apart, such as the group.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Something that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) values: Values,
}

/// What is measured, by labels.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// How something is now.
    Gauge(Vec<(Labels, u64)>),
    /// How often something happened.
    Counter(Vec<(Labels, u64)>),
    /// How long something took.
    Histogram(Vec<(Labels, Timings)>),
}

pub(crate) async fn serve(State(admin): State<Admin>) -> Result<impl IntoResponse, Refused> {
    let node = measured(admin.lab.as_ref(), admin.node).await;
    let text = exposition(&node);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}

fn exposition(node: &NodeReport) -> String {
    let mut out = String::new();
    for Figure { name, help, values } in figures(node) {
        let kind = match values {
            Values::Gauge(_) => "gauge",
            Values::Counter(_) => "counter",
            Values::Histogram(_) => "histogram",
        };
        let _ = writeln!(out, "# HELP verity_{name} {help}\n# TYPE verity_{name} {kind}");
        for (suffix, labels, value) in samples(&values) {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(out, "verity_{name}{suffix}{labels} {value}");
        }
    }
    out
}

/// A label's value as the text format wants it: clients choose some of them.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Every number of a figure: what its name ends in, its labels, and itself. Those of a histogram are counts as well:
/// how often it took no longer than `le` seconds, how often at all, and how many seconds together.
pub(crate) fn samples(values: &Values) -> Vec<(&'static str, Labels, String)> {
    match values {
        Values::Gauge(all) | Values::Counter(all) => {
            all.iter().map(|(labels, value)| ("", labels.clone(), value.to_string())).collect()
        }
        Values::Histogram(all) => all.iter().flat_map(|(labels, timings)| histogram(labels, timings)).collect(),
    }
}

fn histogram(labels: &Labels, timings: &Timings) -> Vec<(&'static str, Labels, String)> {
    let mut samples = Vec::new();
    let mut below = 0;
    for (place, count) in timings.buckets.iter().enumerate() {
        below += count;
        let bound = Timings::bound(place).map_or_else(|| "+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
        let mut labels = labels.clone();
        labels.push(("le", bound));
        samples.push(("_bucket", labels, below.to_string()));
    }
    samples.push(("_sum", labels.clone(), timings.sum.as_secs_f64().to_string()));
    samples.push(("_count", labels.clone(), below.to_string()));
    samples
}

/// Everything that is measured of a node, in one order.
pub(crate) fn figures(node: &NodeReport) -> Vec<Figure> {
    let mut all = states(node);
    all.extend(counts(node));
    all.extend(node.bitcoin.iter().flat_map(bitcoin));
    all.extend(node.kafka.iter().flat_map(|found| kafka::figures(found, &node.figures)));
    all
}

fn by_group(node: &NodeReport, value: fn(&GroupReport) -> u64) -> Vec<(Labels, u64)> {
    node.groups.iter().map(|group| (vec![("group", group.name.clone())], value(group))).collect()
}

/// How the node is.
fn states(node: &NodeReport) -> Vec<Figure> {
    let plain = |name, help, value| Figure { name, help, values: Values::Gauge(vec![(Labels::new(), value)]) };
    let groups = |name, help, value| Figure { name, help, values: Values::Gauge(by_group(node, value)) };
    vec![
        plain("up", "1 while the node runs.", u64::from(node.running)),
        plain("incarnation", "How many times the node has started.", node.incarnation),
        plain("connections", "Open client connections.", node.connections as u64),
        plain("peers_up", "Peers that the node is connected to.", node.peers_up.len() as u64),
        groups("group_leads", "1 if the node leads the group.", |group| u64::from(group.role == "leader")),
        groups("group_term", "The group's term.", |group| group.term),
        groups("group_applied_index", "The last applied log index.", |group| group.applied),
        groups("group_committed_index", "The last committed log index.", |group| group.committed),
        groups("group_log_entries", "Entries in the local log.", |group| (group.last + 1).saturating_sub(group.first)),
        groups("group_snapshot_index", "The last log index in the latest snapshot.", |group| group.snapshot),
        groups("group_waiting_commands", "Commands of this node that wait for the order.", |group| {
            group.waiting as u64
        }),
        groups("group_state_bytes", "Memory that the state holds, roughly.", |group| group.state_bytes),
        groups("group_hibernating", "1 while the group sleeps.", |group| u64::from(group.hibernating)),
    ]
}

/// How its Bitcoin node is.
fn bitcoin(of: &BitcoinReport) -> Vec<Figure> {
    let plain = |name, help, value| Figure { name, help, values: Values::Gauge(vec![(Labels::new(), value)]) };
    vec![
        plain("bitcoin_height", "The tip's height.", of.height),
        plain("bitcoin_headers", "The height of the header with the most work.", of.headers),
        plain("bitcoin_peers", "Connected peers.", of.peers),
        plain("bitcoin_mempool_transactions", "Transactions that wait for a block.", of.transactions),
    ]
}

/// What the node has counted since it started.
fn counts(node: &NodeReport) -> Vec<Figure> {
    let counted = &node.figures;
    let plain = |name, help, value| Figure { name, help, values: Values::Counter(vec![(Labels::new(), value)]) };
    let groups = |name, help, value| Figure { name, help, values: Values::Counter(by_group(node, value)) };
    let ways = |name, help, received, sent| {
        let way = |way: &str, value| (vec![("direction", way.to_owned())], value);
        Figure { name, help, values: Values::Counter(vec![way("received", received), way("sent", sent)]) }
    };
    let requests = counted.requests.iter().map(|requests| {
        let labels = vec![("system", requests.system.to_owned()), ("kind", requests.kind.to_owned())];
        (labels, requests.took.clone())
    });
    vec![
        groups("group_commits_applied_total", "Entries of the log that the state has seen.", |group| group.applied),
        groups("group_proposals_total", "Commands that the node asked the group to order.", |group| group.proposed),
        Figure {
            name: "log_sync_seconds",
            help: "How long the log's writes and syncs took.",
            values: Values::Histogram(vec![(Labels::new(), counted.log_syncs.clone())]),
        },
        plain("log_bytes_total", "Bytes that were given to the log.", counted.log_bytes),
        plain("connections_opened_total", "Client connections that were opened.", counted.connections_opened),
        ways(
            "client_bytes_total",
            "Bytes between the node and its clients.",
            counted.client_bytes_received,
            counted.client_bytes_sent,
        ),
        ways(
            "peer_bytes_total",
            "Bytes between the node and its peers.",
            counted.peer_bytes_received,
            counted.peer_bytes_sent,
        ),
        plain("peers_refused_total", "Peers that were not who they had to be.", counted.peers_refused),
        Figure {
            name: "request_seconds",
            help: "How long clients' requests took inside the node.",
            values: Values::Histogram(requests.collect()),
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use verity_node::Histogram;

    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn histograms_are_cumulative() {
        let histogram = Histogram::default();
        for micros in [10, 100, 100, 10_000_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let labels = vec![("kind", "read".to_owned())];
        let samples = samples(&Values::Histogram(vec![(labels.clone(), histogram.read())]));
        let values: Vec<&str> = samples.iter().map(|(_, _, value)| value.as_str()).collect();
        assert_eq!(&values[..3], ["1", "3", "3"], "each bucket holds those before it");
        assert_eq!(samples[0].1, [("kind", "read".to_owned()), ("le", "0.000064".to_owned())]);
        let last = &samples[samples.len() - 3];
        assert_eq!((last.1[1].1.as_str(), last.2.as_str()), ("+Inf", "4"));
        assert_eq!(samples[samples.len() - 1], ("_count", labels, "4".to_owned()));
    }
}
