//! One limit over three gateways of two cores each and a real Redis, under load: what passes, measured against what is
//! promised. `cargo test --release --test scenarios -- limits_measured --nocapture --test-threads 1` prints the figures
//! of the README.

use crate::support::load::{Asked, drive, drive_while, passed_us, quantile, well_used, worst_excess};
use crate::support::redis::Redis;
use crate::support::{Gateway, Setup, eventually, gateway};
use ringway::limit::{Promise, Settings, Spec};
use std::time::{Duration, Instant};

const RATE: u32 = 200;
const PROCESSES: u64 = 3;
const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";

fn promise() -> Promise {
    Promise::new(Spec::new(Settings::new(RATE.into(), 1_000_000, RATE.into()).shared()).unwrap(), PROCESSES)
}

fn gateways(redis: &Redis) -> Vec<Gateway> {
    gateways_with(redis, &format!("rate: {RATE}/s, key: none"))
}

fn gateways_with(redis: &Redis, limit: &str) -> Vec<Gateway> {
    let one = |_| {
        Setup::new()
            .workers("2")
            .top(&format!("rate_limits: {{ redis: {{ url: \"{}\" }} }}", redis.url()))
            .top(&format!("filters: {{ fair: {{ rate_limit: {{ {limit} }} }} }}"))
            .route("match: { path: /x }, filters: [fair], respond: {}")
            .start()
    };
    let gateways: Vec<Gateway> = (0..PROCESSES).map(one).collect();
    gateways.iter().for_each(|gateway| wait_state(gateway, "up"));
    eventually("all know of each other", || {
        gateways.iter().all(|gateway| redis_detail(gateway)["processes"] == PROCESSES).then_some(())
    });
    gateways
}

fn redis_detail(gateway: &Gateway) -> serde_json::Value {
    gateway::get(gateway.admin, "/readyz").unwrap().json()["redis"].clone()
}

fn wait_state(gateway: &Gateway, state: &str) {
    eventually(state, || (redis_detail(gateway)["state"] == state).then_some(()));
}

fn all(gateways: &[Gateway]) -> Vec<&Gateway> {
    gateways.iter().collect()
}

/// Nothing but 200 and 429 came.
fn no_errors(asked: &[Asked]) {
    let other: Vec<&Asked> = asked.iter().filter(|asked| asked.status != 200 && asked.status != 429).collect();
    assert!(other.is_empty(), "{} of {}: {:?}", other.len(), asked.len(), other.first());
}

/// Nothing failed, and no more passed in any interval than is promised when Redis lost its state so often.
fn keeps_the_promise(name: &str, asked: &[Asked], losses: u64) {
    no_errors(asked);
    let promised = i64::try_from(promise().bound(0) - u64::from(RATE) + losses * promise().per_loss()).unwrap();
    let excess = worst_excess(&passed_us(asked), f64::from(RATE) / 1e6, RATE.into());
    println!("{name}: worst excess {excess} of a promised {promised}");
    assert!(excess <= promised + blur(asked), "{name}: {excess} of a promised {promised}");
}

/// The share of the rate that was used after the first second, which has the burst.
fn used(asked: &[Asked]) -> f64 {
    let times = passed_us(asked);
    let (from, until) = (1_000_000, asked.last().unwrap().sent.duration_since(asked[0].sent).as_micros() as u64);
    let passed = times.iter().filter(|time| **time >= from).count();
    passed as f64 / ((until - from) as f64 * f64::from(RATE) / 1e6)
}

/// Clients of a loaded machine do not see to the millisecond when a request was let through.
fn blur(asked: &[Asked]) -> i64 {
    (f64::from(RATE) * quantile(asked, 0.999).as_secs_f64()).ceil() as i64
}

#[test]
fn five_times_the_limit_on_three_gateways() {
    let redis = Redis::start();
    let gateways = gateways(&redis);
    well_used("5x demand on three gateways", || {
        let asked = drive(&all(&gateways), 5 * RATE, Duration::from_secs(6), REQUEST);
        keeps_the_promise("5x demand on three gateways", &asked, 0);
        used(&asked)
    });
}

#[test]
fn a_few_requests_at_once_pass_at_first_sight() {
    let redis = Redis::start();
    let gateways = gateways_with(&redis, "rate: 100/s, burst: 200, key: header.x-key");
    for key in 0..3 {
        let passed = std::thread::scope(|scope| {
            let ask = |_| {
                let gateway = &gateways[0];
                scope.spawn(move || gateway.ask(format!("GET /x HTTP/1.1\r\nHost: h\r\nX-Key: {key}\r\n\r\n")).status)
            };
            let asked: Vec<_> = (0..12).map(ask).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).filter(|s| *s == 200).count()
        });
        assert_eq!(passed, 12, "a new key with a full bucket");
    }
}

#[test]
fn crowds_that_come_and_go_find_no_more_than_is_promised() {
    let redis = Redis::start();
    let gateways = gateways(&redis);
    // Each crowd is there long enough to take what is at hand, and away long enough for that to come back.
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.extend(drive(&all(&gateways), 20 * RATE, Duration::from_millis(700), REQUEST));
        std::thread::sleep(Duration::from_millis(1300)); // a lull of the load
    }
    keeps_the_promise("20x demand that comes and goes", &asked, 0);
}

#[test]
fn twice_the_limit_uses_the_rate_wherever_it_comes_in() {
    let redis = Redis::start();
    let gateways = gateways(&redis);
    for (name, to) in [("2x demand on all", all(&gateways)), ("2x demand on one", vec![&gateways[0]])] {
        well_used(name, || {
            let asked = drive(&to, 2 * RATE, Duration::from_secs(4), REQUEST);
            keeps_the_promise(name, &asked, 0);
            used(&asked)
        });
    }
}

#[test]
fn a_redis_that_is_frozen_for_ten_seconds_is_felt_by_nobody() {
    let redis = Redis::start();
    let gateways = gateways(&redis);
    let before = drive(&all(&gateways), 5 * RATE, Duration::from_secs(3), REQUEST);
    let during = drive_while(&all(&gateways), 5 * RATE, REQUEST, || {
        let start = Instant::now(); // loads wait for each other
        redis.freeze();
        gateways.iter().for_each(|gateway| wait_state(gateway, "away"));
        std::thread::sleep(Duration::from_secs(10).saturating_sub(start.elapsed())); // the length of the outage
        redis.thaw();
        gateways.iter().for_each(|gateway| wait_state(gateway, "up"));
    });
    no_errors(&before);
    keeps_the_promise("5x demand, frozen for 10 s", &during, 1);
    let (p_before, p_during) = (quantile(&before, 0.999), quantile(&during, 0.999));
    println!("frozen for 10 s: p99.9 {p_during:?}, before {p_before:?}");
    // What is asked of Redis takes 50 ms until it is given up: a request that waited for it would show.
    assert!(quantile(&during, 0.99) < quantile(&before, 0.99) + Duration::from_millis(25), "{p_during:?} {p_before:?}");
    // Each gateway kept its share of the limit meanwhile.
    assert!(used(&during) > 0.8, "{} of the rate", used(&during));
}

#[test]
fn a_redis_that_restarts_or_is_emptied_loses_no_request() {
    let redis = Redis::start();
    let gateways = gateways(&redis);
    let asked = drive_while(&all(&gateways), 5 * RATE, REQUEST, || {
        redis.restart();
        gateways.iter().for_each(|gateway| {
            eventually("it is counted on", || (redis_detail(gateway)["processes"] == PROCESSES).then_some(()));
            wait_state(gateway, "up");
        });
        redis.command(&["FLUSHALL"]);
        std::thread::sleep(Duration::from_secs(1)); // a load's length
    });
    keeps_the_promise("5x demand, restarted, then emptied", &asked, 2);
}

#[test]
fn without_redis_each_does_as_it_is_told() {
    let redis = Redis::start();
    redis.kill();
    for (word, least, most) in [("local_share", 1, 250), ("deny", 0, 0), ("allow", 400, 400), ("local_full", 200, 450)]
    {
        let gateway = Setup::new()
            .workers("2")
            .top(&format!("rate_limits: {{ redis: {{ url: \"{}\" }}, on_unavailable: {word} }}", redis.url()))
            .top(&format!("filters: {{ fair: {{ rate_limit: {{ rate: {RATE}/s, key: none }} }} }}"))
            .route("match: { path: /x }, filters: [fair], respond: {}")
            .start();
        wait_state(&gateway, "away");
        let mut client = crate::support::Client::connect(&gateway);
        eventually("it has given Redis up", || match (word, client.get("/x").status) {
            ("deny", 200) | ("allow", 429) => None,
            _ => Some(()),
        });
        let start = Instant::now();
        let passed = (0..400).filter(|_| client.get("/x").status == 200).count();
        let came_in = (start.elapsed().as_secs_f64() * f64::from(RATE)) as usize;
        let most = if most == 0 { 0 } else { most + came_in };
        assert!((least..=most).contains(&passed), "{word}: {passed} of {least} to {most}");
    }
}

#[test]
fn an_abuser_who_is_refused_costs_no_redis_operation() {
    let redis = Redis::start();
    let gateways = gateways_with(&redis, "rate: 1/h, key: header.x-key");
    let request = "GET /x HTTP/1.1\r\nHost: h\r\nX-Key: abuser\r\n\r\n";
    // Its token is spent, and all gateways know how long none comes in.
    drive(&all(&gateways), 100, Duration::from_secs(1), request);
    let (before, start) = (redis.calls("evalsha"), Instant::now());
    let asked = drive(&all(&gateways), 3000, Duration::from_secs(3), request);
    assert!(asked.iter().all(|asked| asked.status == 429));
    let (calls, time_s) = (redis.calls("evalsha") - before, start.elapsed().as_secs_f64());
    println!("{} refusals, {calls} scripts run by Redis in {time_s:.1} s", asked.len());
    // Each gateway says that it lives every 40 ms, whoever comes.
    assert!((calls as f64) < time_s * PROCESSES as f64 * 27.0, "{calls} calls in {time_s} s");
}
