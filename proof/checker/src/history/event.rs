//! One line.

use serde::Deserialize;
use serde_json::Value as Json;

use super::HistoryError;

/// What a line reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A process asks.
    Invoke,
    /// It was answered.
    Ok,
    /// It certainly had no effect.
    Fail,
    /// Nobody knows.
    Info,
    /// What was there before.
    Init,
    /// What a reader finds at the end.
    Final,
    /// A session was notified.
    Event,
}

/// A line, read.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) line: usize,
    pub(crate) moment: u64,
    pub(crate) kind: Kind,
    pub(crate) process: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) f: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) path: Option<String>,
    /// Present and null is a value: nothing.
    pub(crate) value: Option<Json>,
    pub(crate) time: Option<u64>,
    pub(crate) zxid: Option<u64>,
    pub(crate) version: Option<i64>,
    pub(crate) cversion: Option<i64>,
    pub(crate) children: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) created: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) ephemeral: bool,
    pub(crate) sequential: bool,
    pub(crate) watch: bool,
    pub(crate) swapped: Option<bool>,
    pub(crate) exists: Option<bool>,
    pub(crate) ops: Option<Vec<Json>>,
    pub(crate) results: Option<Vec<Json>>,
}

/// The line as JSON has it. Fields that are not named here are let pass: histories carry notes of their own.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: Kind,
    process: Option<Json>,
    session: Option<Json>,
    owner: Option<Json>,
    f: Option<String>,
    key: Option<Json>,
    path: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Json>,
    time: Option<u64>,
    zxid: Option<u64>,
    version: Option<i64>,
    cversion: Option<i64>,
    children: Option<u64>,
    error: Option<String>,
    created: Option<String>,
    event: Option<String>,
    #[serde(default)]
    ephemeral: bool,
    #[serde(default)]
    sequential: bool,
    #[serde(default)]
    watch: bool,
    swapped: Option<bool>,
    exists: Option<bool>,
    ops: Option<Vec<Json>>,
    results: Option<Vec<Json>>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl Event {
    pub(crate) fn parse(line: usize, text: &str) -> Result<Self, HistoryError> {
        let raw: Raw = serde_json::from_str(text).map_err(|error| {
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            let what = format!("{what} (column {})", error.column());
            HistoryError::new(line, what, "write one JSON object a line, as docs/check-format.md shows")
        })?;
        let name = |field: &str, json: Option<Json>| match json {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(Json::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(HistoryError::new(
                line,
                format!("\"{field}\" is neither a number nor a text"),
                "give it a plain name",
            )),
        };
        Ok(Self {
            line,
            moment: 0,
            kind: raw.kind,
            process: name("process", raw.process)?,
            session: name("session", raw.session)?,
            owner: name("owner", raw.owner)?,
            f: raw.f,
            key: name("key", raw.key)?,
            path: raw.path,
            value: raw.value,
            time: raw.time,
            zxid: raw.zxid,
            version: raw.version,
            cversion: raw.cversion,
            children: raw.children,
            error: raw.error,
            created: raw.created,
            event: raw.event,
            ephemeral: raw.ephemeral,
            sequential: raw.sequential,
            watch: raw.watch,
            swapped: raw.swapped,
            exists: raw.exists,
            ops: raw.ops,
            results: raw.results,
        })
    }

    /// The session, or the process that stands for it.
    pub(crate) fn session_name(&self) -> Option<String> {
        self.session.clone().or_else(|| self.process.clone())
    }
}
