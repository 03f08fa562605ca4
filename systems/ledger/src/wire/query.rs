//! The language in which clients ask for events and search (CometBFT `libs/pubsub/query`).
//!
//! ```text
//! query     = condition *("AND" condition)
//! condition = tag ("=" | "<" | "<=" | ">" | ">=") operand | tag "CONTAINS" string | tag "EXISTS"
//! operand   = number | string | "TIME" rfc3339 | "DATE" yyyy-mm-dd
//! ```
//! A tag is an event's type and an attribute's key with a dot between them; of a type alone only its existence can be
//! asked. Numbers compare as decimals of any length, with the number that a value begins with: `8atom` is 8.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::time::Time;

/// `maxQueryLength`.
pub const QUERY_SIZE_MAX: usize = 512;

/// The attributes of an event by their tags.
pub type Tags = BTreeMap<String, Vec<String>>;

/// A text that is no query; it says what CometBFT says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct QueryError(String);

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Less,
    LessOrEqual,
    Equal,
    Greater,
    GreaterOrEqual,
    Contains,
    Exists,
}

impl Operator {
    fn allows(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Contains | Self::Exists => false,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Contains => "CONTAINS",
            Self::Exists => "EXISTS",
        }
    }
}

/// What a condition compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    None,
    Text(String),
    Number(String),
    Time(String, Time),
    Date(String, Time),
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) tag: String,
    pub(crate) operator: Operator,
    pub(crate) operand: Operand,
}

impl Condition {
    /// True if the value is as it asks.
    pub(crate) fn holds_for(&self, value: &str) -> bool {
        let order = match &self.operand {
            Operand::None => return true,
            Operand::Text(text) if self.operator == Operator::Contains => return value.contains(text.as_str()),
            Operand::Text(text) => Some(value.cmp(text)),
            Operand::Number(number) => leading_number(value).map(|value| compare_decimals(value, number)),
            Operand::Time(_, time) => Time::parse(value).map(|value| value.cmp(time)),
            Operand::Date(_, date) => Time::parse_date(value).map(|value| value.cmp(date)),
        };
        order.is_some_and(|order| self.operator.allows(order))
    }

    fn holds_in(&self, tags: &Tags) -> bool {
        if tags.get(&self.tag).is_some_and(|values| values.iter().any(|value| self.holds_for(value))) {
            return true;
        }
        let is_type = |tag: &String| tag.rsplit_once('.').is_some_and(|(of, _)| of == self.tag);
        self.holds_for("") && tags.keys().any(is_type)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tag, self.operator.text())?;
        match &self.operand {
            Operand::None => Ok(()),
            Operand::Text(text) => write!(f, " '{text}'"),
            Operand::Number(number) => write!(f, " {number}"),
            Operand::Time(text, _) => write!(f, " TIME {text}"),
            Operand::Date(text, _) => write!(f, " DATE {text}"),
        }
    }
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub(crate) conditions: Vec<Condition>,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut scanner = Scanner { text, start: 0, end: 0 };
        let mut conditions = vec![condition(&mut scanner)?];
        loop {
            match scanner.next() {
                Ok(None) => return Ok(Self { conditions }),
                Ok(Some(Token::And)) => conditions.push(condition(&mut scanner)?),
                other => {
                    let got = other.ok().flatten().map_or("invalid token", |token| token.name());
                    return Err(QueryError(format!("offset {}: got {got}, want AND operator", scanner.start)));
                }
            }
        }
    }

    /// True if an event with these attributes is asked for.
    #[must_use]
    pub fn matches(&self, tags: &Tags) -> bool {
        !tags.is_empty() && self.conditions.iter().all(|condition| condition.holds_in(tags))
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if at > 0 { " AND " } else { "" })?;
        }
        Ok(())
    }
}

/// The decimal that a value begins with.
fn leading_number(value: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(value);
    if whole == 0 {
        return None;
    }
    let fraction = value[whole..].strip_prefix('.').map_or(0, digits);
    Some(if fraction == 0 { &value[..whole] } else { &value[..whole + 1 + fraction] })
}

fn compare_decimals(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned())
    };
    let ((left_whole, left_fraction), (right_whole, right_fraction)) = (parts(left), parts(right));
    let whole = left_whole.len().cmp(&right_whole.len()).then_with(|| left_whole.cmp(&right_whole));
    whole.then_with(|| left_fraction.cmp(&right_fraction))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Tag(String),
    And,
    Operator(Operator),
    Operand(Operand),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Self::Tag(_) => "tag",
            Self::And => "AND operator",
            Self::Operator(operator) => match operator {
                Operator::Less => "< operator",
                Operator::LessOrEqual => "<= operator",
                Operator::Equal => "= operator",
                Operator::Greater => "> operator",
                Operator::GreaterOrEqual => ">= operator",
                Operator::Contains => "CONTAINS operator",
                Operator::Exists => "EXISTS operator",
            },
            Self::Operand(operand) => match operand {
                Operand::None => "invalid token",
                Operand::Text(_) => "string",
                Operand::Number(_) => "number",
                Operand::Time(..) => "timestamp",
                Operand::Date(..) => "datestamp",
            },
        }
    }
}

/// Takes the next token, which must be there.
fn require(scanner: &mut Scanner<'_>) -> Result<Token, QueryError> {
    let token = scanner.next().map_err(|error| QueryError(format!("offset {}: {}", scanner.start, error.0)))?;
    token.ok_or_else(|| QueryError(format!("offset {}: EOF", scanner.start)))
}

fn condition(scanner: &mut Scanner<'_>) -> Result<Condition, QueryError> {
    let wrong = |scanner: &Scanner<'_>, got: &Token, wanted: &str| {
        Err(QueryError(format!("offset {}: got {}, wanted {wanted}", scanner.start, got.name())))
    };
    let tag = match require(scanner)? {
        Token::Tag(tag) => tag,
        other => return wrong(scanner, &other, "tag"),
    };
    let operators =
        "<= operator, >= operator, < operator, > operator, = operator, CONTAINS operator or EXISTS operator";
    let operator = match require(scanner)? {
        Token::Operator(operator) => operator,
        other => return wrong(scanner, &other, operators),
    };
    let wanted = match operator {
        Operator::Exists => return Ok(Condition { tag, operator, operand: Operand::None }),
        Operator::Contains => "string",
        Operator::Equal => "number, timestamp, datestamp or string",
        _ => "number, timestamp or datestamp",
    };
    let token = require(scanner)?;
    match (&token, operator) {
        (Token::Operand(Operand::Text(_)), Operator::Equal | Operator::Contains) => {}
        (Token::Operand(Operand::Text(_)), _) => return wrong(scanner, &token, wanted),
        (Token::Operand(_), Operator::Contains) => return wrong(scanner, &token, wanted),
        (Token::Operand(_), _) => {}
        _ => return wrong(scanner, &token, wanted),
    }
    let Token::Operand(operand) = token else { return wrong(scanner, &token, wanted) };
    Ok(Condition { tag, operator, operand })
}

struct Scanner<'a> {
    text: &'a str,
    /// Where the last token began.
    start: usize,
    end: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.end..].chars().next()
    }

    /// Takes characters as long as they are wanted.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let from = self.end;
        while let Some(next) = self.peek().filter(|next| wanted(*next)) {
            self.end += next.len_utf8();
        }
        &self.text[from..self.end]
    }

    fn next(&mut self) -> Result<Option<Token>, QueryError> {
        self.take_while(char::is_whitespace);
        self.start = self.end;
        let Some(first) = self.peek() else { return Ok(None) };
        let token = match first {
            '0'..='9' => Token::Operand(self.number()),
            '_' => self.word()?,
            letter if letter.is_alphabetic() => self.word()?,
            '\'' => {
                self.end += 1;
                let text = self.take_while(|next| next != '\'').to_owned();
                if self.peek().is_none() {
                    return Err(QueryError("EOF".to_owned()));
                }
                self.end += 1;
                Token::Operand(Operand::Text(text))
            }
            '<' | '>' | '=' => self.compare(first),
            other => {
                self.end += other.len_utf8();
                return Err(QueryError(format!("invalid input {other} at offset {}", self.end)));
            }
        };
        Ok(Some(token))
    }

    fn number(&mut self) -> Operand {
        let from = self.end;
        self.take_while(|next| next.is_ascii_digit());
        if self.peek() == Some('.') {
            self.end += 1;
            self.take_while(|next| next.is_ascii_digit());
        }
        Operand::Number(self.text[from..self.end].to_owned())
    }

    fn compare(&mut self, first: char) -> Token {
        self.end += 1;
        let or_equal = first != '=' && self.peek() == Some('=');
        self.end += usize::from(or_equal);
        Token::Operator(match (first, or_equal) {
            ('<', false) => Operator::Less,
            ('<', true) => Operator::LessOrEqual,
            ('>', false) => Operator::Greater,
            ('>', true) => Operator::GreaterOrEqual,
            _ => Operator::Equal,
        })
    }

    fn word(&mut self) -> Result<Token, QueryError> {
        let is_tag = |next: char| matches!(next, '.' | '_' | '-') || next.is_alphanumeric();
        let word = self.take_while(is_tag);
        let spaced = self.peek() == Some(' ');
        let operand = match word {
            "TIME" if spaced => {
                self.end += 1;
                let text = self.take_while(|next| "-T:+Z".contains(next) || next.is_ascii_digit());
                let time = Time::parse(text).ok_or_else(|| QueryError(format!("invalid TIME value: {text:?}")))?;
                (time, Operand::Time(text.to_owned(), time))
            }
            "DATE" if spaced => {
                self.end += 1;
                let text = self.take_while(|next| next == '-' || next.is_ascii_digit());
                let date = Time::parse_date(text).ok_or_else(|| QueryError(format!("invalid DATE value: {text:?}")))?;
                (date, Operand::Date(text.to_owned(), date))
            }
            "AND" => return Ok(Token::And),
            "EXISTS" => return Ok(Token::Operator(Operator::Exists)),
            "CONTAINS" => return Ok(Token::Operator(Operator::Contains)),
            tag => return Ok(Token::Tag(tag.to_owned())),
        };
        let year = operand.0.year();
        if !(1900..=2999).contains(&year) {
            let what = if matches!(operand.1, Operand::Time(..)) { "timestamp" } else { "datestamp" };
            return Err(QueryError(format!("{what} year {year} out of range")));
        }
        Ok(Token::Operand(operand.1))
    }
}
