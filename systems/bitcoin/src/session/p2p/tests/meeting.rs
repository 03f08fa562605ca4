//! How peers meet, and part.

use std::net::SocketAddr;

use super::super::{AddNode, Config, Input, Kind, PeerControl, Permissions, Which, Whitelist, user_agent};
use super::world::{START, World, addr, version};
use crate::wire::{Message, NetAddress, PeerAddress, Services};

#[test]
fn two_meet_under_a_cipher_and_tell_each_other_who_they_are() {
    let mut world = World::of(2);
    world.connect(0, 1);
    let (one, other) = (world.hosts[0].peers.peers(), world.hosts[1].peers.peers());
    assert_eq!((one.len(), other.len()), (1, 1));
    assert_eq!((one[0].transport_protocol_type.as_str(), one[0].connection_type.as_str()), ("v2", "manual"));
    assert_eq!(one[0].session_id, other[0].session_id);
    assert_eq!(other[0].subver, user_agent(&[]));
    assert!(other[0].inbound && one[0].addr == addr(1).to_string());
    assert_eq!(one[0].services & Services::P2P_V2, Services::P2P_V2);
    world.run(130_000);
    let one = world.hosts[0].peers.peers();
    assert!(one[0].ping_time.is_some() && one[0].bytes_recv_per_msg.contains_key("pong"));
}

#[test]
fn one_without_a_cipher_is_met_in_the_open() {
    let old = Config { v2_transport: false, ..Config::default() };
    for configs in [vec![old.clone(), Config::default()], vec![Config::default(), old]] {
        let mut world = World::new(configs);
        world.connect(0, 1);
        // An old peer takes a key for noise, and hangs up; the next try is in the open.
        world.run(2_000);
        let peers = world.hosts[0].peers.peers();
        assert_eq!(peers.len(), 1);
        assert_eq!((peers[0].transport_protocol_type.as_str(), peers[0].version), ("v1", 70_016));
    }
}

#[test]
fn the_order_of_introductions_is_the_network_s() {
    let mut world = World::new(vec![Config { v2_transport: false, ..Config::default() }]);
    let peer = world.stranger(0, "1.2.3.4:5", false);
    assert!(world.commands(peer).is_empty(), "whoever dialed speaks first");
    world.say(peer, &Message::Ping(Some(1)));
    assert!(world.commands(peer).is_empty());
    world.say(peer, &Message::Version(version()));
    assert_eq!(world.commands(peer), ["version", "wtxidrelay", "sendaddrv2", "verack"]);
    world.say(peer, &Message::Ping(Some(1)));
    assert!(world.commands(peer).is_empty(), "not before the verack");
    world.say(peer, &Message::Verack);
    assert_eq!(world.commands(peer)[..2], ["sendcmpct", "ping"]);
    world.say(peer, &Message::Ping(Some(9)));
    assert_eq!(world.heard(peer).last(), Some(&Message::Pong(Some(9))));
    world.say(peer, &Message::WtxidRelay);
    assert!(world.scripts[peer].closed, "too late for it");
}

#[test]
fn the_old_and_the_silent_are_let_go() {
    let mut world = World::of(1);
    let old = world.stranger(0, "1.2.3.4:5", false);
    world.say(old, &Message::Version(crate::wire::Version { version: 31_799, ..version() }));
    assert!(world.scripts[old].closed && world.logged(0, "using obsolete version 31799"));
    let silent = world.stranger(0, "1.2.3.4:6", false);
    let never = world.stranger(0, "1.2.3.4:7", true);
    world.run(61_000);
    assert!(world.scripts[silent].closed && world.scripts[never].closed);
    assert!(world.logged(0, "socket no message in first 60 seconds, never received from peer"));
    assert!(world.logged(0, "version handshake timeout"));
}

#[test]
fn whoever_does_not_answer_pings_is_let_go() {
    let mut world = World::of(1);
    let peer = world.friend(0, "1.2.3.4:5");
    world.run(1_199_000);
    assert!(!world.scripts[peer].closed);
    world.run(10_000);
    assert!(world.scripts[peer].closed && world.logged(0, "timeout"));
}

#[test]
fn we_do_not_speak_to_ourselves() {
    let mut world = World::of(1);
    world.hosts[0].peers.add_node(&addr(0).to_string(), AddNode::OneTry, Some(false)).unwrap();
    world.run(300);
    assert!(world.hosts[0].peers.peers().is_empty() && world.logged(0, "connected to self"));
}

#[test]
fn noise_and_other_networks_end_a_connection_and_bad_content_does_not() {
    let mut world = World::of(1);
    let peer = world.friend(0, "1.2.3.4:5");
    world.say_raw(peer, "inv", vec![0xff; 3]);
    world.say_raw(peer, "nonsense", vec![1; 30]);
    assert!(!world.scripts[peer].closed);
    let rows = world.hosts[0].peers.peers();
    assert_eq!(rows[0].bytes_recv_per_msg["*other*"], 54);
    let other = world.stranger(0, "1.2.3.4:6", false);
    let conn = verity_types::ConnId(3);
    let bytes = crate::wire::encode_frame([1, 2, 3, 4], "version", &[0; 100]);
    world.input(0, Input::Bytes { conn, bytes });
    world.settle();
    assert!(world.scripts[other].closed && world.logged(0, "V1 peer with wrong MessageStart 01020304"));
}

#[test]
fn whoever_misbehaves_is_let_go_and_remembered_unless_he_may() {
    let may = Whitelist::parse("noban@5.5.5.5").unwrap();
    let mut world = World::new(vec![Config { whitelist: vec![may], ..Config::default() }]);
    let many = vec![crate::wire::Inventory { item: crate::wire::Item::Tx, hash: [1; 32] }; 50_001];
    let [bad, good, here] = ["1.2.3.4:5", "5.5.5.5:1", "127.0.0.1:1"].map(|from| world.friend(0, from));
    for peer in [bad, good, here] {
        world.say(peer, &Message::Inv(many.clone()));
    }
    assert!(world.scripts[bad].closed && !world.scripts[good].closed && world.scripts[here].closed);
    assert!(world.logged(0, "inv message size = 50001"));
    assert!(world.hosts[0].peers.bans.is_discouraged("1.2.3.4".parse().unwrap()));
    assert!(!world.hosts[0].peers.bans.is_discouraged("127.0.0.1".parse().unwrap()));
}

#[test]
fn operators_connect_ban_and_disconnect() {
    let mut world = World::of(3);
    let peers = &mut world.hosts[0].peers;
    let (one, two) = (addr(1).to_string(), addr(2).to_string());
    assert_eq!(peers.add_node(&one, AddNode::Add, None), Ok(()));
    assert_eq!(peers.add_node(&one, AddNode::Add, None), Err("Error: Node already added"));
    assert!(peers.add_node(&two, AddNode::Remove, None).is_err());
    assert_eq!(peers.add_node(&two, AddNode::OneTry, None), Ok(()));
    assert!(peers.is_dialing(&two) && !peers.is_dialing("9.9.9.9:9"));
    world.run(500);
    let peers = &mut world.hosts[0].peers;
    assert!(!peers.is_dialing(&two), "the peer is there");
    assert_eq!(peers.added_nodes()[0].connected, Some((addr(1), false)));
    assert_eq!(peers.peers().len(), 2);
    assert!(peers.disconnect(&Which::Addr(two.clone())) && !peers.disconnect(&Which::Id(99)));
    world.run(200);
    assert_eq!(world.hosts[2].peers.peers().len(), 0);
    let peers = &mut world.hosts[0].peers;
    assert!(peers.ban("20.2.0.0/16", START + 1_000) && !peers.ban("20.2.0.0/16", START + 2_000));
    assert_eq!(peers.banned()[0].subnet, "20.2.0.0/16");
    world.run(200);
    assert!(world.hosts[0].peers.peers().is_empty());
    let banned = world.stranger(0, "20.2.9.9:1", false);
    assert!(world.scripts[banned].closed);
    let peers = &mut world.hosts[0].peers;
    assert!(peers.take_bans().is_some() && peers.take_bans().is_none());
    peers.set_network_active(false);
    world.run(200);
    let off = world.stranger(0, "9.9.9.9:1", false);
    assert!(world.scripts[off].closed);
}

#[test]
fn places_are_bounded_and_somebody_makes_room() {
    let mut world = World::new(vec![Config { connections_max: 41, ..Config::default() }]);
    let peers: Vec<usize> = (0..31).map(|index| world.friend(0, &format!("{}.1.1.1:5", index + 20))).collect();
    assert_eq!(peers.iter().filter(|peer| !world.scripts[**peer].closed).count(), 30);
    assert_eq!(world.hosts[0].peers.peers().len(), 30);
}

#[test]
fn addresses_are_taken_slowly_and_passed_on() {
    let mut world = World::of(1);
    let [one, other] = ["1.2.3.4:5", "7.7.7.7:7"].map(|from| world.friend(0, from));
    world.say(other, &Message::GetAddr);
    let fresh = |index: u32| PeerAddress {
        time: (world.now / 1_000_000) as u32,
        services: Services(Services::NETWORK | Services::WITNESS),
        addr: NetAddress::from_socket(format!("30.{index}.3.4:8333").parse().unwrap()),
    };
    let list: Vec<PeerAddress> = (0..9).map(fresh).collect();
    world.say(one, &Message::Addr(list));
    let row = world.hosts[0].peers.peers().into_iter().find(|row| row.addr == "1.2.3.4:5").unwrap();
    assert_eq!((row.addr_processed, row.addr_rate_limited), (1, 8), "one may tell of itself");
    world.run(300_000);
    let told: usize =
        world.heard(other).iter().map(|message| if let Message::Addr(list) = message { list.len() } else { 0 }).sum();
    assert_eq!(told, 1);
    assert_eq!(world.hosts[0].peers.known_addresses(0).len(), 1);
    let many = vec![PeerAddress { time: 0, services: Services(1), addr: NetAddress::NONE }; 1_001];
    world.say(one, &Message::AddrV2(many, 0));
    assert!(world.scripts[one].closed && world.logged(0, "addrv2 message size = 1001"));
}

#[test]
fn by_each_address_of_ours_other_addresses_are_told() {
    let mut world = World::of(1);
    world.run(500);
    let peers = &mut world.hosts[0].peers;
    for index in 0..200_u8 {
        peers.add_address(SocketAddr::from(([30, index, 3, 4], 8_333)), false);
    }
    let [one, other] = ["1.1.1.1:1", "1.1.1.1:2"].map(|bind| Some(bind.parse().unwrap()));
    let told = peers.sample_addresses(START, one, false);
    assert!(!told.is_empty());
    assert_ne!(told, peers.sample_addresses(START, other, false));
    assert_eq!(told, peers.sample_addresses(START + 3_600, one, false), "for a day it stays");
    assert_ne!(told, peers.sample_addresses(START + 3 * 24 * 3_600, one, false));
}

#[test]
fn the_node_finds_peers_of_its_own() {
    let mut world = World::of(3);
    for host in [1, 2] {
        assert!(world.hosts[0].peers.add_address(addr(host), false));
    }
    world.run(30_000);
    let kinds: Vec<String> = world.hosts[0].peers.peers().into_iter().map(|row| row.connection_type).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == Kind::Full.name()).count(), 2, "{kinds:?}");
    assert!(world.hosts[0].peers.take_book().is_some());
}

#[test]
fn permissions_are_read_as_operators_write_them() {
    let config = |text: &str| Config { whitelist: vec![Whitelist::parse(text).unwrap()], ..Config::default() };
    let names = |text: &str| config(text).permissions("127.0.0.1".parse().unwrap(), true).names();
    assert_eq!(names("127.0.0.1"), ["noban", "relay", "mempool", "download"]);
    assert_eq!(names("noban,in,out@127.0.0.1"), ["noban", "download"]);
    assert_eq!(names("forcerelay@127.0.0.0/8"), ["forcerelay", "relay"]);
    assert_eq!(names("all@127.0.0.1"), Permissions::ALL.names());
    assert_eq!(names("out,all@127.0.0.1"), [""; 0]);
    let bind = Permissions::of_bind("bloomfilter,forcerelay@127.0.0.1:1");
    assert_eq!(bind, Ok((Permissions::BLOOM.and(Permissions::FORCE_RELAY), "127.0.0.1:1")));
    assert!(Permissions::of_bind("noban,out@127.0.0.1:1").is_err());
    assert_eq!(Whitelist::parse("oopsie@127.0.0.1"), Err("Invalid P2P permission: 'oopsie'".to_owned()));
    assert_eq!(
        Whitelist::parse("noban@127.0.0.1:230"),
        Err("Invalid netmask specified in -whitelist: '127.0.0.1:230'".to_owned())
    );
}

#[test]
fn seeds_are_asked_where_few_addresses_are_known() {
    let none = Config { connect: Some(Vec::new()), ..Config::default() };
    let asks = |seeds: Vec<String>| Config { seeds, ..Config::default() };
    let mut world = World::new(vec![asks(vec!["nowhere.example".to_owned(), addr(1).to_string()]), none.clone(), none]);
    // It looks at the clock.
    world.input(1, Input::Wake);
    for host in 0..60 {
        let known = format!("{}.7.7.7:18444", 30 + host).parse().unwrap();
        world.hosts[1].peers.add_address(known, false);
    }
    world.run(60_000);
    let log = &world.hosts[0].log;
    assert!(log.iter().any(|line| line.starts_with("Loading addresses from seed nowhere.example:18444")), "{log:?}");
    assert!(log.iter().any(|line| line.contains("addrfetch connection completed")), "{log:?}");
    assert!(!world.hosts[0].peers.known_addresses(0).is_empty(), "it heard of others");
    // Nobody is asked twice.
    let asked = |world: &World| world.hosts[0].log.iter().filter(|line| line.contains("from seed")).count();
    world.run(60_000);
    assert_eq!(asked(&world), 2);
}
