//! What an answer becomes before it goes into another: members left out, members with other keys.
//!
//! Nothing is decoded and written anew: keys, scalars and values that no path leads into are copied as they came, so
//! that numbers beyond 2⁵³, escapes and the order of members survive. Whitespace between copied items is dropped.
//!
//! Paths are made of keys, and arrays on the way are passed through: each element is edited alike. A path with an index
//! or `[*]` in it matches nothing.

use super::path::{Path, Step};
use super::scan::{Cursor, key_is, trim};
use super::validate::DEPTH_MAX;
use super::write::push_string;

/// Which members are kept. Paths use the names that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    #[default]
    All,
    /// Those at these paths with all that is in them. What a path leads through is kept with what is allowed in it; a
    /// scalar in such a place is not, since nobody has allowed it. Only where the whole value is a scalar it stays.
    Allow(Vec<Path>),
    /// All but those at these paths.
    Deny(Vec<Path>),
}

/// A filter, and the new keys that members get after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    mode: Mode,
    root: Node,
}

/// What the filter does with the members of the value at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    KeepAll,
    KeepListed,
    DropListed,
}

/// A member that a path names or leads through; the root stands for the whole value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// As text, without escapes.
    key: String,
    /// A path of the filter ends here.
    is_listed: bool,
    /// A path of the filter goes on from here.
    leads_on: bool,
    rename: Option<Rename>,
    children: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rename {
    /// Its place among all: of two members that get the same key, the one with the lower place is kept.
    place: usize,
    key: String,
}

impl Edit {
    /// An edit. `rename` gives members new last keys, by paths of the names that came; it happens after the filter. A
    /// kept member that has such a key already is left out, and of two members that get the same key, the one that is
    /// named first is kept: no edit makes a key come twice.
    pub fn new(filter: Filter, rename: Vec<(Path, String)>) -> Self {
        let (mut mode, paths) = match filter {
            Filter::All => (Mode::KeepAll, Vec::new()),
            Filter::Allow(paths) => (Mode::KeepListed, paths),
            Filter::Deny(paths) => (Mode::DropListed, paths),
        };
        let mut root = Node::default();
        for keys in paths.iter().filter_map(keys) {
            match (keys.is_empty(), mode) {
                (false, _) => {
                    let node = root.at(&keys, true);
                    node.is_listed = true;
                    // Longer paths say nothing more.
                    node.children.clear();
                }
                (true, Mode::KeepListed) => mode = Mode::KeepAll,
                // Without the whole value there would be none.
                (true, _) => {}
            }
        }
        if mode == Mode::KeepAll {
            root = Node::default();
        }
        for (place, (path, key)) in rename.into_iter().enumerate() {
            if let Some(keys) = keys(&path)
                && keys.last().is_some_and(|last| *last != key)
            {
                root.at(&keys, false).rename.get_or_insert(Rename { place, key });
            }
        }
        root.sort();
        Self { mode, root }
    }

    /// Each value would come out as it went in, but for whitespace around it.
    pub fn is_nothing(&self) -> bool {
        self.mode != Mode::KeepListed && self.root.children.is_empty()
    }

    /// Appends the edited value. What was valid JSON with unique keys comes out as such.
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) {
        let mut cursor = Cursor(trim(value));
        if self.is_nothing() || !cursor.at_container() {
            out.extend_from_slice(cursor.0);
        } else {
            container(&mut cursor, &self.root, self.mode, 1, out);
        }
    }
}

/// The keys of a path, if it is made of nothing else.
fn keys(path: &Path) -> Option<Vec<&str>> {
    let keys = path.0.iter().map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) | Step::Each => None,
    });
    keys.collect()
}

impl Node {
    /// The node at a path below this one; for a filter, or the listed one on the way to it.
    fn at(&mut self, keys: &[&str], is_filter: bool) -> &mut Self {
        let mut node = self;
        for key in keys {
            if is_filter && node.is_listed {
                break;
            }
            node.leads_on |= is_filter;
            let at = node.children.iter().position(|child| child.key == *key).unwrap_or_else(|| {
                node.children.push(Self { key: (*key).into(), ..Self::default() });
                node.children.len() - 1
            });
            node = &mut node.children[at];
        }
        node
    }

    /// Sorts what is below, so that each of many members is looked up in few steps.
    fn sort(&mut self) {
        self.children.sort_by(|a, b| a.key.cmp(&b.key));
        self.children.iter_mut().for_each(Self::sort);
    }

    fn child(&self, raw_key: &[u8]) -> Option<&Self> {
        self.children.get(sorted(&self.children, raw_key, |child| &child.key)?)
    }

    /// The renames that happen in an object that was opened: those of members that are there and kept.
    fn renames(&self, mut object: Cursor<'_>, mode: Mode) -> Vec<&Rename> {
        let mut found: Vec<&Rename> = Vec::new();
        if self.children.iter().all(|child| child.rename.is_none()) {
            return found;
        }
        while let Some(key) = object.key() {
            let child = self.child(key);
            if let Some(rename) = child.and_then(|child| child.rename.as_ref())
                && mode.within(child, object.at_container()).is_some()
            {
                match found.iter_mut().find(|other| other.key == rename.key) {
                    Some(other) if other.place < rename.place => {}
                    Some(other) => *other = rename,
                    None => found.push(rename),
                }
            }
            object.value();
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }
}

/// Where a raw key is among things that are sorted by their key, which is text.
fn sorted<T>(list: &[T], raw_key: &[u8], key: impl Fn(&T) -> &str) -> Option<usize> {
    if raw_key.contains(&b'\\') {
        return list.iter().position(|item| key_is(raw_key, key(item)));
    }
    list.binary_search_by(|item| key(item).as_bytes().cmp(raw_key)).ok()
}

impl Mode {
    /// What becomes of a member's own members; `None` if it is left out itself.
    fn within(self, child: Option<&Node>, is_container: bool) -> Option<Self> {
        match (self, child) {
            (Self::KeepAll, _) => Some(Self::KeepAll),
            (Self::DropListed, child) => child.is_none_or(|child| !child.is_listed).then_some(self),
            (Self::KeepListed, Some(child)) if child.is_listed => Some(Self::KeepAll),
            (Self::KeepListed, child) => (is_container && child.is_some_and(|child| child.leads_on)).then_some(self),
        }
    }
}

/// Copies the container at the cursor, edited. The cursor goes over it once and is handed down, since looking for the
/// end of each value before opening it would read a text as often as it is deep.
fn container(cursor: &mut Cursor<'_>, node: &Node, mode: Mode, depth: usize, out: &mut Vec<u8>) {
    if cursor.open(b'[') { array(cursor, node, mode, depth, out) } else { object(cursor, node, mode, depth, out) }
}

fn array(cursor: &mut Cursor<'_>, node: &Node, mode: Mode, depth: usize, out: &mut Vec<u8>) {
    let mut separator = b'[';
    while cursor.element() {
        if mode == Mode::KeepListed && !cursor.at_container() {
            cursor.value();
            continue;
        }
        out.push(separator);
        separator = b',';
        value(cursor, Some(node), mode, depth, out);
    }
    out.extend_from_slice(if separator == b'[' { b"[]" } else { b"]" });
}

fn object(cursor: &mut Cursor<'_>, node: &Node, mode: Mode, depth: usize, out: &mut Vec<u8>) {
    if !cursor.open(b'{') {
        return;
    }
    let renames = node.renames(*cursor, mode);
    let mut separator = b'{';
    while let Some(key) = cursor.key() {
        let child = node.child(key);
        let rename = child.and_then(|child| child.rename.as_ref());
        let gives_way = match rename {
            Some(own) => renames.iter().all(|rename| rename.place != own.place),
            None => sorted(&renames, key, |rename| &rename.key).is_some(),
        };
        let within = mode.within(child, cursor.at_container());
        let Some(within) = within.filter(|_| !gives_way) else {
            cursor.value();
            continue;
        };
        out.push(separator);
        separator = b',';
        match rename {
            Some(rename) => push_string(rename.key.as_bytes(), out),
            None => {
                out.push(b'"');
                out.extend_from_slice(key);
                out.push(b'"');
            }
        }
        out.push(b':');
        value(cursor, child, within, depth, out);
    }
    out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
}

/// The value at the cursor, which is in a container of this depth: opened if there is something to do in it.
fn value(cursor: &mut Cursor<'_>, node: Option<&Node>, mode: Mode, depth: usize, out: &mut Vec<u8>) {
    match node {
        Some(node)
            if cursor.at_container()
                && depth < DEPTH_MAX
                && (mode == Mode::KeepListed || !node.children.is_empty()) =>
        {
            container(cursor, node, mode, depth + 1, out);
        }
        _ => out.extend_from_slice(cursor.value()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Map, Value};

    use super::super::samples::Random;
    use super::super::validate::Validator;
    use super::*;

    fn paths(texts: &[&str]) -> Vec<Path> {
        texts.iter().map(|text| Path::parse(text).unwrap()).collect()
    }

    fn renames(pairs: &[(&str, &str)]) -> Vec<(Path, String)> {
        pairs.iter().map(|(path, key)| (Path::parse(path).unwrap(), (*key).to_string())).collect()
    }

    fn edited(edit: &Edit, value: &str) -> String {
        let mut out = Vec::new();
        edit.apply(value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    const USER: &str = r#" {"id": 9007199254740993, "n\u0061me" : "A\u0042", "price":1.50,
        "address":{"city":"Wien", "geo":{"lat":48.2, "lon":16.3}, "secret":1},
        "items":[{"id":1,"secret":2}, 3, [{"secret":4, "id":5}], null], "note":null} "#;

    #[test]
    fn denied_members_are_left_out() {
        for (deny, expected) in [
            (
                &["secret"][..],
                r#"{"id":9007199254740993,"n\u0061me":"A\u0042","price":1.50,"address":{"city":"Wien", "geo":{"lat":48.2, "lon":16.3}, "secret":1},"items":[{"id":1,"secret":2}, 3, [{"secret":4, "id":5}], null],"note":null}"#,
            ),
            (
                &["items.secret", "address", "name"],
                r#"{"id":9007199254740993,"price":1.50,"items":[{"id":1},3,[{"id":5}],null],"note":null}"#,
            ),
            (
                &["address.geo.lat", "address.geo.lon", "items", "id", "name", "price", "note.x", "address.city.x"],
                r#"{"address":{"city":"Wien","geo":{},"secret":1},"note":null}"#,
            ),
            (&["id", "name", "price", "address", "items", "note"], "{}"),
        ] {
            let edit = Edit::new(Filter::Deny(paths(deny)), Vec::new());
            assert_eq!(edited(&edit, USER), expected);
        }
    }

    #[test]
    fn only_allowed_members_are_kept() {
        for (allow, value, expected) in [
            (&["id", "address.city"][..], USER, r#"{"id":9007199254740993,"address":{"city":"Wien"}}"#),
            (&["address.geo", "address.geo.lat"], USER, r#"{"address":{"geo":{"lat":48.2, "lon":16.3}}}"#),
            (&["address.geo.lat", "address.geo"], USER, r#"{"address":{"geo":{"lat":48.2, "lon":16.3}}}"#),
            (&["items.id", "note.x", "price.x"], USER, r#"{"items":[{"id":1},[{"id":5}]]}"#),
            (&["name", "none"], USER, r#"{"n\u0061me":"A\u0042"}"#),
            (&["address.none"], USER, r#"{"address":{}}"#),
            (&[], USER, "{}"),
            (&[], r#"[{"a":1},[{"a":2}],3]"#, "[{},[{}]]"),
            (&["a"], r#" [{"a":1,"b":2},[{"b":1}],"x",null]"#, r#"[{"a":1},[{}]]"#),
            (&["a"], " \"text\" ", "\"text\""),
            (&["a"], "null", "null"),
            (&[""], r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#),
        ] {
            let edit = Edit::new(Filter::Allow(paths(allow)), Vec::new());
            assert_eq!(edited(&edit, value), expected, "{allow:?}");
        }
    }

    #[test]
    fn renamed_members_keep_their_place_and_win() {
        for (filter, rename, value, expected) in [
            (Filter::All, &[("a", "b")][..], r#"{"a": 1, "c":2}"#, r#"{"b":1,"c":2}"#),
            (Filter::All, &[("a", "b")], r#"{"b":0,"a":1}"#, r#"{"b":1}"#),
            (Filter::All, &[("a", "b")], r#"{"a":1,"\u0062":0}"#, r#"{"b":1}"#),
            (Filter::All, &[("a", "b")], r#"{"b":0}"#, r#"{"b":0}"#),
            (Filter::All, &[("a", "b"), ("b", "a")], r#"{"a":1,"b":2}"#, r#"{"b":1,"a":2}"#),
            (Filter::All, &[("a", "b"), ("b", "c")], r#"{"a":1,"b":2,"c":3}"#, r#"{"b":1,"c":2}"#),
            (Filter::All, &[("a", "x"), ("b", "x")], r#"{"b":2,"x":3,"a":1}"#, r#"{"x":1}"#),
            (Filter::All, &[("a", "x"), ("b", "x")], r#"{"b":2,"x":3}"#, r#"{"x":2}"#),
            (Filter::All, &[("u.a", "b"), ("u", "v")], r#"[{"u":[{"a":1}],"v":0}]"#, r#"[{"v":[{"b":1}]}]"#),
            (Filter::All, &[("a", "\"\n")], r#"{"a":1}"#, r#"{"\"\n":1}"#),
            (Filter::Deny(paths(&["a"])), &[("a", "b")], r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
            (Filter::Deny(paths(&["b"])), &[("a", "b")], r#"{"a":1,"b":2}"#, r#"{"b":1}"#),
            (
                Filter::Allow(paths(&["u"])),
                &[("u.a", "b"), ("x", "y")],
                r#"{"u":{"a":1,"c":2},"x":3}"#,
                r#"{"u":{"b":1,"c":2}}"#,
            ),
            (Filter::Allow(paths(&["u.a"])), &[("u", "v")], r#"{"u":1,"v":2}"#, "{}"),
            (Filter::Allow(paths(&["u.a", "v"])), &[("u", "v")], r#"{"u":1,"v":2}"#, r#"{"v":2}"#),
        ] {
            let edit = Edit::new(filter, renames(rename));
            assert_eq!(edited(&edit, value), expected, "{rename:?}");
        }
    }

    #[test]
    fn edits_that_do_nothing_say_so() {
        for (filter, rename, nothing) in [
            (Filter::All, &[][..], true),
            (Filter::Deny(Vec::new()), &[], true),
            (Filter::Deny(paths(&["[*].a", "a[0]", ""])), &[("[0].a", "b"), ("", "x")], true),
            (Filter::Allow(paths(&[""])), &[("a", "a")], true),
            (Filter::Allow(Vec::new()), &[], false),
            (Filter::Deny(paths(&["a"])), &[], false),
            (Filter::All, &[("a", "b")], false),
        ] {
            let edit = Edit::new(filter, renames(rename));
            assert_eq!(edit.is_nothing(), nothing, "{edit:?}");
            assert!(!nothing || edited(&edit, USER) == USER.trim());
        }
        assert!(Edit::default().is_nothing());
    }

    #[test]
    fn what_is_deeper_than_any_text_is_copied() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(edited(&Edit::new(Filter::Deny(paths(&["a"])), Vec::new()), &deep), deep);
        let within = "[".repeat(DEPTH_MAX - 1) + r#"{"a":1}"# + &"]".repeat(DEPTH_MAX - 1);
        let edit = Edit::new(Filter::Deny(paths(&["a"])), Vec::new());
        assert_eq!(edited(&edit, &within), within.replace("\"a\":1", ""));
    }

    /// The same on trees, path by path.
    struct Reference {
        allow: Option<Vec<Vec<String>>>,
        deny: Vec<Vec<String>>,
        rename: Vec<(Vec<String>, String)>,
    }

    impl Reference {
        fn value(&self, value: &Value, at: &[String], is_allowed: bool) -> Option<Value> {
            match value {
                Value::Array(array) => {
                    Some(array.iter().filter_map(|value| self.value(value, at, is_allowed)).collect())
                }
                Value::Object(object) => {
                    let mut kept = Vec::new();
                    for (key, member) in object {
                        let at = [at, std::slice::from_ref(key)].concat();
                        let is_allowed = is_allowed || self.allow.iter().flatten().any(|path| *path == at);
                        let leads_on = self.allow.iter().flatten().any(|path| path.starts_with(&at));
                        if self.deny.contains(&at) || !(is_allowed || leads_on) {
                            continue;
                        }
                        let Some(member) = self.value(member, &at, is_allowed) else { continue };
                        let rename = self.rename.iter().position(|(path, _)| *path == at);
                        let key = rename.map_or(key, |place| &self.rename[place].1).clone();
                        kept.push((rename.unwrap_or(usize::MAX), key, member));
                    }
                    kept.sort_by_key(|(place, ..)| *place);
                    let mut object = Map::new();
                    for (_, key, member) in kept {
                        object.entry(key).or_insert(member);
                    }
                    Some(Value::Object(object))
                }
                scalar => is_allowed.then(|| scalar.clone()),
            }
        }
    }

    #[test]
    fn random_edits_do_what_they_do_on_trees() {
        let mut random = Random(0x2468_ACE0_1357_9BDF);
        let mut validator = Validator::default();
        let mut changed = 0;
        for round in 0..20_000 {
            let document = random.document(true);
            let value: Value = serde_json::from_str(&document).unwrap();
            let some = |random: &mut Random, count: usize| -> Vec<Vec<String>> {
                (0..random.below(count))
                    .map(|_| (0..=random.below(3)).map(|_| random.key().to_string()).collect())
                    .collect()
            };
            let listed = some(&mut random, 5);
            let rename: Vec<_> =
                some(&mut random, 4).into_iter().map(|path| (path, random.key().to_string())).collect();
            let path = |keys: &Vec<String>| Path(keys.iter().cloned().map(Step::Key).collect());
            let as_paths = listed.iter().map(path).collect();
            let (filter, allow, deny) = match round % 3 {
                0 => (Filter::All, None, Vec::new()),
                1 => (Filter::Allow(as_paths), Some(listed), Vec::new()),
                _ => (Filter::Deny(as_paths), None, listed),
            };
            let edit = Edit::new(filter, rename.iter().map(|(keys, key)| (path(keys), key.clone())).collect());
            // A member that is renamed to its own name is one that is not renamed.
            let rename = rename.into_iter().filter(|(path, key)| path.last() != Some(key)).collect();
            let is_allowed = allow.is_none();
            let reference = Reference { allow, deny, rename };
            let expected = match &value {
                Value::Object(_) | Value::Array(_) => reference.value(&value, &[], is_allowed).unwrap(),
                scalar => scalar.clone(),
            };
            let got = edited(&edit, &document);
            validator.reset();
            assert_eq!(
                validator.feed(got.as_bytes()).and_then(|()| validator.finish()),
                Ok(()),
                "{edit:?}\n{document}\n{got}"
            );
            assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), expected, "{edit:?}\n{document}\n{got}");
            changed += usize::from(value != expected);
        }
        assert!(changed > 3000, "{changed}");
    }

    #[test]
    fn other_bytes_do_no_harm() {
        let mut random = Random(0x1357_9BDF_0246_8ACE);
        let edits = [
            Edit::new(Filter::Allow(paths(&["a", "user.id", "items.a.b"])), renames(&[("a", "b"), ("items.a", "x")])),
            Edit::new(Filter::Deny(paths(&["a", "user.id", "items.a.b"])), renames(&[("b", "a"), ("items.a", "x")])),
        ];
        for _ in 0..20_000 {
            let mut bytes = random.document(false).into_bytes();
            random.mutate(&mut bytes);
            for edit in &edits {
                let mut out = Vec::new();
                edit.apply(&bytes, &mut out);
                assert!(out.len() <= 2 * bytes.len() + 2, "{}", bytes.escape_ascii());
            }
        }
    }
}
