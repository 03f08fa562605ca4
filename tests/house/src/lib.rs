//! Nothing but tests: that the house stands as `ARCHITECTURE.md` draws it.

#![forbid(unsafe_code)]
