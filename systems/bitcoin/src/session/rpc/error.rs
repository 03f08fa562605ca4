//! What a call may fail with: a number that programs read, and words that people and tests do.

use crate::chain::ChainError;

/// The numbers. They are interface: each stands for the same in every node and client.
pub(crate) mod code {
    pub(crate) const INVALID_REQUEST: i32 = -32_600;
    pub(crate) const METHOD_NOT_FOUND: i32 = -32_601;
    pub(crate) const INVALID_PARAMS: i32 = -32_602;
    pub(crate) const INTERNAL_ERROR: i32 = -32_603;
    pub(crate) const PARSE_ERROR: i32 = -32_700;
    pub(crate) const MISC_ERROR: i32 = -1;
    pub(crate) const TYPE_ERROR: i32 = -3;
    pub(crate) const INVALID_ADDRESS_OR_KEY: i32 = -5;
    pub(crate) const INVALID_PARAMETER: i32 = -8;
    pub(crate) const CLIENT_NOT_CONNECTED: i32 = -9;
    pub(crate) const CLIENT_IN_INITIAL_DOWNLOAD: i32 = -10;
    pub(crate) const DATABASE_ERROR: i32 = -20;
    pub(crate) const DESERIALIZATION_ERROR: i32 = -22;
    pub(crate) const NODE_ALREADY_ADDED: i32 = -23;
    pub(crate) const NODE_NOT_ADDED: i32 = -24;
    pub(crate) const VERIFY_ERROR: i32 = -25;
    pub(crate) const VERIFY_REJECTED: i32 = -26;
    pub(crate) const VERIFY_ALREADY_IN_UTXO_SET: i32 = -27;
    pub(crate) const IN_WARMUP: i32 = -28;
    pub(crate) const NODE_NOT_CONNECTED: i32 = -29;
    pub(crate) const INVALID_IP_OR_SUBNET: i32 = -30;
    pub(crate) const NODE_CAPACITY_REACHED: i32 = -34;
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The number.
    pub code: i32,
    /// The words.
    pub message: String,
    /// The node cannot go on.
    pub(crate) fatal: bool,
}

impl RpcError {
    /// With this number and these words.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fatal: false }
    }

    pub(crate) fn misc(message: impl Into<String>) -> Self {
        Self::new(code::MISC_ERROR, message)
    }

    pub(crate) fn kind(message: impl Into<String>) -> Self {
        Self::new(code::TYPE_ERROR, message)
    }

    pub(crate) fn key(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_ADDRESS_OR_KEY, message)
    }

    pub(crate) fn param(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMETER, message)
    }

    pub(crate) fn decode(message: impl Into<String>) -> Self {
        Self::new(code::DESERIALIZATION_ERROR, message)
    }
}

impl From<ChainError> for RpcError {
    fn from(error: ChainError) -> Self {
        Self { code: code::DATABASE_ERROR, message: error.to_string(), fatal: true }
    }
}
