//! What runs between `OP_IF` and `OP_ENDIF`.
//!
//! A tapscript may open millions of conditions. All that ever matters is whether one of them is false, and which was so
//! first: two numbers, and each opcode takes the same time however deep it stands.

/// The conditions that are open.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    depth: usize,
    /// How many are open around the outermost false one. What lies inside of it never runs, so its values are not kept.
    first_false: Option<usize>,
}

impl Conditions {
    /// True if what follows runs.
    pub(super) fn all_true(&self) -> bool {
        self.first_false.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// Upon `OP_IF`.
    pub(super) fn open(&mut self, value: bool) {
        if !value && self.first_false.is_none() {
            self.first_false = Some(self.depth);
        }
        self.depth += 1;
    }

    /// Upon `OP_ELSE`: turns the innermost. False if none is open.
    pub(super) fn turn(&mut self) -> bool {
        let Some(innermost) = self.depth.checked_sub(1) else { return false };
        match self.first_false {
            None => self.first_false = Some(innermost),
            Some(at) if at == innermost => self.first_false = None,
            Some(_) => {}
        }
        true
    }

    /// Upon `OP_ENDIF`: closes the innermost. False if none is open.
    pub(super) fn close(&mut self) -> bool {
        let Some(innermost) = self.depth.checked_sub(1) else { return false };
        self.depth = innermost;
        if self.first_false == Some(innermost) {
            self.first_false = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Conditions;

    proptest! {
        /// The two numbers say what a list of all values would.
        #[test]
        fn two_numbers_are_enough(deeds in proptest::collection::vec(0..4u8, 0..200)) {
            let (mut conditions, mut list) = (Conditions::default(), Vec::new());
            for deed in deeds {
                match deed {
                    0 | 1 => {
                        conditions.open(deed == 1);
                        list.push(deed == 1);
                    }
                    2 => {
                        prop_assert_eq!(conditions.turn(), !list.is_empty());
                        if let Some(last) = list.last_mut() {
                            *last = !*last;
                        }
                    }
                    _ => prop_assert_eq!(conditions.close(), list.pop().is_some()),
                }
                prop_assert_eq!(conditions.all_true(), list.iter().all(|value| *value));
                prop_assert_eq!(conditions.is_empty(), list.is_empty());
            }
        }
    }
}
