//! What runs in a world: the groups and services of its nodes, and the clients that use and judge them.

use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{Door, Members};
use verity_replica::{Founder, GroupSpec, ServiceFactory};
use verity_storage::Disk;
use verity_types::{GroupId, NodeId};

use crate::mutant::Mutant;

/// One of the world's clients, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub usize);

/// What a node is made of.
pub struct NodeSetup {
    /// Its groups.
    pub groups: Vec<GroupSpec>,
    /// How groups are run that state machines ask for.
    pub founder: Option<Founder>,
    /// Its services. Clients connect to the first.
    pub services: Vec<ServiceFactory>,
}

/// What happens to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// The world begins, or the moment asked for by `Wake` has come.
    Wake,
    /// The connection asked for is there.
    Connected,
    /// It came to nothing, or ended.
    Disconnected,
    /// Bytes of the node.
    Bytes(Bytes),
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Connect to a node; an older connection ends.
    Connect(NodeId, Door),
    /// Send bytes.
    Bytes(Bytes),
    /// End the connection.
    Disconnect,
    /// Call again at this moment of the world's time, in nanoseconds.
    Wake(u64),
}

/// What runs in a world.
pub trait Workload {
    /// The groups and services of a node, made anew for each start; its groups begin with these members, or wait to be
    /// joined if there are none. `mutant` is planted where it belongs.
    fn setup(&self, disk: &Arc<dyn Disk>, node: NodeId, members: &Members, mutant: Option<Mutant>) -> NodeSetup;

    /// The command that gives a group these members, if the workload has groups whose members change.
    fn reconfigure(&self, _members: &Members) -> Option<(GroupId, Bytes)> {
        None
    }

    /// The world has so many nodes, those included that are to join.
    fn begin(&mut self, _nodes: usize) {}

    /// A node lost its power, and what it had in memory.
    fn crashed(&mut self, _node: NodeId) {}

    /// How many clients there are.
    fn clients(&self) -> usize;

    /// A client takes one input. `now` is the world's true time in nanoseconds.
    fn on_client(
        &mut self,
        client: ClientId,
        now: u64,
        input: ClientInput,
        rng: &mut fastrand::Rng,
        out: &mut Vec<ClientOutput>,
    );

    /// The faults are over: clients finish what they have and report when they are done.
    fn wind_down(&mut self, now: u64);

    /// True once every client is done after [`Workload::wind_down`].
    fn is_done(&self) -> bool;

    /// What the clients still wait for, for a world that is stuck.
    fn standing(&self) -> String {
        String::new()
    }

    /// How many operations were acknowledged so far.
    fn acknowledged(&self) -> u64;

    /// The history, as `docs/check-format.md` has it, if the workload writes one.
    fn history(&self) -> Option<&str> {
        None
    }

    /// Judges the history.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn judge(&mut self) -> Result<(), String>;
}
