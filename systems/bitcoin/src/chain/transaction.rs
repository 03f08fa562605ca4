//! What every transaction must keep to, in a block or out of it.
//!
//! - of it alone ([`check_transaction`]): inputs and outputs, sums in range, no input twice;
//! - where it stands ([`is_final`], BIP 113): its lock time is over, or every input gave it up;
//! - with what it spends ([`SequenceLocks`], BIP 68; [`check_inputs`]): rewards are mature, and no more goes out than came in.
//!
//! Amounts travel as 64 bits with a sign; the highest bit of one that came from outside means a negative one.
//!
//! Deliberately absent: scripts, and the count of signature operations ([`sigops`](super::sigops)).

use bitcoin::{Amount, Transaction};

use super::Coin;

/// No sum of satoshi is above it.
pub const MONEY_MAX: i64 = 2_100_000_000_000_000;
/// Blocks upon a reward's until it may be spent.
pub const COINBASE_MATURITY: u32 = 100;
/// No block weighs more.
pub const BLOCK_WEIGHT_MAX: u64 = 4_000_000;
/// Lock times below it are heights, and moments from it on.
const LOCKTIME_THRESHOLD: u32 = 500_000_000;
const SEQUENCE_DISABLED: u32 = 1 << 31;
const SEQUENCE_IS_TIME: u32 = 1 << 22;
const SEQUENCE_MASK: u32 = 0xffff;
/// A relative time counts in 512 seconds.
const SEQUENCE_GRANULARITY: u32 = 9;

fn money_range(value: i64) -> bool {
    (0..=MONEY_MAX).contains(&value)
}

/// An output's amount, with the sign that it has on the wire.
fn signed(amount: Amount) -> i64 {
    amount.to_sat() as i64
}

/// Judges what a transaction says of itself.
///
/// # Errors
/// The network's word for the first rule that it breaks. All are rules of consensus.
pub fn check_transaction(tx: &Transaction) -> Result<(), &'static str> {
    if tx.input.is_empty() {
        return Err("bad-txns-vin-empty");
    }
    if tx.output.is_empty() {
        return Err("bad-txns-vout-empty");
    }
    if tx.base_size() as u64 * 4 > BLOCK_WEIGHT_MAX {
        return Err("bad-txns-oversize");
    }
    let mut total = 0;
    for output in &tx.output {
        let value = signed(output.value);
        if value < 0 {
            return Err("bad-txns-vout-negative");
        }
        if value > MONEY_MAX {
            return Err("bad-txns-vout-toolarge");
        }
        total += value;
        if !money_range(total) {
            return Err("bad-txns-txouttotal-toolarge");
        }
    }
    let mut outpoints: Vec<_> = tx.input.iter().map(|input| input.previous_output).collect();
    outpoints.sort_unstable();
    if outpoints.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("bad-txns-inputs-duplicate");
    }
    if tx.is_coinbase() {
        if !(2..=100).contains(&tx.input[0].script_sig.len()) {
            return Err("bad-cb-length");
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return Err("bad-txns-prevout-null");
    }
    Ok(())
}

/// May it be in a block of this height, by its own lock time? `time` is the median time of the blocks below (BIP 113), or the
/// block's own before that rule held.
#[must_use]
pub fn is_final(tx: &Transaction, height: u32, time: u32) -> bool {
    let lock = tx.lock_time.to_consensus_u32();
    let over = if lock < LOCKTIME_THRESHOLD { lock < height } else { lock < time };
    lock == 0 || over || tx.input.iter().all(|input| input.sequence.0 == u32::MAX)
}

/// The last height and the last median time at which a transaction's relative locks are still shut; -1 for none (BIP 68).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceLocks {
    /// The last height that is too low.
    pub height: i64,
    /// The last median time, in seconds, that is too early.
    pub time: i64,
}

impl SequenceLocks {
    /// The locks of a transaction whose inputs' coins were made at these heights, in order. `median_time` is asked for the
    /// median time past of the block at a height, in the chain that is to hold the transaction.
    pub fn of(
        tx: &Transaction,
        heights: impl IntoIterator<Item = u32>,
        mut median_time: impl FnMut(u32) -> u32,
    ) -> Self {
        let mut locks = Self { height: -1, time: -1 };
        if (tx.version.0 as u32) < 2 {
            return locks;
        }
        for (input, height) in tx.input.iter().zip(heights) {
            let sequence = input.sequence.0;
            if sequence & SEQUENCE_DISABLED != 0 {
                continue;
            }
            let span = sequence & SEQUENCE_MASK;
            if sequence & SEQUENCE_IS_TIME != 0 {
                // Counted from the earliest time that the coin's block could bear.
                let since = i64::from(median_time(height.saturating_sub(1)));
                locks.time = locks.time.max(since + i64::from(span << SEQUENCE_GRANULARITY) - 1);
            } else {
                locks.height = locks.height.max(i64::from(height) + i64::from(span) - 1);
            }
        }
        locks
    }

    /// Are they open in a block of this height, on blocks of this median time past?
    #[must_use]
    pub fn hold(self, height: u32, median_time_below: u32) -> bool {
        self.height < i64::from(height) && self.time < i64::from(median_time_below)
    }
}

/// Why a transaction may not spend what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputsReject {
    /// It is only too early: a reward is not mature.
    pub premature: bool,
    /// The network's word.
    pub reason: &'static str,
    /// More, for people.
    pub debug: String,
}

/// What a transaction pays that spends these coins, in its inputs' order, in a block of this height.
///
/// It passed [`check_transaction`], and is no coinbase.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_inputs(tx: &Transaction, coins: &[Coin], height: u32) -> Result<Amount, InputsReject> {
    assert_eq!(tx.input.len(), coins.len(), "one coin for each input");
    let reject = |reason, debug| InputsReject { premature: false, reason, debug };
    let mut value_in = 0;
    for coin in coins {
        let depth = i64::from(height) - i64::from(coin.height);
        if coin.coinbase && depth < i64::from(COINBASE_MATURITY) {
            let debug = format!("tried to spend coinbase at depth {depth}");
            return Err(InputsReject { premature: true, reason: "bad-txns-premature-spend-of-coinbase", debug });
        }
        let value = signed(coin.out.value);
        if !money_range(value) || !money_range(value_in + value) {
            return Err(reject("bad-txns-inputvalues-outofrange", String::new()));
        }
        value_in += value;
    }
    let value_out: i64 = tx.output.iter().map(|output| signed(output.value)).sum();
    if value_in < value_out {
        let debug = format!("value in ({}) < value out ({})", format_money(value_in), format_money(value_out));
        return Err(reject("bad-txns-in-belowout", debug));
    }
    Ok(Amount::from_sat((value_in - value_out) as u64))
}

/// An amount in bitcoin as the network's messages write it: two decimals at least, and no zeros behind them.
#[must_use]
pub fn format_money(satoshi: i64) -> String {
    let (sign, amount) = (if satoshi < 0 { "-" } else { "" }, satoshi.unsigned_abs());
    let decimals = format!("{:08}", amount % 100_000_000);
    let mut kept = decimals.trim_end_matches('0').len();
    kept = kept.max(2);
    format!("{sign}{}.{}", amount / 100_000_000, &decimals[..kept])
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Txid, Witness};

    use super::*;

    fn input(byte: u8, sequence: u32) -> TxIn {
        TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([byte; 32]), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Witness::new(),
        }
    }

    fn output(value: i64) -> TxOut {
        TxOut { value: Amount::from_sat(value as u64), script_pubkey: ScriptBuf::new() }
    }

    fn tx(input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
        Transaction { version: Version(2), lock_time: LockTime::ZERO, input, output }
    }

    fn coin(value: i64, height: u32, coinbase: bool) -> Coin {
        Coin { out: output(value), height, coinbase }
    }

    #[test]
    fn each_rule_has_its_word() {
        let word = |inputs, outputs| check_transaction(&tx(inputs, outputs)).err();
        let one = || vec![input(1, 0)];
        assert_eq!(word(vec![], vec![output(1)]), Some("bad-txns-vin-empty"));
        assert_eq!(word(one(), vec![]), Some("bad-txns-vout-empty"));
        assert_eq!(word(one(), vec![output(-1)]), Some("bad-txns-vout-negative"));
        assert_eq!(word(one(), vec![output(MONEY_MAX + 1)]), Some("bad-txns-vout-toolarge"));
        assert_eq!(word(one(), vec![output(MONEY_MAX), output(1)]), Some("bad-txns-txouttotal-toolarge"));
        assert_eq!(word(vec![input(1, 0), input(1, 1)], vec![output(1)]), Some("bad-txns-inputs-duplicate"));
        assert_eq!(word(one(), vec![output(MONEY_MAX), output(0)]), None);
        let null = || TxIn { previous_output: OutPoint::null(), ..input(0, 0) };
        assert_eq!(word(vec![null()], vec![output(1)]), Some("bad-cb-length"));
        assert_eq!(word(vec![null(), input(1, 0)], vec![output(1)]), Some("bad-txns-prevout-null"));
        let large = TxOut { script_pubkey: ScriptBuf::from(vec![0; 1_000_000]), ..output(1) };
        assert_eq!(word(one(), vec![large]), Some("bad-txns-oversize"));
    }

    #[test]
    fn lock_times_are_over_behind_them() {
        let mut locked = tx(vec![input(1, 0)], vec![output(1)]);
        locked.lock_time = LockTime::from_consensus(10);
        assert!(!is_final(&locked, 10, u32::MAX) && is_final(&locked, 11, 0));
        locked.lock_time = LockTime::from_consensus(500_000_000);
        assert!(!is_final(&locked, u32::MAX, 500_000_000) && is_final(&locked, 0, 500_000_001));
        locked.input[0].sequence = Sequence::MAX;
        assert!(is_final(&locked, 0, 0));
    }

    #[test]
    fn relative_locks_count_from_the_coin() {
        let mut locked = tx(vec![input(1, 3), input(2, SEQUENCE_IS_TIME | 2)], vec![output(1)]);
        let locks = SequenceLocks::of(&locked, [7, 5], |height| height * 100);
        assert_eq!(locks, SequenceLocks { height: 9, time: 400 + 1_024 - 1 });
        assert!(locks.hold(10, 1_424) && !locks.hold(9, 1_424) && !locks.hold(10, 1_423));
        locked.version = Version(1);
        assert_eq!(SequenceLocks::of(&locked, [7, 5], |_| 0), SequenceLocks { height: -1, time: -1 });
        locked.version = Version(-1);
        assert_eq!(SequenceLocks::of(&locked, [7, 5], |_| 0).height, 9);
        locked.input[0].sequence = Sequence(SEQUENCE_DISABLED | 3);
        assert_eq!(SequenceLocks::of(&locked, [7, 5], |_| 0).height, -1);
    }

    #[test]
    fn what_goes_out_came_in() {
        let spend = tx(vec![input(1, 0)], vec![output(150_000_000)]);
        assert_eq!(check_inputs(&spend, &[coin(150_000_001, 1, false)], 2), Ok(Amount::from_sat(1)));
        let below = check_inputs(&spend, &[coin(100_000_000, 1, false)], 2).expect_err("too little");
        assert_eq!((below.reason, &*below.debug), ("bad-txns-in-belowout", "value in (1.00) < value out (1.50)"));
        let early = check_inputs(&spend, &[coin(150_000_000, 1, true)], 100).expect_err("too early");
        assert!(early.premature && early.debug == "tried to spend coinbase at depth 99");
        assert_eq!(check_inputs(&spend, &[coin(150_000_000, 1, true)], 101), Ok(Amount::ZERO));
        let huge = check_inputs(&spend, &[coin(MONEY_MAX + 1, 1, false)], 2).expect_err("too much");
        assert_eq!(huge.reason, "bad-txns-inputvalues-outofrange");
    }

    #[test]
    fn money_is_written_as_the_network_writes_it() {
        for (satoshi, text) in [(0, "0.00"), (1, "0.00000001"), (-150_000_000, "-1.50"), (1_000_000, "0.01")] {
            assert_eq!(format_money(satoshi), text);
        }
    }
}
