//! Parts that are asked once for each item of a list, and shadows, whose answers nobody waits for.

use crate::aggregate_graph::page;
use crate::support::aggregate::{json, json_of, part, part_of, path_of};
use crate::support::misbehave::never_answers;
use crate::support::{Gate, Setup, Upstream, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Answers an array of ids to `/ids/N`, and to `/item/N` the text of N.
fn items() -> Upstream {
    Upstream::by(|request| match path_of(request).strip_prefix("/ids/") {
        Some(n) => {
            let n: usize = n.parse().unwrap();
            json(format!("[{}]", (0..n).map(|n| format!("{{\"id\":{n} }}")).collect::<Vec<_>>().join(", ")))
        }
        None => {
            let n: u64 = path_of(request).strip_prefix("/item/").unwrap().parse().unwrap();
            std::thread::sleep(Duration::from_millis(15).saturating_sub(Duration::from_millis(n)));
            json(format!("{{\"is\" : {n}}}"))
        }
    })
}

fn is(range: std::ops::Range<usize>) -> String {
    format!("[{}]", range.map(|n| format!("{{\"is\" : {n}}}")).collect::<Vec<_>>().join(","))
}

#[test]
fn for_each_gives_an_array_in_the_items_order() {
    let upstream = items();
    let each = |name: &str, list: &str, path: &str, more: &str| {
        part(name, path, &format!("required: false, for_each: {{ in: \"{list}\", {more} }}"))
    };
    let parts = [
        part("list", "/ids/{id}", "into: l, allow: [nothing]"),
        each("ids", "parts.list[*].id", "/item/{id}", "as: id, max: 40, concurrency: 8"),
        each("objects", "parts.list", "/item/{order.id}", "as: order, max: 40, concurrency: 3"),
    ];
    let renamed = Setup::new().upstream("u", &[&upstream], "").aggregate(
        "match: { path: \"/page/{number}\" }, timeout: 10s",
        "",
        &parts.map(|part| part.replace("/ids/{id}", "/ids/{number}")),
    );
    let gateway = renamed.start();
    for n in [0, 1, 2, 9, 16, 40] {
        let answer = gateway.get(&format!("/page/{n}")).data();
        let list = format!("[{}]", vec!["{}"; n].join(","));
        assert_eq!(answer, format!("{{\"l\":{list},\"ids\":{0},\"objects\":{0}}}", is(0..n)), "{n}");
    }
}

#[test]
fn for_each_asks_no_more_than_concurrency_at_a_time_and_no_more_than_max() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let upstream = Upstream::by(move |request| {
        if request.target == "/list" {
            return json("[1,2,3,4,5,6,7,8,9,10,11,12,13,14]");
        }
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        now.fetch_sub(1, Ordering::SeqCst);
        json(&request.target[1..])
    });
    let each = "required: false, for_each: { in: \"parts.list[*]\", as: n, max: 10, concurrency: 3 }";
    let gateway = page(&upstream, &[part("list", "/list", ""), part("each", "/{n}", each)]);
    let answer = gateway.get("/page/1");
    let (data, meta) = answer.partial();
    assert!(data.ends_with(r#""each":[1,2,3,4,5,6,7,8,9,10]}"#), "{data}");
    let each = r#""each":{"state":"partial","source":"upstream","reason":"too_large","status":200,"ms":0}"#;
    assert_eq!(meta, format!("{{\"degraded\":[\"each\"],\"parts\":{{{each}}}}}"));
    assert_eq!((most.load(Ordering::SeqCst), upstream.requests().len()), (3, 11));
    let must = "for_each: { in: \"parts.list[*]\", as: n, max: 10, concurrency: 3 }";
    let gateway = page(&upstream, &[part("list", "/list", ""), part("each", "/{n}", must)]);
    assert_eq!(gateway.get("/page/1").failed(502, &["each"])["parts"]["each"]["reason"], "too_large");
}

#[test]
fn an_item_that_fails_is_null_and_all_of_them_fail_the_part() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/some" => json(r#"[1,"x",3,{"no":"scalar"},5]"#),
        "/bad" => json(r#"["x","x"]"#),
        "/item/x" => json_of(500, "", "{}"),
        "/text" => json("\"text\""),
        path => json(path.strip_prefix("/item/").unwrap()),
    });
    let ask = |list: &str, keys: &str| {
        let each = format!("for_each: {{ in: \"parts.list[*]\", as: n, max: 10, concurrency: 2 }}, {keys}");
        page(&upstream, &[part("list", list, ""), part("each", "/item/{n}", &each)]).get("/page/1")
    };
    let answer = ask("/some", "required: false");
    assert!(answer.partial().0.ends_with(r#""each":[1,null,3,null,5]}"#), "{answer:?}");
    let told = answer.json()["meta"]["parts"]["each"].clone();
    assert_eq!((&told["state"], &told["reason"]), (&"partial".into(), &"status".into()), "the first one's");
    ask("/some", "required: true").failed(502, &["each"]);
    let answer = ask("/bad", "required: false");
    assert_eq!(answer.partial().0, r#"{"list":["x","x"],"each":null}"#);
    let answer = ask("/bad", "required: false, fallback: { data: [0] }");
    assert_eq!(answer.partial().0, r#"{"list":["x","x"],"each":[0]}"#);
    // What is no array has no items: it can not be told from a list that its upstream forgot.
    let answer = ask("/text", "required: false");
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.targets().iter().filter(|target| *target == "/item/text").count(), 0);
}

#[test]
fn a_required_list_fails_with_its_first_item_and_gives_up_the_others() {
    let hanging = Arc::new(AtomicUsize::new(0));
    let others = hanging.clone();
    let upstream = Upstream::start(move |conn| {
        while let Some(request) = conn.request() {
            match path_of(&request) {
                "/list" => conn.write(json("[1,2,3,4,5,6]")),
                "/item/2" => {
                    eventually("the other two are asked", || (others.load(Ordering::SeqCst) == 2).then_some(()));
                    conn.write(json_of(404, "", "{}"))
                }
                _ => {
                    others.fetch_add(1, Ordering::SeqCst);
                    return conn.until_ended();
                }
            };
        }
    });
    let each = "propagate_status: [404], for_each: { in: \"parts.list[*]\", as: n, max: 10, concurrency: 3 }";
    let gateway = page(&upstream, &[part("list", "/list", ""), part("each", "/item/{n}", each)]);
    let start = Instant::now();
    gateway.get("/page/1").failed(404, &["each"]);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(hanging.load(Ordering::SeqCst), 2, "no further items were asked");
    assert_eq!(upstream.requests().len(), 4, "the list and the first three items");
    eventually("calls are given up", || (gateway.sockets() < 20).then_some(()));
}

#[test]
fn the_last_good_answer_stands_for_an_item_too() {
    let is_on = Arc::new(AtomicUsize::new(1));
    let on = is_on.clone();
    let upstream = Upstream::by(move |request| match (path_of(request), on.load(Ordering::SeqCst)) {
        ("/list", _) => json("[1,2,3]"),
        ("/item/2", 0) => json_of(500, "", "{}"),
        (path, _) => json(path.strip_prefix("/item/").unwrap()),
    });
    for required in [false, true] {
        is_on.store(1, Ordering::SeqCst);
        let each = format!(
            "required: {required}, fallback: {{ stale: 5m }}, for_each: {{ in: \"parts.list[*]\", as: n, max: 10, concurrency: 3 }}"
        );
        let gateway = page(&upstream, &[part("list", "/list", ""), part("each", "/item/{n}", &each)]);
        gateway.get("/page/1").data();
        is_on.store(0, Ordering::SeqCst);
        let answer = gateway.get("/page/1");
        assert_eq!(answer.status, 200, "required: {required}: the fallback stands for it: {answer:?}");
        assert_eq!(answer.partial().0, r#"{"list":[1,2,3],"each":[1,2,3]}"#);
    }
}

#[test]
fn a_shadow_may_be_sent_for_each_item() {
    let (upstream, other) = (Upstream::pages(&[("/list", "[1,2,3,4,5]")]), Upstream::pages(&[]));
    let each = "shadow: { sample: 100% }, for_each: { in: \"parts.list[*]\", as: n, max: 10, concurrency: 2 }";
    let parts = [part("list", "/list", ""), part_of("other", "each", "/item/{n}", each)];
    let gateway =
        Setup::new().upstream("u", &[&upstream], "").upstream("other", &[&other], "").page("", &parts).start();
    assert_eq!(gateway.get("/page/1").data(), r#"{"list":[1,2,3,4,5]}"#);
    let mut asked = other.wait_requests(5).into_iter().map(|request| request.target).collect::<Vec<_>>();
    asked.sort();
    assert_eq!(asked, ["/item/1", "/item/2", "/item/3", "/item/4", "/item/5"]);
}

#[test]
fn items_are_transformed_one_by_one_and_serve_others_untransformed() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/list" => json("[1,2]"),
        "/last/20" => json("\"z\""),
        path => json(format!(r#"{{"d":{{"id":{}0,"secret":1}},"x":0}}"#, path.strip_prefix("/item/").unwrap())),
    });
    let parts = [
        part("list", "/list", ""),
        part(
            "each",
            "/item/{n}",
            "target: d, deny: [secret], rename: { id: number }, for_each: { in: \"parts.list[*]\", as: n, max: 10, concurrency: 2 }",
        ),
        part("after", "/last/{parts.each[1].id}", ""),
    ];
    let data = page(&upstream, &parts).get("/page/1").data();
    assert_eq!(data, r#"{"list":[1,2],"each":[{"number":10},{"number":20}],"after":"z"}"#);
}

#[test]
fn a_shadow_is_sent_and_changes_nothing() {
    let (upstream, hung) = (Upstream::pages(&[("/a", "1")]), Upstream::start(never_answers));
    let shadow = part_of("hung", "s", "/s/{id}", "shadow: { sample: 100% }");
    let with = Setup::new().upstream("u", &[&upstream], "").upstream("hung", &[&hung], "");
    let with = with.page("expose_parts: always", &[shadow, part("a", "/a", "")]).start();
    let without =
        Setup::new().upstream("u", &[&upstream], "").page("expose_parts: always", &[part("a", "/a", "")]).start();
    let start = Instant::now();
    for n in 1..=20 {
        let (a, b) = (with.get(&format!("/page/{n}")), without.get(&format!("/page/{n}")));
        assert_eq!(crate::support::aggregate::timeless(&a.body), crate::support::aggregate::timeless(&b.body));
        assert_eq!(a.fields.get("x-gateway-completed"), Some("true"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "it is waited for: {:?}", start.elapsed());
    assert_eq!(hung.wait_requests(20).len(), 20);
    let line = with.log_of("/page/1");
    let parts: Vec<_> = line["parts"].as_array().unwrap().iter().map(|part| part["name"].clone()).collect();
    assert_eq!(parts, ["a"], "{line}");
}

#[test]
fn a_shadow_is_sent_as_often_as_its_sample_says() {
    let (upstream, seldom, half) = (Upstream::pages(&[("/a", "1")]), Upstream::pages(&[]), Upstream::pages(&[]));
    let parts = [
        part("a", "/a", ""),
        part_of("seldom", "s", "/s", "shadow: { sample: 0.01% }"),
        part_of("half", "h", "/h", "shadow: { sample: 50% }"),
    ];
    let setup =
        Setup::new().upstream("u", &[&upstream], "").upstream("seldom", &[&seldom], "").upstream("half", &[&half], "");
    let gateway = setup.page("", &parts).start();
    let mut client = crate::support::Client::connect(&gateway);
    for _ in 0..400 {
        assert_eq!(client.get("/page/1").data(), r#"{"a":1}"#);
    }
    let count = eventually("half of them", || Some(half.requests().len()).filter(|n| *n > 140));
    assert!(count < 260 && seldom.requests().len() < 5, "{count} of 400, and {} ", seldom.requests().len());
    let asked = |part: &str| gateway.metrics().sum("ringway_parts_total", &[("part", part)]);
    eventually("shadows are counted", || (asked("h") > 140.0).then_some(()));
}

#[test]
fn a_shadows_failure_is_nobodys() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::by(move |request| {
        if request.target == "/a" {
            open.wait();
            return json("1");
        }
        json_of(500, "", "nonsense")
    });
    let parts = [
        part("a", "/a", ""),
        part("s", "/s", "shadow: { sample: 100% }"),
        part("t", "/t/{parts.a.none}", "shadow: { sample: 100% }"),
    ];
    let gateway = page(&upstream, &parts);
    let mut client = crate::support::Client::connect(&gateway);
    client.send(crate::support::client::get("/page/1"));
    upstream.wait_requests(2);
    gate.open();
    assert_eq!(client.response().data(), r#"{"a":1}"#);
}
