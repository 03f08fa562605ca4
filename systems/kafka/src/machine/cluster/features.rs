//! Features of the cluster, finalized at levels that every node knows (KIP-584, KIP-1022).
//!
//! Clients ask for them with ApiVersions and act accordingly: transactions of the second kind are on from
//! `transaction.version` 2, the consumer protocol from `group.version` 1, share groups from `share.version` 1.
//!
//! HAZARD: [`initial`] is what every replica begins with when it replays the order from its first command. Another
//! binary that began with other levels would come to another state; new levels are reached by a command.
//!
//! Deliberately absent: levels that differ from node to node, since all nodes run what this table says; and features that
//! depend on a level of the metadata, since that never goes down.

use std::collections::{BTreeMap, BTreeSet};

use super::change::Delta;
use super::command::{FeatureUpdate, Refusal};
use super::image::ClusterImage;
use super::plan::{Plan, Planned};
use crate::wire::ErrorCode;

/// Which version of Kafka's metadata this is like.
pub const METADATA_VERSION: &str = "metadata.version";
/// Kinds of transactions (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// Kinds of groups (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// Kinds of share groups (KIP-932).
pub const SHARE_VERSION: &str = "share.version";

/// A feature that this binary knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

/// Every feature, by its name.
pub const SUPPORTED: [SupportedFeature; 4] = [
    SupportedFeature { name: GROUP_VERSION, min: 0, max: 1 },
    SupportedFeature { name: METADATA_VERSION, min: 7, max: 30 },
    SupportedFeature { name: SHARE_VERSION, min: 0, max: 1 },
    SupportedFeature { name: TRANSACTION_VERSION, min: 0, max: 2 },
];

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// The levels before the first command: the highest.
pub(super) fn initial() -> BTreeMap<String, i16> {
    SUPPORTED.iter().filter(|feature| feature.max > 0).map(|feature| (feature.name.to_owned(), feature.max)).collect()
}

fn refuse<T>(update: &FeatureUpdate, reason: &str) -> Result<T, Refusal> {
    let FeatureUpdate { name, level, .. } = update;
    let message = format!("Invalid update version {level} for feature {name}. {reason}");
    Err(Refusal::new(ErrorCode::INVALID_UPDATE_VERSION, message))
}

fn refuse_metadata<T>(level: i16, reason: &str) -> Result<T, Refusal> {
    let message = format!("Invalid metadata.version {level}. {reason}");
    Err(Refusal::new(ErrorCode::INVALID_UPDATE_VERSION, message))
}

/// May a feature be switched?
fn validate(image: &ClusterImage, update: &FeatureUpdate) -> Result<(), Refusal> {
    if !matches!(update.upgrade, UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) {
        return refuse(update, "The controller does not support the given upgrade type.");
    }
    let (before, level) = (image.feature(&update.name), update.level);
    if level < 0 {
        return refuse(update, "A feature version cannot be less than 0.");
    }
    let Some(feature) = SUPPORTED.iter().find(|feature| feature.name == update.name) else {
        return refuse(update, "The cluster does not support this feature.");
    };
    if !(feature.min..=feature.max).contains(&level) {
        let (min, max) = (feature.min, feature.max);
        return refuse(update, &format!("The cluster only supports versions {min}-{max}"));
    }
    if level < before && update.upgrade == UPGRADE {
        let reason = "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                      unsafe downgrade.";
        return refuse(update, reason);
    }
    if level > before && update.upgrade != UPGRADE {
        return refuse(update, "Can't downgrade to a newer version.");
    }
    // Levels of metadata differ in what they hold, so what a lower one lacks would be lost.
    if feature.name == METADATA_VERSION && level < before {
        let reason = if update.upgrade == UNSAFE_DOWNGRADE {
            "Unsafe metadata downgrade is not supported in this version."
        } else {
            "Refusing to perform the requested downgrade because it might delete metadata information."
        };
        return refuse_metadata(level, reason);
    }
    Ok(())
}

pub(super) fn update(image: &ClusterImage, updates: &[FeatureUpdate]) -> Planned {
    if updates.is_empty() {
        let message = "Can not provide empty FeatureUpdates in the request.";
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    let mut seen = BTreeSet::new();
    for update in updates {
        if !seen.insert(&update.name) {
            let message = format!("The feature {} appears more than once.", update.name);
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        }
    }
    let mut plan = Plan::default();
    for update in updates {
        validate(image, update)?;
        if image.feature(&update.name) != update.level {
            plan.deltas.push(Delta::Feature { name: update.name.clone(), level: update.level });
        }
    }
    Ok(plan)
}
