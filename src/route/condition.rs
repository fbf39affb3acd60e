//! `when`: whether a part of an aggregation is asked, as in `parts.user.tier == 'gold' && query.beta != null`.
//!
//! ```text
//! condition  = both { "||" both }
//! both       = one { "&&" one }
//! one        = { "!" } ( "(" condition ")" | operand [ comparison operand ] )
//! comparison = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in"
//! operand    = 'text' | "text" | number | true | false | null | name | "[" [ operand { "," operand } ] "]"
//! ```
//!
//! A name is that of a value of an earlier answer or of a fact of the request, as in templates. What is missing is null.
//! Values of different types are unequal, and only two numbers or two texts have an order. A whole array or object is
//! equal to nothing. What can never hold, such as a fact (always text) compared with a number, is refused when it is read.

use super::facts::Facts;
use super::template::{Piece, TemplateError};

mod seen;
mod tokens;

use seen::Seen;
use tokens::{Token, Tokens};

/// Longer than any condition that a person can still read; it bounds the number of comparisons for a request.
const TEXT_BYTES_MAX: usize = 4096;
/// Reading and asking recurse once per level.
const DEPTH_MAX: usize = 16;

/// A condition that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Compare(Operand, Comparison, Operand),
    IsTrue(Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    In,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Text(String),
    Number(String),
    Bool(bool),
    Null,
    List(Vec<Operand>),
    /// Index into the values of earlier answers.
    Value(usize),
    Fact(Piece),
}

const COMPARISONS: [(&str, Comparison); 7] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<", Comparison::Less),
    ("<=", Comparison::AtMost),
    (">", Comparison::More),
    (">=", Comparison::AtLeast),
    ("in", Comparison::In),
];

/// All names in a condition, of values of other parts and of facts: each once, in the order of the text, as far as it can be read. None of
/// a text that is too long for a condition.
pub fn names(text: &str) -> Vec<String> {
    if text.len() > TEXT_BYTES_MAX {
        return Vec::new();
    }
    let mut tokens = Tokens::of(text);
    let mut names: Vec<String> = Vec::new();
    while let Ok((_, token)) = tokens.next() {
        match token {
            Token::End => break,
            Token::Name("true" | "false" | "null" | "in") => {}
            Token::Name(name) if !names.iter().any(|known| known == name) => names.push(name.to_owned()),
            _ => {}
        }
    }
    names
}

impl Condition {
    /// Reads a condition. `params` are the names of the route's path parameters; `values` are the names of what it may
    /// take from earlier answers, and [`Facts::value`] is asked for them by their place in this list.
    ///
    /// # Errors
    /// What was expected, and at which character.
    pub fn parse(text: &str, params: &[String], values: &[String]) -> Result<Condition, TemplateError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TemplateError::new(format!("the condition is too long; use at most {TEXT_BYTES_MAX} bytes")));
        }
        let mut tokens = Tokens::of(text);
        let (at, token) = tokens.next()?;
        let mut parser = Parser { tokens, at, token, params, values };
        let node = parser.condition(0)?;
        match parser.token {
            Token::End => Ok(Condition(node)),
            _ if parser.comparison().is_some() => parser.wrong(
                "one comparison can not follow another; join them with `&&`, and compare a condition in parentheses \
                 with nothing",
            ),
            _ => parser.expected("`&&`, `||` or the end"),
        }
    }

    /// Whether it holds for a request.
    pub fn holds<F: Facts>(&self, facts: &F) -> bool {
        self.0.holds(facts)
    }
}

impl Node {
    fn holds<F: Facts>(&self, facts: &F) -> bool {
        match self {
            Node::Any(nodes) => nodes.iter().any(|node| node.holds(facts)),
            Node::All(nodes) => nodes.iter().all(|node| node.holds(facts)),
            Node::Not(node) => !node.holds(facts),
            Node::IsTrue(operand) => operand.seen(facts) == Seen::Bool(true),
            Node::Compare(left, comparison, right) => {
                let left = left.seen(facts);
                match comparison {
                    Comparison::Equal => left.equals(&right.seen(facts)),
                    Comparison::Unequal => !left.equals(&right.seen(facts)),
                    Comparison::Less => left.order(&right.seen(facts)).is_some_and(|order| order.is_lt()),
                    Comparison::AtMost => left.order(&right.seen(facts)).is_some_and(|order| order.is_le()),
                    Comparison::More => left.order(&right.seen(facts)).is_some_and(|order| order.is_gt()),
                    Comparison::AtLeast => left.order(&right.seen(facts)).is_some_and(|order| order.is_ge()),
                    Comparison::In => right.contains(&left, facts),
                }
            }
        }
    }
}

impl Operand {
    fn seen<'a, F: Facts>(&'a self, facts: &'a F) -> Seen<'a> {
        match self {
            Operand::Text(text) => Seen::text(text.as_bytes()),
            Operand::Number(number) => Seen::Number(number.as_bytes()),
            Operand::Bool(value) => Seen::Bool(*value),
            Operand::Null => Seen::Null,
            Operand::List(_) => Seen::Whole,
            Operand::Value(index) => Seen::json(facts.value(*index).json),
            Operand::Fact(piece) if piece.is_missing(facts) => Seen::Null,
            Operand::Fact(piece) => piece.with_text(facts, |text| Seen::Text(text.to_vec().into())),
        }
    }

    /// Whether a list or an array has this value in it.
    fn contains<F: Facts>(&self, value: &Seen<'_>, facts: &F) -> bool {
        match self {
            Operand::List(items) => items.iter().any(|item| value.equals(&item.seen(facts))),
            Operand::Value(index) => value.is_in(facts.value(*index).json),
            _ => false,
        }
    }

    /// Whether it says the same for every request, and is no list.
    fn is_literal(&self) -> bool {
        matches!(self, Operand::Text(_) | Operand::Number(_) | Operand::Bool(_) | Operand::Null)
    }
}

struct Parser<'t> {
    tokens: Tokens<'t>,
    /// Where `token` begins.
    at: usize,
    token: Token<'t>,
    params: &'t [String],
    values: &'t [String],
}

impl Parser<'_> {
    fn condition(&mut self, depth: usize) -> Result<Node, TemplateError> {
        let mut nodes = vec![self.both(depth)?];
        while self.takes("||")? {
            nodes.push(self.both(depth)?);
        }
        Ok(single_or(nodes, Node::Any))
    }

    fn both(&mut self, depth: usize) -> Result<Node, TemplateError> {
        let mut nodes = vec![self.one(depth)?];
        while self.takes("&&")? {
            nodes.push(self.one(depth)?);
        }
        Ok(single_or(nodes, Node::All))
    }

    fn one(&mut self, depth: usize) -> Result<Node, TemplateError> {
        let mut negations = 0_usize;
        while self.takes("!")? {
            negations = negations.saturating_add(1);
        }
        let node = if self.token == Token::Sign("(") {
            if depth == DEPTH_MAX {
                return self.wrong(&format!("parentheses are nested too deeply; use at most {DEPTH_MAX} levels"));
            }
            self.advance()?;
            let node = self.condition(depth.saturating_add(1))?;
            if !self.takes(")")? {
                return self.expected("`&&`, `||` or `)`");
            }
            node
        } else {
            self.compared(negations > 0)?
        };
        Ok(if negations % 2 == 1 { Node::Not(Box::new(node)) } else { node })
    }

    /// An operand, and what it is compared with.
    fn compared(&mut self, negated: bool) -> Result<Node, TemplateError> {
        let begin = self.at;
        let left = self.operand()?;
        let Some(comparison) = self.comparison() else {
            return match left {
                Operand::Bool(_) | Operand::Value(_) => Ok(Node::IsTrue(left)),
                _ => self
                    .tokens
                    .wrong(begin, "this alone is never `true`; compare it with something, as in `query.beta != null`"),
            };
        };
        if negated {
            let what = "does `!` mean this value or the comparison? Write `!(a == b)`";
            return self.tokens.wrong(begin, what);
        }
        if matches!(left, Operand::List(_)) {
            return self.tokens.wrong(begin, "a list can only stand behind `in`");
        }
        self.advance()?;
        let begin = self.at;
        let right = self.operand()?;
        let listed = match &right {
            Operand::List(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        match (comparison, &right) {
            (Comparison::In, Operand::List(_) | Operand::Value(_)) => {}
            (Comparison::In, _) => {
                return self.tokens.wrong(begin, "behind `in` stands a list like ['a', 'b'], or an array of an answer");
            }
            (_, Operand::List(_)) => return self.tokens.wrong(begin, "a list can only stand behind `in`"),
            _ => {}
        }
        let typed = |operand: &Operand| matches!(operand, Operand::Number(_) | Operand::Bool(_));
        let is_fact = |operand: &Operand| matches!(operand, Operand::Fact(_));
        if (is_fact(&left) && listed.iter().any(typed)) || (typed(&left) && listed.iter().any(is_fact)) {
            let what = "what a request says is text, which no number, `true` or `false` is equal to; put it in quotes";
            return self.tokens.wrong(begin, what);
        }
        if left.is_literal() && listed.iter().all(Operand::is_literal) {
            return self.tokens.wrong(begin, "both sides are fixed; expected a name, like `parts.user.tier`");
        }
        Ok(Node::Compare(left, comparison, right))
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let operand = match std::mem::replace(&mut self.token, Token::End) {
            Token::Text(text) => Operand::Text(text),
            Token::Number(number) => Operand::Number(number.to_owned()),
            Token::Name(name) => self.named(name)?,
            Token::Sign("[") => return self.list(),
            token => {
                self.token = token;
                return self.expected("a value: 'text', a number, true, false, null, or a name like `parts.user.tier`");
            }
        };
        self.advance()?;
        Ok(operand)
    }

    fn named(&self, name: &str) -> Result<Operand, TemplateError> {
        Ok(match name {
            "true" => Operand::Bool(true),
            "false" => Operand::Bool(false),
            "null" => Operand::Null,
            "in" => return self.tokens.wrong(self.at, "expected a value in front of `in`"),
            _ => match Piece::parse(name, self.params, self.values) {
                Ok(Piece::Value(index)) => Operand::Value(index),
                Ok(piece) => Operand::Fact(piece),
                Err(unknown) => {
                    return self.tokens.wrong(self.at, &format!("{unknown}. A text needs quotes: '{name}'"));
                }
            },
        })
    }

    /// What follows a `[`. Items are single values, so this does not nest.
    fn list(&mut self) -> Result<Operand, TemplateError> {
        self.advance()?;
        let mut items = Vec::new();
        if self.takes("]")? {
            return self.tokens.wrong(self.at, "the list is empty, so nothing is ever in it; expected a value");
        }
        loop {
            if self.token == Token::Sign("[") {
                return self.wrong("a list can not hold lists; expected a single value");
            }
            items.push(self.operand()?);
            if self.takes("]")? {
                return Ok(Operand::List(items));
            }
            if !self.takes(",")? {
                return self.expected("`,` or `]`");
            }
        }
    }

    fn comparison(&self) -> Option<Comparison> {
        let word = match self.token {
            Token::Sign(sign) => sign,
            Token::Name(name) => name,
            _ => return None,
        };
        COMPARISONS.iter().find(|(known, _)| *known == word).map(|(_, comparison)| *comparison)
    }

    fn advance(&mut self) -> Result<(), TemplateError> {
        (self.at, self.token) = self.tokens.next()?;
        Ok(())
    }

    fn takes(&mut self, sign: &str) -> Result<bool, TemplateError> {
        let is_next = matches!(self.token, Token::Sign(next) if next == sign);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expected<T>(&self, what: &str) -> Result<T, TemplateError> {
        match self.token {
            Token::End => self.wrong(&format!("the condition ends here; expected {what}")),
            _ => self.wrong(&format!("expected {what}")),
        }
    }

    fn wrong<T>(&self, what: &str) -> Result<T, TemplateError> {
        self.tokens.wrong(self.at, what)
    }
}

fn single_or(mut nodes: Vec<Node>, many: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        Some(node) => {
            nodes.push(node);
            many(nodes)
        }
        None => many(nodes),
    }
}

#[cfg(test)]
mod tests;
