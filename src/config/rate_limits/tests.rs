//! What an operator may write, and what is said to all else: never with a password in it.
#![allow(clippy::unwrap_used)]

use super::super::{Config, parse};
use super::{Layout, Redis};
use crate::limit::OnUnavailable;

fn read(rate_limits: &str) -> Result<Config, String> {
    let text = format!("listeners: [{{ address: 127.0.0.1:80 }}]\nrate_limits: {rate_limits}\n");
    let env = |name: &str| match name {
        "SECRET" => Some("s3cret%2F".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    parse("f", &text, &env).map_err(|errors| errors.to_string())
}

fn redis(url: &str) -> Redis {
    read(&format!("{{ redis: {{ url: '{url}' }} }}")).unwrap().rate_limits.redis.unwrap()
}

fn addresses(redis: &Redis) -> Vec<String> {
    redis.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn without_redis_limits_are_each_process_own() {
    let none = read("{}").unwrap().rate_limits;
    assert!(none.redis.is_none() && none.on_unavailable == OnUnavailable::LocalShare);
    let error = read("{ on_unavailable: deny }").unwrap_err();
    assert_eq!(
        error,
        "f:2:32: rate_limits.on_unavailable: there is no Redis that could be away (give redis, or remove it)"
    );
}

#[test]
fn a_url_says_where_redis_is_and_who_the_gateway_is() {
    let one = redis("redis://user:${SECRET}@10.0.0.5:6380/3");
    assert_eq!((addresses(&one), &one.layout, one.db), (vec!["10.0.0.5:6380".into()], &Layout::Single, 3));
    assert_eq!(one.login.user.as_deref(), Some("user"));
    assert_eq!(one.login.password.as_ref().unwrap().expose(), "s3cret/");
    assert!(one.tls.is_none() && one.prefix == "ringway");
    assert!(!format!("{one:?} {}", one.place()).contains("s3cret"), "{one:?}");
    let short = redis("redis://cache.internal");
    assert_eq!((addresses(&short), short.db, short.login.password), (vec!["cache.internal:6379".into()], 0, None));
    assert_eq!(redis("redis://:${EMPTY}@a").login, super::Login::default());
    let only_password = redis("redis://:p%40ss%3Aword@[::1]");
    assert_eq!(addresses(&only_password), ["[::1]:6379"]);
    assert_eq!((only_password.login.user, only_password.login.password.unwrap().expose()), (None, "p@ss:word"));
}

#[test]
fn sentinels_and_clusters_have_several_hosts() {
    let one = redis("redis+sentinel://u:p@a:26380,b/my-master/2?sentinel_password=other");
    assert_eq!((addresses(&one), one.db), (vec!["a:26380".into(), "b:26379".into()], 2));
    assert_eq!(one.place(), "my-master of a:26380,b:26379");
    let Layout::Sentinel { master, login } = one.layout else { unreachable!() };
    assert_eq!((master.as_str(), login.user, login.password.unwrap().expose()), ("my-master", None, "other"));
    let all = redis("redis+cluster://a:7000,b:7001,[::1]:7002");
    assert_eq!((addresses(&all).len(), all.layout), (3, Layout::Cluster));
}

#[test]
fn every_error_has_a_remedy_and_none_shows_the_password() {
    for (url, says) in [
        ("10.0.0.5:6379", "has no scheme (write one of redis, rediss,"),
        ("http://a", "has the scheme `http`, which is not known here (write one of"),
        (
            "rediss+sentinal://a",
            "has the scheme `rediss+sentinal`, which is not known here (did you mean `rediss+sentinel`?)",
        ),
        ("s3cret:s3cret@x://a", "has no scheme that is known here"),
        ("redis://", "has a host or a port that is none"),
        ("redis://a:port", "has a host or a port that is none (write host:port, like 10.0.0.5:6379"),
        ("redis://a:0", "has a host or a port that is none"),
        ("redis://a,b", "has several hosts (write redis+sentinel or redis+cluster"),
        ("redis://a/x", "has a database that is no number"),
        ("redis://a/+1", "has a database that is no number"),
        ("redis://a/4294967296", "has a database that is no number"),
        ("redis://s3cret@a", "has a user without a password"),
        ("redis://u:${EMPTY}@a", "has a user with an empty password (is its variable set?"),
        ("redis://u:s3cret@s3cret@a", "has a second `@` before its host (in user and password"),
        ("redis://u:s3cret:s3cret@a", "has a second `:` before its host"),
        ("redis://u:s3cret/s3cret@a", "has a host or a port that is none"),
        ("redis://u:s3cret#@a", "has a `#` in it"),
        ("redis://u:s3cret?x@a", "has a host or a port that is none"),
        ("redis://a?timeout=1", "has parameters that are not known here"),
        ("redis://u:s3cret%@a", "has a `%` in it that is not followed by two hex digits"),
        ("redis://u:%ff@a", "no UTF-8"),
        ("redis://u:s3 cret@a", "has a space"),
        ("redis+cluster://a/1", "names a database"),
        ("redis+sentinel://a", "does not say what the sentinels call their master"),
        ("redis+sentinel://a/m?sentinel_user=x", "has a sentinel_user without a password"),
    ] {
        let error = read(&format!("{{ redis: {{ url: '{url}' }} }}")).unwrap_err();
        assert!(error.starts_with("f:2:30: rate_limits.redis.url: the URL ") && error.contains(says), "{url}: {error}");
        assert!(!error.contains("s3cret") && error.lines().count() == 1, "{url}: {error}");
    }
    let given = |keys: &str| read(&format!("{{ redis: {{ url: 'redis://a', {keys} }} }}")).unwrap_err();
    assert!(given("ca: system").contains("redis.ca: is of no use without TLS (write the URL with rediss"));
    assert!(given("prefix: 'a:b'").contains("`a:b` is no begin of a name (1 to 64 letters"));
    assert!(given("prefx: a").contains("did you mean `prefix`?"));
    assert!(read("{ redis: {} }").unwrap_err().contains("the key `url` is missing"));
    let word = read("{ redis: { url: 'redis://a' }, on_unavailable: local_shar }").unwrap_err();
    assert!(word.contains("did you mean `local_share`?"), "{word}");
    let ca = read("{ redis: { url: 'rediss://a', ca: /nothing/there.pem } }").unwrap_err();
    assert!(ca.starts_with("f:2:48: rate_limits.redis.ca: `/nothing/there.pem`"), "{ca}");
}

#[test]
fn a_limit_is_shared_when_there_is_a_redis_and_only_then() {
    let with = |rate_limits: &str, filter: &str| {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:80 }}]\nfilters: {{ f: {{ rate_limit: {{ rate: 1/s{filter} }} }} }}\n\
             rate_limits: {rate_limits}\n"
        );
        parse("f", &text, &|_| None).map_err(|errors| errors.to_string())
    };
    let spec = |rate_limits: &str, filter: &str| {
        let config = with(rate_limits, filter).unwrap();
        let super::super::filters::Filter::RateLimit(limit) = &config.filters[0].filter else { unreachable!() };
        *config.spec_of("f", limit).unwrap().set()
    };
    assert!(!spec("{}", "").is_shared);
    let shared = spec("{ redis: { url: 'redis://a' }, on_unavailable: deny }", "");
    assert!(shared.is_shared && shared.on_unavailable == OnUnavailable::Deny);
    let own = spec("{ redis: { url: 'redis://a' }, on_unavailable: deny }", ", on_unavailable: allow, shared: false");
    assert!(!own.is_shared && own.on_unavailable == OnUnavailable::Allow);
    assert_eq!(
        with("{}", ", shared: true").unwrap_err(),
        "f:2:50: filters.f.rate_limit.shared: `f` can not be shared without Redis (give rate_limits.redis.url, or remove it)"
    );
    let twice = with("{ redis: { url: nonsense } }", ", shared: true").unwrap_err();
    assert_eq!(twice.lines().count(), 1, "nothing follows from a Redis that is wrong: {twice}");
}
