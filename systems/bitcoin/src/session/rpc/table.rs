//! Every method by its name: where it belongs, what it takes, what does it.
//!
//! Names, their order and the types of arguments are interface: clients send them by place and by name.

use super::methods::{
    addresses, blocks, coins, control, deployments, fees, mempool, mining, network, proof, psbt, raw, scan, sign,
    stats, submit, template,
};
use super::spec::Kind::{Amount, Arr, Bool, Hex, Named, Num, Obj, Range, Str};
use super::spec::{Arg, Method, Run, opt, req};

/// The method of this name, here or in the other table.
pub(super) fn find(name: &str, more: &'static [Method]) -> Option<&'static Method> {
    METHODS.iter().chain(more).find(|method| method.name == name)
}

/// All of them, by category and name.
pub(super) fn all(more: &'static [Method]) -> Vec<&'static Method> {
    let mut all: Vec<&'static Method> = METHODS.iter().chain(more).collect();
    all.sort_by_key(|method| (method.category, method.name));
    all
}

const ECHO: &[Arg] = &[
    opt("arg0", Str).unchecked(),
    opt("arg1", Str).unchecked(),
    opt("arg2", Str).unchecked(),
    opt("arg3", Str).unchecked(),
    opt("arg4", Str).unchecked(),
    opt("arg5", Str).unchecked(),
    opt("arg6", Str).unchecked(),
    opt("arg7", Str).unchecked(),
    opt("arg8", Str).unchecked(),
    opt("arg9", Str).unchecked(),
];

macro_rules! table {
    ($($category:literal $name:literal $args:expr, $about:literal, $run:expr;)*) => {
        &[$(Method::new($category, $name, $args, $about, $run)),*]
    };
}

static METHODS: &[Method] = table! {
    "blockchain" "dumptxoutset"
        &[
            req("path", Str),
            opt("type", Str),
            opt("options", Named)
                .shown(r#"{"rollback":n,"in_memory":bool,...}"#).options(&[("rollback", Num), ("in_memory", Bool)]),
        ],
        "Writes all unspent outputs to a file, as of the tip (latest) or of a block below it (rollback).",
        Run::Now(coins::dumptxoutset);
    "blockchain" "getbestblockhash" &[], "The hash of the tip.", Run::Now(blocks::getbestblockhash);
    "blockchain" "getblock"
        &[req("blockhash", Hex), opt("verbosity|verbose", Num).unchecked()],
        "A block: its bytes (0), its fields (1), with transactions (2), and with what they spent (3).",
        Run::Now(blocks::getblock);
    "blockchain" "getblockchaininfo" &[], "What the chain is at.", Run::Now(blocks::getblockchaininfo);
    "blockchain" "getblockcount" &[], "The height of the tip.", Run::Now(blocks::getblockcount);
    "blockchain" "getblockfilter"
        &[req("blockhash", Hex), opt("filtertype", Str)],
        "The BIP 157 filter of a block.",
        Run::Now(blocks::getblockfilter);
    "blockchain" "getblockfrompeer"
        &[req("blockhash", Hex), req("peer_id", Num)],
        "Asks a peer for a block of which the header is known.",
        Run::Now(blocks::getblockfrompeer);
    "blockchain" "getblockhash"
        &[req("height", Num)],
        "The hash of the block at this height of the best chain.",
        Run::Now(blocks::getblockhash);
    "blockchain" "getblockheader"
        &[req("blockhash", Hex), opt("verbose", Bool)],
        "A header, or its bytes.",
        Run::Now(blocks::getblockheader);
    "blockchain" "getblockstats"
        &[req("hash_or_height", Num).unchecked(), opt("stats", Arr).shown("stats")],
        "Figures of one block. Amounts are in satoshi.",
        Run::Now(stats::getblockstats);
    "blockchain" "getchainstates" &[], "The states of the chain that are kept.", Run::Now(blocks::getchainstates);
    "blockchain" "getchaintips" &[], "The ends of all branches that are known.", Run::Now(blocks::getchaintips);
    "blockchain" "getchaintxstats"
        &[opt("nblocks", Num), opt("blockhash", Hex)],
        "How many transactions there are, and how fast they come.",
        Run::Now(stats::getchaintxstats);
    "blockchain" "getconfirmationconfidence"
        &[req("confirmations", Num), opt("attacker_share", Num)],
        "How likely a block with so many confirmations is to stay, against an attacker with a share of all hash power.",
        Run::Now(blocks::getconfirmationconfidence);
    "blockchain" "getdeploymentinfo"
        &[opt("blockhash", Hex)],
        "Which soft forks there are, and since when they hold.",
        Run::Now(deployments::getdeploymentinfo);
    "blockchain" "getdescriptoractivity"
        &[
            req("blockhashes", Arr).shown(r#"["blockhash",...]"#),
            req("scanobjects", Arr).shown("[scanobjects,...]"),
            opt("include_mempool", Bool),
        ],
        "What descriptors received and spent in these blocks.",
        Run::Now(scan::getdescriptoractivity);
    "blockchain" "getdifficulty"
        &[],
        "How many times harder a block is to find than the easiest that there can be.",
        Run::Now(blocks::getdifficulty);
    "blockchain" "getmempoolancestors"
        &[req("txid", Hex), opt("verbose", Bool)],
        "What a transaction that waits stands on.",
        Run::Now(mempool::getmempoolancestors);
    "blockchain" "getmempoolcluster"
        &[req("txid", Hex)],
        "All that is connected to a transaction that waits.",
        Run::Now(mempool::getmempoolcluster);
    "blockchain" "getmempooldescendants"
        &[req("txid", Hex), opt("verbose", Bool)],
        "What stands on a transaction that waits.",
        Run::Now(mempool::getmempooldescendants);
    "blockchain" "getmempoolentry"
        &[req("txid", Hex)],
        "A transaction that waits.",
        Run::Now(mempool::getmempoolentry);
    "blockchain" "getmempoolinfo" &[], "What the mempool is at.", Run::Now(mempool::getmempoolinfo);
    "blockchain" "getrawmempool"
        &[opt("verbose", Bool), opt("mempool_sequence", Bool)],
        "All transactions that wait.",
        Run::Now(mempool::getrawmempool);
    "blockchain" "gettxout"
        &[req("txid", Str), req("n", Num), opt("include_mempool", Bool)],
        "An unspent output, or nothing.",
        Run::Now(coins::gettxout);
    "blockchain" "gettxoutproof"
        &[req("txids", Arr).shown(r#"["txid",...]"#), opt("blockhash", Hex)],
        "A proof that transactions are in a block.",
        Run::Now(proof::gettxoutproof);
    "blockchain" "gettxoutsetinfo"
        &[opt("hash_type", Str), opt("hash_or_height", Num).unchecked(), opt("use_index", Bool)],
        "Figures of all unspent outputs.",
        Run::Now(coins::gettxoutsetinfo);
    "blockchain" "gettxspendingprevout"
        &[
            req("outputs", Arr).shown(r#"[{"txid":"hex","vout":n},...]"#),
            opt("options", Named)
                .shown(r#"{"mempool_only":bool,"return_spending_tx":bool,...}"#)
                .options(&[("mempool_only", Bool), ("return_spending_tx", Bool)]),
        ],
        "Who spends these outputs, in the mempool or in a block (-txospenderindex).",
        Run::Now(mempool::gettxspendingprevout);
    "blockchain" "importmempool"
        &[
            req("filepath", Str),
            opt("options", Named)
                .shown("options")
                .options(&[("use_current_time", Bool), ("apply_fee_delta_priority", Bool), ("apply_unbroadcast_set", Bool)]),
        ],
        "Loads a mempool's file.",
        Run::Now(mempool::importmempool);
    "blockchain" "loadtxoutset"
        &[req("path", Str)],
        "Loads unspent outputs from a file.",
        Run::Now(coins::loadtxoutset);
    "blockchain" "preciousblock"
        &[req("blockhash", Hex)],
        "Treats a block as if it had come before others with the same work.",
        Run::Now(blocks::preciousblock);
    "blockchain" "pruneblockchain"
        &[req("height", Num)],
        "Deletes blocks up to a height; a node that prunes alone can.",
        Run::Now(blocks::pruneblockchain);
    "blockchain" "savemempool" &[], "Writes the mempool to its file.", Run::Now(mempool::savemempool);
    "blockchain" "scanblocks"
        &[
            req("action", Str),
            opt("scanobjects", Arr).shown("[scanobjects,...]"),
            opt("start_height", Num),
            opt("stop_height", Num),
            opt("filtertype", Str),
            opt("options", Named).shown("options").options(&[("filter_false_positives", Bool)]),
        ],
        "Looks for blocks that may concern descriptors, by their filters.",
        Run::Now(scan::scanblocks);
    "blockchain" "scantxoutset"
        &[req("action", Str), opt("scanobjects", Arr).shown("[scanobjects,...]")],
        "Looks for unspent outputs of descriptors.",
        Run::Now(scan::scantxoutset);
    "blockchain" "verifychain"
        &[opt("checklevel", Num), opt("nblocks", Num)],
        "Looks at the last blocks again.",
        Run::Now(blocks::verifychain);
    "blockchain" "verifytxoutproof"
        &[req("proof", Hex)],
        "Which transactions a proof commits to, if its block is part of the best chain.",
        Run::Now(proof::verifytxoutproof);
    "blockchain" "waitforblock"
        &[req("blockhash", Hex), opt("timeout", Num)],
        "Waits until a block is the tip, and tells what the tip is.",
        Run::Wait(blocks::waitforblock);
    "blockchain" "waitforblockheight"
        &[req("height", Num), opt("timeout", Num)],
        "Waits for a tip at least this high, and tells it.",
        Run::Wait(blocks::waitforblockheight);
    "blockchain" "waitfornewblock"
        &[opt("timeout", Num), opt("current_tip", Hex)],
        "Waits for another tip, and tells it.",
        Run::Wait(blocks::waitfornewblock);
    "control" "getmemoryinfo" &[opt("mode", Str)], "How much memory is in use.", Run::Now(control::getmemoryinfo);
    "control" "getrpcinfo" &[], "What the server for calls is at.", Run::Now(control::getrpcinfo);
    "control" "help" &[opt("command", Str)], "All methods, or what is said of one.", Run::Now(control::help);
    "control" "logging"
        &[
            opt("include", Arr).shown(r#"["include_category",...]"#),
            opt("exclude", Arr).shown(r#"["exclude_category",...]"#),
        ],
        "Which categories are logged; changes that first. The valid logging categories are: addrman, bench, blockstorage, cmpctblock, coindb, estimatefee, http, i2p, ipc, kernel, leveldb, mempool, mempoolrej, net, privatebroadcast, proxy, prune, qt, rand, reindex, rpc, scan, selectcoins, tor, txpackages, txreconciliation, validation, walletdb, zmq",
        Run::Now(control::logging);
    "control" "stop" &[opt("wait", Num).hidden()], "Ends the node.", Run::Now(control::stop);
    "control" "uptime" &[], "For how many seconds the node runs.", Run::Now(control::uptime);
    "hidden" "addconnection"
        &[req("address", Str), req("connection_type", Str), req("v2transport", Bool)],
        "Opens a connection of a kind (regtest alone).",
        Run::Wait(network::addconnection);
    "hidden" "addpeeraddress"
        &[req("address", Str), req("port", Num), opt("tried", Bool)],
        "Adds an address to those that are known.",
        Run::Now(network::addpeeraddress);
    "hidden" "echo" ECHO, "Gives back what it gets.", Run::Now(control::echo);
    "hidden" "echoipc" &[req("arg", Str)], "Gives back what it gets.", Run::Now(control::echoipc);
    "hidden" "echojson" ECHO, "Gives back what it gets.", Run::Now(control::echo);
    "hidden" "estimaterawfee"
        &[req("conf_target", Num), opt("threshold", Num)],
        "What the estimates of fees rest on.",
        Run::Now(fees::estimaterawfee);
    "hidden" "generate" &[], "has been replaced by the -generate cli option. Refer to -help for more information.", Run::Now(mining::generate);
    "hidden" "generateblock"
        &[req("output", Str), req("transactions", Arr).shown(r#"["rawtx/txid",...]"#), opt("submit", Bool)],
        "Makes a block of these transactions at once.",
        Run::Now(mining::generateblock);
    "hidden" "generatetoaddress"
        &[req("nblocks", Num), req("address", Str), opt("maxtries", Num)],
        "Makes blocks at once; the reward goes to an address.",
        Run::Now(mining::generatetoaddress);
    "hidden" "generatetodescriptor"
        &[req("num_blocks", Num), req("descriptor", Str), opt("maxtries", Num)],
        "Makes blocks at once; the reward goes to a descriptor.",
        Run::Now(mining::generatetodescriptor);
    "hidden" "getmempoolfeeratediagram"
        &[],
        "What the mempool pays, as it would be mined.",
        Run::Now(mempool::getmempoolfeeratediagram);
    "hidden" "getorphantxs"
        &[opt("verbosity", Num).unchecked()],
        "Transactions of which a parent is not known.",
        Run::Now(mempool::getorphantxs);
    "hidden" "getrawaddrman"
        &[],
        "All addresses that are known, by where they are kept.",
        Run::Now(network::getrawaddrman);
    "hidden" "invalidateblock"
        &[req("blockhash", Hex)],
        "Counts a block, and all upon it, as invalid from here on.",
        Run::Now(blocks::invalidateblock);
    "hidden" "mockscheduler"
        &[req("delta_time", Num)],
        "Moves the timers of the node on (regtest alone).",
        Run::Now(control::mockscheduler);
    "hidden" "reconsiderblock"
        &[req("blockhash", Hex)],
        "Takes back what invalidateblock said of a block, of those below it and of those upon it.",
        Run::Now(blocks::reconsiderblock);
    "hidden" "sendmsgtopeer"
        &[req("peer_id", Num), req("msg_type", Str), req("msg", Hex)],
        "Sends a message to a peer (regtest alone).",
        Run::Now(network::sendmsgtopeer);
    "hidden" "setmocktime"
        &[req("timestamp", Num)],
        "Sets the clock of the node, in seconds since 1970; 0 for the true one (regtest alone).",
        Run::Now(control::setmocktime);
    "hidden" "syncwithvalidationinterfacequeue"
        &[],
        "Waits until all know what became of the chain.",
        Run::Now(control::syncwithvalidationinterfacequeue);
    "mining" "getblocktemplate"
        &[
            req("template_request", Obj)
                .shown(r#"{"mode":"str","capabilities":["str",...],"rules":["segwit","str",...],"longpollid":"str","data":"hex"}"#),
        ],
        "What the next block could be, or whether a block would do (BIP 22, 23, 9, 145).",
        Run::Wait(template::getblocktemplate);
    "mining" "getmininginfo" &[], "What the next block is to be.", Run::Now(mining::getmininginfo);
    "mining" "getnetworkhashps"
        &[opt("nblocks", Num), opt("height", Num)],
        "How many hashes a second the network makes, by its last blocks.",
        Run::Now(mining::getnetworkhashps);
    "mining" "getprioritisedtransactions"
        &[],
        "Transactions that are taken to pay more or less than they do.",
        Run::Now(mining::getprioritisedtransactions);
    "mining" "prioritisetransaction"
        &[req("txid", Hex), opt("dummy", Num), req("fee_delta", Num)],
        "Takes a transaction to pay more or less than it does.",
        Run::Now(mining::prioritisetransaction);
    "mining" "submitblock"
        &[req("hexdata", Hex), opt("dummy", Str)],
        "Brings a block.",
        Run::Now(mining::submitblock);
    "mining" "submitheader" &[req("hexdata", Hex)], "Brings a header.", Run::Now(mining::submitheader);
    "network" "addnode"
        &[req("node", Str), req("command", Str), opt("v2transport", Bool)],
        "Connects to a peer, once or from here on.",
        Run::Wait(network::addnode);
    "network" "clearbanned" &[], "Takes all bans back.", Run::Now(network::clearbanned);
    "network" "disconnectnode"
        &[opt("address", Str), opt("nodeid", Num)],
        "Disconnects a peer at once.",
        Run::Now(network::disconnectnode);
    "network" "exportasmap"
        &[req("path", Str)],
        "Writes the map of autonomous systems to a file.",
        Run::Now(network::exportasmap);
    "network" "getaddednodeinfo"
        &[opt("node", Str)],
        "The peers that were added by hand.",
        Run::Now(network::getaddednodeinfo);
    "network" "getaddrmaninfo" &[], "How many addresses are known, by network.", Run::Now(network::getaddrmaninfo);
    "network" "getconnectioncount" &[], "How many peers there are.", Run::Now(network::getconnectioncount);
    "network" "getnettotals" &[], "Bytes sent and received.", Run::Now(network::getnettotals);
    "network" "getnetworkinfo" &[], "What this node is to its peers.", Run::Now(network::getnetworkinfo);
    "network" "getnodeaddresses"
        &[opt("count", Num), opt("network", Str)],
        "Addresses of the network that are known.",
        Run::Now(network::getnodeaddresses);
    "network" "getpeerinfo" &[],
        "The peers. \"network\" is one of (ipv4, ipv6, onion, i2p, cjdns, not_publicly_routable).", Run::Now(network::getpeerinfo);
    "network" "listbanned" &[], "What is banned.", Run::Now(network::listbanned);
    "network" "ping" &[], "Sends a ping to each peer; getpeerinfo has what came of it.", Run::Now(network::ping);
    "network" "setban"
        &[req("subnet", Str), req("command", Str), opt("bantime", Num), opt("absolute", Bool)],
        "Bans a subnet, or takes that back.",
        Run::Now(network::setban);
    "network" "setnetworkactive"
        &[req("state", Bool)],
        "Switches the network off and on.",
        Run::Now(network::setnetworkactive);
    "rawtransactions" "abortprivatebroadcast"
        &[req("id", Hex)],
        "Gives up sending a transaction over private connections.",
        Run::Now(submit::abortprivatebroadcast);
    "rawtransactions" "analyzepsbt" &[req("psbt", Str)], "What a PSBT still needs.", Run::Now(psbt::analyzepsbt);
    "rawtransactions" "combinepsbt"
        &[req("txs", Arr).shown(r#"["psbt",...]"#)],
        "One PSBT of several for the same transaction.",
        Run::Now(psbt::combinepsbt);
    "rawtransactions" "combinerawtransaction"
        &[req("txs", Arr).shown(r#"["hexstring",...]"#)],
        "One transaction of several that are signed in part.",
        Run::Now(raw::combinerawtransaction);
    "rawtransactions" "converttopsbt"
        &[req("hexstring", Hex), opt("permitsigdata", Bool), opt("iswitness", Bool), opt("psbt_version", Num)],
        "A PSBT of a transaction, without its signatures.",
        Run::Now(psbt::converttopsbt);
    "rawtransactions" "createpsbt"
        &[
            req("inputs", Arr).shown(r#"[{"txid":"hex","vout":n,"sequence":n},...]"#),
            req("outputs", Arr).shown(r#"[{"address":amount,...},{"data":"hex"},...]"#).unchecked(),
            opt("locktime", Num),
            opt("replaceable", Bool),
            opt("version", Num),
            opt("psbt_version", Num),
        ],
        "A PSBT that spends these and pays those.",
        Run::Now(psbt::createpsbt);
    "rawtransactions" "createrawtransaction"
        &[
            req("inputs", Arr).shown(r#"[{"txid":"hex","vout":n,"sequence":n},...]"#),
            req("outputs", Arr).shown(r#"[{"address":amount,...},{"data":"hex"},...]"#).unchecked(),
            opt("locktime", Num),
            opt("replaceable", Bool),
            opt("version", Num),
        ],
        "A transaction that spends these and pays those. It is not signed.",
        Run::Now(raw::createrawtransaction);
    "rawtransactions" "decodepsbt" &[req("psbt", Str)], "What a PSBT is.", Run::Now(psbt::decodepsbt);
    "rawtransactions" "decoderawtransaction"
        &[req("hexstring", Hex), opt("iswitness", Bool)],
        "What a transaction is.",
        Run::Now(raw::decoderawtransaction);
    "rawtransactions" "decodescript" &[req("hexstring", Hex)], "What a script is.", Run::Now(raw::decodescript);
    "rawtransactions" "descriptorprocesspsbt"
        &[
            req("psbt", Str),
            req("descriptors", Arr).shown(r#"["",{"desc":"str","range":n or [n,n]},...]"#),
            opt("sighashtype", Str),
            opt("bip32derivs", Bool),
            opt("finalize", Bool),
        ],
        "Adds to a PSBT what descriptors know, and signs.",
        Run::Now(psbt::descriptorprocesspsbt);
    "rawtransactions" "finalizepsbt"
        &[req("psbt", Str), opt("extract", Bool)],
        "Completes the inputs of a PSBT, and gives the transaction if it is complete.",
        Run::Now(psbt::finalizepsbt);
    "rawtransactions" "getprivatebroadcastinfo"
        &[],
        "Transactions that are on their way over private connections.",
        Run::Now(submit::getprivatebroadcastinfo);
    "rawtransactions" "getrawtransaction"
        &[req("txid", Hex), opt("verbosity|verbose", Num).unchecked(), opt("blockhash", Hex)],
        "A transaction that waits, or that a block has.",
        Run::Now(raw::getrawtransaction);
    "rawtransactions" "joinpsbts"
        &[req("txs", Arr).shown(r#"["psbt",...]"#)],
        "One PSBT that has the inputs and outputs of several.",
        Run::Now(psbt::joinpsbts);
    "rawtransactions" "sendrawtransaction"
        &[req("hexstring", Hex), opt("maxfeerate", Amount), opt("maxburnamount", Amount)],
        "Brings a transaction to the mempool and to peers.",
        Run::Now(submit::sendrawtransaction);
    "rawtransactions" "signrawtransactionwithkey"
        &[
            req("hexstring", Str),
            req("privkeys", Arr).shown(r#"["privatekey",...]"#),
            opt("prevtxs", Arr)
                .shown(r#"[{"txid":"hex","vout":n,"scriptPubKey":"hex","redeemScript":"hex","witnessScript":"hex","amount":amount},...]"#),
            opt("sighashtype", Str),
        ],
        "Signs the inputs of a transaction.",
        Run::Now(sign::signrawtransactionwithkey);
    "rawtransactions" "submitpackage"
        &[req("package", Arr).shown(r#"["rawtx",...]"#), opt("maxfeerate", Amount), opt("maxburnamount", Amount)],
        "Brings a transaction with its parents to the mempool.",
        Run::Now(submit::submitpackage);
    "rawtransactions" "testmempoolaccept"
        &[req("rawtxs", Arr).shown(r#"["rawtx",...]"#), opt("maxfeerate", Amount)],
        "Says whether transactions would be taken, and takes none.",
        Run::Now(submit::testmempoolaccept);
    "rawtransactions" "utxoupdatepsbt"
        &[req("psbt", Str), opt("descriptors", Arr).shown(r#"["",{"desc":"str","range":n or [n,n]},...]"#)],
        "Adds what is known of the outputs that a PSBT spends.",
        Run::Now(psbt::utxoupdatepsbt);
    "signer" "enumeratesigners" &[], "The external signers that are connected.", Run::Now(control::enumeratesigners);
    "util" "createmultisig"
        &[req("nrequired", Num), req("keys", Arr).shown(r#"["key",...]"#), opt("address_type", Str)],
        "An address that n of m keys spend from.",
        Run::Now(addresses::createmultisig);
    "util" "deriveaddresses"
        &[req("descriptor", Str), opt("range", Range)],
        "The addresses of a descriptor.",
        Run::Now(addresses::deriveaddresses);
    "util" "estimatesmartfee"
        &[req("conf_target", Num), opt("estimate_mode", Str)],
        "What a transaction should pay to be in a block soon.",
        Run::Now(fees::estimatesmartfee);
    "util" "getdescriptorinfo"
        &[req("descriptor", Str)],
        "What a descriptor is.",
        Run::Now(addresses::getdescriptorinfo);
    "util" "getindexinfo"
        &[opt("index_name", Str)],
        "Which indexes there are, and how far they are.",
        Run::Now(control::getindexinfo);
    "util" "signmessagewithprivkey"
        &[req("privkey", Str), req("message", Str)],
        "Signs a message.",
        Run::Now(addresses::signmessagewithprivkey);
    "util" "validateaddress" &[req("address", Str)], "Return information about the given bitcoin address.", Run::Now(addresses::validateaddress);
    "util" "verifymessage"
        &[req("address", Str), req("signature", Str), req("message", Str)],
        "Whether a message is signed by an address.",
        Run::Now(addresses::verifymessage);
    "zmq" "getzmqnotifications" &[], "What subscribers are told, and where.", Run::Now(control::getzmqnotifications);
};
