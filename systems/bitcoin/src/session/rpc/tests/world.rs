//! A node with clients and without peers.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use verity_http::{Event, Limits, Server};
use verity_storage::{Disk, MemoryDisk};

use crate::Params;
use crate::chain::{Chain, ChainConfig};
use crate::index::{Index, IndexOptions};
use crate::mempool::Mempool;
use crate::node::Node;
use crate::session::p2p::{AddNode, AddedNode, Banned, KnownAddress, PeerControl, PeerInfo, Which};
use crate::session::rpc::{Answer, Auth, Ctx, Json, NoFiles, Rpc, RpcConfig, WALLET_METHODS, WaitId};
use crate::wallet::{WalletOptions, Wallets};

pub(super) const NOW: u64 = 1_700_000_000;
/// The address and the key of the first node of the network's own tests.
pub(super) const ADDRESS: &str = "mjTkW3DjgyZck4KbiRusZsqTgaYTxdSz6z";
pub(super) const KEY: &str = "cVpF924EspNh8KjYsfhgY96mmxvT6DgdWiTYMtMjuM74hJaU5psW";

/// Peers that do nothing but remember.
#[derive(Debug, Default)]
pub(super) struct Peers {
    active: bool,
    added: Vec<String>,
    banned: Vec<Banned>,
}

impl PeerControl for Peers {
    fn peers(&self) -> Vec<PeerInfo> {
        Vec::new()
    }
    fn add_node(&mut self, addr: &str, command: AddNode, _: Option<bool>) -> Result<(), &'static str> {
        let place = self.added.iter().position(|own| own == addr);
        match (command, place) {
            (AddNode::Add, Some(_)) => Err("Error: Node already added"),
            (AddNode::Add, None) => {
                self.added.push(addr.into());
                Ok(())
            }
            (AddNode::Remove, None) => Err("Error: Node could not be removed. It has not been added previously."),
            (AddNode::Remove, Some(place)) => {
                self.added.remove(place);
                Ok(())
            }
            (AddNode::OneTry, _) => Ok(()),
        }
    }
    fn added_nodes(&self) -> Vec<AddedNode> {
        self.added.iter().map(|addr| AddedNode { addr: addr.clone(), connected: None }).collect()
    }
    fn disconnect(&mut self, _: &Which) -> bool {
        false
    }
    fn set_network_active(&mut self, active: bool) {
        self.active = active;
    }
    fn network_active(&self) -> bool {
        self.active
    }
    fn totals(&self) -> (u64, u64) {
        (1, 2)
    }
    fn ban(&mut self, subnet: &str, until: u64) -> bool {
        self.banned.push(Banned { subnet: subnet.into(), created: NOW, until });
        true
    }
    fn unban(&mut self, subnet: &str) -> bool {
        let count = self.banned.len();
        self.banned.retain(|ban| ban.subnet != subnet);
        count > self.banned.len()
    }
    fn banned(&self) -> Vec<Banned> {
        self.banned.clone()
    }
    fn clear_banned(&mut self) {
        self.banned.clear();
    }
    fn known_addresses(&self, _: usize) -> Vec<KnownAddress> {
        Vec::new()
    }
    fn add_address(&mut self, _: SocketAddr, _: bool) -> bool {
        true
    }
    fn local_services(&self) -> u64 {
        0x0c09
    }
    fn ping_all(&mut self) {}
    fn fetch_block(&mut self, _: bitcoin::BlockHash, _: u64) -> Result<(), &'static str> {
        Err("Peer does not exist")
    }
}

pub(super) struct World {
    pub(super) node: Node,
    pub(super) index: Index,
    pub(super) peers: Peers,
    pub(super) rpc: Rpc,
    pub(super) now_ms: u64,
    pub(super) stop: bool,
    /// The password that clients send.
    pub(super) user: String,
    pub(super) wallets: Option<Wallets>,
    /// Calls go to this wallet.
    pub(super) wallet: Option<String>,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut RpcConfig)) -> Self {
        Self::open(MemoryDisk::new(), None, change)
    }

    /// With wallets, over what a disk has; `seed` makes their keys.
    pub(super) fn with_wallets(disk: MemoryDisk, options: WalletOptions, seed: u8) -> Self {
        Self::open(disk, Some((options, seed)), |config| config.wallets = true)
    }

    fn open(memory: MemoryDisk, options: Option<(WalletOptions, u8)>, change: impl FnOnce(&mut RpcConfig)) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(memory);
        let chain = Chain::open(&disk, Params::regtest(), ChainConfig::default()).expect("it begins");
        let index =
            Index::open(&disk, &chain, IndexOptions { transactions: true, filters: true, stats: true, spenders: true })
                .expect("it begins");
        let mut node = Node::new(chain, Mempool::default(), NOW).expect("it begins");
        let wallets = options.map(|(options, seed)| {
            let mut wallets = Wallets::new(Arc::clone(&disk), "/node", options, [seed; 32]);
            assert_eq!(wallets.start(&mut node).expect("the disk is good"), Vec::<String>::new());
            wallets
        });
        let mut config = RpcConfig { rest: true, ..RpcConfig::default() };
        config.auth = Auth::new();
        config.auth.add_password("u", "p", [1; 16]);
        change(&mut config);
        let methods = if wallets.is_some() { WALLET_METHODS } else { &[] };
        let mut rpc = Rpc::new(config, methods, 0);
        rpc.set_ready();
        let peers = Peers { active: true, ..Peers::default() };
        Self { node, index, peers, rpc, now_ms: 0, stop: false, user: "u:p".into(), wallets, wallet: None }
    }

    fn with_ctx<R>(&mut self, deed: impl FnOnce(&mut Rpc, &mut Ctx<'_>) -> R) -> R {
        let (mut fatal, mut files, mut none) = (None, NoFiles, ());
        let mut ctx = Ctx {
            node: &mut self.node,
            peers: &mut self.peers,
            indexes: &self.index,
            warnings: &[],
            files: &mut files,
            now_ms: self.now_ms,
            stop: &mut self.stop,
            fatal: &mut fatal,
            other: match &mut self.wallets {
                Some(wallets) => wallets,
                None => &mut none,
            },
        };
        let result = deed(&mut self.rpc, &mut ctx);
        assert_eq!(fatal, None);
        let events = self.node.take_events();
        if let Some(wallets) = &mut self.wallets {
            wallets.on_events(&self.node, &events).expect("the disk is good");
            wallets.invariants();
        }
        for event in events {
            if let crate::node::Event::Chain(crate::chain::ChainEvent::Connected { id, block, undo }) = event {
                self.index.on_connected(self.node.chain(), id, &block, &undo).expect("the disk is good");
            }
        }
        result
    }

    /// What comes back of a request, or what it waits for.
    pub(super) fn send(&mut self, bytes: &str) -> Result<Got, WaitId> {
        let mut server = Server::new(Limits::default());
        server.on_bytes(Bytes::from(bytes.to_string()));
        let Some(Event::Request(request)) = server.poll() else { panic!("a request") };
        let answer = self.with_ctx(|rpc, ctx| rpc.on_request(ctx, &request));
        match answer {
            Answer::Later(id) => Err(id),
            Answer::Now(response) => {
                server.respond(request.number, response);
                Ok(read(&mut server))
            }
        }
    }

    pub(super) fn post(&mut self, body: &str) -> Result<Got, WaitId> {
        let auth = base64::engine::general_purpose::STANDARD.encode(&self.user);
        let length = body.len();
        let path = self.wallet.as_ref().map_or("/".to_owned(), |name| format!("/wallet/{name}"));
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {auth}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    pub(super) fn get(&mut self, path: &str) -> Got {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).expect("at once")
    }

    /// Calls by JSON-RPC 2.0; an error as its number and words.
    pub(super) fn call(&mut self, method: &str, params: &str) -> Result<Json, (i32, String)> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let got = self.post(&body).expect("at once");
        assert_eq!(got.status, 200, "{}", got.body);
        result(&got.body)
    }

    pub(super) fn ok(&mut self, method: &str, params: &str) -> Json {
        self.call(method, params).unwrap_or_else(|error| panic!("{method} {params}: {error:?}"))
    }

    pub(super) fn err(&mut self, method: &str, params: &str) -> (i32, String) {
        match self.call(method, params) {
            Ok(value) => panic!("{method} {params}: {}", value.write()),
            Err(error) => error,
        }
    }

    /// The answers of calls that waited.
    pub(super) fn poll(&mut self) -> Vec<WaitId> {
        self.with_ctx(|rpc, ctx| rpc.poll(ctx)).into_iter().map(|(id, _)| id).collect()
    }

    pub(super) fn mine(&mut self, count: u32) -> Vec<String> {
        let hashes = self.ok("generatetoaddress", &format!(r#"[{count},"{ADDRESS}"]"#));
        hashes.items().expect("hashes").iter().map(|hash| hash.text().expect("a hash").to_string()).collect()
    }
}

fn result(body: &str) -> Result<Json, (i32, String)> {
    let reply = Json::read(body.trim().as_bytes()).expect("JSON");
    let error = reply.get("error");
    if error.is_null() {
        return Ok(reply.get("result").clone());
    }
    Err((error.get("code").int().expect("a number"), error.get("message").text().expect("words").into()))
}

fn read(server: &mut Server) -> Got {
    let mut bytes = Vec::new();
    while let Some(event) = server.poll() {
        if let Event::Write(part) = event {
            bytes.extend_from_slice(&part);
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Got { status, head: head.into(), body: body.into() }
}
