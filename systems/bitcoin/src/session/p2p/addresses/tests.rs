//! The book and the bans by themselves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Bans, Book, Subnet, by_hand};
use crate::wire::{NetAddress, PeerAddress};

const NOW: u64 = 1_700_000_000;

fn addr(index: u32) -> NetAddress {
    let ip = Ipv4Addr::from_bits(0x0800_0000 + index * 0x1_0007);
    NetAddress::from_socket(SocketAddr::new(IpAddr::V4(ip), 8_333))
}

fn heard(index: u32) -> PeerAddress {
    PeerAddress { addr: addr(index), ..by_hand("8.8.8.8:1".parse().unwrap(), NOW) }
}

fn filled(count: u32) -> Book {
    let (mut book, mut rng) = (Book::new((1, 2)), fastrand::Rng::with_seed(3));
    for index in 0..count {
        book.add(heard(index), addr(index % 50), 0, NOW, &mut rng);
    }
    book
}

#[test]
fn one_source_fills_few_buckets() {
    let (mut book, mut rng) = (Book::new((1, 2)), fastrand::Rng::with_seed(3));
    for index in 0..20_000 {
        book.add(heard(index), addr(1), 0, NOW, &mut rng);
    }
    book.invariants();
    assert!(book.len() <= 64 * 64, "{}", book.len());
}

#[test]
fn what_is_not_routable_is_not_taken() {
    let (mut book, mut rng) = (Book::new((1, 2)), fastrand::Rng::with_seed(3));
    for text in ["127.0.0.1:1", "10.1.2.3:1", "192.168.0.1:1", "0.0.0.0:1", "[::1]:1", "[fd00::1]:1", "[2001:db8::1]:1"]
    {
        assert!(!book.add(by_hand(text.parse().unwrap(), NOW), addr(1), 0, NOW, &mut rng), "{text}");
    }
}

#[test]
fn a_connection_moves_to_tried_and_stays_over_a_restart() {
    let mut book = filled(300);
    assert!(book.good(&addr(7), NOW));
    assert!(!book.good(&addr(7), NOW), "it is there already");
    book.attempt(&addr(8), true, NOW);
    book.invariants();
    let back = Book::decode(&book.encode(), NOW).unwrap();
    back.invariants();
    assert_eq!(back.len(), book.len());
    assert_eq!(back.encode(), book.encode());
    assert!(Book::decode(&book.encode()[..100], NOW).is_none());
    assert!(Book::decode(b"", NOW).is_none());
}

#[test]
fn samples_are_bounded_and_leave_out_the_dead() {
    let (mut book, mut rng) = (filled(1_000), fastrand::Rng::with_seed(3));
    let count = book.len();
    assert_eq!(book.sample(0, 23, NOW, &mut rng).len(), count * 23 / 100);
    assert_eq!(book.sample(10, 23, NOW, &mut rng).len(), 10);
    for index in 0..1_000 {
        (0..3).for_each(|_| book.attempt(&addr(index), true, NOW - 3_600));
    }
    assert!(book.sample(0, 0, NOW, &mut rng).is_empty());
}

#[test]
fn two_in_one_place_are_settled() {
    let mut book = filled(20_000);
    let mut taken = 0;
    for index in 0..20_000 {
        taken += u32::from(book.good(&addr(index), NOW));
    }
    assert!(taken > 1_000);
    assert_eq!(book.resolve_collisions(NOW + 60), None, "those that are there answered just now");
    for index in 0..20_000 {
        book.good(&addr(index), NOW + 5 * 3_600);
    }
    book.invariants();
    book.resolve_collisions(NOW + 10 * 3_600);
    book.invariants();
}

proptest! {
    #[test]
    fn the_book_is_kept(steps in vec((0..5_u8, 0..400_u32, 0..30_u32, 0..100_000_u64), 0..300)) {
        let (mut book, mut rng, mut now) = (Book::new((5, 6)), fastrand::Rng::with_seed(3), NOW);
        for (kind, index, source, span) in steps {
            match kind {
                0 | 1 => { book.add(PeerAddress { time: now as u32, ..heard(index) }, addr(source), 7_200, now, &mut rng); }
                2 => { book.good(&addr(index), now); }
                3 => book.attempt(&addr(index), true, now),
                _ => { now += span; book.resolve_collisions(now); }
            }
            book.invariants();
            book.select(false, now, &mut rng);
        }
    }

    #[test]
    fn no_bytes_break_the_book(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Book::decode(&[b"VPEERS\x01".as_slice(), &bytes].concat(), NOW);
    }
}

#[test]
fn subnets_are_read_as_operators_write_them() {
    let show = |text: &str| text.parse::<Subnet>().map(|subnet| subnet.to_string());
    assert_eq!(show("127.0.0.1"), Ok("127.0.0.1/32".to_owned()));
    assert_eq!(show("127.0.0.77/24"), Ok("127.0.0.0/24".to_owned()));
    assert_eq!(show("127.0.0.0/255.255.0.0"), Ok("127.0.0.0/16".to_owned()));
    assert_eq!(show("2001:4d48:ac57:400:cacf:e9ff:fe1d:9c63/19"), Ok("2001:4000::/19".to_owned()));
    assert_eq!(show("::ffff:1.2.3.4"), Ok("1.2.3.4/32".to_owned()));
    for text in ["127.0.0.1/33", "127.0.0.1/255.0.255.0", "fe80::/129", "host", "1.2.3.4/x", "1.2.3.4/-1"] {
        assert_eq!(show(text), Err(()), "{text}");
    }
}

#[test]
fn bans_end_and_stay_over_a_restart() {
    let mut bans = Bans::new((1, 2));
    assert!(bans.ban("127.0.0.0/24".parse().unwrap(), NOW + 100, NOW));
    assert!(!bans.ban("127.0.0.0/24".parse().unwrap(), NOW + 50, NOW));
    let ip = "127.0.0.9".parse().unwrap();
    assert!(bans.is_banned(ip, NOW + 99) && !bans.is_banned(ip, NOW + 100));
    let mut back = Bans::new((1, 2));
    assert!(back.load(&bans.encode(), NOW) && back.is_banned(ip, NOW));
    assert!(back.load(&bans.encode(), NOW + 101) && back.list(NOW + 101).is_empty());
    assert!(!back.load(b"not json", NOW));
    bans.discourage(ip);
    assert!(bans.is_discouraged(ip) && !bans.is_discouraged("127.0.0.8".parse().unwrap()));
}
