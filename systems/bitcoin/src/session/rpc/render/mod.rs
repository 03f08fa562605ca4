//! How scripts, transactions and blocks look in JSON.

pub(crate) mod codec;
pub(crate) mod script;
pub(crate) mod transaction;
