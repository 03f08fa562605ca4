//! Round trips of every record, and decoding of arbitrary bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..8).prop_map(|chars| chars.into_iter().collect())
}

fn round<'a, T: Decode<'a> + Encode + PartialEq + std::fmt::Debug>(value: &T, buffer: &'a mut Vec<u8>) {
    value.encode(buffer);
    let mut reader = Reader::new(buffer);
    assert_eq!(&T::decode(&mut reader).expect("what was written reads"), value);
    assert!(reader.is_empty(), "all of it was read");
}

#[test]
fn numbers_are_those_of_the_protocol() {
    assert_eq!(OpCode::from_number(107), Some(OpCode::WhoAmI));
    assert_eq!(OpCode::from_number(10), None);
    assert_eq!(OpCode::CreateSession.number(), -10);
    assert_eq!(OpCode::CloseSession.number(), -11);
    assert_eq!(ErrorCode::QuotaExceeded.number(), -125);
    for op in OpCode::ALL {
        assert_eq!(OpCode::from_number(op.number()), Some(*op));
    }
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
    }
    for kind in EventType::ALL {
        assert_eq!(EventType::from_number(kind.number()), Some(*kind));
    }
    assert_eq!(CreateMode::from_number(7), None);
}

#[test]
fn connect_with_and_without_the_last_byte() {
    let body = ConnectBody { protocol: 0, last_zxid_seen: 7, timeout: 4000, session: 9, password: Some(&[1; 16]) };
    for read_only in [None, Some(false), Some(true)] {
        round(&ConnectRequest { body: body.clone(), read_only }, &mut Vec::new());
    }
    let body = ConnectResponseBody { protocol: 0, timeout: 4000, session: 9, password: Some(&[1; 16]) };
    for read_only in [None, Some(false), Some(true)] {
        round(&ConnectResponse { body: body.clone(), read_only }, &mut Vec::new());
    }
}

/// The bytes that a 3.8.0 client puts on the wire for `create("/a", b"x", OPEN, EPHEMERAL)`.
#[test]
fn create_is_written_as_the_java_client_does() {
    let request = CreateRequest { path: "/a", data: Some(b"x"), acl: vec![Acl::OPEN], flags: 1 };
    let mut expected = vec![0, 0, 0, 2, b'/', b'a', 0, 0, 0, 1, b'x', 0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 5];
    expected.extend_from_slice(b"world");
    expected.extend_from_slice(&[0, 0, 0, 6]);
    expected.extend_from_slice(b"anyone");
    expected.extend_from_slice(&[0, 0, 0, 1]);
    assert_eq!(request.to_bytes(), expected);
}

#[test]
fn a_multi_holds_only_what_may_be_in_it() {
    let read = Request::Multi(vec![Request::GetData(PathWatch { path: "/a", watch: false })]).to_bytes();
    assert_eq!(decode_request(14, &read), Err(DecodeError::UnknownNumber(4)));
    assert!(decode_request(22, &read).is_ok());
    let nested = Request::Multi(vec![Request::Multi(vec![])]).to_bytes();
    assert_eq!(decode_request(14, &nested), Err(DecodeError::UnknownNumber(14)));
}

proptest! {
    #[test]
    fn records_round_trip(
        a in text(), b in text(), data in proptest::option::of(vec(any::<u8>(), 0..20)), number in any::<i32>(),
        long in any::<i64>(), flag in any::<bool>(), list in vec(text(), 0..4),
    ) {
        let (a, b, data) = (a.as_str(), b.as_str(), data.as_deref());
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let acl = vec![Acl { perms: number, id: Id { scheme: a, id: b } }, Acl::OPEN];
        let stat = Stat { czxid: long, mzxid: 2, ctime: 3, mtime: 4, version: number, cversion: 6, aversion: 7,
            ephemeral_owner: long, data_length: 9, num_children: 10, pzxid: 11 };
        let v = &mut Vec::new;
        round(&RequestHeader { xid: number, op: 4 }, &mut v());
        round(&ReplyHeader { xid: number, zxid: long, err: -101 }, &mut v());
        round(&MultiHeader { op: number, done: flag, err: 0 }, &mut v());
        round(&Create2Response { path: a, stat: stat.clone() }, &mut v());
        round(&StatResponse { stat: stat.clone() }, &mut v());
        round(&GetDataResponse { data, stat: stat.clone() }, &mut v());
        round(&GetAclResponse { acl: acl.clone(), stat: stat.clone() }, &mut v());
        round(&Strings { list: list.clone() }, &mut v());
        round(&GetChildren2Response { children: list.clone(), stat }, &mut v());
        round(&CountResponse { count: number }, &mut v());
        round(&WhoAmIResponse { ids: vec![Id { scheme: a, id: b }] }, &mut v());
        round(&ErrorResponse { err: number }, &mut v());
        round(&WatcherEvent { kind: number, state: 3, path: a }, &mut v());
        let watch = PathWatch { path: a, watch: flag };
        let only = PathOnly { path: a };
        let version = PathVersion { path: a, version: number };
        let create = CreateRequest { path: a, data, acl: acl.clone(), flags: number };
        let removal = WatchRemoval { path: a, kind: number };
        let writes = vec![
            Request::Create(OpCode::Create, create.clone()), Request::Create(OpCode::Create2, create.clone()),
            Request::Create(OpCode::CreateContainer, create),
            Request::CreateTtl(CreateTtlRequest { path: a, data, acl: acl.clone(), flags: number, ttl: long }),
            Request::Delete(version.clone()), Request::Check(version),
            Request::SetData(SetDataRequest { path: a, data, version: number }),
        ];
        let mut all = writes.clone();
        all.extend([
            Request::Multi(writes), Request::DeleteContainer(only.clone()), Request::Exists(watch.clone()),
            Request::GetData(watch.clone()), Request::GetAcl(only.clone()),
            Request::SetAcl(SetAclRequest { path: a, acl, version: number }), Request::GetChildren(watch.clone()),
            Request::GetChildren2(watch.clone()), Request::GetEphemerals(only.clone()),
            Request::GetAllChildrenNumber(only.clone()), Request::Sync(only),
            Request::MultiRead(vec![Request::GetData(watch.clone()), Request::GetChildren(watch)]),
            Request::Reconfig(ReconfigRequest { joining: a, leaving: b, members: "", config: long }),
            Request::Auth(AuthPacket { kind: 0, scheme: a, auth: data }), Request::Sasl(SaslToken { token: data }),
            Request::SetWatches(SetWatches { relative_zxid: long, data: list.clone(), exist: vec![a], child: vec![] }),
            Request::SetWatches2(SetWatches2 { relative_zxid: long, data: vec![], exist: list, child: vec![b],
                persistent: vec![a], persistent_recursive: vec![b, a] }),
            Request::AddWatch(AddWatch { path: a, mode: number }), Request::CheckWatches(removal.clone()),
            Request::RemoveWatches(removal), Request::WhoAmI, Request::Ping, Request::CloseSession,
        ]);
        for request in all {
            let bytes = request.to_bytes();
            prop_assert_eq!(decode_request(request.op().number(), &bytes), Ok(request));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), tame in vec(0u8..4, 0..200)) {
        for bytes in [&bytes, &tame] {
            for op in OpCode::ALL {
                // A result either way is right; what must not happen is a panic.
                if let Ok(request) = decode_request(op.number(), bytes) {
                    prop_assert!(request.to_bytes().len() <= bytes.len() + 16);
                }
            }
            let _ = ConnectRequest::from_bytes(bytes);
            let _ = ConnectResponse::from_bytes(bytes);
        }
    }
}
