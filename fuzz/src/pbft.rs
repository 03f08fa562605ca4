//! What replicas that may lie write, to PBFT's decoders of messages and of evidence.
//!
//! A message that can be read is written again as something that reads the same. Evidence too, and to look at its signatures
//! is harmless, whoever it accuses.

use bytes::Bytes;
use verity_contract::{Agreement as _, Boot, Input, Members, Output};
use verity_pbft::{Config, Evidence, Keys, Pbft, Phase, Scope, Sig, rewrite};
use verity_types::{Digest, Incarnation, Mono, NodeId};

/// The kind of a new view; no seed is one, so it is the canary.
const NEW_VIEW: u8 = 7;
/// Rounds of messages that the seeds are taken from.
const ROUNDS: usize = 8;

fn keys(id: u64) -> Keys {
    Keys::seals(NodeId(id), (1..=4).map(NodeId))
}

/// A message of a peer.
///
/// # Panics
/// If something that must hold does not.
pub fn message(data: &[u8]) {
    let Some(again) = rewrite(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(rewrite(again.clone()), Some(again.clone()), "a message survives its encoding");
    if again[1] == NEW_VIEW {
        crate::canary("a new view");
    }
}

/// Evidence of somebody.
///
/// # Panics
/// If something that must hold does not.
pub fn evidence(data: &[u8]) {
    let Ok(evidence) = Evidence::decode(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(Evidence::decode(evidence.encode()).as_ref(), Ok(&evidence), "evidence survives its encoding");
    let _ = (evidence.verify_with(&keys(1)), evidence.to_string());
    if evidence.phase == Phase::Checkpoint {
        crate::canary("two checkpoints");
    }
}

/// The first message of each kind that four replicas say to each other.
///
/// # Panics
/// If a replica does not start.
#[must_use]
pub fn message_seeds() -> Vec<Vec<u8>> {
    let start = |id: u64| {
        let members = Members::of_voters((1..=4).map(NodeId));
        let boot = Boot { id: NodeId(id), members, incarnation: Incarnation(1), ..Boot::default() };
        let config = Config { checkpoint_every: 2, window: 4, ..Config::default() };
        Pbft::start(boot, config, keys(id), Mono(1)).expect("a replica starts")
    };
    let mut replicas: Vec<Pbft> = (1..=4).map(start).collect();
    let mut seeds: Vec<Bytes> = Vec::new();
    for round in 0..ROUNDS {
        let now = Mono(1 + 60_000_000 * round as u64);
        let mut inputs: Vec<(NodeId, Input)> = (1..=4).map(|id| (NodeId(id), Input::Tick)).collect();
        inputs.push((NodeId(2), Input::Propose(Bytes::from_static(b"seed"))));
        while let Some((to, input)) = inputs.pop() {
            let mut out = Vec::new();
            let at = usize::try_from(to.0 - 1).expect("one of four");
            replicas[at].on(now, input, &mut out);
            for output in out {
                match output {
                    Output::Send { to: peer, bytes, .. } => {
                        if seeds.iter().all(|seed| seed[1] != bytes[1]) && bytes[1] != NEW_VIEW {
                            seeds.push(bytes.clone());
                        }
                        inputs.insert(0, (peer, Input::Message { from: to, bytes }));
                    }
                    Output::Persist { id, .. } => inputs.push((to, Input::Persisted(id))),
                    Output::Judge { index, .. } => {
                        inputs.push((to, Input::Verdict { index, verdict: verity_contract::Verdict::Accept }));
                    }
                    Output::Checkpoint { index } => {
                        inputs.push((to, Input::Checkpointed { index, digest: Digest::default() }));
                    }
                    _ => {}
                }
            }
        }
    }
    seeds.iter().map(|seed| seed.to_vec()).collect()
}

/// Evidence of each phase but that of checkpoints.
#[must_use]
pub fn evidence_seeds() -> Vec<Vec<u8>> {
    [Phase::PrePrepare, Phase::Prepare, Phase::Commit]
        .map(|phase| {
            let scope = Scope { group: Bytes::from_static(b"group"), epoch: 0 };
            let said = [1, 2].map(|byte| (Digest([byte; 32]), Sig([byte; 64])));
            Evidence { scope, phase, culprit: NodeId(3), view: 1, n: 9, said }.encode().to_vec()
        })
        .into()
}
