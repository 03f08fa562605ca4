//! Which clients a world has, beside those that each has.
//!
//! Deliberately absent: how many of each there are.

use fastrand::Rng;

use super::Part;

/// Drawn at a world's beginning, so that each is small and combinations are many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    members: bool,
    subscribers: bool,
    pub(super) sharers: bool,
    keyed: bool,
    trimmers: bool,
}

impl Cast {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut on = || rng.bool();
        Self { members: on(), subscribers: on(), sharers: on(), keyed: on(), trimmers: on() }
    }

    pub(super) fn has(self, part: Part) -> bool {
        match part {
            Part::Member => self.members,
            Part::Subscriber => self.subscribers,
            Part::Sharer => self.sharers,
            Part::Keyed => self.keyed,
            Part::Trimmer => self.trimmers,
            Part::Plain | Part::Transactional | Part::Consumer { .. } | Part::Operator => true,
        }
    }
}
