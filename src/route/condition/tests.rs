//! Conditions against requests and answers, also hostile ones, and what is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::IpAddr;

use super::*;
use crate::route::facts::Value;
use crate::tls::Session;

/// A request to `/user/{id}/{in}`, and the JSON of the values that its condition names.
struct Asked<'a>(Vec<&'a [u8]>);

impl Facts for Asked<'_> {
    fn session(&self) -> Option<&Session> {
        None
    }
    fn client_ip(&self) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, 7]))
    }
    fn request_id(&self) -> &str {
        "r1"
    }
    fn host(&self) -> &str {
        "a.com:80"
    }
    fn hostname(&self) -> &str {
        "a.com"
    }
    fn path(&self) -> &str {
        "/user/7%20x"
    }
    fn query_string(&self) -> Option<&str> {
        None
    }
    fn param(&self, i: usize) -> &str {
        ["7%20x", "b"][i]
    }
    fn query(&self, name: &str) -> Option<&str> {
        [("q", "a+%41"), ("empty", "")].iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        (name == "x-beta-1").then_some(b"on\xff")
    }
    fn value(&self, i: usize) -> Value<'_> {
        Value { text: b"", json: self.0[i] }
    }
}

fn params() -> [String; 2] {
    ["id".to_owned(), "in".to_owned()]
}

/// The names of values of other parts.
fn references(text: &str) -> Vec<String> {
    let mut names = names(text);
    names.retain(|name| name.starts_with("parts."));
    names
}

/// Whether a condition holds in which `parts.a`, `parts.b` … are these.
fn holds_of(text: &str, json: &[&[u8]]) -> bool {
    let values: Vec<String> = references(text);
    let known = ["parts.a", "parts.b"].into_iter().zip(json).collect::<Vec<_>>();
    let json = values.iter().map(|name| known.iter().find(|(known, _)| known == name).map_or(&b""[..], |(_, j)| j));
    let condition = Condition::parse(text, &params(), &values).unwrap_or_else(|e| panic!("{text}: {e}"));
    condition.holds(&Asked(json.collect()))
}

fn holds(text: &str, a: &str) -> bool {
    holds_of(text, &[a.as_bytes()])
}

#[track_caller]
fn wrong(text: &str) -> String {
    let known: Vec<String> = references(text).into_iter().filter(|name| name.starts_with("parts.a")).collect();
    Condition::parse(text, &params(), &known).expect_err(text).to_string()
}

#[test]
fn types_are_never_converted() {
    for (text, a) in [
        ("parts.a == 'gold'", r#""gold""#),
        ("parts.a == \"go'ld\"", r#""go\u0027ld""#),
        ("parts.a == 'go\\'ld'", r#" "go'ld" "#),
        ("parts.a == 'é'", r#""\u00e9""#),
        ("parts.a != 'gold'", r#""Gold""#),
        ("parts.a != '1'", "1"),
        ("parts.a != 1", r#""1""#),
        ("parts.a != true", r#""true""#),
        ("parts.a == true && parts.a", "true"),
        ("!parts.a && parts.a == false", "false"),
        ("!parts.a && parts.a != false", "1"),
        ("parts.a == null", "null"),
        ("parts.a == null", ""),
        ("parts.a == null && parts.a == parts.b", ""),
        ("parts.a != null", "0"),
        ("null == parts.a", ""),
        ("parts.a < 'b'", r#""az""#),
        ("parts.a >= 'a' && parts.a <= 'a'", r#""a""#),
        ("'b' > parts.a", r#""a""#),
    ] {
        assert!(holds(text, a), "{text} of {a}");
    }
    // Neither is less, nor more, nor the same.
    for (sign, a) in [("<", "1"), (">", "1"), ("<=", "null"), (">=", "[]"), (">=", ""), ("<", "true")] {
        assert!(!holds(&format!("parts.a {sign} 'x'"), a), "{sign} {a}");
    }
    for sign in ["<=", ">="] {
        assert!(!holds(&format!("parts.a {sign} null"), "null") && !holds(&format!("parts.a {sign} true"), "true"));
    }
}

#[test]
fn integers_of_any_length_are_exact() {
    for (text, a) in [
        ("parts.a == 9007199254740993", "9007199254740993"),
        ("parts.a != 9007199254740992", "9007199254740993"),
        ("parts.a > 9007199254740992", "9007199254740993"),
        (
            "parts.a > 99999999999999999999999999999999999999999999",
            "99999999999999999999999999999999999999999999999999",
        ),
        ("parts.a < 10", "9"),
        ("parts.a < 9", "-10"),
        ("parts.a < -9", "-10"),
        ("parts.a > -10 && parts.a < 0", "-9"),
        ("parts.a == 0 && parts.a >= 0", "-0"),
        ("parts.a == 1", "1.0"),
        ("parts.a == 100", "1e2"),
        ("parts.a > 0.5 && parts.a <= 1E0", "0.75"),
        ("parts.a == 1e999", "1e999"),
        ("parts.a != 1e998 && !(parts.a > 0.5)", "1e999"),
    ] {
        assert!(holds(text, a), "{text} of {a}");
    }
}

#[test]
fn in_finds_values_in_arrays_and_lists() {
    for (text, a) in [
        ("'admin' in parts.a", r#"["user", "\u0061dmin"]"#),
        ("7 in parts.a", "[ 7.0 ]"),
        ("null in parts.a", "[1,null]"),
        ("parts.a in ['x', 1, true, null]", "true"),
        ("parts.a in ['x', null]", ""),
        ("!(parts.a in [1, '2'])", "2"),
        ("query.q in ['x', parts.a]", r#""a A""#),
        ("!('x' in parts.a)", r#""x""#),
        ("!('x' in parts.a)", r#"{"x":"x"}"#),
        ("!('x' in parts.a)", r#"[["x"],{"x":1}]"#),
        ("!('x' in parts.a)", ""),
        ("!('x' in parts.a)", "[]"),
        ("parts.a in['x']", r#""x""#),
    ] {
        assert!(holds(text, a), "{text} of {a}");
    }
}

#[test]
fn facts_are_text_without_their_encoding_and_may_be_missing() {
    for text in [
        "id == '7 x' && path.id == id && path.in == 'b'",
        "query.q == 'a A'",
        "query.none == null && header.none == null && query == null && header.x-beta-1 != null",
        "query.empty == '' && query.empty != null",
        "client_ip == '10.0.0.7' && host == 'a.com:80' && hostname == 'a.com' && tls.version == ''",
        "path == '/user/7 x'",
        "host in ['b.com', 'a.com:80']",
    ] {
        assert!(holds(text, ""), "{text}");
    }
}

#[test]
fn operators_bind_as_everywhere() {
    for (text, a) in [
        ("true || false && false", ""),
        ("!(true && false)", ""),
        ("!!parts.a", "true"),
        ("!(!(parts.a == 1)) && !false", "1"),
        ("(parts.a == 1 || parts.a == 2) && true", "2"),
        (" ( ( true ) ) ", ""),
        ("!(false || parts.a == 1 && false)", "1"),
    ] {
        assert!(holds(text, a), "{text} of {a}");
    }
}

#[test]
fn hostile_values_are_compared_and_nothing_else() {
    let deep = "[".repeat(100_000);
    let long = format!("\"{}\"", "\\\\".repeat(100_000));
    let digits = "9".repeat(200_000);
    let hostile: [&[u8]; 17] = [
        b"",
        b" ",
        b"\"",
        b"\"\\",
        b"\"\\u\"",
        b"\"\\ud800\"",
        b"\xff\xfe",
        b"[",
        b"[,,]",
        b"{]",
        b"-",
        b"-inf",
        b"1e",
        b"nan",
        deep.as_bytes(),
        long.as_bytes(),
        digits.as_bytes(),
    ];
    for a in hostile {
        for b in hostile {
            for comparison in ["==", "!=", "<", "<=", ">", ">=", "in"] {
                holds_of(&format!("parts.a {comparison} parts.b"), &[a, b]);
            }
            assert!(!holds_of("parts.a && !parts.a", &[a, b]));
        }
        assert!(!holds_of("parts.a == 'gold' || 'gold' in parts.a || parts.a == true", &[a]));
    }
}

#[test]
fn names_are_found_in_order_and_never_in_texts() {
    let text =
        "parts.a.b-c[0].d == 'parts.x' && (parts.z || \"parts.y\" in parts.a.b-c[0].d) && id in ['parts.w', parts.v]";
    assert_eq!(references(text), ["parts.a.b-c[0].d", "parts.z", "parts.v"]);
    assert_eq!(names(text), ["parts.a.b-c[0].d", "parts.z", "id", "parts.v"]);
    assert_eq!(names("true == null in false"), Vec::<String>::new());
    assert_eq!(references("parts.a == 'x && parts.b"), ["parts.a"], "as far as it can be read");
    assert_eq!(references("parts.ä.x[*].y"), ["parts.ä.x[*].y"]);
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (text, expected) in [
        ("", "character 1 of the condition: the condition ends here; expected a value"),
        ("parts.a ==", "character 11 of the condition: the condition ends here; expected a value"),
        ("parts.a = 1", "character 9 of the condition: expected `==`"),
        ("parts.a & parts.a", "character 9 of the condition: expected `&&`"),
        ("parts.a | parts.a", "expected `||`"),
        ("parts.a == gold", "character 12 of the condition: there is no value `{gold}`"),
        ("parts.a == gold", "A text needs quotes: 'gold'"),
        ("parts.b == 'x'", "character 1 of the condition: there is no value `{parts.b}`"),
        ("parts.a == 'ä' # y", "character 16 of the condition: '#' has no meaning"),
        ("parts.a == 'x", "character 12 of the condition: the text that begins here does not end; expected '"),
        (r"parts.a == 'x\n'", r"character 14 of the condition: expected a quote or a backslash behind `\`"),
        ("{parts.a} == 1", "without braces"),
        ("parts.a == 01", "`01` is no number"),
        ("parts.a == 1.", "`1.` is no number"),
        ("parts.a == -", "`-` is no number"),
        ("parts.a == 0x1F", "`0x1F` is no number"),
        ("parts.a == +1", "'+' has no meaning"),
        ("(parts.a", "expected `&&`, `||` or `)`"),
        ("parts.a)", "character 8 of the condition: expected `&&`, `||` or the end"),
        ("parts.a parts.a", "expected `&&`, `||` or the end"),
        ("parts.a == 1 == 1", "one comparison can not follow another"),
        ("(parts.a == 1) == true", "one comparison can not follow another"),
        ("!parts.a == 1", "Write `!(a == b)`"),
        ("parts.a &&", "expected a value"),
        ("&& parts.a", "character 1 of the condition: expected a value"),
        ("parts.a in 'x'", "character 12 of the condition: behind `in` stands a list"),
        ("'x' in host", "behind `in` stands a list"),
        ("parts.a in []", "the list is empty"),
        ("parts.a in [[1]]", "can not hold lists"),
        ("parts.a in ['a' 'b']", "expected `,` or `]`"),
        ("parts.a in ['a',", "the condition ends here"),
        ("parts.a == ['a']", "only stand behind `in`"),
        ("['a'] == parts.a", "only stand behind `in`"),
        ("in parts.a", "in front of `in`"),
        ("query.page > 1", "put it in quotes"),
        ("1 in [id]", "put it in quotes"),
        ("id in ['1', 2]", "put it in quotes"),
        ("header.x-beta", "compare it with something"),
        ("'x'", "compare it with something"),
        ("'a' == 'a'", "both sides are fixed"),
        ("1 in [1, 2]", "both sides are fixed"),
    ] {
        let error = wrong(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let nested = |levels: usize| format!("{}parts.a{}", "(".repeat(levels), ")".repeat(levels));
    assert!(holds(&nested(DEPTH_MAX), "true"));
    assert!(wrong(&nested(DEPTH_MAX + 1)).contains("at most 16 levels"));
    assert!(wrong(&nested(2000)).contains("at most 16 levels"));
    assert!(wrong(&format!("{}parts.a", "!".repeat(TEXT_BYTES_MAX))).contains("at most 4096 bytes"));
    assert!(holds(&format!("{}parts.a", "!".repeat(4088)), "true"));
    assert!(wrong(&format!("{}parts.a", "(!".repeat(2000))).contains("at most 16 levels"));
}

#[test]
fn no_text_panics() {
    let pieces = [
        "parts.a", "(", ")", "[", "]", "'", "\"", "\\", "!", "==", "in ", " ", "&&", "||", "<", "=", "1", "-", ".",
        "é", "id", ",", "null", "true", "{", "\0", "e5", "_",
    ];
    let mut state = 11_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut read_well = 0;
    for _ in 0..30_000 {
        let text: String = (0..random(9)).map(|_| pieces[random(pieces.len())]).collect();
        let values = references(&text);
        if let Ok(condition) = Condition::parse(&text, &params(), &values) {
            condition.holds(&Asked(vec![b"true"; values.len()]));
            read_well += 1;
        }
    }
    assert!(read_well > 100, "{read_well}");
}
