//! In which order a cluster's transactions are worth mining: the best that there is.
//!
//! A cluster is what hangs together by spending. A *chunk* is mined as a whole; of all sets that contain what their members
//! spend, the first chunk has the highest fee rate, the second the highest of what is left, and so on. The rates of these
//! chunks are the same for every best order, so that two nodes that find one agree on what comes in, what goes, and what is
//! mined.
//!
//! It is found by cutting: a transaction is worth its fee less what the whole set's rate would ask for its weight. The set
//! worth most that contains what its members spend is a minimum cut (Picard, 1976); it has all chunks above that rate, the
//! rest those at or below it, and each goes on by itself. Where nothing is above the rate, the whole has one rate, and falls
//! apart into the smallest chunks along what the flow still allows (Picard and Queyranne, 1980).
//!
//! Equal rates are ordered by size, the smaller first, then by the greatest txid, the smaller first.
//!
//! Deliberately absent: clusters of more than 64. Limits keep those out before they come here.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bitcoin::Txid;

use super::feerate::FeeFraction;

/// No more fit into one cluster.
pub(super) const CLUSTER_COUNT_MAX: usize = 64;

/// A transaction of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) txid: Txid,
    /// What it is taken to pay, and its weight.
    pub(super) rate: FeeFraction,
    /// Those that it spends, a bit for each index.
    pub(super) parents: u64,
}

/// What is mined as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkOf {
    /// Indices, parents first.
    pub(super) members: Vec<usize>,
    pub(super) rate: FeeFraction,
}

/// The best order, chunk by chunk.
pub(super) fn linearise(nodes: &[Node]) -> Vec<ChunkOf> {
    assert!(nodes.len() <= CLUSTER_COUNT_MAX, "limits keep clusters small");
    if let [node] = nodes {
        return vec![ChunkOf { members: vec![0], rate: node.rate }];
    }
    let mut sets = Vec::new();
    let all = if nodes.is_empty() { 0 } else { u64::MAX >> (64 - nodes.len()) };
    let mut open = vec![all];
    while let Some(set) = open.pop() {
        if set == 0 {
            continue;
        }
        match cut(nodes, set) {
            Cut::Parts(parts) => sets.extend(parts),
            Cut::Above(above) => open.extend([above, set & !above]),
        }
    }
    in_order(nodes, sets)
}

enum Cut {
    /// Part of it has a higher rate than the whole.
    Above(u64),
    /// It has one rate, and these are its smallest chunks.
    Parts(Vec<u64>),
}

fn bits(set: u64) -> impl Iterator<Item = usize> {
    let mut left = set;
    std::iter::from_fn(move || {
        let at = (left != 0).then(|| left.trailing_zeros() as usize)?;
        left &= left - 1;
        Some(at)
    })
}

fn rate_of(nodes: &[Node], set: u64) -> FeeFraction {
    bits(set).fold(FeeFraction::default(), |sum, at| sum.plus(nodes[at].rate))
}

fn cut(nodes: &[Node], set: u64) -> Cut {
    if set.count_ones() == 1 {
        return Cut::Parts(vec![set]);
    }
    let members: Vec<usize> = bits(set).collect();
    let whole = rate_of(nodes, set);
    let mut flow = Flow::new(members.len());
    for (at, member) in members.iter().enumerate() {
        let rate = nodes[*member].rate;
        let worth = i128::from(rate.fee) * i128::from(whole.size) - i128::from(whole.fee) * i128::from(rate.size);
        if worth > 0 {
            flow.set(flow.source(), at, worth);
        } else {
            flow.set(at, flow.sink(), -worth);
        }
        for (parent, other) in members.iter().enumerate() {
            if nodes[*member].parents >> *other & 1 == 1 {
                flow.set(at, parent, i128::MAX / 4);
            }
        }
    }
    flow.run();
    let of_places = |places: u64| bits(places).fold(0, |set, place| set | 1u64 << members[place]);
    let above = flow.reached();
    if above != 0 {
        return Cut::Above(of_places(above));
    }
    Cut::Parts(flow.components().into_iter().map(of_places).collect())
}

/// Puts chunks after those that they spend, the best first, and so within each.
fn in_order(nodes: &[Node], sets: Vec<u64>) -> Vec<ChunkOf> {
    let greatest = |set: u64| bits(set).map(|at| nodes[at].txid).max();
    let spends: Vec<u64> =
        sets.iter().map(|set| bits(*set).fold(0, |all, at| all | nodes[at].parents) & !set).collect();
    let mut left: Vec<usize> = (0..sets.len()).collect();
    let (mut done, mut chunks) = (0u64, Vec::with_capacity(sets.len()));
    while !left.is_empty() {
        let ready = left.iter().copied().filter(|chunk| spends[*chunk] & !done == 0);
        let next = ready.min_by(|a, b| {
            by_rate_then_size(rate_of(nodes, sets[*a]), rate_of(nodes, sets[*b]))
                .then_with(|| greatest(sets[*a]).cmp(&greatest(sets[*b])))
        });
        let next = next.expect("chunks of the best order do not spend each other in circles");
        left.retain(|chunk| *chunk != next);
        chunks.push(ChunkOf { members: within(nodes, sets[next]), rate: rate_of(nodes, sets[next]) });
        done |= sets[next];
    }
    chunks
}

fn by_rate_then_size(a: FeeFraction, b: FeeFraction) -> Ordering {
    b.cmp_rate(a).then(a.size.cmp(&b.size))
}

fn within(nodes: &[Node], set: u64) -> Vec<usize> {
    let (mut left, mut order) = (set, Vec::new());
    while left != 0 {
        let ready = bits(left).filter(|at| nodes[*at].parents & left == 0);
        let next = ready
            .min_by(|a, b| {
                let (a, b) = (&nodes[*a], &nodes[*b]);
                by_rate_then_size(a.rate, b.rate).then_with(|| a.txid.cmp(&b.txid))
            })
            .expect("transactions do not spend each other in circles");
        order.push(next);
        left &= !(1 << next);
    }
    order
}

/// A flow from a source to a sink, as much as goes (Dinic).
struct Flow {
    nodes: usize,
    /// What may still go from each to each.
    left: Vec<i128>,
}

impl Flow {
    fn new(count: usize) -> Self {
        let nodes = count + 2;
        Self { nodes, left: vec![0; nodes * nodes] }
    }

    fn source(&self) -> usize {
        self.nodes - 2
    }

    fn sink(&self) -> usize {
        self.nodes - 1
    }

    fn set(&mut self, from: usize, to: usize, capacity: i128) {
        self.left[from * self.nodes + to] = capacity;
    }

    fn open(&self, from: usize, to: usize) -> bool {
        self.left[from * self.nodes + to] > 0
    }

    /// How far each is from the source; the length of the graph where there is no way.
    fn levels(&self) -> Vec<usize> {
        let mut levels = vec![self.nodes; self.nodes];
        levels[self.source()] = 0;
        let mut queue = VecDeque::from([self.source()]);
        while let Some(from) = queue.pop_front() {
            for to in 0..self.nodes {
                if levels[to] == self.nodes && self.open(from, to) {
                    levels[to] = levels[from] + 1;
                    queue.push_back(to);
                }
            }
        }
        levels
    }

    fn run(&mut self) {
        loop {
            let levels = self.levels();
            if levels[self.sink()] == self.nodes {
                return;
            }
            let mut tried = vec![0; self.nodes];
            while self.push(&levels, &mut tried) {}
        }
    }

    /// Sends what goes along one shortest way; false if there is none. `tried` is where each goes on looking.
    fn push(&mut self, levels: &[usize], tried: &mut [usize]) -> bool {
        let mut way = vec![self.source()];
        while let Some(from) = way.last().copied().filter(|from| *from != self.sink()) {
            let next = (tried[from]..self.nodes).find(|to| levels[*to] == levels[from] + 1 && self.open(from, *to));
            match next {
                Some(to) => {
                    tried[from] = to;
                    way.push(to);
                }
                None => {
                    tried[from] = self.nodes;
                    way.pop();
                    if let Some(before) = way.last() {
                        tried[*before] += 1;
                    }
                }
            }
        }
        let least = way.windows(2).map(|step| self.left[step[0] * self.nodes + step[1]]).min();
        let Some(least) = least else { return false };
        for step in way.windows(2) {
            self.left[step[0] * self.nodes + step[1]] -= least;
            self.left[step[1] * self.nodes + step[0]] += least;
        }
        true
    }

    /// Those that the source still reaches.
    fn reached(&self) -> u64 {
        let levels = self.levels();
        (0..self.nodes - 2).filter(|node| levels[*node] < self.nodes).fold(0, |set, node| set | 1 << node)
    }

    /// Groups of which each reaches all others of it, without the source and the sink.
    fn components(&self) -> Vec<u64> {
        let count = self.nodes - 2;
        let mut reach: Vec<u64> = (0..count)
            .map(|from| (0..count).filter(|to| self.open(from, *to)).fold(1 << from, |set, to| set | 1 << to))
            .collect();
        for over in 0..count {
            for from in 0..count {
                if reach[from] >> over & 1 == 1 {
                    reach[from] |= reach[over];
                }
            }
        }
        let (mut seen, mut groups) = (0u64, Vec::new());
        for node in 0..count {
            if seen >> node & 1 == 0 {
                let group = bits(reach[node]).filter(|to| reach[*to] >> node & 1 == 1).fold(0, |set, to| set | 1 << to);
                seen |= group;
                groups.push(group);
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    use super::*;

    fn node(name: u8, fee: i64, size: u64, parents: u64) -> Node {
        Node { txid: Txid::from_byte_array([name; 32]), rate: FeeFraction::new(fee, size), parents }
    }

    fn members(nodes: &[Node]) -> Vec<Vec<usize>> {
        linearise(nodes).into_iter().map(|chunk| chunk.members).collect()
    }

    #[test]
    fn a_child_pays_for_its_parent() {
        assert_eq!(members(&[node(1, 0, 100, 0), node(2, 300, 100, 1)]), [vec![0, 1]]);
        assert_eq!(members(&[node(1, 300, 100, 0), node(2, 100, 100, 1)]), [vec![0], vec![1]]);
        // Two children pay together for what neither would pay for alone.
        let shared = [node(1, 0, 100, 0), node(2, 150, 100, 1), node(3, 150, 100, 1), node(4, 90, 100, 0b1000)];
        assert_eq!(members(&shared[..3]), [vec![0, 1, 2]]);
    }

    #[test]
    fn equal_rates_fall_apart() {
        assert_eq!(members(&[node(1, 10, 10, 0), node(2, 20, 20, 1), node(3, 10, 10, 1)]), [vec![0], vec![2], vec![1]]);
        // But not where one is needed by the other to have the rate.
        assert_eq!(members(&[node(1, 5, 10, 0), node(2, 15, 10, 1), node(3, 10, 10, 0b11)]), [vec![0, 1], vec![2]]);
    }

    /// The best rate among all sets that contain what their members spend.
    fn best_by_trying(nodes: &[Node], left: u64) -> FeeFraction {
        let all = 1u64 << nodes.len();
        (1..all)
            .filter(|set| set & !left == 0)
            .filter(|set| bits(*set).all(|at| nodes[at].parents & left & !set == 0))
            .map(|set| rate_of(nodes, set))
            .max_by(|a, b| a.cmp_rate(*b))
            .expect("the whole is one")
    }

    proptest! {
        #[test]
        fn no_chunk_could_be_better(
            raw in proptest::collection::vec((0i64..20, 1u64..8, any::<u64>(), any::<u64>()), 1..9),
        ) {
            let nodes: Vec<Node> = raw.iter().enumerate()
                .map(|(at, (fee, size, some, other))| node(at as u8, *fee, *size, some & other & ((1 << at) - 1)))
                .collect();
            let chunks = linearise(&nodes);
            let mut left = (1u64 << nodes.len()) - 1;
            for chunk in chunks {
                let best = best_by_trying(&nodes, left);
                prop_assert_eq!(chunk.rate.cmp_rate(best), Ordering::Equal);
                for member in chunk.members {
                    prop_assert_eq!(nodes[member].parents & left, 0);
                    left &= !(1 << member);
                }
            }
            prop_assert_eq!(left, 0);
        }

        #[test]
        fn large_clusters_end(
            raw in proptest::collection::vec((0i64..1_000_000, 1u64..100_000, any::<u64>(), any::<u64>()), 64),
        ) {
            let nodes: Vec<Node> = raw.iter().enumerate()
                .map(|(at, (fee, size, some, other))| node(at as u8, *fee, *size, some & other & ((1 << at) - 1)))
                .collect();
            let chunks = linearise(&nodes);
            prop_assert!(chunks.windows(2).all(|pair| pair[0].rate.cmp_rate(pair[1].rate) != Ordering::Less));
            prop_assert_eq!(chunks.iter().map(|chunk| chunk.members.len()).sum::<usize>(), 64);
        }
    }
}
