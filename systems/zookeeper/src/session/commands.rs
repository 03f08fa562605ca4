//! `GET /commands/<name>` of ZooKeeper's AdminServer, for doors of that kind.
//!
//! - upon a request for a command: its answer as JSON, by the names and fields of ZooKeeper 3.8; unknown ones say so
//!   in `error`;
//! - upon `/commands`: links to all;
//! - upon a `Host` that is neither an address, `localhost` nor configured: refused, since a page in a browser could
//!   have made the name point here.
//!
//! One request a connection, and nothing but its first line and `Host` is looked at. Deliberately absent: commands that
//! change more than counters and the trace mask.

use bytes::Bytes;
use verity_clock::Now;
use verity_types::{ConnId, NodeId};

use super::conn::{Conn, Phase};
use super::inspect::{Question, Target};
use super::json::Json;
use super::service::ZooKeeper;
use crate::machine::Ensemble;

/// The longest request.
const REQUEST_SIZE_MAX: usize = 8 << 10;

const COMMANDS: [&str; 25] = [
    "configuration",
    "connection_stat_reset",
    "connections",
    "dirs",
    "dump",
    "environment",
    "get_trace_mask",
    "hash",
    "initial_configuration",
    "is_read_only",
    "last_snapshot",
    "leader",
    "monitor",
    "observers",
    "ruok",
    "server_stats",
    "set_trace_mask",
    "stat_reset",
    "stats",
    "system_properties",
    "voting_view",
    "watch_summary",
    "watches",
    "watches_by_path",
    "zabstate",
];

/// The other names that commands go by.
fn full_name(name: &str) -> &str {
    match name {
        "conf" | "config" => "configuration",
        "cons" => "connections",
        "crst" => "connection_stat_reset",
        "envi" | "env" => "environment",
        "gtmk" => "get_trace_mask",
        "icfg" => "initial_configuration",
        "isro" => "is_read_only",
        "lead" => "leader",
        "lsnp" => "last_snapshot",
        "mntr" => "monitor",
        "obsr" => "observers",
        "srst" => "stat_reset",
        "srvr" => "server_stats",
        "stat" => "stats",
        "stmk" => "set_trace_mask",
        "sysp" => "system_properties",
        "wchc" => "watches",
        "wchp" => "watches_by_path",
        "wchs" => "watch_summary",
        other => other,
    }
}

fn response(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The host of a `Host` line, without its port.
fn host_of(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    text.rsplit_once(':').map_or(text, |(host, _)| host)
}

impl ZooKeeper {
    /// Bytes by an admin door.
    pub(super) fn on_admin_bytes(&mut self, now: Now, id: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.phase == Phase::Fresh) else { return };
        if conn.input.len() + bytes.len() > REQUEST_SIZE_MAX {
            return self.close(id);
        }
        conn.input.extend_from_slice(bytes);
        let Some(end) = conn.input.windows(4).position(|four| four == b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&conn.input[..end]).into_owned();
        conn.phase = Phase::Asking;
        let refusal = match self.route(&head) {
            Ok(name) => return self.ask(now, Question::new(Target::Command { conn: id, name })),
            Err(refusal) => refusal,
        };
        self.port.text(id, &refusal);
        self.close(id);
    }

    /// The command that is asked for, or what to say instead.
    fn route(&self, head: &str) -> Result<String, String> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let host = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| host_of(value.trim()).to_owned())
        });
        let known = host.is_none_or(|host| {
            host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || self.config.admin_hosts.contains(&host)
        });
        if !known {
            return Err(response("403 Forbidden", "text/plain", "unknown host\n"));
        }
        if method != "GET" {
            return Err(response("405 Method Not Allowed", "text/plain", "only GET is served\n"));
        }
        let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
        match path.strip_prefix("/commands") {
            Some("" | "/") => {
                let links = COMMANDS.map(|name| format!("<a href=\"/commands/{name}\">{name}</a>\n<br/>\n"));
                Err(response("200 OK", "text/html", &links.concat()))
            }
            Some(rest) => {
                let name = full_name(rest.trim_matches('/'));
                // The one command that takes a parameter; it travels behind the name.
                let mask = parameters.split('&').find_map(|pair| pair.strip_prefix("traceMask="));
                let mask = mask.filter(|mask| name == "set_trace_mask" && mask.parse::<i64>().is_ok());
                Ok(mask.map_or_else(|| name.to_owned(), |mask| format!("{name} {mask}")))
            }
            None => Err(response("404 Not Found", "text/plain", "commands are at /commands\n")),
        }
    }

    /// The response to a command whose question is answered.
    pub(super) fn command(&mut self, now: Now, target: &str, question: &Question) -> String {
        let (name, parameter) = target.split_once(' ').unwrap_or((target, ""));
        let serving = self.has_leader() || self.serves_reads(now);
        let always = matches!(name, "ruok" | "environment" | "system_properties" | "get_trace_mask" | "set_trace_mask");
        let result = if COMMANDS.contains(&name) && (serving || always) {
            self.fields(now, name, parameter, question)
        } else if COMMANDS.contains(&name) {
            Err("This ZooKeeper instance is not currently serving requests".to_owned())
        } else {
            Err(format!("Unknown command: {name}"))
        };
        let (mut fields, error) = match result {
            Ok(fields) => (fields, Json::Null),
            Err(error) => (Vec::new(), Json::Text(error)),
        };
        fields.push(("command".to_owned(), Json::text(name)));
        fields.push(("error".to_owned(), error));
        response("200 OK", "application/json", &format!("{}\n", Json::Map(fields)))
    }

    fn fields(
        &mut self,
        now: Now,
        name: &str,
        parameter: &str,
        question: &Question,
    ) -> Result<Vec<(String, Json)>, String> {
        let json = match name {
            "ruok" => Json::map([]),
            "configuration" => self.configuration(),
            "connections" => Json::map([
                ("connections", Json::List(self.connections(true, true))),
                ("secure_connections", Json::List(self.connections(true, false))),
            ]),
            "connection_stat_reset" => {
                self.reset_connections();
                Json::map([])
            }
            "stat_reset" => {
                self.stats = super::stats::Stats::default();
                Json::map([])
            }
            "dump" => dump(question),
            "dirs" => Json::map([
                ("datadir_size", Json::number(question.facts.snapshot_bytes)),
                ("logdir_size", Json::number(question.facts.log_bytes)),
            ]),
            "environment" => Json::Map(self.environment()),
            "system_properties" => Json::Map(self.environment().split_off(1)),
            "hash" => Json::map([("digests", Json::List(vec![digest(question)]))]),
            "initial_configuration" => {
                let lines: Vec<String> =
                    self.settings().iter().map(|(name, value)| format!("{name}={value}")).collect();
                Json::map([("initial_configuration", Json::text(lines.join("\n")))])
            }
            "last_snapshot" => Json::map([
                ("zxid", Json::text(format!("0x{:x}", question.status.snapshot_zxid))),
                ("timestamp", Json::Int(question.status.snapshot_time / 1000)),
            ]),
            "observers" => observers(question),
            "get_trace_mask" => Json::map([("tracemask", Json::Int(self.trace_mask))]),
            "set_trace_mask" => match parameter.parse() {
                Ok(mask) => {
                    self.trace_mask = mask;
                    Json::map([("tracemask", Json::Int(mask))])
                }
                Err(_) => return Err("setTraceMask requires long traceMask argument".to_owned()),
            },
            "is_read_only" => Json::map([("read_only", Json::Bool(self.serves_reads(now)))]),
            "leader" if self.config.standalone => return Err("server is not initialized".to_owned()),
            "leader" => Json::map([
                ("is_leader", Json::Bool(self.role.leads)),
                ("leader_id", Json::number(self.role.leader.map_or(0, |leader| leader.0))),
            ]),
            "monitor" => Json::Map(self.figures(now, question).into_iter().map(|(n, v)| (n.to_owned(), v)).collect()),
            "server_stats" => self.server_stats(now, question, false),
            "stats" => self.server_stats(now, question, true),
            "voting_view" if self.config.standalone => Json::map([("current_config", Json::map([]))]),
            "voting_view" => Json::map([("current_config", voting_view(question.ensemble.as_ref()))]),
            "watch_summary" => Json::map([
                ("num_connections", Json::count(self.watches.connections())),
                ("num_paths", Json::count(self.watches.paths())),
                ("num_total_watches", Json::count(self.watches.count())),
            ]),
            "watches" => self.watches_by_session(),
            "watches_by_path" => self.watches_by_path(),
            "zabstate" => Json::map([
                ("voting", Json::Bool(!self.has_leader())),
                ("zabstate", Json::text(if self.has_leader() { "BROADCAST" } else { "ELECTION" })),
            ]),
            _ => unreachable!("only listed commands are asked"),
        };
        let Json::Map(fields) = json else { unreachable!("every answer is an object") };
        Ok(fields)
    }

    /// What `envi` says: names and values, the version first.
    pub(super) fn environment(&self) -> Vec<(String, Json)> {
        let all = [
            ("zookeeper.version", self.config.version.as_str()),
            ("os.name", std::env::consts::OS),
            ("os.arch", std::env::consts::ARCH),
            ("verity.version", env!("CARGO_PKG_VERSION")),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), Json::text(value))).collect()
    }

    fn configuration(&self) -> Json {
        let config = &self.config;
        Json::map([
            ("tick_time", Json::Int(i64::from(config.tick_ms))),
            ("max_client_cnxns", Json::count(config.connections_per_address_max)),
            ("min_session_timeout", Json::Int(i64::from(config.timeout_min()))),
            ("max_session_timeout", Json::Int(i64::from(config.timeout_max()))),
            ("server_id", Json::number(config.node.0)),
        ])
    }

    fn connections(&self, detailed: bool, plain: bool) -> Vec<Json> {
        let of_kind = |conn: &Conn| conn.peer.certificate.is_none() == plain;
        self.sorted(of_kind).iter().map(|id| connection(&self.conns[id], detailed)).collect()
    }

    fn server_stats(&self, now: Now, question: &Question, with_clients: bool) -> Json {
        let stats = &self.stats;
        let size = |pick: fn((u64, u64, u64)) -> u64| Json::Int(stats.reply_size.map_or(-1, |s| pick(s).cast_signed()));
        let sizes = Json::map([
            ("last_buffer_size", size(|s| s.0)),
            ("min_buffer_size", size(|s| s.1)),
            ("max_buffer_size", size(|s| s.2)),
        ]);
        let inner = Json::map([
            ("packets_sent", Json::number(stats.sent)),
            ("packets_received", Json::number(stats.received)),
            ("client_response_stats", sizes.clone()),
            ("uptime", Json::number(self.uptime(now))),
            ("server_state", Json::text(self.mode(now))),
            ("last_processed_zxid", Json::Int(question.status.zxid)),
            ("outstanding_requests", Json::count(self.outstanding())),
            ("avg_latency", Json::Float(stats.latency.mean())),
            ("max_latency", Json::number(stats.latency.max)),
            ("min_latency", Json::number(stats.latency.min)),
            ("num_alive_client_connections", Json::count(self.conns.len())),
            ("auth_failed_count", Json::number(stats.auth_failed)),
        ]);
        let mut all = vec![
            ("version".to_owned(), Json::text(&self.config.version)),
            ("read_only".to_owned(), Json::Bool(self.serves_reads(now))),
            ("server_stats".to_owned(), inner),
            ("client_response".to_owned(), sizes),
            ("node_count".to_owned(), Json::Int(question.status.nodes)),
        ];
        if with_clients {
            all.push(("connections".to_owned(), Json::List(self.connections(false, true))));
            all.push(("secure_connections".to_owned(), Json::List(self.connections(false, false))));
        }
        Json::Map(all)
    }

    pub(super) fn uptime(&self, now: Now) -> u64 {
        self.started.map_or(0, |started| now.mono.since(started).as_millis())
    }

    fn watches_by_session(&self) -> Json {
        let text = |path: &Bytes| Json::text(String::from_utf8_lossy(path));
        let rows = self
            .watches
            .by_conn()
            .map(|(id, paths)| (self.conns[&id].session.to_string(), Json::List(paths.keys().map(text).collect())));
        Json::map([("session_id_to_watched_paths", Json::Map(rows.collect()))])
    }

    fn watches_by_path(&self) -> Json {
        let rows = self.watches.by_path().into_iter().map(|(path, conns)| {
            let sessions = conns.iter().map(|id| Json::Int(self.conns[id].session)).collect();
            (String::from_utf8_lossy(path).into_owned(), Json::List(sessions))
        });
        Json::map([("path_to_session_ids", Json::Map(rows.collect()))])
    }

    /// What `mntr` and `monitor` say, in ZooKeeper's names.
    pub(super) fn figures(&self, now: Now, question: &Question) -> Vec<(&'static str, Json)> {
        let (stats, status) = (&self.stats, &question.status);
        let number = Json::number;
        let (last, min, max) = stats.reply_size.unwrap_or_default();
        let latencies = |l: &super::stats::Latency| {
            [Json::Float(l.mean()), number(l.min), number(l.max), number(l.count), number(l.sum)]
        };
        let mut all = vec![
            ("version", Json::text(&self.config.version)),
            ("server_state", Json::text(self.mode(now))),
            ("ephemerals_count", Json::Int(status.ephemerals)),
            ("num_alive_connections", Json::count(self.conns.len())),
            ("avg_latency", Json::Float(stats.latency.mean())),
            ("outstanding_requests", Json::count(self.outstanding())),
            ("znode_count", Json::Int(status.nodes)),
            ("global_sessions", Json::Int(status.sessions)),
            ("last_client_response_size", number(last)),
            ("packets_sent", number(stats.sent)),
            ("packets_received", number(stats.received)),
            ("max_client_response_size", number(max)),
            ("connection_drop_probability", Json::Float(0.0)),
            ("watch_count", Json::count(self.watches.count())),
            ("auth_failed_count", number(stats.auth_failed)),
            ("min_latency", number(stats.latency.min)),
            ("approximate_data_size", Json::Int(status.data_size)),
            ("local_sessions", Json::count(self.locals.len())),
            ("uptime", number(self.uptime(now))),
            ("max_latency", number(stats.latency.max)),
            ("min_client_response_size", number(min)),
            ("bytes_received_count", number(stats.received_bytes)),
            ("connection_rejected", number(stats.rejected)),
            ("connection_drop_count", number(stats.dropped)),
            ("connection_request_count", number(stats.connects)),
            ("connection_revalidate_count", number(stats.revalidated)),
            ("large_requests_rejected", number(stats.too_large)),
            ("node_created_watch_count", number(stats.events[0])),
            ("node_deleted_watch_count", number(stats.events[1])),
            ("node_changed_watch_count", number(stats.events[2])),
            ("node_children_watch_count", number(stats.events[3])),
        ];
        let names = [
            ["avg_readlatency", "min_readlatency", "max_readlatency", "cnt_readlatency", "sum_readlatency"],
            ["avg_updatelatency", "min_updatelatency", "max_updatelatency", "cnt_updatelatency", "sum_updatelatency"],
        ];
        if let Some(since) = self.led_since {
            let count = |learners: bool| Json::count(peers(question, learners).count());
            let led = now.mono.since(since).as_millis();
            all.extend([
                ("learners", Json::count(question.facts.progress.iter().filter(|peer| peer.active).count())),
                ("synced_followers", count(false)),
                ("synced_non_voting_followers", Json::Int(0)),
                ("synced_observers", count(true)),
                ("leader_uptime", number(led)),
            ]);
        }
        let state = match (self.config.standalone, self.role.leads, self.role.votes, self.has_leader()) {
            (true, ..) => None,
            (_, true, ..) => Some("leading - broadcast"),
            (_, _, true, true) => Some("following - broadcast"),
            (_, _, false, true) => Some("observing - broadcast"),
            (_, _, _, false) => Some("looking"),
        };
        all.extend(state.map(|state| ("peer_state", Json::text(state))));
        all.extend(names[0].into_iter().zip(latencies(&stats.read_latency)));
        all.extend(names[1].into_iter().zip(latencies(&stats.write_latency)));
        all
    }
}

/// The peers of a leader that are heard and have everything that is committed.
fn peers(question: &Question, learners: bool) -> impl Iterator<Item = NodeId> + '_ {
    let facts = &question.facts;
    let of_kind = move |node: &NodeId| facts.members.learners.contains(node) == learners;
    facts
        .progress
        .iter()
        .filter(|peer| peer.active && peer.matched >= facts.committed)
        .map(|peer| peer.node)
        .filter(of_kind)
}

fn observers(question: &Question) -> Json {
    let rows: Vec<Json> = peers(question, true).map(|node| Json::map([("sid", Json::number(node.0))])).collect();
    Json::map([("synced_observers", Json::count(rows.len())), ("observers", Json::List(rows))])
}

/// The state as of a transaction. Version 0 says that it is none of ZooKeeper's digests.
fn digest(question: &Question) -> Json {
    Json::map([
        ("zxid", Json::Int(question.status.zxid)),
        ("digest_version", Json::Int(0)),
        ("digest", Json::text(question.facts.digest.to_string())),
    ])
}

fn voting_view(ensemble: Option<&Ensemble>) -> Json {
    let servers = ensemble.map(|ensemble| &ensemble.servers).into_iter().flatten();
    let rows = servers.filter(|(_, server)| !server.observer).map(|(id, server)| {
        let host = server.peer.rsplit_once(':').map_or("", |(host, _)| host);
        let list = |address: String| Json::List(vec![Json::Text(address)]);
        let fields = [
            ("server_addresses", list(server.peer.clone())),
            ("election_addresses", list(format!("{host}:{}", server.election))),
            ("client_address", Json::text(&server.client)),
            ("learner_type", Json::text("participant")),
        ];
        (id.to_string(), Json::map(fields))
    });
    Json::Map(rows.collect())
}

fn connection(conn: &Conn, detailed: bool) -> Json {
    let figures = &conn.figures;
    let mut all = vec![
        ("remote_socket_address".to_owned(), Json::text(conn.peer.addr.to_string())),
        ("interest_ops".to_owned(), Json::Int(i64::from(conn.phase == Phase::Open))),
        ("outstanding_requests".to_owned(), Json::count(conn.slots.len())),
        ("packets_received".to_owned(), Json::number(figures.received)),
        ("packets_sent".to_owned(), Json::number(figures.sent)),
    ];
    if detailed {
        let latency = &figures.latency;
        let more = [
            ("session_id", Json::Int(conn.session)),
            ("established", Json::number(conn.opened_ms)),
            ("session_timeout", Json::Int(i64::from(conn.timeout_ms))),
            ("last_cxid", Json::Int(i64::from(figures.last_xid))),
            ("last_zxid", Json::Int(conn.zxid)),
            ("last_response_time", Json::number(figures.last_reply_ms)),
            ("last_latency", Json::number(figures.last_latency_ms)),
            ("min_latency", Json::number(latency.min)),
            ("avg_latency", Json::number(latency.sum.checked_div(latency.count).unwrap_or(0))),
            ("max_latency", Json::number(latency.max)),
        ];
        all.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    Json::Map(all)
}

fn dump(question: &Question) -> Json {
    let sessions = question.sessions.iter().map(|row| {
        let fields = [("timeout", Json::Int(i64::from(row.timeout_ms))), ("owner", Json::Int(row.owner))];
        (row.session.to_string(), Json::map(fields))
    });
    let ephemerals = question
        .ephemerals
        .iter()
        .map(|(session, paths)| (session.to_string(), Json::List(paths.iter().map(Json::text).collect())));
    Json::map([
        ("sessions", Json::Map(sessions.collect())),
        ("session_id_to_ephemeral_paths", Json::Map(ephemerals.collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, host) in [("a:1", "a"), ("a", "a"), ("127.0.0.1:80", "127.0.0.1"), ("[::1]:80", "::1")] {
            assert_eq!(host_of(text), host);
        }
    }
}
