//! A counterexample in words: who did what, which outcome cannot be, and why not.

use std::fmt::Write as _;

use crate::linearizability::{Account, Limits, Model, Operation, Operations, Order, Outcome, search};

/// More operations than this are not listed; the last ones are.
const LISTED_MAX: usize = 40;

/// A counterexample, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Several lines.
    pub words: String,
    /// Place of the operation that cannot be explained.
    pub culprit: Option<usize>,
    /// Places of those that contradict it.
    pub against: Vec<usize>,
}

/// How a history names lanes, moments and lines.
pub trait Teller {
    /// Who.
    fn lane(&self, lane: u64) -> String;
    /// When.
    fn moment(&self, moment: u64) -> String;
    /// Where it says so.
    fn source(&self, id: usize) -> String;
}

/// Tells why `smallest`, a minimal violation, cannot be.
pub fn story<M: Model>(
    model: &M,
    smallest: &Operations<M>,
    limits: &Limits,
    order: Order,
    teller: &dyn Teller,
) -> Story {
    let accounts: Vec<Account> = smallest.iter().map(|one| model.account(&one.op, one.out.as_ref())).collect();
    let culprit = culprit(model, smallest, limits, order);
    let mut words = String::new();
    let count = smallest.len();
    let _ = writeln!(words, "No order of {} explains every outcome.", plural(count, "operation", "these"));
    if count > LISTED_MAX {
        let _ = writeln!(words, "  ... {} before these", plural(count - LISTED_MAX, "operation", ""));
    }
    for (place, one) in smallest.iter().enumerate().skip(count.saturating_sub(LISTED_MAX)) {
        let mark = if Some(place) == culprit { ">" } else { " " };
        let _ = writeln!(words, "{mark} {}", line(one, &accounts[place], teller));
    }
    let mut against = Vec::new();
    if let Some(place) = culprit {
        let (why, others) = reason(smallest, &accounts, place, teller);
        let one = &smallest[place];
        let _ = write!(words, "{}'s {} cannot be explained: {why}", teller.lane(one.lane), accounts[place].label);
        against = others;
    } else {
        words.push_str("The writes contradict each other.");
    }
    Story { words, culprit, against }
}

fn plural(count: usize, noun: &str, these: &str) -> String {
    let these = if these.is_empty() || count == 1 { String::new() } else { format!("{these} ") };
    format!("{these}{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn line<O, R>(one: &Operation<O, R>, account: &Account, teller: &dyn Teller) -> String {
    let until = one.ret.map_or_else(|| "never answered".to_owned(), |ret| teller.moment(ret));
    let on = if account.label.contains(&account.subject) { String::new() } else { format!(" of {}", account.subject) };
    format!(
        "{}: {}{on}, {} to {until}{}",
        teller.lane(one.lane),
        account.label,
        teller.moment(one.call),
        teller.source(one.id)
    )
}

/// The last operation without which the rest can be explained.
fn culprit<M: Model>(model: &M, smallest: &Operations<M>, limits: &Limits, order: Order) -> Option<usize> {
    let limits = Limits { steps_max: limits.steps_max.min(1_000_000), ..*limits };
    let mut places: Vec<usize> = (0..smallest.len()).filter(|place| smallest[*place].ret.is_some()).collect();
    places.sort_by_key(|place| {
        let one = &smallest[*place];
        (model.observes_only(&one.op, one.out.as_ref()), one.ret)
    });
    places.iter().rev().take(LISTED_MAX).copied().find(|place| {
        let mut rest = smallest.clone();
        rest.remove(*place);
        matches!(search(model, &rest, &limits, order), Outcome::Linearizable(_))
    })
}

fn reason<O, R>(
    smallest: &[Operation<O, R>],
    accounts: &[Account],
    place: usize,
    teller: &dyn Teller,
) -> (String, Vec<usize>) {
    let culprit = &smallest[place];
    let account = &accounts[place];
    let before = |a: &Operation<O, R>, b: &Operation<O, R>| a.ret.is_some_and(|ret| ret < b.call);
    let told = |other: usize| {
        let one = &smallest[other];
        format!("{}'s {}{}", teller.lane(one.lane), accounts[other].label, teller.source(one.id))
    };
    let same = |other: &usize| *other != place && accounts[*other].subject == account.subject;
    let Some(saw) = &account.saw else {
        return ("no place among the others gives this answer.".to_owned(), Vec::new());
    };
    let writers: Vec<usize> =
        (0..smallest.len()).filter(same).filter(|other| accounts[*other].wrote.as_ref() == Some(saw)).collect();
    let others = || {
        (0..smallest.len())
            .filter(same)
            .filter(|other| accounts[*other].wrote.as_ref().is_some_and(|wrote| wrote != saw))
    };
    if let Some(&writer) = writers.iter().max_by_key(|writer| smallest[**writer].ret.unwrap_or(u64::MAX)) {
        let over =
            others().find(|over| before(&smallest[writer], &smallest[*over]) && before(&smallest[*over], culprit));
        if let Some(over) = over {
            let why =
                format!("it was {saw} by {}, but {} replaced that and was over before.", told(writer), told(over));
            return (why, vec![writer, over]);
        }
    }
    let seen = (0..smallest.len()).filter(same).find(|other| {
        accounts[*other].saw.as_ref().is_some_and(|other| other != saw) && before(&smallest[*other], culprit)
    });
    if let Some(seen) = seen {
        let why = format!("{} had already found {}.", told(seen), accounts[seen].saw.as_deref().unwrap_or_default());
        return (why, vec![seen]);
    }
    if let Some(over) = others().filter(|over| before(&smallest[*over], culprit)).max_by_key(|over| smallest[*over].ret)
    {
        let why = if writers.is_empty() {
            format!("nobody had made it {saw} by then; {} was over before.", told(over))
        } else {
            format!("{} was over before, and the others leave no room behind it.", told(over))
        };
        return (why, vec![over]);
    }
    let why = if writers.is_empty() {
        format!("nobody had made it {saw} by then.")
    } else {
        "the others contradict it.".to_owned()
    };
    (why, writers)
}
