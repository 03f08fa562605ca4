//! Who spends whom among those that wait, and in which order all of it is worth mining.
//!
//! - upon one more: it joins the clusters of all that it spends into one, which is put in order anew ([`linearise`]);
//! - upon some less: their clusters fall apart, and what is left of them is put in order;
//! - upon a question what would be ([`Graph::stage`]): the same, beside it;
//! - all chunks of all clusters stand in one order: the best rate first, then the one that ends earlier among those of its
//!   cluster that have the same rate, then the one whose greatest txid is smaller.
//!
//! Deliberately absent: the transactions themselves, and why one comes or goes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;

use super::feerate::FeeFraction;
use super::linearise::{Node, linearise};

/// What a cluster may be at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterLimits {
    pub(super) count: usize,
    pub(super) weight: u64,
}

/// One that is to come in.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    pub(super) txid: Txid,
    pub(super) rate: FeeFraction,
    pub(super) parents: BTreeSet<Txid>,
}

/// What is mined as a whole.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// What it is taken to pay, for its weight.
    pub(super) rate: FeeFraction,
    /// Parents first.
    pub(super) members: Vec<Txid>,
    /// Of the cluster's chunks of the same rate, the weight up to this one's end.
    prefix: u64,
    greatest: Txid,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    rate: FeeFraction,
    parents: BTreeSet<Txid>,
    children: BTreeSet<Txid>,
    cluster: u64,
    chunk: usize,
    position: usize,
}

/// A chunk's place among all.
#[derive(Clone, Copy, Debug)]
struct Place {
    rate: FeeFraction,
    prefix: u64,
    greatest: Txid,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rate = other.rate.cmp_rate(self.rate);
        by_rate.then(self.prefix.cmp(&other.prefix)).then_with(|| self.greatest.cmp(&other.greatest))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

impl Chunk {
    fn place(&self) -> Place {
        Place { rate: self.rate, prefix: self.prefix, greatest: self.greatest }
    }
}

/// A rate to take the highest of; among equals the smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Best(FeeFraction);

impl Ord for Best {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_rate(other.0).then(other.0.size.cmp(&self.0.size)).then(self.0.fee.cmp(&other.0.fee))
    }
}

impl PartialOrd for Best {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The chunks of what would be touched, before and after, the best first.
#[derive(Clone, Debug, Default)]
pub(super) struct Staged {
    pub(super) before: Vec<FeeFraction>,
    pub(super) after: Vec<FeeFraction>,
}

type Members = BTreeMap<Txid, (FeeFraction, BTreeSet<Txid>)>;

/// All clusters.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    slots: BTreeMap<Txid, Slot>,
    clusters: BTreeMap<u64, Vec<Chunk>>,
    order: BTreeMap<Place, (u64, usize)>,
    next_cluster: u64,
}

impl Graph {
    fn slot(&self, txid: &Txid) -> &Slot {
        self.slots.get(txid).expect("the mempool asks for those that wait")
    }

    fn slot_mut(&mut self, txid: &Txid) -> &mut Slot {
        self.slots.get_mut(txid).expect("links lead to those that wait")
    }

    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.slots.contains_key(txid)
    }

    /// Those that it spends.
    pub(super) fn parents(&self, txid: &Txid) -> &BTreeSet<Txid> {
        &self.slot(txid).parents
    }

    /// Those that spend it.
    pub(super) fn children(&self, txid: &Txid) -> &BTreeSet<Txid> {
        &self.slot(txid).children
    }

    /// It, and all that it rests on.
    pub(super) fn ancestors(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.closure([*txid], |slot| &slot.parents)
    }

    /// They, and all that rests on them.
    pub(super) fn descendants(&self, txids: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.closure(txids, |slot| &slot.children)
    }

    fn closure(
        &self,
        txids: impl IntoIterator<Item = Txid>,
        next: impl Fn(&Slot) -> &BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let (mut found, mut open) = (BTreeSet::new(), txids.into_iter().collect::<Vec<_>>());
        while let Some(txid) = open.pop() {
            if found.insert(txid) {
                open.extend(next(self.slot(&txid)));
            }
        }
        found
    }

    /// Which cluster it is in.
    pub(super) fn cluster_of(&self, txid: &Txid) -> u64 {
        self.slot(txid).cluster
    }

    /// A cluster's chunks, the best first.
    pub(super) fn cluster(&self, cluster: u64) -> &[Chunk] {
        self.clusters.get(&cluster).map_or(&[], Vec::as_slice)
    }

    /// The chunk that it is part of.
    pub(super) fn chunk_of(&self, txid: &Txid) -> &Chunk {
        let slot = self.slot(txid);
        &self.cluster(slot.cluster)[slot.chunk]
    }

    /// Which of two is worth mining earlier, and may be.
    pub(super) fn compare(&self, a: &Txid, b: &Txid) -> Ordering {
        let by_chunk = self.chunk_of(a).place().cmp(&self.chunk_of(b).place());
        by_chunk.then_with(|| self.slot(a).position.cmp(&self.slot(b).position))
    }

    /// All chunks with their clusters, the best first.
    pub(super) fn chunks(&self) -> impl DoubleEndedIterator<Item = (u64, &Chunk)> {
        self.order.values().map(|(cluster, chunk)| (*cluster, &self.cluster(*cluster)[*chunk]))
    }

    /// What would be, or nothing if a cluster would be too large. Additions stand behind those that they spend; of their
    /// parents, those that are removed do not count.
    pub(super) fn stage(
        &self,
        additions: &[Addition],
        removals: &BTreeSet<Txid>,
        limits: ClusterLimits,
    ) -> Option<Staged> {
        let touched = removals.iter().chain(additions.iter().flat_map(|addition| &addition.parents));
        let touched: BTreeSet<u64> =
            touched.filter(|txid| self.contains(txid)).map(|txid| self.cluster_of(txid)).collect();
        let mut members = self.members(&touched);
        members.retain(|txid, _| !removals.contains(txid));
        for addition in additions {
            members.insert(addition.txid, (addition.rate, addition.parents.clone()));
        }
        let present: BTreeSet<Txid> = members.keys().copied().collect();
        for (_, parents) in members.values_mut() {
            parents.retain(|parent| present.contains(parent));
        }
        let mut staged = Staged::default();
        staged.before.extend(touched.iter().flat_map(|cluster| self.cluster(*cluster)).map(|chunk| chunk.rate));
        for part in parts(&members) {
            if part.len() > limits.count || weight(&members, &part) > limits.weight {
                return None;
            }
            staged.after.extend(ordered(&members, &part).into_iter().map(|chunk| chunk.rate));
        }
        for side in [&mut staged.before, &mut staged.after] {
            side.sort_by(|a, b| b.cmp_rate(*a));
        }
        Some(staged)
    }

    fn members(&self, clusters: &BTreeSet<u64>) -> Members {
        let txids = clusters.iter().flat_map(|cluster| self.cluster(*cluster)).flat_map(|chunk| &chunk.members);
        txids.map(|txid| (*txid, (self.slot(txid).rate, self.slot(txid).parents.clone()))).collect()
    }

    /// Takes one in. The limits were looked at; so it has no children here, unless they are [linked](Self::link) later.
    pub(super) fn insert(&mut self, addition: Addition) {
        assert!(!self.contains(&addition.txid), "nothing waits twice");
        let clusters = addition.parents.iter().map(|parent| self.cluster_of(parent)).collect();
        let mut members = self.take_apart(&clusters);
        members.insert(addition.txid, (addition.rate, addition.parents.clone()));
        for parent in &addition.parents {
            self.slot_mut(parent).children.insert(addition.txid);
        }
        let slot = Slot { rate: addition.rate, parents: addition.parents, ..Slot::default() };
        self.slots.insert(addition.txid, slot);
        self.put_together(&members);
    }

    /// Takes some out. What rested on them alone rests on nothing then.
    pub(super) fn remove(&mut self, txids: &BTreeSet<Txid>) {
        let clusters = txids.iter().map(|txid| self.cluster_of(txid)).collect();
        let mut members = self.take_apart(&clusters);
        for txid in txids {
            members.remove(txid);
            let slot = self.slots.remove(txid).expect("it has a cluster");
            for parent in slot.parents.iter().filter(|parent| !txids.contains(*parent)) {
                self.slot_mut(parent).children.remove(txid);
            }
            for child in slot.children.iter().filter(|child| !txids.contains(*child)) {
                self.slot_mut(child).parents.remove(txid);
                if let Some((_, parents)) = members.get_mut(child) {
                    parents.remove(txid);
                }
            }
        }
        self.put_together(&members);
    }

    /// Another fee.
    pub(super) fn set_fee(&mut self, txid: &Txid, fee: i64) {
        let members = self.take_apart(&BTreeSet::from([self.cluster_of(txid)]));
        self.slot_mut(txid).rate.fee = fee;
        self.put_together(
            &members.into_iter().map(|(txid, (_, parents))| (txid, (self.slot(&txid).rate, parents))).collect(),
        );
    }

    /// Says that children spend parents that came in later than they. The limits were looked at ([`Self::surplus`]).
    pub(super) fn link(&mut self, links: &BTreeSet<(Txid, Txid)>) {
        let ends = links.iter().flat_map(|(parent, child)| [parent, child]);
        let clusters = ends.map(|txid| self.cluster_of(txid)).collect();
        let mut members = self.take_apart(&clusters);
        for (parent, child) in links {
            self.slot_mut(parent).children.insert(*child);
            self.slot_mut(child).parents.insert(*parent);
            if let Some((_, parents)) = members.get_mut(child) {
                parents.insert(*parent);
            }
        }
        self.put_together(&members);
    }

    /// Who would have to go for these links to fit the limits.
    ///
    /// All that would hang together is gone through, the best chunks first and parents before children; whoever would make
    /// his cluster too large at that moment goes, and all that rests on him.
    pub(super) fn surplus(&self, links: &BTreeSet<(Txid, Txid)>, limits: ClusterLimits) -> BTreeSet<Txid> {
        let ends = links.iter().flat_map(|(parent, child)| [parent, child]);
        let clusters: BTreeSet<u64> = ends.map(|txid| self.cluster_of(txid)).collect();
        let mut members = self.members(&clusters);
        for (parent, child) in links {
            if let Some((_, parents)) = members.get_mut(child) {
                parents.insert(*parent);
            }
        }
        let too_large = |part: &Vec<Txid>| part.len() > limits.count || weight(&members, part) > limits.weight;
        parts(&members).into_iter().filter(too_large).flat_map(|part| self.trim(&members, part, limits)).collect()
    }

    fn trim(&self, members: &Members, part: Vec<Txid>, limits: ClusterLimits) -> Vec<Txid> {
        // Besides its parents, each waits for the one before it in its cluster's order.
        let mut waits: BTreeMap<Txid, BTreeSet<Txid>> =
            part.iter().map(|txid| (*txid, members[txid].1.clone())).collect();
        for cluster in part.iter().map(|txid| self.cluster_of(txid)).collect::<BTreeSet<_>>() {
            let order: Vec<Txid> = self.cluster(cluster).iter().flat_map(|chunk| &chunk.members).copied().collect();
            for pair in order.windows(2) {
                waits.entry(pair[1]).or_default().insert(pair[0]);
            }
        }
        let mut followers: BTreeMap<Txid, Vec<Txid>> = BTreeMap::new();
        for (txid, before) in &waits {
            before.iter().for_each(|other| followers.entry(*other).or_default().push(*txid));
        }
        let best = |txid: Txid| (Best(self.chunk_of(&txid).rate), txid);
        let mut left: BTreeMap<Txid, usize> = waits.iter().map(|(txid, before)| (*txid, before.len())).collect();
        let mut ready: BTreeSet<(Best, Txid)> =
            left.iter().filter(|(_, count)| **count == 0).map(|(txid, _)| best(*txid)).collect();
        let mut groups: BTreeMap<Txid, (usize, u64)> = BTreeMap::new();
        let mut leader: BTreeMap<Txid, Txid> = BTreeMap::new();
        while let Some((_, txid)) = ready.pop_last() {
            let joined: BTreeSet<Txid> = waits[&txid].iter().map(|other| leader[other]).collect();
            let sum = joined
                .iter()
                .map(|group| groups[group])
                .fold((1, members[&txid].0.size), |(count, weight), (other_count, other_weight)| {
                    (count + other_count, weight + other_weight)
                });
            if sum.0 > limits.count || sum.1 > limits.weight {
                continue;
            }
            leader.values_mut().filter(|group| joined.contains(*group)).for_each(|group| *group = txid);
            leader.insert(txid, txid);
            groups.insert(txid, sum);
            for follower in followers.remove(&txid).unwrap_or_default() {
                let count = left.get_mut(&follower).expect("followers are members");
                *count -= 1;
                if *count == 0 {
                    ready.insert(best(follower));
                }
            }
        }
        part.into_iter().filter(|txid| !leader.contains_key(txid)).collect()
    }

    fn take_apart(&mut self, clusters: &BTreeSet<u64>) -> Members {
        let members = self.members(clusters);
        for chunk in clusters.iter().filter_map(|cluster| self.clusters.remove(cluster)).flatten() {
            self.order.remove(&chunk.place());
        }
        members
    }

    fn put_together(&mut self, members: &Members) {
        for part in parts(members) {
            let (cluster, chunks) = (self.next_cluster, ordered(members, &part));
            self.next_cluster += 1;
            let mut position = 0;
            for (at, chunk) in chunks.iter().enumerate() {
                let other = self.order.insert(chunk.place(), (cluster, at));
                assert!(other.is_none(), "no two chunks have the same place");
                for txid in &chunk.members {
                    let slot = self.slot_mut(txid);
                    (slot.cluster, slot.chunk, slot.position) = (cluster, at, position);
                    position += 1;
                }
            }
            self.clusters.insert(cluster, chunks);
        }
    }

    /// Panics if what is kept is not what would be found anew.
    pub(super) fn invariants(&self, limits: ClusterLimits) {
        let members: Members =
            self.slots.iter().map(|(txid, slot)| (*txid, (slot.rate, slot.parents.clone()))).collect();
        let mut chunks = 0;
        for part in parts(&members) {
            assert!(part.len() <= limits.count && weight(&members, &part) <= limits.weight, "a cluster is too large");
            let (found, cluster) = (ordered(&members, &part), self.cluster_of(&part[0]));
            let kept = self.cluster(cluster);
            assert_eq!(found.len(), kept.len(), "a cluster is in another order");
            for (at, (found, kept)) in found.iter().zip(kept).enumerate() {
                assert_eq!((found.rate, &found.members, found.prefix), (kept.rate, &kept.members, kept.prefix));
                assert_eq!(self.order.get(&kept.place()), Some(&(cluster, at)), "a chunk has no place");
            }
            chunks += found.len();
        }
        assert_eq!(chunks, self.order.len(), "a chunk is in order that is not there");
        for (txid, slot) in &self.slots {
            assert!(slot.parents.iter().all(|parent| self.slot(parent).children.contains(txid)), "a link is one-sided");
            assert!(slot.children.iter().all(|child| self.slot(child).parents.contains(txid)), "a link is one-sided");
        }
    }
}

fn weight(members: &Members, part: &[Txid]) -> u64 {
    part.iter().map(|txid| members[txid].0.size).sum()
}

/// What hangs together, each part in the order of txids.
fn parts(members: &Members) -> Vec<Vec<Txid>> {
    let mut links: BTreeMap<Txid, Vec<Txid>> = BTreeMap::new();
    for (txid, (_, parents)) in members {
        for parent in parents {
            links.entry(*txid).or_default().push(*parent);
            links.entry(*parent).or_default().push(*txid);
        }
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for txid in members.keys() {
        let (mut part, mut open) = (Vec::new(), vec![*txid]);
        while let Some(txid) = open.pop() {
            if seen.insert(txid) {
                part.push(txid);
                open.extend(links.get(&txid).into_iter().flatten());
            }
        }
        if !part.is_empty() {
            part.sort_unstable();
            found.push(part);
        }
    }
    found
}

/// A part's chunks, the best first.
fn ordered(members: &Members, part: &[Txid]) -> Vec<Chunk> {
    let bit = |txid: &Txid| part.binary_search(txid).map_or(0, |at| 1u64 << at);
    let nodes: Vec<Node> = part
        .iter()
        .map(|txid| {
            let (rate, parents) = &members[txid];
            Node { txid: *txid, rate: *rate, parents: parents.iter().fold(0, |set, parent| set | bit(parent)) }
        })
        .collect();
    let mut chunks: Vec<Chunk> = Vec::new();
    for chunk in linearise(&nodes) {
        let same = chunks.last().filter(|last| last.rate.cmp_rate(chunk.rate) == Ordering::Equal);
        let prefix = same.map_or(0, |last| last.prefix) + chunk.rate.size;
        let members: Vec<Txid> = chunk.members.into_iter().map(|at| part[at]).collect();
        let greatest = *members.iter().max().expect("a chunk has members");
        chunks.push(Chunk { rate: chunk.rate, members, prefix, greatest });
    }
    chunks
}
