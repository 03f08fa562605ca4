//! Who wants to hear of which events (CometBFT `rpc/core/events.go`, `types/event_bus.go`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use verity_types::ConnId;

use crate::wire::{Id, QUERY_SIZE_MAX, Query, Tags, answer};

/// `max_subscription_clients`, `max_subscriptions_per_client`.
const CLIENTS_MAX: usize = 100;
const PER_CLIENT_MAX: usize = 5;
/// `tm.event`.
const EVENT: &str = "tm.event";

#[derive(Debug)]
struct Subscription {
    /// What its request was called; its events are called so, too.
    id: Id,
    text: String,
    query: Query,
}

/// All subscriptions of a node.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_conn: BTreeMap<ConnId, Vec<Subscription>>,
}

/// A block's events, as the state gives them.
#[derive(Deserialize)]
struct Events<'a> {
    #[serde(borrow)]
    block: &'a RawValue,
    #[serde(borrow)]
    header: &'a RawValue,
    #[serde(borrow)]
    events: &'a RawValue,
    tags: Tags,
    #[serde(borrow)]
    txs: Vec<TxEvent<'a>>,
}

#[derive(Deserialize)]
struct TxEvent<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    tags: Tags,
}

fn parse(text: &str) -> Result<Query, String> {
    Query::parse(text).map_err(|error| format!("failed to parse query: {error}"))
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.by_conn.is_empty()
    }

    pub(super) fn subscribe(&mut self, conn: ConnId, id: Id, text: String) -> Result<(), String> {
        let own = self.by_conn.get(&conn).map_or(0, Vec::len);
        if own == 0 && self.by_conn.len() >= CLIENTS_MAX {
            return Err(format!("max_subscription_clients {CLIENTS_MAX} reached"));
        }
        if own >= PER_CLIENT_MAX {
            return Err(format!("max_subscriptions_per_client {PER_CLIENT_MAX} reached"));
        }
        if text.len() > QUERY_SIZE_MAX {
            return Err("maximum query length exceeded".to_owned());
        }
        let query = parse(&text)?;
        let list = self.by_conn.entry(conn).or_default();
        if list.iter().any(|subscription| subscription.query == query) {
            return Err("already subscribed".to_owned());
        }
        list.push(Subscription { id, text, query });
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, text: &str) -> Result<(), String> {
        let query = parse(text)?;
        let list = self.by_conn.get_mut(&conn).ok_or("subscription not found")?;
        let at = list.iter().position(|subscription| subscription.query == query).ok_or("subscription not found")?;
        list.remove(at);
        if list.is_empty() {
            self.by_conn.remove(&conn);
        }
        Ok(())
    }

    pub(super) fn unsubscribe_all(&mut self, conn: ConnId) -> Result<(), String> {
        self.by_conn.remove(&conn).map(drop).ok_or_else(|| "subscription not found".to_owned())
    }

    /// What a block's events are to whom.
    pub(super) fn publish(&self, json: &[u8]) -> Vec<(ConnId, String)> {
        let events: Events<'_> = serde_json::from_slice(json).expect("the state wrote it");
        let named = |name: &str, tags: &Tags| {
            let mut tags = tags.clone();
            tags.entry(EVENT.to_owned()).or_default().push(name.to_owned());
            tags
        };
        let mut all = vec![
            (named("NewBlock", &events.tags), events.block),
            (named("NewBlockHeader", &Tags::new()), events.header),
            (named("NewBlockEvents", &events.tags), events.events),
        ];
        all.extend(events.txs.iter().map(|tx| (named("Tx", &tx.tags), tx.data)));
        let mut out = Vec::new();
        for (tags, data) in &all {
            for (conn, list) in &self.by_conn {
                for subscription in list.iter().filter(|subscription| subscription.query.matches(tags)) {
                    let query = serde_json::Value::from(subscription.text.as_str());
                    let tags = serde_json::to_string(tags).expect("it is plain data");
                    let event = format!("{{\"query\":{query},\"data\":{},\"events\":{tags}}}", data.get());
                    out.push((*conn, answer(&subscription.id, &event)));
                }
            }
        }
        out
    }
}
