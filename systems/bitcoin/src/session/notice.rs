//! What an operator's commands are told: `-blocknotify`, `-walletnotify`, `-alertnotify`.
//!
//! - upon a tip at which the chain comes to rest, once the node has caught up: the block's command;
//! - upon a transaction of a wallet that is new to it, or stands elsewhere than before: the wallet's command;
//! - upon a warning that was not there: the alert's command.
//!
//! Deliberately absent: processes. Lines for a shell go out, and whoever hosts the node runs them ([`Notify`]).

use std::fmt::Debug;

use bitcoin::{BlockHash, Txid};

/// Something that an operator wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The chain has this tip.
    Block(BlockHash),
    /// A wallet's transaction, and its block if it has one.
    Transaction {
        /// The wallet's name.
        wallet: String,
        /// The transaction.
        txid: Txid,
        /// Its block, and the block's height.
        block: Option<(BlockHash, u32)>,
    },
    /// Something is wrong with the network, or with us.
    Warning(String),
}

/// Who carries notices out. It never waits.
pub trait Notify: Debug + Send {
    /// Upon a notice.
    fn notify(&mut self, notice: &Notice);
}

/// What an operator wants to be run; nothing where it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// `%s` is the block.
    pub block: String,
    /// `%s` is the transaction, `%w` the wallet, `%b` and `%h` the block.
    pub wallet: String,
    /// `%s` is the warning.
    pub alert: String,
}

/// A word for a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// A warning for a shell: of harmless characters alone.
fn harmless(text: &str) -> String {
    let safe = |char: &char| char.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(*char);
    format!("'{}'", text.chars().filter(safe).collect::<String>())
}

/// A command with each `%` and letter replaced that has something; what is put in is not looked at again.
fn fill(command: &str, words: &[(char, String)]) -> String {
    let mut line = String::new();
    let mut rest = command;
    while let Some((before, behind)) = rest.split_once('%') {
        line.push_str(before);
        let letter = behind.chars().next();
        match words.iter().find(|(own, _)| Some(*own) == letter) {
            Some((own, word)) => {
                line.push_str(word);
                rest = &behind[own.len_utf8()..];
            }
            None => {
                line.push('%');
                rest = behind;
            }
        }
    }
    line.push_str(rest);
    line
}

impl Commands {
    /// The line for a shell, if anything is to be run.
    #[must_use]
    pub fn line(&self, notice: &Notice) -> Option<String> {
        let (command, words) = match notice {
            Notice::Block(hash) => (&self.block, vec![('s', hash.to_string())]),
            Notice::Transaction { wallet, txid, block } => {
                let (hash, height) = match block {
                    Some((hash, height)) => (hash.to_string(), height.to_string()),
                    None => ("unconfirmed".to_owned(), "-1".to_owned()),
                };
                (&self.wallet, vec![('s', txid.to_string()), ('b', hash), ('h', height), ('w', quoted(wallet))])
            }
            Notice::Warning(text) => (&self.alert, vec![('s', harmless(text))]),
        };
        (!command.is_empty()).then(|| fill(command, &words))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn a_command_says_where_a_transaction_stands() {
        let commands = Commands { wallet: "echo %h_%b %x 100% > /tmp/%w_%s".to_owned(), ..Commands::default() };
        let (txid, hash) = (Txid::from_byte_array([1; 32]), BlockHash::from_byte_array([2; 32]));
        let mut notice = Notice::Transaction { wallet: "it's %s".to_owned(), txid, block: None };
        let line = commands.line(&notice).expect("there is a command");
        assert_eq!(line, format!("echo -1_unconfirmed %x 100% > /tmp/'it'\"'\"'s %s'_{txid}"));
        notice = Notice::Transaction { wallet: String::new(), txid, block: Some((hash, 7)) };
        assert_eq!(commands.line(&notice).expect("it"), format!("echo 7_{hash} %x 100% > /tmp/''_{txid}"));
        assert_eq!(commands.line(&Notice::Block(hash)), None, "nothing is to be run");
    }

    #[test]
    fn a_warning_is_harmless() {
        let commands = Commands { alert: "mail %s".to_owned(), ..Commands::default() };
        let line = commands.line(&Notice::Warning("It's `rm`; $HOME (really)".to_owned()));
        assert_eq!(line.as_deref(), Some("mail 'Its rm; HOME (really)'"));
    }
}
