//! The stack that a script works on.
//!
//! Places are counted from the top, which is 0. An operation that finds too few elements fails before it changes any.

use super::{ScriptError, number};

/// Elements, the top one last.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack {
    elements: Vec<Vec<u8>>,
}

impl Stack {
    pub(super) fn new(elements: Vec<Vec<u8>>) -> Self {
        Self { elements }
    }

    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn push(&mut self, element: Vec<u8>) {
        self.elements.push(element);
    }

    pub(super) fn push_bool(&mut self, value: bool) {
        self.push(if value { vec![1] } else { Vec::new() });
    }

    pub(super) fn push_number(&mut self, value: i64) {
        self.push(number::encode(value));
    }

    pub(super) fn pop(&mut self) -> Result<Vec<u8>, ScriptError> {
        self.elements.pop().ok_or(ScriptError::InvalidStackOperation)
    }

    /// Fails unless so many elements are there.
    pub(super) fn need(&self, count: usize) -> Result<(), ScriptError> {
        if self.len() < count { Err(ScriptError::InvalidStackOperation) } else { Ok(()) }
    }

    /// The element at this place.
    pub(super) fn peek(&self, place: usize) -> Result<&[u8], ScriptError> {
        Ok(&self.elements[self.index(place)?])
    }

    /// Takes so many elements off.
    pub(super) fn drop_top(&mut self, count: usize) -> Result<(), ScriptError> {
        self.need(count)?;
        self.elements.truncate(self.len() - count);
        Ok(())
    }

    /// Pushes copies of `count` elements, of which the deepest is at `place`.
    pub(super) fn copy(&mut self, place: usize, count: usize) -> Result<(), ScriptError> {
        let first = self.index(place)?;
        self.elements.extend_from_within(first..first + count);
        Ok(())
    }

    /// Moves `count` elements, of which the deepest is at `place`, to the top.
    pub(super) fn raise(&mut self, place: usize, count: usize) -> Result<(), ScriptError> {
        let first = self.index(place)?;
        self.elements[first..].rotate_left(count);
        Ok(())
    }

    /// Puts a copy of the top behind the element below it.
    pub(super) fn tuck(&mut self) -> Result<(), ScriptError> {
        let (below, top) = (self.index(1)?, self.peek(0)?.to_vec());
        self.elements.insert(below, top);
        Ok(())
    }

    /// Takes the element at this place out.
    pub(super) fn remove(&mut self, place: usize) -> Result<Vec<u8>, ScriptError> {
        let index = self.index(place)?;
        Ok(self.elements.remove(index))
    }

    /// Fails unless the top is there and true.
    pub(super) fn ends_true(&self) -> Result<(), ScriptError> {
        if self.elements.last().is_some_and(|top| number::is_true(top)) { Ok(()) } else { Err(ScriptError::EvalFalse) }
    }

    /// Leaves the deepest element alone: what a witness decided has a clean stack.
    pub(super) fn keep_one(&mut self) {
        self.elements.truncate(1);
    }

    fn index(&self, place: usize) -> Result<usize, ScriptError> {
        let above = place.checked_add(1).ok_or(ScriptError::InvalidStackOperation)?;
        self.len().checked_sub(above).ok_or(ScriptError::InvalidStackOperation)
    }
}
