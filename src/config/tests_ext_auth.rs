//! What is wrong with filters that ask a service, inject faults or copy requests, and what is right.
#![allow(clippy::unwrap_used)]

use super::filters::Filter;
use super::parse;
use crate::value::{ByteSize, Duration};

/// A config whose one filter `f` says this, used by one route.
fn read(filter: &str) -> Result<Filter, String> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:80 }}]\nfilters: {{ f: {{ {filter} }} }}\n\
         upstreams: {{ auth: {{ endpoints: [127.0.0.1:1] }} }}\n\
         routes: [{{ match: {{ path: \"/{{id}}\" }}, filters: [f], respond: {{}} }}]"
    );
    parse("f", &text, &|_| None).map(|config| config.filters[0].filter.clone()).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    for (filter, expected) in cases {
        let error = read(filter).expect_err(filter);
        assert!(error.contains(expected), "{filter}: {error}");
        assert_eq!(error.lines().count(), 1, "{filter}: nothing follows from it: {error}");
    }
}

#[test]
fn ext_auth_has_defaults_that_are_shown() {
    let Filter::ExtAuth(short) = read("ext_auth: { upstream: auth, path: /verify }").unwrap() else { panic!() };
    let shown = super::parse("f", include_str!("../../config/gateway.yaml"), &|_| None).unwrap();
    let shown = shown.filters.iter().find_map(|named| match &named.filter {
        Filter::ExtAuth(shown) => Some(shown.clone()),
        _ => None,
    });
    let shown = shown.unwrap();
    let keys = |f: &super::filters::ext_auth::ExtAuth| {
        let lists = [&f.headers, &f.response_headers, &f.client_headers, &f.refusal_headers].map(Clone::clone);
        (f.path.value.clone(), f.method.clone(), lists, f.principal.clone(), f.timeout, f.allows_on_failure, f.max_body)
    };
    assert_eq!(keys(&short), keys(&shown));
    assert_eq!((short.timeout, short.max_body), (Duration::from_secs(1), ByteSize::from_kib(16)));
    let Filter::ExtAuth(cached) = read("ext_auth: { upstream: auth, path: /verify, cache: { ttl: 10s } }").unwrap()
    else {
        panic!()
    };
    assert_eq!((cached.cache, short.cache), (shown.cache, None));
}

#[test]
fn what_ext_auth_can_not_do_is_told() {
    refused(&[
        ("ext_auth: { path: / }", "f:2:17: filters.f.ext_auth: the key `upstream` is missing"),
        ("ext_auth: { upstream: auth }", "the key `path` is missing"),
        ("ext_auth: { upstream: oauth, path: / }", "unknown upstream `oauth` (did you mean `auth`?)"),
        ("ext_auth: { upstream: auth, path: verify }", "does not begin as it must"),
        ("ext_auth: { upstream: auth, path: \"/{id}\" }", "filters.f.ext_auth.path: "),
        ("ext_auth: { upstream: auth, path: /, method: CONNECT }", "can not be the method of a question"),
        ("ext_auth: { upstream: auth, path: /, headers: [x-forwarded-uri] }", "the gateway itself tells"),
        ("ext_auth: { upstream: auth, path: /, headers: [X-Original-URL] }", "the gateway itself tells"),
        ("ext_auth: { upstream: auth, path: /, headers: [x-forwarded-for] }", "the gateway itself tells"),
        ("ext_auth: { upstream: auth, path: /, headers: [host] }", "can not be changed here"),
        ("ext_auth: { upstream: auth, path: /, headers: [content-length] }", "the gateway itself writes"),
        ("ext_auth: { upstream: auth, path: /, headers: [range] }", "needed whole and plain"),
        ("ext_auth: { upstream: auth, path: /, headers: [a, A] }", "`a` is listed twice"),
        ("ext_auth: { upstream: auth, path: /, response_headers: [via] }", "the gateway writes it itself"),
        ("ext_auth: { upstream: auth, path: /, response_headers: [transfer-encoding] }", "the gateway itself writes"),
        ("ext_auth: { upstream: auth, path: /, client_headers: [content-length] }", "the gateway itself writes"),
        ("ext_auth: { upstream: auth, path: /, client_headers: [date] }", "the gateway writes it itself"),
        ("ext_auth: { upstream: auth, path: /, refusal_headers: [content-type] }", "goes with the body by itself"),
        ("ext_auth: { upstream: auth, path: /, principal: 'x y' }", "is not a field name"),
        ("ext_auth: { upstream: auth, path: /, timeout: 0s }", "out of bounds (allowed: 10ms to 1m)"),
        ("ext_auth: { upstream: auth, path: /, on_failure: open }", "is not a word that is known here"),
        ("ext_auth: { upstream: auth, path: /, max_body: 1GiB }", "out of bounds"),
        ("ext_auth: { upstream: auth, path: /, cache: {} }", "the key `ttl` is missing"),
        ("ext_auth: { upstream: auth, path: /, cache: { ttl: 1d } }", "out of bounds"),
        ("ext_auth: { upstream: auth, path: /, cache: { ttl: 1s, key: path.id } }", "no answer can depend on"),
        ("ext_auth: { upstream: auth, path: /, cache: { ttl: 1s, key: route } }", "no answer can depend on"),
        ("ext_auth: { upstream: auth, path: /, cache: { ttl: 1s, max_entries: 1 } }", "out of bounds"),
    ]);
    assert!(read("ext_auth: { upstream: auth, path: /, response_headers: [x-forwarded-user, authorization] }").is_ok());
}

/// The one filter of its kind in gateway.yaml.
fn shown<T>(pick: impl Fn(&Filter) -> Option<T>) -> T {
    let shown = parse("f", include_str!("../../config/gateway.yaml"), &|_| None).unwrap();
    shown.filters.iter().find_map(|named| pick(&named.filter)).unwrap()
}

#[test]
fn fault_and_mirror_have_defaults_that_are_shown() {
    let pick = |filter: &Filter| match filter {
        Filter::Fault(fault) => Some(fault.clone()),
        _ => None,
    };
    let short = pick(&read("fault: { delay: { time: 200ms }, abort: {} }").unwrap()).unwrap();
    let shown_fault = shown(pick);
    let values = |f: &super::filters::fault::Fault| {
        (f.delay.as_ref().map(|delay| delay.value), f.abort, f.when.clone(), f.max_delayed)
    };
    assert_eq!(values(&short), values(&shown_fault));
    let pick = |filter: &Filter| match filter {
        Filter::Mirror(mirror) => Some(mirror.clone()),
        _ => None,
    };
    let (short, shown_mirror) = (pick(&read("mirror: { upstream: auth }").unwrap()).unwrap(), shown(pick));
    let values =
        |m: &super::filters::mirror::Mirror| (m.per_million, m.unsafe_methods, m.max_body, m.max_in_flight, m.timeout);
    assert_eq!(values(&short), values(&shown_mirror));
}

#[test]
fn what_fault_and_mirror_can_not_do_is_told() {
    refused(&[
        ("fault: {}", "f:2:17: filters.f.fault: injects nothing (give delay, abort or both)"),
        ("fault: { when: { x-a: present } }", "injects nothing"),
        ("fault: { delay: {} }", "the key `time` is missing"),
        ("fault: { delay: { time: 1s, percent: 5 } }", "is no share of the requests"),
        ("fault: { delay: { time: 1s, percent: 101% } }", "is no share of the requests"),
        ("fault: { delay: { time: 30s } }", "a delay of 30s is not within the timeout of the route"),
        ("fault: { abort: { status: 200 } }", "out of bounds (allowed: 400 to 599)"),
        ("fault: { abort: {}, when: {} }", "names no field"),
        ("fault: { abort: {}, when: { x-a: present, X-A: on } }", "is given twice"),
        ("fault: { abort: {}, when: { \"x a\": present } }", "is not a field name"),
        ("fault: { abort: {}, max_delayed: 0 }", "out of bounds"),
        ("mirror: {}", "the key `upstream` is missing"),
        ("mirror: { upstream: next }", "unknown upstream `next`"),
        ("mirror: { upstream: auth, percent: 1 }", "is no share of the requests"),
        ("mirror: { upstream: auth, max_body: 1MiB }", "out of bounds (allowed: 0B to 64KiB)"),
        ("mirror: { upstream: auth, max_in_flight: 0 }", "out of bounds"),
        ("mirror: { upstream: auth, timeout: 2m }", "out of bounds"),
    ]);
}
