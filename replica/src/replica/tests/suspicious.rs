//! A node whose engine does not trust its members: every voter proposes, replies wait for another's word, and a state that
//! somebody sent counts once it is proven.

use bytes::BytesMut;
use sha2::{Digest as _, Sha256};
use verity_contract::{CommittedKind, Part, Witness};

use super::*;
use crate::batch::Batch;
use crate::certify::{Certificate, Signature};
use crate::vouch::{ASK_AFTER, Tag, Tags, WAIT_MAX};

const VOTERS: [NodeId; 4] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4)];
const GROUP: GroupId = GroupId(1);
/// The one state that this engine holds for the group's.
const PROVEN: u64 = 7;

/// What stands beside a state in which no node has a lane.
fn blank_header() -> Bytes {
    crate::snapshot::encode_header(
        verity_types::WallMs(0),
        &crate::lane::Lanes::default(),
        &Roster::new(),
        &[],
        &Bytes::new(),
    )
}

/// Settles at once what is proposed. A second member leads.
#[derive(Default)]
struct Jury {
    index: u64,
    checkpoints: bool,
}

impl Jury {
    fn commit(&mut self, parts: &[(NodeId, Bytes)], out: &mut Vec<FromEngine>) {
        self.index += 1;
        out.push(FromEngine::Commit(vec![Committed {
            index: LogIndex(self.index),
            term: Term(1),
            kind: CommittedKind::Normal,
            time: Some(verity_types::WallMs(5)),
            payload: parts.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect::<Vec<u8>>().into(),
            parts: parts.iter().map(|(proposer, bytes)| Part { proposer: *proposer, length: bytes.len() }).collect(),
        }]));
        if self.checkpoints {
            out.push(FromEngine::Checkpoint { index: LogIndex(self.index) });
        }
    }
}

impl Agreement for Jury {
    fn on(&mut self, _now: Mono, input: ToEngine, out: &mut Vec<FromEngine>) {
        match input {
            ToEngine::Tick if self.index == 0 => {
                out.push(FromEngine::Role { leader: Some(PEER), term: Term(1), leads: false });
                self.commit(&[], out);
            }
            ToEngine::Propose(payload) => self.commit(&[(NODE, payload)], out),
            // What another member proposed.
            ToEngine::Message { from, bytes } if bytes.starts_with(b"install") => {
                assert_eq!(from, PEER);
                self.index = 50;
                let meta = SnapshotMeta { index: LogIndex(50), term: Term(1), ..SnapshotMeta::default() };
                out.extend([FromEngine::InstallSnapshot(meta), FromEngine::Checkpoint { index: LogIndex(50) }]);
            }
            ToEngine::Message { from, bytes } => {
                self.commit(&[(NodeId(9), Bytes::from_static(b"none")), (from, bytes)], out)
            }
            ToEngine::Checkpointed { index: LogIndex(50), digest } => {
                let machine = Told { value: PROVEN };
                let beside = Sha256::new().chain_update(machine.digest().0);
                let header = blank_header();
                let mut members = BytesMut::new();
                verity_contract::codec::put_members(&mut members, &Members::default());
                let proven = beside.chain_update(header).chain_update(members).finalize();
                if digest.0[..] != proven[..] {
                    out.push(FromEngine::StateRefused { index: LogIndex(50) });
                }
            }
            _ => {}
        }
    }

    fn snapshot_context(&self, index: LogIndex) -> Option<Bytes> {
        index.0.is_multiple_of(4).then(|| Bytes::from_static(b"beside"))
    }

    fn tick_interval(&self) -> Nanos {
        Nanos::from_millis(10)
    }

    fn status(&self) -> AgreementStatus {
        AgreementStatus { members: Members::of_voters(VOTERS), ..AgreementStatus::default() }
    }

    fn invariants(&self) {}

    fn witness(&self) -> Option<&dyn Witness> {
        Some(self)
    }
}

impl Witness for Jury {
    fn comes_with_snapshot(&self, bytes: &Bytes) -> bool {
        bytes.starts_with(b"snapshot")
    }

    fn enough(&self) -> usize {
        2
    }

    fn scope(&self) -> Bytes {
        Bytes::from_static(b"group")
    }

    fn sign(&self, statement: Digest) -> Bytes {
        Bytes::copy_from_slice(&statement.0)
    }

    fn is_signed(&self, _node: NodeId, statement: Digest, signature: &Bytes) -> bool {
        statement.0[..] == signature[..]
    }
}

/// Answers each command with its bytes; holds what a snapshot says.
struct Told {
    value: u64,
}

impl StateMachine for Told {
    fn apply(&mut self, batch: &[contract::Command], effects: &mut Effects) {
        for one in batch {
            self.value += 1;
            effects.list.push(Effect::Event { topic: Bytes::new(), bytes: one.bytes.clone() });
            effects.list.push(Effect::Reply { request: one.request, bytes: one.bytes.clone() });
        }
    }

    fn read(&mut self, _query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(Bytes::copy_from_slice(&self.value.to_be_bytes()))
    }

    fn snapshot_begin(&mut self) {}

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        None
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        let chunk = chunks.next().ok_or_else(|| RestoreError::Invalid("empty".into()))??;
        self.value = u64::from(*chunk.first().ok_or_else(|| RestoreError::Invalid("short".into()))?);
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.value.to_be_bytes()).into())
    }

    fn invariants(&self) {}
}

/// What the node put out.
struct Bench {
    replica: Replica,
    at: Mono,
    all: Vec<Output>,
}

impl Bench {
    fn new(jury: Jury) -> Self {
        let mut replica = Replica::new(ReplicaConfig { id: NODE, incarnation: Incarnation(1), log_bytes: LOG_BYTES });
        let config = GroupConfig { snapshot_log_bytes: 1, rest: (Nanos(0), u64::MAX), ..GroupConfig::default() };
        let (engine, machine, restored) = (Box::new(jury), Box::new(Told { value: 0 }), Restored::default());
        replica.add_group(now(), GroupBoot { id: GROUP, engine, machine, duty: None, restored, config });
        let mut bench = Self { replica, at: now().mono, all: Vec::new() };
        bench.wait(Nanos(0));
        bench
    }

    fn now(&self) -> Now {
        Now { mono: self.at, ..now() }
    }

    fn input(&mut self, input: Input) {
        self.replica.on(self.now(), input, &mut self.all);
        self.replica.flush(self.now(), &mut self.all);
        self.replica.invariants();
    }

    /// Time passes, a tick at a time.
    fn wait(&mut self, span: Nanos) {
        let until = self.at + span;
        loop {
            self.input(Input::Tick);
            if self.at >= until {
                return;
            }
            self.at = self.at + Nanos::from_millis(10);
        }
    }

    fn frame(&mut self, from: NodeId, frame: Frame) {
        self.input(Input::Peer { from, frames: vec![frame] });
    }

    fn propose(&mut self, token: u64, bytes: &'static [u8]) {
        self.replica.propose(self.now(), GROUP, Token(token), Bytes::from_static(bytes));
        self.input(Input::Tick);
    }

    fn told(&mut self, from: u64, first: u64, replies: &[&'static [u8]]) {
        let incarnation = self.replica.groups[&GROUP].lane.incarnation();
        let tags = replies.iter().map(|reply| Tag::of(&Bytes::from_static(reply))).collect();
        self.frame(NodeId(from), Frame::Told { group: GROUP, tags: Tags { incarnation, first, tags } });
    }

    fn answers(&mut self) -> Vec<(u64, Result<Bytes, Failure>)> {
        let answer = |output: &Output| match output {
            Output::Answer { token, result } => Some((token.0, result.clone())),
            _ => None,
        };
        let answers = self.all.iter().filter_map(answer).collect();
        self.all.retain(|output| answer(output).is_none());
        answers
    }

    fn frames_to(&mut self, node: NodeId) -> Vec<Frame> {
        let mut frames = Vec::new();
        for output in std::mem::take(&mut self.all) {
            match output {
                Output::Send { to, bytes, .. } if to == node => {
                    frames.extend(crate::frame::decode_frames(bytes).expect("its own frames"));
                }
                other => self.all.push(other),
            }
        }
        frames
    }

    fn read(&mut self, token: u64) -> Vec<(u64, Result<Bytes, Failure>)> {
        self.replica.read(self.now(), GROUP, Token(token), Bytes::new(), Consistency::Local);
        self.input(Input::Tick);
        self.answers()
    }
}

fn batch(origin: u64, sequence: u64, command: &'static [u8]) -> Bytes {
    let request = contract::RequestId { origin: NodeId(origin), incarnation: Incarnation(1), sequence };
    Batch {
        time: verity_types::WallMs(1),
        proposals: vec![Proposal { request, command: Bytes::from_static(command).into() }],
    }
    .encode()
}

#[test]
fn a_reply_waits_for_another_voice_and_what_is_behind_it_waits_too() {
    let mut bench = Bench::new(Jury::default());
    bench.propose(1, b"first");
    bench.propose(2, b"second");
    assert!(bench.answers().is_empty(), "nobody vouched");
    assert!(bench.read(3).is_empty(), "a read of a state behind the reply comes behind it");
    bench.told(2, 2, &[b"second"]);
    assert!(bench.answers().is_empty(), "the first comes first");
    bench.told(4, 1, &[b"first"]);
    let tokens: Vec<u64> = bench.answers().iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [1, 2, 3]);
}

#[test]
fn words_that_were_lost_are_asked_for_and_a_reply_that_nobody_knows_is_unknown() {
    let mut bench = Bench::new(Jury::default());
    bench.propose(1, b"first");
    bench.frames_to(PEER);
    bench.wait(ASK_AFTER);
    let again = |frame: &Frame| matches!(frame, Frame::TellAgain { first: 1, .. });
    assert!(bench.frames_to(PEER).iter().any(again));
    bench.wait(WAIT_MAX);
    assert_eq!(bench.answers(), [(1, Err(Failure::Unavailable))]);
    bench.propose(2, b"second");
    bench.told(3, 2, &[b"second"]);
    assert_eq!(bench.answers(), [(2, Ok(Bytes::from_static(b"second")))]);
}

#[test]
fn a_node_that_others_contradict_stops() {
    let mut bench = Bench::new(Jury::default());
    bench.propose(1, b"first");
    bench.told(2, 1, &[b"other"]);
    let fatal = |output: &Output| matches!(output, Output::Fatal(_));
    assert!(!bench.all.iter().any(fatal), "one may lie");
    bench.told(3, 1, &[b"other"]);
    assert!(bench.all.iter().any(fatal));
}

#[test]
fn a_part_counts_for_its_proposer_alone() {
    let mut bench = Bench::new(Jury::default());
    bench.frame(PEER, Frame::Agreement { group: GROUP, bytes: batch(2, 1, b"its own") });
    bench.frame(PEER, Frame::Agreement { group: GROUP, bytes: batch(3, 1, b"another's") });
    bench.frame(PEER, Frame::Agreement { group: GROUP, bytes: batch(0, 0, b"a duty's") });
    let value = bench.read(1).pop().expect("an answer").1.expect("a value");
    assert_eq!(value[..], 2u64.to_be_bytes(), "what is no batch, and what is put into another's lane, is skipped");
    let told = bench.frames_to(PEER).into_iter().find_map(|frame| match frame {
        Frame::Told { tags, .. } => Some(tags),
        _ => None,
    });
    assert_eq!(told.expect("its command was applied").tags, [Tag::of(&Bytes::from_static(b"its own"))]);
    bench.frame(PEER, Frame::TellAgain { group: GROUP, incarnation: Incarnation(1), first: 1 });
    assert!(bench.frames_to(PEER).iter().any(|frame| matches!(frame, Frame::Told { .. })));
}

#[test]
fn a_state_that_is_not_the_proven_one_serves_nobody() {
    let mut bench = Bench::new(Jury::default());
    let header = blank_header();
    let install = |bench: &mut Bench, value: u8| {
        bench.frame(PEER, Frame::Agreement { group: GROUP, bytes: Bytes::from_static(b"install") });
        let meta = SnapshotMeta { index: LogIndex(50), term: Term(1), ..SnapshotMeta::default() };
        let chunks = Ok(vec![header.clone(), Bytes::copy_from_slice(&[value])]);
        bench.input(Input::SnapshotLoaded { group: GROUP, meta, chunks });
    };
    install(&mut bench, 9);
    assert_eq!(bench.read(1), [(1, Err(Failure::Unavailable))]);
    assert_eq!(bench.replica.digests().count(), 0);
    install(&mut bench, PROVEN as u8);
    assert_eq!(bench.read(2), [(2, Ok(Bytes::copy_from_slice(&PROVEN.to_be_bytes())))]);
}

#[test]
fn snapshots_are_taken_where_the_engine_lets_them() {
    let mut bench = Bench::new(Jury { checkpoints: true, ..Jury::default() });
    for sequence in 1..=9 {
        bench.frame(PEER, Frame::Agreement { group: GROUP, bytes: batch(2, sequence, b"more") });
    }
    let begun: Vec<(u64, Bytes)> = bench
        .all
        .iter()
        .filter_map(|output| match output {
            Output::Snapshot(SnapshotWork::Begin { meta, .. }) => Some((meta.index.0, meta.context.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(begun, [(4, Bytes::from_static(b"beside"))], "one is under way, and it was taken at a checkpoint");
}

#[test]
fn an_answer_is_certified_by_those_who_come_to_the_same() {
    let mut bench = Bench::new(Jury::default());
    let query = Bytes::from_static(b"what");
    bench.replica.certify(bench.now(), GROUP, Token(5), query.clone());
    bench.input(Input::Tick);
    let asked = bench.frames_to(NodeId(3)).into_iter().find_map(|frame| match frame {
        Frame::Certify { token, query, .. } => Some((token, query)),
        _ => None,
    });
    assert_eq!(asked, Some((Token(5), query.clone())));
    let own = Bytes::copy_from_slice(&0u64.to_be_bytes());
    let sign = |answer: &Bytes| {
        let statement = Certificate::statement(&query, answer);
        Signature::of(answer, Bytes::copy_from_slice(&statement.0))
    };
    let other = Bytes::from_static(b"another answer");
    bench.frame(NodeId(2), Frame::Signed { group: GROUP, token: Token(5), signature: sign(&other) });
    assert!(bench.answers().is_empty(), "it signs something else");
    bench.frame(NodeId(3), Frame::Signed { group: GROUP, token: Token(5), signature: sign(&own) });
    let (token, result) = bench.answers().pop().expect("two signed it");
    let certificate = Certificate::decode(result.expect("a certificate")).expect("its own bytes");
    assert_eq!((token, &certificate.query, &certificate.answer), (5, &query, &own));
    assert_eq!(certificate.signatures.keys().copied().collect::<Vec<_>>(), [NODE, NodeId(3)]);
    bench.frame(NodeId(3), Frame::Certify { group: GROUP, token: Token(9), index: LogIndex(1), query });
    assert!(bench.frames_to(NodeId(3)).iter().any(|frame| matches!(frame, Frame::Signed { token: Token(9), .. })));
}
