//! Compared with what other hands wrote.
