//! What no file tests by itself.
