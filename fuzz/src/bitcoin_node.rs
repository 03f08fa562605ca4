//! A Bitcoin node of regtest in memory, to bytes of a peer and of clients.
//!
//! ```text
//! input = { kind:u8 ... }
//! kind % 6 = 0 which:u8 payload: blob      a message of a peer, framed as it must be
//!            1 blob                        a peer's bytes as they are
//!            2 which:u8 params: blob       a call of a method, by JSON-RPC 2.0
//!            3 blob                        the body of a call
//!            4 blob                        a client's bytes as they are
//!            5 short                       so many milliseconds pass
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use verity_bitcoin::Params;
use verity_bitcoin::chain::ChainConfig;
use verity_bitcoin::index::IndexOptions;
use verity_bitcoin::mempool::MempoolOptions;
use verity_bitcoin::session::p2p;
use verity_bitcoin::session::rpc::{Auth, RpcConfig};
use verity_bitcoin::session::{BitcoinConfig, BitcoinService, NoLog, P2P_DOOR, RPC_DOOR};
use verity_bitcoin::wire::{Message, Version, encode_frame};
use verity_clock::{Interval, Now};
use verity_contract::{Door, Peer, Service as _, SessionInput, SessionOutput};
use verity_storage::{Disk, RamDisk};
use verity_types::{ConnId, Mono, Nanos};

use crate::{Lines, Script, canary};

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];
/// Of `user:pass`.
const BASIC: &str = "dXNlcjpwYXNz";
const START_NS: u64 = 1_700_000_000_000_000_000;

/// By which a peer's messages are told apart.
const COMMANDS: [&str; 26] = [
    "version",
    "verack",
    "ping",
    "pong",
    "headers",
    "getheaders",
    "getblocks",
    "block",
    "tx",
    "inv",
    "getdata",
    "notfound",
    "addr",
    "addrv2",
    "getaddr",
    "sendcmpct",
    "cmpctblock",
    "getblocktxn",
    "blocktxn",
    "feefilter",
    "mempool",
    "sendheaders",
    "wtxidrelay",
    "sendaddrv2",
    "getcfilters",
    "filterload",
];

const METHODS: [&str; 24] = [
    "getblockcount",
    "getblockhash",
    "getblock",
    "getblockheader",
    "decoderawtransaction",
    "decodescript",
    "sendrawtransaction",
    "testmempoolaccept",
    "submitblock",
    "submitheader",
    "generatetodescriptor",
    "getblocktemplate",
    "scantxoutset",
    "deriveaddresses",
    "getdescriptorinfo",
    "createrawtransaction",
    "decodepsbt",
    "combinepsbt",
    "validateaddress",
    "gettxoutproof",
    "verifytxoutproof",
    "getrawmempool",
    "addnode",
    "setban",
];

/// A node and the two who talk to it.
struct World {
    service: BitcoinService,
    now: Now,
    /// The peer's connection and the client's.
    conns: [(ConnId, Door, bool); 2],
    next: u64,
}

fn now(mono: u64) -> Now {
    Now { mono: Mono(mono), wall: Interval::around(START_NS + mono, 0) }
}

impl World {
    fn new() -> Self {
        let disk: Arc<dyn Disk> = Arc::new(RamDisk::default());
        let mut auth = Auth::new();
        auth.add_password("user", "pass", [0; 16]);
        let config = BitcoinConfig {
            params: Params::regtest(),
            chain: ChainConfig::default(),
            mempool: MempoolOptions::default(),
            p2p: p2p::Config::default(),
            rpc: RpcConfig { auth, ..RpcConfig::default() },
            white: Vec::new(),
            rpc_allow: Vec::new(),
            zmq: Vec::new(),
            index: IndexOptions::default(),
            notify: None,
            persist_mempool: false,
            mock_time: None,
            from_the_future: true,
            stop_at_height: None,
            outside: None,
            wallet: None,
            seed: [7; 32],
            folder: String::new(),
        };
        let service = BitcoinService::open(&disk, config, now(1), Box::new(NoLog)).expect("memory does not fail");
        let closed = |door| (ConnId(0), door, false);
        Self { service, now: now(1), conns: [closed(P2P_DOOR), closed(RPC_DOOR)], next: 0 }
    }

    fn input(&mut self, input: SessionInput) {
        let mut out = Vec::new();
        self.service.on(self.now, input, &mut out);
        for output in out {
            match output {
                SessionOutput::Close(conn) => {
                    self.conns.iter_mut().filter(|(own, ..)| *own == conn).for_each(|(.., open)| *open = false);
                }
                SessionOutput::Bytes { conn, bytes } if conn == self.conns[1].0 => {
                    if bytes.windows(11).any(|part| part == b"Parse error") {
                        canary("a call is no JSON");
                    }
                }
                SessionOutput::Fatal(reason) => panic!("nothing that is said may stop a node: {reason}"),
                _ => {}
            }
        }
    }

    fn say(&mut self, who: usize, bytes: &[u8]) {
        let (conn, door, open) = self.conns[who];
        if !open {
            if conn.0 > 0 {
                self.input(SessionInput::Closed { conn });
            }
            self.next += 1;
            self.conns[who] = (ConnId(self.next), door, true);
            let addr: SocketAddr = "127.0.0.1:9".parse().expect("an address");
            let peer = Peer { addr, local: None, door, certificate: None };
            self.input(SessionInput::Opened { conn: ConnId(self.next), peer });
        }
        if self.conns[who].2 {
            let conn = self.conns[who].0;
            self.input(SessionInput::Bytes { conn, bytes: Bytes::copy_from_slice(bytes) });
        }
    }

    fn call(&mut self, body: &[u8]) {
        let size = body.len();
        let head =
            format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {BASIC}\r\nContent-Length: {size}\r\n\r\n");
        self.say(1, &[head.as_bytes(), body].concat());
    }
}

/// What a peer and a client say.
///
/// # Panics
/// If it stops the node.
pub fn node(data: &[u8]) {
    let (mut script, mut world) = (Script(data), World::new());
    while !script.is_empty() {
        match script.byte() % 6 {
            0 => {
                let command = COMMANDS[usize::from(script.byte()) % COMMANDS.len()];
                let frame = encode_frame(MAGIC, command, script.blob());
                world.say(0, &frame);
            }
            1 => world.say(0, script.blob()),
            2 => {
                let method = METHODS[usize::from(script.byte()) % METHODS.len()];
                let params = String::from_utf8_lossy(script.blob()).into_owned();
                let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}");
                world.call(body.as_bytes());
            }
            3 => world.call(script.blob()),
            4 => world.say(1, script.blob()),
            _ => {
                let millis = u64::from(script.short());
                world.now = now(world.now.mono.0 + Nanos::from_millis(millis).0);
                world.input(SessionInput::Wake);
            }
        }
    }
    world.service.invariants();
}

/// A handshake, headers, and calls.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let genesis = Params::regtest().genesis;
    let version = version();
    let header = bitcoin::consensus::serialize(&genesis.header);
    let headers = [&[1][..], &header, &[0]].concat();
    let block = bitcoin::consensus::serialize(&genesis);
    let peer = |lines: Lines, which: u8, payload: &[u8]| lines.raw(&[0, which]).blob(payload);
    let greeted = || peer(Lines::new(0).raw(&[0]).blob(&version), 1, &[]);
    let call = |which: u8, params: &[u8]| Lines::new(2).raw(&[which]).blob(params).0;
    vec![
        peer(peer(greeted(), 4, &headers), 7, &block).0,
        peer(greeted(), 2, &[1; 8]).raw(&[5, 200, 0]).0,
        call(0, b"[]"),
        call(10, b"[1,\"raw(51)\"]"),
        call(13, b"[\"raw(51)#8lvh9jxk\"]"),
        Lines::new(3).blob(b"[{\"method\":\"getblockcount\"},{\"method\":\"help\",\"params\":[]}]").0,
    ]
}

fn version() -> Vec<u8> {
    let addr: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    Message::Version(Version {
        version: 70_016,
        services: verity_bitcoin::wire::Services(9),
        time: 1_700_000_000,
        receiver_services: verity_bitcoin::wire::Services(0),
        receiver: verity_bitcoin::wire::NetAddress::from_socket(addr),
        nonce: 7,
        user_agent: "/fuzz/".to_owned(),
        height: 0,
        relay: true,
    })
    .encode()
}
