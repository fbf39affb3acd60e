//! Parts that depend on parts: who waits for whom, who is asked at all, once for each item, and what becomes of an answer
//! before it goes into the whole.

use crate::support::aggregate::{asks, json, json_of, part, path_of};
use crate::support::{Gateway, Setup, Upstream};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

pub fn page(upstream: &Upstream, parts: &[String]) -> Gateway {
    Setup::new().upstream("u", &[upstream], "").page("", parts).start()
}

/// Requests that wait until as many as these are there at the same time.
fn together(n: usize) -> impl Fn() + Send + Sync + 'static {
    let (count, all) = (Mutex::new(0), Condvar::new());
    move || {
        let mut count = count.lock().unwrap();
        *count += 1;
        all.notify_all();
        let (count, _) = all.wait_timeout_while(count, Duration::from_secs(10), |count| *count < n).unwrap();
        assert!(*count >= n, "only {count} of {n} came");
    }
}

#[test]
fn parts_that_need_nothing_of_each_other_are_asked_together() {
    let meet = together(12);
    let upstream = Upstream::by(move |_| {
        meet();
        json("1")
    });
    let parts: Vec<String> = (0..12).map(|n| part(&format!("p{n}"), "/x", "")).collect();
    let data: Vec<String> = (0..12).map(|n| format!("\"p{n}\":1")).collect();
    assert_eq!(page(&upstream, &parts).get("/page/1").data(), format!("{{{}}}", data.join(",")));
}

#[test]
fn a_diamond_waits_for_both_of_its_sides_which_wait_for_its_top_alone() {
    let meet = together(2);
    let upstream = Upstream::by(move |request| match path_of(request) {
        "/top" => json(r#"{"id":7}"#),
        "/left/7" => {
            meet();
            json(r#"{"v":"l"}"#)
        }
        "/right/7" => {
            meet();
            json(r#"["r"]"#)
        }
        "/bottom/l/r" => json("true"),
        other => json_of(404, "", format!("\"{other}\"")),
    });
    // Declared from bottom to top: order of declaration is no order of asking.
    let parts = [
        part("bottom", "/bottom/{parts.left.v}/{parts.right[0]}", ""),
        part("left", "/left/{parts.top.id}", ""),
        part("right", "/right/{parts.top.id}", ""),
        part("top", "/top", ""),
    ];
    let data = page(&upstream, &parts).get("/page/1").data();
    assert_eq!(data, r#"{"bottom":true,"left":{"v":"l"},"right":["r"],"top":{"id":7}}"#);
    assert_eq!(upstream.targets()[0], "/top");
    assert_eq!(upstream.targets()[3], "/bottom/l/r");
}

#[test]
fn templates_take_scalars_as_they_were_written() {
    let user = r#"{"big":9007199254740993,"float":1.50,"t":true,"text":"a\u0062c","deep":{"list":[{"x":5}]},"empty":"","none":null}"#;
    let upstream = Upstream::by(move |request| if request.target == "/user" { json(user) } else { json("1") });
    let fine = ["big", "float", "t", "text", "deep.list[0].x"];
    let missing = ["nothing", "none", "empty", "deep", "deep.list", "deep.list[1].x", "text.x"];
    let mut parts = vec![part("user", "/user", "")];
    for (n, path) in fine.iter().chain(&missing).enumerate() {
        parts.push(part(&format!("p{n}"), &format!("/p{n}/{{parts.user.{path}}}"), "required: false"));
    }
    let answer = page(&upstream, &parts).get("/page/1");
    let (data, _) = answer.partial();
    let wanted: Vec<String> = (0..12).map(|n| format!("\"p{n}\":{}", if n < 5 { "1" } else { "null" })).collect();
    assert_eq!(data, format!("{{\"user\":{user},{}}}", wanted.join(",")));
    let mut asked = upstream.targets();
    asked.sort();
    assert_eq!(asked, ["/p0/9007199254740993", "/p1/1.50", "/p2/true", "/p3/abc", "/p4/5", "/user"]);
    (5..12).for_each(|n| assert_eq!(answer.reason(&format!("p{n}")), "dependency"));
}

#[test]
fn when_decides_whether_a_part_is_asked() {
    let user = r#"{"tier":"gold","n":5,"on":true,"off":false,"none":null,"s":"a'b","list":[1],"f":5.0}"#;
    let upstream = Upstream::by(move |request| json(if request.target == "/user" { user } else { "1" }));
    let cases: Vec<(&str, bool)> = vec![
        ("parts.user.tier == 'gold'", true),
        ("parts.user.tier == 'silver'", false),
        ("parts.user.tier != 'silver'", true),
        ("parts.user.tier in ['silver', 'gold']", true),
        ("parts.user.tier in ['silver']", false),
        ("!(parts.user.tier in ['silver'])", true),
        ("parts.user.n == 5", true),
        ("parts.user.n == '5'", false),
        ("parts.user.f == 5", true),
        ("parts.user.n > 4 && parts.user.n < 6", true),
        ("parts.user.n >= 5 && parts.user.n <= 5", true),
        ("parts.user.n > 5 || parts.user.n < 5", false),
        ("parts.user.on", true),
        ("parts.user.off", false),
        ("!parts.user.off", true),
        ("parts.user.on == true && !(parts.user.off == true)", true),
        ("parts.user.none == null", true),
        ("parts.user.missing == null", true),
        ("parts.user.missing.deeper != null", false),
        ("parts.user.missing == 'x'", false),
        ("parts.user.missing != 'x'", true),
        ("parts.user.missing > 1", false),
        ("parts.user.tier > 'go' && parts.user.tier < 'h'", true),
        ("parts.user.n == 4 || parts.user.on && parts.user.tier == 'gold'", true),
        ("(parts.user.n == 5 || parts.user.on) && parts.user.off", false),
        ("parts.user.list[0] == 1", true),
        ("parts.user == null", false),
        ("query.beta == '1'", true),
        ("query.gamma == null", true),
        ("id == '7'", true),
    ];
    let mut parts = vec![part("user", "/user", "")];
    for (n, (when, _)) in cases.iter().enumerate() {
        parts.push(part(&format!("p{n}"), &format!("/p{n}"), &format!("required: false, when: \"{when}\"")));
    }
    let gateway = page(&upstream, &parts);
    let answer = gateway.get("/page/7?beta=1").data(); // left out is not degraded
    let data: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let wrong: Vec<&str> = cases
        .iter()
        .enumerate()
        .filter_map(|(n, (when, holds))| (data[format!("p{n}")].is_null() == *holds).then_some(*when))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(
        upstream.requests().len(),
        1 + cases.iter().filter(|(_, holds)| *holds).count(),
        "the others were not asked"
    );
}

#[test]
fn conditions_compare_what_was_written() {
    let user = r#"{"big":9007199254740993,"huge":1e400,"ten":"10","gold":"g\u006fld","neg":-0}"#;
    let upstream = Upstream::by(move |request| json(if request.target == "/user" { user } else { "1" }));
    let cases = [
        ("parts.user.big == 9007199254740993", true),
        ("parts.user.big == 9007199254740992", false),
        ("parts.user.big > 9007199254740992", true),
        ("parts.user.ten < '9'", true),
        ("parts.user.ten < 11", false),
        ("parts.user.gold == 'gold'", true),
        ("parts.user.neg == 0", true),
        ("parts.user.huge > 1", false), // beyond what a double holds there is no order
    ];
    let mut parts = vec![part("user", "/user", "")];
    for (n, (when, _)) in cases.iter().enumerate() {
        parts.push(part(&format!("p{n}"), &format!("/p{n}"), &format!("required: false, when: \"{when}\"")));
    }
    let data = page(&upstream, &parts).get("/page/7").data();
    let wanted =
        cases.iter().enumerate().map(|(n, (_, holds))| format!(",\"p{n}\":{}", if *holds { "1" } else { "null" }));
    assert_eq!(data, format!("{{\"user\":{user}{}}}", wanted.collect::<String>()));
}

#[test]
fn a_part_that_is_left_out_is_null_and_what_needs_it_says_so() {
    let upstream = Upstream::pages(&[("/user", r#"{"tier":"basic"}"#), ("/x", "1")]);
    let gold = "required: false, when: \"parts.user.tier == 'gold'\"";
    let parts = [
        part("user", "/user", ""),
        part("extra", "/extra/{parts.user.segment}", &format!("{gold}, fallback: {{ data: 5 }}")),
        part("skip", "/skip/{parts.user.segment}", "required: false, on_missing: skip, fallback: { data: 6 }"),
        part("skipped", "/skip/{parts.extra.id}", "on_missing: skip"),
        part("asked", "/x", "required: false, when: \"parts.extra == null && parts.skip == null\""),
    ];
    let data = page(&upstream, &parts).get("/page/1").data();
    assert_eq!(data, r#"{"user":{"tier":"basic"},"extra":null,"skip":null,"skipped":null,"asked":1}"#);
    let parts =
        [&parts[..], &[part("fails", "/skip/{parts.extra.id}", "required: false, fallback: { data: 7 }")]].concat();
    let answer = page(&upstream, &parts).get("/page/1");
    assert!(answer.partial().0.ends_with(r#""asked":1,"fails":7}"#));
    assert_eq!(answer.reason("fails"), "dependency");
    let parts = [part("user", "/user", ""), part("must", "/x/{parts.user.segment}", "")];
    assert_eq!(page(&upstream, &parts).get("/page/1").failed(502, &["must"])["parts"]["must"]["reason"], "dependency");
}

#[test]
fn a_failed_part_takes_those_that_need_it_along_unless_something_stands_for_it() {
    let upstream = Upstream::pages(&[("/fine", "1"), ("/by/7", "\"seven\"")]);
    let parts = [
        part("fine", "/fine", ""),
        part("a", "/gone", "required: false"),
        part("b", "/b/{parts.a.id}", "required: false, fallback: { data: [\"b\"] }"),
        part("c", "/c/{parts.b.id}", "required: false"),
        part("d", "/d/{parts.c.id}", "required: false, fallback: { data: {id: 7} }"),
        part("e", "/by/{parts.d.id}", "required: false"),
    ];
    let answer = page(&upstream, &parts).get("/page/1");
    assert_eq!(answer.partial().0, r#"{"fine":1,"a":null,"b":["b"],"c":null,"d":{"id":7},"e":"seven"}"#);
    let reasons = ["a", "b", "c", "d"].map(|part| answer.reason(part));
    assert_eq!(reasons, ["status", "dependency", "dependency", "dependency"]);
    assert_eq!(upstream.requests().len(), 3, "what can not be asked is not");
}

#[test]
fn target_then_allow_or_deny_then_rename_then_into() {
    let document = r#"{ "data": {"id":9007199254740993,"password":"p", "name": "\u0041da" ,"items":[{"secret":1,"sku":"s", "n":1.0},{"sku":"t"}],"sub":{"a":1, "b":2 }}, "meta": 0}"#;
    let upstream = Upstream::pages(&[("/doc", document), ("/list", &format!("[{document},{document}]"))]);
    let cases = [
        ("/doc", "target: data.items", r#"[{"secret":1,"sku":"s", "n":1.0},{"sku":"t"}]"#),
        ("/doc", "target: \"data.items[1].sku\"", "\"t\""),
        ("/doc", "target: meta", "0"),
        ("/doc", "target: data, allow: [id, name]", r#"{"id":9007199254740993,"name":"\u0041da"}"#),
        ("/doc", "target: data, allow: [name, items.sku]", r#"{"name":"\u0041da","items":[{"sku":"s"},{"sku":"t"}]}"#),
        (
            "/doc",
            "target: data, deny: [password, items.secret, sub.a, absent]",
            r#"{"id":9007199254740993,"name":"\u0041da","items":[{"sku":"s","n":1.0},{"sku":"t"}],"sub":{"b":2}}"#,
        ),
        (
            "/doc",
            "target: data, allow: [id, name], rename: { id: number, name: id }",
            r#"{"number":9007199254740993,"id":"\u0041da"}"#,
        ),
        (
            "/doc",
            "target: data, allow: [items], rename: { items.sku: article }",
            r#"{"items":[{"secret":1,"article":"s","n":1.0},{"article":"t"}]}"#,
        ),
        ("/doc", "allow: [data.sub]", r#"{"data":{"sub":{"a":1, "b":2 }}}"#),
        ("/doc", "allow: [absent]", "{}"),
        ("/list", "allow: [meta]", r#"[{"meta":0},{"meta":0}]"#),
        ("/doc", "target: data.sub, rename: { a: b2 }", r#"{"b2":1,"b":2}"#),
    ];
    for (path, keys, wanted) in cases {
        let gateway = page(&upstream, &[part("x", path, &format!("{keys}, into: \"the key\""))]);
        assert_eq!(gateway.get("/page/1").data(), format!("{{\"the key\":{wanted}}}"), "{keys}");
    }
    for keys in ["target: absent", "target: data.name.x", "target: \"data.items[2]\""] {
        let gateway = page(&upstream, &[part("x", "/doc", keys)]);
        assert_eq!(gateway.get("/page/1").failed(502, &["x"])["parts"]["x"]["reason"], "bad_body", "{keys}");
    }
}

#[test]
fn others_see_an_answer_behind_its_target_and_before_the_rest() {
    let upstream = Upstream::pages(&[("/doc", r#"{"data":{"id":7,"shown":1}}"#), ("/by/7", "\"seven\"")]);
    let parts = [
        part("doc", "/doc", "target: data, deny: [id], rename: { shown: s }, into: other"),
        part("by", "/by/{parts.doc.id}", "when: \"parts.doc.shown == 1\""),
    ];
    assert_eq!(page(&upstream, &parts).get("/page/1").data(), r#"{"other":{"s":1},"by":"seven"}"#);
    let unknown = asks("x", "u", "path: \"/x\"", "when: \"parts.other == 1\"");
    let said = Setup::new().upstream("u", &[&upstream], "").page("", &[unknown]).refused();
    assert!(said.contains("other"), "{said}");
}
