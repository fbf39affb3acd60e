//! What blocks say of each other: all of it is told in one run, and what passes can be built.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::filters::Filter;
use super::parse;
use super::rewrite::PathRewrite;
use super::routes::Action;
use crate::route::template::Template;
use crate::route::{self, param_names};

fn read(text: &str) -> Result<super::Config, String> {
    parse("f", text, &|_| None).map_err(|errors| errors.to_string())
}

#[test]
fn one_run_finds_what_stands_in_and_behind_broken_blocks() {
    let text = "\
workers: 0
listeners:
  - { address: nonsense, filters: [nobody] }
upstreams: { users: { endpoints: [a:1] } }
filters:
  mark: { request_headers: { set: { x-id: '{id}', x-bad: '{nope}', x-open: '{' }, frob: 1 } }
all_routes: { filters: [mark] }
routes:
  - match: { path: 'no-slash/{id}' }
    filters: [who]
    forward: { upstream: usrs, rewrite: { path: '/{id}/{nope}' }, request_headers: { set: { x: '{id}{client-ip}' } } }
  - match: { path: '/a/{id}', methods: [get] }
    forward: { upstream: usrs }
    redirect: { to: 'https://{id}/' }
  - match: { path: '/b/{id}/{id}' }
    respond: { status: 100, headers: { x: '{nope}' } }
  - match: { path: '/c/{id}' }
    forward: { request_headers: { set: { host: '{nope}' } } }
  - match: { path: '/c/{x}' }
    timeout: 1
    redirect: { to: '/{id}' }
  - match: { path: '/d/{id}' }
    redirect: { to: '/{', status: 200 }
  - mach: { path: '/e/{e}' }
    forward: { upstream: users, rewrite: { path: '/{e}/{f.g}' } }
  - match: { path: '/f/{id}/%2e' }
    forward: { upstream: users, rewrite: { add_prefix: '/%2e' } }
";
    let errors = parse("f", text, &|_| None).unwrap_err();
    let seen: Vec<String> = errors
        .iter()
        .map(|e| {
            let what = e.to_string();
            format!("{} {} {}", e.at.line, e.at.key_path, what.split(": ").skip(2).collect::<Vec<_>>().join(": "))
        })
        .collect();
    let expected = [
        "1 workers `0` is out of bounds",
        "3 listeners[0].address `nonsense` is not an address",
        "3 listeners[0].filters[0] unknown filter `nobody`",
        "6 filters.mark.request_headers.set.x-id there is no value `{id}`. Known: client_ip, request_id, host, hostname, \
         path, query, path.x, query.NAME, header.NAME (the route `/c/{x}` on line 19 uses this filter)",
        "6 filters.mark.request_headers.set.x-bad there is no value `{nope}`. Known: client_ip, request_id, host, hostname, \
         path, query, path.id, query.NAME, header.NAME (the route on line 9 uses this filter)",
        "6 filters.mark.request_headers.set.x-open a brace is opened and not closed",
        "6 filters.mark.request_headers.frob unknown key",
        "9 routes[0].match.path `no-slash/{id}` does not begin with `/`",
        "10 routes[0].filters[0] unknown filter `who`",
        "11 routes[0].forward.upstream unknown upstream `usrs` (did you mean `users`?)",
        "11 routes[0].forward.rewrite.path there is no value `{nope}`. Known:",
        "11 routes[0].forward.request_headers.set.x there is no value `{client-ip}`, did you mean `{client_ip}`? Known:",
        "12 routes[1].match.methods[0] `get` is not a method",
        "13 routes[1].forward.upstream unknown upstream `usrs`",
        "14 routes[1].redirect a second action",
        "14 routes[1].redirect.to a client could choose the host",
        "15 routes[2].match.path the parameter `id` is there twice",
        "16 routes[2].respond.status `100` is out of bounds",
        "16 routes[2].respond.headers.x there is no value `{nope}`",
        "18 routes[3].forward the key `upstream` is missing",
        "18 routes[3].forward.request_headers.set.host `host` can not be changed here",
        "18 routes[3].forward.request_headers.set.host there is no value `{nope}`",
        "19 routes[4].match.path `/c/{x}` is the same pattern as an earlier route's, and their methods overlap: \
         see the route `/c/{id}` on line 17",
        "20 routes[4].timeout `1`",
        "21 routes[4].redirect.to there is no value `{id}`",
        "23 routes[5].redirect.to a brace is opened",
        "23 routes[5].redirect.status `200` is not a word",
        "24 routes[6].mach unknown key (did you mean `match`?)",
        "25 routes[6].forward.rewrite.path there is no value `{f.g}`",
        "26 routes[7].match.path the segment `%2e` can never match",
        "27 routes[7].forward.rewrite.add_prefix the prefix `/%2e` has a dot segment",
    ];
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(seen.starts_with(expected), "{seen}\n    instead of\n{expected}\n{errors}");
    }
    assert_eq!(seen.len(), expected.len(), "{errors}");
}

#[test]
fn a_filters_templates_are_right_for_every_route_that_uses_it_or_told_once() {
    let read = |template: &str, all: &str| {
        read(&format!(
            "listeners: [{{ address: '127.0.0.1:80' }}]
filters: {{ f: {{ request_headers: {{ set: {{ x: '{template}' }} }} }} }}
all_routes: {{ filters: [{all}] }}
routes:
  - {{ match: {{ path: '/a/{{name}}' }}, filters: [f], respond: {{}} }}
  - {{ match: {{ path: '/b/{{name}}/{{b}}' }}, filters: [f], respond: {{}} }}
  - {{ match: {{ path: '/c/{{host}}' }}, without: [f], respond: {{}} }}
  - {{ name: plain, match: {{ path: '/d' }}, respond: {{}} }}"
        ))
    };
    for fine in ["{name} {host} {path.name}", "{hostname}"] {
        assert!(read(fine, "").is_ok(), "{fine}");
    }
    for (template, all, expected) in [
        ("{nope}", "", "set.x: there is no value `{nope}`. Known: client_ip"),
        ("{b}", "", "the route `/a/{name}` on line 5 uses this filter"),
        ("{name}", "f", "the route `plain` on line 8 uses this filter"),
    ] {
        let errors = read(template, all).unwrap_err();
        assert!(errors.contains(expected) && errors.lines().count() == 1, "{template}: {errors}");
    }
}

#[test]
fn what_was_read_can_be_built() {
    // The parts of a template, put together at random: what the reader lets through, the router and the templates take.
    let parts =
        ["/", "{", "}", "{id}", "{*rest}", "{host}", "a", "%2e", ".", "{{", "{path.id}", "?", "https://h", "{x"];
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut read_well = 0;
    for _ in 0..5000 {
        let mut text = |start: &str| (0..random(4)).fold(start.to_owned(), |text, _| text + parts[random(parts.len())]);
        let (path, to, rewritten, add) = (text("/"), text(""), text("/"), text("/"));
        let document = format!(
            "listeners: [{{ address: '127.0.0.1:80' }}]
upstreams: {{ u: {{ endpoints: ['a:1'] }} }}
filters: {{ f: {{ request_headers: {{ set: {{ x: '{to}' }} }} }} }}
all_routes: {{ filters: [f] }}
routes:
  - match: {{ path: '{path}' }}
    forward: {{ upstream: u, rewrite: {{ {} }}, response_headers: {{ add: {{ x: '{rewritten}' }} }} }}
  - {{ match: {{ path: '/to/{{id}}' }}, redirect: {{ to: '/{to}' }} }}",
            if add.len() > 6 { format!("path: '{rewritten}'") } else { format!("add_prefix: '{add}'") }
        );
        let Ok(config) = read(&document) else { continue };
        read_well += 1;
        for route in &config.routes {
            let params = param_names(&route.matches.path.value).unwrap();
            let Filter::RequestHeaders(edits) = &config.filters[0].filter else { panic!() };
            Template::parse_header(&edits.set[0].value.value, &params).unwrap();
            match &route.action {
                Action::Forward(forward) => match &forward.rewrite.path {
                    PathRewrite::Template(text) => drop(Template::parse_path(&text.value, &params).unwrap()),
                    PathRewrite::Prefix { add: Some(add), .. } => {
                        drop(route::rewrite::PathRewrite::prefix(None, Some(&add.value)).unwrap());
                    }
                    other => panic!("{other:?}"),
                },
                Action::Redirect(redirect) => drop(Template::parse_location(&redirect.to.value, &params).unwrap()),
                Action::Aggregate(_) | Action::Respond(_) => {}
            }
        }
    }
    assert!(read_well > 100, "{read_well}");
}
