//! What must hold of everything that Kafka's clients saw, after Jepsen's model of Kafka.
//!
//! - divergent offset: an offset of a partition has one value, whoever sees it, whenever;
//! - lost write: what was acknowledged, by itself or by the commit of its transaction, is there in the end;
//! - duplicate: a value of an idempotent producer is there once;
//! - order: the values of a producer are there in the order in which it sent them;
//! - aborted read: who reads committed values alone sees none of an aborted transaction;
//! - precommitted read: nor any before its producer asked for the commit;
//! - torn transaction: of a committed transaction every value is there, of an aborted one none is read;
//! - poll skip: what a consumer read from one offset to another is what is there in the end between the two.
//!
//! Deliberately absent: when things happened. The world tells each law what it needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::wire::{Batch, Fetched, Found};

/// How a transaction stands, as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its end was not asked for.
    Open,
    /// Its commit was asked for.
    Committing,
    /// Its commit was acknowledged.
    Committed,
    /// It was aborted, or its producer began anew before its commit was asked for.
    Aborted,
}

/// Values that a consumer read from one offset to another.
struct Run {
    topic: usize,
    committed: bool,
    from: i64,
    to: i64,
    values: Vec<(i64, u64)>,
}

/// Everything that was seen.
#[derive(Default)]
pub(super) struct Laws {
    /// The value of each offset, as it was first seen.
    at: BTreeMap<(usize, i64), u64>,
    /// The offset of each value.
    place: BTreeMap<u64, (usize, i64)>,
    /// Values that were acknowledged outside of transactions.
    acknowledged: BTreeSet<(usize, u64)>,
    fates: BTreeMap<u64, Fate>,
    /// The transaction of each value.
    transactions: BTreeMap<u64, u64>,
    /// Values that somebody read as committed.
    read_committed: BTreeSet<u64>,
    runs: Vec<Run>,
    /// All of each partition in the end: every value, and the committed ones.
    finals: BTreeMap<(usize, bool), BTreeMap<i64, u64>>,
    pub(super) wrong: VecDeque<String>,
}

impl Laws {
    fn broken(&mut self, what: String) {
        self.wrong.push_back(what);
    }

    /// A value belongs to a transaction.
    pub(super) fn in_transaction(&mut self, value: u64, transaction: u64) {
        self.transactions.insert(value, transaction);
        self.fates.entry(transaction).or_insert(Fate::Open);
    }

    /// A transaction's producer knows more of it.
    pub(super) fn fate(&mut self, transaction: u64, fate: Fate) {
        self.fates.insert(transaction, fate);
    }

    /// A value was seen at an offset, in an acknowledgement or by a reader.
    fn stands(&mut self, topic: usize, offset: i64, value: u64) {
        let other = *self.at.entry((topic, offset)).or_insert(value);
        if other != value {
            self.broken(format!("divergent offset: {offset} of t{topic} is {other:x} and {value:x}"));
        }
        let place = *self.place.entry(value).or_insert((topic, offset));
        if place != (topic, offset) {
            let (other, at) = place;
            self.broken(format!("duplicate: {value:x} stands at {at} of t{other} and at {offset} of t{topic}"));
        }
    }

    /// A batch was acknowledged.
    pub(super) fn on_acknowledged(&mut self, topic: usize, offset: i64, value: u64) {
        // A duplicate whose first place is not remembered any more has no offset to tell.
        if offset >= 0 {
            self.stands(topic, offset, value);
        }
        if !self.transactions.contains_key(&value) {
            self.acknowledged.insert((topic, value));
        }
    }

    /// A fetch from an offset was answered; gives the offset to go on from. `last` says that this is how the world ends.
    pub(super) fn on_fetched(
        &mut self,
        topic: usize,
        from: i64,
        committed: bool,
        fetched: &Fetched,
        last: bool,
    ) -> i64 {
        let (values, to) = visible(from, committed, fetched);
        let all = fetched.batches.iter().filter(|batch| batch.offset >= from);
        let all: Vec<(i64, u64)> = all.filter_map(|batch| value_of(batch).map(|value| (batch.offset, value))).collect();
        for (offset, value) in &all {
            self.stands(topic, *offset, *value);
        }
        if committed {
            for (_, value) in &values {
                self.on_read_committed(*value);
            }
        }
        if last {
            self.finals.entry((topic, committed)).or_default().extend(values.iter().copied());
        }
        self.runs.push(Run { topic, committed, from, to, values });
        to
    }

    /// A member of a share group was given a record.
    pub(super) fn on_shared(&mut self, topic: usize, offset: i64, value: u64, committed: bool) {
        self.stands(topic, offset, value);
        if committed {
            self.on_read_committed(value);
        }
    }

    fn on_read_committed(&mut self, value: u64) {
        self.read_committed.insert(value);
        let fate = self.transactions.get(&value).and_then(|transaction| self.fates.get(transaction)).copied();
        match fate {
            Some(Fate::Open) => {
                self.broken(format!("precommitted read: {value:x} was read before its commit was asked for"))
            }
            Some(Fate::Aborted) => self.broken(format!("aborted read: {value:x} was read and its transaction aborted")),
            Some(Fate::Committing | Fate::Committed) | None => {}
        }
    }

    /// Judges everything, with what is there in the end.
    pub(super) fn judge(&mut self, topics: usize) -> Result<(), String> {
        self.wrong.pop_front().map_or(Ok(()), Err)?;
        for topic in 0..topics {
            let (all, committed) = (self.last(topic, false), self.last(topic, true));
            self.judge_order(topic, &all)?;
            for run in self.runs.iter().filter(|run| run.topic == topic) {
                let whole = if run.committed { &committed } else { &all };
                let there: Vec<(i64, u64)> =
                    whole.range(run.from..run.to.max(run.from)).map(|(offset, value)| (*offset, *value)).collect();
                if there != run.values {
                    let (from, to) = (run.from, run.to);
                    let (there, seen) = (hex(&there), hex(&run.values));
                    return Err(format!("poll skip: t{topic} from {from} to {to} is {there} and was read as {seen}"));
                }
            }
            let values: BTreeSet<u64> = all.values().copied().collect();
            let lost = self.acknowledged.iter().find(|(of, value)| *of == topic && !values.contains(value));
            if let Some((_, value)) = lost {
                return Err(format!("lost write: {value:x} was acknowledged and is not in t{topic}"));
            }
        }
        self.judge_transactions(topics)
    }

    /// All of a topic in the end.
    pub(super) fn last(&self, topic: usize, committed: bool) -> BTreeMap<i64, u64> {
        self.finals.get(&(topic, committed)).cloned().unwrap_or_default()
    }

    /// A producer counts its values up.
    fn judge_order(&self, topic: usize, all: &BTreeMap<i64, u64>) -> Result<(), String> {
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for value in all.values() {
            let producer = value >> 32;
            if last.get(&producer).is_some_and(|before| before >= value) {
                return Err(format!("order: {value:x} stands in t{topic} behind {:x}", last[&producer]));
            }
            last.insert(producer, *value);
        }
        Ok(())
    }

    fn judge_transactions(&self, topics: usize) -> Result<(), String> {
        let there: BTreeSet<u64> = (0..topics).flat_map(|topic| self.last(topic, true).into_values()).collect();
        for (value, transaction) in &self.transactions {
            match self.fates.get(transaction) {
                Some(Fate::Committed) if !there.contains(value) => {
                    return Err(format!("lost write: {value:x} is not there, and its transaction committed"));
                }
                Some(Fate::Aborted) if there.contains(value) || self.read_committed.contains(value) => {
                    return Err(format!("aborted read: {value:x} is there, and its transaction aborted"));
                }
                _ => {}
            }
        }
        let mut torn: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        for (value, transaction) in &self.transactions {
            let (some, all) = torn.entry(*transaction).or_insert((false, true));
            *some |= there.contains(value);
            *all &= there.contains(value);
        }
        // A transaction in doubt may lack what its producer was never told of; then its commit was not asked for.
        let committing = |transaction: &u64| self.fates.get(transaction) == Some(&Fate::Committing);
        match torn.iter().find(|(transaction, (some, all))| committing(transaction) && *some && !*all) {
            Some((transaction, _)) => Err(format!("torn transaction: only a part of {transaction:x} is there")),
            None => Ok(()),
        }
    }
}

fn hex(values: &[(i64, u64)]) -> String {
    let words: Vec<String> = values.iter().take(8).map(|(offset, value)| format!("{offset}:{value:x}")).collect();
    format!("[{}]", words.join(" "))
}

fn value_of(batch: &Batch) -> Option<u64> {
    match batch.found {
        Found::Value(value) => Some(value),
        Found::Marker { .. } | Found::Keyed(..) | Found::Nothing => None,
    }
}

/// What a consumer shows its user of an answer, and where it goes on: a consumer of committed values leaves out those of
/// the aborted transactions that the answer lists.
fn visible(from: i64, committed: bool, fetched: &Fetched) -> (Vec<(i64, u64)>, i64) {
    let mut aborted: Vec<(i64, i64)> = fetched.aborted.clone();
    aborted.sort_by_key(|(_, first)| *first);
    let mut aborting: BTreeSet<i64> = BTreeSet::new();
    let (mut values, mut to) = (Vec::new(), from);
    for batch in &fetched.batches {
        to = to.max(batch.next);
        while let Some((producer, _)) = aborted.first().filter(|(_, first)| *first <= batch.offset).copied() {
            aborting.insert(producer);
            aborted.remove(0);
        }
        match batch.found {
            Found::Marker { commit: false } => drop(aborting.remove(&batch.producer)),
            Found::Marker { commit: true } => {}
            // Nobody compacts these topics, nor writes keys to them.
            Found::Keyed(..) | Found::Nothing => {}
            Found::Value(_) if committed && batch.transactional && aborting.contains(&batch.producer) => {}
            Found::Value(value) if batch.offset >= from => values.push((batch.offset, value)),
            Found::Value(_) => {}
        }
    }
    (values, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(offset: i64, value: u64, producer: i64) -> Batch {
        let transactional = producer >= 0;
        Batch { offset, next: offset + 1, producer, transactional, found: Found::Value(value) }
    }

    fn marker(offset: i64, producer: i64, commit: bool) -> Batch {
        Batch { offset, next: offset + 1, producer, transactional: true, found: Found::Marker { commit } }
    }

    fn end(laws: &mut Laws, batches: &[Batch], aborted: &[(i64, i64)]) {
        let fetched = Fetched { batches: batches.to_vec(), aborted: aborted.to_vec(), ..Fetched::default() };
        laws.on_fetched(0, 0, true, &fetched, true);
        laws.on_fetched(0, 0, false, &Fetched { aborted: Vec::new(), ..fetched }, true);
    }

    fn verdict(laws: &mut Laws) -> String {
        laws.judge(1).expect_err("a law is broken").split(':').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn each_law_catches_its_canary() {
        let mut laws = Laws::default();
        laws.on_acknowledged(0, 0, 1);
        laws.on_acknowledged(0, 0, 2);
        assert_eq!(verdict(&mut laws), "divergent offset");
        let mut laws = Laws::default();
        laws.on_acknowledged(0, 0, 1);
        end(&mut laws, &[], &[]);
        assert_eq!(verdict(&mut laws), "lost write");
        let mut laws = Laws::default();
        end(&mut laws, &[value(0, 1, -1), value(1, 1, -1)], &[]);
        assert_eq!(verdict(&mut laws), "duplicate");
        let mut laws = Laws::default();
        end(&mut laws, &[value(0, 2, -1), value(1, 1, -1)], &[]);
        assert_eq!(verdict(&mut laws), "order");
        let mut laws = Laws::default();
        laws.in_transaction(1, 9);
        end(&mut laws, &[value(0, 1, 7)], &[]);
        assert_eq!(verdict(&mut laws), "precommitted read");
        let mut laws = Laws::default();
        laws.in_transaction(1, 9);
        laws.fate(9, Fate::Aborted);
        end(&mut laws, &[value(0, 1, 7), marker(1, 7, true)], &[]);
        assert_eq!(verdict(&mut laws), "aborted read");
        let mut laws = Laws::default();
        laws.in_transaction(1, 9);
        laws.in_transaction(2, 9);
        laws.fate(9, Fate::Committing);
        end(&mut laws, &[value(0, 1, 7), marker(1, 7, true)], &[]);
        assert_eq!(verdict(&mut laws), "torn transaction");
        let mut laws = Laws::default();
        let skipping = Fetched { batches: vec![value(1, 2, -1)], ..Fetched::default() };
        laws.on_fetched(0, 0, false, &skipping, false);
        end(&mut laws, &[value(0, 1, -1), value(1, 2, -1)], &[]);
        assert_eq!(verdict(&mut laws), "poll skip");
    }

    #[test]
    fn what_is_right_passes() {
        let mut laws = Laws::default();
        laws.in_transaction(1 << 32 | 1, 9);
        laws.in_transaction(1 << 32 | 2, 10);
        laws.fate(9, Fate::Aborted);
        laws.fate(10, Fate::Committed);
        laws.on_acknowledged(0, 2, 5);
        let batches = [
            value(0, 1 << 32 | 1, 7),
            marker(1, 7, false),
            value(2, 5, -1),
            value(3, 1 << 32 | 2, 7),
            marker(4, 7, true),
        ];
        end(&mut laws, &batches, &[(7, 0)]);
        assert_eq!(laws.judge(1), Ok(()));
    }
}
