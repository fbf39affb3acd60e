//! The answer's body: the parts' values in declared order, in their envelope. Values go in as they were received.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::end::PartReason;
use crate::http::encode;
use crate::json;
use crate::snapshot::aggregate::{Aggregate, Envelope, ExposeParts, OnConflict, Part};

use super::outcome::{Outcome, Source, shown};

/// A body that is put together: text made here, and values that stay where they were received. Reused.
#[derive(Debug, Default)]
pub struct Body {
    /// The text made here.
    pub text: Vec<u8>,
    /// What follows what.
    pub pieces: Vec<Piece>,
    /// All of it, in bytes.
    pub len: usize,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the text.
    Text(usize, usize),
    /// The value of the part with this index.
    Value(usize),
}

impl Body {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.text.clear();
        self.pieces.clear();
        self.len = 0;
    }

    /// Makes all text that is there the whole body.
    pub fn end(&mut self) {
        self.pieces.clear();
        self.len = 0;
        self.cut(0);
    }

    /// Ends the text that was begun at `from`.
    fn cut(&mut self, from: usize) -> usize {
        let to = self.text.len();
        if to > from {
            self.pieces.push(Piece::Text(from, to));
            self.len += to - from;
        }
        to
    }

    fn value(&mut self, index: usize, value: &[u8]) {
        self.pieces.push(Piece::Value(index));
        self.len += value.len();
    }
}

/// Whether every part is as it was meant to be.
pub fn is_complete(plan: &Aggregate, outcomes: &[Outcome]) -> bool {
    shown(plan, outcomes).all(|(_, _, outcome)| outcome.is_well())
}

/// Puts the body of a success together.
pub fn body(plan: &Aggregate, outcomes: &[Outcome], body: &mut Body) {
    match plan.envelope {
        Envelope::Raw => {
            let from = object(plan, outcomes, body);
            body.cut(from);
        }
        Envelope::Merge => flat(plan, outcomes, body),
        Envelope::Uniform => {
            let complete = is_complete(plan, outcomes);
            let head: &[u8] = match complete {
                true => b"{\"code\":0,\"message\":\"OK\",\"data\":",
                false => b"{\"code\":1,\"message\":\"partial\",\"data\":",
            };
            body.text.extend_from_slice(head);
            let from = object(plan, outcomes, body);
            if !complete || plan.expose_parts == ExposeParts::Always {
                body.text.extend_from_slice(b",\"meta\":{\"degraded\":");
                let degraded = |outcome: &Outcome| !outcome.is_well();
                names(plan, outcomes, degraded, &mut body.text);
                meta_parts(plan, outcomes, &mut body.text);
                body.text.push(b'}');
            }
            body.text.push(b'}');
            body.cut(from);
        }
    }
}

/// `{"user":…,"orders":…}` behind the text that is there. Gives where text begins that is not cut yet.
fn object(plan: &Aggregate, outcomes: &[Outcome], body: &mut Body) -> usize {
    let mut from = 0;
    body.text.push(b'{');
    for (n, (index, part, outcome)) in shown(plan, outcomes).enumerate() {
        if n > 0 {
            body.text.push(b',');
        }
        body.text.extend_from_slice(&part.key);
        from = body.cut(from);
        body.value(index, outcome.output(part));
    }
    body.text.push(b'}');
    from
}

/// One flat object. What lies in it is copied: its members come from many places.
fn flat(plan: &Aggregate, outcomes: &[Outcome], body: &mut Body) {
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut by_key = HashMap::<Cow<'_, [u8]>, usize, foldhash::quality::RandomState>::default();
    for (_, part, outcome) in shown(plan, outcomes) {
        let absent = is_promise(part, outcome);
        for (raw, value) in flat_members(part, outcome) {
            let key = key(raw);
            match by_key.get(&key).and_then(|at| members.get_mut(*at)) {
                None => {
                    by_key.insert(key, members.len());
                    members.push(Member { raw, absent, value, more: Vec::new() });
                }
                // A null that only keeps a key in its place gives way to any value.
                Some(_) if absent => {}
                Some(member) if member.absent => (member.absent, member.value) = (false, value),
                Some(member) => match plan.on_conflict {
                    // What failed for a conflict has no members; what stands for it may not win either.
                    OnConflict::First | OnConflict::Error => {}
                    OnConflict::Last => member.value = value,
                    OnConflict::Append => member.more.push(value),
                },
            }
        }
    }
    body.text.push(b'{');
    for (n, member) in members.iter().enumerate() {
        if n > 0 {
            body.text.push(b',');
        }
        body.text.push(b'"');
        body.text.extend_from_slice(member.raw);
        body.text.extend_from_slice(b"\":");
        member.write(&mut body.text);
    }
    body.text.push(b'}');
    body.cut(0);
}

struct Member<'a> {
    /// Its key as it was received, without quotes.
    raw: &'a [u8],
    /// It is the null of a part that has no value.
    absent: bool,
    value: &'a [u8],
    /// Further values, to be put behind the first.
    more: Vec<&'a [u8]>,
}

impl Member<'_> {
    /// One value as it is; several in one array, those that are arrays with their elements.
    fn write(&self, out: &mut Vec<u8>) {
        if self.more.is_empty() {
            return out.extend_from_slice(self.value);
        }
        out.push(b'[');
        let start = out.len();
        for value in std::iter::once(&self.value).chain(&self.more) {
            let is_array = json::shape(value) == Some(json::Shape::Array);
            let inner = if is_array { json::trim(value.get(1..value.len() - 1).unwrap_or_default()) } else { value };
            if !inner.is_empty() {
                if out.len() > start {
                    out.push(b',');
                }
                out.extend_from_slice(inner);
            }
        }
        out.push(b']');
    }
}

/// Whether the members of a part are only nulls that keep its promised keys in their place.
fn is_promise(part: &Part, outcome: &Outcome) -> bool {
    part.key.is_empty() && outcome.source == Source::Nothing
}

/// The members that a part adds to a flat object: those of its value, or one of its own key. A failed part without
/// fallback keeps its promised keys, with null.
fn flat_members<'a>(part: &'a Part, outcome: &'a Outcome) -> Vec<(&'a [u8], &'a [u8])> {
    let value = outcome.output(part);
    if !part.key.is_empty() {
        let raw = part.key.get(1..part.key.len() - 2).unwrap_or_default();
        return vec![(raw, value)];
    }
    if outcome.source == Source::Nothing {
        return part.promised.iter().map(|raw| (raw.as_ref(), &b"null"[..])).collect();
    }
    json::members(value).collect()
}

/// A key's text, once its escapes are decoded.
fn key(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = Vec::with_capacity(raw.len());
    json::unescape(raw, &mut text);
    Cow::Owned(text)
}

/// The first part in declared order that has a key which an earlier one has.
pub fn conflict(plan: &Aggregate, outcomes: &[Outcome]) -> Option<usize> {
    if plan.envelope != Envelope::Merge || plan.on_conflict != OnConflict::Error {
        return None;
    }
    let mut seen = HashMap::<Cow<'_, [u8]>, (), foldhash::quality::RandomState>::default();
    for (index, part, outcome) in shown(plan, outcomes) {
        if is_promise(part, outcome) {
            continue;
        }
        let members = flat_members(part, outcome);
        // What stands for a failed part gives way without failing it once more.
        if outcome.source == Source::Upstream && members.iter().any(|(raw, _)| seen.contains_key(&key(raw))) {
            return Some(index);
        }
        seen.extend(members.into_iter().map(|(raw, _)| (key(raw), ())));
    }
    None
}

/// Ends the envelope of a failure with what failed: `,"meta":{"failed":["user"],…}}`.
pub fn failure_meta(plan: &Aggregate, outcomes: &[Outcome], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"meta\":{\"failed\":");
    let failed = |outcome: &Outcome| !outcome.is_well() && outcome.reason != Some(PartReason::Cancelled);
    names(plan, outcomes, failed, out);
    if plan.envelope == Envelope::Uniform {
        meta_parts(plan, outcomes, out);
    }
    out.extend_from_slice(b"}}");
}

fn names(plan: &Aggregate, outcomes: &[Outcome], wanted: impl Fn(&Outcome) -> bool, out: &mut Vec<u8>) {
    out.push(b'[');
    let start = out.len();
    for (_, part, _) in shown(plan, outcomes).filter(|(_, _, outcome)| wanted(outcome)) {
        if out.len() > start {
            out.push(b',');
        }
        quoted(&part.name, out);
    }
    out.push(b']');
}

/// `,"parts":{"orders":{"state":"fallback","source":"static","reason":"timeout","status":null,"ms":200}}`
fn meta_parts(plan: &Aggregate, outcomes: &[Outcome], out: &mut Vec<u8>) {
    if plan.expose_parts == ExposeParts::Never {
        return;
    }
    out.extend_from_slice(b",\"parts\":{");
    let start = out.len();
    let all = plan.expose_parts == ExposeParts::Always;
    for (_, part, outcome) in shown(plan, outcomes).filter(|(_, _, outcome)| all || !outcome.is_well()) {
        if out.len() > start {
            out.push(b',');
        }
        quoted(&part.name, out);
        out.extend_from_slice(b":{\"state\":");
        quoted(outcome.state(), out);
        out.extend_from_slice(b",\"source\":");
        let source = match outcome.source {
            Source::Nothing => None,
            Source::Upstream => Some("upstream"),
            Source::Stale => Some("stale"),
            Source::Static => Some("static"),
        };
        or_null(source, quoted, out);
        out.extend_from_slice(b",\"reason\":");
        or_null(outcome.reason, |reason, out| quoted(reason.code(), out), out);
        out.extend_from_slice(b",\"status\":");
        or_null(outcome.status, |status, out| encode::number(status.into(), out), out);
        out.extend_from_slice(b",\"ms\":");
        encode::number(outcome.took_us / 1000, out);
        out.push(b'}');
    }
    out.push(b'}');
}

fn or_null<T>(value: Option<T>, write: impl FnOnce(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    match value {
        Some(value) => write(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// A name that needs no escaping: part names are tokens, the rest is this file's.
fn quoted(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}
