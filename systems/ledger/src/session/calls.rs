//! Where answers go: to a place in a response by HTTP, or to a WebSocket.
//!
//! The requests of a batch are answered together, in their order, when the last of them is.

use std::collections::BTreeMap;

use verity_http::{Frame, RequestNumber, Response};
use verity_types::ConnId;

use crate::wire::{Id, RpcError, answer, refusal};

/// Who is to be answered.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) conn: ConnId,
    pub(super) id: Id,
    pub(super) way: Way,
}

/// By which way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// The request, and the place in its batch.
    Http(RequestNumber, usize),
    Socket,
}

/// The answers to one request by HTTP.
#[derive(Debug)]
struct Batch {
    answers: Vec<Option<String>>,
    /// It came as a URI: errors have a status.
    by_uri: bool,
    failed: bool,
}

/// Requests by HTTP that are not answered whole.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: BTreeMap<(ConnId, RequestNumber), Batch>,
}

/// What is to be written.
pub(super) enum Delivery {
    Nothing,
    Respond(RequestNumber, Response),
    Send(Frame),
}

/// JSON with a status.
pub(super) fn json_response(status: u16, body: String) -> Response {
    Response::new(status).body("application/json", body)
}

impl Batches {
    /// So many calls of a request are to be answered.
    pub(super) fn open(&mut self, conn: ConnId, number: RequestNumber, count: usize, by_uri: bool) {
        assert!(count > 0, "a request without calls is answered at once");
        self.open.insert((conn, number), Batch { answers: vec![None; count], by_uri, failed: false });
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.open.retain(|(of, _), _| *of != conn);
    }

    /// Takes an answer.
    pub(super) fn deliver(&mut self, call: &Call, result: Result<String, RpcError>) -> Delivery {
        let failed = result.is_err();
        let text = match result {
            Ok(result) => answer(&call.id, &result),
            Err(error) => refusal(&call.id, &error),
        };
        let (number, place) = match call.way {
            Way::Socket => return Delivery::Send(Frame::text(&text)),
            Way::Http(number, place) => (number, place),
        };
        let key = (call.conn, number);
        let Some(batch) = self.open.get_mut(&key) else { return Delivery::Nothing };
        batch.answers[place] = Some(text);
        batch.failed |= failed;
        if batch.answers.iter().any(Option::is_none) {
            return Delivery::Nothing;
        }
        let batch = self.open.remove(&key).expect("it was there");
        let status = if batch.by_uri && batch.failed { 500 } else { 200 };
        let mut answers: Vec<String> = batch.answers.into_iter().flatten().collect();
        let body = if answers.len() == 1 { answers.remove(0) } else { format!("[{}]", answers.join(",")) };
        Delivery::Respond(number, json_response(status, body))
    }
}
