//! What stands on a command line, as parameters of a call.
//!
//! - upon a word in the place of a text: the word as it is; upon one in any other place: it must be JSON, but for places that
//!   take a text as well, where whatever is no JSON is one;
//! - upon `name=value` among named parameters: by the type of that name. If the method has no such name, and its next place takes
//!   a text, it is a text with a sign of equality in it; if the place takes JSON, and the word is JSON, it is that;
//! - upon a method that this node does not have: every word is a text. Whoever is called knows better.
//!
//! Deliberately absent: counting. Too few words or too many are the node's to refuse.

use super::super::json::Json;
use super::super::methods::wallet::METHODS as WALLET_METHODS;
use super::super::table;
use super::{Kind, Method};

/// How a word is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Text,
    Json,
    JsonOrText,
}

/// A method whose texts are JSON on a command line, so that any value can be sent by it.
const ALL_JSON: &str = "echojson";
/// A place that takes a block's height or its hash.
const EITHER: &str = "hash_or_height";

impl Reading {
    fn of(method: &Method, name: &str, kind: Kind) -> Self {
        match kind {
            _ if method.name == ALL_JSON => Self::Json,
            _ if name == EITHER => Self::JsonOrText,
            Kind::Str | Kind::Hex => Self::Text,
            Kind::Amount => Self::JsonOrText,
            Kind::Num | Kind::Range | Kind::Bool | Kind::Obj | Kind::Named | Kind::Arr => Self::Json,
        }
    }

    fn at(method: Option<&Method>, index: usize) -> Self {
        let reading = method.and_then(|method| {
            let arg = method.args.get(index)?;
            Some(Self::of(method, arg.first_name(), arg.kind))
        });
        reading.unwrap_or(Self::Text)
    }

    fn named(method: Option<&Method>, name: &str) -> Option<Self> {
        let method = method?;
        method.args.iter().find_map(|arg| {
            if arg.names.split('|').any(|own| own == name) {
                return Some(Self::of(method, arg.first_name(), arg.kind));
            }
            let (_, kind) = arg.options.iter().find(|(own, _)| *own == name)?;
            Some(Self::of(method, name, *kind))
        })
    }

    fn read(self, word: &str) -> Result<Json, String> {
        match self {
            Self::Text => Ok(word.into()),
            Self::Json => Json::read(word.as_bytes()).ok_or_else(|| format!("Error parsing JSON: {word}")),
            Self::JsonOrText => Ok(Json::read(word.as_bytes()).unwrap_or_else(|| word.into())),
        }
    }
}

/// The parameters of a call by their places.
///
/// # Errors
/// A word that should be JSON is none.
pub fn params_by_place(method: &str, words: &[String]) -> Result<Json, String> {
    let method = table::find(method, WALLET_METHODS);
    let read = |(index, word): (usize, &String)| Reading::at(method, index).read(word);
    words.iter().enumerate().map(read).collect::<Result<_, _>>().map(Json::Arr)
}

/// The parameters of a call by their names (`-named`); what has no name stands in front. Of a name that comes twice the last
/// counts.
///
/// # Errors
/// A word that should be JSON is none.
pub fn params_by_name(method: &str, words: &[String]) -> Result<Json, String> {
    let method = table::find(method, WALLET_METHODS);
    let (mut named, mut placed): (Vec<(String, Json)>, Vec<Json>) = (Vec::new(), Vec::new());
    for word in words {
        let here = Reading::at(method, placed.len());
        let pair = word.split_once('=').and_then(|(name, value)| match Reading::named(method, name) {
            None if name != "args" && method.is_some_and(|method| placed.len() < method.args.len()) => {
                // The node says of a name that it does not know; a text may have the sign in it, and so may JSON.
                let whole = match here {
                    Reading::Text => true,
                    Reading::Json => Json::read(word.as_bytes()).is_some(),
                    Reading::JsonOrText => false,
                };
                (!whole).then_some((name, Reading::Text, value))
            }
            None if name == "args" => Some((name, Reading::Json, value)),
            reading => Some((name, reading.unwrap_or(Reading::Text), value)),
        });
        let Some((name, reading, value)) = pair else {
            placed.push(here.read(word)?);
            continue;
        };
        let value = reading.read(value)?;
        match named.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => named.push((name.to_owned(), value)),
        }
    }
    if !placed.is_empty() {
        named.push(("args".to_owned(), Json::Arr(placed)));
    }
    Ok(Json::Obj(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn words_are_read_by_their_places() {
        let read = |method, all| params_by_place(method, &words(all)).map(|json| json.write());
        assert_eq!(read("getblock", &["00", "2"]).as_deref(), Ok(r#"["00",2]"#));
        assert_eq!(read("getblockhash", &["a"]), Err("Error parsing JSON: a".to_owned()));
        assert_eq!(read("getblockstats", &["7"]).as_deref(), Ok("[7]"));
        assert_eq!(read("getblockstats", &["abc"]).as_deref(), Ok(r#"["abc"]"#));
        assert_eq!(
            read("sendrawtransaction", &["00", "0.10"]).as_deref(),
            Ok(r#"["00",0.10]"#),
            "numbers stay as they are"
        );
        assert_eq!(read("echo", &["1"]).as_deref(), Ok(r#"["1"]"#));
        assert_eq!(read("echojson", &["[1]"]).as_deref(), Ok("[[1]]"));
        assert_eq!(read("unheard", &["1", "{"]).as_deref(), Ok(r#"["1","{"]"#));
    }

    #[test]
    fn words_are_read_by_their_names() {
        let read = |method, all| params_by_name(method, &words(all)).map(|json| json.write());
        assert_eq!(
            read("getblock", &["blockhash=00", "verbose=true"]).as_deref(),
            Ok(r#"{"blockhash":"00","verbose":true}"#)
        );
        assert_eq!(read("getblock", &["00", "verbosity=0"]).as_deref(), Ok(r#"{"verbosity":0,"args":["00"]}"#));
        assert_eq!(read("getblock", &["verbosity=0", "verbosity=1"]).as_deref(), Ok(r#"{"verbosity":1}"#));
        assert_eq!(read("createwallet", &["a=b"]).as_deref(), Ok(r#"{"args":["a=b"]}"#));
        assert_eq!(read("echojson", &[r#"["a=b"]"#, "42"]).as_deref(), Ok(r#"{"args":[["a=b"],42]}"#));
        assert_eq!(read("echojson", &[r#"arg0=["a=b"]"#]).as_deref(), Ok(r#"{"arg0":["a=b"]}"#));
        assert_eq!(read("getblockhash", &["hight=1"]).as_deref(), Ok(r#"{"hight":"1"}"#));
    }
}
