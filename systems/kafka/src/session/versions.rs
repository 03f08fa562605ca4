//! What a node speaks, and which features are on.
//!
//! Versions are advertised as Kafka 4.3 does.

use super::call::Call;
use super::node::Node;
use crate::machine::cluster::SUPPORTED;
use crate::wire::message::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::wire::{ApiKey, ErrorCode};

/// From this version on, features whose lowest level is 0 may be named (KIP-1022): older clients fail on them.
const NAMES_ZERO_LEVELS: i16 = 4;
/// From this version on, clients name their software, in these characters.
const NAMES_SOFTWARE: i16 = 3;

fn is_software(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    ends(text.as_bytes().first()) && ends(text.as_bytes().last()) && text.bytes().all(legal)
}

pub(super) fn api_versions(node: &Node, call: &Call, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let named = is_software(&request.client_software_name) && is_software(&request.client_software_version);
    if call.version >= NAMES_SOFTWARE && !named {
        return ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST.0, ..Default::default() };
    }
    let mut state = node.state();
    if let Some(connection) = state.connections.get_mut(&call.conn) {
        connection.software = (request.client_software_name.clone(), request.client_software_version.clone());
    }
    let supported = SUPPORTED.iter().filter(|feature| call.version >= NAMES_ZERO_LEVELS || feature.min > 0);
    ApiVersionsResponse {
        error_code: super::NO_ERROR,
        api_keys: ApiKey::ALL.iter().map(|key| key.api_version()).collect::<Vec<ApiVersion>>(),
        throttle_time_ms: 0,
        supported_features: supported
            .map(|feature| SupportedFeatureKey {
                name: feature.name.to_owned(),
                min_version: feature.min,
                max_version: feature.max,
            })
            .collect(),
        finalized_features_epoch: i64::try_from(state.image.version()).unwrap_or(i64::MAX),
        finalized_features: state
            .image
            .features()
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.clone(),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        zk_migration_ready: false,
    }
}
