//! Who reads which partition: Kafka's `simple` assignor.
//!
//! Of each topic, partitions and subscribers are dealt to each other in turns until every partition has a reader and every
//! subscriber has a partition. Where there are more of one than of the other, the fewer are dealt again. So several members
//! share a partition only if there are not enough for each to have its own.
//!
//! Deliberately absent: what was before. A member that loses a partition settles what it has acquired all the same.

use std::collections::BTreeMap;

use super::super::consumer::{Assignment, Topic};
use super::ShareMember;

/// An assignment for every member. A function of its arguments: replicas compute the same.
pub(super) fn assign(
    members: &BTreeMap<String, ShareMember>,
    topics: &BTreeMap<String, Topic>,
) -> BTreeMap<String, Assignment> {
    let mut targets: BTreeMap<String, Assignment> = members.keys().map(|id| (id.clone(), Assignment::new())).collect();
    // Topics with few partitions do not all go to the same members.
    let mut dealt = 0;
    for (name, topic) in topics {
        let subscribers: Vec<&String> =
            members.iter().filter(|(_, member)| member.names.contains(name)).map(|(id, _)| id).collect();
        let partitions = usize::try_from(topic.partitions).unwrap_or(0);
        if subscribers.is_empty() || partitions == 0 {
            continue;
        }
        for turn in 0..partitions.max(subscribers.len()) {
            let target =
                targets.get_mut(subscribers[(dealt + turn) % subscribers.len()]).expect("every member has one");
            let partition = i32::try_from(turn % partitions).expect("it is below a count of 32 bits");
            target.entry(topic.id).or_default().insert(partition);
        }
        dealt += partitions;
    }
    targets
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wire::Uuid;

    fn member(names: &[&str]) -> ShareMember {
        ShareMember {
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            behind: false,
            epoch: 0,
            previous_epoch: 0,
            assigned: Assignment::new(),
            seen: 0,
        }
    }

    #[test]
    fn every_partition_is_read_and_every_subscriber_reads() {
        let topics = BTreeMap::from([
            ("one".to_owned(), Topic { id: Uuid([1; 16]), partitions: 1 }),
            ("five".to_owned(), Topic { id: Uuid([5; 16]), partitions: 5 }),
        ]);
        for count in 1..8 {
            let id = |at: i32| format!("m{at}");
            let names = |at: i32| if at % 3 == 0 { member(&["one", "five"]) } else { member(&["five", "absent"]) };
            let members: BTreeMap<String, ShareMember> = (0..count).map(|at| (id(at), names(at))).collect();
            let targets = assign(&members, &topics);
            for (name, topic) in &topics {
                let read: BTreeSet<i32> =
                    targets.values().filter_map(|target| target.get(&topic.id)).flatten().copied().collect();
                assert_eq!(read, (0..topic.partitions).collect(), "{name} with {count}");
            }
            for (id, member) in &members {
                for (name, topic) in &topics {
                    let reads = targets[id].get(&topic.id).is_some_and(|partitions| !partitions.is_empty());
                    assert_eq!(reads, member.names.contains(name), "{id} and {name} with {count}");
                }
            }
        }
    }

    #[test]
    fn nobody_shares_where_there_is_enough() {
        let topics = BTreeMap::from([("t".to_owned(), Topic { id: Uuid([1; 16]), partitions: 4 })]);
        let members = BTreeMap::from([("a".to_owned(), member(&["t"])), ("b".to_owned(), member(&["t"]))]);
        let sizes: Vec<usize> = assign(&members, &topics).values().map(|target| target[&Uuid([1; 16])].len()).collect();
        assert_eq!(sizes, [2, 2]);
    }
}
