//! What a node, its peers and its wallets are at, put together from several calls: `-getinfo`, `-netinfo`, `-addrinfo`.

use std::fmt::Write as _;

use anyhow::Result;
use verity_bitcoin::session::rpc::Json;

use super::remote::{Remote, Reply};

/// Networks by Core's names, in the order of Core's tables.
const NETWORKS: [&str; 5] = ["ipv4", "ipv6", "onion", "i2p", "cjdns"];
/// What a peer is of that is on none of them.
const UNROUTABLE: &str = "not_publicly_routable";

/// Whether what is printed has colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    const BLUE: u8 = 34;
    const GREEN: u8 = 32;
    const MAGENTA: u8 = 35;
    const CYAN: u8 = 36;
    const YELLOW: u8 = 33;

    /// A text in this colour, if there are any.
    fn on(self, colour: u8, text: &str) -> String {
        if self.0 { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Goes on with what was asked for; an error of the node is the end.
macro_rules! asked {
    ($remote:expr, $method:literal) => {
        match $remote.call($method, &Json::Arr(Vec::new()))? {
            Reply::Result(json) => json,
            error => return Ok(error),
        }
    };
}

/// A text as it is, anything else as JSON.
fn shown(json: &Json) -> String {
    json.text().map_or_else(|_| json.write(), str::to_owned)
}

/// `-getinfo`.
pub(super) fn node(remote: &Remote, paint: Paint) -> Result<Reply> {
    let plain = remote.of_wallet(None);
    let (chain, network) = (asked!(plain, "getblockchaininfo"), asked!(plain, "getnetworkinfo"));
    let field = |json: &Json, name: &str| shown(json.get(name));
    let progress = chain.get("verificationprogress").real().unwrap_or_default() * 100.0;
    let mut text = format!(
        "{}\nBlocks: {}\nHeaders: {}\nVerification progress: {progress:.4}%\nDifficulty: {}\n\n",
        paint.on(Paint::BLUE, &format!("Chain: {}", field(&chain, "chain"))),
        field(&chain, "blocks"),
        field(&chain, "headers"),
        field(&chain, "difficulty"),
    );
    let proxies = network.get("networks").items().unwrap_or_default().iter();
    let proxies: Vec<String> = proxies.map(|row| field(row, "proxy")).filter(|proxy| !proxy.is_empty()).collect();
    let proxies = if proxies.is_empty() { "n/a".to_owned() } else { proxies.join(", ") };
    let count = |name: &str| field(&network, name);
    let peers = format!(
        "Network: in {}, out {}, total {}",
        count("connections_in"),
        count("connections_out"),
        count("connections")
    );
    write!(
        text,
        "{}\nVersion: {}\nTime offset (s): {}\nProxies: {proxies}\nMin tx relay fee rate (BTC/kvB): {}\n\n",
        paint.on(Paint::GREEN, &peers),
        field(&network, "version"),
        field(&network, "timeoffset"),
        field(&network, "relayfee"),
    )?;
    text.push_str(&wallets(remote, paint)?);
    let warnings = match network.get("warnings") {
        Json::Arr(rows) => rows.iter().map(shown).collect::<Vec<_>>().join("\n"),
        other => shown(other),
    };
    let warnings = if warnings.is_empty() { "(none)".to_owned() } else { warnings };
    write!(text, "{} {warnings}", paint.on(Paint::YELLOW, "Warnings:"))?;
    Ok(Reply::Result(text.into()))
}

/// The wallet that is meant, or all balances if several could be. A node without any has nothing here.
fn wallets(remote: &Remote, paint: Paint) -> Result<String> {
    let ask = |remote: &Remote, method: &str| -> Result<Option<Json>> {
        match remote.call(method, &Json::Arr(Vec::new()))? {
            Reply::Result(json) => Ok(Some(json)),
            Reply::Error(_) => Ok(None),
        }
    };
    let mine = |balances: &Json| shown(balances.get("mine").get("trusted"));
    if let Some(wallet) = ask(remote, "getwalletinfo")? {
        let name = Some(shown(wallet.get("walletname"))).filter(|name| !name.is_empty());
        let name = paint.on(Paint::MAGENTA, &format!("Wallet: {}", name.as_deref().unwrap_or("\"\"")));
        let mut text = format!("{name}\nKeypool size: {}\n", shown(wallet.get("keypoolsize")));
        if !wallet.get("unlocked_until").is_null() {
            writeln!(text, "Unlocked until: {}", shown(wallet.get("unlocked_until")))?;
        }
        if let Some(balances) = ask(remote, "getbalances")? {
            write!(text, "\n{} {}\n\n", paint.on(Paint::CYAN, "Balance:"), mine(&balances))?;
        }
        return Ok(text);
    }
    let Some(names) = ask(&remote.of_wallet(None), "listwallets")? else { return Ok(String::new()) };
    let mut rows = Vec::new();
    for name in names.items().unwrap_or_default().iter().filter_map(|name| name.text().ok()) {
        if let Some(balances) = ask(&remote.of_wallet(Some(name.to_owned())), "getbalances")? {
            rows.push((mine(&balances), if name.is_empty() { "\"\"".to_owned() } else { name.to_owned() }));
        }
    }
    if remote.wallet.is_some() || rows.is_empty() {
        return Ok(String::new());
    }
    let width = rows.iter().map(|(balance, _)| balance.len()).max().unwrap_or_default().max(10);
    let rows: String = rows.into_iter().map(|(balance, name)| format!("{balance:>width$} {name}\n")).collect();
    Ok(format!("{}\n{rows}\n", paint.on(Paint::CYAN, "Balances")))
}

/// `-addrinfo`.
pub(super) fn addresses(remote: &Remote) -> Result<Reply> {
    let known = asked!(remote.of_wallet(None), "getaddrmaninfo");
    let count = |network: &str| known.get(network).get("total").int::<u64>().unwrap_or_default();
    let mut rows = Json::obj();
    for network in NETWORKS {
        rows.put(network, count(network));
    }
    rows.put("total", NETWORKS.iter().map(|network| count(network)).sum::<u64>());
    Ok(Reply::Result(Json::obj().with("addresses_known", rows)))
}

/// `-netinfo`: how many peers there are, by network and direction.
pub(super) fn network(remote: &Remote) -> Result<Reply> {
    let plain = remote.of_wallet(None);
    let (chain, info) = (asked!(plain, "getblockchaininfo"), asked!(plain, "getnetworkinfo"));
    let peers = asked!(plain, "getpeerinfo");
    let peers = peers.items().unwrap_or_default();
    let reachable = info.get("networks").items().unwrap_or_default().iter();
    let reachable = reachable.filter(|row| row.get("reachable").bool() == Ok(true));
    let mut columns: Vec<String> = reachable.map(|row| shown(row.get("name"))).collect();
    if peers.iter().any(|peer| shown(peer.get("network")) == UNROUTABLE) {
        columns.push(UNROUTABLE.to_owned());
    }
    let is_inbound = |peer: &Json| peer.get("inbound").bool() == Ok(true);
    let of_kind = |kind: &str| peers.iter().filter(|peer| shown(peer.get("connection_type")) == kind).count();
    let manual = of_kind("manual");
    let mut text = format!(
        "{} - server {}{}\n\n     ",
        shown(chain.get("chain")),
        shown(info.get("protocolversion")),
        shown(info.get("subversion"))
    );
    for column in &columns {
        write!(text, "{:>8}", if column == UNROUTABLE { "npr" } else { column })?;
    }
    text.push_str("   total   block");
    if manual > 0 {
        text.push_str("  manual");
    }
    for (row, counted) in [("in", Some(true)), ("out", Some(false)), ("total", None)] {
        let all = || peers.iter().filter(|peer| counted.is_none_or(|inbound| is_inbound(peer) == inbound));
        write!(text, "\n{row:<5}")?;
        for column in &columns {
            write!(text, "{:>8}", all().filter(|peer| shown(peer.get("network")) == *column).count())?;
        }
        write!(text, "   {:>5}", all().count())?;
        if counted == Some(false) {
            write!(text, "   {:>5}", of_kind("block-relay-only"))?;
            if manual > 0 {
                write!(text, "   {manual:>5}")?;
            }
        }
    }
    let own = info.get("localaddresses").items().unwrap_or_default();
    text.push_str("\n\nLocal addresses");
    if own.is_empty() {
        text.push_str(": n/a");
    }
    for row in own {
        let (address, port, score) = (shown(row.get("address")), shown(row.get("port")), shown(row.get("score")));
        write!(text, "\n{address}    port {port:>6}    score {score:>6}")?;
    }
    Ok(Reply::Result(text.into()))
}
