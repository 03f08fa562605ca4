//! A client in miniature: raw packets out, replies and events in.

use bytes::Bytes;
use verity_contract::SessionInput;
use verity_types::ConnId;

use super::world::{World, peer};
use crate::wire::{
    Acl, ConnectBody, ConnectRequest, ConnectResponse, CreateRequest, Decode as _, Encode, GetDataResponse, OpCode,
    PathOnly, PathVersion, PathWatch, Reader, ReplyHeader, RequestHeader, SetDataRequest, WatcherEvent,
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) node: usize,
    pub(crate) conn: ConnId,
    pub(crate) session: i64,
    pub(crate) password: [u8; 16],
    pub(crate) timeout: i32,
}

/// A reply or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Reply { xid: i32, zxid: i64, err: i32, body: Vec<u8> },
    Event { kind: i32, path: String },
}

impl Got {
    pub(crate) fn ok(self) -> Vec<u8> {
        let Self::Reply { err: 0, body, .. } = self else { panic!("no success: {self:?}") };
        body
    }
}

pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as i32).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

pub(crate) fn hello(session: i64, password: &[u8], timeout: i32, last_zxid: i64, read_only: bool) -> Vec<u8> {
    let body = ConnectBody { protocol: 0, last_zxid_seen: last_zxid, timeout, session, password: Some(password) };
    framed(&ConnectRequest { body, read_only: Some(read_only) }.to_bytes())
}

pub(crate) fn packet(xid: i32, op: OpCode, body: &impl Encode) -> Vec<u8> {
    let mut out = RequestHeader { xid, op: op.number() }.to_bytes();
    body.encode(&mut out);
    framed(&out)
}

pub(crate) fn create(path: &str, flags: i32) -> CreateRequest<'_> {
    CreateRequest { path, data: Some(b"d"), acl: vec![Acl::OPEN], flags }
}

impl World {
    pub(crate) fn send(&mut self, client: Client, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.input(client.node, SessionInput::Bytes { conn: client.conn, bytes });
    }

    pub(crate) fn dial(&mut self, node: usize) -> Client {
        let conn = self.open(node, peer(0));
        Client { node, conn, session: 0, password: [0; 16], timeout: 0 }
    }

    pub(crate) fn hang_up(&mut self, client: Client) {
        self.nodes[client.node].closed.insert(client.conn);
        self.input(client.node, SessionInput::Closed { conn: client.conn });
    }

    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.nodes[client.node].closed.contains(&client.conn)
    }

    pub(crate) fn text(&mut self, client: Client) -> String {
        String::from_utf8(std::mem::take(self.nodes[client.node].output.get_mut(&client.conn).unwrap())).unwrap()
    }

    fn whole(&mut self, client: Client) -> Vec<Vec<u8>> {
        let bytes = std::mem::take(self.nodes[client.node].output.get_mut(&client.conn).unwrap());
        let mut rest = &bytes[..];
        let mut list = Vec::new();
        while !rest.is_empty() {
            let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            list.push(rest[4..4 + size].to_vec());
            rest = &rest[4 + size..];
        }
        list
    }

    /// The answer to a connect: session, password, timeout, read-only.
    pub(crate) fn greeting(&mut self, client: Client) -> (Client, Option<bool>) {
        let list = self.whole(client);
        assert_eq!(list.len(), 1, "one greeting");
        let response = ConnectResponse::from_bytes(&list[0]).unwrap();
        let password = response.body.password.unwrap().try_into().unwrap();
        let client = Client { session: response.body.session, password, timeout: response.body.timeout, ..client };
        (client, response.read_only)
    }

    pub(crate) fn connect_with(&mut self, node: usize, hello: &[u8]) -> Client {
        let client = self.dial(node);
        self.send(client, hello);
        self.settle();
        self.greeting(client).0
    }

    /// A client with a new session.
    pub(crate) fn connect(&mut self, node: usize) -> Client {
        let client = self.connect_with(node, &hello(0, &[0; 16], 10_000, 0, false));
        assert_ne!(client.session, 0);
        client
    }

    pub(crate) fn got(&mut self, client: Client) -> Vec<Got> {
        let list = self.whole(client);
        list.iter()
            .map(|bytes| {
                let mut reader = Reader::new(bytes);
                let header = ReplyHeader::decode(&mut reader).unwrap();
                if header.xid == -1 {
                    assert_eq!((header.zxid, header.err), (-1, 0));
                    let event = WatcherEvent::decode(&mut reader).unwrap();
                    assert!(event.state == 3 && reader.is_empty());
                    return Got::Event { kind: event.kind, path: event.path.to_owned() };
                }
                Got::Reply { xid: header.xid, zxid: header.zxid, err: header.err, body: reader.rest().to_vec() }
            })
            .collect()
    }

    /// Sends one request and takes the one answer.
    pub(crate) fn ask(&mut self, client: Client, op: OpCode, body: &impl Encode) -> Got {
        self.send(client, &packet(77, op, body));
        self.settle();
        let mut got = self.got(client);
        assert_eq!(got.len(), 1, "{got:?}");
        let got = got.remove(0);
        assert!(matches!(got, Got::Reply { xid: 77, .. }));
        got
    }

    pub(crate) fn err(&mut self, client: Client, op: OpCode, body: &impl Encode) -> i32 {
        let Got::Reply { err, .. } = self.ask(client, op, body) else { panic!("an event") };
        err
    }

    pub(crate) fn make(&mut self, client: Client, path: &str) {
        self.ask(client, OpCode::Create, &create(path, 0)).ok();
    }

    pub(crate) fn set(&mut self, client: Client, path: &str, data: &[u8]) {
        self.ask(client, OpCode::SetData, &SetDataRequest { path, data: Some(data), version: -1 }).ok();
    }

    pub(crate) fn delete(&mut self, client: Client, path: &str) {
        self.ask(client, OpCode::Delete, &PathVersion { path, version: -1 }).ok();
    }

    pub(crate) fn data(&mut self, client: Client, path: &str) -> Vec<u8> {
        let body = self.ask(client, OpCode::GetData, &PathWatch { path, watch: false }).ok();
        GetDataResponse::from_bytes(&body).unwrap().data.unwrap_or_default().to_vec()
    }

    pub(crate) fn watch(&mut self, client: Client, op: OpCode, path: &str) -> i32 {
        self.err(client, op, &PathWatch { path, watch: true })
    }

    pub(crate) fn exists(&mut self, client: Client, path: &str) -> bool {
        self.watch_free(client, path) == 0
    }

    fn watch_free(&mut self, client: Client, path: &str) -> i32 {
        self.err(client, OpCode::Exists, &PathWatch { path, watch: false })
    }

    pub(crate) fn sync(&mut self, client: Client, xid: i32) {
        self.send(client, &packet(xid, OpCode::Sync, &PathOnly { path: "/" }));
    }
}

pub(crate) fn events(got: &[Got]) -> Vec<(i32, &str)> {
    got.iter()
        .filter_map(|got| match got {
            Got::Event { kind, path } => Some((*kind, path.as_str())),
            Got::Reply { .. } => None,
        })
        .collect()
}

pub(crate) fn xids(got: &[Got]) -> Vec<i32> {
    got.iter()
        .map(|got| match got {
            Got::Event { .. } => -1,
            Got::Reply { xid, .. } => *xid,
        })
        .collect()
}
