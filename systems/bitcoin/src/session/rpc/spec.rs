//! What a method is called, what it takes, and what is said of it.
//!
//! - upon too few or too many arguments: the help of the method, as an error;
//! - upon arguments of wrong types: all of them are told at once, by their places;
//! - upon arguments by name: they are put in their places, options into the object that takes them, and `args` in front.

mod convert;

use std::fmt::Write;

pub use convert::{params_by_name, params_by_place};

use super::call::{Args, Call};
use super::error::RpcError;
use super::json::Json;
use super::wait::Wait;

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Str,
    /// A text of hexadecimal digits.
    Hex,
    /// A number.
    Num,
    /// A number or a text, in bitcoin.
    Amount,
    /// A number, or two in an array.
    Range,
    /// True or false.
    Bool,
    /// An object.
    Obj,
    /// An object whose fields may be given as arguments of their own, by name.
    Named,
    /// An array.
    Arr,
}

impl Kind {
    fn expected(self) -> Option<&'static str> {
        match self {
            Self::Str | Self::Hex => Some("string"),
            Self::Num => Some("number"),
            Self::Amount | Self::Range => None,
            Self::Bool => Some("bool"),
            Self::Obj | Self::Named => Some("object"),
            Self::Arr => Some("array"),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Str | Self::Hex => "string",
            Self::Num => "numeric",
            Self::Amount => "numeric or string",
            Self::Range => "numeric or array",
            Self::Bool => "boolean",
            Self::Obj | Self::Named => "json object",
            Self::Arr => "json array",
        }
    }
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    names: &'static str,
    kind: Kind,
    optional: bool,
    shown: Option<&'static str>,
    checked: bool,
    hidden: bool,
    options: &'static [(&'static str, Kind)],
}

/// An argument that must be there. Other names of it stand behind `|`.
#[must_use]
pub const fn req(names: &'static str, kind: Kind) -> Arg {
    Arg { names, kind, optional: false, shown: None, checked: true, hidden: false, options: &[] }
}

/// An argument that may be left out.
#[must_use]
pub const fn opt(names: &'static str, kind: Kind) -> Arg {
    Arg { names, kind, optional: true, shown: None, checked: true, hidden: false, options: &[] }
}

impl Arg {
    /// How it stands in the line of usage.
    #[must_use]
    pub const fn shown(mut self, shown: &'static str) -> Self {
        self.shown = Some(shown);
        self
    }

    /// The method looks at its type itself.
    #[must_use]
    pub const fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    /// Not in the help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Its fields, of which each may be given by its name as if it were an argument.
    #[must_use]
    pub const fn options(mut self, options: &'static [(&'static str, Kind)]) -> Self {
        self.options = options;
        self
    }

    fn first_name(&self) -> &'static str {
        self.names.split('|').next().unwrap_or(self.names)
    }

    fn usage(&self) -> String {
        match (self.shown, self.kind) {
            (Some(shown), _) => shown.into(),
            (None, Kind::Str | Kind::Hex) => format!("\"{}\"", self.first_name()),
            (None, _) => self.first_name().into(),
        }
    }

    fn mismatch(&self, value: &Json) -> Option<String> {
        if !self.checked || (self.optional && value.is_null()) {
            return None;
        }
        let (own, expected) = (value.type_name(), self.kind.expected()?);
        (own != expected).then(|| format!("JSON value of type {own} is not of expected type {expected}"))
    }
}

/// How a method runs.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Its answer is there at once.
    Now(fn(&mut Call<'_, '_>, &Args) -> Result<Json, RpcError>),
    /// It may have to wait.
    Wait(fn(&mut Call<'_, '_>, &Args) -> Result<Outcome, RpcError>),
}

/// What a method came to.
#[derive(Debug)]
pub enum Outcome {
    /// Its answer.
    Done(Json),
    /// It has to wait for this.
    Wait(Wait),
}

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub(super) category: &'static str,
    pub(super) name: &'static str,
    pub(super) args: &'static [Arg],
    pub(super) about: &'static str,
    pub(super) run: Run,
}

impl Method {
    /// A method of this category and name.
    #[must_use]
    pub const fn new(
        category: &'static str,
        name: &'static str,
        args: &'static [Arg],
        about: &'static str,
        run: Run,
    ) -> Self {
        Self { category, name, args, about, run }
    }

    /// The arguments that were given, if they are as they must be.
    pub(super) fn check(&self, params: Json) -> Result<Args, RpcError> {
        let params = match params {
            Json::Obj(fields) => self.place(fields)?,
            Json::Arr(items) => items,
            _ => Vec::new(),
        };
        let required = self.args.iter().rposition(|arg| !arg.optional).map_or(0, |last| last + 1);
        if !(required..=self.args.len()).contains(&params.len()) {
            return Err(RpcError::misc(self.help()));
        }
        let args = Args::new(params);
        let mut wrong = Json::obj();
        for (index, arg) in self.args.iter().enumerate() {
            if let Some(words) = arg.mismatch(args.at(index)) {
                wrong.put(&format!("Position {} ({})", index + 1, arg.names), words);
            }
        }
        if wrong.fields().is_ok_and(|fields| !fields.is_empty()) {
            return Err(RpcError::kind(format!("Wrong type passed:\n{}", wrong.pretty(4))));
        }
        Ok(args)
    }

    /// Named arguments, in their places.
    fn place(&self, fields: Vec<(String, Json)>) -> Result<Vec<Json>, RpcError> {
        let mut given = Given::new(fields)?;
        let mut placed: Vec<Json> = Vec::new();
        let (mut hole, mut hole_first, mut named_first) = (0_usize, 0_usize, None);
        for arg in self.args {
            let mut options = Json::obj();
            for (name, _) in arg.options {
                // An option of the same name as its argument is the argument.
                if let Some((name, value)) = given.take(name) {
                    options.put(&name, value);
                }
            }
            let value = given.take(arg.names);
            let any_option = options.fields().is_ok_and(|fields| !fields.is_empty());
            if value.is_none() && !any_option {
                hole += 1;
                if placed.is_empty() {
                    hole_first = hole;
                }
                continue;
            }
            placed.extend(std::iter::repeat_n(Json::Null, hole));
            hole = 0;
            named_first.get_or_insert(arg.names);
            match value {
                Some((name, _)) if any_option => {
                    let option = options.fields()?.first().map_or("", |(option, _)| option);
                    return Err(RpcError::param(format!("Parameter {name} conflicts with parameter {option}")));
                }
                Some((_, value)) => placed.push(value),
                None => placed.push(options),
            }
        }
        if let Some((_, Json::Arr(mut positional))) = given.take_if("args", |value| matches!(value, Json::Arr(_))) {
            if hole_first < positional.len()
                && let Some(name) = named_first
            {
                let words = format!("Parameter {name} specified twice both as positional and named argument");
                return Err(RpcError::param(words));
            }
            let from = positional.len().min(placed.len());
            positional.extend(placed.drain(from..));
            placed = positional;
        }
        match given.fields.first() {
            Some((name, _)) => Err(RpcError::param(format!("Unknown named parameter {name}"))),
            None => Ok(placed),
        }
    }

    /// The line of usage.
    pub(super) fn usage(&self) -> String {
        let mut line = String::from(self.name);
        let mut optional = false;
        for arg in self.args.iter().take_while(|arg| !arg.hidden) {
            line.push(' ');
            match (optional, arg.optional) {
                (false, true) => line.push_str("( "),
                (true, false) => line.push_str(") "),
                _ => {}
            }
            optional = arg.optional;
            line.push_str(&arg.usage());
        }
        if optional {
            line.push_str(" )");
        }
        line
    }

    /// All that is said of it.
    pub(super) fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage(), self.about);
        let shown = || self.args.iter().take_while(|arg| !arg.hidden);
        let pad = shown().map(|arg| arg.first_name().len()).max().unwrap_or(0) + 7;
        for (index, arg) in shown().enumerate() {
            if index == 0 {
                text.push_str("\nArguments:\n");
            }
            let left = format!("{}. {}", index + 1, arg.first_name());
            let need = if arg.optional { "optional" } else { "required" };
            writeln!(text, "{left:pad$}({}, {need})", arg.kind.word()).expect("a text can be written to");
        }
        for (index, (name, kind)) in shown().flat_map(|arg| arg.options).enumerate() {
            if index == 0 {
                text.push_str("\nNamed Arguments:\n");
            }
            writeln!(text, "{name:pad$}({}, optional)", kind.word()).expect("a text can be written to");
        }
        text
    }

    /// Rows of `help dump_all_command_conversions`.
    pub(super) fn conversions(&self) -> Vec<Json> {
        let row = |index: usize, name: &str, kind: Kind| {
            let text = matches!(kind, Kind::Str | Kind::Hex);
            Json::Arr(vec![self.name.into(), index.into(), name.into(), text.into()])
        };
        let mut rows = Vec::new();
        for (index, arg) in self.args.iter().enumerate() {
            for name in arg.names.split('|') {
                rows.push(row(index, name, arg.kind));
                rows.extend(arg.options.iter().map(|(name, kind)| row(index, name, *kind)));
            }
        }
        rows
    }
}

/// Named arguments that are not placed yet.
struct Given {
    fields: Vec<(String, Json)>,
}

impl Given {
    fn new(fields: Vec<(String, Json)>) -> Result<Self, RpcError> {
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in &fields {
            if !seen.insert(name) {
                return Err(RpcError::param(format!("Parameter {name} specified multiple times")));
            }
        }
        Ok(Self { fields })
    }

    fn take(&mut self, names: &str) -> Option<(String, Json)> {
        self.take_if(names, |_| true)
    }

    fn take_if(&mut self, names: &str, wanted: fn(&Json) -> bool) -> Option<(String, Json)> {
        let place = names
            .split('|')
            .find_map(|name| self.fields.iter().position(|(own, value)| own == name && wanted(value)))?;
        Some(self.fields.remove(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
        Ok(Json::Null)
    }

    const GETBLOCK: Method = Method::new(
        "blockchain",
        "getblock",
        &[req("blockhash", Kind::Hex), opt("verbosity|verbose", Kind::Num).unchecked()],
        "A block.",
        Run::Now(nothing),
    );
    const OPTIONS: Method = Method::new(
        "x",
        "x",
        &[
            req("a", Kind::Num),
            opt("b", Kind::Bool),
            opt("options", Kind::Named).shown("options").options(&[("c", Kind::Num), ("d", Kind::Num)]),
        ],
        "",
        Run::Now(nothing),
    );

    fn placed(method: &Method, text: &str) -> Result<String, String> {
        let params = Json::read(text.as_bytes()).expect("JSON");
        method.check(params).map(|args| Json::Arr(args.into_vec()).write()).map_err(|error| error.message)
    }

    #[test]
    fn usage_is_one_line() {
        assert_eq!(GETBLOCK.usage(), "getblock \"blockhash\" ( verbosity )");
        assert_eq!(OPTIONS.usage(), "x a ( b options )");
    }

    #[test]
    fn names_are_placed() {
        assert_eq!(placed(&GETBLOCK, r#"{"blockhash":"00","verbose":1}"#).as_deref(), Ok(r#"["00",1]"#));
        assert_eq!(placed(&OPTIONS, r#"{"a":1,"d":2}"#).as_deref(), Ok(r#"[1,null,{"d":2}]"#));
        assert_eq!(placed(&OPTIONS, r#"{"args":[1,true],"c":2}"#).as_deref(), Ok(r#"[1,true,{"c":2}]"#));
        assert_eq!(placed(&OPTIONS, r#"{"args":[1]}"#).as_deref(), Ok("[1]"));
        for (text, words) in [
            (r#"{"a":1,"e":2}"#, "Unknown named parameter e"),
            (r#"{"a":1,"a":2}"#, "Parameter a specified multiple times"),
            (r#"{"a":1,"options":{},"c":2}"#, "Parameter options conflicts with parameter c"),
            (r#"{"args":[1],"a":2}"#, "Parameter a specified twice both as positional and named argument"),
        ] {
            assert_eq!(placed(&OPTIONS, text).expect_err("refused"), words);
        }
    }

    #[test]
    fn types_are_told_by_their_places() {
        let words = placed(&GETBLOCK, "[1]").expect_err("refused");
        assert_eq!(
            words,
            "Wrong type passed:\n{\n    \"Position 1 (blockhash)\": \
             \"JSON value of type number is not of expected type string\"\n}"
        );
        assert!(placed(&GETBLOCK, "[]").expect_err("too few").starts_with("getblock \"blockhash\" ( verbosity )\n\n"));
        assert!(placed(&GETBLOCK, r#"["",1,2]"#).expect_err("too many").starts_with("getblock"));
    }
}
