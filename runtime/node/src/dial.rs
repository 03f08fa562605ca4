//! Connections that a service asks for, to peers beyond the cluster.
//!
//! - upon a dial: the name is looked up and its addresses are tried in order, within [`DIAL_WAIT`] in all; the service hears of
//!   the connection, or why there is none.
//!
//! Deliberately absent: trying again, and who is worth it. The service knows.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use verity_contract::{Door, SessionInput};
use verity_replica::{Input, ServiceId};
use verity_types::Token;

use crate::conn::{self, ClientStream, PeerAddr};
use crate::core::Shared;
use crate::task;

/// A connection is there within this, or is given up.
const DIAL_WAIT: Duration = Duration::from_secs(5);

/// Whom a service wants.
pub(crate) struct Dial {
    pub(crate) service: ServiceId,
    pub(crate) token: Token,
    pub(crate) addr: String,
    pub(crate) door: Door,
}

/// Connects, unless a fault is in the way: then it takes as long as there is.
async fn connect(shared: &Shared, addr: &str) -> io::Result<TcpStream> {
    if addr.parse().is_ok_and(|addr| shared.is_cut_off(addr)) {
        std::future::pending::<()>().await;
    }
    TcpStream::connect(addr).await
}

/// Begins to connect.
pub(crate) fn start(shared: &Shared, dial: Dial) {
    let shared = shared.clone();
    task::spawn(&shared.alarm(), async move {
        let Dial { service, token, addr, door } = dial;
        let connected = tokio::time::timeout(DIAL_WAIT, connect(&shared, &addr)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match connected.and_then(|tcp| Ok((tcp.peer_addr()?, tcp))) {
            Ok((addr, tcp)) => {
                // As for those that come in.
                let _ = tcp.set_nodelay(true);
                let local = tcp.local_addr().ok();
                let peer = PeerAddr { addr, local, certificate: None, dialed: Some(token) };
                conn::serve(shared, service, door, ClientStream::Plain(tcp), peer).await;
            }
            Err(error) => {
                let input = SessionInput::Dialed { token, result: Err(error.to_string()) };
                shared.input(Input::Session { service, input });
            }
        }
    });
}
