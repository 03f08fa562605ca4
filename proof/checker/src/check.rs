//! One call from a history to a verdict.

use std::collections::BTreeSet;
use std::io::BufRead;

use crate::explain::{Story, Teller, story};
use crate::history::{History, HistoryError, ModelKind, SessionOperation, TreeHistory, cells, tree};
use crate::linearizability::{Limits, Model, Operation, Operations, Order, Outcome, Stuck, by_top_folder, search};
use crate::shrink::smallest;
use crate::timeline::{Bar, Tone, draw, millis};
use crate::zookeeper::{Breach, laws};

/// What a history comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains it, and no law is broken.
    Ok {
        /// The model that judged.
        model: ModelKind,
        /// Operations that were answered.
        operations: usize,
        /// Operations of unknown outcome.
        unknown: usize,
        /// Parts that were judged one by one.
        parts: usize,
    },
    /// There is none, or a law is broken.
    Violation(Box<Violation>),
    /// The effort ended first.
    Unknown {
        /// Why, and what may help.
        why: String,
    },
}

/// A violation, shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The model that judged.
    pub model: ModelKind,
    /// `linearizability`, or a law of [`crate::zookeeper::laws`].
    pub law: String,
    /// What happened, in several lines.
    pub words: String,
    /// A picture of it.
    pub svg: String,
    /// The lines of the history that show it: a violation by themselves.
    pub smallest: String,
    /// How many operations they hold.
    pub operations: usize,
}

/// Judges a history. Without `model`, by what its lines look like.
///
/// # Errors
/// The first line that is not what `docs/check-format.md` says.
pub fn check(reader: impl BufRead, model: Option<ModelKind>, limits: &Limits) -> Result<Verdict, HistoryError> {
    let mut history = History::read(reader)?;
    let model = model.unwrap_or_else(|| history.model());
    match model {
        ModelKind::Register | ModelKind::Kv => check_cells(&history, model, limits),
        ModelKind::Zookeeper | ModelKind::ZookeeperLinearizable => check_tree(&mut history, model, limits),
    }
}

/// Judges a history in memory; see [`check`].
///
/// # Errors
/// As [`check`].
pub fn check_text(text: &str, model: Option<ModelKind>) -> Result<Verdict, HistoryError> {
    check(text.as_bytes(), model, &Limits::default())
}

struct Scribe<'a> {
    history: &'a History,
    /// The places of an operation's lines, by its number.
    places: Vec<(usize, Option<usize>)>,
    numbers: Vec<(usize, Option<usize>)>,
    sessions: bool,
}

impl<'a> Scribe<'a> {
    fn new(history: &'a History, sessions: bool) -> Self {
        let told =
            history.told.iter().map(|told| (told.places, (told.invoke.line, told.reply.as_ref().map(|r| r.line))));
        let finals = history.finals.iter().map(|(place, event)| ((*place, Some(*place)), (event.line, None)));
        let (places, numbers) = told.chain(finals).unzip();
        Self { history, places, numbers, sessions }
    }

    /// The lines of these operations, those of `also`, and what was there before, in the order of the history.
    fn lines<O, R>(&self, operations: &[Operation<O, R>], also: &[usize]) -> String {
        let mut keep: BTreeSet<usize> = also.iter().copied().collect();
        for one in operations {
            if let Some((invoke, reply)) = self.places.get(one.id) {
                keep.insert(*invoke);
                keep.extend(reply.filter(|_| one.ret.is_some()));
            }
        }
        keep.iter().filter_map(|place| self.history.lines.get(*place)).flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    fn inits(&self) -> Vec<usize> {
        let inits: BTreeSet<usize> = self.history.inits.iter().map(|event| event.line).collect();
        (0..self.history.lines.len())
            .filter(|place| self.history.line_numbers.get(*place).is_some_and(|n| inits.contains(n)))
            .collect()
    }
}

impl Teller for Scribe<'_> {
    fn lane(&self, lane: u64) -> String {
        match self.history.lane_name(lane) {
            "?" => "final reader".to_owned(),
            name if self.sessions => format!("session {name}"),
            name => format!("process {name}"),
        }
    }

    fn moment(&self, moment: u64) -> String {
        if self.history.timed {
            format!("{} ms", millis(moment))
        } else {
            format!("event {}", moment.saturating_add(1))
        }
    }

    fn source(&self, id: usize) -> String {
        match self.numbers.get(id) {
            Some((invoke, Some(reply))) => format!(" (lines {invoke}, {reply})"),
            Some((invoke, None)) => format!(" (line {invoke})"),
            None => String::new(),
        }
    }
}

fn bars<M: Model>(model: &M, operations: &Operations<M>, scribe: &Scribe<'_>, story: &Story) -> Vec<Bar> {
    let bar = |(place, one): (usize, &Operation<M::Op, M::Out>)| Bar {
        lane: scribe.lane(one.lane),
        label: model.account(&one.op, one.out.as_ref()).label,
        from: one.call,
        until: one.ret,
        tone: if story.culprit == Some(place) {
            Tone::Conflict
        } else if story.against.contains(&place) {
            Tone::Against
        } else {
            Tone::Plain
        },
    };
    operations.iter().enumerate().map(bar).collect()
}

fn show<M: Model>(
    model: &M,
    operations: &Operations<M>,
    stuck: &Stuck,
    limits: &Limits,
    order: Order,
    scribe: &Scribe<'_>,
    kind: ModelKind,
) -> Violation {
    let operations = smallest(model, operations, stuck, limits, order);
    let story = story(model, &operations, limits, order, scribe);
    let title = format!("Not {}: {} operations that no order explains", promise(kind), operations.len());
    let svg = draw(&title, &bars(model, &operations, scribe, &story), scribe.history.timed);
    let lines = scribe.lines(&operations, &scribe.inits());
    let law = "linearizability".to_owned();
    Violation { model: kind, law, words: story.words, svg, smallest: lines, operations: operations.len() }
}

fn promise(kind: ModelKind) -> &'static str {
    if kind == ModelKind::Zookeeper { "what ZooKeeper promises" } else { "linearizable" }
}

fn exhausted(steps: u64, part: &str) -> Verdict {
    let why = format!(
        "no order was found for {part} within {steps} steps; record fewer operations of unknown outcome, or check a shorter history"
    );
    Verdict::Unknown { why }
}

fn check_cells(history: &History, kind: ModelKind, limits: &Limits) -> Result<Verdict, HistoryError> {
    let cells = cells(history)?;
    let mut unknown = None;
    for (cell, operations) in &cells {
        match search(cell, operations, limits, Order::Advice) {
            Outcome::Linearizable(_) => {}
            Outcome::Unknown { steps } => unknown = Some(exhausted(steps, &format!("{:?}", cell.name))),
            Outcome::Violation(stuck) => {
                let scribe = Scribe::new(history, false);
                let violation = show(cell, operations, &stuck, limits, Order::Advice, &scribe, kind);
                return Ok(Verdict::Violation(Box::new(violation)));
            }
        }
    }
    let all = || cells.iter().flat_map(|(_, operations)| operations);
    let operations = all().filter(|one| one.ret.is_some()).count();
    let ok = Verdict::Ok { model: kind, operations, unknown: all().count() - operations, parts: cells.len() };
    Ok(unknown.unwrap_or(ok))
}

fn check_tree(history: &mut History, kind: ModelKind, limits: &Limits) -> Result<Verdict, HistoryError> {
    let read = tree(history, kind == ModelKind::ZookeeperLinearizable)?;
    let scribe = Scribe::new(history, true);
    if let Some(breach) = laws(&read).into_iter().next() {
        return Ok(Verdict::Violation(Box::new(show_breach(&read, &breach, &scribe, kind))));
    }
    let operations: Operations<crate::linearizability::Tree> =
        read.operations.iter().map(|one| one.operation.clone()).collect();
    let answered = operations.iter().filter(|one| one.ret.is_some()).count();
    let unknown = operations.iter().filter(|one| one.ret.is_none() && one.id < scribe.places.len()).count();
    let parts = by_top_folder(operations);
    let mut tired = None;
    for part in &parts {
        // The order of the zxids first: if it explains everything, it is the proof.
        let stuck = match search(&read.tree, part, limits, Order::Law) {
            Outcome::Linearizable(_) => continue,
            Outcome::Unknown { steps } => {
                tired = Some(exhausted(steps, "the tree"));
                continue;
            }
            Outcome::Violation(stuck) => stuck,
        };
        let hinted = part.iter().any(|one| one.hint.is_some());
        let any = if hinted { search(&read.tree, part, limits, Order::Advice) } else { Outcome::Unknown { steps: 0 } };
        let mut violation = show(&read.tree, part, &stuck, limits, Order::Law, &scribe, kind);
        if matches!(any, Outcome::Linearizable(_)) {
            "zxid order".clone_into(&mut violation.law);
            violation.words.push_str("\nAnother order would explain it, but not one in which writes take effect in the order of their zxids.");
        }
        return Ok(Verdict::Violation(Box::new(violation)));
    }
    let ok = Verdict::Ok { model: kind, operations: answered, unknown, parts: parts.len() };
    Ok(tired.unwrap_or(ok))
}

fn show_breach(read: &TreeHistory, breach: &Breach, scribe: &Scribe<'_>, kind: ModelKind) -> Violation {
    let involved: Vec<&SessionOperation> = breach.involved.iter().map(|place| &read.operations[*place]).collect();
    let operations: Vec<_> = involved.iter().map(|one| one.operation.clone()).collect();
    let culprit = operations.len().checked_sub(1).filter(|_| breach.notices.is_empty());
    let story = Story { words: String::new(), culprit, against: (0..operations.len()).collect() };
    let mut bars = bars(&read.tree, &operations, scribe, &story);
    let mut also = scribe.inits();
    for place in &breach.notices {
        let notice = &read.notices[*place];
        let lane = format!("session {}", read.session(notice.session));
        let label = format!("event at {}", notice.path);
        bars.push(Bar { lane, label, from: notice.at, until: Some(notice.at), tone: Tone::Conflict });
        also.extend(scribe.history.line_numbers.iter().position(|line| *line == notice.line));
    }
    Violation {
        model: kind,
        law: breach.law.to_owned(),
        words: format!("The {} law is broken: {}", breach.law, breach.words),
        svg: draw(&format!("Broken: {} law", breach.law), &bars, scribe.history.timed),
        smallest: scribe.lines(&operations, &also),
        operations: operations.len(),
    }
}
