//! What one network is: its first block, its bytes, its rules and since when they hold.
//!
//! Deliberately absent: who is known there. Peers are found by whoever runs the node.

use std::collections::BTreeMap;
use std::str::FromStr;

use bitcoin::block::Block;
use bitcoin::consensus::encode::serialize;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::pow::{CompactTarget, Target, Work};
use bitcoin::{BlockHash, Network, ScriptBuf};
use verity_nakamoto::{HeaderRules, PowParams};

use crate::script::Flags;

const DAY: u32 = 24 * 60 * 60;
/// Whose signatures the public signet asks for: one of two keys.
const SIGNET_CHALLENGE: &str = "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be430210359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae";

/// A network's parameters.
#[derive(Clone, Debug)]
pub struct Params {
    /// Which network. Addresses and keys look like this one's.
    pub network: Network,
    /// The first bytes of each message.
    pub magic: [u8; 4],
    /// Where peers are met.
    pub p2p_port: u16,
    /// Where clients are.
    pub rpc_port: u16,
    /// The first block.
    pub genesis: Block,
    /// What a header must be.
    pub headers: HeaderRules,
    /// The block at BIP 34's height: on a chain that has it, coinbases differ for good.
    pub bip34_hash: Option<BlockHash>,
    /// From here on BIP 68, 112 and 113 hold.
    pub csv_height: u32,
    /// From here on BIP 141, 143 and 147 hold.
    pub segwit_height: u32,
    /// Blocks whose scripts are judged by other rules than all others.
    pub script_exceptions: BTreeMap<BlockHash, Flags>,
    /// No chain with less work is worth looking at.
    pub minimum_chain_work: Work,
    /// Scripts of this block and those below it are taken to be good.
    pub assume_valid: Option<BlockHash>,
    /// Blocks between halvings of the subsidy.
    pub halving_interval: u32,
    /// Whom a block must be signed by (BIP 325).
    pub signet_challenge: Option<ScriptBuf>,
    /// Standard transactions alone are relayed.
    pub require_standard: bool,
    /// Blocks are made on request.
    pub mine_on_demand: bool,
    /// Of a chain of headers that may be worth nothing, one bit is kept for so many.
    pub headers_commitment_period: u32,
    /// So many headers wait for their commitments to be met.
    pub headers_buffer: u32,
}

fn hash(text: &str) -> BlockHash {
    BlockHash::from_str(text).expect("a constant")
}

fn bytes32(text: &str) -> [u8; 32] {
    // Hashes are written backwards, as numbers are.
    let mut bytes = hash(text).to_byte_array();
    bytes.reverse();
    bytes
}

fn pow(limit: &str, timespan: u32) -> PowParams {
    PowParams {
        limit: Target::from_be_bytes(bytes32(limit)),
        spacing: 600,
        timespan,
        allow_min_difficulty: false,
        enforce_bip94: false,
        no_retargeting: false,
    }
}

const MAIN_LIMIT: &str = "00000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

impl Params {
    /// Heights of which snapshots of all coins are known by the network's node, ascending (`dumptxoutset`).
    #[must_use]
    pub fn snapshot_heights(&self) -> &'static [u32] {
        match self.network {
            Network::Bitcoin => &[840_000, 880_000, 910_000, 935_000],
            Network::Testnet => &[2_500_000, 4_840_000],
            Network::Testnet4 => &[90_000, 120_000],
            Network::Signet => &[160_000, 290_000],
            _ => &[110, 200, 299],
        }
    }

    /// Names behind which nodes of the network are, by Core's list. A network of one's own has none.
    #[must_use]
    pub fn dns_seeds(&self) -> &'static [&'static str] {
        match self.network {
            Network::Bitcoin => &[
                "seed.bitcoin.sipa.be",
                "dnsseed.bluematt.me",
                "seed.bitcoin.jonasschnelli.ch",
                "seed.btc.petertodd.net",
                "seed.bitcoin.sprovoost.nl",
                "dnsseed.emzy.de",
                "seed.bitcoin.wiz.biz",
                "seed.mainnet.achownodes.xyz",
            ],
            Network::Testnet => &[
                "testnet-seed.bitcoin.jonasschnelli.ch",
                "seed.tbtc.petertodd.net",
                "seed.testnet.bitcoin.sprovoost.nl",
                "testnet-seed.bluematt.me",
                "seed.testnet.achownodes.xyz",
            ],
            Network::Testnet4 => &["seed.testnet4.bitcoin.sprovoost.nl", "seed.testnet4.wiz.biz"],
            Network::Signet => &["seed.signet.bitcoin.sprovoost.nl", "seed.signet.achownodes.xyz"],
            _ => &[],
        }
    }

    /// As Core calls the network: `main`, `test`, `testnet4`, `signet`, `regtest`.
    #[must_use]
    pub fn chain_name(&self) -> &'static str {
        match self.network {
            Network::Bitcoin => "main",
            Network::Testnet => "test",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            _ => "regtest",
        }
    }

    /// What bech32 addresses begin with.
    #[must_use]
    pub fn bech32_prefix(&self) -> &'static str {
        match self.network {
            Network::Bitcoin => "bc",
            Network::Regtest => "bcrt",
            _ => "tb",
        }
    }

    /// The network of this name, as [`Params::chain_name`] has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "main" => Self::main(),
            "test" => Self::testnet(),
            "testnet4" => Self::testnet4(),
            "signet" => Self::signet(None),
            "regtest" => Self::regtest(),
            _ => return None,
        })
    }

    /// What all public networks share.
    fn public(network: Network, magic: [u8; 4], ports: (u16, u16), pow: PowParams, work: &str, valid: &str) -> Self {
        Self {
            network,
            magic,
            p2p_port: ports.0,
            rpc_port: ports.1,
            genesis: genesis_block(network),
            headers: HeaderRules { pow, bip34_height: 1, bip66_height: 1, bip65_height: 1 },
            bip34_hash: None,
            csv_height: 1,
            segwit_height: 1,
            script_exceptions: BTreeMap::new(),
            minimum_chain_work: Work::from_be_bytes(bytes32(work)),
            assume_valid: (!valid.is_empty()).then(|| hash(valid)),
            halving_interval: 210_000,
            signet_challenge: None,
            require_standard: true,
            mine_on_demand: false,
            headers_commitment_period: 641,
            headers_buffer: 15_218,
        }
    }

    /// The network whose coins are worth something.
    #[must_use]
    pub fn main() -> Self {
        let mut params = Self::public(
            Network::Bitcoin,
            [0xf9, 0xbe, 0xb4, 0xd9],
            (8_333, 8_332),
            pow(MAIN_LIMIT, 14 * DAY),
            "0000000000000000000000000000000000000001128750f82f4c366153a3a030",
            "00000000000000000000ccebd6d74d9194d8dcdc1d177c478e094bfad51ba5ac",
        );
        let headers = &mut params.headers;
        (headers.bip34_height, headers.bip65_height, headers.bip66_height) = (227_931, 388_381, 363_725);
        params.bip34_hash = Some(hash("000000000000024b89b42a942fe0d9fea3bb44ab7bd1b19115dd6a759c0808b8"));
        (params.csv_height, params.segwit_height) = (419_328, 481_824);
        params.script_exceptions = BTreeMap::from([
            (hash("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22"), Flags::NONE),
            (hash("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad"), Flags::P2SH | Flags::WITNESS),
        ]);
        params
    }

    /// The third test network.
    #[must_use]
    pub fn testnet() -> Self {
        let mut params = Self::public(
            Network::Testnet,
            [0x0b, 0x11, 0x09, 0x07],
            (18_333, 18_332),
            PowParams { allow_min_difficulty: true, ..pow(MAIN_LIMIT, 14 * DAY) },
            "0000000000000000000000000000000000000000000017dde1c649f3708d14b6",
            "000000007a61e4230b28ac5cb6b5e5a0130de37ac1faf2f8987d2fa6505b67f4",
        );
        let headers = &mut params.headers;
        (headers.bip34_height, headers.bip65_height, headers.bip66_height) = (21_111, 581_885, 330_776);
        params.bip34_hash = Some(hash("0000000023b3a96d3484e5abb3755c413e7d41500f8e2a5c3f0dd01299cd8ef8"));
        (params.csv_height, params.segwit_height) = (770_112, 834_624);
        let exception = hash("00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105");
        params.script_exceptions = BTreeMap::from([(exception, Flags::NONE)]);
        (params.headers_commitment_period, params.headers_buffer) = (673, 14_460);
        params
    }

    /// The fourth test network (BIP 94).
    #[must_use]
    pub fn testnet4() -> Self {
        let mut params = Self::public(
            Network::Testnet4,
            [0x1c, 0x16, 0x3f, 0x28],
            (48_333, 48_332),
            PowParams { allow_min_difficulty: true, enforce_bip94: true, ..pow(MAIN_LIMIT, 14 * DAY) },
            "0000000000000000000000000000000000000000000009a0fe15d0177d086304",
            "0000000002368b1e4ee27e2e85676ae6f9f9e69579b29093e9a82c170bf7cf8a",
        );
        (params.headers_commitment_period, params.headers_buffer) = (606, 16_092);
        params
    }

    /// A network whose blocks are signed (BIP 325): the public one, or that of a challenge of one's own.
    #[must_use]
    pub fn signet(challenge: Option<ScriptBuf>) -> Self {
        let limit = "00000377ae000000000000000000000000000000000000000000000000000000";
        let none = "0000000000000000000000000000000000000000000000000000000000000000";
        let (work, valid) = match challenge {
            None => (
                "00000000000000000000000000000000000000000000000000000b463ea0a4b8",
                "00000008414aab61092ef93f1aacc54cf9e9f16af29ddad493b908a01ff5c329",
            ),
            Some(_) => (none, ""),
        };
        let challenge = challenge.unwrap_or_else(|| ScriptBuf::from_hex(SIGNET_CHALLENGE).expect("a constant"));
        let id = sha256d::Hash::hash(&serialize(&challenge)).to_byte_array();
        let magic = [id[0], id[1], id[2], id[3]];
        let mut params = Self::public(Network::Signet, magic, (38_333, 38_332), pow(limit, 14 * DAY), work, valid);
        params.signet_challenge = Some(challenge);
        (params.headers_commitment_period, params.headers_buffer) = (620, 15_724);
        params
    }

    /// A network of one's own: blocks cost nothing, and all rules hold from the first.
    #[must_use]
    pub fn regtest() -> Self {
        let limit = Target::from_compact(CompactTarget::from_consensus(0x207f_ffff));
        let limit = limit.to_be_bytes();
        // All ones below the highest bit: the bits of a block are those of a rounded limit.
        let mut ones = [0xff; 32];
        ones[0] = limit[0];
        let mut params = Self::public(
            Network::Regtest,
            [0xfa, 0xbf, 0xb5, 0xda],
            (18_444, 18_443),
            PowParams {
                limit: Target::from_be_bytes(ones),
                allow_min_difficulty: true,
                no_retargeting: true,
                ..pow(MAIN_LIMIT, DAY)
            },
            "0000000000000000000000000000000000000000000000000000000000000000",
            "",
        );
        (params.segwit_height, params.halving_interval, params.mine_on_demand) = (0, 150, true);
        (params.headers_commitment_period, params.headers_buffer) = (275, 7_017);
        params
    }

    /// What a block at this height may make out of nothing, in satoshi.
    #[must_use]
    pub fn subsidy(&self, height: u32) -> u64 {
        let halvings = height / self.halving_interval;
        if halvings >= 64 { 0 } else { (50 * 100_000_000) >> halvings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_begin_with_their_first_blocks() {
        let hashes = [
            ("main", "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            ("test", "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
            ("testnet4", "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
            ("signet", "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
            ("regtest", "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        ];
        for (name, expected) in hashes {
            let params = Params::named(name).expect("it is known");
            let header = params.genesis.header;
            assert_eq!(header.block_hash(), hash(expected), "{name}");
            assert_eq!(params.chain_name(), name);
            assert!(verity_nakamoto::has_work(header.block_hash(), header.bits, params.headers.pow.limit), "{name}");
        }
        assert_eq!(Params::signet(None).magic, [0x0a, 0x03, 0xcf, 0x40]);
        assert_eq!(Params::regtest().headers.pow.limit.to_compact_lossy().to_consensus(), 0x207f_ffff);
    }

    #[test]
    fn the_subsidy_halves() {
        let main = Params::main();
        assert_eq!(main.subsidy(0), 5_000_000_000);
        assert_eq!(main.subsidy(209_999), 5_000_000_000);
        assert_eq!(main.subsidy(210_000), 2_500_000_000);
        assert_eq!(main.subsidy(64 * 210_000), 0);
        let all: u64 = (0..34).map(|halving| 210_000 * main.subsidy(halving * 210_000)).sum();
        assert_eq!(all, 2_099_999_997_690_000, "no more than that will ever be");
    }
}
