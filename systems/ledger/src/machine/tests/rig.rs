//! A ledger, its validators' keys, and an order.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use verity_contract::{Command as Ordered, Effect, Effects, ReadOutcome, RequestId, StateMachine as _};
use verity_types::{LogIndex, WallMs};

use crate::SigningKey;
use crate::machine::query::decode_answer;
use crate::machine::{Command, KvStore, Ledger, LedgerConfig, Proposed, Query, Reply, Topic};
use crate::wire::{Genesis, GenesisValidator, PublicKey, SignBytes, Time, Vote};

/// Keys of so many validators.
pub(crate) fn keys(count: u8) -> Vec<SigningKey> {
    (1..=count).map(|seed| SigningKey::from([seed; 32])).collect()
}

/// A chain of those keys.
pub(crate) fn genesis(keys: &[SigningKey]) -> Arc<Genesis> {
    let one = |(at, key): (usize, &SigningKey)| GenesisValidator {
        key: PublicKey::of(key),
        name: format!("node-{}", at + 1),
    };
    let time = Time::parse("2026-01-31T12:00:00.5Z").expect("a moment");
    Arc::new(Genesis {
        chain_id: "test-chain".to_owned(),
        time,
        validators: keys.iter().enumerate().map(one).collect(),
        app_state: String::new(),
    })
}

/// A ledger under test.
pub(crate) struct Rig {
    pub(crate) ledger: Ledger,
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) proposed: Option<Proposed>,
    sequence: u64,
}

impl Rig {
    /// Of four validators.
    pub(crate) fn new() -> Self {
        Self::with(LedgerConfig::default())
    }

    pub(crate) fn with(config: LedgerConfig) -> Self {
        let keys = keys(4);
        let ledger = Ledger::new(config, genesis(&keys), Box::new(KvStore::new()));
        Self { ledger, keys, proposed: None, sequence: 0 }
    }

    /// Applies a command.
    pub(crate) fn apply(&mut self, command: &Command) -> Reply {
        self.sequence += 1;
        let request = RequestId { sequence: self.sequence, ..RequestId::default() };
        let bytes = command.encode().join();
        let mut effects = Effects::default();
        let ordered = Ordered { index: LogIndex(self.sequence), time: WallMs(0), request, bytes };
        self.ledger.apply(&[ordered], &mut effects);
        self.ledger.invariants();
        let mut reply = None;
        for effect in effects.list {
            match effect {
                Effect::Event { topic, bytes } if topic == Topic::PROPOSED => {
                    self.proposed = Some(Proposed::decode(&bytes).expect("whole"));
                }
                Effect::Event { .. } => {}
                Effect::Reply { bytes, .. } => {
                    assert!(reply.replace(Reply::decode(&bytes).expect("whole")).is_none(), "one reply");
                }
                other => panic!("{other:?}"),
            }
        }
        reply.expect("one reply")
    }

    pub(crate) fn tx(&mut self, text: &str) -> Reply {
        self.apply(&Command::Tx(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// The vote of a validator, so many milliseconds behind the block.
    pub(crate) fn vote(&mut self, validator: usize, millis: u32) -> Reply {
        let proposed = self.proposed.expect("a block is there");
        let mut time = proposed.time;
        (0..millis).for_each(|_| time = time.plus_milli());
        let what = SignBytes { chain_id: "test-chain", height: proposed.height, block_id: proposed.id, time };
        let vote = Vote::sign(&self.keys[validator], &what);
        self.apply(&Command::Vote(vote, proposed.id))
    }

    /// Votes until nothing is under way.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            if self.ledger.proposal.is_none() {
                return;
            }
            for validator in 0..3 {
                self.vote(validator, 1 + u32::try_from(validator).expect("small") * 7);
            }
        }
        panic!("blocks never end");
    }

    /// Asks.
    pub(crate) fn ask(&mut self, query: &Query) -> Result<String, String> {
        let ReadOutcome::Ready(bytes) = self.ledger.read(&query.encode()) else { panic!("answered at once") };
        decode_answer(&bytes).map(|json| String::from_utf8(json.into()).expect("text"))
    }

    pub(crate) fn json(&mut self, query: &Query) -> Value {
        serde_json::from_str(&self.ask(query).expect("an answer")).expect("JSON")
    }
}
