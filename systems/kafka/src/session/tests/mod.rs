//! The session against real machines.

mod coordination_access;
mod groups;
mod metadata;
mod offsets;
pub(super) mod records;
pub(super) mod rig;
mod transactions;
/// Asks, and takes the answer apart.
macro_rules! ask {
    ($rig:expr, $conn:expr, $version:expr, $name:ident, $request:expr) => {
        match $rig.ask($conn, $version, &$crate::wire::Request::$name($request)) {
            $crate::wire::Response::$name(response) => response,
            other => panic!("{other:?}"),
        }
    };
}

mod access;
mod admin;
mod configs;
mod moves;
mod sasl;
mod shares;
mod telemetry;
