//! Datadriven scenarios of the paper: `testdata/*.txt`.
//!
//! Of five replicas the fifth lies: it is silent, and says garbage from `garble 5` on. The driver has nothing against any
//! batch, its machine's digest is its index, and it saves a snapshot at each checkpoint.

use std::path::Path;

use verity_contract::testing::{Net, Script};
use verity_contract::{
    Agreement, AgreementStatus, Barrier, Boot, Committed, Input, Output, Reconfigure, SnapshotMeta, Verdict,
};
use verity_types::{Digest, Mono, Nanos, NodeId, Term};

use crate::keys::Keys;
use crate::liar::{Liar, Lie};
use crate::message::{Batch, Request};
use crate::slot::Slot;
use crate::{Config, Pbft};

enum Engine {
    Honest(Box<Pbft>),
    Liar(Box<Liar>),
}

/// A replica with a driver that answers it at once.
struct Driven {
    engine: Engine,
}

impl Driven {
    fn engine(&mut self) -> &mut dyn Agreement {
        match &mut self.engine {
            Engine::Honest(pbft) => &mut **pbft,
            Engine::Liar(liar) => &mut **liar,
        }
    }

    fn agreement(&self) -> &dyn Agreement {
        match &self.engine {
            Engine::Honest(pbft) => &**pbft,
            Engine::Liar(liar) => &**liar,
        }
    }

    fn answer(&mut self, now: Mono, outputs: Vec<Output>, out: &mut Vec<Output>) {
        for output in outputs {
            match output {
                Output::Judge { index, .. } => {
                    self.on(now, Input::Verdict { index, verdict: Verdict::Accept }, out);
                }
                Output::Checkpoint { index } => {
                    let mut digest = Digest::default();
                    digest.0[..8].copy_from_slice(&index.0.to_be_bytes());
                    self.on(now, Input::Checkpointed { index, digest }, out);
                    let context = self.agreement().snapshot_context(index);
                    let members = self.agreement().status().members;
                    if let Some(context) = context {
                        let meta = SnapshotMeta { index, term: Term(1), members, context };
                        self.on(now, Input::SnapshotSaved { meta, compact_to: index }, out);
                    }
                }
                Output::OfferSnapshot { to, message, .. } => {
                    out.push(Output::Send { to, bytes: message, after: None, urgent: false });
                    self.on(now, Input::SnapshotSent { to, delivered: true }, out);
                }
                other => out.push(other),
            }
        }
    }
}

impl Agreement for Driven {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        let mut outputs = Vec::new();
        self.engine().on(now, input, &mut outputs);
        self.answer(now, outputs, out);
    }

    fn tick_interval(&self) -> Nanos {
        self.agreement().tick_interval()
    }

    fn status(&self) -> AgreementStatus {
        self.agreement().status()
    }

    fn invariants(&self) {
        self.agreement().invariants();
    }

    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        self.engine().barrier()
    }

    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        self.engine().reconfigure()
    }
}

fn start(boot: Boot, now: Mono) -> Driven {
    let (id, voters) = (boot.id, boot.members.voters.clone());
    let lies = voters.len() == 5 && id == NodeId(5);
    let keys = Keys::seals(id, (1..=9).map(NodeId));
    let config = Config { checkpoint_every: 4, window: 8, ..Config::default() };
    let pbft = Pbft::start(boot, config, keys, now).expect("a replica starts from what it wrote");
    Driven {
        engine: if lies {
            Engine::Liar(Box::new(Liar::new(pbft, Lie::Silent, 5)))
        } else {
            Engine::Honest(Box::new(pbft))
        },
    }
}

fn garble(net: &mut Net<Driven>, id: u64) {
    let Some(Driven { engine: Engine::Liar(liar) }) = net.nodes.get_mut(&id) else { panic!("{id} is honest") };
    liar.lie = Lie::Garbage;
}

fn content(batch: &Batch) -> String {
    let op = |request: &Request| match request.endorses {
        true => format!("endorsement of {}", request.client),
        false => String::from_utf8_lossy(&request.op).into_owned(),
    };
    let ops: Vec<String> = batch.requests().iter().map(op).collect();
    if ops.is_empty() { "-".into() } else { ops.join("+") }
}

/// What was assigned to a sequence number, who is known to have prepared and committed it, and what follows.
fn slot(n: u64, slot: &Slot) -> String {
    let accepted = slot.accepted.as_ref().and_then(|accepted| accepted.batch.as_ref());
    let mut parts: Vec<String> = accepted.iter().map(|batch| format!("pre-prepare {}", content(batch))).collect();
    for (phase, ballot) in [("prepare", &slot.prepares), ("commit", &slot.commits)] {
        let names: Vec<String> = ballot.voters().map(|node| node.to_string()).collect();
        parts.extend((!names.is_empty()).then(|| format!("{phase} {}", names.join(","))));
    }
    let prepared = slot.prepared.as_ref();
    parts.extend(prepared.map(|(proof, batch)| format!("prepared {} in view {}", content(batch), proof.view)));
    parts.extend(slot.committed.as_ref().map(|(_, proof)| format!("committed in view {}", proof.view)));
    format!("\n    {n}: {}", parts.join("; "))
}

fn list<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    nodes.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The epoch, unless it is the first, and what is said of the next one.
fn epoch(pbft: &Pbft) -> String {
    let mut out = String::new();
    if pbft.scope.epoch > 0 {
        out = format!(" of epoch {} ({})", pbft.scope.epoch, list(&pbft.voters));
    }
    for (member, wish) in &pbft.context.endorsed {
        out += &format!(", {member} endorses {}", list(&wish.voters));
    }
    pbft.end().map_or(out.clone(), |end| format!("{out}, the epoch ends at {end}"))
}

fn show(id: u64, driven: &Driven, committed: &[Committed]) -> String {
    let pbft = match &driven.engine {
        Engine::Liar(liar) => return format!("{id} lies: {:?}", liar.lie),
        Engine::Honest(pbft) => pbft,
    };
    let role = match pbft.entered {
        _ if !pbft.votes() => "watches",
        true if pbft.is_primary() => "leads",
        true => "follows in",
        false => "wishes for",
    };
    let ops: Vec<String> = committed
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.payload).into_owned())
        .filter(|op| !op.is_empty())
        .collect();
    let stable: Vec<String> = pbft.stable().votes.iter().map(|(node, _)| node.to_string()).collect();
    let stable = if stable.is_empty() { "0".into() } else { format!("{} by {}", pbft.low(), stable.join(",")) };
    let (view, done, first, dropped) = (pbft.view, pbft.handed, pbft.base + 1, pbft.dropped().0);
    let held = pbft.slots.first_key_value().zip(pbft.slots.last_key_value());
    let held = held.map_or_else(|| "no votes".into(), |((low, _), (high, _))| format!("votes for {low}..{high}"));
    let slots: String = pbft.slots.range(done..).map(|(n, of)| slot(*n, of)).collect();
    let ops = if ops.is_empty() { "nothing".into() } else { ops.join(" ") };
    format!(
        "{id} {role} view {view}{}, executed {done} ({ops}), stable {stable}, log from {first}, {held}, dropped {dropped}{slots}",
        epoch(pbft)
    )
}

#[test]
fn scenarios_show_what_they_did() {
    let folder =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("testdata");
    Script { start, own: ("garble", garble), show }.run_all(&folder, &[], 8);
}
