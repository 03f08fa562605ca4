//! A Bitcoin node in a world: the service that ships, opened from what its disk has.
//!
//! - upon the first input of a life: the service is opened, with the node's own clock;
//! - upon a disk that fails meanwhile: the node stops and says why, as it does later.
//!
//! Deliberately absent: groups, wallets, subscribers.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use verity_bitcoin::chain::{ChainConfig, ChainError};
use verity_bitcoin::index::IndexOptions;
use verity_bitcoin::mempool::MempoolOptions;
use verity_bitcoin::session::rpc::{Auth, RpcConfig};
use verity_bitcoin::session::{BitcoinConfig, BitcoinService, NoLog, p2p};
use verity_bitcoin::{Mutant, Params};
use verity_clock::Now;
use verity_contract::{Service, SessionInput, SessionOutput};
use verity_storage::Disk;
use verity_types::NodeId;

use crate::world::streams::address;

/// What one life of a node is made of.
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) node: NodeId,
    /// Whom it dials.
    pub(super) peers: Vec<NodeId>,
    /// Different in each world.
    pub(super) seed: u64,
    pub(super) mutant: Mutant,
}

/// The service, once its disk was read.
pub(super) struct Hosted {
    place: Place,
    /// Different in each life.
    life: String,
    service: Option<Box<BitcoinService>>,
    broken: bool,
}

impl Hosted {
    pub(super) fn new(place: Place, life: String) -> Self {
        Self { place, life, service: None, broken: false }
    }

    fn config(&self) -> BitcoinConfig {
        let Place { node, peers, seed, .. } = &self.place;
        let secret: [u8; 32] = Sha256::digest(format!("{seed} {node} {}", self.life)).into();
        let mut auth = Auth::new();
        auth.add_password("u", "p", [1; 16]);
        BitcoinConfig {
            params: Params::regtest(),
            chain: ChainConfig { salt: seed.wrapping_mul(31).wrapping_add(node.0), ..ChainConfig::default() },
            mempool: MempoolOptions::default(),
            p2p: p2p::Config {
                add_nodes: peers.iter().map(|peer| address(*peer).to_string()).collect(),
                ..p2p::Config::default()
            },
            white: Vec::new(),
            rpc: RpcConfig { auth, ..RpcConfig::default() },
            rpc_allow: Vec::new(),
            mock_time: None,
            from_the_future: true,
            stop_at_height: None,
            outside: None,
            zmq: Vec::new(),
            index: IndexOptions { transactions: node.0 % 2 == 1, ..IndexOptions::default() },
            notify: None,
            persist_mempool: true,
            wallet: None,
            seed: secret,
            folder: "/node".to_owned(),
        }
    }

    fn open(&mut self, now: Now) -> Result<&mut BitcoinService, ChainError> {
        if self.service.is_none() {
            let service = BitcoinService::open(&self.place.disk, self.config(), now, Box::new(NoLog))?;
            self.service = Some(Box::new(service.with_mutant(self.place.mutant)));
        }
        Ok(self.service.as_mut().expect("it was just opened"))
    }
}

impl Service for Hosted {
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        if self.broken {
            return;
        }
        match self.open(now) {
            Ok(service) => service.on(now, input, out),
            Err(error) => {
                self.broken = true;
                out.push(SessionOutput::Fatal(error.to_string()));
            }
        }
    }

    fn invariants(&self) {
        if let Some(service) = &self.service {
            service.invariants();
        }
    }
}
