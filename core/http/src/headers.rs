//! A request's header fields, in their order (RFC 9110 §5).
//!
//! Names are compared without regard to case (§5.1). Values are bytes: what is above ASCII has no meaning of HTTP's own
//! (§5.5). They share the head's one buffer.

use bytes::Bytes;

/// The header fields of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Bytes, Bytes)>);

impl Headers {
    pub(crate) fn push(&mut self, name: Bytes, value: Bytes) {
        self.0.push((name, value));
    }

    /// All of them, as they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (str::from_utf8(name).expect("a name is a token, hence ASCII"), &value[..]))
    }

    /// Every value of this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(field, _): &&(Bytes, Bytes)| field.eq_ignore_ascii_case(name.as_bytes());
        self.0.iter().filter(named).map(|(_, value)| &value[..])
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of this name, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// The elements of a list, over all fields of this name; empty ones do not count (§5.6.1).
    pub fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let elements = self.all(name).flat_map(|value| value.split(|byte| *byte == b','));
        elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
    }

    /// True if a list has this element, in any case.
    #[must_use]
    pub fn lists(&self, name: &str, element: &str) -> bool {
        self.list(name).any(|listed| listed.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
