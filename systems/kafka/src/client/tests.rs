//! The client's decisions, some of them against the session's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::message::{AbortedTransaction, ApiVersion, ApiVersionsResponse, FetchPartitionData};
use crate::wire::{ApiKey, BatchBuilder, Codec, Marker, assign as place, marker_batch};

fn versions(ranges: &[(ApiKey, i16, i16)]) -> Versions {
    let row = |(key, min, max): &(ApiKey, i16, i16)| ApiVersion {
        api_key: key.number(),
        min_version: *min,
        max_version: *max,
    };
    Versions::new(&ApiVersionsResponse { api_keys: ranges.iter().map(row).collect(), ..Default::default() })
}

#[test]
fn the_highest_version_that_both_speak() {
    let broker = versions(&[(ApiKey::ListGroups, 0, 99), (ApiKey::Fetch, 0, 18), (ApiKey::JoinGroup, 0, 2)]);
    assert_eq!(broker.pick(ApiKey::ListGroups), Ok(*ApiKey::ListGroups.versions().end()));
    assert_eq!(broker.pick(ApiKey::Fetch), Ok(12), "later ones know topics by their ids");
    assert_eq!(broker.pick(ApiKey::JoinGroup), Ok(2));
    assert_eq!(broker.pick(ApiKey::Produce), Err(Unsupported::Unknown(ApiKey::Produce)));
    let old = versions(&[(ApiKey::Fetch, 0, 3), (ApiKey::Produce, 13, 14)]);
    let none = |key, min, max| Err(Unsupported::NoneInCommon { key, min, max });
    assert_eq!(old.pick(ApiKey::Fetch), none(ApiKey::Fetch, 0, 3));
    assert_eq!(old.pick(ApiKey::Produce), none(ApiKey::Produce, 13, 14));
}

#[test]
fn plain_says_everything_at_once() {
    let (mut exchange, said) = Exchange::begin(Mechanism::Plain, "alice", "secret", "x");
    assert_eq!(said, &b"\0alice\0secret"[..]);
    assert_eq!(exchange.on_answer(b""), Ok(None));
}

/// The exchange of RFC 7677 §3, from the client's side.
#[test]
fn scram_shows_the_password_and_sees_the_servers_proof() {
    let begin = || Exchange::begin(Mechanism::ScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
    let (mut exchange, said) = begin();
    assert_eq!(said, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let answer = exchange.on_answer(first.as_bytes()).unwrap().unwrap();
    assert_eq!(answer, format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
    assert_eq!(exchange.on_answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(None));
    let (mut other, _) = begin();
    other.on_answer(first.as_bytes()).unwrap();
    let forged = other.on_answer(b"v=AAriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(forged, Err(AuthenticationError::Impostor));
    for bad in ["", "r=other,s=AA==,i=1", &format!("r={nonce},s=AA==,i=99999999"), "r=rOprNGfwEbeRWgbNEkqO,s=AA==,i=1"]
    {
        assert!(begin().0.on_answer(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Batches of one record each, named by their producers: -1 for none; a marker is `Err`.
fn log(batches: &[Result<i64, (i64, Marker)>]) -> Bytes {
    let mut out = BytesMut::new();
    for (offset, batch) in batches.iter().enumerate() {
        let mut bytes = match batch {
            Err((producer, marker)) => marker_batch(*marker, *producer, 0, 1, 5),
            Ok(producer) => {
                let mut builder = BatchBuilder::new(Codec::Lz4);
                if *producer >= 0 {
                    builder = builder.producer(*producer, 0, 0).transactional();
                }
                builder.push(5, None, Some(b"v"), &[]);
                builder.build()
            }
        };
        place(&mut bytes, i64::try_from(offset).unwrap(), 0);
        out.extend_from_slice(&bytes);
    }
    out.freeze()
}

fn offsets(data: &FetchPartitionData, from: i64, committed: bool) -> (Vec<i64>, i64) {
    let mut seen = Vec::new();
    let next = consume(data, from, committed, |record| {
        seen.push(record.offset);
        true
    });
    (seen, next.unwrap())
}

#[test]
fn readers_of_committed_records_see_no_aborted_ones() {
    let records = log(&[
        Ok(-1),
        Ok(7),
        Ok(8),
        Err((7, Marker::Abort)),
        Ok(7),
        Err((8, Marker::Commit)),
        Err((7, Marker::Commit)),
        Ok(-1),
    ]);
    let aborted = vec![AbortedTransaction { producer_id: 7, first_offset: 1 }];
    let data =
        FetchPartitionData { records: Some(records.into()), aborted_transactions: Some(aborted), ..Default::default() };
    assert_eq!(offsets(&data, 0, false), (vec![0, 1, 2, 4, 7], 8));
    assert_eq!(offsets(&data, 0, true), (vec![0, 2, 4, 7], 8));
    assert_eq!(offsets(&data, 4, true), (vec![4, 7], 8));
}

#[test]
fn a_batch_that_is_cut_off_comes_again_and_a_broken_one_is_told() {
    let whole = log(&[Ok(-1), Ok(-1)]);
    let data = |records: Bytes| FetchPartitionData { records: Some(records.into()), ..Default::default() };
    assert_eq!(offsets(&data(whole.slice(..whole.len() - 3)), 0, true), (vec![0], 1));
    assert_eq!(offsets(&data(Bytes::new()), 5, true), (vec![], 5));
    let mut flipped = whole.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(consume(&data(flipped.into()), 0, true, |_| true).is_err());
    let mut taken = 0;
    let next = consume(&data(whole), 0, true, |_| {
        taken += 1;
        false
    });
    assert_eq!((taken, next.unwrap()), (1, 1), "who has enough goes on from there");
}

#[test]
fn members_share_partitions_in_runs() {
    let wants = |topics: &[&str]| Subscription(topics.iter().map(|topic| (*topic).to_owned()).collect());
    let members = BTreeMap::from([
        ("a".to_owned(), wants(&["t", "u"])),
        ("b".to_owned(), wants(&["t"])),
        ("c".to_owned(), wants(&["t"])),
    ]);
    let counts = BTreeMap::from([("t".to_owned(), 4), ("u".to_owned(), 1)]);
    let all = assign(&members, &counts);
    let run = |topic: &str, partitions: &[i32]| (topic.to_owned(), BTreeSet::from_iter(partitions.iter().copied()));
    assert_eq!(all["a"], BTreeMap::from([run("t", &[0, 1]), run("u", &[0])]));
    assert_eq!(all["b"], BTreeMap::from([run("t", &[2])]));
    assert_eq!(all["c"], BTreeMap::from([run("t", &[3])]));
    let alone = assign(&members, &BTreeMap::from([("u".to_owned(), 1)]));
    assert_eq!(alone["b"], Assignment::new());
}

#[test]
fn what_members_say_is_read_by_members() {
    let wants = Subscription(vec!["t".into(), "u".into()]);
    assert_eq!(Subscription::decode(&wants.encode()), Ok(wants));
    let has = Assignment::from([("t".to_owned(), BTreeSet::from([0, 3]))]);
    assert_eq!(decode_assignment(&encode_assignment(&has)), Ok(has));
    assert_eq!(decode_assignment(&Bytes::new()), Ok(Assignment::new()));
    assert!(Subscription::decode(&Bytes::from_static(b"\0")).is_err());
    assert!(Subscription::decode(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff")).is_err());
}
