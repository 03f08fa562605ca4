//! One connection, from its first byte to its last.
//!
//! - upon a head and its body: [`Event::Request`]; upon a client that waits before it sends the body: `100 Continue`, unless
//!   an earlier request is still unanswered, or the body comes meanwhile (RFC 9110 §10.1.1).
//! - upon `pipeline_max` unanswered requests: nothing further is read, and the driver is told to pause.
//! - upon a request that asks for WebSocket: once everything before it is answered, [`Event::Upgrade`]. Nothing further is
//!   read before that is answered, since its bytes may be of either protocol (RFC 9110 §7.8).
//! - upon what is refused: once everything before it is answered, [`Event::Refuse`], the response, and the end.
//! - upon a ping: its pong. Upon a close frame: its answer, and the end (RFC 6455 §5.5). Upon a close frame of ours: messages
//!   are dropped until the client's comes (RFC 6455 §1.4).
//!
//! HAZARD: who never answers a request stops the connection. A client that never completes one holds memory up to the bounds
//! until the service closes the connection by its own clock.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::body::BodyReader;
use crate::head::{Head, HeadReader};
use crate::limits::HELD_BYTES_MAX;
use crate::order::{self, Order};
use crate::response::Asked;
use crate::websocket::{Offer, Reader, asks_for_websocket, encode_accept};
use crate::{Frame, Limits, Message, Refusal, Request, RequestNumber, Response, Upgrade, Version};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Room for events that lasts; what a burst takes beyond it is given back.
const EVENTS_KEPT: usize = 16;

/// What follows from bytes and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Write these bytes.
    Write(Bytes),
    /// Close the connection once what was written has left. Nothing comes behind it.
    Close,
    /// Read no further until `Resume`.
    Pause,
    /// Read again.
    Resume,
    /// A request; the service owes a response to it.
    Request(Request),
    /// A request to speak WebSocket; the service owes [`Server::accept_websocket`] or a response.
    Upgrade(Upgrade),
    /// A WebSocket message.
    Message(Message),
    /// The client broke a rule. For the log: the response, or the close frame, and the end come behind it.
    Refuse(Refusal),
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Stage {
    Head(HeadReader),
    Body {
        head: Box<Head>,
        body: BodyReader,
        /// The client waits for [`CONTINUE`].
        waits: bool,
    },
    /// Given out when everything before it is answered.
    Upgrade(Box<(Request, Offer)>),
    /// Given out.
    Upgrading {
        number: RequestNumber,
        key: String,
        keep_alive: bool,
    },
    /// Written when everything before it is answered.
    Refused(Refusal),
    WebSocket {
        reader: Reader,
        /// A close frame of ours is written.
        closing: bool,
    },
    /// Nothing: what comes is dropped.
    Done,
}

/// Bytes that came and are not read yet.
#[derive(Debug, Default)]
struct Input {
    front: Bytes,
    /// Behind `front`.
    back: BytesMut,
}

impl Input {
    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.front = bytes;
        } else {
            self.back.extend_from_slice(&bytes);
        }
    }

    fn len(&self) -> usize {
        self.front.len() + self.back.len()
    }

    /// Sees to it that `front` has what there is; false if there is nothing.
    fn refill(&mut self) -> bool {
        if self.front.is_empty() {
            self.front = self.back.split().freeze();
        }
        self.front.has_remaining()
    }
}

/// The server's end of one connection. Poll it dry after each call.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    /// How a request is refused that is no request.
    refuse: fn(Refusal) -> Response,
    input: Input,
    stage: Stage,
    order: Order,
    paused: bool,
    /// What was not polled yet.
    events: VecDeque<Event>,
}

impl Server {
    /// A connection on which nothing was sent.
    ///
    /// # Panics
    /// If a bound leaves no room for any request.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        limits.check();
        Self {
            limits,
            refuse: |refusal| refusal.response(),
            input: Input::default(),
            stage: Stage::Head(HeadReader::default()),
            order: Order::default(),
            paused: false,
            events: VecDeque::new(),
        }
    }

    /// Has refusals written in the words of the service's own protocol. The connection is closed behind each all the same.
    #[must_use]
    pub fn refusing_by(mut self, refuse: fn(Refusal) -> Response) -> Self {
        self.refuse = refuse;
        self
    }

    /// What follows from what happened, in its order. An answer that is given meanwhile puts its events behind the others.
    pub fn poll(&mut self) -> Option<Event> {
        if self.events.is_empty() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        self.events.pop_front()
    }

    /// Takes bytes of the client, cut anywhere.
    pub fn on_bytes(&mut self, bytes: Bytes) {
        self.input.push(bytes);
        self.advance();
    }

    /// Answers a request. Nothing happens if the connection is closed.
    ///
    /// # Panics
    /// If the request was answered before, or never came.
    pub fn respond(&mut self, number: RequestNumber, response: Response) {
        self.order.answer(number, response, &mut self.events);
        if let Stage::Upgrading { number: asked, keep_alive, .. } = self.stage
            && asked == number
        {
            self.stage = if keep_alive { Stage::Head(HeadReader::default()) } else { Stage::Done };
        }
        self.advance();
    }

    /// Accepts an [`Event::Upgrade`], with one of its subprotocols or none. From here on there are messages.
    ///
    /// # Panics
    /// If the request was answered before, or is none to speak WebSocket.
    pub fn accept_websocket(&mut self, number: RequestNumber, protocol: Option<&str>) {
        match &self.stage {
            Stage::Upgrading { number: asked, key, .. } if *asked == number => {
                self.events.push_back(Event::Write(encode_accept(key, protocol)));
                self.order.take_only(number);
                self.stage = Stage::WebSocket { reader: Reader::default(), closing: false };
            }
            // It went on sending without waiting for the answer.
            Stage::Refused(refusal) => {
                self.order.answer(number, (self.refuse)(*refusal).closing(), &mut self.events);
            }
            Stage::Done => {}
            _ => panic!("request {number} waits for no WebSocket"),
        }
        self.advance();
    }

    /// Sends a frame to a WebSocket. A close frame begins the closing handshake; nothing is sent after it.
    ///
    /// # Panics
    /// If the connection speaks HTTP.
    pub fn send(&mut self, frame: &Frame) {
        match &mut self.stage {
            Stage::WebSocket { closing, .. } => {
                if !*closing {
                    self.events.push_back(Event::Write(frame.bytes.clone()));
                    *closing = frame.closes;
                }
            }
            Stage::Done => {}
            _ => panic!("a frame for a connection that speaks HTTP"),
        }
    }

    /// True if the connection speaks WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        matches!(self.stage, Stage::WebSocket { .. })
    }

    /// True if nothing is half read, and nothing unanswered: what lasts here is the peer's silence.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let between = match &self.stage {
            Stage::Head(head) => head.is_empty(),
            Stage::WebSocket { reader, .. } => reader.is_empty(),
            Stage::Done => true,
            _ => false,
        };
        between && self.order.len() == 0 && self.input.len() == 0 && self.events.is_empty()
    }

    /// How many requests wait for their answer, or for that of one before them.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.order.len()
    }

    /// True if the next byte may be read.
    fn reads(&self) -> bool {
        match self.stage {
            Stage::Head(_) | Stage::Body { .. } => self.order.len() < self.limits.pipeline_max,
            Stage::WebSocket { .. } => true,
            Stage::Upgrade(_) | Stage::Upgrading { .. } | Stage::Refused(_) | Stage::Done => false,
        }
    }

    /// Does what can be done.
    fn advance(&mut self) {
        self.settle();
        while self.reads() && self.input.refill() {
            if let Err(refusal) = self.step() {
                self.stage = Stage::Refused(refusal);
            }
            self.settle();
        }
        if !self.reads() && self.input.len() > HELD_BYTES_MAX && !matches!(self.stage, Stage::Done) {
            self.stage = Stage::Refused(Refusal::Overloaded);
            self.settle();
        }
        if matches!(self.stage, Stage::Done | Stage::Refused(_)) {
            self.input = Input::default();
        }
        let pauses = !self.reads() && self.input.len() > 0;
        if pauses != self.paused && !self.order.is_closed() {
            self.paused = pauses;
            self.events.push_back(if pauses { Event::Pause } else { Event::Resume });
        }
    }

    /// Does what waited for everything before it to be answered.
    fn settle(&mut self) {
        if self.order.is_closed() {
            self.stage = Stage::Done;
        }
        if self.order.len() > 0 {
            return;
        }
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Refused(refusal) => {
                self.events.push_back(Event::Refuse(refusal));
                self.write_refusal(refusal);
                self.order.close(&mut self.events);
            }
            Stage::Upgrade(upgrade) => {
                let (mut request, Offer { key, protocols }) = *upgrade;
                let number = self.order.open(asked(&request));
                request.number = number;
                self.stage = Stage::Upgrading { number, key, keep_alive: request.keep_alive };
                self.events.push_back(Event::Upgrade(Upgrade { request, protocols }));
            }
            Stage::Body { head, body, waits } => {
                if waits {
                    self.events.push_back(Event::Write(Bytes::from_static(CONTINUE)));
                }
                self.stage = Stage::Body { head, body, waits: false };
            }
            other => self.stage = other,
        }
    }

    fn write_refusal(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Frame { code, why } => self.events.push_back(Event::Write(Frame::close(code, why).bytes)),
            _ => {
                let asked = Asked { head_only: false, version: Version::Http11, keep_alive: false };
                order::write((self.refuse)(refusal).closing(), asked, &mut self.events);
            }
        }
    }

    /// Reads up to the end of what is being read, or of the input.
    fn step(&mut self) -> Result<(), Refusal> {
        let (input, limits) = (&mut self.input.front, &self.limits);
        match &mut self.stage {
            Stage::Head(reader) => {
                let Some(head) = reader.take(input, limits)? else { return Ok(()) };
                match BodyReader::new(head.framing) {
                    None => self.on_request(head.request),
                    Some(body) => {
                        let waits = head.expects;
                        self.stage = Stage::Body { head: Box::new(head), body, waits };
                        Ok(())
                    }
                }
            }
            Stage::Body { head, body, waits } => {
                *waits = false;
                let Some(bytes) = body.take(input, limits)? else { return Ok(()) };
                head.request.body = bytes;
                let Stage::Body { head, .. } = std::mem::replace(&mut self.stage, Stage::Done) else {
                    unreachable!("it is a body")
                };
                self.on_request(head.request)
            }
            Stage::WebSocket { reader, closing } => {
                let closing = *closing;
                match reader.take(input, limits.message_bytes_max) {
                    Ok(Some(message)) => self.on_message(message, closing),
                    Ok(None) => {}
                    // What was said last is said.
                    Err(_) if closing => self.order.close(&mut self.events),
                    Err(refusal) => return Err(refusal),
                }
                Ok(())
            }
            Stage::Upgrade(_) | Stage::Upgrading { .. } | Stage::Refused(_) | Stage::Done => {
                unreachable!("nothing is read here")
            }
        }
    }

    fn on_request(&mut self, mut request: Request) -> Result<(), Refusal> {
        if asks_for_websocket(&request) {
            let offer = Offer::of(&request)?;
            self.stage = Stage::Upgrade(Box::new((request, offer)));
            return Ok(());
        }
        request.number = self.order.open(asked(&request));
        self.stage = if request.keep_alive { Stage::Head(HeadReader::default()) } else { Stage::Done };
        self.events.push_back(Event::Request(request));
        Ok(())
    }

    fn on_message(&mut self, message: Message, closing: bool) {
        match &message {
            Message::Close(reason) => {
                if !closing {
                    self.events.push_back(Event::Write(Frame::close_reply(reason.as_ref()).bytes));
                }
                self.events.push_back(Event::Message(message));
                self.order.close(&mut self.events);
            }
            _ if closing => {}
            Message::Ping(payload) => {
                self.events.push_back(Event::Write(Frame::pong(payload).bytes));
                self.events.push_back(Event::Message(message));
            }
            _ => self.events.push_back(Event::Message(message)),
        }
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// If something does not.
    pub fn invariants(&self) {
        self.order.invariants();
        let limits = &self.limits;
        assert!(self.order.len() <= limits.pipeline_max, "requests are bounded");
        assert!(self.input.len() <= HELD_BYTES_MAX, "what waits is bounded");
        assert!(self.input.len() == 0 || !self.reads(), "what can be read is read");
        assert!(!self.order.is_closed() || matches!(self.stage, Stage::Done), "a closed connection reads nothing");
        match &self.stage {
            Stage::Head(head) => assert!(head.bytes_held() <= limits.head_bytes_max, "a head is bounded"),
            Stage::Body { body, .. } => assert!(body.bytes_held() <= limits.body_bytes_max, "a body is bounded"),
            Stage::WebSocket { reader, .. } => {
                assert!(reader.bytes_held() <= limits.message_bytes_max, "a message is bounded");
            }
            Stage::Upgrading { .. } => assert!(self.order.len() == 1, "it alone is unanswered"),
            Stage::Upgrade(_) | Stage::Refused(_) => assert!(self.order.len() > 0, "it waits for something"),
            Stage::Done => {}
        }
    }
}

fn asked(request: &Request) -> Asked {
    Asked { head_only: request.method == "HEAD", version: request.version, keep_alive: request.keep_alive }
}
