//! Whole blocks: what is written arrives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use http::Method;

use super::*;
use crate::config::routes::Action;
use crate::config::{Config, parse};
use crate::json::Step;
use crate::route::body::BodyTemplate;
use crate::route::condition::Condition;
use crate::route::template::Template;

mod refused;

fn read(text: &str) -> Result<Config, String> {
    parse("f", text, &|_| None).map_err(|errors| errors.to_string())
}

/// A document whose one route `/u/{user}` aggregates; the block's keys begin on line 7.
fn document(keys: &str) -> String {
    format!(
        "listeners: [{{ address: '127.0.0.1:80' }}]
upstreams: {{ u: {{ endpoints: ['10.0.0.1:80'] }} }}
routes:
  - match: {{ path: '/u/{{user}}' }}
    timeout: 2s
    aggregate:
{keys}"
    )
}

#[track_caller]
fn aggregate(keys: &str) -> Aggregate {
    let mut config = read(&document(keys)).unwrap_or_else(|errors| panic!("{errors}"));
    match config.routes.remove(0).action {
        Action::Aggregate(aggregate) => {
            aggregate.parts.iter().for_each(can_be_built);
            *aggregate
        }
        other => panic!("{other:?}"),
    }
}

/// What was read is read again where snapshots are built, with the names of the values that were found.
fn can_be_built(part: &Part) {
    let texts = |values: &[Reference]| values.iter().map(|value| value.text.clone()).collect::<Vec<_>>();
    let (params, values) = (["user".to_owned()], texts(&part.values));
    Template::parse_target(&part.request.path.value, &params, &values).unwrap();
    for field in &part.request.set_headers {
        Template::parse_sent_header(&field.value.value, &params, &values).unwrap();
    }
    if let Body::Template(text) = &part.request.body {
        BodyTemplate::parse(&text.value, &params, &values).unwrap();
    }
    if let Some(when) = &part.when {
        Condition::parse(&when.value, &params, &texts(&part.when_values)).unwrap();
    }
}

/// `parts: [ … ]` on line 7, and one part per line from line 8, each with upstream and request unless it gives them.
fn parts(parts: &[&str]) -> String {
    let lines = parts.iter().map(|keys| {
        let upstream = if keys.contains("upstream:") { "" } else { ", upstream: u" };
        let request = if keys.contains("request:") { "" } else { ", request: { path: / }" };
        format!("        - {{ {keys}{upstream}{request} }}\n")
    });
    format!("      parts:\n{}", lines.collect::<String>())
}

fn keys(keys: &[&str]) -> Path {
    Path(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
}

#[test]
fn every_key_arrives() {
    let read = aggregate(
        r#"
      envelope: uniform
      status_policy: any
      expose_parts: always
      limits: { max_part_bytes: 2MiB, max_total_bytes: 3MiB, max_request_bytes: 64KiB }
      headers_from: user
      completed_header: X-Whole
      server_timing: false
      response_headers: { rename: { etag: x-tag }, set: { x-user: "{user}" }, append: { vary: Origin }, remove: [server] }
      allow_unsafe_fanout: true
      parts:
        - name: user
          upstream: u
          request:
            method: GET
            path: "/users/{user}?x={query.x}"
            headers: [Authorization, cookie]
            set_headers: { X-Order: "{parts.orders[0].id} {parts.session}", X-Ip: "{client_ip}" }
            query: [lang, page]
            body: none
          timeout: 300ms
          success: [200, 202-204, "206-299"]
          propagate_status: [401, 404]
          content_type: any
          target: data.rows[0]
          deny: [password, cards.number]
          rename: { user_name: name, address.zip: code }
          into: account
        - name: orders
          upstream: u
          request: { path: "/orders" }
          required: false
          fallback: { stale: 5m, data: [] }
          allow: [id]
        - name: session
          upstream: u
          request: { path: "/s" }
          timeout: none
        - name: details
          upstream: u
          when: "parts.session.tier == 'gold' && !parts.orders[1].paid && user != 'x'"
          on_missing: skip
          for_each: { in: "parts.orders[*]", as: order, max: 5, concurrency: 2 }
          request:
            method: POST
            path: "/d/{order.id}/{parts.session.zone}/{order.lines[0]}/{order.id}"
            body: '{"order": {order.id}, "user": "{user}", "zone": {parts.session.zone}, "tier": "{parts.session.tier}"}'
          required: false
        - name: v2
          upstream: u
          request: { path: "/v2/{parts.details[0].id}" }
          shadow: { sample: 0.1% }
"#,
    );
    assert_eq!((read.envelope, read.status_policy), (Envelope::Uniform, StatusPolicy::Any));
    assert_eq!((read.on_conflict, read.expose_parts), (OnConflict::Error, ExposeParts::Always));
    let kib = ByteSize::from_kib;
    let limits = Limits { max_part_bytes: kib(2048), max_total_bytes: kib(3072), max_request_bytes: kib(64) };
    assert_eq!((read.limits, read.headers_from), (limits, Some(0)));
    assert_eq!((read.completed_header.as_deref(), read.server_timing), (Some("X-Whole"), false));
    assert_eq!(
        (read.response_headers.set[0].name.as_str(), &*read.response_headers.remove),
        ("x-user", &["server".to_owned()][..])
    );
    assert_eq!(read.response_headers.rename, [("etag".to_owned(), "x-tag".to_owned())]);
    assert_eq!(read.response_headers.append[0].name, "vary");

    let [user, orders, session, details, v2] = &read.parts[..] else { panic!("{}", read.parts.len()) };
    assert_eq!(
        (user.name.value.as_str(), user.name.at.line, user.name.at.key_path.as_str()),
        ("user", 18, "routes[0].aggregate.parts[0].name")
    );
    assert_eq!((user.upstream.value.as_str(), &user.request.method), ("u", &Method::GET));
    assert_eq!(user.request.path.value, "/users/{user}?x={query.x}");
    assert_eq!(
        (&*user.request.headers, &*user.request.query),
        (&["authorization".to_owned(), "cookie".to_owned()][..], &["lang".to_owned(), "page".to_owned()][..])
    );
    assert_eq!((user.request.set_headers[0].name.as_str(), &user.request.body), ("X-Order", &Body::None));
    assert_eq!((user.required, user.timeout), (true, Some(Duration::from_millis(300))));
    assert_eq!((&*user.success, &*user.propagate_status), (&[(200, 200), (202, 204), (206, 299)][..], &[401, 404][..]));
    assert!(user.any_content_type);
    assert_eq!(user.target, Path(vec![Step::Key("data".into()), Step::Key("rows".into()), Step::Index(0)]));
    assert_eq!(user.filter, Filter::Deny(vec![keys(&["password"]), keys(&["cards", "number"])]));
    assert_eq!(
        user.rename,
        [(keys(&["user_name"]), "name".to_owned()), (keys(&["address", "zip"]), "code".to_owned())]
    );
    assert_eq!(user.key.as_deref(), Some("account"));
    let texts =
        |values: &[Reference]| values.iter().map(|v| (v.text.clone(), v.part, v.path.to_string())).collect::<Vec<_>>();
    let value = |text: &str, part: Option<usize>, path: &str| (text.to_owned(), part, path.to_owned());
    assert_eq!(
        texts(&user.values),
        [value("parts.orders[0].id", Some(1), "[0].id"), value("parts.session", Some(2), "")]
    );
    assert!(user.when.is_none() && user.when_values.is_empty() && user.for_each.is_none());

    assert_eq!(orders.fallback, Fallback { stale: Some(Duration::from_secs(300)), data: Some("[]".to_owned()) });
    assert_eq!(
        (orders.required, &orders.filter, orders.key.as_deref()),
        (false, &Filter::Allow(vec![keys(&["id"])]), Some("orders"))
    );
    assert_eq!(
        (session.timeout, &*session.success, &session.fallback),
        (None, &[(200, 299)][..], &Fallback::default())
    );
    assert_eq!(
        (&session.filter, &session.target, session.on_missing),
        (&Filter::All, &Path::default(), OnMissing::Fail)
    );

    assert_eq!(details.on_missing, OnMissing::Skip);
    assert_eq!(
        texts(&details.values),
        [
            value("order.id", None, "id"),
            value("parts.session.zone", Some(2), "zone"),
            value("order.lines[0]", None, "lines[0]"),
            value("parts.session.tier", Some(2), "tier"),
        ]
    );
    assert_eq!(
        texts(&details.when_values),
        [value("parts.session.tier", Some(2), "tier"), value("parts.orders[1].paid", Some(1), "[1].paid")]
    );
    let each = details.for_each.as_ref().unwrap();
    assert_eq!(
        (texts(std::slice::from_ref(&each.items)), each.name.as_str()),
        (vec![value("parts.orders[*]", Some(1), "[*]")], "order")
    );
    assert_eq!((each.max, each.concurrency), (5, 2));
    assert!(matches!(&details.request.body, Body::Template(text) if text.value.starts_with(r#"{"order": {order.id}"#)));
    assert_eq!((v2.required, v2.shadow_per_million), (false, Some(1000)));
}

#[test]
fn defaults_are_those_that_gateway_yaml_shows() {
    let shown = read(include_str!("../../../config/gateway.yaml")).unwrap();
    let Action::Aggregate(shown) = &shown.routes[3].action else { panic!() };
    let short = aggregate("      parts: [{ name: user, upstream: u, request: { path: '/users/{user}' } }]");
    let head = |a: &Aggregate| {
        (
            a.envelope,
            a.status_policy,
            a.on_conflict,
            a.expose_parts,
            a.limits,
            a.headers_from,
            a.completed_header.clone(),
        )
    };
    assert_eq!(head(shown), head(&short));
    assert_eq!((shown.server_timing, &shown.response_headers), (short.server_timing, &short.response_headers));
    let (mut shown, short) = (shown.parts[0].clone(), short.parts[0].clone());
    (shown.name, shown.upstream, shown.request.path) =
        (short.name.clone(), short.upstream.clone(), short.request.path.clone());
    assert_eq!(shown, short);

    let each = aggregate(&parts(&[
        "name: a",
        "name: b, for_each: { in: 'parts.a', as: id }",
        "name: s, shadow: { sample: 100% }",
    ]));
    let for_each = each.parts[1].for_each.as_ref().unwrap();
    assert_eq!((for_each.max, for_each.concurrency, each.parts[2].required), (20, 8, false));
    assert_eq!(each.parts[2].shadow_per_million, Some(1_000_000));
    for envelope in ["raw", "merge"] {
        let read = aggregate(&format!("      envelope: {envelope}\n{}", parts(&["name: a", "name: b, into: c"])));
        assert_eq!(read.expose_parts, ExposeParts::Never);
        let keys: Vec<_> = read.parts.iter().map(|part| part.key.as_deref()).collect();
        assert_eq!(keys, if envelope == "raw" { [Some("a"), Some("c")] } else { [None, Some("c")] });
    }
    let read = aggregate(&format!(
        "      completed_header: none\n      limits: {{ max_part_bytes: 8MiB }}\n{}",
        parts(&["name: a"])
    ));
    assert_eq!((read.completed_header, read.limits.max_total_bytes), (None, ByteSize::from_kib(8 << 10)));
}

#[test]
fn memory_is_shared_by_all_aggregations() {
    let config = |keys: &str| read(&format!("listeners: [{{ address: '127.0.0.1:80' }}]\n{keys}"));
    let read = config("aggregation: { memory: 1GiB, stale_memory: 0B }").unwrap().aggregation;
    assert_eq!(read, AggregationMemory { memory: ByteSize::from_kib(1 << 20), stale_memory: ByteSize::from_bytes(0) });
    assert!(
        config("aggregation: { memory: 1KiB }")
            .unwrap_err()
            .contains("f:2:24: aggregation.memory: `1KiB` is out of bounds (allowed: 1MiB to 64GiB)")
    );
    assert!(config("aggregation: { memori: 1KiB }").unwrap_err().contains("did you mean `memory`?"));
}

#[test]
fn data_is_json_as_it_was_meant() {
    for (yaml, json) in [
        ("[]", "[]"),
        ("{}", "{}"),
        ("hello", r#""hello""#),
        ("'true'", r#""true""#),
        ("true", "true"),
        ("9007199254740993", "9007199254740993"),
        ("1.50e3", "1.50e3"),
        ("-0", "-0"),
        ("007", r#""007""#),
        ("0x1F", r#""0x1F""#),
        (".5", r#"".5""#),
        ("yes", r#""yes""#),
        ("~", "null"),
        ("null", "null"),
        ("'null'", r#""null""#),
        ("''", r#""""#),
        (r#""a\"b\\\n\té""#, r#""a\"b\\\n\té""#),
        (r#"{ a: [1, { 'b"c': x }, null], 5: off }"#, r#"{"a":[1,{"b\"c":"x"},null],"5":"off"}"#),
    ] {
        let read = aggregate(&parts(&[&format!("name: a, fallback: {{ data: {yaml} }}")]));
        assert_eq!(read.parts[0].fallback.data.as_deref(), Some(json), "{yaml}");
    }
    let read = aggregate(&parts(&["name: a, request: { method: POST, path: /, body: { id: '<{user}>', n: 1 } }"]));
    assert!(matches!(&read.parts[0].request.body, Body::Template(text) if text.value == r#"{"id":"<{user}>","n":1}"#));
}
