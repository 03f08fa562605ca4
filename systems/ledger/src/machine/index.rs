//! Where transactions are, by their hashes and by what happened in them (CometBFT `state/txindex/kv`).
//!
//! A value of a tag has the list of places in which it stands, which grows at its end and is cut at its front, as blocks
//! come and go. A search takes the places of the condition that leaves fewest, and looks them up in those of each other one:
//! what it takes grows with the places that there are, and not with their square.

use std::collections::{BTreeMap, VecDeque};

use super::store::Stored;
use crate::wire::{ExecTxResult, Hash, Operand, Operator, Query, from_hex};

/// The tags that every transaction has.
pub(super) const TX_HASH: &str = "tx.hash";
pub(super) const TX_HEIGHT: &str = "tx.height";

/// A transaction's place: its block, and its number in it.
pub(super) type Place = (u64, u32);

type Places = VecDeque<Place>;

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_hash: BTreeMap<Hash, Place>,
    tags: BTreeMap<String, BTreeMap<String, Places>>,
}

impl Index {
    /// Takes a block in.
    pub(super) fn insert(&mut self, stored: &Stored, results: &[ExecTxResult]) {
        for (at, (hash, result)) in stored.hashes.iter().zip(results).enumerate() {
            let place = (stored.height(), u32::try_from(at).expect("a block is bounded"));
            self.by_hash.insert(*hash, place);
            for_each_tag(result, |tag, value| {
                let places = entry(entry(&mut self.tags, tag), value);
                if places.back() != Some(&place) {
                    places.push_back(place);
                }
            });
        }
    }

    /// Lets the oldest block go.
    pub(super) fn remove(&mut self, stored: &Stored) {
        for (at, hash) in stored.hashes.iter().enumerate() {
            if self.by_hash.get(hash).is_some_and(|place| place.0 == stored.height()) {
                self.by_hash.remove(hash);
            }
            for_each_tag(&stored.result(at), |tag, value| {
                let Some(values) = self.tags.get_mut(tag) else { return };
                if let Some(places) = values.get_mut(value) {
                    while places.front().is_some_and(|place| place.0 <= stored.height()) {
                        places.pop_front();
                    }
                    if places.is_empty() {
                        values.remove(value);
                    }
                }
                if values.is_empty() {
                    self.tags.remove(tag);
                }
            });
        }
    }

    /// Where a transaction is.
    pub(super) fn get(&self, hash: &[u8]) -> Option<Place> {
        self.by_hash.get(hash).copied()
    }

    /// Where the transactions are that a query asks for, in order; `all` are those there are.
    pub(super) fn search(&self, query: &Query, all: impl Fn() -> Vec<Place>) -> Result<Vec<Place>, String> {
        let of_hash = |tag: &str, operator| tag == TX_HASH && operator == Operator::Equal;
        if let Some(condition) = query.conditions.iter().find(|one| of_hash(&one.tag, one.operator)) {
            let Operand::Text(hash) = &condition.operand else { return Ok(Vec::new()) };
            let hash = from_hex(hash).ok_or("error during searching for a hash in the query: it is not hexadecimal")?;
            return Ok(self.get(&hash).into_iter().collect());
        }
        let (heights, others): (Vec<_>, Vec<_>) = query.conditions.iter().partition(|one| one.tag == TX_HEIGHT);
        let mut lists: Vec<Vec<&Places>> = others.into_iter().map(|condition| self.lists(condition)).collect();
        lists.sort_by_key(|lists| lists.iter().map(|places| places.len()).sum::<usize>());
        let mut lists = lists.into_iter();
        let mut found = lists.next().map_or_else(all, |shortest| merged(&shortest));
        found.retain(|place| {
            let height = place.0.to_string();
            heights.iter().all(|condition| condition.holds_for(&height))
        });
        for lists in lists {
            if let [one] = lists[..] {
                found.retain(|place| one.binary_search(place).is_ok());
            } else {
                // As many lists as there are values: to look each place up in each would take their product.
                let places = merged(&lists);
                found.retain(|place| places.binary_search(place).is_ok());
            }
        }
        Ok(found)
    }

    /// The lists of the values that a condition allows.
    fn lists(&self, condition: &crate::wire::Condition) -> Vec<&Places> {
        if let (Operator::Equal, Operand::Text(value)) = (condition.operator, &condition.operand) {
            return self.tags.get(&condition.tag).and_then(|values| values.get(value)).into_iter().collect();
        }
        let of_type = |tag: &str| {
            condition.operator == Operator::Exists && tag.rsplit_once('.').is_some_and(|(of, _)| of == condition.tag)
        };
        let tags = self.tags.iter().filter(|(tag, _)| **tag == condition.tag || of_type(tag));
        let values = tags.flat_map(|(_, values)| values);
        values.filter(|(value, _)| condition.holds_for(value)).map(|(_, places)| places).collect()
    }
}

/// All places of some lists, in order, each once.
fn merged(lists: &[&Places]) -> Vec<Place> {
    let mut all: Vec<Place> = lists.iter().flat_map(|places| places.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Hands over what a transaction can be found by: tags and their values.
fn for_each_tag(result: &ExecTxResult, mut take: impl FnMut(&str, &str)) {
    let mut tag = String::new();
    for event in result.events.iter().filter(|event| !event.r#type.is_empty()) {
        for attribute in event.attributes.iter().filter(|attribute| attribute.index && !attribute.key.is_empty()) {
            tag.clear();
            tag.extend([&*event.r#type, ".", &*attribute.key]);
            take(&tag, &attribute.value);
        }
    }
}

/// What is at `key`, which is most often there.
fn entry<'a, T: Default>(map: &'a mut BTreeMap<String, T>, key: &str) -> &'a mut T {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), T::default());
    }
    map.get_mut(key).expect("it was just put in")
}
