//! What a chain begins with: its name, its first moment, who signs, and its limits (CometBFT `types/genesis.go`).

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::json::{Hex, Int, Uint, from_base64};
use super::merkle::{Hash, sha256};
use super::proto::Writer;
use super::time::Time;
use super::validator::{PublicKey, Validators};

/// `MaxChainIDLen`.
const CHAIN_ID_SIZE_MAX: usize = 50;
/// `DefaultBlockParams`.
const BLOCK_BYTES_MAX: i64 = 22_020_096;
/// `MaxOverheadForBlock`, `MaxHeaderBytes` and `MaxCommitOverheadBytes`.
const BLOCK_OVERHEAD: usize = 11 + 626 + 94;
/// `MaxCommitSigBytes`, with the tag and size of a list's item.
const COMMIT_SIG_SIZE: usize = 109 + 2;

/// A genesis that no chain can begin with.
#[derive(Debug, Error)]
pub enum GenesisError {
    /// It is no JSON of that shape.
    #[error("the genesis cannot be read: {0}")]
    Invalid(String),
}

fn invalid<T>(what: impl Into<String>) -> Result<T, GenesisError> {
    Err(GenesisError::Invalid(what.into()))
}

/// One who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisValidator {
    /// Its key.
    pub key: PublicKey,
    /// For people.
    pub name: String,
}

/// What a chain begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The chain's name.
    pub chain_id: String,
    /// The time of its first block.
    pub time: Time,
    /// Who signs, each with a power of 1.
    pub validators: Vec<GenesisValidator>,
    /// What an application in another process begins with, as JSON; empty for nothing.
    pub app_state: String,
}

impl Genesis {
    /// Refuses what no chain can begin with.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.chain_id.is_empty() || self.chain_id.len() > CHAIN_ID_SIZE_MAX {
            return invalid(format!("chain_id has 1 to {CHAIN_ID_SIZE_MAX} bytes"));
        }
        let count = self.validators.len();
        if count == 0 || count > Validators::COUNT_MAX {
            return invalid(format!("there are 1 to {} validators, not {count}", Validators::COUNT_MAX));
        }
        if self.set().count() != count {
            return invalid("two validators have one key");
        }
        if let Some(weak) = self.validators.iter().find(|validator| validator.key.verification().is_none()) {
            return invalid(format!("the key of {:?} is no ed25519 key", weak.name));
        }
        Ok(())
    }

    /// Those who sign.
    #[must_use]
    pub fn set(&self) -> Validators {
        Validators::new(self.validators.iter().map(|validator| validator.key))
    }

    /// CometBFT's `genesis.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Doc<'a> {
            genesis_time: Time,
            chain_id: &'a str,
            initial_height: Int,
            consensus_params: ConsensusParams,
            validators: Vec<Validator<'a>>,
            app_hash: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            app_state: Option<Value>,
        }
        #[derive(Serialize)]
        struct Validator<'a> {
            address: Hex,
            pub_key: PublicKey,
            power: Int,
            name: &'a str,
        }
        let validator = |one: &'_ GenesisValidator| (Hex::from(&one.key.address()), one.key);
        let validators = self.validators.iter().map(|one| {
            let (address, pub_key) = validator(one);
            Validator { address, pub_key, power: Int(1), name: &one.name }
        });
        let doc = Doc {
            genesis_time: self.time,
            chain_id: &self.chain_id,
            initial_height: Int(1),
            consensus_params: ConsensusParams::default(),
            validators: validators.collect(),
            app_hash: "",
            app_state: serde_json::from_str(&self.app_state).ok(),
        };
        serde_json::to_string(&doc).expect("it is plain data")
    }

    /// Reads such a file. Keys that it has beside ours are CometBFT's, and have their usual values here.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        let doc: Value = serde_json::from_str(text).map_err(|error| GenesisError::Invalid(error.to_string()))?;
        let Some(chain_id) = doc["chain_id"].as_str() else { return invalid("chain_id is missing") };
        let Some(time) = doc["genesis_time"].as_str().and_then(Time::parse) else {
            return invalid("genesis_time is no moment such as 2026-01-31T00:00:00Z");
        };
        let list = doc["validators"].as_array().map_or(&[][..], Vec::as_slice);
        let mut validators = Vec::new();
        for one in list {
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            let key = one["pub_key"]["value"].as_str().and_then(from_base64).and_then(|key| key.try_into().ok());
            let Some(key) = key else { return invalid(format!("pub_key of validator {name:?} is no ed25519 key")) };
            if one["power"].as_str() != Some("1") {
                return invalid(format!("the power of validator {name:?} is not \"1\": every node has one vote"));
            }
            validators.push(GenesisValidator { key: PublicKey(key), name });
        }
        let app_state = doc.get("app_state").filter(|state| !state.is_null());
        let app_state = app_state.map_or_else(String::new, Value::to_string);
        let genesis = Self { chain_id: chain_id.to_owned(), time, validators, app_state };
        genesis.check()?;
        Ok(genesis)
    }
}

/// The limits, as the RPC shows them. They never change.
#[derive(Clone, Debug, Serialize)]
pub struct ConsensusParams {
    block: BlockParams,
    evidence: EvidenceParams,
    validator: ValidatorParams,
    version: VersionParams,
    abci: AbciParams,
}

#[derive(Clone, Debug, Serialize)]
struct BlockParams {
    max_bytes: Int,
    max_gas: Int,
}

#[derive(Clone, Debug, Serialize)]
struct EvidenceParams {
    max_age_num_blocks: Int,
    max_age_duration: Int,
    max_bytes: Int,
}

#[derive(Clone, Debug, Serialize)]
struct ValidatorParams {
    pub_key_types: [&'static str; 1],
}

#[derive(Clone, Debug, Serialize)]
struct VersionParams {
    app: Uint,
}

#[derive(Clone, Debug, Serialize)]
struct AbciParams {
    vote_extensions_enable_height: Int,
}

impl Default for ConsensusParams {
    fn default() -> Self {
        const TWO_DAYS: i64 = 48 * 3_600 * 1_000_000_000;
        Self {
            block: BlockParams { max_bytes: Int(BLOCK_BYTES_MAX), max_gas: Int(-1) },
            evidence: EvidenceParams {
                max_age_num_blocks: Int(100_000),
                max_age_duration: Int(TWO_DAYS),
                max_bytes: Int(1 << 20),
            },
            validator: ValidatorParams { pub_key_types: ["ed25519"] },
            version: VersionParams { app: Uint(0) },
            abci: AbciParams { vote_extensions_enable_height: Int(0) },
        }
    }
}

impl ConsensusParams {
    /// `tendermint.types.ConsensusParams`.
    pub fn write(&self, out: &mut Writer) {
        let span = self.evidence.max_age_duration.0 / 1_000_000_000;
        out.message(1, |out| _ = out.int(1, self.block.max_bytes.0).int(2, self.block.max_gas.0));
        out.message(2, |out| {
            out.int(1, self.evidence.max_age_num_blocks.0)
                .message(2, |out| _ = out.int(1, span))
                .int(3, self.evidence.max_bytes.0);
        });
        out.message(3, |out| {
            self.validator.pub_key_types.iter().for_each(|kind| _ = out.item(1, kind.as_bytes()));
        });
        out.message(4, |out| _ = out.uint(1, self.version.app.0));
        out.message(5, |out| _ = out.int(1, self.abci.vote_extensions_enable_height.0));
    }

    /// What headers say of them.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut out = Writer::new();
        out.int(1, self.block.max_bytes.0).int(2, self.block.max_gas.0);
        sha256(&out.out)
    }

    /// How many bytes of transactions fit into a block, each with its tag and size.
    #[must_use]
    pub fn data_bytes_max(validators: usize) -> usize {
        let block = usize::try_from(BLOCK_BYTES_MAX).expect("a positive number");
        block - BLOCK_OVERHEAD - COMMIT_SIG_SIZE * validators
    }
}
