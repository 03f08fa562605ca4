//! Headers of a chain whose work is not known to be enough (Core's headerssync).
//!
//! - first pass (`Presync`): headers are looked at and forgotten, but for one bit in each 600 or so; their work is summed up;
//! - upon enough work: the same headers are asked for again from the start;
//! - second pass (`Redownload`): each bit must be the same; headers are held back until some fifteen thousand follow, so that a
//!   peer that gives other headers the second time is found out before any of them is kept.
//!
//! Thus no peer can fill memory with headers that cost it little. The bits' salt and place are the node's secret.

use std::collections::VecDeque;

use bitcoin::block::Header;
use bitcoin::hashes::{Hash, HashEngine, siphash24};
use bitcoin::pow::Work;
use bitcoin::{BlockHash, CompactTarget, Network};
use verity_nakamoto::{BlockId, FUTURE_SECONDS_MAX, PowParams, Tree, permitted_transition};

use crate::params::Params;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Presync,
    Redownload,
    Over,
}

/// What came of a batch of headers.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The peer did as it should; if not, it is asked no more.
    pub(super) good: bool,
    /// More are to be asked for.
    pub(super) more: bool,
    /// These may be kept: their chain has the work.
    pub(super) ready: Vec<Header>,
}

/// One peer's.
#[derive(Debug)]
pub(super) struct Presync {
    pass: Pass,
    pow: PowParams,
    start: BlockId,
    start_height: u32,
    start_hash: BlockHash,
    start_bits: CompactTarget,
    start_work: Work,
    work_needed: Work,
    period: u32,
    offset: u32,
    buffer_max: usize,
    salt: (u64, u64),
    bits: VecDeque<bool>,
    bits_max: u64,
    work: Work,
    height: u32,
    last_hash: BlockHash,
    last_bits: CompactTarget,
    last_time: u32,
    buffer: VecDeque<Header>,
    release: bool,
}

/// How many headers to a bit, and how many are held back.
fn shape(network: Network) -> (u32, usize) {
    match network {
        Network::Bitcoin => (641, 15_218),
        Network::Testnet => (673, 14_460),
        Network::Testnet4 => (606, 16_092),
        Network::Signet => (620, 15_724),
        _ => (275, 7_017),
    }
}

impl Presync {
    /// From a header that is known; `offset` is random.
    pub(super) fn new(
        params: &Params,
        tree: &Tree,
        start: BlockId,
        needed: Work,
        now: u64,
        random: (u64, u64, u32),
    ) -> Self {
        let (period, buffer_max) = shape(params.network);
        let entry = tree.entry(start);
        let seconds = now.saturating_sub(u64::from(tree.median_time_past(start))) + u64::from(FUTURE_SECONDS_MAX);
        Self {
            pass: Pass::Presync,
            pow: params.headers.pow,
            start,
            start_height: entry.height,
            start_hash: entry.hash,
            start_bits: entry.header.bits,
            start_work: entry.work,
            work_needed: needed,
            period,
            offset: random.2 % period,
            buffer_max,
            salt: (random.0, random.1),
            bits: VecDeque::new(),
            // By the rule for times, no chain has more than six blocks a second.
            bits_max: 6 * seconds / u64::from(period),
            work: entry.work,
            height: entry.height,
            last_hash: entry.hash,
            last_bits: entry.header.bits,
            last_time: entry.header.time,
            buffer: VecDeque::new(),
            release: false,
        }
    }

    /// The height and the time that the first pass is at.
    pub(super) fn at(&self) -> Option<(u32, u32)> {
        (self.pass == Pass::Presync).then_some((self.height, self.last_time))
    }

    /// True once nothing is to be expected of it.
    pub(super) fn is_over(&self) -> bool {
        self.pass == Pass::Over
    }

    /// Where to go on, before what is known anyway.
    pub(super) fn next(&self) -> (BlockHash, BlockId) {
        (self.last_hash, self.start)
    }

    /// Upon headers that follow each other and have their work; `full` if there were as many as a message has.
    pub(super) fn on_headers(&mut self, headers: &[Header], full: bool) -> Progress {
        let mut progress = Progress::default();
        match self.pass {
            Pass::Presync => {
                progress.good = self.first_pass(headers);
                progress.more = progress.good && (full || self.pass == Pass::Redownload);
            }
            Pass::Redownload => {
                progress.good = headers.iter().all(|header| self.second_pass(header));
                if progress.good {
                    progress.ready = self.take_ready();
                    progress.more = full && !(self.buffer.is_empty() && self.release);
                }
            }
            Pass::Over => {}
        }
        if !progress.more {
            self.pass = Pass::Over;
            (self.bits, self.buffer) = (VecDeque::new(), VecDeque::new());
        }
        progress
    }

    fn bit(&self, hash: &BlockHash) -> bool {
        let mut engine = siphash24::HashEngine::with_keys(self.salt.0, self.salt.1);
        engine.input(hash.as_byte_array());
        siphash24::Hash::from_engine(engine).as_u64() & 1 == 1
    }

    fn advance(&mut self, header: &Header, hash: BlockHash) {
        self.work = self.work + header.work();
        self.height += 1;
        (self.last_hash, self.last_bits, self.last_time) = (hash, header.bits, header.time);
    }

    fn first_pass(&mut self, headers: &[Header]) -> bool {
        for header in headers {
            let (height, hash) = (self.height + 1, header.block_hash());
            let follows = header.prev_blockhash == self.last_hash;
            if !follows || !permitted_transition(&self.pow, height, self.last_bits, header.bits) {
                return false;
            }
            if height % self.period == self.offset {
                self.bits.push_back(self.bit(&hash));
                if self.bits.len() as u64 > self.bits_max {
                    return false;
                }
            }
            self.advance(header, hash);
        }
        if self.work >= self.work_needed {
            self.pass = Pass::Redownload;
            (self.height, self.work) = (self.start_height, self.start_work);
            (self.last_hash, self.last_bits) = (self.start_hash, self.start_bits);
        }
        true
    }

    fn second_pass(&mut self, header: &Header) -> bool {
        let (height, hash) = (self.height + 1, header.block_hash());
        let follows = header.prev_blockhash == self.last_hash;
        if !follows || !permitted_transition(&self.pow, height, self.last_bits, header.bits) {
            return false;
        }
        self.advance(header, hash);
        self.release |= self.work >= self.work_needed;
        if !self.release && height % self.period == self.offset && self.bits.pop_front() != Some(self.bit(&hash)) {
            return false;
        }
        self.buffer.push_back(*header);
        true
    }

    fn take_ready(&mut self) -> Vec<Header> {
        let count = if self.release { self.buffer.len() } else { self.buffer.len().saturating_sub(self.buffer_max) };
        self.buffer.drain(..count).collect()
    }
}
