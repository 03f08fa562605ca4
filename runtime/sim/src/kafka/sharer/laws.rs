//! What must hold of what a share group's members are given (KIP-932).
//!
//! - settled again: what was accepted or rejected, and answered so, is given to nobody who asks later;
//! - two holders: nobody is given what another holds, by a lock that is not over and a connection that lives on;
//! - lost lock: who settles what it holds within its lock is not told that it does not hold it;
//! - delivery count: it never goes beyond the group's limit, and is larger than it was at a release that was answered;
//! - share skip: in the end every record was given to somebody, unless answers were lost as often as the limit says.
//!
//! A connection that ended gives back what was acquired by it, and counts as no delivery. So what a holder's connection is
//! good for is known once it has carried a later answer; until then whoever seems to be the second holder is a suspect.
//!
//! Deliberately absent: when a lock is over for certain. Nobody but the coordinator knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A topic and an offset.
pub(super) type Place = (usize, i64);

/// When somebody asked for records and was given them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) asked: u64,
    pub(super) told: u64,
    /// Its locks last until then for certain.
    pub(super) until: u64,
}

struct Suspect {
    holder: usize,
    since: u64,
    what: String,
}

/// Everything that was seen of a share group.
#[derive(Default)]
pub(in super::super) struct ShareLaws {
    /// When it was answered that a record is settled.
    settled: BTreeMap<Place, u64>,
    /// When it was answered that a record is released, and how often it was delivered.
    released: BTreeMap<Place, (u64, i16)>,
    holders: BTreeMap<Place, BTreeMap<usize, Given>>,
    suspects: Vec<Suspect>,
    delivered: BTreeSet<Place>,
    /// How many answers to fetches never came.
    unseen: u32,
    pub(in super::super) wrong: VecDeque<String>,
}

impl ShareLaws {
    /// A client was given a record, which it holds, for the `count`th time.
    pub(super) fn on_given(&mut self, client: usize, place: Place, (count, limit): (i16, i16), given: Given) {
        let (topic, offset) = place;
        let Given { asked, told: now, until } = given;
        let record = format!("client {client} is given {offset} of t{topic}");
        if self.settled.get(&place).is_some_and(|told| asked > *told) {
            self.wrong.push_back(format!("settled again: {record}, which was settled"));
        }
        if !(1..=limit).contains(&count) {
            self.wrong.push_back(format!("delivery count: {record} for the {count}th time of {limit}"));
        }
        if let Some((_, before)) = self.released.get(&place).filter(|(told, before)| asked > *told && count <= *before)
        {
            self.wrong
                .push_back(format!("delivery count: {record} for the {count}th time, released at the {before}th"));
        }
        let holders = self.holders.entry(place).or_default();
        for (holder, held) in holders.iter() {
            // Either it is asked for behind the other's answer, or both locks last.
            if now < held.until && (asked > held.told || now < until) {
                let what = format!("two holders: {record}, which client {holder} holds");
                self.suspects.push(Suspect { holder: *holder, since: now, what });
            }
        }
        holders.insert(client, given);
        self.delivered.insert(place);
    }

    /// A client's connection has carried an answer to what was asked then.
    pub(super) fn on_heard(&mut self, client: usize, asked: u64) {
        let (shown, others) = self
            .suspects
            .drain(..)
            .partition::<Vec<_>, _>(|suspect| suspect.holder == client && asked >= suspect.since);
        self.suspects = others;
        self.wrong.extend(shown.into_iter().map(|suspect| suspect.what));
    }

    /// A client says what becomes of a record, or does not hold it any more.
    pub(super) fn on_let_go(&mut self, client: usize, place: Place) {
        if let Some(holders) = self.holders.get_mut(&place) {
            holders.remove(&client);
        }
    }

    /// A client's connection ended, and with it all that it held.
    pub(super) fn on_unplugged(&mut self, client: usize) {
        self.holders.values_mut().for_each(|holders| holders.retain(|holder, _| *holder != client));
        self.suspects.retain(|suspect| suspect.holder != client);
    }

    /// An answer to a fetch is lost.
    pub(super) fn on_unseen(&mut self) {
        self.unseen += 1;
    }

    /// A record is settled for good.
    pub(super) fn on_settled(&mut self, place: Place, now: u64) {
        self.settled.entry(place).or_insert(now);
    }

    pub(super) fn on_released(&mut self, place: Place, count: i16, now: u64) {
        self.released.insert(place, (now, count));
    }

    /// It was answered that records are not the client's whose locks were not over.
    pub(super) fn on_refused(&mut self, client: usize, (topic, offset): Place) {
        self.wrong.push_back(format!("lost lock: client {client} is told that it does not hold {offset} of t{topic}"));
    }

    /// Judges what was given to nobody of what is in a topic in the end.
    pub(in super::super) fn judge(
        &self,
        topic: usize,
        limit: i16,
        offsets: impl Iterator<Item = i64>,
    ) -> Result<(), String> {
        if self.unseen >= u32::try_from(limit).unwrap_or(0) {
            return Ok(());
        }
        match offsets.into_iter().find(|offset| !self.delivered.contains(&(topic, *offset))) {
            Some(offset) => Err(format!("share skip: {offset} of t{topic} was given to nobody")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Place = (0, 7);

    fn given(asked: u64) -> Given {
        Given { asked, told: asked + 10, until: asked + 100 }
    }

    fn verdict(laws: &mut ShareLaws) -> Option<String> {
        laws.wrong.pop_front().map(|what| what.split(':').next().unwrap_or_default().to_owned())
    }

    #[test]
    fn each_law_catches_its_canary() {
        let caught = |laws: &mut ShareLaws| verdict(laws).expect("a law is broken");
        let mut laws = ShareLaws::default();
        laws.on_settled(P, 50);
        laws.on_given(1, P, (2, 5), given(60));
        assert_eq!(caught(&mut laws), "settled again");
        let mut laws = ShareLaws::default();
        laws.on_given(1, P, (6, 5), given(0));
        assert_eq!(caught(&mut laws), "delivery count");
        let mut laws = ShareLaws::default();
        laws.on_released(P, 2, 50);
        laws.on_given(1, P, (2, 5), given(60));
        assert_eq!(caught(&mut laws), "delivery count");
        let mut laws = ShareLaws::default();
        laws.on_given(1, P, (1, 5), given(0));
        laws.on_given(2, P, (2, 5), given(20));
        assert_eq!(verdict(&mut laws), None, "the first may have lost its connection");
        laws.on_heard(1, 40);
        assert_eq!(caught(&mut laws), "two holders");
        laws.on_refused(1, P);
        assert_eq!(caught(&mut laws), "lost lock");
        let skipped = laws.judge(0, 5, [7, 8].into_iter()).expect_err("nobody was given one");
        assert!(skipped.starts_with("share skip: 8"), "{skipped}");
    }

    #[test]
    fn what_is_right_passes() {
        let mut laws = ShareLaws::default();
        // It was asked for before the record was settled.
        laws.on_settled((1, 7), 50);
        laws.on_given(1, (1, 7), (1, 5), given(40));
        laws.on_given(1, P, (1, 5), given(40));
        // The lock is over, the connection is, the record is let go.
        laws.on_given(2, P, (2, 5), given(130));
        laws.on_given(3, P, (3, 5), given(150));
        laws.on_unplugged(2);
        laws.on_heard(2, 170);
        laws.on_let_go(3, P);
        laws.on_released(P, 3, 170);
        laws.on_given(1, P, (4, 5), given(175));
        laws.on_heard(3, 300);
        assert_eq!(verdict(&mut laws), None);
        (0..5).for_each(|_| laws.on_unseen());
        assert_eq!(laws.judge(0, 5, [8].into_iter()), Ok(()), "so many answers were lost");
    }
}
