//! Configurations as clients see them: each value, where it comes from, and what else it might have come from.
//!
//! Deliberately absent: which keys a client asked for. The session leaves out the others.

use std::collections::BTreeMap;

use super::super::command::Refusal;
use super::super::image::{ClusterImage, ConfigResource};
use super::super::names;
use super::key::{ConfigKey, Mode};
use super::{broker_keys, brokers, find, group_keys, topic_keys};
use crate::wire::ErrorCode;

type Values = BTreeMap<String, String>;

/// Kafka's numbers of where a value comes from.
pub mod source {
    /// Set for the topic.
    pub const TOPIC: i8 = 1;
    /// Set for the node.
    pub const BROKER: i8 = 2;
    /// Set for all nodes.
    pub const CLUSTER: i8 = 3;
    /// From the node's own files.
    pub const STATIC: i8 = 4;
    /// Nothing is set.
    pub const DEFAULT: i8 = 5;
    /// Set for the subscription.
    pub const CLIENT_METRICS: i8 = 7;
    /// Set for the group.
    pub const GROUP: i8 = 8;
}

/// One entry of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The key.
    pub name: String,
    /// What holds; nothing if there is nothing, or if it is not shown.
    pub value: Option<String>,
    /// It cannot be set while nodes run.
    pub read_only: bool,
    /// Where it comes from: one of [`source`].
    pub source: i8,
    /// It is not shown.
    pub sensitive: bool,
    /// Everything that it might have come from, the first that counts first.
    pub synonyms: Vec<Synonym>,
    /// The type, by Kafka's number; 0 if it is not known.
    pub kind: i8,
    /// What it does.
    pub documentation: Option<&'static str>,
}

/// One thing that a value might come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The key there.
    pub name: String,
    /// The value there; nothing if it is not shown.
    pub value: Option<String>,
    /// One of [`source`].
    pub source: i8,
}

/// What is set for nodes: for this one, for all, and in its own files.
struct Layers<'a> {
    node: Option<&'a Values>,
    cluster: Option<&'a Values>,
    own: &'a Values,
}

impl Layers<'_> {
    /// Everything that a key of nodes might come from.
    fn synonyms(&self, name: &str) -> Vec<Synonym> {
        let aliases = brokers::synonyms(name);
        let names: Vec<&str> = if aliases.is_empty() { vec![name] } else { aliases.to_vec() };
        let sensitive = find(broker_keys(), name).is_none_or(ConfigKey::is_sensitive);
        let entry = |name: &str, value: &str, source| Synonym {
            name: name.to_owned(),
            value: (!sensitive).then(|| value.to_owned()),
            source,
        };
        let mut found = Vec::new();
        let layers = [(self.node, source::BROKER), (self.cluster, source::CLUSTER), (Some(self.own), source::STATIC)];
        for (layer, source) in layers {
            let Some(values) = layer else { continue };
            found.extend(names.iter().filter_map(|name| Some(entry(name, values.get(*name)?, source))));
        }
        let defaults = names.iter().filter_map(|name| Some((name, find(broker_keys(), name)?.default?)));
        found.extend(defaults.map(|(name, value)| entry(name, value, source::DEFAULT)));
        let first = found.iter().position(|synonym| synonym.name == name).unwrap_or(found.len());
        found.split_off(first)
    }
}

fn bad<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
}

fn entry(key: &ConfigKey, value: Option<&str>, synonyms: Vec<Synonym>, read_only: bool) -> Described {
    let sensitive = key.is_sensitive();
    Described {
        name: key.name.to_owned(),
        value: value.filter(|_| !sensitive).map(str::to_owned),
        read_only,
        source: synonyms.first().map_or(source::DEFAULT, |synonym| synonym.source),
        sensitive,
        synonyms,
        kind: key.kind as i8,
        documentation: Some(key.documentation),
    }
}

impl ClusterImage {
    /// All of a configuration, as the node with this number sees it that reads `own` from its files.
    ///
    /// # Errors
    /// What Kafka answers if there is no such thing, or if another node is to be asked.
    pub fn describe_config(
        &self,
        resource: &ConfigResource,
        node: i32,
        own: &Values,
    ) -> Result<Vec<Described>, Refusal> {
        let name = resource.name.as_str();
        match resource.kind {
            ConfigResource::TOPIC => {
                names::validate(name)?;
                if self.topic(name).is_none() {
                    return Err(super::super::topics::unknown_topic());
                }
                let set = self.config(resource).map(|set| set.values.clone()).unwrap_or_default();
                Ok(self.describe_topic_config(&set, own))
            }
            ConfigResource::BROKER if name.is_empty() => Ok(self.describe_cluster()),
            ConfigResource::BROKER => match name.parse::<i32>() {
                Ok(id) if id == node => Ok(self.describe_node(node, own)),
                Ok(_) => bad(format!("Unexpected broker id, expected {node} or empty string, but received {name}")),
                Err(_) => bad(format!("Broker id must be an integer, but it is: {name}")),
            },
            ConfigResource::GROUP if name.is_empty() => bad("Group name must not be empty"),
            ConfigResource::GROUP => Ok(self.describe_group(resource)),
            ConfigResource::CLIENT_METRICS if name.is_empty() => {
                bad("Client metrics subscription name must not be empty")
            }
            ConfigResource::CLIENT_METRICS => Ok(self.describe_client_metrics(resource)),
            other => bad(format!("Unsupported resource type: {other}")),
        }
    }

    /// All of the configuration that a topic has, or would have, of which this is set.
    #[must_use]
    pub fn describe_topic_config(&self, set: &Values, own: &Values) -> Vec<Described> {
        let cluster = self.config(&ConfigResource::cluster()).map(|set| &set.values);
        let layers = Layers { node: None, cluster, own };
        let shown = topic_keys().iter().filter(|key| !key.hidden || set.contains_key(key.name));
        let described = shown.map(|key| {
            let value = self.topic_value(set, key.name);
            let mut synonyms: Vec<Synonym> = Vec::new();
            if set.contains_key(key.name) {
                let (name, value) = (key.name.to_owned(), Some(value.to_owned()));
                synonyms.push(Synonym { name, value, source: source::TOPIC });
            }
            // A node's own files have no say in what holds for topics.
            let of_nodes = key.synonym.map(|name| layers.synonyms(name)).unwrap_or_default();
            synonyms.extend(of_nodes.into_iter().filter(|synonym| synonym.source != source::STATIC));
            let read_only = key.mode == Mode::ReadOnly;
            let started = own.get(key.name).filter(|_| read_only);
            if let Some(started) = started {
                // But what all nodes are started with is what holds if nothing is set.
                let (name, value) = (key.name.to_owned(), Some(started.clone()));
                synonyms.push(Synonym { name, value, source: source::DEFAULT });
            }
            let value = started.filter(|_| !set.contains_key(key.name)).map_or(value, String::as_str);
            entry(key, Some(value), synonyms, read_only)
        });
        described.collect()
    }

    fn describe_node(&self, node: i32, own: &Values) -> Vec<Described> {
        let of_node = ConfigResource::new(ConfigResource::BROKER, node.to_string());
        let of_node = self.config(&of_node).map(|set| &set.values);
        let cluster = self.config(&ConfigResource::cluster()).map(|set| &set.values);
        let layers = Layers { node: of_node, cluster, own };
        let mut described: Vec<Described> = Vec::new();
        for key in broker_keys() {
            let synonyms = layers.synonyms(key.name);
            let value = synonyms.first().and_then(|synonym| synonym.value.clone());
            described.push(entry(key, value.as_deref(), synonyms, key.mode == Mode::ReadOnly));
        }
        let set = [of_node, cluster, Some(own)].into_iter().flatten().flat_map(BTreeMap::keys);
        let unknown: std::collections::BTreeSet<&String> =
            set.filter(|name| find(broker_keys(), name).is_none()).collect();
        described.extend(unknown.into_iter().map(|name| Described::unknown(name, layers.synonyms(name))));
        described
    }

    /// Only what is set for all nodes.
    fn describe_cluster(&self) -> Vec<Described> {
        const NONE: &Values = &Values::new();
        let set = self.config(&ConfigResource::cluster()).map_or(NONE, |set| &set.values);
        let layers = Layers { node: None, cluster: Some(set), own: NONE };
        let described = set.iter().map(|(name, value)| {
            let mut synonyms = layers.synonyms(name);
            synonyms.retain(|synonym| synonym.source == source::CLUSTER);
            match find(broker_keys(), name) {
                Some(key) => entry(key, Some(value), synonyms, false),
                None => Described::unknown(name, synonyms),
            }
        });
        described.collect()
    }

    fn describe_group(&self, resource: &ConfigResource) -> Vec<Described> {
        let set = self.config(resource).map(|set| set.values.clone()).unwrap_or_default();
        let described = group_keys().iter().map(|key| {
            let value = self.group_value(&set, key.name);
            let source = if set.contains_key(key.name) { source::GROUP } else { source::DEFAULT };
            let synonym = Synonym { name: key.name.to_owned(), value: Some(value.to_owned()), source };
            entry(key, Some(value), vec![synonym], false)
        });
        described.collect()
    }

    fn describe_client_metrics(&self, resource: &ConfigResource) -> Vec<Described> {
        let set = self.config(resource).map(|set| set.values.clone()).unwrap_or_default();
        let described = set.into_iter().map(|(name, value)| Described {
            name,
            value: Some(value),
            read_only: false,
            source: source::CLIENT_METRICS,
            sensitive: false,
            synonyms: Vec::new(),
            kind: 0,
            documentation: None,
        });
        described.collect()
    }
}

impl Described {
    /// A key of nodes that is in no table: nobody knows whether it may be shown, so it is not.
    fn unknown(name: &str, synonyms: Vec<Synonym>) -> Self {
        Self {
            name: name.to_owned(),
            value: None,
            read_only: true,
            source: synonyms.first().map_or(source::DEFAULT, |synonym| synonym.source),
            sensitive: true,
            synonyms,
            kind: 0,
            documentation: None,
        }
    }
}
