//! The server, from requests to responses, over a node on a network of its own.

mod calls;
mod methods;
mod wallets;
mod world;
