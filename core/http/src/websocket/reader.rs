//! Frames of a client, put together to messages (RFC 6455 §5, §8.1).
//!
//! - upon a reserved bit, a reserved opcode, a frame without mask, or a length that has a shorter form: 1002 (§5.1, §5.2).
//! - upon a control frame in fragments, or with more than 125 bytes: 1002 (§5.5). One may come between fragments (§5.4).
//! - upon a continuation of nothing, or a new message inside of another: 1002 (§5.4).
//! - upon text, or a close reason, that is not UTF-8: 1007 (§8.1). Text is judged when the message is whole.
//! - upon more than `message_bytes_max`: 1009, when a frame's head says so (§7.4.1).
//! - upon a close frame with one byte, or a code that is not sent: 1002 (§5.5.1, §7.4).

use bytes::{Buf, Bytes};

use super::frame::{CONTROL_BYTES_MAX, CloseReason, FIN, MASKED, Message, Opcode, close_code};
use crate::Refusal;

/// Two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

fn protocol_error(why: &'static str) -> Refusal {
    Refusal::Frame { code: close_code::PROTOCOL_ERROR, why }
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Payload {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// How much of it has come.
    done: usize,
    length: usize,
}

/// Reads frames.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    head: [u8; HEAD_BYTES_MAX],
    head_length: usize,
    payload: Option<Payload>,
    /// The payload of a control frame.
    control: Vec<u8>,
    /// A message whose last fragment has not come: what it is, and its beginning.
    message: Option<(Opcode, Vec<u8>)>,
}

impl Reader {
    /// True if nothing is half read.
    pub(crate) fn is_empty(&self) -> bool {
        self.head_length == 0 && self.payload.is_none() && self.message.is_none()
    }

    pub(crate) fn bytes_held(&self) -> usize {
        self.message.as_ref().map_or(0, |(_, bytes)| bytes.len())
    }

    /// Takes bytes from `input` up to the end of a message; the message, once it is whole.
    pub(crate) fn take(&mut self, input: &mut Bytes, message_bytes_max: usize) -> Result<Option<Message>, Refusal> {
        while !input.is_empty() {
            if self.payload.is_none() && !self.take_head(input, message_bytes_max)? {
                return Ok(None);
            }
            let payload = self.payload.as_mut().expect("the head was read");
            let kept = match &mut self.message {
                Some((_, bytes)) if !payload.opcode.is_control() => bytes,
                _ => &mut self.control,
            };
            take_payload(payload, input, kept);
            if payload.done < payload.length {
                return Ok(None);
            }
            let (fin, opcode) = (payload.fin, payload.opcode);
            self.payload = None;
            if opcode.is_control() {
                return control(opcode, std::mem::take(&mut self.control)).map(Some);
            }
            if fin {
                let (opcode, bytes) = self.message.take().expect("a data frame is part of a message");
                return data(opcode, bytes).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads a frame's head; true once it is whole, and what it says is allowed.
    fn take_head(&mut self, input: &mut Bytes, message_bytes_max: usize) -> Result<bool, Refusal> {
        loop {
            let wanted = head_length(&self.head[..self.head_length]);
            if self.head_length == wanted {
                break;
            }
            let Some(byte) = input.first() else { return Ok(false) };
            self.head[self.head_length] = *byte;
            self.head_length += 1;
            input.advance(1);
        }
        let head = &self.head[..std::mem::take(&mut self.head_length)];
        let payload = parse_head(head)?;
        self.admit(payload, message_bytes_max)?;
        self.payload = Some(payload);
        Ok(true)
    }

    /// Checks a frame's place in its message, and its length.
    fn admit(&mut self, payload: Payload, message_bytes_max: usize) -> Result<(), Refusal> {
        if payload.opcode.is_control() {
            return match payload {
                Payload { fin: false, .. } => Err(protocol_error("a control frame is fragmented")),
                Payload { length, .. } if length > CONTROL_BYTES_MAX => {
                    Err(protocol_error("a control frame has more than 125 bytes"))
                }
                _ => Ok(()),
            };
        }
        let so_far = match (payload.opcode, &self.message) {
            (Opcode::Continuation, Some((_, bytes))) => bytes.len(),
            (Opcode::Continuation, None) => return Err(protocol_error("a continuation of no message")),
            (_, Some(_)) => return Err(protocol_error("a message begins inside of another")),
            (_, None) => 0,
        };
        if payload.length > message_bytes_max - so_far {
            return Err(Refusal::Frame { code: close_code::MESSAGE_TOO_BIG, why: "the message is too large" });
        }
        if payload.opcode != Opcode::Continuation {
            self.message = Some((payload.opcode, Vec::new()));
        }
        Ok(())
    }
}

/// How long a head is that begins like this.
fn head_length(head: &[u8]) -> usize {
    match head.get(1) {
        None => 2,
        Some(byte) => {
            let mask = if byte & MASKED == 0 { 0 } else { 4 };
            match byte & !MASKED {
                126 => 4 + mask,
                127 => 10 + mask,
                _ => 2 + mask,
            }
        }
    }
}

fn parse_head(mut head: &[u8]) -> Result<Payload, Refusal> {
    let (first, second) = (head.get_u8(), head.get_u8());
    if first & 0x70 != 0 {
        return Err(protocol_error("a reserved bit is set"));
    }
    let Some(opcode) = Opcode::from_bits(first & 0x0f) else { return Err(protocol_error("the opcode is reserved")) };
    if second & MASKED == 0 {
        return Err(protocol_error("a client's frame is not masked"));
    }
    let (length, least) = match second & !MASKED {
        126 => (u64::from(head.get_u16()), 126),
        127 => (head.get_u64(), 0x1_0000),
        short => (u64::from(short), 0),
    };
    if length < least || length >> 63 != 0 {
        return Err(protocol_error("the length is not in its shortest form"));
    }
    let mask = head.get_u32().to_be_bytes();
    // A length beyond this machine's memory is beyond every bound.
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Payload { fin: first & FIN != 0, opcode, mask, done: 0, length })
}

/// Moves what there is of the payload to the end of `kept`, without its mask (RFC 6455 §5.3).
fn take_payload(payload: &mut Payload, input: &mut Bytes, kept: &mut Vec<u8>) {
    let count = input.len().min(payload.length - payload.done);
    let begin = kept.len();
    kept.extend_from_slice(&input[..count]);
    input.advance(count);
    let mut mask = payload.mask;
    mask.rotate_left(payload.done % 4);
    payload.done += count;
    let mut words = kept[begin..].chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

fn data(opcode: Opcode, bytes: Vec<u8>) -> Result<Message, Refusal> {
    match opcode {
        Opcode::Text => String::from_utf8(bytes).map(Message::Text).map_err(|_| not_utf8("text that is not UTF-8")),
        _ => Ok(Message::Binary(bytes.into())),
    }
}

fn control(opcode: Opcode, bytes: Vec<u8>) -> Result<Message, Refusal> {
    match opcode {
        Opcode::Ping => return Ok(Message::Ping(bytes.into())),
        Opcode::Pong => return Ok(Message::Pong(bytes.into())),
        _ => assert!(opcode == Opcode::Close, "there are three control frames"),
    }
    let Some((code, reason)) = bytes.split_at_checked(2) else {
        return match bytes.is_empty() {
            true => Ok(Message::Close(None)),
            false => Err(protocol_error("a close frame has one byte")),
        };
    };
    let code = u16::from_be_bytes(code.try_into().expect("two bytes"));
    if !close_code::is_sent(code) {
        return Err(protocol_error("a close code that is not sent"));
    }
    let reason = str::from_utf8(reason).map_err(|_| not_utf8("a close reason that is not UTF-8"))?;
    Ok(Message::Close(Some(CloseReason { code, reason: reason.into() })))
}

fn not_utf8(why: &'static str) -> Refusal {
    Refusal::Frame { code: close_code::INVALID_PAYLOAD, why }
}
