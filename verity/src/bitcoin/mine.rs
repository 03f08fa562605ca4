//! A miner: templates from a node, real work on every processor, and blocks back to the node.
//!
//! - upon a template: each thread searches a block of its own, by its own number in the first transaction;
//! - upon a nonce that holds: the block goes to the node, and the next template is asked for;
//! - upon another tip, or a while without luck: the same;
//! - upon the number of blocks that was asked for, or Ctrl-C: the end.
//!
//! Deliberately absent: pools (Stratum). One asks a node.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use signal_hook::iterator::Signals;
use verity_bitcoin::mining::{Work, script_of_address};
use verity_sha256d::{Search, Way};

use super::rpc::{Node, RpcArgs};
use crate::cli::end_signals;

/// A thread looks up from its work after so many nonces.
const CHUNK: u64 = 1 << 20;
/// How often the tip is looked at, and the line drawn anew.
const LOOK: Duration = Duration::from_millis(500);
/// After so long a template is asked for again: what waits has changed, and so has the time.
const FRESH: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity bitcoin mine --address bcrt1q... --cookie /tmp/b/regtest/.cookie --blocks 10\n  \
    verity bitcoin mine --bench 5       how many hashes a second, and by which instructions?"
)]
pub(crate) struct Mine {
    /// Whom the rewards are paid to.
    #[arg(long, required_unless_present = "bench")]
    address: Option<String>,
    /// So many blocks and no more; without it, until Ctrl-C.
    #[arg(long, value_name = "N")]
    blocks: Option<u64>,
    /// So many threads; one for each processor without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
    /// Ask nobody and hash for so many seconds, in one thread, by each way that this processor has.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    bench: Option<u64>,
    #[command(flatten)]
    rpc: RpcArgs,
}

/// How a round ended.
enum Round {
    /// A block was found, in hex.
    Found { height: u32, block: String },
    /// The template is stale.
    Stale,
    /// Ctrl-C.
    Ended,
}

#[expect(clippy::disallowed_methods, reason = "a tool that shows how fast it is")]
fn now() -> Instant {
    Instant::now()
}

fn words(way: Way) -> &'static str {
    match way {
        Way::ShaNi => "SHA instructions, four nonces at once",
        Way::Portable => "portable code",
    }
}

impl Mine {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        if let Some(seconds) = self.bench {
            return bench(seconds, json);
        }
        let Some(address) = &self.address else { bail!("--address is missing") };
        let script = script_of_address(address).map_err(|words| anyhow!(words))?;
        let (node, mut signals) = (self.rpc.node()?, end_signals()?);
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or_else(processors, usize::from);
        let (mut found, mut extra, begin, hashes) = (0, 0, now(), AtomicU64::new(0));
        while self.blocks.is_none_or(|blocks| found < blocks) {
            let template = node.call("getblocktemplate", &json!([{ "rules": ["segwit"] }]))?;
            let mut searches = Vec::new();
            for _ in 0..threads {
                searches.push(Work::new(&template, &script, extra)?);
                extra += 1;
            }
            let line = Line { found, begin, hashes: &hashes, live: !json && std::io::stderr().is_terminal() };
            match round(&node, &template, &searches, &mut signals, &line)? {
                Round::Ended => break,
                Round::Stale => {}
                Round::Found { height, block } => {
                    let verdict = node.call("submitblock", &json!([block]))?;
                    line.clear();
                    if let Value::String(reason) = verdict {
                        // Somebody else was faster, or the node knows better.
                        eprintln!("verity: block {height} is refused: {reason}");
                        continue;
                    }
                    found += 1;
                    tell(json, height, found, begin.elapsed(), hashes.load(Ordering::Relaxed));
                }
            }
        }
        Ok(())
    }
}

/// Searches until there is a block, or the template is stale.
fn round(node: &Node, template: &Value, searches: &[Work], signals: &mut Signals, line: &Line<'_>) -> Result<Round> {
    let (done, begin) = (AtomicBool::new(false), now());
    let (sender, nonces) = channel();
    let end = std::thread::scope(|scope| {
        for (at, work) in searches.iter().enumerate() {
            let (sender, done, hashes) = (sender.clone(), &done, line.hashes);
            scope.spawn(move || {
                let search = Search::new(&work.header_bytes(), Way::best());
                let mut from = 0;
                while from < 1 << 32 && !done.load(Ordering::Relaxed) {
                    let nonce = search.find(from..from + CHUNK, &work.target);
                    let tried = nonce.map_or(CHUNK, |nonce| u64::from(nonce) - from + 1);
                    hashes.fetch_add(tried, Ordering::Relaxed);
                    if let Some(nonce) = nonce {
                        // Whoever waits may have had enough.
                        let _ = sender.send((at, nonce));
                        return;
                    }
                    from += CHUNK;
                }
            });
        }
        drop(sender);
        let end = loop {
            match nonces.recv_timeout(LOOK) {
                Ok((at, nonce)) => {
                    break Ok(Round::Found { height: searches[at].height, block: searches[at].solved(nonce) });
                }
                // All nonces are tried.
                Err(RecvTimeoutError::Disconnected) => break Ok(Round::Stale),
                Err(RecvTimeoutError::Timeout) => {}
            }
            line.draw(searches[0].height);
            if signals.pending().next().is_some() {
                break Ok(Round::Ended);
            }
            match node.call("getbestblockhash", &json!([])) {
                Ok(tip) if tip == template["previousblockhash"] && begin.elapsed() < FRESH => {}
                Ok(_) => break Ok(Round::Stale),
                Err(error) => break Err(error),
            }
        };
        done.store(true, Ordering::Relaxed);
        end
    });
    line.clear();
    end
}

/// What is shown meanwhile.
struct Line<'a> {
    found: u64,
    begin: Instant,
    hashes: &'a AtomicU64,
    live: bool,
}

impl Line<'_> {
    fn draw(&self, height: u32) {
        if self.live {
            let rate = self.hashes.load(Ordering::Relaxed) as f64 / self.begin.elapsed().as_secs_f64() / 1e6;
            eprint!("\r\x1b[K{rate:.1} MH/s, {} found, searching block {height}", self.found);
            // A line that cannot be drawn stops nobody.
            let _ = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.live {
            eprint!("\r\x1b[K");
        }
    }
}

fn tell(json: bool, height: u32, found: u64, took: Duration, hashes: u64) {
    let rate = hashes as f64 / took.as_secs_f64() / 1e6;
    if json {
        println!("{}", json!({ "height": height, "found": found, "seconds": took.as_secs_f64(), "mhs": rate }));
    } else {
        println!("block {height}, {found} found in {:.1} s, {rate:.1} MH/s", took.as_secs_f64());
    }
}

fn bench(seconds: u64, json: bool) -> Result<()> {
    for way in [Way::Portable, Way::ShaNi] {
        let search = Search::new(&[7; 80], way);
        if search.way() != way {
            continue;
        }
        let (begin, mut hashes) = (now(), 0);
        while begin.elapsed() < Duration::from_secs(seconds) {
            // Nothing is below it.
            if search.find(0..CHUNK, &[0; 32]).is_some() {
                bail!("a hash of zeros was found, which nobody has ever seen");
            }
            hashes += CHUNK;
        }
        let rate = hashes as f64 / begin.elapsed().as_secs_f64() / 1e6;
        if json {
            println!("{}", json!({ "way": format!("{way:?}"), "mhs": rate }));
        } else {
            println!("{rate:>7.1} MH/s a core   {}", words(way));
        }
    }
    Ok(())
}
