//! What holds for every copy: those of other replicas, of sessions, of snapshots; and for any bytes.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use verity_contract::{Effect, Effects, ReadOutcome, Spawn, StateMachine};

use super::super::*;
use super::draw;
use super::rig::{Rig, ordered};
use crate::wire::ErrorCode;

/// The chunks of a snapshot.
fn drawn(machine: &mut Cluster, size: usize) -> Vec<Bytes> {
    machine.snapshot_begin();
    std::iter::from_fn(|| machine.snapshot_next(size)).collect()
}

fn restored(chunks: Vec<Bytes>) -> Cluster {
    let mut machine = Cluster::new();
    machine.restore(&mut chunks.into_iter().map(Ok)).expect("its own snapshot");
    machine.invariants();
    machine
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The rig holds the image that events made against the machine's after every command. Here, the rest is.
    #[test]
    fn replicas_snapshots_and_sessions_agree(
        commands in prop::collection::vec(draw::command(), 1..60),
        cut in 0..60usize,
    ) {
        let mut rig = Rig::new(3);
        for command in commands {
            rig.order(command);
        }
        let mut all = Cluster::new();
        let mut whole = Effects::default();
        all.apply(&rig.log, &mut whole);
        prop_assert_eq!(all.digest(), rig.machine.digest(), "one batch or many");
        // A replica that begins with a snapshot somewhere on the way comes to the same, and puts out the same.
        let cut = cut.min(rig.log.len());
        let mut first = Cluster::new();
        let mut effects = Effects::default();
        first.apply(&rig.log[..cut], &mut effects);
        let mut later = restored(drawn(&mut first, 7));
        prop_assert_eq!(later.digest(), first.digest());
        prop_assert_eq!(later.spawned(), first.spawned());
        later.apply(&rig.log[cut..], &mut effects);
        prop_assert_eq!(later.digest(), all.digest());
        prop_assert_eq!(&effects.list, &whole.list);
        let read = ClusterImage::from_snapshot(&rig.snapshot()).expect("a snapshot");
        prop_assert_eq!(&read, rig.machine.image());
        prop_assert_eq!(read.snapshot(), rig.snapshot());
        // Whoever spawns by effects hosts what is asked for; who leads first matters to new groups alone.
        let timeless = |spawn: Spawn| Spawn { first_leader: None, ..spawn };
        let mut hosted = std::collections::BTreeMap::new();
        for effect in whole.list {
            match effect {
                Effect::Spawn(spawn) => drop(hosted.insert(spawn.group, timeless(spawn))),
                Effect::Retire(group) => drop(hosted.remove(&group)),
                _ => {}
            }
        }
        let asked: Vec<_> = all.spawned().into_iter().map(timeless).collect();
        prop_assert_eq!(hosted.into_values().collect::<Vec<_>>(), asked);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..20u8) {
        let mut rig = Rig::new(2);
        rig.create("t", 1, 1);
        let mut framed = vec![crate::machine::codec::FORMAT, kind];
        framed.extend_from_slice(&bytes);
        for bytes in [bytes, framed] {
            let reply = rig.order_bytes(bytes.clone().into());
            if Command::decode(&bytes).is_err() {
                prop_assert_eq!(reply.error, ErrorCode::INVALID_REQUEST);
            }
            let ReadOutcome::Ready(answer) = rig.machine.read(&bytes) else { panic!("it answers at once") };
            if Query::decode(&bytes).is_err() {
                prop_assert_eq!(Reply::decode(&answer).expect("a reply").error, ErrorCode::INVALID_REQUEST);
            }
            let _ = rig.heard.clone().on_event(&bytes);
            let _ = ClusterImage::from_snapshot(&bytes);
        }
    }

    #[test]
    fn commands_round_trip_and_no_cut_of_one_passes(command in draw::command()) {
        let bytes = command.encode();
        prop_assert_eq!(Command::decode(&bytes), Ok(command));
        for cut in 0..bytes.len() {
            prop_assert!(Command::decode(&bytes[..cut]).is_err());
        }
    }

    /// A snapshot with a flipped bit either is refused or is another state; it never panics.
    #[test]
    fn damaged_snapshots_do_not_panic(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut rig = Rig::new(3);
        rig.create("t", 2, 2);
        let mut bytes = BytesMut::new();
        bytes.put_slice(&rig.snapshot());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = ClusterImage::from_snapshot(&bytes);
    }
}

#[test]
fn a_session_takes_changes_once_and_in_order() {
    let mut machine = Cluster::new();
    let mut changes = Vec::new();
    for id in 1..=3 {
        let register = Command::Register { id, rack: None, host: "h".into(), port: 1, tls_port: 0 };
        let mut effects = Effects::default();
        machine.apply(&[ordered(1, register.encode())], &mut effects);
        let [Effect::Event { bytes, .. }, Effect::Reply { .. }] = &effects.list[..] else { panic!("{effects:?}") };
        changes.push(bytes.clone());
    }
    let mut image = ClusterImage::default();
    assert_eq!(image.on_event(&changes[0]), Ok(true));
    assert_eq!(image.on_event(&changes[0]), Ok(false), "heard already");
    assert_eq!(image.on_event(&changes[2]), Err(ImageError::Gap { image: 1, change: 3 }));
    assert!(matches!(image.on_event(b"nonsense"), Err(ImageError::Invalid(_))));
    assert_eq!(image.on_event(&changes[1]), Ok(true));
    assert_eq!(image.on_event(&changes[2]), Ok(true));
    assert_eq!(&image, machine.image());
    let mut late = ClusterImage::from_snapshot(&machine.image().snapshot()).expect("a snapshot");
    assert_eq!(late.on_event(&changes[1]), Ok(false), "an event that a snapshot holds already");
}

#[test]
fn an_empty_snapshot_is_refused_and_a_fresh_one_is_not() {
    let mut machine = Cluster::new();
    assert!(machine.restore(&mut std::iter::empty()).is_err());
    let mut fresh = Cluster::new();
    let copy = restored(drawn(&mut fresh, 1 << 20));
    assert_eq!(copy.image(), fresh.image());
    assert!(copy.size() < 1 << 20);
}
