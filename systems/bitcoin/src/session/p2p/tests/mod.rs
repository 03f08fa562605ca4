//! Whole nodes, joined back to back or to peers that say what a test tells them to.

mod blocks;
mod meeting;
mod relaying;
mod world;

#[test]
fn a_day_of_bytes_is_kept_for_new_blocks_first() {
    use super::{Config, PeerControl as _, Peers};

    let of = |target: u64, sent: u64| {
        let mut peers = Peers::new(Config { upload_target: target, ..Config::default() }, [0; 4], [0; 32]);
        peers.upload = (0, sent);
        let upload = peers.upload();
        (upload.reached, upload.serves_old_blocks, upload.bytes_left)
    };
    assert_eq!(of(0, 1_000), (false, true, 0));
    // A day has 144 blocks of four megabytes.
    assert_eq!(of(500_000_000, 0), (false, false, 500_000_000));
    assert_eq!(of(800_000_000, 0), (false, true, 800_000_000));
    assert_eq!(of(800_000_000, 300_000_000), (false, false, 500_000_000));
    assert_eq!(of(800_000_000, 800_000_000), (true, false, 0));
}
