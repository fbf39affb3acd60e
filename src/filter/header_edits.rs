//! Fields to rename, remove, set, append to and add, as an operator writes them; shared by the filter and by routes' own
//! edits.

use crate::http::encode::Edits;
use crate::http::head::{Field, Fields};
use crate::http::known::{Known, is_same_name};
use crate::request::Request;
use crate::route::template::{Place, Template};

/// A list of changes, made in the order of its fields.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// Fields of the first name get the second, and take the place of those that have it. In requests the second name is
    /// theirs alone: what came under it is not believed.
    pub rename: Vec<(String, String)>,
    /// Names to remove.
    pub remove: Vec<String>,
    /// Fields to replace or to make.
    pub set: Vec<(String, Template)>,
    /// Members to put behind the lists that fields have.
    pub append: Vec<(String, Template)>,
    /// Fields to add beside those that are there.
    pub add: Vec<(String, Template)>,
}

/// The fields that a message came with.
#[derive(Clone, Copy)]
pub struct Came<'m> {
    /// Where they are.
    pub fields: &'m Fields,
    /// In what.
    pub bytes: &'m [u8],
    /// Whether what tells who calls is believed.
    pub is_trusted: bool,
    /// Whether a client wrote them, and not the upstream.
    pub is_request: bool,
}

impl<'m> Came<'m> {
    /// Those of a request.
    pub fn with(req: &'m Request) -> Self {
        Self { fields: &req.head.fields, bytes: req.bytes(), is_trusted: req.from_trusted, is_request: true }
    }

    /// The values of that name, or of its twin with `_`, which go on, as `edits` has it so far.
    fn values(self, name: &'m [u8], edits: &Edits) -> Vec<Vec<u8>> {
        let goes_on = |field: &&Field| {
            !self.fields.is_listed(field, self.bytes)
                && field.is_seen()
                && (!matches!(field.known, Known::Forwarded | Known::ForwardedOther) || self.is_trusted)
                && !edits.removes(field.name, self.bytes)
        };
        let is_it = |field: &&Field| is_same_name(field.name.of(self.bytes), name);
        let came = self.fields.iter().filter(is_it).filter(goes_on).map(|field| field.value.of(self.bytes));
        let added = edits.added().filter(|(added, _)| is_same_name(added, name)).map(|(_, value)| value);
        came.chain(added).map(<[u8]>::to_vec).collect()
    }
}

impl HeaderEdits {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let Self { rename, remove, set, append, add } = self;
        rename.is_empty() && remove.is_empty() && set.is_empty() && append.is_empty() && add.is_empty()
    }

    /// Whether it takes fields of that name away, or makes others of them.
    pub fn edits(&self, name: &[u8]) -> bool {
        let renamed = self.rename.iter().flat_map(|(old, new)| [old, new]);
        let set = self.set.iter().chain(&self.append).map(|(name, _)| name);
        renamed.chain(&self.remove).chain(set).any(|edited| is_same_name(edited.as_bytes(), name))
    }

    /// Notes the changes to a message that came with these fields in `edits`; values come from `req`, encoded so that they
    /// can not end a line.
    pub fn apply(&self, req: &Request, came: Option<Came<'_>>, edits: &mut Edits) {
        for (old, new) in &self.rename {
            rename(old.as_bytes(), new.as_bytes(), came, edits);
        }
        for name in &self.remove {
            edits.remove(name.as_bytes());
        }
        for (name, value) in &self.set {
            edits.set(name.as_bytes(), |out| value.render(req, Place::Header, out));
        }
        for (name, value) in &self.append {
            append(name.as_bytes(), |out| value.render(req, Place::Header, out), came, edits);
        }
        for (name, value) in &self.add {
            edits.add(name.as_bytes(), |out| value.render(req, Place::Header, out));
        }
    }
}

fn rename(old: &[u8], new: &[u8], came: Option<Came<'_>>, edits: &mut Edits) {
    let values = came.map(|came| came.values(old, edits)).unwrap_or_default();
    if values.is_empty() {
        // Without the field that a filter writes, or that a Connection option takes away, a client could claim its new name.
        if came.is_some_and(|came| came.is_request) {
            edits.drop_came(new);
        }
        return;
    }
    // What a filter has decided about that name stands: a client could else claim anything under the old one.
    let is_decided = edits.replaces(new);
    edits.remove(old);
    if is_decided {
        return;
    }
    edits.remove(new);
    for value in values {
        edits.add(new, |out| out.extend_from_slice(&value));
    }
}

fn append(name: &[u8], write: impl FnOnce(&mut Vec<u8>), came: Option<Came<'_>>, edits: &mut Edits) {
    let mut member = Vec::new();
    write(&mut member);
    if member.is_empty() {
        return;
    }
    let mut list = came.map(|came| came.values(name, edits)).unwrap_or_default();
    // RFC 9110 5.6.1: lists have no empty members.
    list.retain(|members| !members.is_empty());
    list.push(member);
    edits.set(name, |out| out.extend_from_slice(&list.join(&b", "[..])));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Bounds, RequestHead};

    fn template(text: &str) -> Template {
        Template::parse(text, &[]).unwrap()
    }

    fn written(list: &HeaderEdits, fields: &str, before: impl FnOnce(&mut Edits)) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        assert!(head.parse(text.as_bytes(), &Bounds { head: 4096, fields: 20, target: 10 }).unwrap());
        let req = Request { request_id: "id".into(), ..Request::default() };
        let mut edits = Edits::default();
        before(&mut edits);
        let came = Came { fields: &head.fields, bytes: text.as_bytes(), is_trusted: false, is_request: true };
        list.apply(&req, Some(came), &mut edits);
        let mut out = Vec::new();
        edits.write_added(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn removal_set_addition_in_that_order() {
        let list = HeaderEdits {
            remove: vec!["a".into()],
            set: vec![("b".into(), template("1")), ("a".into(), template("{request_id}"))],
            add: vec![("b".into(), template("2"))],
            ..HeaderEdits::default()
        };
        assert_eq!(written(&list, "", |_| {}), "b: 1\r\na: id\r\nb: 2\r\n");
    }

    #[test]
    fn append_makes_one_list_of_all_that_goes_on() {
        let append = vec![("Vary".into(), template("Origin")), ("x".into(), template("{header.x-none}"))];
        let list = HeaderEdits { append, ..HeaderEdits::default() };
        assert_eq!(written(&list, "", |_| {}), "Vary: Origin\r\n");
        assert_eq!(written(&list, "vary: A, B\r\nx: 1\r\nVARY:\r\nVary: C\r\n", |_| {}), "Vary: A, B, C, Origin\r\n");
        assert_eq!(written(&list, "vary: A\r\nConnection: vary\r\n", |_| {}), "Vary: Origin\r\n");
        let set = |edits: &mut Edits| edits.set(b"vary", |out| out.push(b'S'));
        assert_eq!(written(&list, "vary: A\r\n", set), "Vary: S, Origin\r\n");
    }

    #[test]
    fn a_new_name_takes_the_place_of_what_had_it_unless_that_was_decided() {
        let list = HeaderEdits { rename: vec![("x-old".into(), "X-New".into())], ..HeaderEdits::default() };
        assert_eq!(written(&list, "X_Old: 1\r\nx-new: 2\r\nx_new: 3\r\n", |_| {}), "X-New: 1\r\n", "its twin");
        assert_eq!(written(&list, "X-OLD: 1\r\nx-new: 2\r\nx-old: 3\r\n", |_| {}), "X-New: 1\r\nX-New: 3\r\n");
        let filter = |edits: &mut Edits| edits.set(b"x-new", |out| out.extend_from_slice(b"jwt"));
        assert_eq!(written(&list, "x-old: 1\r\n", filter), "x-new: jwt\r\n");
        assert_eq!(written(&list, "x-old: 1\r\n", |edits| edits.remove(b"x-new")), "", "nobody may say it");
        assert_eq!(written(&list, "x-old: 1\r\nConnection: x-old\r\n", |_| {}), "");
        assert_eq!(written(&list, "", |edits| edits.add(b"x-old", |out| out.push(b'1'))), "X-New: 1\r\n");
    }

    #[test]
    fn a_new_name_is_that_of_the_old_one_alone_in_requests() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\nx-new: 1\r\n\r\n";
        let mut head = RequestHead::default();
        assert!(head.parse(text, &Bounds { head: 4096, fields: 20, target: 10 }).unwrap());
        for is_request in [true, false] {
            let came = Came { fields: &head.fields, bytes: text, is_trusted: false, is_request };
            let mut edits = Edits::default();
            edits.add(b"x-new", |out| out.push(b'o'));
            rename(b"x-old", b"x-new", Some(came), &mut edits);
            assert_eq!((edits.replaces(b"x-new"), edits.replaces(b"X_New")), (is_request, is_request));
            assert_eq!(edits.added().count(), 1, "the operator's own stays");
        }
    }
}
