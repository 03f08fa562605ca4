//! Round trips, and bytes that no honest peer sends.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn tx(seed: u8) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(bitcoin::Txid::from_byte_array([seed; 32]), u32::from(seed)),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![seed; 3]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(u64::from(seed)), script_pubkey: ScriptBuf::from(vec![seed; 4]) }],
    }
}

fn header() -> Header {
    genesis_block(Network::Regtest).header
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Place::V4(Ipv4Addr::from(octets))),
        any::<[u8; 14]>().prop_map(|tail| {
            let mut octets = [0x20; 16];
            octets[2..].copy_from_slice(&tail);
            Place::V6(Ipv6Addr::from(octets))
        }),
        any::<[u8; 32]>().prop_map(Place::Tor),
        any::<[u8; 32]>().prop_map(Place::I2p),
        any::<[u8; 15]>().prop_map(|tail| {
            let mut octets = [0xfc; 16];
            octets[1..].copy_from_slice(&tail);
            Place::Cjdns(octets)
        }),
    ]
}

fn peer_address() -> impl Strategy<Value = PeerAddress> {
    (any::<u32>(), any::<u64>(), place(), any::<u16>()).prop_map(|(time, services, place, port)| PeerAddress {
        time,
        services: Services(services),
        addr: NetAddress { place, port },
    })
}

fn old_form(mut addr: PeerAddress) -> PeerAddress {
    if !addr.addr.fits_old_form() {
        addr.addr.place = Place::V4(Ipv4Addr::new(1, 2, 3, 4));
    }
    addr
}

fn inventory() -> impl Strategy<Value = Inventory> {
    let item = prop_oneof![
        Just(Item::Tx),
        Just(Item::Block),
        Just(Item::FilteredBlock),
        Just(Item::CompactBlock),
        Just(Item::Wtx),
        Just(Item::WitnessTx),
        Just(Item::WitnessBlock),
        Just(Item::Unknown(77)),
    ];
    (item, any::<[u8; 32]>()).prop_map(|(item, hash)| Inventory { item, hash })
}

fn hash() -> impl Strategy<Value = BlockHash> {
    any::<[u8; 32]>().prop_map(BlockHash::from_byte_array)
}

fn locator() -> impl Strategy<Value = Locator> {
    (vec(hash(), 0..110), hash()).prop_map(|(hashes, stop)| Locator { hashes, stop })
}

fn version() -> impl Strategy<Value = Message> {
    (any::<u32>(), any::<u64>(), 0..i64::MAX, any::<u64>(), "[a-zA-Z0-9:./ ]{0,256}", any::<i32>(), any::<bool>())
        .prop_map(|(version, services, time, nonce, user_agent, height, relay)| {
            Message::Version(Version {
                version,
                services: Services(services),
                time,
                receiver_services: Services(1),
                receiver: NetAddress { place: Place::V4(Ipv4Addr::LOCALHOST), port: 18_444 },
                nonce,
                user_agent,
                height,
                relay,
            })
        })
}

fn compact() -> impl Strategy<Value = Message> {
    (any::<u64>(), vec(0..1_u64 << 48, 0..40), vec((any::<u16>(), any::<u8>()), 0..5)).prop_map(
        |(nonce, names, prefilled)| {
            let prefilled =
                prefilled.into_iter().map(|(gap, seed)| Prefilled { gap, tx: Arc::new(tx(seed)) }).collect();
            Message::CompactBlock(CompactBlock { header: header(), nonce, names, prefilled })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let places = proptest::collection::btree_set(any::<u16>(), 0..50);
    prop_oneof![
        version(),
        compact(),
        Just(Message::Verack),
        Just(Message::GetAddr),
        Just(Message::Mempool),
        Just(Message::SendHeaders),
        (any::<u8>(), any::<u64>()).prop_map(|(announce, version)| Message::SendCompact { announce, version }),
        vec(peer_address().prop_map(old_form), 0..20).prop_map(Message::Addr),
        vec(peer_address(), 0..20).prop_map(|list| Message::AddrV2(list, 0)),
        vec(inventory(), 0..40).prop_map(Message::Inv),
        vec(inventory(), 0..40).prop_map(Message::GetData),
        vec(inventory(), 0..40).prop_map(Message::NotFound),
        locator().prop_map(Message::GetBlocks),
        locator().prop_map(Message::GetHeaders),
        (0..9_usize).prop_map(|count| Message::Headers(vec![header(); count])),
        any::<u8>().prop_map(|seed| Message::Tx { tx: Arc::new(tx(seed)), witness: true }),
        any::<u64>().prop_map(|nonce| Message::Ping(Some(nonce))),
        any::<u64>().prop_map(|nonce| Message::Pong(Some(nonce))),
        any::<i64>().prop_map(Message::FeeFilter),
        (hash(), places).prop_map(|(block, places)| {
            Message::GetBlockTxns(GetBlockTxns { block, places: places.into_iter().collect() })
        }),
        (hash(), vec(any::<u8>(), 0..5)).prop_map(|(block, seeds)| {
            Message::BlockTxns(BlockTxns { block, txs: seeds.into_iter().map(|seed| Arc::new(tx(seed))).collect() })
        }),
        (any::<u8>(), any::<u32>(), hash()).prop_map(|(kind, start, stop)| Message::GetFilters(FilterRange {
            kind,
            start,
            stop
        })),
        (any::<u8>(), hash(), any::<[u8; 32]>(), vec(any::<[u8; 32]>(), 0..9))
            .prop_map(|(kind, stop, prev, hashes)| Message::FilterHeaders { kind, stop, prev, hashes }),
        (any::<u8>(), hash(), vec(any::<u8>(), 0..300)).prop_map(|(kind, block, content)| Message::Filter {
            kind,
            block,
            content
        }),
        (vec(any::<u8>(), 0..300), any::<u32>(), any::<u32>(), any::<u8>())
            .prop_map(|(bits, hashes, tweak, flags)| Message::FilterLoad { bits, hashes, tweak, flags }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(message in message()) {
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(message.command(), &bytes).unwrap(), message.clone());
        // What is not there cannot be read, but for fields that came later.
        for cut in 0..bytes.len() {
            if let Ok(short) = Message::decode(message.command(), &bytes[..cut]) {
                prop_assert!(matches!(short, Message::Version(_) | Message::Pong(None) | Message::Ping(None)));
            }
        }
        let longer = [&bytes[..], b"more"].concat();
        prop_assert_eq!(Message::decode(message.command(), &longer).unwrap(), message);
    }

    #[test]
    fn no_content_breaks_a_decoder(message in message(), noise in vec(any::<u8>(), 0..400), at in any::<proptest::sample::Index>()) {
        let _ = Message::decode(message.command(), &noise);
        let mut bytes = message.encode();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= 0x55;
            let _ = Message::decode(message.command(), &bytes);
        }
    }

    #[test]
    fn streams_are_cut_wherever_they_are_split(messages in vec(message(), 1..6), piece in 1..500_usize) {
        let magic = [1, 2, 3, 4];
        let bytes: Vec<u8> =
            messages.iter().flat_map(|message| encode_frame(magic, message.command(), &message.encode())).collect();
        let (mut decoder, mut got) = (Decoder::new(magic), Vec::new());
        for chunk in bytes.chunks(piece) {
            let mut rest = chunk;
            while let Some(frame) = decoder.next(&mut rest).unwrap() {
                prop_assert_eq!(&frame.skip, &None);
                got.push(Message::decode(&frame.command, &frame.payload).unwrap());
            }
            prop_assert!(rest.is_empty());
        }
        prop_assert_eq!(got, messages);
    }
}

#[test]
fn counts_are_checked_before_memory_is_taken() {
    for command in ["inv", "addr", "addrv2", "headers", "getblocktxn", "blocktxn", "cmpctblock"] {
        let bytes = [&[0_u8; 0][..], &[0xfe, 0xff, 0xff, 0xff, 0x01]].concat();
        assert!(Message::decode(command, &bytes).is_err(), "{command}");
    }
    assert_eq!(Message::decode("inv", &[0xfd, 1, 0]), Err(DecodeError::NonCanonical));
    assert_eq!(Message::decode("inv", &[0xfe, 0xff, 0xff, 0xff, 0x7f]), Err(DecodeError::TooMany));
}

#[test]
fn addresses_of_unknown_networks_are_skipped_and_of_wrong_size_refused() {
    let entry =
        |network: u8, size: u8| [&[1, 0, 0, 0, 0, network, size][..], &vec![9; usize::from(size)], &[0, 8]].concat();
    let two = [&[2][..], &entry(1, 4), &entry(0xaa, 17)].concat();
    let Message::AddrV2(known, unknown) = Message::decode("addrv2", &two).unwrap() else { panic!() };
    assert_eq!((known.len(), unknown), (1, 1));
    assert!(Message::decode("addrv2", &[&[1][..], &entry(1, 5)].concat()).is_err());
    let large = [&[1, 1, 0, 0, 0, 0, 0xaa, 0xfd, 1, 2][..], &[0; 513], &[0, 8]].concat();
    assert!(Message::decode("addrv2", &large).is_err());
}

#[test]
fn transactions_without_witnesses_lose_them_alone() {
    let tx = Arc::new(tx(5));
    let bytes = Message::Tx { tx: Arc::clone(&tx), witness: false }.encode();
    let Message::Tx { tx: back, .. } = Message::decode("tx", &bytes).unwrap() else { panic!() };
    assert_eq!(back.compute_txid(), tx.compute_txid());
    assert!(back.input[0].witness.is_empty());
}

fn block(count: u8) -> bitcoin::Block {
    let mut block = genesis_block(Network::Regtest);
    block.txdata.extend((1..count).map(|seed| {
        let mut tx = tx(seed);
        tx.input[0].witness = Witness::new();
        tx
    }));
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

fn known(block: &bitcoin::Block, places: &[usize]) -> Vec<(bitcoin::Wtxid, Arc<Transaction>)> {
    places.iter().map(|place| (block.txdata[*place].compute_wtxid(), Arc::new(block.txdata[*place].clone()))).collect()
}

#[test]
fn a_block_is_put_together_from_what_is_known_and_what_was_asked_for() {
    let block = block(6);
    let compact = CompactBlock::new(&block, 42);
    let mut partial = Partial::new(&compact).unwrap();
    partial.fill(known(&block, &[2, 4]).iter().map(|(wtxid, tx)| (*wtxid, tx)));
    assert_eq!((partial.missing(), partial.found), (vec![1, 3, 5], 2));
    let is_announced = |built: &bitcoin::Block| built.check_merkle_root();
    let missing: Vec<_> = known(&block, &[1, 3, 5]).into_iter().map(|(_, tx)| tx).collect();
    assert_eq!(partial.clone().complete(&missing, is_announced), Ok(block.clone()));
    assert_eq!(partial.clone().complete(&missing[..2], is_announced), Err(Reconstruction::Invalid));
    let wrong = [&missing[..2], &missing[..1]].concat();
    assert_eq!(partial.complete(&wrong, is_announced), Err(Reconstruction::Failed));
}

#[test]
fn places_out_of_range_and_names_that_meet_are_told_apart() {
    let mut compact = CompactBlock::new(&block(4), 1);
    compact.names[1] = compact.names[0];
    assert_eq!(Partial::new(&compact).unwrap_err(), Reconstruction::Failed);
    let mut compact = CompactBlock::new(&block(4), 1);
    compact.prefilled[0].gap = 4;
    assert_eq!(Partial::new(&compact).unwrap_err(), Reconstruction::Invalid);
    compact.prefilled[0].gap = 3;
    assert!(Partial::new(&compact).is_ok());
    (compact.names, compact.prefilled) = (Vec::new(), Vec::new());
    assert_eq!(Partial::new(&compact).unwrap_err(), Reconstruction::Invalid);
}

#[test]
fn a_transaction_of_nothing_is_one() {
    let bytes = [2, 0, 0, 0, 0, 0, 7, 0, 0, 0];
    let Ok(Message::Tx { tx, .. }) = Message::decode("tx", &bytes) else { panic!("it is read") };
    assert_eq!((tx.input.len(), tx.output.len(), tx.lock_time.to_consensus_u32()), (0, 0, 7));
    assert!(Message::decode("tx", &bytes[..9]).is_err());
}
