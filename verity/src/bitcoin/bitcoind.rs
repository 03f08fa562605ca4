//! `verity bitcoind`: Core's command line and its configuration file, for a node of ours.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use verity_bitcoin::Params;
use verity_bitcoin::chain::{ChainConfig, Prune, Reindex, Workers};
use verity_bitcoin::index::IndexOptions;
use verity_bitcoin::mempool::MempoolOptions;
use verity_bitcoin::session::conf::{self, Conf};
use verity_bitcoin::session::p2p::{self, Permissions, Whitelist, user_agent};
use verity_bitcoin::session::rpc::{Auth, COOKIE_USER, RpcConfig};
use verity_bitcoin::session::zmq::{HIGH_WATER_DEFAULT, Topic};
use verity_bitcoin::session::{
    BitcoinConfig, Commands, Log as _, Notify, P2P_DOOR, RPC_DOOR, WHITE_DOOR, ZMQ_DOOR, ZmqDoor,
};
use verity_bitcoin::wallet::WalletOptions;
use verity_contract::Door;
use verity_storage::{Disk, RealDisk};
use verity_types::NodeId;

use super::daemon::{self, Cookie, DebugLog, Folder, Listen};
use super::notify::{self, Shell};
use crate::secrets;

/// Threads for the scripts of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads(pub(crate) usize);

impl Workers for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        verity_node::parallel(self.0, tasks, task);
    }
}

/// Of `-limitclustersize`, if nothing is said.
const CLUSTER_KILOBYTES: i64 = 101;
const BLOCK_WEIGHT_MAX: i64 = 4_000_000;
/// A header and a coinbase take this much at least.
const RESERVED_WEIGHT_MIN: i64 = 2_000;

/// Nobody takes a longer name of a node.
const USER_AGENT_BYTES_MAX: usize = 256;

/// An operator's mistake, in Core's words.
fn said<T>(result: Result<T, String>) -> Result<T> {
    result.map_err(|words| anyhow!(words))
}

/// Where a node keeps what it has, if nobody says.
pub(super) fn default_folder() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".verity").join("bitcoin")
}

/// Where a network's part of that is.
pub(super) fn folder_of(folder: &Path, network: &str) -> PathBuf {
    match network {
        "main" => folder.to_owned(),
        "test" => folder.join("testnet3"),
        _ => folder.join(network),
    }
}

/// Runs a node by these arguments, until it ends.
///
/// # Errors
/// A mistake among them, or whatever keeps the node from running.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut conf = said(Conf::from_command_line(args.iter().map(String::as_str)))?;
    if ["?", "h", "help"].iter().any(|name| conf.is_set(name)) {
        println!("{}", conf::help());
        return Ok(());
    }
    if conf.is_on("version", false) {
        println!("Verity bitcoind version v{}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let folder = match conf.get("datadir") {
        Some(path) => {
            let path = PathBuf::from(path);
            if !path.is_dir() {
                bail!("Specified data directory \"{}\" does not exist.", path.display());
            }
            fs::canonicalize(&path)?
        }
        None => default_folder(),
    };
    read_conf(&mut conf, &folder)?;
    let network = said(conf.network())?;
    check(&conf)?;
    let own = folder_of(&folder, network);
    if own.join("chainstate/CURRENT").exists() {
        bail!(
            "{} is of Bitcoin Core itself, whose coins are kept in another form; give Verity a folder of its own",
            own.display()
        );
    }
    let held = Folder::open(&own)?;
    // Keys are nobody else's business.
    fs::create_dir_all(own.join("wallets"))?;
    fs::set_permissions(own.join("wallets"), fs::Permissions::from_mode(0o700))?;
    let cookie_path = conf
        .get("rpccookiefile")
        .filter(|path| !path.is_empty())
        .map_or_else(|| own.join(".cookie"), |path| own.join(path));
    let with_cookie = conf.get("rpcpassword").is_none_or(|password| password.is_empty());
    let cookie = with_cookie.then(|| Cookie::write(&cookie_path)).transpose()?;
    let log_path =
        own.join(conf.get("debuglogfile").filter(|path| path.len() > 1).unwrap_or_else(|| "debug.log".to_owned()));
    let console = conf.is_on("printtoconsole", false);
    let silent = conf.get("debuglogfile").is_some_and(|path| path == "0");
    let open = || DebugLog::open((!silent).then_some(&*log_path), conf.is_on("logtimemicros", false), console);
    let (mut log, mut log_of_doors) = (open()?, open()?);
    conf.warnings.iter().for_each(|warning| log.line("warning", warning));
    conf.lines().iter().for_each(|line| log.line("", line));
    let params = params(&conf, network)?;
    if !conf.is_on("dnsseed", !conf.is_set("connect")) {
        log.line("", "DNS seeding disabled");
    }
    if network == "signet" {
        let magic: String = params.magic.iter().map(|byte| format!("{byte:02x}")).collect();
        log.line("", &format!("Signet derived magic (message start): {magic}"));
    }
    let (mut listen, white, zmq) = listeners(&conf, &params)?;
    listen.extend(second_rpc_address(&conf, &listen));
    let config = config(&conf, params, &own, &log_path, zmq, cookie.as_ref())?;
    let config = BitcoinConfig { white, outside: Some(everything()?), ..config };
    let pid_path =
        own.join(conf.get("pid").filter(|path| !path.is_empty()).unwrap_or_else(|| "bitcoind.pid".to_owned()));
    fs::write(&pid_path, format!("{}\n", std::process::id()))?;
    let config = BitcoinConfig { notify: shell(&conf)?, ..config };
    let node = daemon::start(NodeId(1), &held.disk, config, &listen, BTreeMap::new(), Box::new(log));
    let ended = node.and_then(|node| {
        let peers = |one: &&Listen| one.door == P2P_DOOR || one.door >= WHITE_DOOR;
        listen.iter().filter(peers).for_each(|one| log_of_doors.line("", &format!("Bound to {}", one.addr)));
        if let Some(command) = conf.get("startupnotify").filter(|command| !command.is_empty()) {
            notify::run_beside(command)?;
        }
        daemon::wait(node, || notify::run_all(&conf.all("shutdownnotify")))
    });
    // It is of no use any more.
    let _ = fs::remove_file(pid_path);
    ended
}

/// Who runs an operator's commands, if there are any.
fn shell(conf: &Conf) -> Result<Option<Box<dyn Notify>>> {
    let command = |name: &str| conf.get(name).unwrap_or_default();
    let commands =
        Commands { block: command("blocknotify"), wallet: command("walletnotify"), alert: command("alertnotify") };
    if commands == Commands::default() {
        return Ok(None);
    }
    Ok(Some(Box::new(Shell::new(commands)?)))
}

/// What absolute paths of calls lead to, as far as this user may go: clients who are let in may keep backups anywhere.
fn everything() -> Result<Arc<dyn Disk>> {
    Ok(Arc::new(RealDisk::new("/")?))
}

/// A regtest node beside a cluster's node, by these flags: its clients know the cookie. One without a folder of its own has no way to
/// others.
pub(crate) fn beside(
    flags: &[String],
    own: &Path,
    log_path: &Path,
    cookie: &Cookie,
) -> Result<(BitcoinConfig, Vec<Listen>)> {
    let conf = said(Conf::from_command_line(["-regtest"].into_iter().chain(flags.iter().map(String::as_str))))?;
    let params = params(&conf, "regtest")?;
    let (listen, white, zmq) = listeners(&conf, &params)?;
    let config = config(&conf, params, own, log_path, zmq, Some(cookie))?;
    let outside = (!own.as_os_str().is_empty()).then(everything).transpose()?;
    Ok((BitcoinConfig { white, outside, notify: shell(&conf)?, from_the_future: true, ..config }, listen))
}

/// A regtest node that keeps nothing, by these flags: the user `verity` may call it.
pub(crate) fn in_memory(flags: &[&str], password: &str) -> Result<BitcoinConfig> {
    let password = format!("-rpcpassword={password}");
    let all = ["-regtest", "-rpcuser=verity", &password].into_iter().chain(flags.iter().copied());
    let conf = said(Conf::from_command_line(all))?;
    config(&conf, params(&conf, "regtest")?, Path::new(""), Path::new(""), Vec::new(), None)
}

/// Where a node listens, what peers may do who come in by an address of their own, and what subscribers are told.
fn listeners(conf: &Conf, params: &Params) -> Result<(Vec<Listen>, Vec<Permissions>, Vec<ZmqDoor>)> {
    let mut listen = Vec::new();
    listen.extend(rpc_addresses(conf, params)?.into_iter().map(|addr| Listen { door: RPC_DOOR, addr }));
    listen.extend(p2p_addresses(conf, params)?.into_iter().map(|addr| Listen { door: P2P_DOOR, addr }));
    let mut white = Vec::new();
    for text in conf.all("whitebind").iter().filter(|_| listens(conf)) {
        let (permissions, rest) = said(Permissions::of_bind(text))?;
        let at = u16::try_from(white.len()).context("too many addresses")?;
        let addresses = resolve(rest, port(conf, "port", params.p2p_port)?)
            .with_context(|| format!("Cannot resolve -whitebind address: '{rest}'"))?;
        listen.extend(addresses.into_iter().map(|addr| Listen { door: Door(WHITE_DOOR.0 + at), addr }));
        white.push(permissions);
    }
    let mut peers: Vec<SocketAddr> = listen.iter().filter(|one| one.door != RPC_DOOR).map(|one| one.addr).collect();
    peers.sort_unstable();
    if let Some(pair) = peers.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!(
            "Duplicate binding configuration for address {}. Please check your -bind, -bind=...=onion and -whitebind settings.",
            pair[0]
        );
    }
    let mut zmq = Vec::new();
    for (addr, door) in zmq_doors(conf)? {
        let at = u16::try_from(zmq.len()).context("too many ZMQ addresses")?;
        listen.push(Listen { door: Door(ZMQ_DOOR.0 + at), addr });
        zmq.push(door);
    }
    Ok((listen, white, zmq))
}

pub(super) fn read_conf(conf: &mut Conf, folder: &Path) -> Result<()> {
    let named = conf.get("conf").filter(|name| !name.is_empty());
    let path = folder.join(named.as_deref().unwrap_or("bitcoin.conf"));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if named.is_none() => return Ok(()),
        Err(_) => {
            bail!("Error reading configuration file: specified config file \"{}\" could not be opened.", path.display())
        }
    };
    let mut read = |name: &str| fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
    said(conf.read_file(&text, &mut read))?;
    conf.ignored.iter().for_each(|words| eprintln!("warning: {words}"));
    Ok(())
}

fn params(conf: &Conf, network: &str) -> Result<Params> {
    let mut params = match conf.get("signetchallenge") {
        Some(hex) if network == "signet" => {
            let challenge = verity_bitcoin::script_from_hex(&hex);
            Params::signet(Some(challenge.with_context(|| format!("-signetchallenge must be hex, not '{hex}'."))?))
        }
        _ => Params::named(network).context("no such network")?,
    };
    for setting in conf.all("testactivationheight") {
        let Some((name, height)) = setting.split_once('@').filter(|_| network == "regtest") else {
            bail!("Invalid format ({setting}) for -testactivationheight=name@height.");
        };
        let height = height.parse::<u32>().ok().filter(|height| *height < i32::MAX.unsigned_abs());
        let height = height
            .with_context(|| format!("Invalid height value ({setting}) for -testactivationheight=name@height."))?;
        match name {
            "segwit" => params.segwit_height = height,
            "bip34" => params.headers.bip34_height = height,
            "dersig" => params.headers.bip66_height = height,
            "cltv" => params.headers.bip65_height = height,
            "csv" => params.csv_height = height,
            _ => bail!("Invalid name ({setting}) for -testactivationheight=name@height."),
        }
    }
    params.headers.pow.enforce_bip94 |= network == "regtest" && conf.all("test").iter().any(|option| option == "bip94");
    if let Some(work) = conf.get("minimumchainwork") {
        let parsed = verity_bitcoin::work_from_hex(&work);
        params.minimum_chain_work =
            parsed.with_context(|| format!("Invalid minimum work specified ({work}), must be up to 64 hex digits"))?;
    }
    match conf.get("assumevalid").as_deref() {
        None => {}
        Some("" | "0") => params.assume_valid = None,
        Some(hash) => {
            let parsed = hash.parse();
            params.assume_valid = Some(parsed.with_context(|| {
                format!(
                    "Invalid assumevalid block hash specified ({hash}), must be up to 64 hex digits (or 0 to disable)"
                )
            })?);
        }
    }
    params.require_standard = !conf.is_on("acceptnonstdtxn", false);
    if !params.require_standard && network == "main" {
        bail!("acceptnonstdtxn is not currently supported for main chain");
    }
    Ok(params)
}

/// `host`, `host:port`, `[v6]:port`.
fn resolve(text: &str, port: u16) -> Result<Vec<SocketAddr>> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(vec![addr]);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{port}") };
    let found: Vec<SocketAddr> = with_port.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if found.is_empty() {
        bail!("Cannot resolve address: '{text}'");
    }
    Ok(found)
}

fn port(conf: &Conf, name: &str, otherwise: u16) -> Result<u16> {
    let Some(port) = said(conf.number(name))? else { return Ok(otherwise) };
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .with_context(|| format!("Invalid port specified in -{name}: '{port}'"))
}

fn rpc_addresses(conf: &Conf, params: &Params) -> Result<Vec<SocketAddr>> {
    if !conf.is_on("server", true) {
        return Ok(Vec::new());
    }
    let port = port(conf, "rpcport", params.rpc_port)?;
    let named = conf.all("rpcbind");
    if named.is_empty() || conf.all("rpcallowip").is_empty() {
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)]);
    }
    let mut all = Vec::new();
    for text in named {
        let port_text = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        if port_text.is_some_and(|(_, port)| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            bail!("Invalid port specified in -rpcbind: '{text}'");
        }
        all.extend(resolve(&text, port)?);
    }
    if all.iter().any(|addr| !addr.ip().is_loopback()) && !conf.is_on("insecure", false) {
        bail!(
            "-rpcbind names an address beyond this machine, where passwords would be sent in the clear; -insecure allows it"
        );
    }
    Ok(all)
}

/// Where nothing else is said, clients of this machine come in by its address of version 6 as well, if it has one.
fn second_rpc_address(conf: &Conf, listen: &[Listen]) -> Option<Listen> {
    let chosen = !conf.all("rpcbind").is_empty() && !conf.all("rpcallowip").is_empty();
    let first = listen.iter().find(|one| one.door == RPC_DOOR && one.addr.is_ipv4()).filter(|_| !chosen)?;
    let addr = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), first.addr.port());
    // Many machines have none, and a node serves them all the same.
    TcpListener::bind(addr).is_ok().then_some(Listen { door: RPC_DOOR, addr })
}

/// What does not fit together, before anything begins.
fn check(conf: &Conf) -> Result<()> {
    if (conf.is_set("bind") || conf.is_set("whitebind")) && !conf.is_on("listen", true) {
        bail!("Cannot set -bind or -whitebind together with -listen=0");
    }
    said(conf.check_log_levels())?;
    if said(conf.number("peertimeout"))?.is_some_and(|seconds| seconds <= 0) {
        bail!("peertimeout must be a positive integer.");
    }
    // The largest cluster must fit many times over, or one of them displaces all else.
    let cluster = said(conf.number("limitclustersize"))?.unwrap_or(CLUSTER_KILOBYTES);
    let least = cluster.saturating_mul(40_000);
    let most = said(conf.number("maxmempool"))?.map(|megabytes| megabytes.saturating_mul(1_000_000));
    if most.is_some_and(|most| most < 0 || (most > 0 && most < least)) {
        bail!("-maxmempool must be at least {} MB", least.unsigned_abs().div_ceil(1_000_000));
    }
    for name in ["blockmaxweight", "blockreservedweight"] {
        let weight = said(conf.number(name))?.filter(|weight| *weight > BLOCK_WEIGHT_MAX);
        if let Some(weight) = weight {
            bail!("Specified -{name} ({weight}) exceeds consensus maximum block weight ({BLOCK_WEIGHT_MAX})");
        }
    }
    let reserved = said(conf.number("blockreservedweight"))?.filter(|weight| *weight < RESERVED_WEIGHT_MIN);
    if let Some(weight) = reserved {
        bail!(
            "Specified -blockreservedweight ({weight}) is lower than minimum safety value of ({RESERVED_WEIGHT_MIN})"
        );
    }
    if conf.all("signetchallenge").len() > 1 {
        bail!("-signetchallenge cannot be multiple values.");
    }
    Ok(())
}

/// Who says where to listen wants to; else whoever chooses its peers does not.
fn listens(conf: &Conf) -> bool {
    let asked = conf.is_set("bind") || conf.is_set("whitebind");
    conf.is_on("listen", asked || !conf.is_set("connect"))
}

fn p2p_addresses(conf: &Conf, params: &Params) -> Result<Vec<SocketAddr>> {
    if !listens(conf) {
        return Ok(Vec::new());
    }
    let port = port(conf, "port", params.p2p_port)?;
    let mut all = Vec::new();
    for text in conf.all("bind") {
        all.extend(resolve(text.trim_end_matches("=onion"), port)?);
    }
    if all.is_empty() && !conf.is_set("whitebind") {
        // A network of one's own is nobody else's; a public one is met by others.
        let ip = if params.chain_name() == "regtest" { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        all.push(SocketAddr::new(ip.into(), port));
    }
    Ok(all)
}

fn zmq_doors(conf: &Conf) -> Result<Vec<(SocketAddr, ZmqDoor)>> {
    let mut doors: Vec<(SocketAddr, ZmqDoor)> = Vec::new();
    for topic in Topic::ALL {
        let name = format!("zmqpub{}", topic.name());
        let high_water = said(conf.number(&format!("{name}hwm")))?;
        let high_water = high_water.map_or(Ok(HIGH_WATER_DEFAULT), u32::try_from).context("a mark is not negative")?;
        for text in conf.all(&name) {
            let Some(addr) = text.strip_prefix("tcp://") else {
                // As on the network: a door that cannot be opened leaves all of them shut, and the node runs.
                tracing::warn!("-{name}={text}: tcp:// alone is served; nothing is published");
                return Ok(Vec::new());
            };
            let addr = addr.parse().with_context(|| format!("Invalid port specified in -{name}: '{text}'"))?;
            match doors.iter_mut().find(|(other, _)| *other == addr) {
                Some((_, door)) => door.topics.push(topic),
                None => doors.push((addr, ZmqDoor { topics: vec![topic], high_water })),
            }
        }
    }
    Ok(doors)
}

fn auth(conf: &Conf, cookie: Option<&Cookie>) -> Result<Auth> {
    let mut auth = Auth::new();
    if let Some(cookie) = cookie {
        auth.add_password(COOKIE_USER, &cookie.password, secrets::random()?);
    } else if let Some(password) = conf.get("rpcpassword") {
        auth.add_password(&conf.get("rpcuser").unwrap_or_default(), &password, secrets::random()?);
    }
    for text in conf.all("rpcauth") {
        if auth.add_rpcauth(&text).is_err() {
            bail!("Invalid -rpcauth argument.");
        }
    }
    let whitelists = conf.all("rpcwhitelist");
    whitelists.iter().for_each(|text| auth.add_whitelist(text));
    auth.set_deny_others(conf.is_on("rpcwhitelistdefault", !whitelists.is_empty()));
    Ok(auth)
}

/// Whom to ask for addresses where few are known: those who are named, then the network's own.
fn seeds(conf: &Conf, params: &Params) -> Result<Vec<String>> {
    let chosen = conf.is_set("connect");
    let (dns, asked) = (conf.is_on("dns", true), conf.is_on("dnsseed", !chosen));
    if conf.is_on("forcednsseed", false) && !asked {
        bail!("Cannot set -forcednsseed to true when setting -dnsseed to false.");
    }
    let with_port = |name: String| if name.contains(':') { name } else { format!("{name}:{}", params.p2p_port) };
    let mut seeds: Vec<String> = conf.all("seednode").into_iter().map(with_port).collect();
    if dns && asked && !conf.is_set("signetchallenge") {
        seeds.extend(params.dns_seeds().iter().map(|name| (*name).to_owned()));
    }
    Ok(seeds)
}

/// What a comment in a node's name may have.
fn is_safe_comment(char: char) -> bool {
    char.is_ascii_alphanumeric() || " .,;-_?@".contains(char)
}

/// `800`, in MiB, or with a unit: `800M`; a small letter counts in thousands, a capital one in 1,024s.
fn upload_target(conf: &Conf) -> Result<u64> {
    let Some(text) = conf.get("maxuploadtarget") else { return Ok(0) };
    let (digits, unit) = match text.char_indices().last() {
        Some((at, unit)) if !unit.is_ascii_digit() => (&text[..at], unit),
        _ => (text.as_str(), 'M'),
    };
    let base: u64 = if unit.is_ascii_uppercase() { 1_024 } else { 1_000 };
    let power = "kmgt".find(unit.to_ascii_lowercase()).and_then(|power| u32::try_from(power + 1).ok());
    let bytes = power.and_then(|power| digits.parse::<u64>().ok()?.checked_mul(base.pow(power)));
    bytes.with_context(|| format!("Unable to parse -maxuploadtarget: '{text}'"))
}

fn p2p_config(conf: &Conf, params: &Params) -> Result<p2p::Config> {
    let number = |name: &str, otherwise: u64| -> Result<u64> {
        let number = said(conf.number(name))?.map_or(Ok(otherwise), u64::try_from);
        number.with_context(|| format!("-{name} is not negative"))
    };
    let otherwise = p2p::Config::default();
    let comments = conf.all("uacomment");
    if let Some(comment) = comments.iter().find(|comment| !comment.chars().all(is_safe_comment)) {
        bail!("User Agent comment ({comment}) contains unsafe characters.");
    }
    let agent = user_agent(&comments);
    if agent.len() > USER_AGENT_BYTES_MAX {
        bail!(
            "Total length of network version string ({}) exceeds maximum length ({USER_AGENT_BYTES_MAX}). Reduce the number or size of uacomments.",
            agent.len()
        );
    }
    let mut whitelist = Vec::new();
    for text in conf.all("whitelist") {
        whitelist.push(said(Whitelist::parse(&text))?);
    }
    let mut external = Vec::new();
    for text in conf.all("externalip") {
        external.extend(resolve(&text, port(conf, "port", params.p2p_port)?)?);
    }
    Ok(p2p::Config {
        listen: listens(conf),
        connections_max: usize::try_from(number("maxconnections", 125)?)?,
        v2_transport: conf.is_on("v2transport", true),
        add_nodes: conf.all("addnode"),
        connect: conf.is_set("connect").then(|| conf.all("connect")),
        whitelist,
        whitelist_relay: conf.is_on("whitelistrelay", true),
        whitelist_force_relay: conf.is_on("whitelistforcerelay", false),
        blocks_only: conf.is_on("blocksonly", false),
        block_filters: conf.is_on("peerblockfilters", false),
        bloom_filters: conf.is_on("peerbloomfilters", false),
        upload_target: upload_target(conf)?,
        timeout: number("peertimeout", otherwise.timeout)?,
        send_buffer: usize::try_from(number("maxsendbuffer", 1_000)? * 1_000)?,
        receive_buffer: usize::try_from(number("maxreceivebuffer", 5_000)? * 1_000)?,
        extra_transactions: usize::try_from(number("blockreconstructionextratxn", 100)?)?,
        tip_age_max: number("maxtipage", otherwise.tip_age_max)?,
        external,
        seeds: seeds(conf, params)?,
        force_seeds: conf.is_on("forcednsseed", false),
        prune: prune(conf)?.is_some(),
        user_agent: agent,
        verbose: said(conf.categories())?.iter().any(|category| category == "net"),
    })
}

fn mempool_options(conf: &Conf, params: &Params) -> Result<MempoolOptions> {
    let otherwise = MempoolOptions::default();
    let number = |name: &str| -> Result<Option<u64>> {
        let number = said(conf.number(name))?.map(u64::try_from).transpose();
        number.with_context(|| format!("-{name} is not negative"))
    };
    let data = number("datacarriersize")?.or(otherwise.data_bytes_max);
    Ok(MempoolOptions {
        size_max: number("maxmempool")?.map_or(otherwise.size_max, |megabytes| megabytes * 1_000_000),
        expiry: number("mempoolexpiry")?.map_or(otherwise.expiry, |hours| hours * 3_600),
        incremental_rate: said(conf.amount("incrementalrelayfee"))?.unwrap_or(otherwise.incremental_rate),
        relay_rate_min: said(conf.amount("minrelaytxfee"))?.unwrap_or(otherwise.relay_rate_min),
        dust_rate: said(conf.amount("dustrelayfee"))?.unwrap_or(otherwise.dust_rate),
        data_bytes_max: data.filter(|_| conf.is_on("datacarrier", true)),
        bare_multisig: conf.is_on("permitbaremultisig", true),
        require_standard: params.require_standard,
        cluster_count_max: number("limitclustercount")?.map_or(Ok(otherwise.cluster_count_max), usize::try_from)?,
        cluster_size_max: number("limitclustersize")?.map_or(otherwise.cluster_size_max, |size| size * 1_000),
        bytes_per_sigop: number("bytespersigop")?.unwrap_or(otherwise.bytes_per_sigop),
        persist_v1: conf.is_on("persistmempoolv1", false),
    })
}

/// None with `-disablewallet`.
fn wallet_options(conf: &Conf) -> Result<Option<WalletOptions>> {
    if conf.is_on("disablewallet", false) {
        return Ok(None);
    }
    let otherwise = WalletOptions::default();
    let rate = |name: &str, otherwise: u64| -> Result<u64> { Ok(said(conf.amount(name))?.unwrap_or(otherwise)) };
    let number = |name: &str, otherwise: u32| -> Result<u32> {
        Ok(said(conf.number(name))?.map_or(Ok(otherwise), u32::try_from)?)
    };
    Ok(Some(WalletOptions {
        load: conf.all("wallet"),
        ahead: number("keypool", otherwise.ahead)?,
        fallback_rate: rate("fallbackfee", otherwise.fallback_rate)?,
        rate_min: rate("mintxfee", otherwise.rate_min)?,
        discard_rate: rate("discardfee", otherwise.discard_rate)?,
        long_term_rate: rate("consolidatefeerate", otherwise.long_term_rate)?,
        fee_max: rate("maxtxfee", otherwise.fee_max)?,
        target: number("txconfirmtarget", otherwise.target)?,
        replaceable: conf.is_on("walletrbf", true),
        spend_unconfirmed: conf.is_on("spendzeroconfchange", true),
        address_type: conf.get("addresstype").unwrap_or(otherwise.address_type),
        change_type: conf.get("changetype"),
        reject_long_chains: conf.is_on("walletrejectlongchains", true),
        chain_max: usize::try_from(number("limitancestorcount", 25)?)?,
        cluster_max: usize::try_from(number("limitdescendantcount", 25)?)?,
        broadcast: conf.is_on("walletbroadcast", true),
        avoid_partial_spends: conf.is_on("avoidpartialspends", false),
        together_fee_max: match conf.get("maxapsfee").as_deref() {
            Some("-1") => None,
            _ => Some(rate("maxapsfee", 0)?),
        },
    }))
}

/// Where the clock stands still, if it does.
fn mock_time(conf: &Conf) -> Result<Option<u64>> {
    let time = said(conf.number("mocktime"))?.unwrap_or(0);
    let time = u64::try_from(time).with_context(|| format!("-mocktime={time} is before 1970"))?;
    Ok((time > 0).then_some(time))
}

/// Which old blocks are thrown away, if any.
fn prune(conf: &Conf) -> Result<Option<Prune>> {
    const TARGET_MIN: u64 = 550;
    let wanted = said(conf.number("prune"))?.unwrap_or(0);
    let wanted = u64::try_from(wanted).map_err(|_| anyhow!("Prune cannot be configured with a negative value."))?;
    let prune = match wanted {
        0 => return Ok(None),
        1 => Prune::ByHand,
        TARGET_MIN.. => Prune::Target(wanted.saturating_mul(1 << 20)),
        _ => bail!("Prune configured below the minimum of {TARGET_MIN} MiB.  Please use a higher number."),
    };
    if conf.is_on("txindex", false) {
        bail!("Prune mode is incompatible with -txindex.");
    }
    if conf.is_on("txospenderindex", false) {
        bail!("Prune mode is incompatible with -txospenderindex.");
    }
    if conf.is_on("reindex-chainstate", false) {
        bail!("Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead.");
    }
    Ok(Some(prune))
}

fn config(
    conf: &Conf,
    params: Params,
    own: &Path,
    log_path: &Path,
    zmq: Vec<ZmqDoor>,
    cookie: Option<&Cookie>,
) -> Result<BitcoinConfig> {
    let (p2p, mempool) = (p2p_config(conf, &params)?, mempool_options(conf, &params)?);
    let weight = |name: &str, otherwise: u64| -> Result<u64> {
        Ok(said(conf.number(name))?.map_or(Ok(otherwise), u64::try_from)?)
    };
    let otherwise = RpcConfig::default();
    let mut told = Vec::new();
    for topic in Topic::ALL {
        let name = format!("zmqpub{}", topic.name());
        let mark = said(conf.number(&format!("{name}hwm")))?.and_then(|mark| u32::try_from(mark).ok());
        let row = |addr: String| (format!("pub{}", topic.name()), addr, mark.unwrap_or(HIGH_WATER_DEFAULT));
        told.extend(conf.all(&name).into_iter().map(row));
    }
    let rpc = RpcConfig {
        auth: auth(conf, cookie)?,
        user_agent: p2p.user_agent.clone(),
        log_path: log_path.display().to_string(),
        rest: conf.is_on("rest", false),
        wallets: !conf.is_on("disablewallet", false),
        zmq: told,
        log_categories: said(conf.categories())?,
        relay_fee_min: mempool.relay_rate_min,
        relay_fee_incremental: mempool.incremental_rate,
        mempool_bytes_max: mempool.size_max,
        block_fee_min: said(conf.amount("blockmintxfee"))?.unwrap_or(otherwise.block_fee_min),
        block_weight_max: weight("blockmaxweight", otherwise.block_weight_max)?,
        block_reserved_weight: weight("blockreservedweight", otherwise.block_reserved_weight)?,
        v2_transport: p2p.v2_transport,
        relay_transactions: !p2p.blocks_only,
        tip_age_max: p2p.tip_age_max,
        deprecated: conf.all("deprecatedrpc"),
        block_version: said(conf.number("blockversion"))?
            .filter(|_| params.mine_on_demand)
            .map(i32::try_from)
            .transpose()
            .context("-blockversion is a number of 32 bits")?,
        ban_seconds: weight("bantime", otherwise.ban_seconds)?,
    };
    let mut allow = Vec::new();
    for text in conf.all("rpcallowip") {
        let subnet = text.parse().map_err(|()| anyhow!("Invalid -rpcallowip subnet specification: {text}"))?;
        allow.push(subnet);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let filters = match conf.get("blockfilterindex").as_deref() {
        None | Some("0") => false,
        Some("" | "1" | "basic") => true,
        Some(other) => bail!("Unknown -blockfilterindex value {other}."),
    };
    if conf.is_on("peerblockfilters", false) && !filters {
        bail!("Cannot set -peerblockfilters without -blockfilterindex.");
    }
    Ok(BitcoinConfig {
        params,
        chain: ChainConfig {
            coins_bytes: usize::try_from(weight("dbcache", 450)?.max(4) << 20)?,
            salt: secrets::seed()?,
            workers: Arc::new(Threads(threads)),
            prune: prune(conf)?,
            small_files: conf.is_on("fastprune", false),
            reindex: match (conf.is_on("reindex", false), conf.is_on("reindex-chainstate", false)) {
                (true, _) => Some(Reindex::All),
                (false, true) => Some(Reindex::Coins),
                _ => None,
            },
        },
        mempool,
        p2p,
        rpc,
        white: Vec::new(),
        rpc_allow: allow,
        zmq,
        index: IndexOptions {
            transactions: conf.is_on("txindex", false),
            filters,
            stats: conf.is_on("coinstatsindex", false),
            spenders: conf.is_on("txospenderindex", false),
        },
        notify: None,
        persist_mempool: conf.is_on("persistmempool", true),
        wallet: wallet_options(conf)?,
        outside: None,
        mock_time: mock_time(conf)?,
        from_the_future: false,
        stop_at_height: said(conf.number("stopatheight"))?
            .filter(|height| *height != 0)
            .map(u32::try_from)
            .transpose()
            .context("-stopatheight is the height of a block")?,
        seed: secrets::random()?,
        folder: own.display().to_string(),
    })
}
