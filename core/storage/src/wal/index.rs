//! Which records are still needed, and where they lie.
//!
//! - upon State: the one of the highest order is live;
//! - upon Entry at `i`: live until an entry at `i` or a truncation below `i` of higher order, or a trim at or behind `i`;
//! - upon Proof at `i`: as an entry at `i`, but that another proof replaces it, and no entry does;
//! - upon Truncate at `i`: live until a trim at or behind `i`;
//! - upon Trim: the furthest one of a group is live;
//! - upon Retire: nothing of lower order in the group is live, and the mark itself need not be.
//!
//! The rules go by order, not by place, since records move between files. A mark that is not live may go with its file:
//! files go oldest first, so that everything that the mark voids went before it.

use std::collections::BTreeMap;

use verity_types::{GroupId, LogIndex};

use crate::wal::format::{Kind, RecordHeader};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) size: u32,
    pub(crate) order: u64,
}

/// The live records of one group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) state: Option<Place>,
    pub(crate) entries: BTreeMap<LogIndex, Place>,
    pub(crate) proofs: BTreeMap<LogIndex, Place>,
    /// By order.
    pub(crate) truncates: BTreeMap<u64, (LogIndex, Place)>,
    pub(crate) trim: Option<(LogIndex, Place)>,
}

impl Group {
    pub(crate) fn trimmed(&self) -> LogIndex {
        self.trim.map_or(LogIndex(0), |(upto, _)| upto)
    }

    fn is_empty(&self) -> bool {
        let logs = self.entries.is_empty() && self.proofs.is_empty() && self.truncates.is_empty();
        self.state.is_none() && logs && self.trim.is_none()
    }
}

/// The live records of all groups.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// Live bytes by file.
    live: Live,
}

#[derive(Debug, Default)]
struct Live(BTreeMap<u64, u64>);

impl Live {
    fn add(&mut self, place: Place) {
        *self.0.entry(place.seq).or_default() += u64::from(place.size);
    }

    fn drop(&mut self, place: Place) {
        let bytes = self.0.get_mut(&place.seq).expect("a live record lies in a known file");
        *bytes = bytes.checked_sub(u64::from(place.size)).expect("a record dies once");
        if *bytes == 0 {
            self.0.remove(&place.seq);
        }
    }
}

impl Index {
    /// Live bytes in file `seq`.
    pub(crate) fn live(&self, seq: u64) -> u64 {
        self.live.0.get(&seq).copied().unwrap_or(0)
    }

    /// Takes in a record at `place`. A record of an order seen before has moved there.
    pub(crate) fn apply(&mut self, header: &RecordHeader, place: Place) {
        let group = self.groups.entry(header.group).or_default();
        let live = &mut self.live;
        match header.kind {
            Kind::State => match group.state {
                Some(newer) if newer.order > place.order => {}
                older => {
                    older.into_iter().for_each(|older| live.drop(older));
                    group.state = Some(place);
                    live.add(place);
                }
            },
            Kind::Entry => group.apply_entry(header.index, place, live, |group| &mut group.entries),
            Kind::Proof => group.apply_entry(header.index, place, live, |group| &mut group.proofs),
            Kind::Truncate => group.apply_truncate(header.index, place, live),
            Kind::Trim => group.apply_trim(header.index, place, live),
            Kind::Retire => group.apply_retire(place.order, live),
        }
        if group.is_empty() {
            self.groups.remove(&header.group);
        }
    }

    /// True if the record with this header at this place is live.
    pub(crate) fn is_live(&self, header: &RecordHeader, seq: u64, offset: u32) -> bool {
        let Some(group) = self.groups.get(&header.group) else { return false };
        let place = match header.kind {
            Kind::State => group.state,
            Kind::Entry => group.entries.get(&header.index).copied(),
            Kind::Proof => group.proofs.get(&header.index).copied(),
            Kind::Truncate => group.truncates.get(&header.order).map(|(_, place)| *place),
            Kind::Trim => group.trim.map(|(_, place)| place),
            Kind::Retire => None,
        };
        place.is_some_and(|place| place.seq == seq && place.offset == offset)
    }

    /// Asserts that the bytes by file are the sum of the live records.
    pub(crate) fn invariants(&self) {
        let mut sum = Live::default();
        for group in self.groups.values() {
            assert!(!group.is_empty(), "an empty group is forgotten");
            group.state.iter().for_each(|place| sum.add(*place));
            group.trim.iter().for_each(|(_, place)| sum.add(*place));
            for (index, place) in group.entries.iter().chain(&group.proofs) {
                assert!(*index > group.trimmed(), "a trimmed entry is dead");
                let voided = group.truncates.range(place.order..).any(|(_, (cut, _))| cut < index);
                assert!(!voided, "an entry behind a later truncation is dead");
                sum.add(*place);
            }
            group.truncates.values().for_each(|(_, place)| sum.add(*place));
        }
        assert_eq!(sum.0, self.live.0, "live bytes by file");
    }
}

impl Group {
    fn apply_entry(
        &mut self,
        index: LogIndex,
        place: Place,
        live: &mut Live,
        log: impl Fn(&mut Self) -> &mut BTreeMap<LogIndex, Place>,
    ) {
        let voided = || self.truncates.range(place.order..).any(|(_, (cut, _))| *cut < index);
        if index <= self.trimmed() || voided() {
            return;
        }
        let log = log(self);
        if let Some(before) = log.get(&index).copied() {
            if before.order > place.order {
                return;
            }
            live.drop(before);
        }
        log.insert(index, place);
        live.add(place);
    }

    fn apply_truncate(&mut self, cut: LogIndex, place: Place, live: &mut Live) {
        for log in [&mut self.entries, &mut self.proofs] {
            if log.last_key_value().is_none_or(|(last, _)| *last <= cut) {
                continue;
            }
            for (index, entry) in log.split_off(&cut.next()) {
                if entry.order > place.order {
                    log.insert(index, entry);
                } else {
                    live.drop(entry);
                }
            }
        }
        if cut > self.trimmed() {
            if let Some((_, moved)) = self.truncates.insert(place.order, (cut, place)) {
                live.drop(moved);
            }
            live.add(place);
        }
    }

    fn apply_trim(&mut self, upto: LogIndex, place: Place, live: &mut Live) {
        if let Some((before, mark)) = self.trim {
            if (before, mark.order) > (upto, place.order) {
                return;
            }
            live.drop(mark);
        }
        self.trim = Some((upto, place));
        live.add(place);
        for log in [&mut self.entries, &mut self.proofs] {
            let kept = match upto.0.checked_add(1) {
                Some(next) => log.split_off(&LogIndex(next)),
                None => BTreeMap::new(),
            };
            std::mem::replace(log, kept).into_values().for_each(|entry| live.drop(entry));
        }
        self.truncates.retain(|_, (cut, mark)| {
            let kept = *cut > upto;
            if !kept {
                live.drop(*mark);
            }
            kept
        });
    }

    fn apply_retire(&mut self, order: u64, live: &mut Live) {
        let mut keep = |place: &Place| {
            let kept = place.order > order;
            if !kept {
                live.drop(*place);
            }
            kept
        };
        self.state = self.state.filter(&mut keep);
        self.trim = self.trim.filter(|(_, place)| keep(place));
        self.entries.retain(|_, place| keep(place));
        self.proofs.retain(|_, place| keep(place));
        self.truncates.retain(|_, (_, place)| keep(place));
    }
}
