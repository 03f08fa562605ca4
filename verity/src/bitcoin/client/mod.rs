//! `verity bitcoin-cli`: one call to a Bitcoin node by the flags of Core's client, and its answer as Core's client prints it.
//!
//! - upon a text: it alone; upon nothing: nothing; upon any other answer: JSON, indented by two spaces;
//! - upon an error of the node: its number and words to standard error, and the number is the exit code;
//! - upon anything else that goes wrong: `error: ...`, and the exit code is 1;
//! - upon `-rpcwait` and a node that is not there or not ready: once more after a second.
//!
//! Which words are JSON is for `verity_bitcoin`'s own table of methods to say. Numbers are printed as they came.
//!
//! Deliberately absent: colours, the tables of single peers of `-netinfo`, and hiding what is typed at `-stdinrpcpass`.

mod remote;
mod summary;

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use verity_bitcoin::Params;
use verity_bitcoin::session::conf::{self, Conf};
use verity_bitcoin::session::rpc::{Json, params_by_name, params_by_place};

use super::bitcoind::{default_folder, folder_of, read_conf};
use remote::{Credentials, Remote, Reply};

/// What a wallet's call lacks that names none.
const WALLET_NOT_SPECIFIED: i64 = -19;
/// So many blocks are made if nobody says how many.
const BLOCKS_DEFAULT: &str = "1";

/// What a call came to: what is printed, and where the process ends.
struct End {
    text: String,
    code: u8,
}

impl End {
    fn of(reply: Reply) -> Self {
        match reply {
            Reply::Result(Json::Null) => Self { text: String::new(), code: 0 },
            Reply::Result(Json::Str(text)) => Self { text, code: 0 },
            Reply::Result(json) => Self { text: json.pretty(2), code: 0 },
            Reply::Error(error) => Self::of_error(&error),
        }
    }

    fn of_error(error: &Json) -> Self {
        let code: i64 = error.get("code").int().unwrap_or(1);
        if error.fields().is_err() {
            return Self { text: format!("error: {}", error.write()), code: 1 };
        }
        let mut text = format!("error code: {code}\n");
        if let Ok(words) = error.get("message").text() {
            text.push_str(&format!("error message:\n{words}"));
        }
        if code == WALLET_NOT_SPECIFIED {
            text.push_str(
                " Or for the CLI, specify the \"-rpcwallet=<walletname>\" option before the command \
                 (run \"bitcoin-cli -h\" for help or \"bitcoin-cli listwallets\" to see which wallets are currently loaded).",
            );
        }
        // As an exit code is cut by every shell.
        Self { text, code: (code.unsigned_abs() & 0xff) as u8 }
    }
}

/// Runs one call by these arguments. Answers with the exit code.
pub(crate) fn run(args: &[String]) -> u8 {
    let split = args.iter().position(|arg| !arg.starts_with('-')).unwrap_or(args.len());
    let (flags, words) = args.split_at(split);
    let conf = match read(flags, args.is_empty()) {
        Ok(Some(conf)) => conf,
        Ok(None) => return 0,
        Err(error) => {
            eprintln!("{error:#}");
            return 1;
        }
    };
    let end = call(&conf, words).unwrap_or_else(|error| End { text: format!("error: {error:#}"), code: 1 });
    match (end.text.is_empty(), end.code) {
        (true, _) => {}
        (false, 0) => println!("{}", end.text),
        (false, _) => eprintln!("{}", end.text),
    }
    end.code
}

/// The data folder, as it is said or as it is if nobody says.
fn folder(conf: &Conf) -> PathBuf {
    conf.get("datadir").filter(|path| !path.is_empty()).map_or_else(default_folder, PathBuf::from)
}

/// What is set; `None` if there was only something to tell.
fn read(flags: &[String], nothing: bool) -> Result<Option<Conf>> {
    let mut conf = Conf::from_client_line(flags.iter().map(String::as_str)).map_err(|words| anyhow!(words))?;
    if conf.is_on("version", false) {
        println!("Verity {} (bitcoin-cli)", env!("CARGO_PKG_VERSION"));
        return Ok(None);
    }
    let asked = ["?", "h", "help"].iter().any(|name| conf.is_set(name));
    if asked || nothing {
        println!("{}", conf::client_help());
        if nothing {
            bail!("Error: too few parameters");
        }
        return Ok(None);
    }
    let folder = folder(&conf);
    if conf.is_set("datadir") && !folder.is_dir() {
        bail!("Error: Specified data directory \"{}\" does not exist.", folder.display());
    }
    read_conf(&mut conf, &folder)?;
    Ok(Some(conf))
}

/// Lines of standard input.
struct Lines(io::StdinLock<'static>);

impl Lines {
    fn next(&mut self, flag: &str) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            bail!("-{flag} specified but failed to read from standard input");
        }
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    }
}

fn call(conf: &Conf, words: &[String]) -> Result<End> {
    let network = conf.network().map_err(|words| anyhow!(words))?;
    let params = Params::named(network).ok_or_else(|| anyhow!("there is no network {network}"))?;
    let mut words = words.to_vec();
    let mut lines = Lines(io::stdin().lock());
    let password = conf.is_on("stdinrpcpass", false).then(|| lines.next("stdinrpcpass")).transpose()?;
    if conf.is_on("stdinwalletpassphrase", false) {
        let passphrase = lines.next("stdinwalletpassphrase")?;
        match words.first().map(String::as_str) {
            Some(method) if method.starts_with("walletpassphrase") => words.insert(1, passphrase),
            _ => bail!("-stdinwalletpassphrase is only applicable for walletpassphrase(change)"),
        }
    }
    if conf.is_on("stdin", false) {
        for line in lines.0.lines() {
            words.push(line?);
        }
    }
    let asked: Vec<&str> = ["getinfo", "netinfo", "generate", "addrinfo"]
        .into_iter()
        .filter(|name| conf.is_on(name, false) || (*name == "netinfo" && conf.is_set(name)))
        .collect();
    if let [first, second, ..] = asked[..] {
        bail!("Only one of -{first} and -{second} may be specified.");
    }
    let remote = remote(conf, &params, password)?;
    match asked.first().copied() {
        Some("getinfo") if !words.is_empty() => bail!("-getinfo takes no arguments"),
        Some("addrinfo") if !words.is_empty() => bail!("-addrinfo takes no arguments"),
        Some("getinfo") => summary::node(&remote, paint(conf)?).map(End::of),
        Some("addrinfo") => summary::addresses(&remote).map(End::of),
        Some("netinfo") => summary::network(&remote).map(End::of),
        Some(_) => generate(&remote, &words).map(End::of),
        None => {
            let Some((method, words)) = words.split_first() else {
                bail!("too few parameters (need at least command)");
            };
            let read = if conf.is_on("named", false) { params_by_name } else { params_by_place };
            let params = read(method, words).map_err(|words| anyhow!(words))?;
            remote.call(method, &params).map(End::of)
        }
    }
}

/// `-color`: only for people who look on, if nothing else is said.
fn paint(conf: &Conf) -> Result<summary::Paint> {
    Ok(summary::Paint(match conf.get("color").as_deref() {
        Some("always") => true,
        Some("never") => false,
        Some("auto") | None => io::stdout().is_terminal(),
        Some(_) => bail!("Invalid value for -color option. Valid values: always, auto, never."),
    }))
}

/// Where the node is, and how it lets us in.
fn remote(conf: &Conf, params: &Params, password: Option<String>) -> Result<Remote> {
    let number = |name: &str, otherwise: i64| -> Result<u64> {
        let number = conf.number(name).map_err(|words| anyhow!(words))?.unwrap_or(otherwise);
        u64::try_from(number).map_err(|_| anyhow!("-{name} is not negative"))
    };
    let named = conf.get("rpcconnect").filter(|host| !host.is_empty()).unwrap_or_else(|| "127.0.0.1".to_owned());
    let (host, port) = remote::host_and_port(&named)?;
    let port = match conf.get("rpcport") {
        Some(text) => Some(remote::port(&text).ok_or_else(|| anyhow!("Invalid port provided in -rpcport: {text}"))?),
        None => port,
    };
    let password = password.or_else(|| conf.get("rpcpassword").filter(|password| !password.is_empty()));
    let own = folder_of(&folder(conf), params.chain_name());
    let cookie = conf.get("rpccookiefile").filter(|path| !path.is_empty());
    let cookie = cookie.map_or_else(|| own.join(".cookie"), |path| own.join(path));
    let credentials = match password {
        Some(password) => Credentials::Password(format!("{}:{password}", conf.get("rpcuser").unwrap_or_default())),
        None => Credentials::Cookie(cookie),
    };
    let file = conf.get("conf").filter(|name| !name.is_empty()).unwrap_or_else(|| "bitcoin.conf".to_owned());
    Ok(Remote {
        host,
        port: port.unwrap_or(params.rpc_port),
        credentials,
        wallet: conf.get("rpcwallet"),
        wait: conf.is_on("rpcwait", false).then_some(number("rpcwaittimeout", 0)?),
        timeout: number("rpcclienttimeout", 900)?,
        conf_path: folder(conf).join(file),
    })
}

/// `-generate`: blocks for a new address of the wallet.
fn generate(remote: &Remote, words: &[String]) -> Result<Reply> {
    if words.len() > 2 {
        bail!("too many arguments (maximum 2 for nblocks and maxtries)");
    }
    let count = words.first().map_or(BLOCKS_DEFAULT, String::as_str);
    if count == "0" {
        bail!(
            "the first argument (number of blocks to generate, default: {BLOCKS_DEFAULT}) must be an integer value greater than zero"
        );
    }
    let address = match remote.call("getnewaddress", &Json::Arr(Vec::new()))? {
        Reply::Result(address) => address,
        error => return Ok(error),
    };
    let mut all = vec![count.to_owned(), address.text().unwrap_or_default().to_owned()];
    all.extend(words.get(1).cloned());
    let params = params_by_place("generatetoaddress", &all).map_err(|words| anyhow!(words))?;
    Ok(match remote.call("generatetoaddress", &params)? {
        Reply::Result(blocks) => Reply::Result(Json::obj().with("address", address).with("blocks", blocks)),
        error => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> End {
        End::of(Reply::Error(Json::read(text.as_bytes()).expect("JSON")))
    }

    #[test]
    fn answers_are_printed_as_they_are() {
        let shown = |json: Json| End::of(Reply::Result(json)).text;
        assert_eq!(shown(Json::Null), "");
        assert_eq!(shown("a \"text\"".into()), "a \"text\"");
        assert_eq!(shown(Json::amount(1)), "0.00000001");
        assert_eq!(shown(Json::obj().with("a", Json::arr([1_u8]))), "{\n  \"a\": [\n    1\n  ]\n}");
    }

    #[test]
    fn an_errors_number_is_the_exit_code() {
        let end = error(r#"{"code":-8,"message":"Block height out of range"}"#);
        assert_eq!((end.code, &end.text[..]), (8, "error code: -8\nerror message:\nBlock height out of range"));
        assert_eq!(error(r#"{"code":-32601,"message":"Method not found"}"#).code, 89);
        assert!(error(r#"{"code":-19,"message":"x."}"#).text.contains("x. Or for the CLI"));
    }
}
