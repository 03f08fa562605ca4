//! Where the corpora begin: real messages, as the encoders of the code that ships make them.

use verity_kafka::wire::{ApiKey, encode_request};
use verity_types::Mono;
use verity_zookeeper::machine::{create_session, encode_ids, request};
use verity_zookeeper::wire::{
    Acl, CreateRequest, Encode as _, Id, OpCode, PathVersion, PathWatch, Request, SetDataRequest,
};

use crate::engine::{Beginning, Start};
use crate::replica;
use crate::storage::mode;
use crate::zookeeper::{deed, framed};
use crate::{Lines, bitcoin, bitcoin_node, engine, http, kafka, ledger, pbft};

/// Requests and answers of ZooKeeper 3.8.0.
const CAPTURE: &str = include_str!("../../systems/zookeeper/testdata/zookeeper-3.8.0.capture");

/// A group of Raft engines.
pub const RAFT: Start<verity_raft::Raft> =
    |boot, now: Mono| verity_raft::Raft::start(boot, verity_raft::Config::default(), now).map_err(|e| e.to_string());

/// A group of Paxos engines.
pub const PAXOS: Start<verity_paxos::Paxos> =
    |boot, now: Mono| verity_paxos::Paxos::start(boot, verity_paxos::Config::default(), now).map_err(|e| e.to_string());

/// The seeds of a target; none if there is no target of that name.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "zookeeper_wire" => captured().into_iter().map(|(op, body)| [&op.to_be_bytes()[..], &body].concat()).collect(),
        "zookeeper_session" => session(),
        "zookeeper_tree" => tree(),
        "kafka_wire" => kafka_wire(),
        "kafka_session" => kafka_session(),
        "kafka_machines" => kafka_machines(),
        "ledger_machine" => ledger::machine_seeds(),
        "ledger_session" => ledger::session_seeds(),
        "bitcoin_script" => bitcoin::seeds(),
        "bitcoin_node" => bitcoin_node::seeds(),
        "http" => http::seeds(),
        "log" => log(),
        "snapshot" => snapshot(),
        "frames" => replica::seeds().iter().flat_map(|script| writes(script)).collect(),
        "raft" => Beginning::play(RAFT).seeds(),
        "pbft_message" => pbft::message_seeds(),
        "pbft_evidence" => pbft::evidence_seeds(),
        "paxos" => Beginning::play(PAXOS).seeds(),
        "replica" => replica::seeds(),
        _ => Vec::new(),
    }
}

fn kafka_wire() -> Vec<Vec<u8>> {
    let lines = |part| Lines::new(part);
    let batch = kafka::batch(b"value");
    let frame = |request: &verity_kafka::wire::Request, version| encode_request(version, 1, Some("c"), request);
    let (produce, fetch) = (frame(&kafka::produce(batch.clone()), 9), frame(&kafka::fetch(0), 12));
    // A head alone: the fuzzer finds what bodies there are.
    let heads = ApiKey::ALL.iter().map(|key| {
        let number = u8::try_from(*key as i16).expect("keys are small");
        let version = u8::try_from(*key.versions().end()).expect("versions are small");
        lines(kafka::part::REQUEST).raw(&kafka::headed(number, version, &[0; 24])[4..]).0
    });
    let mut seeds: Vec<Vec<u8>> = heads.collect();
    seeds.push(lines(kafka::part::REQUEST).raw(&produce[4..]).0);
    seeds.push(lines(kafka::part::REQUEST).raw(&fetch[4..]).0);
    seeds.push(lines(kafka::part::RESPONSE).raw(&[18, 0]).raw(&[0; 20]).0);
    seeds.push(lines(kafka::part::BATCHES).raw(&batch).raw(&batch).0);
    seeds.push(lines(kafka::part::STREAM).blob(&produce[..7]).blob(&produce[7..]).blob(&fetch).0);
    seeds
}

fn kafka_session() -> Vec<Vec<u8>> {
    use kafka::deed;
    let begin = || Lines(Vec::new());
    let head = |key| begin().raw(&[deed::REQUEST, 0, key, 0]).blob(&[0; 12]);
    let versions = begin().raw(&[deed::REQUEST, 0, 18, 0]).blob(&[]);
    let records = begin().raw(&[deed::PRODUCE, 0, 7, deed::FETCH, 1, 0, deed::PASS, 3, deed::HANG_UP, 1]);
    let elections = begin().raw(&[deed::PRODUCE, 0, 7, deed::ELECT, 0, deed::FETCH, 1, 0, deed::ELECT, 1]);
    let sasl = begin().raw(&[deed::DIAL, 0, 1]).raw(&[deed::REQUEST, 0, 17, 1]).blob(b"\0\x05PLAIN");
    let login = sasl.clone().raw(&[deed::REQUEST, 0, 36, 0]).blob(b"\0\0\0\x0d\0alice\0secret");
    let cut = begin().raw(&[deed::BYTES, 2]).blob(&kafka::headed(3, 1, &[0, 0, 0, 0])[..9]);
    let mut seeds: Vec<Vec<u8>> = (0..=74).map(|key| head(key).0).collect();
    seeds.extend([versions, records, elections, sasl, login, cut].map(|lines| lines.0));
    seeds
}

fn kafka_machines() -> Vec<Vec<u8>> {
    use kafka::order;
    let begin = || Lines(Vec::new());
    let records =
        begin().raw(&[order::APPEND, 1, order::APPEND, 2, order::DELETE, 0, order::SNAPSHOT, order::APPEND, 3]);
    let query = begin().raw(&[order::APPEND, 1, order::QUERY]).blob(&kafka::everything());
    let marker = verity_kafka::machine::partition::Command::Marker {
        epoch: 1,
        producer_id: 1,
        producer_epoch: 1,
        coordinator_epoch: 1,
        decision: 1,
        commit: true,
    };
    let ended = begin().raw(&[order::COMMAND]).blob(&marker.encode()).raw(&[order::SNAPSHOT]);
    let [group, topic] = kafka::commands();
    let others = begin().raw(&[order::COORDINATOR]).blob(&group).raw(&[order::CLUSTER]).blob(&topic);
    let foreign = begin().raw(&[order::FOREIGN]).blob(&[1; 80]);
    [records, query, ended, others, foreign].map(|lines| lines.0).to_vec()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    (0..text.len() / 2).filter_map(|at| digit(2 * at)).collect()
}

/// One request of each operation that the capture holds.
fn captured() -> Vec<(i32, Vec<u8>)> {
    let mut found: Vec<(i32, Vec<u8>)> = Vec::new();
    for line in CAPTURE.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [op, _, _, body, ..] = words[..] else { continue };
        let op = op.parse().unwrap_or_default();
        if body != "-" && found.iter().all(|(known, _)| *known != op) {
            found.push((op, unhex(body)));
        }
    }
    found
}

fn open<'a>(path: &'a str, flags: i32) -> CreateRequest<'a> {
    CreateRequest { path, data: Some(b"data"), acl: vec![Acl::OPEN], flags }
}

/// What a client asks, by opcode.
fn ask(lines: Lines, request: &Request<'_>) -> Lines {
    let op = u8::try_from(request.op().number() + 128).expect("opcodes are small");
    lines.raw(&[deed::REQUEST, 0, op]).blob(&request.to_bytes())
}

fn session() -> Vec<Vec<u8>> {
    let watch = |path| PathWatch { path, watch: true };
    let requests = [
        Request::Create(OpCode::Create, open("/a", 0)),
        Request::Create(OpCode::Create2, open("/a/e", 1)),
        Request::GetData(watch("/a")),
        Request::GetChildren2(watch("/a")),
        Request::SetData(SetDataRequest { path: "/a", data: Some(b"more"), version: -1 }),
        Request::Multi(vec![
            Request::Check(PathVersion { path: "/a", version: 1 }),
            Request::Create(OpCode::Create, open("/a/s", 2)),
        ]),
        Request::Delete(PathVersion { path: "/a/e", version: -1 }),
        Request::WhoAmI,
        Request::CloseSession,
    ];
    let hello = Lines::new(0).raw(&[deed::HELLO, 0, 50, deed::SETTLE]);
    let whole = requests.iter().fold(hello.clone(), |lines, request| ask(lines, request).raw(&[deed::SETTLE]));
    let together = requests.iter().fold(hello.clone(), ask).raw(&[deed::ORDER, deed::PASS, 20, deed::APPLY]);
    let moved = hello.clone().raw(&[deed::RESUME, 1, deed::PASS, 200, deed::ELECT, 0, deed::PASS, 90, deed::RESTORE]);
    let words = ["mntr", "stat", "cons", "wchp", "isro"];
    let words = words
        .iter()
        .fold(hello.clone(), |lines, word| lines.raw(&[deed::DIAL, 1, 0, deed::BYTES, 1]).blob(word.as_bytes()));
    let page = b"GET /commands/stats HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let pages = hello.clone().raw(&[deed::DIAL, 1, 2, deed::BYTES, 1]).blob(page);
    let whisper = hello.raw(&[deed::WHISPER]).blob(&[1, 1, 0, 0, 1, 0, 0, 0, 1]);
    let packets =
        captured().into_iter().fold(Lines::new(1).raw(&[deed::HELLO, 0, 50, deed::SETTLE]), |lines, (op, body)| {
            let packet = [&[0, 0, 0, 9][..], &op.to_be_bytes(), &body].concat();
            lines.raw(&[deed::PACKET, 0, 6]).blob(&packet)
        });
    let stream: Vec<u8> = captured()
        .into_iter()
        .flat_map(|(op, body)| framed(&[&[0, 0, 0, 9][..], &op.to_be_bytes(), &body].concat()))
        .collect();
    let stream = Lines::new(4).raw(&[deed::HELLO, 0, 50, deed::SETTLE, deed::BYTES, 0]).blob(&stream);
    [whole, together, moved, words, pages, whisper, packets, stream].into_iter().map(|lines| lines.0).collect()
}

/// The first requests of the capture, as commands and queries, for one session.
fn tree() -> Vec<Vec<u8>> {
    let ids = encode_ids([Id { scheme: "ip", id: "127.0.0.1" }]);
    let begin = Lines::new(1).raw(&[0]).blob(&create_session(7, 30_000, &[0; 16]));
    let commands = |from: usize| {
        CAPTURE.lines().skip(from).take(60).fold(begin.clone(), |lines, line| {
            let words: Vec<&str> = line.split(' ').collect();
            let Some(op) = words[0].parse().ok().and_then(OpCode::from_number) else { return lines };
            let reads = [OpCode::Exists, OpCode::GetData, OpCode::GetAcl, OpCode::GetChildren, OpCode::GetChildren2];
            let kind = u8::from(reads.contains(&op) || op == OpCode::MultiRead);
            lines.raw(&[kind]).blob(&request(op, 7, &ids, &unhex(words[3])))
        })
    };
    let after = [3, 2, 9, 3];
    (0..6).map(|part| commands(part * 150).raw(&after).0).collect()
}

fn log() -> Vec<Vec<u8>> {
    let rounds: &[u8] = &[9, 3, 3, 0, 1, 10, 0, 1, 2, 3, 3, 1, 1, 5, 4, 2, 3, 9, 0x31, 0, 3, 2, 5, 1, 1, 8];
    let sealed = Lines::new(mode::SEALED).raw(&[1]).raw(&[5; 8]).raw(&[0, 3]);
    let record = |lines: Lines, kind: u8, index: u8| lines.raw(&[kind, 1, index, 0, 1, 72]).blob(b"payload");
    let sealed = record(record(record(sealed, 2, 1), 1, 0), 2, 2).blob(b"");
    let two = record(sealed.clone().raw(&[6; 8]).raw(&[0, 1]), 4, 1).blob(b"junk");
    let raw = Lines::new(mode::RAW).blob(b"VRTYWLOG").blob(b"").0;
    vec![
        raw,
        sealed.0,
        two.0,
        Lines::new(mode::TAIL).raw(rounds).raw(&[0, 2, 1, 2, 3, 0]).0,
        Lines::new(mode::FLIPS).raw(rounds).raw(&[1, 0, 0, 90, 3]).0,
    ]
}

fn snapshot() -> Vec<Vec<u8>> {
    use verity_contract::StateMachine as _;
    use verity_zookeeper::machine::{Tree, TreeConfig};
    let mut tree = Tree::new(TreeConfig::default());
    tree.snapshot_begin();
    let chunks: Vec<_> = std::iter::from_fn(|| tree.snapshot_next(256)).collect();
    let count = u8::try_from(chunks.len()).expect("an empty tree is small");
    let blocks = |lines: Lines| chunks.iter().fold(lines.raw(&[count]), |lines, chunk| lines.blob(chunk));
    let sealed = blocks(Lines::new(mode::SEALED).raw(&[0, 0, 0, 2, 3, 0, 0, 3, 1, 2, 3]));
    let flips = blocks(Lines::new(mode::TAIL)).raw(&[1, 0, 30, 2]);
    vec![Lines::new(mode::RAW).raw(b"VRTYSNAP").0, sealed.0, flips.0]
}

/// The writes of peers out of a script of a node.
fn writes(script: &[u8]) -> Vec<Vec<u8>> {
    let mut script = crate::Script(&script[1..]);
    let mut found = Vec::new();
    while !script.is_empty() {
        match script.byte() {
            0 => {
                script.byte();
                found.push(script.blob().to_vec());
            }
            _ => drop(script.byte()),
        }
    }
    found.sort();
    found.dedup_by_key(|write| write.get(..15).map(<[u8]>::to_vec));
    found
}

/// Plays how the group of an engine begins once per process, and runs a script behind it.
pub fn run_raft(data: &[u8]) {
    static BEGINNING: std::sync::OnceLock<Beginning> = std::sync::OnceLock::new();
    engine::run(RAFT, BEGINNING.get_or_init(|| Beginning::play(RAFT)), |term| term.0, data);
}

/// As [`run_raft`].
pub fn run_paxos(data: &[u8]) {
    static BEGINNING: std::sync::OnceLock<Beginning> = std::sync::OnceLock::new();
    engine::run(PAXOS, BEGINNING.get_or_init(|| Beginning::play(PAXOS)), |ballot| ballot.0 >> 16, data);
}
