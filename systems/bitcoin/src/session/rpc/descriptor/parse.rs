//! From a text to a descriptor, with the words that the network's nodes have for what is wrong.

use bitcoin::address::NetworkUnchecked;
use bitcoin::hex::FromHex;
use bitcoin::{Address, Network, NetworkKind, ScriptBuf};

use super::Expr;
use super::key::{Context, Key};

const MULTISIG_KEYS_MAX: usize = 20;
const MULTI_A_KEYS_MAX: usize = 999;
const TREE_DEPTH_MAX: usize = 128;
/// No descriptor names more paths at one step.
const PATHS_MAX: usize = 64;

pub(super) struct Parser {
    pub(super) network: Network,
}

/// Takes what stands before the next comma or the next closing bracket that was not opened.
fn take<'a>(rest: &mut &'a str) -> &'a str {
    let mut level = 0_i32;
    let end = rest.find(|char| match char {
        '(' | '{' => {
            level += 1;
            false
        }
        ')' | '}' if level > 0 => {
            level -= 1;
            false
        }
        ')' | '}' | ',' => level == 0,
        _ => false,
    });
    let (taken, left) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = left;
    taken
}

fn take_char(rest: &mut &str, char: char) -> bool {
    match rest.strip_prefix(char) {
        Some(left) => {
            *rest = left;
            true
        }
        None => false,
    }
}

fn inside<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

/// A text for each path of `<0;1>`.
pub(super) fn paths(text: &str) -> Result<Vec<String>, String> {
    let mut texts = vec![String::new()];
    let mut rest = text;
    let mut count = None;
    while let Some(begin) = rest.find('<') {
        let Some(length) = rest[begin..].find('>') else { break };
        let choices: Vec<&str> = rest[begin + 1..begin + length].split(';').collect();
        if choices.len() < 2 {
            return Err("Multipath key path specifiers must have at least two items".into());
        }
        for (index, choice) in choices.iter().enumerate() {
            if choices[..index].contains(choice) {
                return Err(format!("Duplicated key path value {choice} in multipath specifier"));
            }
        }
        if *count.get_or_insert(choices.len()) != choices.len() || choices.len() > PATHS_MAX {
            return Err("multi(): Multipath derivation paths have mismatched lengths".into());
        }
        if texts.len() == 1 {
            texts = vec![texts.remove(0); choices.len()];
        }
        for (text, choice) in texts.iter_mut().zip(&choices) {
            text.push_str(&rest[..begin]);
            text.push_str(choice);
        }
        rest = &rest[begin + length + 1..];
        let end = rest.find([',', ')', '}']).unwrap_or(rest.len());
        if rest[..end].contains('<') {
            return Err("Multiple multipath key path specifiers found".into());
        }
    }
    for text in &mut texts {
        text.push_str(rest);
    }
    Ok(texts)
}

impl Parser {
    fn key(&self, text: &str, context: Context) -> Result<Key, String> {
        Key::parse(text, context, NetworkKind::from(self.network))
    }

    pub(super) fn top(&self, text: &str) -> Result<Expr, String> {
        let mut rest = text;
        let expr = self.expr(take(&mut rest), Context::Top)?;
        if rest.is_empty() { Ok(expr) } else { Err(format!("'{text}' is not a valid descriptor function")) }
    }

    fn expr(&self, text: &str, context: Context) -> Result<Expr, String> {
        let top = context == Context::Top;
        let legacy = matches!(context, Context::Top | Context::P2sh | Context::P2wsh);
        let named = |name: &str, words: String| format!("{name}(): {words}");
        if let Some(key) = inside(text, "pk") {
            let key = self.key(key, context).map_err(|words| named("pk", words))?;
            return Ok(Expr::Pk { key, xonly: context == Context::P2tr });
        }
        if let (true, Some(key)) = (legacy, inside(text, "pkh")) {
            return self.key(key, context).map(Expr::Pkh).map_err(|words| named("pkh", words));
        }
        if let Some(key) = inside(text, "combo") {
            if !top {
                return Err("Can only have combo() at top level".into());
            }
            return self.key(key, context).map(Expr::Combo).map_err(|words| named("combo", words));
        }
        if let Some(expr) = self.multi(text, context) {
            return expr;
        }
        if let Some(key) = inside(text, "wpkh") {
            if !matches!(context, Context::Top | Context::P2sh) {
                return Err("Can only have wpkh() at top level or inside sh()".into());
            }
            return self.key(key, Context::P2wpkh).map(Expr::Wpkh).map_err(|words| named("wpkh", words));
        }
        self.hashed(text, context).unwrap_or_else(|| self.other(text, context))
    }

    fn hashed(&self, text: &str, context: Context) -> Option<Result<Expr, String>> {
        let wrapped = |inner: &str, context: Context, wrap: fn(Box<Expr>) -> Expr| {
            let mut rest = inner;
            let expr = self.expr(take(&mut rest), context)?;
            if rest.is_empty() {
                Ok(wrap(Box::new(expr)))
            } else {
                Err(format!("'{inner}' is not a valid descriptor function"))
            }
        };
        if let Some(inner) = inside(text, "sh") {
            if context != Context::Top {
                return Some(Err("Can only have sh() at top level".into()));
            }
            return Some(wrapped(inner, Context::P2sh, Expr::Sh));
        }
        let inner = inside(text, "wsh")?;
        if !matches!(context, Context::Top | Context::P2sh) {
            return Some(Err("Can only have wsh() at top level or inside sh()".into()));
        }
        Some(wrapped(inner, Context::P2wsh, Expr::Wsh))
    }

    fn other(&self, text: &str, context: Context) -> Result<Expr, String> {
        let top = context == Context::Top;
        if let Some(address) = inside(text, "addr") {
            if !top {
                return Err("Can only have addr() at top level".into());
            }
            let parsed = address.parse::<Address<NetworkUnchecked>>().ok();
            let address = parsed.and_then(|address| address.require_network(self.network).ok());
            return address.map(Expr::Addr).ok_or_else(|| "Address is not valid".into());
        }
        if let Some(inner) = inside(text, "tr") {
            return if top { self.taproot(inner) } else { Err("Can only have tr at top level".into()) };
        }
        if let Some(inner) = inside(text, "rawtr") {
            if !top {
                return Err("Can only have rawtr at top level".into());
            }
            let mut rest = inner;
            let key = take(&mut rest);
            if !rest.is_empty() {
                return Err("rawtr(): only one key expected.".into());
            }
            return self.key(key, Context::P2tr).map(Expr::RawTr).map_err(|words| format!("rawtr(): {words}"));
        }
        if let Some(hex) = inside(text, "raw") {
            if !top {
                return Err("Can only have raw() at top level".into());
            }
            let bytes = Vec::<u8>::from_hex(hex).ok().filter(|bytes| !bytes.is_empty());
            return bytes.map(|bytes| Expr::Raw(ScriptBuf::from_bytes(bytes))).ok_or("Raw script is not hex".into());
        }
        match context {
            Context::P2sh => Err("A function is needed within P2SH".into()),
            Context::P2wsh => Err("A function is needed within P2WSH".into()),
            _ => Err(format!("'{text}' is not a valid descriptor function")),
        }
    }

    fn multi(&self, text: &str, context: Context) -> Option<Result<Expr, String>> {
        let find = |name: &str| inside(text, name);
        let (inner, sorted, tap) = find("multi")
            .map(|inner| (inner, false, false))
            .or_else(|| find("sortedmulti").map(|inner| (inner, true, false)))
            .or_else(|| find("multi_a").map(|inner| (inner, false, true)))
            .or_else(|| find("sortedmulti_a").map(|inner| (inner, true, true)))?;
        if tap != (context == Context::P2tr) {
            return Some(Err(if tap {
                "Can only have multi_a/sortedmulti_a inside tr()".into()
            } else {
                "Can only have multi/sortedmulti at top level, in sh(), or in wsh()".into()
            }));
        }
        Some(self.multi_keys(inner, context, sorted, tap))
    }

    fn multi_keys(&self, inner: &str, context: Context, sorted: bool, tap: bool) -> Result<Expr, String> {
        let mut rest = inner;
        let threshold = take(&mut rest);
        let plain = threshold.bytes().all(|byte| byte.is_ascii_digit());
        let required = threshold.parse::<u32>().ok().filter(|_| plain);
        let required = required.ok_or_else(|| format!("Multi threshold '{threshold}' is not valid"))?;
        let mut keys = Vec::new();
        while let Some(char) = rest.chars().next() {
            if !take_char(&mut rest, ',') {
                return Err(format!("Multi: expected ',', got '{char}'"));
            }
            keys.push(self.key(take(&mut rest), context).map_err(|words| format!("Multi: {words}"))?);
        }
        let count = keys.len();
        let (max, name) = if tap { (MULTI_A_KEYS_MAX, "multi_a") } else { (MULTISIG_KEYS_MAX, "multisig") };
        if !(1..=max).contains(&count) {
            return Err(format!("Cannot have {count} keys in {name}; must have between 1 and {max} keys, inclusive"));
        }
        if required < 1 {
            return Err(format!("Multisig threshold cannot be {required}, must be at least 1"));
        }
        let required = usize::try_from(required).unwrap_or(usize::MAX);
        if required > count {
            return Err(format!(
                "Multisig threshold cannot be larger than the number of keys; threshold is {required} but only {count} \
                 keys specified"
            ));
        }
        if context == Context::Top && count > 3 {
            return Err(format!("Cannot have {count} pubkeys in bare multisig; only at most 3 pubkeys"));
        }
        let size = keys.iter().map(|key| key.size() + 1).sum::<usize>() + 3;
        let size_max = crate::script::ELEMENT_BYTES_MAX;
        if context == Context::P2sh && size > size_max {
            return Err(format!("P2SH script is too large, {size} bytes is larger than {size_max} bytes"));
        }
        Ok(if tap { Expr::MultiA { required, keys, sorted } } else { Expr::Multi { required, keys, sorted } })
    }

    fn taproot(&self, inner: &str) -> Result<Expr, String> {
        let mut rest = inner;
        let key = self.key(take(&mut rest), Context::P2tr).map_err(|words| format!("tr(): {words}"))?;
        let mut leaves = Vec::new();
        if let Some(char) = rest.chars().next() {
            if !take_char(&mut rest, ',') {
                return Err(format!("tr: expected ',', got '{char}'"));
            }
            self.tree(&mut rest, &mut leaves)?;
            if !rest.is_empty() {
                return Err("tr(): expected ')' after script expression".into());
            }
        }
        Ok(Expr::Tr { key, leaves })
    }

    /// A tree's leaves with their depths, from the left.
    fn tree(&self, rest: &mut &str, leaves: &mut Vec<(u8, Expr)>) -> Result<(), String> {
        // True for a branch whose right side is being read.
        let mut branches: Vec<bool> = Vec::new();
        loop {
            while take_char(rest, '{') {
                branches.push(false);
                if branches.len() > TREE_DEPTH_MAX {
                    return Err(format!("tr() supports at most {TREE_DEPTH_MAX} nesting levels"));
                }
            }
            let depth = u8::try_from(branches.len()).map_err(|_| String::from("the tree is too deep"))?;
            leaves.push((depth, self.expr(take(rest), Context::P2tr)?));
            while branches.last() == Some(&true) {
                if !take_char(rest, '}') {
                    return Err("tr(): expected '}' after script expression".into());
                }
                branches.pop();
            }
            let Some(last) = branches.last_mut() else { return Ok(()) };
            if !take_char(rest, ',') {
                return Err("tr(): expected ',' after script expression".into());
            }
            *last = true;
        }
    }
}
