//! What the tree costs: nanoseconds an operation, bytes a node, seconds a restart. Run with `--release`; it asserts
//! nothing, since timings are no tests.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::fs;
use std::time::Instant;

use bytes::Bytes;
use verity_contract::{Command, Effects, RequestId, StateMachine};
use verity_types::{Incarnation, LogIndex, NodeId, WallMs};
use verity_zookeeper::machine::{Tree, TreeConfig, create_session, encode_ids, request};
use verity_zookeeper::wire::{Acl, CreateRequest, Encode, Id, OpCode, PathWatch, SetDataRequest};

const NODES: usize = 300_000;
const FANOUT: usize = 1000;
const DATA: [u8; 100] = [b'v'; 100];

fn command(sequence: usize, bytes: Bytes) -> Command {
    let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence: sequence as u64 };
    Command { index: LogIndex(sequence as u64), time: WallMs(1_700_000_000_000), request, bytes }
}

/// Resident bytes, where the system tells.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn each(name: &str, count: usize, start: Instant) {
    println!("{name}: {} ns each", start.elapsed().as_nanos() / count.max(1) as u128);
}

fn main() {
    let ids = encode_ids([Id { scheme: "ip", id: "127.0.0.1" }]);
    let mut tree = Tree::new(TreeConfig::default());
    let mut effects = Effects::default();
    tree.apply(&[command(1, create_session(1, 4000, &[0; 16]))], &mut effects);
    let create = |path: &str, data| {
        let record = CreateRequest { path, data: Some(data), acl: vec![Acl::OPEN], flags: 0 };
        request(OpCode::Create, 1, &ids, &record.to_bytes())
    };
    let dirs: Vec<Command> =
        (0..NODES / FANOUT).map(|dir| command(dir, create(&format!("/d{dir}"), &DATA[..0]))).collect();
    tree.apply(&dirs, &mut effects);
    let paths: Vec<String> = (0..NODES).map(|at| format!("/d{}/node-{at:06}", at / FANOUT)).collect();
    let log: Vec<Command> = paths.iter().enumerate().map(|(at, path)| command(at, create(path, &DATA))).collect();

    let before = resident();
    let start = Instant::now();
    for batch in log.chunks(100) {
        effects.list.clear();
        tree.apply(batch, &mut effects);
    }
    each("create", NODES, start);
    let own: usize = paths.iter().map(|path| path.rsplit('/').next().map_or(0, str::len) + DATA.len()).sum();
    let per_node = |bytes: u64| (bytes as i64 - own as i64) / NODES as i64;
    println!("bytes a node beyond name and data: {} resident", per_node(resident().saturating_sub(before)));

    let queries: Vec<Bytes> = paths
        .iter()
        .map(|path| request(OpCode::GetData, 1, &ids, &PathWatch { path, watch: false }.to_bytes()))
        .collect();
    let mut bytes = 0;
    let start = Instant::now();
    for at in 0..NODES {
        // A stride that is prime to the count: not the order of creation.
        if let verity_contract::ReadOutcome::Ready(reply) = tree.read(&queries[at * 7919 % NODES]) {
            bytes += reply.len();
        }
    }
    each("get, all over the tree", NODES, start);
    println!("  of {} bytes", bytes / NODES);

    let sets: Vec<Command> = paths
        .iter()
        .enumerate()
        .map(|(at, path)| {
            let record = SetDataRequest { path, data: Some(&DATA), version: -1 };
            command(at, request(OpCode::SetData, 1, &ids, &record.to_bytes()))
        })
        .collect();
    let start = Instant::now();
    for batch in sets.chunks(100) {
        effects.list.clear();
        tree.apply(batch, &mut effects);
    }
    each("set", NODES, start);

    restart(&mut tree);
}

fn restart(tree: &mut Tree) {
    let start = Instant::now();
    tree.snapshot_begin();
    println!("snapshot begins in {} us", start.elapsed().as_micros());
    let start = Instant::now();
    let chunks: Vec<Bytes> = std::iter::from_fn(|| tree.snapshot_next(1 << 20)).collect();
    println!(
        "snapshot: {} MB in {} ms",
        chunks.iter().map(Bytes::len).sum::<usize>() >> 20,
        start.elapsed().as_millis()
    );
    let mut copy = Tree::new(TreeConfig::default());
    let start = Instant::now();
    let result = copy.restore(&mut chunks.into_iter().map(Ok));
    println!(
        "restore: {} ms, {result:?}, same digest: {}",
        start.elapsed().as_millis(),
        copy.digest() == tree.digest()
    );
}
