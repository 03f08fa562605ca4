//! Peers.

use std::net::{IpAddr, SocketAddr};

use super::blocks::warnings;
use crate::session::p2p::{AddNode, PeerInfo, Subnet, Which};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::json::Json;
use crate::session::rpc::{Outcome, Wait};

/// As which version of the network's nodes we answer.
const CLIENT_VERSION: u32 = 310_000;
const PROTOCOL_VERSION: u32 = 70_016;
/// Upload is counted by days.
const CYCLE_SECONDS: u32 = 24 * 60 * 60;
/// The bit of nodes that speak the v2 transport.
const NODE_P2P_V2: u64 = 1 << 11;
const NETWORKS: [&str; 5] = ["ipv4", "ipv6", "onion", "i2p", "cjdns"];

fn service_names(services: u64) -> Json {
    let name = |bit: u32| match bit {
        0 => "NETWORK".to_string(),
        2 => "BLOOM".to_string(),
        3 => "WITNESS".to_string(),
        6 => "COMPACT_FILTERS".to_string(),
        10 => "NETWORK_LIMITED".to_string(),
        11 => "P2P_V2".to_string(),
        bit => format!("UNKNOWN[2^{bit}]"),
    };
    Json::arr((0..64).filter(|bit| services >> bit & 1 == 1).map(name))
}

fn network_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// The network that an address is part of; of a name, nothing is known.
fn network_name(addr: &str) -> &'static str {
    let parsed = addr.parse::<SocketAddr>().map(|addr| addr.ip()).or_else(|_| addr.parse::<IpAddr>());
    match parsed {
        Ok(ip) if ip.is_loopback() || ip.is_unspecified() => "not_publicly_routable",
        Ok(ip) if is_private(ip) => "not_publicly_routable",
        Ok(ip) => network_of(ip),
        Err(_) if addr.contains(".onion") => "onion",
        Err(_) if addr.contains(".b32.i2p") => "i2p",
        Err(_) => "not_publicly_routable",
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

pub(crate) fn getconnectioncount(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(call.ctx.peers.peers().len().into())
}

pub(crate) fn ping(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    call.ctx.peers.ping_all();
    Ok(Json::Null)
}

fn peer_json(peer: PeerInfo) -> Json {
    let mut json = Json::obj().with("id", peer.id).with("addr", peer.addr.as_str());
    if let Some(addr) = peer.addr_bind {
        json.put("addrbind", addr.to_string());
    }
    if let Some(addr) = peer.addr_local {
        json.put("addrlocal", addr.to_string());
    }
    json = json
        .with("network", network_name(&peer.addr))
        .with("services", format!("{:016x}", peer.services))
        .with("servicesnames", service_names(peer.services))
        .with("relaytxes", peer.relay_txs)
        .with("last_inv_sequence", peer.last_inv_sequence)
        .with("inv_to_send", peer.inv_to_send)
        .with("lastsend", peer.last_send)
        .with("lastrecv", peer.last_recv)
        .with("last_transaction", peer.last_transaction)
        .with("last_block", peer.last_block)
        .with("bytessent", peer.bytes_sent)
        .with("bytesrecv", peer.bytes_recv)
        .with("conntime", peer.conn_time)
        .with("timeoffset", peer.time_offset);
    for (name, time) in [("pingtime", peer.ping_time), ("minping", peer.ping_min), ("pingwait", peer.ping_wait)] {
        if let Some(time) = time {
            json.put(name, Json::float(time));
        }
    }
    let counts = |counts: std::collections::BTreeMap<String, u64>| {
        counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .fold(Json::obj(), |json, (name, count)| json.with(&name, count))
    };
    json.with("version", peer.version)
        .with("subver", peer.subver)
        .with("inbound", peer.inbound)
        .with("bip152_hb_to", peer.bip152_hb_to)
        .with("bip152_hb_from", peer.bip152_hb_from)
        .with("presynced_headers", peer.presynced_headers)
        .with("synced_headers", peer.synced_headers)
        .with("synced_blocks", peer.synced_blocks)
        .with("inflight", peer.inflight)
        .with("addr_relay_enabled", peer.addr_relay_enabled)
        .with("addr_processed", peer.addr_processed)
        .with("addr_rate_limited", peer.addr_rate_limited)
        .with("permissions", peer.permissions)
        .with("minfeefilter", Json::amount(peer.min_fee_filter.cast_signed()))
        .with("bytessent_per_msg", counts(peer.bytes_sent_per_msg))
        .with("bytesrecv_per_msg", counts(peer.bytes_recv_per_msg))
        .with("connection_type", peer.connection_type)
        .with("transport_protocol_type", peer.transport_protocol_type)
        .with("session_id", peer.session_id)
}

pub(crate) fn getpeerinfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(Json::Arr(call.ctx.peers.peers().into_iter().map(peer_json).collect()))
}

/// Waits for what becomes of a connection, whose peer is there when the call is answered.
fn dialed(call: &mut Call<'_, '_>, addr: &str, answer: Json) -> Outcome {
    if call.ctx.peers.is_dialing(addr) {
        return Outcome::Wait(Wait::Dial { addr: addr.to_owned(), answer });
    }
    Outcome::Done(answer)
}

pub(crate) fn addnode(call: &mut Call<'_, '_>, args: &Args) -> Result<Outcome, RpcError> {
    let command = match args.text(1)? {
        "add" => AddNode::Add,
        "remove" => AddNode::Remove,
        "onetry" => AddNode::OneTry,
        _ => return Err(usage("addnode", call)),
    };
    let v2 = if args.at(2).is_null() { None } else { Some(args.at(2).bool()?) };
    if v2 == Some(true) && call.ctx.peers.local_services() & NODE_P2P_V2 == 0 {
        return Err(RpcError::param("Error: v2transport requested but not enabled (see -v2transport)"));
    }
    match call.ctx.peers.add_node(args.text(0)?, command, v2) {
        Err(words) if command == AddNode::Add => Err(RpcError::new(code::NODE_ALREADY_ADDED, words)),
        Err(words) if command == AddNode::Remove => Err(RpcError::new(code::NODE_NOT_ADDED, words)),
        // A try that cannot even begin fails like one that came to nothing.
        _ if command == AddNode::OneTry => Ok(dialed(call, args.text(0)?, Json::Null)),
        _ => Ok(Outcome::Done(Json::Null)),
    }
}

/// The help of a method, as an error.
fn usage(name: &str, call: &Call<'_, '_>) -> RpcError {
    let method = crate::session::rpc::table::find(name, call.state.more);
    RpcError::misc(method.map_or_else(String::new, |method| method.help()))
}

pub(crate) fn addconnection(call: &mut Call<'_, '_>, args: &Args) -> Result<Outcome, RpcError> {
    if !call.chain().params().mine_on_demand {
        return Err(RpcError::misc("addconnection is for regression testing (-regtest mode) only."));
    }
    let kind = args.text(1)?.trim();
    if !matches!(kind, "outbound-full-relay" | "block-relay-only" | "addr-fetch" | "feeler") {
        return Err(RpcError::param(usage("addconnection", call).message));
    }
    let v2 = args.at(2).bool()?;
    if v2 && call.ctx.peers.local_services() & NODE_P2P_V2 == 0 {
        let words = "Error: Adding v2transport connections requires -v2transport init flag to be set.";
        return Err(RpcError::param(words));
    }
    let address = args.text(0)?;
    let added = call.ctx.peers.add_connection(address, kind, v2);
    added.map_err(|words| RpcError::new(code::NODE_CAPACITY_REACHED, words))?;
    let answer = Json::obj().with("address", address).with("connection_type", kind);
    Ok(dialed(call, address, answer))
}

pub(crate) fn disconnectnode(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let which = match (args.at(0), args.at(1)) {
        (Json::Str(addr), Json::Null) => Which::Addr(addr.clone()),
        (Json::Null, id @ Json::Num(_)) => Which::Id(id.int::<i64>()?.try_into().unwrap_or(u64::MAX)),
        (Json::Str(addr), id @ Json::Num(_)) if addr.is_empty() => {
            Which::Id(id.int::<i64>()?.try_into().unwrap_or(u64::MAX))
        }
        _ => {
            let words = "Only one of address and nodeid should be provided.";
            return Err(RpcError::new(code::INVALID_PARAMS, words));
        }
    };
    if !call.ctx.peers.disconnect(&which) {
        return Err(RpcError::new(code::NODE_NOT_CONNECTED, "Node not found in connected nodes"));
    }
    Ok(Json::Null)
}

pub(crate) fn getaddednodeinfo(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut nodes = call.ctx.peers.added_nodes();
    if !args.at(0).is_null() {
        let wanted = args.text(0)?;
        nodes.retain(|node| node.addr == wanted);
        if nodes.is_empty() {
            return Err(RpcError::new(code::NODE_NOT_ADDED, "Error: Node has not been added."));
        }
        nodes.truncate(1);
    }
    let row = |node: crate::session::p2p::AddedNode| {
        let addresses = node.connected.iter().map(|(addr, inbound)| {
            let direction = if *inbound { "inbound" } else { "outbound" };
            Json::obj().with("address", addr.to_string()).with("connected", direction)
        });
        Json::obj()
            .with("addednode", node.addr.as_str())
            .with("connected", node.connected.is_some())
            .with("addresses", Json::Arr(addresses.collect()))
    };
    Ok(Json::Arr(nodes.into_iter().map(row).collect()))
}

pub(crate) fn getnettotals(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let (received, sent) = call.ctx.peers.totals();
    let upload = call.ctx.peers.upload();
    let target = Json::obj()
        .with("timeframe", CYCLE_SECONDS)
        .with("target", upload.target)
        .with("target_reached", upload.reached)
        .with("serve_historical_blocks", upload.serves_old_blocks)
        .with("bytes_left_in_cycle", upload.bytes_left)
        .with("time_left_in_cycle", upload.seconds_left);
    Ok(Json::obj()
        .with("totalbytesrecv", received)
        .with("totalbytessent", sent)
        .with("timemillis", call.time() * 1_000)
        .with("uploadtarget", target))
}

fn networks_json() -> Json {
    let row = |name: &&str| {
        let reachable = matches!(*name, "ipv4" | "ipv6");
        Json::obj()
            .with("name", *name)
            .with("limited", !reachable)
            .with("reachable", reachable)
            .with("proxy", "")
            .with("proxy_randomize_credentials", false)
    };
    Json::Arr(NETWORKS.iter().map(row).collect())
}

pub(crate) fn getnetworkinfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let config = &call.state.config;
    let (peers, services) = (call.ctx.peers.peers(), call.ctx.peers.local_services());
    let inbound = peers.iter().filter(|peer| peer.inbound).count();
    let mut offsets: Vec<i64> = peers.iter().filter(|peer| !peer.inbound).map(|peer| peer.time_offset).collect();
    offsets.sort_unstable();
    let offset = offsets.get(offsets.len() / 2).copied().filter(|_| offsets.len() >= 5).unwrap_or(0);
    // As Core ranks what an operator said himself.
    const SCORE: u32 = 4;
    let local = |addr: SocketAddr| {
        Json::obj().with("address", addr.ip().to_string()).with("port", addr.port()).with("score", SCORE)
    };
    let ours = call.ctx.peers.local_addresses().into_iter().map(local);
    let options = call.mempool().options();
    Ok(Json::obj()
        .with("version", CLIENT_VERSION)
        .with("subversion", config.user_agent.as_str())
        .with("protocolversion", PROTOCOL_VERSION)
        .with("localservices", format!("{services:016x}"))
        .with("localservicesnames", service_names(services))
        .with("localrelay", config.relay_transactions)
        .with("timeoffset", offset)
        .with("networkactive", call.ctx.peers.network_active())
        .with("connections", peers.len())
        .with("connections_in", inbound)
        .with("connections_out", peers.len() - inbound)
        .with("networks", networks_json())
        .with("relayfee", Json::amount(options.relay_rate_min.cast_signed()))
        .with("incrementalfee", Json::amount(options.incremental_rate.cast_signed()))
        .with("localaddresses", Json::Arr(ours.collect()))
        .with("warnings", warnings(call)))
}

pub(crate) fn setban(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let command = args.text(1)?;
    if !matches!(command, "add" | "remove") {
        return Err(usage("setban", call));
    }
    let invalid = |words: &str| RpcError::new(code::INVALID_IP_OR_SUBNET, words);
    let subnet = args.text(0)?.parse::<Subnet>().map_err(|()| invalid("Error: Invalid IP/Subnet"))?.to_string();
    if command == "remove" {
        if !call.ctx.peers.unban(&subnet) {
            let words = "Error: Unban failed. Requested address/subnet was not previously manually banned.";
            return Err(invalid(words));
        }
        return Ok(Json::Null);
    }
    let (time, absolute): (i64, bool) = (args.int_or(2, 0)?, args.bool_or(3, false)?);
    let now = call.time();
    let time = u64::try_from(time).unwrap_or(0);
    // A single address may be banned as one of many.
    let single = subnet.rsplit_once('/').filter(|(_, bits)| matches!(*bits, "32" | "128"));
    let single: Option<std::net::IpAddr> = single.and_then(|(ip, _)| ip.parse().ok());
    let covers =
        |ban: &str| ban == subnet || single.is_some_and(|ip| ban.parse().is_ok_and(|ban: Subnet| ban.contains(ip)));
    if call.ctx.peers.banned().iter().any(|ban| ban.until > now && covers(&ban.subnet)) {
        return Err(RpcError::new(code::NODE_ALREADY_ADDED, "Error: IP/Subnet already banned"));
    }
    if absolute && time < now {
        return Err(RpcError::param("Error: Absolute timestamp is in the past"));
    }
    let until = match time {
        0 => now.saturating_add(call.state.config.ban_seconds),
        time if absolute => time,
        time => now.saturating_add(time),
    };
    call.ctx.peers.ban(&subnet, until);
    Ok(Json::Null)
}

pub(crate) fn listbanned(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let now = call.time();
    let row = |ban: crate::session::p2p::Banned| {
        Json::obj()
            .with("address", ban.subnet.as_str())
            .with("ban_created", ban.created)
            .with("banned_until", ban.until)
            .with("ban_duration", ban.until.saturating_sub(ban.created))
            .with("time_remaining", ban.until.saturating_sub(now))
    };
    Ok(Json::Arr(call.ctx.peers.banned().into_iter().map(row).collect()))
}

pub(crate) fn clearbanned(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    call.ctx.peers.clear_banned();
    Ok(Json::Null)
}

pub(crate) fn setnetworkactive(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    call.ctx.peers.set_network_active(args.at(0).bool()?);
    Ok(call.ctx.peers.network_active().into())
}

pub(crate) fn getnodeaddresses(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let count: i32 = args.int_or(0, 1)?;
    let count = usize::try_from(count).map_err(|_| RpcError::param("Address count out of range"))?;
    let network = if args.at(1).is_null() { None } else { Some(args.text(1)?.to_ascii_lowercase()) };
    if let Some(name) = &network
        && !NETWORKS.contains(&name.as_str())
    {
        return Err(RpcError::param(format!("Network not recognized: {}", args.text(1)?)));
    }
    let mut known = call.ctx.peers.known_addresses(if network.is_some() { 0 } else { count });
    if let Some(name) = network {
        known.retain(|known| network_of(known.addr.ip()) == name);
        if count > 0 {
            known.truncate(count);
        }
    }
    let row = |known: crate::session::p2p::KnownAddress| {
        Json::obj()
            .with("time", known.time)
            .with("services", known.services)
            .with("address", known.addr.ip().to_string())
            .with("port", u32::from(known.addr.port()))
            .with("network", network_of(known.addr.ip()))
    };
    Ok(Json::Arr(known.into_iter().map(row).collect()))
}

pub(crate) fn addpeeraddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let port: u16 = args.at(1).int()?;
    let tried = args.bool_or(2, false)?;
    let ip: IpAddr =
        args.text(0)?.parse().map_err(|_| RpcError::new(code::INVALID_IP_OR_SUBNET, "Invalid IP address"))?;
    let success = call.ctx.peers.add_address(SocketAddr::new(ip, port), tried);
    let mut json = Json::obj();
    if !success {
        json.put("error", if tried { "failed-adding-to-tried" } else { "failed-adding-to-new" });
    }
    Ok(json.with("success", success))
}

/// Those that are tried are not told apart here.
pub(crate) fn getaddrmaninfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let known = call.ctx.peers.known_addresses(0);
    let row = |count: usize| Json::obj().with("new", count).with("tried", 0_u32).with("total", count);
    let mut json = Json::obj();
    for name in NETWORKS {
        json.put(name, row(known.iter().filter(|known| network_of(known.addr.ip()) == name).count()));
    }
    Ok(json.with("all_networks", row(known.len())))
}

pub(crate) fn getrawaddrman(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(Json::obj().with("new", Json::obj()).with("tried", Json::obj()))
}

pub(crate) fn sendmsgtopeer(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let peer: i64 = args.at(0).int()?;
    let kind = args.text(1)?;
    if kind.len() > 12 {
        let words = format!("Error: msg_type too long, max length is 12, got {}", kind.len());
        return Err(RpcError::param(words));
    }
    let bytes = crate::session::rpc::call::hex(args.at(2), "msg")
        .or_else(|error| if args.text(2)?.is_empty() { Ok(Vec::new()) } else { Err(error) })?;
    let peer = u64::try_from(peer).ok().filter(|peer| call.ctx.peers.send_message(*peer, kind, &bytes));
    peer.ok_or_else(|| RpcError::misc("Error: Could not send message to peer"))?;
    Ok(Json::obj())
}

pub(crate) fn exportasmap(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::misc("No embedded ASMap data available"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names() {
        assert_eq!(service_names(0x0c09).write(), r#"["NETWORK","WITNESS","NETWORK_LIMITED","P2P_V2"]"#);
        assert_eq!(service_names(1 << 40).write(), r#"["UNKNOWN[2^40]"]"#);
    }
}
