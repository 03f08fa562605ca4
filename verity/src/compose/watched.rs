//! An engine whose words somebody listens to.

use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{Agreement, AgreementStatus, Barrier, BarrierId, Input, Output, Reconfigure, Transfer, Witness};
use verity_pbft::{Said, Scope, describe};
use verity_types::{GroupId, LogIndex, Mono, Nanos, NodeId, WallMs};

/// Something that a replica said to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) group: GroupId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) said: Said,
}

/// Who listens. Called on the nodes' threads.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(Sent) + Send + Sync>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// The engine.
pub(super) struct Watched {
    pub(super) inner: Box<dyn Agreement>,
    pub(super) group: GroupId,
    pub(super) me: NodeId,
    pub(super) scope: Scope,
    pub(super) listener: Listener,
}

impl Watched {
    fn tell(&self, outputs: &[Output]) {
        for output in outputs {
            if let Output::Send { to, bytes, .. } = output
                && let Some(said) = describe(&self.scope, bytes.clone())
            {
                (self.listener.0)(Sent { group: self.group, from: self.me, to: *to, said });
            }
        }
    }
}

impl Agreement for Watched {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        let from = out.len();
        self.inner.on(now, input, out);
        self.tell(&out[from..]);
    }

    fn set_wall(&mut self, now: Mono, wall: WallMs) {
        self.inner.set_wall(now, wall);
    }

    fn snapshot_context(&self, index: LogIndex) -> Option<Bytes> {
        self.inner.snapshot_context(index)
    }

    fn tick_interval(&self) -> Nanos {
        self.inner.tick_interval()
    }

    fn status(&self) -> AgreementStatus {
        self.inner.status()
    }

    fn invariants(&self) {
        self.inner.invariants();
    }

    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        if self.inner.barrier().is_some() { Some(self) } else { None }
    }

    fn witness(&self) -> Option<&dyn Witness> {
        self.inner.witness()
    }

    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        self.inner.reconfigure()
    }

    fn transfer(&mut self) -> Option<&mut dyn Transfer> {
        self.inner.transfer()
    }
}

impl Barrier for Watched {
    fn on_barrier(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        let from = out.len();
        self.inner.barrier().expect("it was there").on_barrier(now, id, out);
        self.tell(&out[from..]);
    }
}
