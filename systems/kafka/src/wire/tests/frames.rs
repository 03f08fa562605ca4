//! Cutting a stream into frames.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use verity_contract::Gather;

use crate::wire::{BACKLOG_MAX, FrameError, Frames};

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as i32).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_the_cuts(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
        cuts in prop::collection::vec(1usize..40, 0..60),
        drain in any::<bool>(),
    ) {
        let stream = Bytes::from(bodies.iter().flat_map(|body| framed(body)).collect::<Vec<_>>());
        let mut frames = Frames::new(64);
        let mut found = Vec::new();
        let mut rest = stream;
        let mut cuts = cuts.into_iter();
        while !rest.is_empty() {
            let size = cuts.next().unwrap_or(usize::MAX).min(rest.len());
            frames.push(rest.split_to(size)).unwrap();
            if drain {
                while let Some(frame) = frames.next_frame().unwrap() {
                    found.push(frame.to_vec());
                }
                prop_assert!(frames.pending() < 68);
            }
        }
        while let Some(frame) = frames.next_frame().unwrap() {
            found.push(frame.to_vec());
        }
        prop_assert_eq!(found, bodies);
        prop_assert_eq!(frames.pending(), 0);
    }
}

proptest! {
    /// Read as the node reads: what is not delivered is kept, and what is kept comes to its end.
    #[test]
    fn what_is_gathered_comes_in_whole_frames(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
        cuts in prop::collection::vec(1usize..40, 0..60),
        late in prop::option::of(0usize..60),
    ) {
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        let mut frames = Frames::new(64);
        let (mut found, mut kept) = (Vec::new(), BytesMut::new());
        // Some of it came before anybody asked.
        let mut at = late.unwrap_or(0).min(stream.len());
        frames.push(Bytes::copy_from_slice(&stream[..at])).unwrap();
        let mut cuts = cuts.into_iter();
        while at < stream.len() {
            let end = at.saturating_add(cuts.next().unwrap_or(usize::MAX)).min(stream.len()).max(at + 1);
            kept.extend_from_slice(&stream[at..end]);
            at = end;
            let gather = frames.gather(&kept);
            let delivered = kept.split_to(gather.deliver);
            prop_assert!(kept.is_empty() || gather.until > kept.len(), "what is kept waits for more");
            frames.push(delivered.freeze()).unwrap();
            while let Some(frame) = frames.next_frame().unwrap() {
                found.push(frame.to_vec());
            }
            prop_assert!(late.is_some() || frames.pending() == 0, "nothing is cut");
        }
        while let Some(frame) = frames.next_frame().unwrap() {
            found.push(frame.to_vec());
        }
        prop_assert_eq!(found, bodies);
        prop_assert!(kept.is_empty());
    }
}

#[test]
fn a_length_that_cannot_be_is_delivered_to_be_refused() {
    let mut frames = Frames::new(10);
    let bytes = [framed(b"one"), vec![0, 0, 0, 11, 1]].concat();
    assert_eq!(frames.gather(&bytes), Gather::all(&bytes));
    frames.push(bytes.into()).unwrap();
    assert!(frames.next_frame().unwrap().is_some());
    assert_eq!(frames.next_frame(), Err(FrameError::TooLarge { size: 11, max: 10 }));
    assert_eq!(Frames::new(10).gather(&[0, 0]), Gather { deliver: 0, until: 4 });
}

#[test]
fn a_frame_within_a_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from([framed(b"one"), framed(b"two"), vec![0, 0]].concat());
    let mut frames = Frames::default();
    frames.push(chunk.clone()).unwrap();
    let first = frames.next_frame().unwrap().unwrap();
    assert_eq!((&first[..], first.as_ptr()), (&b"one"[..], chunk[4..].as_ptr()));
    let second = frames.next_frame().unwrap().unwrap();
    assert_eq!((&second[..], second.as_ptr()), (&b"two"[..], chunk[11..].as_ptr()));
    assert_eq!(frames.next_frame(), Ok(None));
    assert_eq!(frames.pending(), 2);
}

#[test]
fn a_bad_length_ends_the_stream() {
    let mut frames = Frames::new(100);
    frames.push(Bytes::from_static(&[0, 0, 0, 101])).unwrap();
    let error = FrameError::TooLarge { size: 101, max: 100 };
    assert_eq!(frames.next_frame(), Err(error));
    assert_eq!(frames.push(Bytes::from_static(&[1])), Err(error), "for good");
    assert_eq!(frames.next_frame(), Err(error));

    let mut frames = Frames::new(100);
    for byte in [0xff, 0xff, 0xff] {
        frames.push(Bytes::copy_from_slice(&[byte])).unwrap();
        assert_eq!(frames.next_frame(), Ok(None));
    }
    frames.push(Bytes::from_static(&[0xff])).unwrap();
    assert_eq!(frames.next_frame(), Err(FrameError::Negative(-1)));
}

#[test]
fn what_nobody_takes_is_bounded() {
    let mut frames = Frames::new(1000);
    let chunk = BytesMut::zeroed(1 << 20).freeze();
    let mut pushed = 0;
    while frames.push(chunk.clone()).is_ok() {
        pushed += chunk.len();
    }
    assert!(pushed <= 1000 + 4 + BACKLOG_MAX, "{pushed}");
    assert_eq!(frames.next_frame(), Err(FrameError::Backlog));
    let mut frames = Frames::new(1000);
    let mut count = 0u32;
    while frames.push(Bytes::from_static(&[0])).is_ok() {
        count += 1;
    }
    assert_eq!(count, 1 << 16, "each chunk costs memory, however small it is");
}

#[test]
fn an_announced_length_costs_nothing() {
    let mut frames = Frames::default();
    frames.push(Bytes::from_static(&[0x06, 0x00, 0x00, 0x00, 1])).unwrap();
    assert_eq!(frames.next_frame(), Ok(None));
    assert_eq!(frames.pending(), 5);
    assert!(frames.reserved() < 1 << 16, "{}", frames.reserved());
}
