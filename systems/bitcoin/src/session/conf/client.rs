//! Flags of the client (`bitcoin-cli`), of which some are the node's as well.

use super::Flag;
use super::Scope::{All, Command, Network};

/// Every flag of a client; nothing is said where it is taken for scripts' sake and changes nothing here.
pub(super) const FLAGS: &[Flag] = &[
    ("?", Command, "Print this help message and exit"),
    ("h", Command, "Print this help message and exit"),
    ("help", Command, "Print this help message and exit"),
    ("version", Command, "Print version and exit"),
    ("addrinfo", All, "Print how many addresses the node knows, by network"),
    ("chain", All, "Use the chain <chain>: main, test, testnet4, signet, regtest (default: main)"),
    ("color", All, "Colours of -getinfo: always, auto, never (default: auto, on a terminal)"),
    ("conf", Command, "The configuration file, in the data folder (default: bitcoin.conf)"),
    ("datadir", All, "The data folder of the node, where its cookie is"),
    (
        "generate",
        All,
        "Make <nblocks> blocks for a new address of the wallet: -generate ( nblocks maxtries ) (default: 1, 1000000)",
    ),
    ("getinfo", All, "Print what the node, its peers and its wallets are at"),
    ("named", All, "Parameters have names: -named <method> name=value ... (default: 0)"),
    ("netinfo", All, "Print how many peers there are, by network and direction"),
    ("regtest", All, "Use a network of one's own, whose blocks cost nothing"),
    ("rpcclienttimeout", All, "Wait no longer for an answer, in seconds; 0 for ever (default: 900)"),
    ("rpcconnect", All, "Where the node is: <host>, or <host>:<port> (default: 127.0.0.1)"),
    ("rpccookiefile", All, "Where the cookie is (default: .cookie in the network's folder)"),
    ("rpcpassword", All, "The password for calls"),
    ("rpcport", Network, "The node's port (default: 8332, testnet4: 48332, signet: 38332, regtest: 18443)"),
    ("rpcuser", All, "The user for calls"),
    ("rpcwait", All, "Wait for the node to start"),
    ("rpcwaittimeout", All, "With -rpcwait, wait no longer, in seconds; 0 for ever (default: 0)"),
    ("rpcwallet", All, "Send the call to this wallet"),
    ("signet", All, "Use a network whose blocks are signed"),
    ("signetchallenge", All, ""),
    ("signetseednode", All, ""),
    ("stdin", All, "More parameters come by standard input, one a line: for what others must not see"),
    ("stdinrpcpass", All, "The password for calls is the first line of standard input"),
    ("stdinwalletpassphrase", All, "The wallet's passphrase is the next line of standard input"),
    ("testnet", All, "Use the third test network"),
    ("testnet4", All, "Use the fourth test network"),
];

/// The text of a client's `-help`.
#[must_use]
pub fn client_help() -> String {
    let mut text = String::from(
        "Usage: verity bitcoin-cli [options] <method> [params]\n   or: verity bitcoin-cli [options] -named <method> [name=value]...\n   \
         or: verity bitcoin-cli [options] help, or help <method>\n\nOptions:\n",
    );
    for (name, _, words) in FLAGS.iter().filter(|(.., words)| !words.is_empty()) {
        text.push_str(&format!("\n  -{name}\n       {words}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Conf, FLAGS as NODE_FLAGS};
    use super::*;

    #[test]
    fn a_flag_of_both_counts_as_far_for_both() {
        for (name, scope, _) in FLAGS {
            let node = NODE_FLAGS.iter().find(|(own, ..)| own == name);
            assert!(node.is_none_or(|(_, own, _)| own == scope), "-{name}");
        }
    }

    #[test]
    fn each_program_has_its_own() {
        let conf = Conf::from_client_line(["-regtest", "-rpcwallet=w", "-nonamed"]).expect("flags of a client");
        assert_eq!(conf.get("rpcwallet").as_deref(), Some("w"));
        assert!(!conf.is_on("named", true));
        let words = "Error parsing command line arguments: Invalid parameter -txindex";
        assert_eq!(Conf::from_client_line(["-txindex"]), Err(words.to_owned()));
        assert!(Conf::from_command_line(["-rpcwallet=w"]).is_err());
        assert!(client_help().contains("-rpcwaittimeout"));
    }
}
