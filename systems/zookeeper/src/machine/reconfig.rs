//! Changes of the ensemble: ZooKeeper's `reconfig` (ZOOKEEPER-107).
//!
//! - upon a reconfig that may be: what it wishes for is kept, and told to the leader's duty; the reply says what the
//!   configuration will be. Until it is settled, another one is refused;
//! - upon the group having the wished members: the wish is the configuration, and everybody is told;
//! - upon [`super::command::internal::END_RECONFIG`]: it could not be done; everybody is told why.
//!
//! The wish is replicated, so that the next leader goes on with it.

use bytes::Bytes;
use verity_contract::Effects;

use super::ensemble::Ensemble;
use super::event::{reconfig_ended, reconfig_wanted};
use super::tree::Tree;
use super::write::Caller;
use crate::wire::{Encode as _, ErrorCode, GetDataResponse, ReconfigRequest, perms};

const PATH: &str = "/zookeeper/config";

impl Tree {
    /// The configuration in force; none if what the founders wrote there does not parse.
    pub(super) fn ensemble(&self) -> Option<Ensemble> {
        let id = self.find(PATH).expect("it cannot be deleted");
        let text = self.slab.get(id).data().unwrap_or_default();
        std::str::from_utf8(text).ok().and_then(Ensemble::parse)
    }

    /// Checks in the order of ZooKeeper's `PrepRequestProcessor`: switch, progress, version, arguments, access.
    pub(super) fn on_reconfig(
        &mut self,
        caller: Caller<'_>,
        request: &ReconfigRequest<'_>,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, ErrorCode> {
        if !self.config.reconfig && !caller.internal {
            return Err(ErrorCode::ReconfigDisabled);
        }
        if self.wish.is_some() {
            return Err(ErrorCode::ReconfigInProgress);
        }
        // Nobody is to be removed because a text could not be read.
        let now = self.ensemble().ok_or(ErrorCode::SystemError)?;
        if request.config != -1 && request.config != now.version {
            return Err(ErrorCode::BadVersion);
        }
        let next = now.change(request, self.zxid)?;
        let node = self.slab.get(self.find(PATH).expect("it cannot be deleted"));
        if caller.internal {
            if next.servers == now.servers {
                // A node that asks again to join, or an operator who was not sure: nothing is left to do.
                return Ok(GetDataResponse { data: node.data(), stat: node.stat() }.to_bytes());
            }
        } else {
            self.acls.check(node.acl, perms::WRITE, caller.ids, &self.config)?;
        }
        let text = next.to_text();
        let (topic, bytes) = reconfig_wanted(next.version, &text);
        effects.event(topic, bytes);
        let reply = GetDataResponse { data: Some(text.as_bytes()), stat: node.stat() }.to_bytes();
        self.wish = Some(next);
        Ok(reply)
    }

    /// The group has the members that `text` names.
    pub(super) fn reconfigured(&mut self, text: &Bytes, effects: &mut Effects) {
        self.zxid += 1;
        self.set_config_text(text, effects);
        if let Some(now) = self.ensemble() {
            self.settle_wish(now.version, ErrorCode::Ok, effects);
        }
    }

    /// The wish of `version` is settled, if it is the one that waits.
    pub(super) fn settle_wish(&mut self, version: i64, err: ErrorCode, effects: &mut Effects) {
        if self.wish.as_ref().is_some_and(|wish| wish.version == version) {
            self.wish = None;
            let (topic, bytes) = reconfig_ended(version, err.number());
            effects.event(topic, bytes);
        }
    }
}
