//! Templates against a hostile request, and what is refused.
#![allow(clippy::unwrap_used)]
use std::net::IpAddr;

use super::*;
use crate::tls::Session;

/// A request to `/user/{id}/{*rest}`.
pub(crate) struct Request {
    pub(crate) params: [&'static str; 2],
    pub(crate) query: Option<&'static str>,
    pub(crate) header: &'static [u8],
    pub(crate) path: &'static str,
}

impl Facts for Request {
    fn session(&self) -> Option<&Session> {
        None
    }

    fn client_ip(&self) -> Option<IpAddr> {
        Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]))
    }
    fn request_id(&self) -> &str {
        "4f-1"
    }
    fn host(&self) -> &str {
        "a.com@b/"
    }
    fn hostname(&self) -> &str {
        "a.com"
    }
    fn path(&self) -> &str {
        self.path
    }
    fn query_string(&self) -> Option<&str> {
        self.query
    }
    fn param(&self, i: usize) -> &str {
        self.params[i]
    }
    fn query(&self, name: &str) -> Option<&str> {
        self.query.filter(|_| name == "q")?.strip_prefix("q=")
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        (name == "x-h").then_some(self.header)
    }
}

const REQUEST: Request =
    Request { params: ["7", "a/b%20c"], query: Some("q=x/../y%2Fz+1"), header: b"h\r\nx: ..", path: "//e.com/%2e" };

pub(crate) fn names() -> [String; 2] {
    ["id".into(), "rest".into()]
}

fn rendered(text: &str, request: &Request, place: Place) -> String {
    let template = match place {
        Place::Path => Template::parse_path(text, &names()),
        Place::Query => Template::parse_query_value(text, &names()),
        Place::Header => Template::parse_header(text, &names()),
        Place::Location => Template::parse_location(text, &names()),
        Place::Target => Template::parse_target(text, &names(), &[]),
    };
    let mut out = b"<".to_vec();
    template.unwrap().render(request, place, &mut out);
    String::from_utf8(out).unwrap().split_off(1)
}

#[test]
fn values_can_not_change_what_is_around_them() {
    let cases = [
        ("/v2/{id}/{path.rest}", Place::Path, "/v2/7/a/b%20c"),
        ("/s/{query.q}/{header.X-H}{query.none}", Place::Path, "/s/x%252F..%252Fy%252Fz%201/h%250D%250Ax%3A%20.."),
        ("/{client_ip}/{request_id}/{host}", Place::Path, "/2001:db8::7/4f-1/a.com%40b%252F"),
        ("/{{{id}}}", Place::Path, "/{7}"),
        ("id={id} h={header.x-h} q={query.q}", Place::Header, "id=7 h=h%0D%0Ax: .. q=x/../y%2Fz+1"),
        ("https://{host}/n{path}?{query}", Place::Location, "https://a.com%40b%2F/n//e.com/%252E?q=x/../y%2Fz+1"),
        ("https://x.com/?q={query.q}&r={path.rest}", Place::Location, "https://x.com/?q=x%2F..%2Fy%2Fz+1&r=a%2Fb%20c"),
        ("https://{hostname}:8443/", Place::Location, "https://a.com:8443/"),
        ("{path}", Place::Location, "/e.com/%252E"),
        ("https://x.com{path}", Place::Location, "https://x.com//e.com/%252E"),
    ];
    for (text, place, expected) in cases {
        assert_eq!(rendered(text, &REQUEST, place), expected, "{text}");
    }
}

#[test]
fn dot_segments_and_hosts_can_not_be_put_together() {
    let request = Request { params: ["..", "/e.com/x"], query: None, header: b".", path: "/a" };
    assert_eq!(rendered("/x/{id}/y", &request, Place::Path), "/x/%252E%252E/y");
    assert_eq!(rendered("/x/.{header.x-h}/y", &request, Place::Path), "/x/%252E%252E/y");
    assert_eq!(rendered("/x{id}/{query.q}", &request, Place::Path), "/x../");
    assert_eq!(rendered("/{rest}", &request, Place::Location), "/e.com/x");
    assert_eq!(rendered("/new?{query}", &request, Place::Location), "/new");
}

#[test]
fn names_are_those_in_braces() {
    assert_eq!(Template::names("/{a}/{{b}}/{{{c.d[0]}}}?{}={e"), ["a", "c.d[0]", ""]);
    assert_eq!(Template::names("{{{{a}"), Vec::<&str>::new());
    let values = ["parts.a.b".to_owned()];
    assert!(Template::parse_sent_header("{parts.a.b} {id}", &names(), &values).is_ok());
    assert!(Template::parse_header("{parts.a.b}", &names()).is_err());
}

#[test]
fn literals_are_known() {
    let literal = |text: &str| Template::parse(text, &names()).unwrap().literal().map(str::to_owned);
    assert_eq!(literal("a{{b}}").as_deref(), Some("a{b}"));
    assert_eq!(literal("").as_deref(), Some(""));
    assert_eq!(literal("a{id}"), None);
    assert!(!Template::parse("{id}", &names()).unwrap().is_literal());
}

#[test]
fn errors_say_what_would_be_right() {
    let cases = [
        ("{client-ip}", "did you mean `{client_ip}`?"),
        ("{path.ids}", "did you mean `{path.id}`?"),
        ("{ids}", "did you mean `{path.id}`?"),
        (
            "{nothing_like_it}",
            "`{nothing_like_it}`. Known: client_ip, request_id, host, hostname, path, query, path.id, path.rest, query.NAME",
        ),
        ("{hots}", "`{hots}`, did you mean `{host}`? Known: "),
        ("{xd}", "`{xd}`, did you mean `{path.id}`? Known: "),
        ("{xy}", "`{xy}`. Known: "),
        ("{rexx}", "`{rexx}`. Known: "),
        ("{}", "Known:"),
        ("{tls.client.finger}", "Known: tls.server_name, tls.version, tls.client.subject"),
        ("{tls.client.sann}", "did you mean `{tls.client.san}`?"),
        ("{query.}", "Known:"),
        ("{header.a b}", "Known:"),
        ("{id", "write `{{`"),
        ("id}", "write `}}`"),
    ];
    for (text, expected) in cases {
        let error = Template::parse(text, &names()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = Template::parse("{host}", &["host".into()]).unwrap_err().to_string();
    assert!(error.contains("write `{path.host}`"), "{error}");
    assert!(Template::parse_header("a\nb: {id}", &names()).is_err());
    for text in ["a", "{id}", "/a?b", "/a b", "/a#", "/../x", "/a/.", ""] {
        assert!(Template::parse_path(text, &names()).is_err(), "{text}");
    }
}

#[test]
fn a_client_can_not_choose_the_host_of_a_location() {
    let bad = [
        "{id}",
        "//x.com",
        "x.com",
        "ftp://x/",
        "https://{id}/",
        "https://x{id}",
        "https://x.com{rest}",
        "https://",
        "https:///x",
        "https://{host}{id}",
        "https://{hostname}{id}",
        "https://{header.x-h}/",
        "/a b",
        "https://?x",
        "https://x.com:{id}/",
    ];
    for text in bad {
        assert!(Template::parse_location(text, &names()).is_err(), "{text}");
    }
    let good = [
        "/",
        "/{id}",
        "{path}",
        "https://x.com",
        "https://{host}",
        "https://{hostname}:8443/x",
        "https://{host}/",
        "https://{host}{path}?{query}",
        "https://x.com?{query}",
        "http://{host}:8080/{rest}",
        "https://{host}.x.com/{id}",
        "https://x.com/?u={id}",
    ];
    for text in good {
        assert!(Template::parse_location(text, &names()).is_ok(), "{text}");
    }
}
