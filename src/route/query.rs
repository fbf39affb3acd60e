//! Changes to the query that goes to the upstream.

use super::encode::{self, Source, means};
use super::facts::Facts;
use super::template::{Place, Template, TemplateError};

/// Pairs to remove, to set and to add. All other pairs stay as they came, in their order.
#[derive(Debug, Clone, Default)]
pub struct QueryEdits {
    /// Names of which no pair passes: those removed and those set.
    dropped: Vec<String>,
    /// Names, encoded, and values, in the order in which they are written.
    given: Vec<(String, Template)>,
}

impl QueryEdits {
    /// No pair of this name, which is plain text, passes.
    pub fn remove(&mut self, name: &str) {
        self.dropped.push(name.to_owned());
    }

    /// A pair behind those that pass; with [`Self::remove`] it is the only one of its name. Value and name are plain text.
    ///
    /// # Errors
    /// As [`Template::parse_query_value`].
    pub fn add(&mut self, name: &str, value: &str, params: &[String]) -> Result<(), TemplateError> {
        let value = Template::parse_query_value(value, params)?;
        self.given.push((encode::query_text(name), value));
        Ok(())
    }

    /// Appends the changed query with its `?`, or nothing if no pair is left.
    pub fn apply<F: Facts>(&self, query: Option<&str>, facts: &F, out: &mut Vec<u8>) {
        let mut between = b'?';
        let passes = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default().as_bytes();
            !self.dropped.iter().any(|dropped| means(name, Source::Query, dropped.as_bytes()))
        };
        // An empty query has no pairs; what follows would else be its second.
        for pair in query.filter(|query| !query.is_empty()).into_iter().flat_map(|q| q.split('&')).filter(passes) {
            out.push(std::mem::replace(&mut between, b'&'));
            out.extend_from_slice(pair.as_bytes());
        }
        for (name, value) in &self.given {
            out.push(std::mem::replace(&mut between, b'&'));
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            value.render(facts, Place::Query, out);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::tests::{Request, names};
    use super::*;

    fn edited(edits: &QueryEdits, query: Option<&'static str>) -> String {
        let request = Request { params: ["7", "a/b"], query, header: b"a&b=c\r\n%41", path: "/x/y" };
        let mut out = Vec::new();
        edits.apply(query, &request, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_compared_decoded_and_other_pairs_stay_byte_for_byte() {
        let mut edits = QueryEdits::default();
        edits.remove("de bug");
        for (query, left) in [
            (None, ""),
            (Some(""), ""),
            (Some("de+bug=1"), ""),
            (Some("de%20bug&a=%2f?&&b"), "?a=%2f?&&b"),
            (Some("x=de bug&%64e+bug=1&%64e+bugs=1"), "?x=de bug&%64e+bugs=1"),
            (Some("&de+bug"), "?"),
        ] {
            assert_eq!(edited(&edits, query), left, "{query:?}");
        }
    }

    #[test]
    fn values_can_not_add_pairs() {
        let mut edits = QueryEdits::default();
        edits.remove("k&y");
        edits.add("k&y", "a b&{header.x-h}", &[]).unwrap();
        edits.add("id", "{rest}+{query.q}", &names()).unwrap();
        let given = "k%26y=a%20b%26a%26b%3Dc%0D%0A%2541&id=a%2Fb%2B";
        assert_eq!(edited(&edits, Some("k%26y=1&z")), format!("?z&{given}"));
        assert_eq!(edited(&edits, Some("q=%26+c")), format!("?q=%26+c&{given}%26+c"));
        assert_eq!(edited(&edits, None), format!("?{given}"));
        assert!(edits.add("a", "{query}", &[]).unwrap_err().to_string().contains("{query.NAME}"));
    }
}
