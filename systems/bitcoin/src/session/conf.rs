//! Core's flags and its `bitcoin.conf`, as Core reads them.
//!
//! - `-name=value`, `--name=value`, `-name` (on) and `-noname` (off); names are of one list, and anything else is an error;
//! - the file has `name=value`, comments behind `#`, and sections `[main]`, `[test]`, `[testnet4]`, `[signet]`, `[regtest]`;
//!   what stands in none counts everywhere, but for what belongs to one network, which then counts on `main` alone;
//! - of a flag that is given twice the last counts, of a line of the file the first; flags come before the file. Lists take all.
//!
//! Deliberately absent: files (the text comes in), and what flags mean.

mod client;

use std::collections::{BTreeMap, BTreeSet};

pub use client::client_help;

use super::rpc::{CATEGORIES, Json};

/// What a flag may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// It counts on every network.
    All,
    /// In no section it counts on `main` alone.
    Network,
    /// On the command line alone.
    Command,
}

use Scope::{All, Command, Network};

/// A flag, how far it counts, and what it is for.
type Flag = (&'static str, Scope, &'static str);

/// Every flag of a node, how far it counts, and what it is for; nothing where it is taken for tools' sake and changes nothing here.
const FLAGS: &[Flag] = &[
    ("?", Command, "Print this help message and exit"),
    ("h", Command, "Print this help message and exit"),
    ("help", Command, "Print this help message and exit"),
    ("version", Command, "Print version and exit"),
    (
        "acceptnonstdtxn",
        All,
        "Relay and mine transactions that others would not relay (test networks only; default: 0)",
    ),
    ("acceptstalefeeestimates", All, ""),
    ("addnode", Network, "Add a node to connect to and stay connected to"),
    ("addrmantest", All, ""),
    ("addresstype", All, "New addresses of a wallet: legacy, p2sh-segwit, bech32, bech32m (default: bech32)"),
    ("allowignoredconf", All, ""),
    ("avoidpartialspends", All, "Spend what was paid to one address together (default: 0)"),
    ("alertnotify", All, "Run this command upon a warning (%s: its text)"),
    ("asmap", All, ""),
    ("assumevalid", All, "Take the scripts of this block and those below it to be good (0: check all)"),
    ("bantime", All, "Ban for so many seconds if nothing is said (default: 86400)"),
    ("bind", Network, "Listen for peers at this address (<addr>[:<port>][=onion])"),
    ("blockfilterindex", All, "Keep filters of blocks (BIP 158; default: 0)"),
    ("blockmaxweight", All, "Make no block heavier than this (default: 4000000)"),
    ("blockmintxfee", All, "Put nothing into a block that pays less, in BTC/kvB (default: 0.00000001)"),
    (
        "blockreconstructionextratxn",
        All,
        "Keep so many extra transactions to put compact blocks together (default: 100)",
    ),
    ("blockreservedweight", All, "Leave so much weight of a block for its header and coinbase (default: 8000)"),
    ("blocksdir", All, ""),
    ("blocksonly", All, "Take no transactions from peers (default: 0)"),
    ("blocksxor", All, ""),
    ("blockversion", All, "Blocks that are made have this version (regtest only)"),
    ("bytespersigop", All, "A signature operation counts as so many bytes at least (default: 20)"),
    ("capturemessages", All, ""),
    ("chain", All, "Use the chain <chain>: main, test, testnet4, signet, regtest (default: main)"),
    ("changetype", All, "What change of a wallet is paid to; as -addresstype if nothing is said"),
    ("checkaddrman", All, ""),
    ("checkblockindex", All, ""),
    ("checkblocks", All, ""),
    ("checklevel", All, ""),
    ("checkmempool", All, ""),
    ("checkpoints", All, ""),
    ("cjdnsreachable", All, ""),
    ("coinstatsindex", All, "Keep figures of all coins as of each block (gettxoutsetinfo; default: 0)"),
    ("conf", Command, "The configuration file (default: bitcoin.conf)"),
    (
        "consolidatefeerate",
        All,
        "Below this rate a wallet spends more coins than it must, in BTC/kvB (default: 0.0001)",
    ),
    ("connect", Network, "Connect to these nodes alone; -noconnect for none"),
    ("daemon", All, ""),
    ("daemonwait", All, ""),
    ("datacarrier", All, "Relay outputs that carry data (default: 1)"),
    ("datacarriersize", All, "Relay no more bytes of data in a transaction's outputs (default: 100000)"),
    ("datadir", All, "The data folder"),
    ("dbbatchsize", All, ""),
    ("dbcache", All, "Memory for coins, in MiB (default: 450)"),
    ("dbcrashratio", All, ""),
    ("debug", All, "Log this category (1 or all: every one)"),
    ("debugexclude", All, "Do not log this category"),
    ("debuglogfile", All, "The log (default: debug.log)"),
    ("deprecatedrpc", All, "Let calls that will go away still work"),
    ("disablewallet", All, "Serve no wallet"),
    ("discardfee", All, "Change below this rate is left to the miner, in BTC/kvB (default: 0.0001)"),
    ("discover", All, ""),
    ("dns", All, "Look names of nodes up; without it no seed is asked (default: 1)"),
    ("dnsseed", All, "Ask the network's seeds for addresses where few are known (default: 1, unless -connect)"),
    ("dustrelayfee", All, "Outputs are dust by this rate, in BTC/kvB (default: 0.00003)"),
    ("externalip", All, "Others reach us here"),
    ("fallbackfee", All, "What a wallet pays where nothing is estimated, in BTC/kvB (default: 0)"),
    ("fastprune", All, "Keep blocks in small files, for tests of -prune"),
    ("fixedseeds", All, ""),
    ("forcednsseed", All, "Ask the network's seeds in any case (default: 0)"),
    ("i2pacceptincoming", All, ""),
    ("i2psam", All, ""),
    ("includeconf", All, "Another file beside the configuration file"),
    ("incrementalrelayfee", All, "A replacement pays for itself by this rate, in BTC/kvB (default: 0.000001)"),
    ("insecure", All, "Take calls from beyond this machine, although passwords are sent in the clear (default: 0)"),
    ("keypool", All, ""),
    ("limitancestorcount", All, "No wallet spends what waits behind so many others (default: 25)"),
    ("limitancestorsize", All, ""),
    ("limitclustercount", All, "Take no transaction into a cluster of more than this many (default: 64)"),
    ("limitclustersize", All, "Take no transaction into a larger cluster, in kvB (default: 101)"),
    ("limitdescendantcount", All, "No wallet spends what waits among so many that hang together (default: 25)"),
    ("limitdescendantsize", All, ""),
    ("listen", All, "Take connections of peers (default: 1, unless -connect)"),
    ("listenonion", All, ""),
    ("loadblock", All, ""),
    ("logips", All, ""),
    ("loglevel", All, ""),
    ("loglevelalways", All, ""),
    ("logratelimit", All, ""),
    ("logsourcelocations", All, ""),
    ("logthreadnames", All, ""),
    ("logtimemicros", All, "Log moments to the microsecond (default: 0)"),
    ("logtimestamps", All, ""),
    (
        "maxapsfee",
        All,
        "Spend what was paid to one address together if that costs no more beside the fee, in BTC; -1 not to look (default: 0)",
    ),
    ("maxconnections", All, "Have no more peers at once (default: 125)"),
    ("maxmempool", All, "Keep the mempool below this, in megabytes (default: 300)"),
    ("maxorphantx", All, ""),
    ("maxreceivebuffer", All, "Memory for what a peer sent, in kB (default: 5000)"),
    ("maxsendbuffer", All, "Memory for what a peer is to be sent, in kB (default: 1000)"),
    ("maxsigcachesize", All, ""),
    ("maxtipage", All, "A tip older than this, in seconds, is not the network's (default: 86400)"),
    ("maxtxfee", All, "No call and no wallet pays more for a transaction, in BTC (default: 0.1)"),
    ("maxuploadtarget", All, "Send no more than this in a day, in MiB (default: 0, no bound)"),
    ("mempoolexpiry", All, "Give up what waited longer, in hours (default: 336)"),
    ("minimumchainwork", All, "Look at no chain with less work, in hex"),
    ("minrelaytxfee", All, "Relay nothing that pays less, in BTC/kvB (default: 0.000001)"),
    ("mintxfee", All, ""),
    ("mocktime", All, "Begin at this time, in seconds since 1970"),
    ("natpmp", All, ""),
    ("networkactive", All, "Talk to peers (default: 1)"),
    ("onion", All, ""),
    ("onlynet", All, ""),
    ("par", All, ""),
    ("paytxfee", All, ""),
    ("peerblockfilters", All, "Serve filters of blocks to peers (BIP 157; default: 0)"),
    ("peerbloomfilters", All, "Serve Bloom filters to peers (BIP 37; default: 0)"),
    ("peertimeout", All, "Let a peer go that says nothing for so many seconds (default: 60)"),
    ("permitbaremultisig", All, "Relay outputs to several keys without a hash (default: 1)"),
    ("persistmempool", All, "Keep the mempool across restarts (default: 1)"),
    ("persistmempoolv1", All, "Write the mempool in its old form (default: 0)"),
    ("pid", All, "Where the process's number is written"),
    ("port", Network, "Listen for peers at this port (default: 8333, testnet4: 48333, signet: 38333, regtest: 18444)"),
    ("printpriority", All, ""),
    ("printtoconsole", All, "Log to the console, too"),
    ("privatebroadcast", All, ""),
    ("proxy", All, ""),
    ("proxyrandomize", All, ""),
    (
        "prune",
        All,
        "Throw old blocks away: 0 none, 1 by pruneblockchain, 550 or more to keep files below so many MiB (default: 0)",
    ),
    ("regtest", All, "Use a network of one's own, whose blocks cost nothing"),
    ("reindex", All, "Make the index of blocks and the coins anew, out of the files of blocks (default: 0)"),
    ("reindex-chainstate", All, "Make the coins anew, out of the blocks (default: 0)"),
    ("rest", All, "Serve REST without a password (default: 0)"),
    ("rpcallowip", All, "Take calls from this address or subnet"),
    ("rpcauth", All, "A user and a salted hash of the password: <user>:<salt>$<hash>"),
    ("rpcbind", Network, "Listen for calls at this address"),
    ("rpccookiefile", All, "Where the cookie is (default: .cookie in the network's folder)"),
    ("rpccookieperms", All, ""),
    ("rpcdoccheck", All, ""),
    ("rpcpassword", All, "The password for calls"),
    (
        "rpcport",
        Network,
        "Listen for calls at this port (default: 8332, testnet4: 48332, signet: 38332, regtest: 18443)",
    ),
    ("rpcservertimeout", All, ""),
    ("rpcthreads", All, ""),
    ("rpcuser", All, "The user for calls"),
    ("rpcwhitelist", All, "What a user may call: <user>:<method>,..."),
    ("rpcwhitelistdefault", All, "Users who are not named may call nothing"),
    ("rpcworkqueue", All, ""),
    ("seednode", All, "Ask this node for addresses where few are known"),
    ("server", All, "Take calls (default: 1)"),
    ("settings", All, ""),
    ("shrinkdebugfile", All, ""),
    ("signer", All, ""),
    ("signet", All, "Use a network whose blocks are signed"),
    ("signetchallenge", All, "Whom blocks of the signet must be signed by, in hex"),
    ("signetseednode", All, ""),
    ("spendzeroconfchange", All, ""),
    ("startupnotify", All, "Run this command once the node serves"),
    ("shutdownnotify", All, "Run this command when the node ends, and wait for it; there may be several"),
    ("blocknotify", All, "Run this command upon a new tip (%s: the block's hash)"),
    ("stopafterblockimport", All, ""),
    ("stopatheight", All, "End once a block of this height is the tip (default: 0, never)"),
    ("swapbdbendian", All, ""),
    ("test", All, ""),
    ("testactivationheight", All, "Since when a rule holds on regtest: <name>@<height>"),
    ("testnet", All, "Use the third test network"),
    ("testnet4", All, "Use the fourth test network"),
    ("timeout", All, ""),
    ("torcontrol", All, ""),
    ("torpassword", All, ""),
    ("txconfirmtarget", All, ""),
    ("txindex", All, "Find every transaction by its id (default: 0)"),
    ("txospenderindex", All, "Find who spends an output (gettxspendingprevout; default: 0)"),
    ("txreconciliation", All, ""),
    ("uacomment", All, "A comment in our name"),
    ("unsafesqlitesync", All, ""),
    ("v2onlyclearnet", All, ""),
    ("v2transport", All, "Speak under a cipher where peers can (BIP 324; default: 1)"),
    ("vbparams", All, ""),
    ("wallet", Network, "Load this wallet"),
    ("walletbroadcast", All, ""),
    ("walletcrosschain", All, ""),
    ("walletdir", All, ""),
    (
        "walletnotify",
        All,
        "Run this command upon a wallet's transaction (%s: its id, %w: the wallet, %b: the block or unconfirmed, %h: the height or -1)",
    ),
    ("walletrbf", All, ""),
    ("walletrejectlongchains", All, ""),
    ("whitebind", All, "Listen for peers here who may do more: <permissions>@<addr>"),
    ("whitelist", All, "These peers may do more: <permissions>@<subnet>"),
    ("whitelistforcerelay", All, ""),
    ("whitelistrelay", All, ""),
    ("zmqpubhashblock", All, "Tell hashes of blocks at this address"),
    ("zmqpubhashblockhwm", All, ""),
    ("zmqpubhashtx", All, "Tell hashes of transactions at this address"),
    ("zmqpubhashtxhwm", All, ""),
    ("zmqpubrawblock", All, "Tell blocks at this address"),
    ("zmqpubrawblockhwm", All, ""),
    ("zmqpubrawtx", All, "Tell transactions at this address"),
    ("zmqpubrawtxhwm", All, ""),
    ("zmqpubsequence", All, "Tell every change at this address"),
    ("zmqpubsequencehwm", All, ""),
];

fn flag(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().chain(client::FLAGS).find(|(known, ..)| *known == name)
}

/// What is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    command: BTreeMap<&'static str, Vec<String>>,
    /// By section; the empty one stands for none.
    file: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    section: &'static str,
    /// What is odd and no error.
    pub warnings: Vec<String>,
    /// What is not followed, and the operator is to see at once.
    pub ignored: Vec<String>,
}

/// `-noname=0` turns on, and `-noname` off.
fn negated(name: &str, value: Option<&str>) -> Option<(&'static str, String)> {
    let (known, ..) = flag(name.strip_prefix("no")?)?;
    let on = value.is_some_and(|value| !is_true(value));
    Some((known, if on { "1" } else { "0" }.to_owned()))
}

fn is_category(word: &str) -> bool {
    matches!(word, "" | "1" | "all" | "libevent") || CATEGORIES.contains(&word)
}

fn is_true(value: &str) -> bool {
    let digits = value.trim().trim_start_matches('-');
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    value.is_empty() || digits[..end].parse::<u64>().is_ok_and(|number| number != 0)
}

impl Conf {
    /// Reads a node's command line, without the program's name.
    ///
    /// # Errors
    /// Core's words.
    pub fn from_command_line<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        Self::from_line(args, FLAGS)
    }

    /// Reads the flags of a client's command line, which stand in front of the method.
    ///
    /// # Errors
    /// Core's words.
    pub fn from_client_line<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        Self::from_line(args, client::FLAGS)
    }

    fn from_line<'a>(args: impl IntoIterator<Item = &'a str>, flags: &[Flag]) -> Result<Self, String> {
        let mut conf = Self { section: "main", ..Self::default() };
        let known_here = |name: &str| flags.iter().any(|(own, ..)| *own == name);
        for arg in args {
            let Some(rest) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                return Err(format!(
                    "Command line contains unexpected token '{arg}', see verity bitcoind -h for a list of options."
                ));
            };
            let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
            let found = match flag(name) {
                Some((known, ..)) => Some((*known, value.unwrap_or_default().to_owned())),
                None => negated(name, value),
            };
            if flag(name).is_none() && value.is_some_and(|value| !is_true(value)) && found.is_some() {
                let plain = name.trim_start_matches("no");
                let value = value.unwrap_or_default();
                conf.warnings.push(format!("Parsed potentially confusing double-negative -{plain}={value}"));
            }
            let (known, value) = found
                .filter(|(known, _)| known_here(known))
                .ok_or_else(|| format!("Error parsing command line arguments: Invalid parameter {arg}"))?;
            let values = conf.command.entry(known).or_default();
            if name != known {
                // What came before does not count.
                values.clear();
            }
            values.push(value);
        }
        if let Some(value) =
            conf.command.get("includeconf").and_then(|values| values.first()).filter(|value| *value != "0")
        {
            return Err(format!(
                "Error parsing command line arguments: -includeconf cannot be used from commandline; -includeconf={}",
                if value.is_empty() || value == "1" { "true".to_owned() } else { format!("{value:?}") }
            ));
        }
        conf.section = conf.network()?;
        Ok(conf)
    }

    /// Reads a configuration file, and those that it includes, which `read` brings.
    ///
    /// # Errors
    /// Core's words.
    pub fn read_file(
        &mut self,
        text: &str,
        read: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        self.parse(text, "bitcoin.conf")?;
        self.section = self.network()?;
        let included = self.all("includeconf");
        for path in &included {
            let missing = |_| format!("Error reading configuration file: Failed to include configuration file {path}");
            let text = read(path).map_err(missing)?;
            self.parse(&text, path)?;
        }
        // One level is enough for everybody, and what includes itself would have no end.
        let mut nested = self.all("includeconf");
        nested.retain(|path| !included.contains(path));
        let words = |path| format!("-includeconf cannot be used from included files; ignoring -includeconf={path}");
        self.ignored = nested.into_iter().map(words).collect();
        self.section = self.network()?;
        Ok(())
    }

    fn parse(&mut self, text: &str, path: &str) -> Result<(), String> {
        let (mut section, mut unknown) = (String::new(), BTreeSet::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                if !matches!(name, "main" | "test" | "testnet4" | "signet" | "regtest") {
                    self.warnings.push(format!("Section [{name}] is not recognized."));
                }
                continue;
            }
            let place = at + 1;
            if line.starts_with('-') {
                let why = "options in configuration file must be specified without leading -";
                return Err(format!("Error reading configuration file: parse error on line {place}: {line}, {why}"));
            }
            let Some((name, value)) = line.split_once('=') else {
                let hint = if line.starts_with("no") {
                    ", if you intended to specify a negated option, use nofoo=1 instead"
                } else {
                    ""
                };
                return Err(format!("Error reading configuration file: parse error on line {place}: {line}{hint}"));
            };
            let (name, value) = (name.trim(), value.trim());
            let (inner, name) = name.split_once('.').map_or((section.as_str(), name), |(inner, name)| (inner, name));
            let (name, value) = match (flag(name), negated(name, Some(value))) {
                (Some((known, ..)), _) => (*known, value.to_owned()),
                (None, Some(pair)) => pair,
                (None, None) => {
                    unknown.insert(name.to_owned());
                    continue;
                }
            };
            if name == "conf" {
                return Err(format!(
                    "Error reading configuration file: conf cannot be set in the configuration file; use includeconf= if you want to include additional config files ({path})"
                ));
            }
            let values = self.file.entry(inner.to_owned()).or_default();
            values.entry(name.to_owned()).or_default().push(value);
        }
        self.warnings.extend(unknown.into_iter().map(|name| format!("Ignoring unknown configuration value {name}")));
        Ok(())
    }

    /// The chosen network, as Core's folders and sections call it.
    ///
    /// # Errors
    /// More than one is chosen, or one that nobody knows.
    pub fn network(&self) -> Result<&'static str, String> {
        let flags = [("regtest", "regtest"), ("signet", "signet"), ("testnet", "test"), ("testnet4", "testnet4")];
        let mut chosen = Vec::new();
        for (name, network) in flags {
            if self.is_set_anywhere(name) {
                chosen.push(network);
            }
        }
        let named = self.get("chain");
        if chosen.len() + usize::from(named.is_some()) > 1 {
            return Err(
                "Invalid combination of -regtest, -signet, -testnet, -testnet4 and -chain. Can use at most one."
                    .to_owned(),
            );
        }
        match named.as_deref() {
            None => Ok(chosen.first().copied().unwrap_or("main")),
            Some("main") => Ok("main"),
            Some("test") => Ok("test"),
            Some("testnet4") => Ok("testnet4"),
            Some("signet") => Ok("signet"),
            Some("regtest") => Ok("regtest"),
            Some(other) => Err(format!("Unknown chain {other}.")),
        }
    }

    /// A network is chosen outside of sections alone.
    fn is_set_anywhere(&self, name: &str) -> bool {
        let on = |values: &Vec<String>| values.last().is_some_and(|value| is_true(value));
        match self.command.get(name) {
            Some(values) => on(values),
            None => {
                let first = self.file.get("").and_then(|values| values.get(name)).and_then(|values| values.first());
                first.is_some_and(|value| is_true(value))
            }
        }
    }

    /// What the file says, those of the network's section first.
    fn of_file(&self, name: &str) -> impl Iterator<Item = &String> {
        let scope = flag(name).map_or(All, |(_, scope, _)| *scope);
        let everywhere = scope == All || self.section == "main";
        let in_section = self.file.get(self.section).and_then(|values| values.get(name));
        let outside = self.file.get("").filter(|_| everywhere).and_then(|values| values.get(name));
        in_section.into_iter().flatten().chain(outside.into_iter().flatten())
    }

    /// What a flag is set to.
    ///
    /// # Panics
    /// If there is no such flag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        assert!(flag(name).is_some(), "-{name} is in the list");
        self.command.get(name).and_then(|values| values.last()).or_else(|| self.of_file(name).next()).cloned()
    }

    /// Whether it is on; `otherwise` if nothing is said.
    #[must_use]
    pub fn is_on(&self, name: &str, otherwise: bool) -> bool {
        self.get(name).map_or(otherwise, |value| is_true(&value))
    }

    /// All that is set, a line each, for the log: the files' first. What lets somebody in is not shown.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        const SECRETS: [&str; 4] = ["rpcauth", "rpcpassword", "rpcuser", "torpassword"];
        let shown = |name: &str, value: &String| {
            if SECRETS.contains(&name) { "****".to_owned() } else { Json::from(value.as_str()).write() }
        };
        let mut lines = Vec::new();
        for (section, values) in &self.file {
            let section = if section.is_empty() { String::new() } else { format!("[{section}] ") };
            for (name, value) in values.iter().flat_map(|(name, all)| all.iter().map(move |value| (name, value))) {
                lines.push(format!("Config file arg: {section}{name}={}", shown(name, value)));
            }
        }
        for (name, value) in self.command.iter().flat_map(|(name, all)| all.iter().map(move |value| (name, value))) {
            lines.push(format!("Command-line arg: {name}={}", shown(name, value)));
        }
        lines
    }

    /// Which categories are logged, as they are said: what stands before the last `0` or `none` counts no more.
    ///
    /// # Errors
    /// One is unknown.
    pub fn categories(&self) -> Result<Vec<String>, String> {
        for name in ["debug", "debugexclude"] {
            if let Some(word) = self.said_categories(name).iter().find(|word| !is_category(word)) {
                return Err(format!("Unsupported logging category -{name}={word}."));
            }
        }
        let excluded = self.said_categories("debugexclude");
        let all = self.said_categories("debug");
        let every = all.iter().any(|word| matches!(word.as_str(), "" | "1" | "all"));
        let named = |word: &&&str| every || all.iter().any(|said| said == **word);
        let left = CATEGORIES.iter().filter(named).filter(|word| !excluded.iter().any(|said| said == *word));
        Ok(left.map(|word| (*word).to_owned()).collect())
    }

    /// Judges what `-loglevel` says, for all categories or for one.
    ///
    /// # Errors
    /// There is no such level, or no such category.
    pub fn check_log_levels(&self) -> Result<(), String> {
        let is_level = |word: &str| matches!(word, "info" | "debug" | "trace");
        for word in self.all("loglevel") {
            match word.split_once(':') {
                Some((category, level)) if is_category(category) && is_level(level) => {}
                Some(_) => return Err(format!("Unsupported category-specific logging level -loglevel={word}.")),
                None if is_level(&word) => {}
                None => {
                    return Err(format!(
                        "Unsupported global logging level -loglevel={word}. Valid values: info, debug, trace."
                    ));
                }
            }
        }
        Ok(())
    }

    fn said_categories(&self, name: &str) -> Vec<String> {
        let command = self.command.get(name).into_iter().flatten();
        let mut all: Vec<String> = command.chain(self.of_file(name)).cloned().collect();
        if let Some(last) = all.iter().rposition(|word| matches!(word.as_str(), "0" | "none")) {
            all.drain(..=last);
        }
        all
    }

    /// A whole number.
    ///
    /// # Errors
    /// What is said is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| format!("Invalid value for -{name}=<n>: '{value}'"))
    }

    /// An amount in bitcoin, in satoshi.
    ///
    /// # Errors
    /// What is said is none.
    pub fn amount(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let amount = bitcoin::Amount::from_str_in(&value, bitcoin::Denomination::Bitcoin);
        amount
            .map(|amount| Some(amount.to_sat()))
            .map_err(|_| format!("Invalid amount for -{name}=<amount>: '{value}'"))
    }

    /// All that is said: of flags, then of the file. What was turned off has nothing.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let command = self.command.get(name);
        if command.is_some_and(|values| values.last().is_some_and(|value| value == "0")) {
            return Vec::new();
        }
        let mut all: Vec<String> = command.into_iter().flatten().filter(|value| *value != "0").cloned().collect();
        let mut file: Vec<String> = self.of_file(name).cloned().collect();
        if let Some(off) = file.iter().rposition(|value| value == "0") {
            file.drain(..=off);
        }
        all.append(&mut file);
        all
    }

    /// True if something was said, be it that it is off.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// The text of `-help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Usage: verity bitcoind [options]\n\nOptions that change something here:\n");
    for (name, _, words) in FLAGS.iter().filter(|(.., words)| !words.is_empty()) {
        text.push_str(&format!("\n  -{name}\n       {words}\n"));
    }
    let taken: Vec<String> =
        FLAGS.iter().filter(|(.., words)| words.is_empty()).map(|(name, ..)| format!("-{name}")).collect();
    text.push_str(&format!(
        "\nTaken, so that tools need not know whom they start, and without effect:\n\n  {}\n",
        taken.join(" ")
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(args: &[&str], file: &str) -> Conf {
        let mut conf = Conf::from_command_line(args.iter().copied()).expect("they are flags");
        conf.read_file(file, &mut |_| Err(String::new())).expect("it is a file");
        conf
    }

    #[test]
    fn the_last_flag_and_the_first_line_count() {
        let conf = conf(
            &["-port=1", "--port=2", "-nolisten", "-debug=net", "-debug=rpc"],
            "rpcport=5\nrpcport=6\ndebug=zmq\n",
        );
        assert_eq!(conf.get("port").as_deref(), Some("2"));
        assert_eq!(conf.get("rpcport").as_deref(), Some("5"));
        assert!(!conf.is_on("listen", true));
        assert_eq!(conf.all("debug"), ["net", "rpc", "zmq"]);
        assert!(conf.is_on("server", true) && !conf.is_on("rest", false));
    }

    #[test]
    fn sections_are_of_their_networks() {
        let text = "regtest=1\nrpcport=1\nrest=1\n[regtest]\nport=7 # a comment\nconnect=0\n[main]\nport=8\n";
        let conf = conf(&[], text);
        assert_eq!(conf.network(), Ok("regtest"));
        assert_eq!(conf.get("port").as_deref(), Some("7"));
        assert_eq!(conf.get("rpcport"), None, "outside of a section it is of main");
        assert!(conf.is_on("rest", false));
        assert!(conf.is_set("connect") && conf.all("connect").is_empty());
    }

    #[test]
    fn what_is_turned_off_has_nothing() {
        let conf = conf(&["-noconnect", "-nodebug=0"], "addnode=a\nnoaddnode=1\naddnode=b\nunheard=1\n");
        assert!(conf.all("connect").is_empty() && conf.is_set("connect"));
        assert!(conf.is_on("debug", false));
        assert_eq!(conf.all("addnode"), ["b"]);
        let double = "Parsed potentially confusing double-negative -debug=0";
        assert_eq!(conf.warnings, [double, "Ignoring unknown configuration value unheard"]);
    }

    #[test]
    fn mistakes_are_told_in_cores_words() {
        let said = |arg: &str| Conf::from_command_line([arg]).expect_err("no flag");
        assert_eq!(said("-foo=1"), "Error parsing command line arguments: Invalid parameter -foo=1");
        assert!(said("word").starts_with("Command line contains unexpected token 'word'"));
        let both = Conf::from_command_line(["-regtest", "-signet"]).expect_err("two networks");
        assert!(both.starts_with("Invalid combination of -regtest"));
        assert_eq!(said("-chain=moon"), "Unknown chain moon.");
        let mut conf = Conf::from_command_line(["-regtest"]).expect("a flag");
        let mut none = |_: &str| Err(String::new());
        assert!(conf.read_file("-rest=1", &mut none).expect_err("a dash").contains("without leading -"));
        assert!(conf.read_file("nolisten", &mut none).expect_err("no value").ends_with("use nofoo=1 instead"));
        let conf = Conf::from_command_line(["-maxconnections=many", "-minrelaytxfee=0.00001"]).expect("flags");
        assert_eq!(conf.number("maxconnections"), Err("Invalid value for -maxconnections=<n>: 'many'".to_owned()));
        assert_eq!(conf.amount("minrelaytxfee"), Ok(Some(1_000)));
    }

    #[test]
    fn categories_count_from_the_last_none_on() {
        let said = |args: &[&str]| Conf::from_command_line(args.iter().copied()).expect("flags").categories();
        assert_eq!(said(&["-debug=abc"]), Err("Unsupported logging category -debug=abc.".to_owned()));
        assert_eq!(said(&["-debugexclude=abc"]), Err("Unsupported logging category -debugexclude=abc.".to_owned()));
        for off in ["-debug=0", "-debug=none", "-nodebug"] {
            let left = said(&["-debug=http", "-debug=abc", off, "-debug=rpc", "-debug=net"]);
            assert_eq!(left, Ok(vec!["net".to_owned(), "rpc".to_owned()]));
        }
        let level = |arg: &str| Conf::from_command_line([arg]).expect("a flag").check_log_levels();
        assert_eq!((level("-loglevel=trace"), level("-loglevel=net:debug")), (Ok(()), Ok(())));
        for wrong in ["-loglevel=abc", "-loglevel=net:abc", "-loglevel=net:info:abc", "-loglevel=abc:info"] {
            assert!(level(wrong).is_err_and(|words| words.contains(wrong)), "{wrong}");
        }
        let most = said(&["-debug", "-debugexclude=net"]).expect("known");
        assert!(most.len() + 1 == CATEGORIES.len() && !most.contains(&"net".to_owned()));
    }

    #[test]
    fn an_included_file_includes_no_other() {
        let mut conf = Conf::from_command_line([]).expect("no flags");
        let text = |path: &str| match path {
            "a" => Ok("rest=1\nincludeconf=b\n".to_owned()),
            _ => Err(String::new()),
        };
        conf.read_file("includeconf=a\n", &mut |path| text(path)).expect("files");
        assert!(conf.is_on("rest", false));
        let mut other = Conf::from_command_line([]).expect("no flags");
        let missing = other.read_file("includeconf=c\n", &mut |path| text(path)).expect_err("no such file");
        assert!(missing.ends_with("Failed to include configuration file c"), "{missing}");
        let words = "-includeconf cannot be used from included files; ignoring -includeconf=b";
        assert_eq!(conf.ignored, [words]);
    }

    #[test]
    fn all_that_is_set_is_shown_but_secrets() {
        let mut conf =
            Conf::from_command_line(["-addnode=a", "-rpcpassword=", "-nolisten", "-rpcuser=me"]).expect("flags");
        let file = "regtest=1\nrpcauth=me:1$2\n[regtest]\nuacomment=a\"b\n";
        conf.read_file(file, &mut |_| Err(String::new())).expect("no other files");
        let lines = conf.lines();
        let expected = [
            r#"Config file arg: regtest="1""#,
            "Config file arg: rpcauth=****",
            r#"Config file arg: [regtest] uacomment="a\"b""#,
            r#"Command-line arg: addnode="a""#,
            r#"Command-line arg: listen="0""#,
            "Command-line arg: rpcpassword=****",
            "Command-line arg: rpcuser=****",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_double_no_is_warned_of() {
        let conf = Conf::from_command_line(["-nolisten=0", "-noserver", "-nodns=1"]).expect("flags");
        assert_eq!(conf.warnings, ["Parsed potentially confusing double-negative -listen=0"]);
        assert!(conf.is_on("listen", false) && !conf.is_on("dns", true));
    }

    #[test]
    fn names_are_listed_once() {
        let names: BTreeSet<&str> = FLAGS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), FLAGS.len());
        assert!(help().contains("-rpcport"));
    }
}
