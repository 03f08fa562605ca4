//! Which nodes hold a new partition, in the spirit of Kafka's striped placement.
//!
//! - upon a new partition: its leader is the online node that leads the fewest partitions of the topic, then of the
//!   cluster;
//! - upon each further replica: racks that hold the fewest replicas of the partition come first, then nodes that are
//!   online, then those with the fewest replicas of the topic, then of the cluster;
//! - upon a tie: the nodes take turns, from where the last group left off, so that partitions do not share their nodes.
//!
//! Nothing is random: the same state and the same command give the same placement on every replica. Where Kafka stripes
//! over a shuffled list, this counts, so that nodes which came later get their share of new topics too.
//!
//! Deliberately absent: moving what is there already; that is asked for.

use std::collections::BTreeMap;

use super::command::Refusal;
use super::image::{ClusterImage, Load, Topic};
use crate::wire::ErrorCode;

/// A node as a place.
struct Place<'a> {
    id: i32,
    rack: Option<&'a str>,
    online: bool,
    /// Of the topic, and of the whole cluster.
    topic: Load,
    cluster: Load,
}

fn refuse(message: String) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message)
}

/// Places so many new partitions of a topic, behind those that it has.
pub(super) fn place(
    image: &ClusterImage,
    topic: Option<&Topic>,
    partitions: usize,
    replication_factor: i16,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let mut own: BTreeMap<i32, Load> = BTreeMap::new();
    for partition in topic.iter().flat_map(|topic| &topic.partitions) {
        for (place, id) in partition.goal().iter().enumerate() {
            let load = own.entry(*id).or_default();
            load.replicas += 1;
            load.leaders += usize::from(place == 0);
        }
    }
    let places = image.nodes().map(|node| Place {
        id: node.id,
        rack: node.rack.as_deref(),
        online: !node.fenced,
        topic: own.get(&node.id).copied().unwrap_or_default(),
        cluster: image.load(node.id),
    });
    let mut places: Vec<Place<'_>> = places.collect();
    let wanted = usize::try_from(replication_factor).ok().filter(|wanted| *wanted > 0).ok_or_else(|| {
        refuse(format!("Invalid replication factor {replication_factor}: the replication factor must be positive."))
    })?;
    if !places.iter().any(|place| place.online) {
        return Err(refuse("All brokers are currently fenced.".to_owned()));
    }
    if wanted > places.len() {
        return Err(refuse(format!(
            "The target replication factor of {wanted} cannot be reached because only {} broker(s) are registered.",
            places.len()
        )));
    }
    let turn = usize::try_from(image.made() % 1_000_003).expect("it is smaller than that");
    Ok((0..partitions).map(|partition| one(&mut places, wanted, turn.wrapping_add(partition))).collect())
}

/// Places one partition, and counts it.
fn one(places: &mut [Place<'_>], wanted: usize, turn: usize) -> Vec<i32> {
    let count = places.len();
    // Each partition begins one node further on, and counts in larger steps with every round.
    let first = turn % count;
    let step = 1 + (turn / count) % count.saturating_sub(1).max(1);
    let rank = |at: usize| (at + count - first) % count * step % count;
    let mut chosen: Vec<usize> = Vec::with_capacity(wanted);
    let mut racks: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    while chosen.len() < wanted {
        let open = (0..count).filter(|at| !chosen.contains(at));
        let best = if chosen.is_empty() {
            open.filter(|at| places[*at].online).min_by_key(|at| {
                let place = &places[*at];
                (
                    place.topic.leaders,
                    place.cluster.leaders,
                    place.topic.replicas,
                    place.cluster.replicas,
                    rank(*at),
                    *at,
                )
            })
        } else {
            open.min_by_key(|at| {
                let place = &places[*at];
                let shared = racks.get(&place.rack).copied().unwrap_or(0);
                (shared, !place.online, place.topic.replicas, place.cluster.replicas, rank(*at), *at)
            })
        };
        let best = best.expect("there are as many nodes as replicas, and one is online");
        let place = &mut places[best];
        *racks.entry(place.rack).or_default() += 1;
        let leads = usize::from(chosen.is_empty());
        for load in [&mut place.topic, &mut place.cluster] {
            load.replicas += 1;
            load.leaders += leads;
        }
        chosen.push(best);
    }
    chosen.into_iter().map(|at| places[at].id).collect()
}
