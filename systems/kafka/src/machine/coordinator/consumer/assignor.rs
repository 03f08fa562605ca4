//! Who is to have which partition.
//!
//! - `uniform`: everybody as many as anybody, within one, as far as subscriptions allow; of what was assigned before as
//!   much as possible stays;
//! - `range`: of each topic everybody a run of partitions, in the order of the members, so that topics with as many
//!   partitions are split alike.
//!
//! Both are functions of their arguments: replicas compute the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignment, ConsumerMember, Topic};
use crate::wire::Uuid;

/// Rounds of moving partitions from members that have more to members that have less.
const ROUNDS_MAX: usize = 64;

/// An assignor, in the order in which equally wanted ones are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Assignor {
    Uniform,
    Range,
}

type Members = BTreeMap<String, ConsumerMember>;
type Topics = BTreeMap<String, Topic>;
type Targets = BTreeMap<String, Assignment>;

/// Who subscribes to a topic, by place in the order of the members.
struct Subscribed {
    id: Uuid,
    partitions: i32,
    members: Vec<usize>,
}

impl Assignor {
    pub(in super::super) fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Kafka's name.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// A target for every member.
    pub(in super::super) fn assign(self, members: &Members, topics: &Topics, before: &Targets) -> Targets {
        let ids: Vec<&String> = members.keys().collect();
        let wanting = |name: &str| {
            let wants = |(at, member): (usize, &ConsumerMember)| member.subscribes(name).then_some(at);
            members.values().enumerate().filter_map(wants).collect::<Vec<usize>>()
        };
        let topics: Vec<Subscribed> = topics
            .iter()
            .map(|(name, topic)| Subscribed { id: topic.id, partitions: topic.partitions, members: wanting(name) })
            .filter(|topic| !topic.members.is_empty())
            .collect();
        let owners = match self {
            Self::Uniform => {
                let before: Vec<Option<&Assignment>> = ids.iter().map(|id| before.get(*id)).collect();
                Uniform::new(&topics, ids.len(), &before).solve()
            }
            Self::Range => range(&topics, members),
        };
        let mut targets: Targets = ids.iter().map(|id| ((*id).clone(), Assignment::new())).collect();
        for ((topic, partition), owner) in owners {
            let target = targets.get_mut(ids[owner]).expect("every member has one");
            target.entry(topics[topic].id).or_default().insert(partition);
        }
        targets
    }
}

/// Places of members by place of topic, and partition.
type Owners = BTreeMap<(usize, i32), usize>;

fn range(topics: &[Subscribed], members: &Members) -> Owners {
    // Instances keep their place though their member ids change.
    let rank: Vec<(bool, &String)> = members
        .iter()
        .map(|(id, member)| (member.instance_id.is_none(), member.instance_id.as_ref().unwrap_or(id)))
        .collect();
    let mut owners = Owners::new();
    for (at, topic) in topics.iter().enumerate() {
        let mut order = topic.members.clone();
        order.sort_by_key(|member| rank[*member]);
        let count = i32::try_from(order.len()).unwrap_or(i32::MAX);
        let (least, extra) = (topic.partitions / count, topic.partitions % count);
        let mut next = 0;
        for (place, member) in (0..).zip(order) {
            let size = least + i32::from(place < extra);
            owners.extend((next..next + size).map(|partition| ((at, partition), member)));
            next += size;
        }
    }
    owners
}

struct Uniform<'a> {
    topics: &'a [Subscribed],
    owners: Owners,
    loads: Vec<usize>,
    /// Members by load, for the even case.
    even: bool,
}

impl<'a> Uniform<'a> {
    /// Everybody keeps what it may.
    fn new(topics: &'a [Subscribed], members: usize, before: &[Option<&Assignment>]) -> Self {
        let places: BTreeMap<Uuid, usize> = topics.iter().enumerate().map(|(at, topic)| (topic.id, at)).collect();
        let even = topics.iter().all(|topic| topic.members.len() == members);
        let mut solver = Self { topics, owners: Owners::new(), loads: vec![0; members], even };
        for (member, assignment) in before.iter().enumerate() {
            for (id, partitions) in assignment.iter().copied().flatten() {
                let Some(at) = places.get(id).copied() else { continue };
                if topics[at].members.binary_search(&member).is_err() {
                    continue;
                }
                for partition in partitions.iter().copied().filter(|one| *one < topics[at].partitions) {
                    solver.owners.entry((at, partition)).or_insert_with(|| {
                        solver.loads[member] += 1;
                        member
                    });
                }
            }
        }
        solver
    }

    fn solve(mut self) -> Owners {
        if self.even {
            self.trim();
        }
        self.fill();
        if !self.even {
            self.level();
        }
        self.owners
    }

    /// Takes from everybody what is beyond its share. Those that have most get the larger shares.
    fn trim(&mut self) {
        let members = self.loads.len();
        if members == 0 {
            return;
        }
        let total: usize = self.topics.iter().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
        let mut order: Vec<usize> = (0..members).collect();
        order.sort_by_key(|member| (std::cmp::Reverse(self.loads[*member]), *member));
        let mut share = vec![total / members; members];
        order.iter().take(total % members).for_each(|member| share[*member] += 1);
        let mut kept = vec![0; members];
        let loads = &mut self.loads;
        self.owners.retain(|_, owner| {
            let keeps = kept[*owner] < share[*owner];
            kept[*owner] += usize::from(keeps);
            loads[*owner] -= usize::from(!keeps);
            keeps
        });
    }

    /// Gives what nobody has to whoever has least, beginning with what fewest want.
    fn fill(&mut self) {
        let mut free = Vec::new();
        for (at, topic) in self.topics.iter().enumerate() {
            let missing = (0..topic.partitions).filter(|partition| !self.owners.contains_key(&(at, *partition)));
            free.extend(missing.map(|partition| (topic.members.len(), at, partition)));
        }
        free.sort_unstable();
        let mut queue: BTreeSet<(usize, usize)> = self.loads.iter().copied().zip(0..).collect();
        for (_, at, partition) in free {
            let member =
                if self.even { queue.first().expect("a topic is wanted by somebody").1 } else { self.least(at) };
            queue.remove(&(self.loads[member], member));
            self.owners.insert((at, partition), member);
            self.loads[member] += 1;
            queue.insert((self.loads[member], member));
        }
    }

    fn least(&self, topic: usize) -> usize {
        let members = self.topics[topic].members.iter().copied();
        members.min_by_key(|member| (self.loads[*member], *member)).expect("a topic is wanted by somebody")
    }

    /// Moves partitions from those that have more to those that have less. Each move brings two loads closer together.
    fn level(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            let places: Vec<((usize, i32), usize)> =
                self.owners.iter().map(|(place, owner)| (*place, *owner)).collect();
            for (place, owner) in places {
                let least = self.least(place.0);
                if self.loads[owner] > self.loads[least] + 1 {
                    self.loads[owner] -= 1;
                    self.loads[least] += 1;
                    self.owners.insert(place, least);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }
}
