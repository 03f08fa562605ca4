//! One node's truth: its chain and what waits for it, and what became of both.
//!
//! Peers and clients both come in here, so that whatever they bring goes the same way:
//!
//! - upon a block: the chain takes it, the mempool follows block by block, and what a reorganisation took out of the chain
//!   comes back to the mempool once the chain rests;
//! - upon a transaction: the mempool takes it or says why not;
//! - what became of either is kept in order, for whoever tells others ([`Node::take_events`]).

use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::block::{Block, Header};
use verity_nakamoto::BlockId;

use crate::chain::{BlockReject, Chain, ChainError, ChainEvent};
use crate::mempool::{AcceptOptions, Accepted, Mempool, MempoolEvent, TxReject};
use crate::mutant::Mutant;

/// An operator who takes more blocks than this out of the chain does not want their transactions back.
const INVALIDATED_BLOCKS_MAX: usize = 10;

/// What others of the node hear: peers are told, subscribers are, wallets look through it.
#[derive(Clone, Debug)]
pub enum Event {
    /// Of the chain.
    Chain(ChainEvent),
    /// Of the mempool.
    Mempool(MempoolEvent),
    /// The chain came to rest at another tip than before.
    Tip {
        /// Where it was.
        from: BlockId,
        /// Where it is.
        to: BlockId,
    },
}

/// The chain and the mempool.
#[derive(Debug)]
pub struct Node {
    chain: Chain,
    mempool: Mempool,
    events: Vec<Event>,
    mock_time: Option<u64>,
    wall: u64,
}

impl Node {
    /// A chain at its best tip and an empty mempool; `wall` in seconds since 1970.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(mut chain: Chain, mempool: Mempool, wall: u64) -> Result<Self, ChainError> {
        chain.activate(&mut Vec::new())?;
        Ok(Self { chain, mempool, events: Vec::new(), mock_time: None, wall })
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The chain, for what has no effect on the mempool.
    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// The mempool.
    #[must_use]
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// The mempool, for what the chain has no part in.
    pub fn mempool_mut(&mut self) -> (&mut Mempool, &Chain) {
        (&mut self.mempool, &self.chain)
    }

    /// Seconds since 1970: the clock's, or what an operator says (`setmocktime`).
    #[must_use]
    pub fn time(&self) -> u64 {
        self.mock_time.unwrap_or(self.wall)
    }

    /// The same, as headers bear it.
    fn header_time(&self) -> u32 {
        u32::try_from(self.time()).unwrap_or(u32::MAX)
    }

    /// Upon the host's clock; before each input.
    pub fn set_wall(&mut self, seconds: u64) {
        self.wall = seconds;
    }

    /// True while the clock is an operator's.
    #[must_use]
    pub fn is_mocked(&self) -> bool {
        self.mock_time.is_some()
    }

    /// `setmocktime`; `None` for the host's clock.
    pub fn set_mock_time(&mut self, seconds: Option<u64>) {
        self.mock_time = seconds;
    }

    /// Upon a header.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn on_header(&mut self, header: &Header) -> Result<BlockId, BlockReject> {
        let now = self.header_time();
        self.chain.accept_header(header, now)
    }

    /// Does something to the chain, and takes the mempool along.
    fn with_chain<R>(
        &mut self,
        deed: impl FnOnce(&mut Chain, &mut Vec<ChainEvent>) -> Result<R, ChainError>,
    ) -> Result<R, ChainError> {
        self.with_chain_down_to(usize::MAX, deed)
    }

    /// The same; what more than so many blocks had does not come back to the mempool.
    fn with_chain_down_to<R>(
        &mut self,
        blocks_max: usize,
        deed: impl FnOnce(&mut Chain, &mut Vec<ChainEvent>) -> Result<R, ChainError>,
    ) -> Result<R, ChainError> {
        let (from, mut events) = (self.chain.tip(), Vec::new());
        let result = deed(&mut self.chain, &mut events)?;
        self.follow(from, events, blocks_max)?;
        Ok(result)
    }

    fn follow(&mut self, from: BlockId, events: Vec<ChainEvent>, blocks_max: usize) -> Result<(), ChainError> {
        let (now, mut back, mut of_mempool) = (self.time(), Vec::new(), Vec::new());
        let (mut held, mut reverted) = (Vec::new(), false);
        for event in events {
            match &event {
                ChainEvent::Connected { id, block, .. } => {
                    let height = self.chain.entry(*id).height;
                    self.mempool.on_connected(block, height, now, &mut of_mempool);
                }
                ChainEvent::Disconnected { block, .. } => {
                    self.events.append(&mut held);
                    reverted = true;
                    if back.len() < blocks_max {
                        back.push(Arc::clone(block));
                    }
                }
                ChainEvent::Invalid { .. } => {}
            }
            // What a block drives out is told before the block, and what comes back before the blocks of another branch.
            self.events.extend(of_mempool.drain(..).map(Event::Mempool));
            match event {
                ChainEvent::Connected { .. } if reverted => held.push(Event::Chain(event)),
                event => self.events.push(Event::Chain(event)),
            }
        }
        if self.chain.mutant() == Mutant::RevertedPaymentsForgotten {
            back.clear();
        }
        if reverted {
            self.mempool.on_reorganised(&self.chain, &back, now, &mut of_mempool)?;
            self.events.extend(of_mempool.into_iter().map(Event::Mempool));
        }
        self.events.extend(held);
        let to = self.chain.tip();
        if from != to {
            self.events.push(Event::Tip { from, to });
        }
        Ok(())
    }

    /// Upon a block. The inner error refuses it at once; what was said of it when it was judged is among the events.
    ///
    /// # Errors
    /// The disk's.
    pub fn on_block(&mut self, block: &Arc<Block>, requested: bool) -> Result<Result<bool, BlockReject>, ChainError> {
        let now = self.header_time();
        self.with_chain(|chain, events| chain.accept_block(block, now, requested, events))
    }

    /// Upon a transaction.
    ///
    /// # Errors
    /// The disk's. The inner error is why it is refused.
    pub fn on_transaction(
        &mut self,
        tx: Arc<Transaction>,
        options: AcceptOptions,
    ) -> Result<Result<Accepted, TxReject>, ChainError> {
        let (now, mut events) = (self.time(), Vec::new());
        let result = self.mempool.accept(&self.chain, tx, now, options, &mut events)?;
        self.events.extend(events.into_iter().map(Event::Mempool));
        Ok(result)
    }

    /// Does something to the mempool that has events.
    ///
    /// # Errors
    /// The disk's.
    pub fn with_mempool<R>(
        &mut self,
        deed: impl FnOnce(&mut Mempool, &Chain, u64, &mut Vec<MempoolEvent>) -> Result<R, ChainError>,
    ) -> Result<R, ChainError> {
        let (now, mut events) = (self.time(), Vec::new());
        let result = deed(&mut self.mempool, &self.chain, now, &mut events)?;
        self.events.extend(events.into_iter().map(Event::Mempool));
        Ok(result)
    }

    /// `invalidateblock`.
    ///
    /// # Errors
    /// The disk's.
    pub fn invalidate(&mut self, id: BlockId) -> Result<(), ChainError> {
        self.with_chain_down_to(INVALIDATED_BLOCKS_MAX, |chain, events| chain.invalidate(id, events))
    }

    /// `reconsiderblock`.
    ///
    /// # Errors
    /// The disk's.
    pub fn reconsider(&mut self, id: BlockId) -> Result<(), ChainError> {
        self.with_chain(|chain, events| chain.reconsider(id, events))
    }

    /// `preciousblock`.
    ///
    /// # Errors
    /// The disk's.
    pub fn precious(&mut self, id: BlockId) -> Result<(), ChainError> {
        self.with_chain(|chain, events| chain.precious(id, events))
    }

    /// What became of all since it was last taken.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The same, for good.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
