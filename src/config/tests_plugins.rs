//! Blocks of plugins: what they read, and what is told of what is wrong, with its place.
#![allow(clippy::unwrap_used)]

use serde::Deserialize;

use super::filters::Filter;
use super::*;
use crate::plugin::{ByteSize as Size, Duration as Time, Fault, Plugin, Rate, Secret};

struct Mine;

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Block {
    name: String,
    #[serde(default)]
    count: u16,
    flag: Option<bool>,
    share: Option<f64>,
    wait: Option<Time>,
    size: Option<Size>,
    rate: Option<Rate>,
    secret: Option<Secret>,
    address: Option<std::net::IpAddr>,
    #[serde(default)]
    rules: Vec<Rule>,
    pair: Option<(u8, char)>,
    mode: Option<Mode>,
    any: Option<serde_json::Value>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Rule {
    path: String,
    #[serde(default)]
    codes: Vec<u16>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Strict,
    UpTo(u8),
    Both { low: u8, high: u8 },
}

thread_local! {
    static READ: std::cell::RefCell<Option<Block>> = const { std::cell::RefCell::new(None) };
}

impl Plugin for Mine {
    const NAME: &'static str = "acme-mine";
    const ABOUT: &'static str = "of the tests";
    type Config = Block;

    fn new(config: Block) -> Result<Self, Fault> {
        match config.name.as_str() {
            "panic" => panic!("on purpose"),
            "wrong" => return Err(Fault::new("is never right", "write another").at("rules[1].path")),
            "nowhere" => return Err(Fault::new("is nowhere", "").at("rules[9].path")),
            "error" => drop("x".parse::<u8>()?),
            _ => {}
        }
        READ.set(Some(config));
        Ok(Self)
    }
}

fn read(block: &str) -> Result<Config, String> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nroutes: [{{ match: {{ path: /a }}, filters: [f], respond: {{}} }}]\n\
         filters:\n  f:\n    acme-mine:\n{block}"
    );
    let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    parse_with("f", &text, &env, &Registry::new().with::<Mine>()).map_err(|errors| errors.to_string())
}

fn errors(block: &str) -> String {
    read(block).unwrap_err()
}

#[test]
fn a_block_is_read_into_its_type() {
    let block = "      name: '5'\n      count: 65535\n      flag: true\n      share: 0.5\n      wait: 250ms\n      size: 64KiB\n      rate: 10/s\n      \
                 secret: ${SECRET}\n      address: \"::1\"\n      rules: [{ path: /a, codes: [200, 404] }, { path: no }]\n      pair: [7, x]\n      \
                 mode: strict\n      any: { a: [1, -2, 0.5, true, '3', x, null, 1e3x] }\n";
    let config = read(block).unwrap();
    assert!(matches!(&config.filters[0].filter, Filter::Plugin(plugin) if plugin.name == "acme-mine"));
    assert_eq!(config.clone(), config);
    let read_block = READ.take().unwrap();
    assert_eq!((read_block.name.as_str(), read_block.count, read_block.flag), ("5", 65535, Some(true)));
    assert_eq!((read_block.wait, read_block.size), (Some("250ms".parse().unwrap()), Some("64KiB".parse().unwrap())));
    assert_eq!((read_block.share, read_block.rate), (Some(0.5), Some("10/s".parse().unwrap())));
    assert_eq!(read_block.secret.map(|secret| secret.expose().to_owned()).as_deref(), Some("hunter2"));
    assert_eq!(read_block.rules[0], Rule { path: "/a".into(), codes: vec![200, 404] });
    assert_eq!(read_block.rules[1].path, "no", "a word stays text");
    assert_eq!((read_block.pair, read_block.mode), (Some((7, 'x')), Some(Mode::Strict)));
    let any = serde_json::json!({"a": [1, -2, 0.5, true, "3", "x", null, "1e3x"]});
    assert_eq!(read_block.any, Some(any));
    for (text, mode) in
        [("{ up_to: 3 }", Mode::UpTo(3)), ("{ both: { low: 1, high: 2 } }", Mode::Both { low: 1, high: 2 })]
    {
        read(&format!("      name: a\n      mode: {text}\n")).unwrap();
        assert_eq!(READ.take().unwrap().mode, Some(mode));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (block, told) in [
        ("      nam: a\n", "f:6:7: filters.f.acme-mine.nam: unknown key (did you mean `name`?)"),
        ("      zzzzzz: a\n", "f:6:7: filters.f.acme-mine.zzzzzz: unknown key (the keys here are name, count, "),
        ("      count: 1\n", "f:5:5: filters.f.acme-mine: the key `name` is missing (add it)"),
        (
            "      name: a\n      count: 65536\n",
            "f:7:14: filters.f.acme-mine.count: `65536` is not a whole number from 0 to 65535",
        ),
        ("      name: a\n      count: [1]\n", "f:7:7: filters.f.acme-mine.count: must be a whole number, not a list"),
        ("      name: a\n      count:\n", "f:7:"),
        ("      name: { a: b }\n", "f:6:7: filters.f.acme-mine.name: must be text, not a mapping of keys"),
        ("      name: a\n      flag: yes\n", "f:7:13: filters.f.acme-mine.flag: `yes` is neither true nor false"),
        (
            "      name: a\n      wait: 5\n",
            "f:7:13: filters.f.acme-mine.wait: `5` is not a time: it has no unit (write a unit",
        ),
        (
            "      name: a\n      address: nowhere\n",
            "f:7:16: filters.f.acme-mine.address: `nowhere`: invalid IP address syntax",
        ),
        (
            "      name: a\n      mode: stric\n",
            "f:7:13: filters.f.acme-mine.mode: `stric` is not a word that is known here (did you mean `strict`?)",
        ),
        ("      name: a\n      mode: up_to\n", "f:7:13: filters.f.acme-mine.mode: `up_to` needs a value"),
        (
            "      name: a\n      mode: { both: { low: x, high: 1 } }\n",
            "f:7:28: filters.f.acme-mine.mode.both.low: `x` is not a whole number",
        ),
        ("      name: a\n      pair: [1, x, y]\n", "f:7:20: filters.f.acme-mine.pair[2]: is one more than the 2 items"),
        (
            "      name: a\n      pair: [1]\n",
            "f:7:7: filters.f.acme-mine.pair: has 1 items, where a tuple of size 2 is expected",
        ),
        (
            "      name: a\n      rules:\n        - path: /a\n        - { path: /b, codes: [200, x] }\n",
            "f:9:36: filters.f.acme-mine.rules[1].codes[1]: `x` is not a whole number",
        ),
        (
            "      name: a\n      rules: [{ pth: /a }]\n",
            "f:7:17: filters.f.acme-mine.rules[0].pth: unknown key (did you mean `path`?)",
        ),
        (
            "      name: wrong\n      rules: [{ path: a }, { path: b }]\n",
            "f:7:36: filters.f.acme-mine.rules[1].path: is never right (write another)",
        ),
        ("      name: nowhere\n", "f:5:5: filters.f.acme-mine: is nowhere"),
        ("      name: error\n", "f:5:5: filters.f.acme-mine: invalid digit found in string"),
        ("      name: panic\n", "f:5:5: filters.f.acme-mine: the plugin acme-mine panicked: on purpose"),
        ("      [a]\n", "f:5:5: filters.f.acme-mine: must be a mapping of keys, not a list"),
        ("\n", "filters.f.acme-mine: is empty, a mapping of keys is expected"),
    ] {
        let said = errors(block);
        assert!(said.lines().count() == 1 && said.contains(told), "{said}\nis not\n{told}");
    }
}

#[test]
fn what_variables_hold_is_not_told() {
    for block in [
        "      name: a\n      count: ${SECRET}\n",
        "      name: a\n      address: x${SECRET}\n",
        "      name: a\n      mode: ${SECRET}\n",
    ] {
        let said = errors(block);
        assert!(said.contains("${SECRET}") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn names_of_plugins_are_among_those_that_are_known() {
    let text = |key: &str| {
        format!("listeners: [{{ address: 127.0.0.1:0 }}]\nroutes: []\nfilters: {{ f: {{ {key}: {{ name: a }} }} }}")
    };
    let told = |text: &str, plugins: &Registry| parse_with("f", text, &|_| None, plugins).unwrap_err().to_string();
    let registry = Registry::new().with::<Mine>();
    assert_eq!(
        told(&text("acme-min"), &registry),
        "f:3:17: filters.f.acme-min: unknown key (did you mean `acme-mine`?)"
    );
    assert!(told(&text("else"), &registry).contains(", acme-mine"));
    assert!(told(&text("acme-mine"), &Registry::default()).contains("unknown key"));
    assert!(told("listeners: []\nfilters: { f: {} }", &registry).contains(", acme-mine"));
    let two = text("acme-mine").replace("name: a } }", "name: a }, cors: { origins: [\"*\"] } }");
    assert!(told(&two, &registry).contains("a filter does one thing"));
}

struct Named<const N: usize>;

impl<const N: usize> Plugin for Named<N> {
    const NAME: &'static str = ["plain", "UP-PER", "a b-c", "acme-mine", ""][N];
    const ABOUT: &'static str = "";
    type Config = ();

    fn new((): ()) -> Result<Self, Fault> {
        Ok(Self)
    }
}

#[test]
fn names_that_could_be_taken_one_day_are_refused() {
    let registry = Registry::new().with::<Mine>();
    assert!(registry.check().is_ok());
    let registry =
        registry.with::<Named<0>>().with::<Named<1>>().with::<Named<2>>().with::<Named<3>>().with::<Named<4>>();
    let said = registry.check().unwrap_err();
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(
        said.contains("\"plain\" is no name of a plugin") && said.contains("\"acme-mine\" is registered twice"),
        "{said}"
    );
}

#[test]
fn a_block_is_printed_as_it_was_and_without_secrets() {
    let text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ match: { path: /a }, filters: [f], respond: {} }]\n\
                filters: { f: { acme-mine: { name: \"7\", count: 7, secret: \"${SECRET}\", any: { password: abc, n: \"1\", x: ~ } } } }";
    let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    let plugins = Registry::new().with::<Mine>();
    let once = effective("f", text, &env, &plugins).unwrap();
    assert!(!once.contains("hunter2") && !once.contains("abc"), "{once}");
    for line in ["name: \"7\"", "count: 7", "secret: \"${SECRET}\"", "password: \"***\"", "n: \"1\"", "x: null"] {
        assert!(once.lines().any(|given| given.trim() == line), "{line}\n{once}");
    }
    READ.set(None);
    parse_with("f", &once, &env, &plugins).unwrap();
    let read = READ.take().unwrap();
    assert_eq!((read.name.as_str(), read.count, read.secret.unwrap().expose()), ("7", 7, "hunter2"));
}
