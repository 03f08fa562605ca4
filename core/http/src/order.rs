//! Responses in the order of their requests (RFC 9112 §9.3.2).
//!
//! - upon a request: it gets the next number and a place at the end.
//! - upon an answer: it waits until all places before it are answered.
//! - upon a response behind which the connection ends: every later place is given up; what is answered to them is dropped.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::response::Asked;
use crate::{Event, RequestNumber, Response};

/// A body up to this size leaves in one piece with its head; a larger one is not copied.
const JOINED_BYTES_MAX: usize = 4 << 10;

#[derive(Debug)]
struct Place {
    asked: Asked,
    answer: Option<Response>,
}

/// The requests of a connection whose responses have not left.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Place>,
    closed: bool,
}

impl Order {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next request's place.
    pub(crate) fn open(&mut self, asked: Asked) -> RequestNumber {
        assert!(!self.closed, "nothing is asked on a closed connection");
        let number = self.first + u64::try_from(self.places.len()).expect("places are bounded");
        self.places.push_back(Place { asked, answer: None });
        RequestNumber(number)
    }

    /// Puts an answer into its place and what may leave now into `out`.
    pub(crate) fn answer(&mut self, number: RequestNumber, response: Response, out: &mut VecDeque<Event>) {
        if self.closed {
            return;
        }
        let place = number.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let place = place.and_then(|at| self.places.get_mut(at)).filter(|place| place.answer.is_none());
        place.unwrap_or_else(|| panic!("request {number} waits for no answer")).answer = Some(response);
        while let Some(Place { answer: Some(_), .. }) = self.places.front() {
            let place = self.places.pop_front().expect("there is a first place");
            self.first += 1;
            let response = place.answer.expect("it is answered");
            let closes = response.closes(place.asked);
            write(response, place.asked, out);
            if closes {
                self.close(out);
                return;
            }
        }
    }

    /// Takes the only place away: what is written next is no response.
    pub(crate) fn take_only(&mut self, number: RequestNumber) {
        assert!(self.places.len() == 1 && number.0 == self.first, "request {number} is the only one");
        self.places.clear();
        self.first += 1;
    }

    /// Ends the connection behind what was written.
    pub(crate) fn close(&mut self, out: &mut VecDeque<Event>) {
        if !self.closed {
            self.closed = true;
            self.first += u64::try_from(self.places.len()).expect("places are bounded");
            self.places.clear();
            out.push_back(Event::Close);
        }
    }

    pub(crate) fn invariants(&self) {
        assert!(self.places.front().is_none_or(|place| place.answer.is_none()), "what is answered and first has left");
        assert!(!self.closed || self.places.is_empty(), "a closed connection owes nothing");
    }
}

/// Puts a response into `out`.
pub(crate) fn write(response: Response, asked: Asked, out: &mut VecDeque<Event>) {
    let (mut head, body) = response.encode(asked);
    let rest = if body.len() <= JOINED_BYTES_MAX {
        head.extend_from_slice(&body);
        Bytes::new()
    } else {
        body
    };
    out.extend([head.freeze(), rest].into_iter().filter(|bytes| !bytes.is_empty()).map(Event::Write));
}
