//! Fields to set, add and remove, as an operator writes them; shared by the filter and by routes' own edits.

use crate::http::encode::Edits;
use crate::request::Request;
use crate::route::template::{Place, Template};

/// A list of changes. Removals come first, then sets, then additions.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// Names to remove.
    pub remove: Vec<String>,
    /// Fields to replace or to make.
    pub set: Vec<(String, Template)>,
    /// Fields to add beside those that are there.
    pub add: Vec<(String, Template)>,
}

impl HeaderEdits {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Notes the changes in `edits`; values come from `req`, encoded so that they can not end a line.
    pub fn apply(&self, req: &Request, edits: &mut Edits) {
        for name in &self.remove {
            edits.remove(name.as_bytes());
        }
        for (name, value) in &self.set {
            edits.set(name.as_bytes(), |out| value.render(req, Place::Header, out));
        }
        for (name, value) in &self.add {
            edits.add(name.as_bytes(), |out| value.render(req, Place::Header, out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_set_addition_in_that_order() {
        let template = |text: &str| Template::parse(text, &[]).unwrap();
        let list = HeaderEdits {
            remove: vec!["a".into()],
            set: vec![("b".into(), template("1")), ("a".into(), template("{request_id}"))],
            add: vec![("b".into(), template("2"))],
        };
        let req = Request { request_id: "id".into(), ..Request::default() };
        let mut edits = Edits::default();
        list.apply(&req, &mut edits);
        let mut out = Vec::new();
        edits.write_added(&mut out);
        assert_eq!(out, b"b: 1\r\na: id\r\nb: 2\r\n");
    }
}
