//! How worlds start their engines.

use verity_contract::{Agreement, Boot};
use verity_sim::{Mutant, forget_votes};
use verity_types::{Mono, NodeId};

/// Raft, with the mutants that live inside of it.
///
/// # Errors
/// What it cannot start from.
pub fn raft(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Agreement>, String> {
    let raft =
        verity_raft::Raft::start(boot, verity_raft::Config::default(), now).map_err(|error| error.to_string())?;
    let forgets = mutant == Some(Mutant::VoteNotPersisted);
    Ok(if forgets { forget_votes(Box::new(raft), verity_raft::forget_vote) } else { Box::new(raft) })
}

/// Multi-Paxos, the same.
///
/// # Errors
/// What it cannot start from.
pub fn paxos(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Agreement>, String> {
    let mutant = mutant.and_then(|mutant| verity_paxos::Mutant::named(mutant.name()));
    let config = verity_paxos::Config { mutant, ..verity_paxos::Config::default() };
    let paxos = verity_paxos::Paxos::start(boot, config, now);
    paxos.map(|paxos| Box::new(paxos) as Box<dyn Agreement>).map_err(|error| error.to_string())
}

/// PBFT, the same, of at most nine nodes.
///
/// # Errors
/// What it cannot start from.
pub fn pbft(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Agreement>, String> {
    let mutant = mutant.and_then(|mutant| verity_pbft::Mutant::named(mutant.name()));
    let config = verity_pbft::Config { mutant, ..verity_pbft::Config::default() };
    let keys = verity_pbft::Keys::seals(boot.id, (1..=9).map(NodeId));
    let pbft = verity_pbft::Pbft::start(boot, config, keys, now);
    pbft.map(|pbft| Box::new(pbft) as Box<dyn Agreement>).map_err(|error| error.to_string())
}
