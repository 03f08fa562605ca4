//! What becomes of a whole node when something in it fails, or is made to stand still.
//!
//! The nodes here host no group; the service at their door does what the test needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use verity_clock::Now;
use verity_contract::{Door, Service, SessionInput, SessionOutput};
use verity_node::{AskError, DoorSpec, Faults, NodeError, NodeHandle, NodeSpec, start};
use verity_replica::ServiceFactory;
use verity_storage::{ClusterId, MemoryDisk};
use verity_types::{ConnId, NodeId, Token};

const LONG: Duration = Duration::from_secs(3600);
/// Longer than a machine that is busy with other things takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers bytes with themselves, and panics at an exclamation mark.
struct Echo;

impl Service for Echo {
    fn on(&mut self, _now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        if let SessionInput::Bytes { conn, bytes } = input {
            assert!(!bytes.contains(&b'!'), "the service cannot be shouted at");
            out.push(SessionOutput::Bytes { conn, bytes });
        }
    }

    fn invariants(&self) {}
}

fn node() -> NodeHandle {
    node_of(Box::new(|_| Box::new(Echo)), BTreeMap::new())
}

fn node_of(service: ServiceFactory, neighbours: BTreeMap<SocketAddr, NodeId>) -> NodeHandle {
    let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let spec = NodeSpec {
        id: NodeId(1),
        cluster: ClusterId([1; 16]),
        disk: Arc::new(MemoryDisk::new()),
        seed: 1,
        log_bytes: 1 << 20,
        peer_addr: Some(free),
        peers: BTreeMap::new(),
        peer_tls: None,
        groups: Vec::new(),
        founder: None,
        services: vec![service],
        outsides: Vec::new(),
        neighbours,
        meters: Vec::new(),
        counts: Vec::new(),
        doors: vec![DoorSpec { service: 0, door: Door(0), addr: free, tls: None }],
    };
    start(spec).expect("the node starts")
}

fn client(node: &NodeHandle) -> TcpStream {
    let stream = TcpStream::connect(node.doors[0]).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn echo(stream: &mut TcpStream) {
    stream.write_all(b"x").expect("it is connected");
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).expect("the service answers");
    assert_eq!(&answer, b"x");
}

#[test]
fn a_panic_in_a_connection_stops_the_node_and_says_why() {
    let node = node();
    let (mut quiet, mut loud) = (client(&node), client(&node));
    echo(&mut quiet);
    loud.write_all(b"!").expect("it is connected");
    // The node ends all its connections when it stops; until then this one would wait.
    assert_eq!(quiet.read(&mut [0; 1]).expect("it is closed, not left waiting"), 0);
    let door = node.doors[0];
    let Err(NodeError::Fatal(reason)) = node.stop() else { panic!("the node must say why it stopped") };
    assert!(reason.contains("the service cannot be shouted at"), "{reason}");
    assert!(TcpStream::connect(door).is_err(), "nobody listens for a node that is none");
}

#[tokio::test]
async fn a_paused_node_says_so_and_goes_on_when_it_is_healed() {
    let node = node();
    let asks = node.client();
    assert_eq!(asks.paused(), None);
    asks.pause(LONG).await.expect("it runs");
    assert!(matches!(asks.status().await, Err(AskError::Paused { left }) if left > LONG / 2));
    asks.go_on();
    assert_eq!(asks.status().await.expect("it goes on").id, NodeId(1));
    node.stop().expect("nothing went wrong");
}

#[tokio::test]
async fn a_paused_node_can_be_stopped() {
    for end in [NodeHandle::stop, NodeHandle::crash] {
        let node = node();
        node.client().pause(LONG).await.expect("it runs");
        end(node).expect("nothing went wrong");
    }
}

/// Hands on what its client sends to whom it dials, and back.
struct Between {
    to: SocketAddr,
    client: Option<ConnId>,
    other: Option<ConnId>,
}

impl Service for Between {
    fn on(&mut self, _now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        match input {
            SessionInput::Opened { conn, .. } => {
                self.client = Some(conn);
                out.push(SessionOutput::Dial { token: Token(1), addr: self.to.to_string(), door: Door(0) });
            }
            SessionInput::Dialed { result, .. } => {
                let (conn, _) = result.expect("somebody listens there");
                self.other = Some(conn);
                let client = self.client.expect("its client came first");
                out.push(SessionOutput::Bytes { conn: client, bytes: "+".into() });
            }
            SessionInput::Bytes { conn, bytes } => {
                let to = if Some(conn) == self.client { self.other } else { self.client };
                out.push(SessionOutput::Bytes { conn: to.expect("both are there"), bytes });
            }
            _ => {}
        }
    }

    fn invariants(&self) {}
}

#[test]
fn a_cut_holds_back_what_services_say_to_nodes_and_loses_nothing() {
    let (to, other) = (node(), NodeId(2));
    let there = to.doors[0];
    let between = Between { to: there, client: None, other: None };
    let node = node_of(Box::new(move |_| Box::new(between)), BTreeMap::from([(there, other)]));
    let mut stream = client(&node);
    stream.read_exact(&mut [0; 1]).expect("the way is there");
    echo(&mut stream);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let set = |faults| runtime.block_on(node.client().set_faults(faults)).expect("the node answers");
    let (one, none) = (BTreeSet::from([other]), BTreeSet::new);
    for (send_cut, receive_cut) in [(one.clone(), none()), (none(), one.clone()), (one.clone(), one)] {
        set(Faults { send_cut, receive_cut, ..Faults::default() });
        stream.write_all(b"abc").expect("it is connected");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
        assert!(stream.read(&mut [0; 1]).is_err(), "nothing comes through");
        set(Faults::default());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut heard = [0; 3];
        stream.read_exact(&mut heard).expect("what was held back comes");
        assert_eq!(&heard, b"abc");
    }
}
