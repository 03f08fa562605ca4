//! The tree's tests: a rig that speaks its formats, text scenarios, and properties over random histories.

mod capture;
mod properties;
mod rig;
mod scenarios;
mod semantics;
