//! Who makes room for a newcomer.
//!
//! Kept are: whoever may not be banned; four by a keyed hash of their network, which nobody can aim at; the eight that answer
//! fastest; four that brought transactions last, eight that take blocks alone and brought one last, four that brought blocks
//! last; and of the rest the half that stayed longest, of which a half again may be from this machine. Of those left, the network
//! with the most loses its latest. Each rule costs an attacker something else.

use super::PeerId;

/// What matters of one that came in.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Candidate {
    pub(super) id: PeerId,
    pub(super) connected: u64,
    pub(super) ping_min: u64,
    pub(super) last_block: u64,
    pub(super) last_transaction: u64,
    pub(super) serves_blocks: bool,
    pub(super) relays: bool,
    pub(super) bloom: bool,
    /// A keyed hash of its network.
    pub(super) group: u64,
    pub(super) local: bool,
    /// It was discouraged.
    pub(super) prefer: bool,
    pub(super) no_ban: bool,
}

/// Keeps the last `count` by this order, of those for whom `which` holds.
fn keep<K: Ord>(
    all: &mut Vec<Candidate>,
    count: usize,
    key: impl Fn(&Candidate) -> K,
    which: impl Fn(&Candidate) -> bool,
) {
    all.sort_by_key(|candidate| key(candidate));
    let tail = all.split_off(all.len() - count.min(all.len()));
    all.extend(tail.into_iter().filter(|candidate| !which(candidate)));
}

/// Later is less.
fn uptime(candidate: &Candidate) -> std::cmp::Reverse<u64> {
    std::cmp::Reverse(candidate.connected)
}

fn keep_half(all: &mut Vec<Candidate>) {
    let half = all.len() / 2;
    let before = all.len();
    keep(all, half / 2, |one| (one.local, uptime(one)), |one| one.local);
    let kept = before - all.len();
    keep(all, half - kept, uptime, |_| true);
}

/// Who is to go; `None` if all are to stay.
pub(super) fn choose(mut all: Vec<Candidate>) -> Option<PeerId> {
    all.retain(|candidate| !candidate.no_ban);
    keep(&mut all, 4, |one| one.group, |_| true);
    keep(&mut all, 8, |one| std::cmp::Reverse(one.ping_min), |_| true);
    keep(&mut all, 4, |one| (one.last_transaction, one.relays, !one.bloom, uptime(one)), |_| true);
    keep(
        &mut all,
        8,
        |one| (!one.relays, one.last_block, one.serves_blocks, uptime(one)),
        |one| !one.relays && one.serves_blocks,
    );
    keep(&mut all, 4, |one| (one.last_block, one.serves_blocks, uptime(one)), |_| true);
    keep_half(&mut all);
    if all.iter().any(|candidate| candidate.prefer) {
        all.retain(|candidate| candidate.prefer);
    }
    all.sort_by_key(uptime);
    let size = |group: u64| all.iter().filter(|one| one.group == group).count();
    let latest = |group: u64| all.iter().find(|one| one.group == group).map_or(0, |one| one.connected);
    let group = all.iter().map(|one| one.group).max_by_key(|group| (size(*group), latest(*group)))?;
    all.iter().find(|one| one.group == group).map(|one| one.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: PeerId) -> Candidate {
        Candidate {
            id,
            connected: id,
            ping_min: 1_000 - id,
            last_block: 0,
            last_transaction: 0,
            serves_blocks: true,
            relays: true,
            bloom: false,
            group: id % 7,
            local: false,
            prefer: false,
            no_ban: false,
        }
    }

    #[test]
    fn few_are_all_kept_and_of_many_one_goes() {
        assert_eq!(choose((0..20).map(candidate).collect()), None);
        assert!(choose((0..60).map(candidate).collect()).is_some());
        let kept = (0..60).map(|id| Candidate { no_ban: true, ..candidate(id) });
        assert_eq!(choose(kept.collect()), None);
    }

    #[test]
    fn whoever_brings_something_stays() {
        let mut all: Vec<Candidate> = (0..60).map(candidate).collect();
        all[30].last_block = 9;
        all[31].last_transaction = 9;
        all[32].ping_min = 0;
        for _ in 0..30 {
            let Some(gone) = choose(all.clone()) else { break };
            assert!(![30, 31, 32].contains(&gone));
            all.retain(|one| one.id != gone);
        }
    }

    #[test]
    fn the_discouraged_go_first() {
        let mut all: Vec<Candidate> = (0..60).map(|id| Candidate { group: 0, ..candidate(id) }).collect();
        all.iter_mut().filter(|one| one.id > 40).for_each(|one| one.prefer = one.id == 45);
        if let Some(gone) = choose(all) {
            assert_eq!(gone, 45);
        }
    }
}
