//! Limits through a real Redis: several processes' worth of wallets and of control's side in this one, each on its own,
//! against what is promised. Gateways as a whole are in `limits_measured`.

use crate::support::load::{self, Stop, well_used};
use crate::support::redis::{Options, Redis, Reply, Sentinel, cluster};
use crate::support::{Setup, eventually, free_port, gateway, tls};
use ringway::config::rate_limits::Redis as Config;
use ringway::control::limit_sync::{Facts, LimitSync, Shared, Status};
use ringway::core::Clock;
use ringway::limit::{CoreWallet, Decision, OnUnavailable, Promise, Settings, Spec};
use ringway::shared::wallet::Table;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const CORES: u64 = 2;
const RATE: u64 = 1000;

fn settings() -> Settings {
    Settings::new(RATE, 1_000_000, RATE).shared()
}

fn spec(change: impl FnOnce(&mut Settings)) -> Spec {
    let mut set = settings();
    change(&mut set);
    Spec::new(set).unwrap()
}

/// `rate_limits.redis` as an operator writes it.
fn config(redis: &str) -> Config {
    let text = format!("listeners: [{{ address: 127.0.0.1:80 }}]\nrate_limits: {{ redis: {{ {redis} }} }}\n");
    let config = ringway::config::parse("f", &text, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    config.rate_limits.redis.unwrap()
}

fn at(redis: &Redis) -> Config {
    config(&format!("url: '{}'", redis.url()))
}

/// What a gateway has of limits, on threads of its own: control's with its tokio, and cores that come and go.
struct Member {
    limits: Vec<Shared>,
    status: Arc<Status>,
    follow: mpsc::Sender<Vec<Shared>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Member {
    fn join(redis: &Config, specs: &[(&str, Spec)]) -> Member {
        let limit = |(name, spec): &(&str, Spec)| Shared {
            name: (*name).to_owned(),
            spec: *spec,
            table: Arc::new(Table::new(10_000)),
        };
        let limits: Vec<Shared> = specs.iter().map(limit).collect();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let (follow, followed) = mpsc::channel::<Vec<Shared>>();
        let (redis, first) = (redis.clone(), limits.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let tls = redis.tls.as_ref().map(|files| files.load(1).unwrap().0.remove(0));
                let sync = LimitSync::start(&redis, tls.as_ref(), CORES);
                sync.follow(first);
                sync.first_contact().await;
                tell.send(Arc::clone(sync.status())).unwrap();
                tokio::pin!(stopped);
                while tokio::time::timeout(Duration::from_millis(5), &mut stopped).await.is_err() {
                    followed.try_iter().for_each(|limits| sync.follow(limits));
                }
            });
        });
        Member { limits, status: told.recv().unwrap(), follow, _stop: stop }
    }

    fn facts(&self) -> Facts {
        self.status.facts()
    }

    fn wait_up(&self) {
        eventually("Redis is up", || self.facts().is_up.then_some(()));
    }

    /// Its cause.
    fn wait_away(&self) -> String {
        let cause = eventually("Redis is away", || Some(self.facts()).filter(|f| !f.is_up).map(|f| f.cause));
        assert!(!cause.is_empty());
        cause
    }
}

/// So many of them that know of each other.
fn members(redis: &Config, n: u64, specs: &[(&str, Spec)]) -> Vec<Member> {
    let all: Vec<Member> = (0..n).map(|_| Member::join(redis, specs)).collect();
    all_count(&all, n);
    all
}

fn all_count(all: &[Member], n: u64) {
    let knows = |member: &Member| member.limits.iter().all(|limit| limit.table.processes() == n);
    eventually("all know of each other", || all.iter().all(knows).then_some(()));
}

/// One request: which of the keys, when, and whether it passed.
#[derive(Debug, Clone, Copy)]
struct Asked {
    key: usize,
    us: u64,
    passed: bool,
}

/// `demand` requests a second of limit number `limit` from each member's cores, over `keys` keys in turn, while
/// `meanwhile` runs.
fn drive(members: &[&Member], limit: usize, demand: u64, keys: usize, meanwhile: impl FnOnce()) -> Vec<Asked> {
    let stop = AtomicBool::new(false);
    let each = demand as f64 / (members.len() as u64 * CORES) as f64 / 1e6;
    let mut all: Vec<Asked> = std::thread::scope(|scope| {
        let core = |member: &Member, core: usize| {
            let Shared { spec, table, .. } = member.limits[limit].clone();
            let stop = &stop;
            scope.spawn(move || {
                let (wallet, clock) = (CoreWallet::new(table, CORES), Clock::start());
                let (start, mut asked, mut all) = (clock.now_us(), 0, Vec::new());
                while !stop.load(Ordering::SeqCst) {
                    let now = clock.now_us();
                    let due = ((now - start) as f64 * each) as usize;
                    while asked < due {
                        let (key, us) = ((asked + core) % keys, clock.now_us());
                        let passed = wallet.check(&spec, &key.to_le_bytes(), 1, us).is_allowed();
                        all.push(Asked { key, us, passed });
                        asked += 1;
                    }
                    wallet.sweep(&spec, now);
                    std::thread::sleep(Duration::from_millis(1)); // the pace of the load
                }
                all
            })
        };
        let threads: Vec<_> =
            members.iter().flat_map(|m| (0..CORES as usize).map(|n| core(m, n)).collect::<Vec<_>>()).collect();
        let stopped = Stop(&stop);
        meanwhile();
        drop(stopped);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by_key(|asked| asked.us);
    all
}

fn drive_for(members: &[&Member], limit: usize, demand: u64, keys: usize, ms: u64) -> Vec<Asked> {
    drive(members, limit, demand, keys, || std::thread::sleep(Duration::from_millis(ms))) // the length of the load
}

/// The most that passed of any key in any interval, beyond burst and rate.
fn worst_excess(asked: &[Asked], spec: &Spec) -> i64 {
    let per_us = spec.set().tokens as f64 / spec.set().per_us as f64;
    let keys = asked.iter().map(|asked| asked.key).max().unwrap_or(0);
    let of = |key: usize| {
        let times: Vec<u64> = asked.iter().filter(|a| a.passed && a.key == key).map(|a| a.us).collect();
        load::worst_excess(&times, per_us, spec.set().burst)
    };
    (0..=keys).map(of).max().unwrap_or(0)
}

/// What the promise allows for that, with so many losses of Redis' state.
fn promised(spec: &Spec, processes: u64, losses: u64) -> i64 {
    let promise = Promise::new(*spec, processes);
    (promise.bound(0) - spec.set().burst + losses * promise.per_loss()) as i64
}

/// The share of the rate that one key used after the first second.
fn used(asked: &[Asked], spec: &Spec) -> f64 {
    let (first, last) = (asked[0].us + 1_000_000, asked.last().unwrap().us);
    let passed = asked.iter().filter(|asked| asked.passed && asked.us >= first).count();
    passed as f64 / ((last - first) as f64 * spec.set().tokens as f64 / spec.set().per_us as f64)
}

fn refs(members: &[Member]) -> Vec<&Member> {
    members.iter().collect()
}

#[test]
fn five_times_the_limit_from_three_processes_keeps_the_promise() {
    let redis = Redis::start();
    let spec = spec(|_| ());
    let all = members(&at(&redis), 3, &[("fair", spec)]);
    well_used("5x demand of 3", || {
        let asked = drive_for(&refs(&all), 0, 5 * RATE, 1, 3000);
        let (excess, promised) = (worst_excess(&asked, &spec), promised(&spec, 3, 0));
        println!("5x demand of 3: excess {excess} of a promised {promised}");
        assert!(excess <= promised, "{excess} of a promised {promised}");
        used(&asked, &spec)
    });
    let facts = all[0].facts();
    assert!(facts.is_up && facts.processes == 3 && facts.questions > 50, "{facts:?}");
    assert!(facts.flows[0].1.granted > 100 && facts.answers.count() > 50, "{facts:?}");
    let keys = redis.keys("*");
    assert!(keys.contains(&"ringway:processes".to_owned()) && keys.len() == 2, "{keys:?}");
    assert!(keys.iter().any(|key| key.starts_with("ringway:fair:")), "{keys:?}");
}

#[test]
fn twice_the_limit_uses_the_rate_wherever_it_comes_in() {
    let redis = Redis::start();
    let spec = spec(|_| ());
    let all = members(&at(&redis), 3, &[("fair", spec)]);
    for (name, to) in [("all", refs(&all)), ("one", vec![&all[1]])] {
        well_used(&format!("2x demand of {name}"), || {
            let asked = drive_for(&to, 0, 2 * RATE, 1, 2500);
            assert!(worst_excess(&asked, &spec) <= promised(&spec, 3, 0), "{name}");
            used(&asked, &spec)
        });
    }
}

#[test]
fn a_frozen_redis_leaves_each_limit_to_its_word() {
    let redis = Redis::start();
    let words = [
        ("share", spec(|_| ())),
        ("deny", spec(|s| s.on_unavailable = OnUnavailable::Deny)),
        ("allow", spec(|s| s.on_unavailable = OnUnavailable::Allow)),
    ];
    let all = members(&at(&redis), 2, &words);
    let (freeze, thaw) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
    let (away_from, away_to) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let asked: Vec<Vec<Asked>> = std::thread::scope(|scope| {
        let (all, freeze, thaw, redis) = (&all, &freeze, &thaw, &redis);
        let (away_from, away_to) = (&away_from, &away_to);
        let one = |limit: usize| {
            scope.spawn(move || {
                drive(&refs(all), limit, 2 * RATE, 1, || {
                    std::thread::sleep(Duration::from_millis(500)); // a load before
                    if freeze.wait().is_leader() {
                        redis.freeze();
                    }
                    for member in all {
                        let cause = member.wait_away();
                        assert!(cause.contains("no answer within"), "{cause}");
                    }
                    // A core's wallet hears of it within a sweep.
                    away_from.fetch_max(Clock::start().now_us() + 200_000, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1600)); // the length of the outage
                    if thaw.wait().is_leader() {
                        away_to.fetch_min(Clock::start().now_us(), Ordering::SeqCst);
                        redis.thaw();
                    }
                    all.iter().for_each(Member::wait_up);
                    std::thread::sleep(Duration::from_millis(500)); // and after
                })
            })
        };
        let threads: Vec<_> = (0..3).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let away_us = away_from.into_inner()..away_to.into_inner();
    let away = |limit: usize| asked[limit].iter().filter(|a| away_us.contains(&a.us));
    let share = |limit: usize| away(limit).filter(|a| a.passed).count() as f64 / away(limit).count() as f64;
    println!("frozen: {:.2} of all with local_share, {:.2} deny, {:.2} allow", share(0), share(1), share(2));
    assert!((0.4..0.6).contains(&share(0)), "both members keep their half of the rate: {}", share(0));
    assert_eq!((share(1), share(2)), (0.0, 1.0));
    let (excess, promised) = (worst_excess(&asked[0], &words[0].1), promised(&words[0].1, 2, 1));
    assert!(excess <= promised, "{excess} of a promised {promised}");
    for (asked, (name, _)) in asked.iter().zip(&words) {
        let last = asked.last().unwrap().us;
        let mut after = asked.iter().filter(|a| a.us > last - 200_000);
        assert!(after.any(|a| a.passed) || *name == "allow", "{name} goes on");
    }
}

#[test]
fn a_redis_that_forgets_loses_no_more_than_is_promised() {
    let redis = Redis::start();
    let spec = spec(|_| ());
    let all = members(&at(&redis), 2, &[("fair", spec)]);
    let asked = drive(&refs(&all), 0, 5 * RATE, 1, || {
        std::thread::sleep(Duration::from_millis(500)); // a load before
        redis.restart();
        eventually("both are counted", || {
            (redis.command(&["ZCARD", "ringway:processes"]) == Reply::Number(2)).then_some(())
        });
        all.iter().for_each(Member::wait_up);
        std::thread::sleep(Duration::from_millis(500)); // the load goes on
        redis.command(&["FLUSHALL"]);
        std::thread::sleep(Duration::from_millis(500)); // the load goes on
        redis.command(&["SCRIPT", "FLUSH"]);
        let before = redis.calls("evalsha");
        eventually("the scripts are there again", || (redis.calls("evalsha") > before + 20).then_some(()));
        assert_eq!(redis.command(&["SCRIPT", "FLUSH"]), Reply::Text("OK".into()));
        std::thread::sleep(Duration::from_millis(500)); // the load goes on
    });
    let (excess, promised) = (worst_excess(&asked, &spec), promised(&spec, 2, 2));
    println!("restarted and emptied: excess {excess} of a promised {promised}");
    assert!(excess <= promised, "{excess} of a promised {promised}");
    let facts = all[0].facts();
    assert!(facts.is_up && facts.reconnects >= 1, "{facts:?}");
    // What was spent without Redis may have to be paid back first.
    let later = drive_for(&refs(&all), 0, 5 * RATE, 1, 1500);
    assert!(later.iter().any(|a| a.passed), "it goes on");
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let redis = Options::new().password("s3cret@:/").start();
    let url = |login: &str| config(&format!("url: 'redis://{login}127.0.0.1:{}/2'", redis.port));
    let right = Member::join(&url(":s3cret%40%3A%2F@"), &[("fair", spec(|_| ()))]);
    right.wait_up();
    for (login, says) in [(":wr0ng@", "WRONGPASS"), ("", "NOAUTH"), ("who:s3cret%40%3A%2F@", "WRONGPASS")] {
        let wrong = Member::join(&url(login), &[("fair", spec(|_| ()))]);
        let cause = eventually(says, || Some(wrong.wait_away()).filter(|cause| cause.contains(says)));
        assert!(!cause.contains("wr0ng") && !cause.contains("s3cret"), "{cause}");
    }
    redis.command(&["ACL", "SETUSER", "gw", "on", ">pw", "~*", "+@all"]);
    Member::join(&url("gw:pw@"), &[("fair", spec(|_| ()))]).wait_up();
    let database = redis.info("keyspace", "db2").unwrap_or_default();
    assert!(database.starts_with("keys="), "the database of the URL is used: {database}");
    // One that may not: the errors of a script are told as well.
    redis.command(&["ACL", "SETUSER", "ro", "on", ">pw", "~*", "+@all", "-@write"]);
    let cause = Member::join(&url("ro:pw@"), &[("fair", spec(|_| ()))]).wait_away();
    assert!(cause.contains("it says"), "{cause}");
}

/// Everything between two ends, until it is told to say something else to one of them.
struct Between {
    port: u16,
    nonsense: Arc<Mutex<Option<Vec<u8>>>>,
    connections: Arc<AtomicUsize>,
}

impl Between {
    fn start(to: u16) -> Between {
        let (port, nonsense) = (free_port(), Arc::new(Mutex::new(None::<Vec<u8>>)));
        let (listener, says) = (TcpListener::bind(("127.0.0.1", port)).unwrap(), Arc::clone(&nonsense));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Both);
                });
                let says = Arc::clone(&says);
                std::thread::spawn(move || {
                    let (mut server, mut client, mut bytes) = (server, client, [0; 65536]);
                    while let Ok(n @ 1..) = server.read(&mut bytes) {
                        let said = says.lock().unwrap().clone();
                        if client.write_all(said.as_deref().unwrap_or(&bytes[..n])).is_err() {
                            break;
                        }
                    }
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Between { port, nonsense, connections }
    }

    fn say(&self, nonsense: Option<Vec<u8>>) {
        *self.nonsense.lock().unwrap() = nonsense;
    }
}

#[test]
fn nonsense_is_no_answer() {
    let redis = Redis::start();
    let many = |text: &str, n: usize| text.repeat(n).into_bytes();
    // What each is called is for the unit tests: once it is away, connecting again is answered with nonsense too.
    let cases = [
        many("HTTP/1.1 400 Bad Request\r\n\r\n", 1),
        many("*9223372036854775807\r\n", 1),
        many("$9223372036854775807\r\n", 1),
        many("x", 3 << 20),
        many("+x", 3 << 20),
        many(":1\r\n", 1 << 20),
        many("-LOADING Redis is loading the dataset in memory\r\n", 1),
        many("-READONLY You can't write against a read only replica.\r\n", 1),
        many("-OOM command not allowed when used memory > 'maxmemory'.\r\n", 1),
        many("-BUSY Redis is busy running a script.\r\n", 1),
        many("*2\r\n$16\r\n1700000000000000\r\n$2\r\n-1\r\n", 1),
        many("*2\r\n$1\r\n5\r\n$1\r\n1\r\n", 1),
        many("*2\r\n:1\r\n:1\r\n", 1),
        vec![0; 100],
    ];
    std::thread::scope(|scope| cases.map(|nonsense| scope.spawn(|| says_nonsense(&redis, nonsense))).map(drop));
}

fn says_nonsense(redis: &Redis, nonsense: Vec<u8>) {
    let between = Between::start(redis.port);
    let spec = spec(|s| s.on_unavailable = OnUnavailable::Deny);
    let member = Member::join(&config(&format!("url: 'redis://127.0.0.1:{}'", between.port)), &[("fair", spec)]);
    member.wait_up();
    let shown = String::from_utf8_lossy(&nonsense[..nonsense.len().min(40)]).into_owned();
    between.say(Some(nonsense));
    let cause = member.wait_away();
    println!("{shown:?}: {cause}");
    assert!(["it sent ", "it says ", "closed"].iter().any(|says| cause.contains(says)), "{shown:?}: {cause}");
    let shared = &member.limits[0];
    let (wallet, clock) = (CoreWallet::new(Arc::clone(&shared.table), CORES), Clock::start());
    // A key that has no lease from before.
    let decision = wallet.check(&spec, shown.as_bytes(), 1, clock.now_us());
    assert!(matches!(decision, Decision::Deny { .. }), "{shown}: {decision:?}");
    between.say(None);
    member.wait_up();
    assert!(between.connections.load(Ordering::SeqCst) < 20, "reconnects have their pace");
}

#[test]
fn a_key_that_is_of_another_type_harms_no_other() {
    let redis = Redis::start();
    let spec = spec(|_| ());
    let member = Member::join(&at(&redis), &[("fair", spec)]);
    member.wait_up();
    drive_for(&[&member], 0, RATE, 20, 300);
    let key = redis.keys("ringway:fair:*").remove(0);
    redis.command(&["SET", &key, "x"]);
    let lost = member.facts().lost;
    let asked = drive_for(&[&member], 0, 2 * RATE, 20, 1500);
    assert!(member.facts().is_up && member.facts().lost > lost);
    let late = asked[0].us + 500_000;
    let passed = |key: usize| asked.iter().filter(|a| a.key == key && a.passed && a.us > late).count();
    let served = (0..20).filter(|key| passed(*key) > 20).count();
    assert!(served >= 19, "{served} of 20 keys go on");
}

#[test]
fn tls_with_an_authority_that_is_trusted_and_only_then() {
    let redis = Options::new().over_tls().start();
    let ca = tls::files().ca.display();
    let member = Member::join(&config(&format!("url: '{}', ca: {ca}", redis.url())), &[("fair", spec(|_| ()))]);
    member.wait_up();
    let by_name = format!("url: 'rediss://localhost:{}', ca: {ca}", redis.port);
    Member::join(&config(&by_name), &[("fair", spec(|_| ()))]).wait_up();
    let mut other = rcgen::CertificateParams::new(vec!["other".into()]).unwrap();
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = other.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let path = crate::support::temp_dir("other-ca").join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    let wrong = format!("url: '{}', ca: {}", redis.url(), path.display());
    let cause = Member::join(&config(&wrong), &[("fair", spec(|_| ()))]).wait_away();
    assert!(cause.contains("TLS") && cause.contains("certificate"), "{cause}");
    let plain = format!("url: 'redis://127.0.0.1:{}'", redis.port);
    Member::join(&config(&plain), &[("fair", spec(|_| ()))]).wait_away();
}

#[test]
fn sentinels_are_asked_again_when_the_master_is_gone() {
    let master = Redis::start();
    let replica = Options::new().with(&["--replicaof", "127.0.0.1", &master.port.to_string()]).start();
    eventually("the replica follows", || {
        (replica.info("replication", "master_link_status").as_deref() == Some("up")).then_some(())
    });
    let sentinel = Sentinel::of(&master);
    eventually("the sentinel knows both", || (sentinel.replicas() == 1).then_some(()));
    // The first of them does not answer.
    let url = format!("url: 'redis+sentinel://127.0.0.1:{},127.0.0.1:{}/main'", free_port(), sentinel.port);
    let spec = spec(|_| ());
    let member = Member::join(&config(&url), &[("fair", spec)]);
    member.wait_up();
    let other = format!("url: 'redis+sentinel://127.0.0.1:{}/nobody'", sentinel.port);
    let cause = Member::join(&config(&other), &[("fair", spec)]).wait_away();
    assert!(cause.contains("knows no master nobody"), "{cause}");
    // A replica alone is no place for limits.
    let direct = Member::join(&at(&replica), &[("fair", spec)]).wait_away();
    assert!(direct.contains("READONLY"), "{direct}");
    let asked = drive(&[&member], 0, 2 * RATE, 1, || {
        std::thread::sleep(Duration::from_millis(300)); // a load before
        master.kill();
        member.wait_away();
        eventually("the sentinel has switched", || (sentinel.master() == Some(replica.port)).then_some(()));
        member.wait_up();
        let before = replica.calls("evalsha");
        eventually("the new master is asked", || (replica.calls("evalsha") > before + 20).then_some(()));
    });
    assert!(worst_excess(&asked, &spec) <= promised(&spec, 1, 1), "{}", worst_excess(&asked, &spec));
}

#[test]
fn a_cluster_has_keys_on_all_its_masters() {
    let all = cluster(2_000);
    // One seed that is not there, and one that is.
    let url = format!("url: 'redis+cluster://127.0.0.1:{},127.0.0.1:{}'", free_port(), all[1].port);
    let spec = spec(|s| (s.tokens, s.burst) = (100, 100));
    let members = members(&config(&url), 2, &[("fair", spec)]);
    well_used("2x demand of each of 30 keys", || {
        let asked = drive_for(&refs(&members), 0, 30 * 2 * 100, 30, 2500);
        let excess = worst_excess(&asked, &spec);
        assert!(excess <= promised(&spec, 2, 0), "{excess}");
        let of = |key: usize| asked.iter().filter(|a| a.key == key).copied().collect::<Vec<_>>();
        (0..30).map(|key| used(&of(key), &spec)).fold(1.0, f64::min)
    });
    let keys: Vec<usize> = all.iter().map(|redis| redis.keys("ringway:fair:*").len()).collect();
    // One more is that of keys which found their place locked.
    assert!(keys.iter().all(|n| *n > 0) && (30..=31).contains(&keys.iter().sum::<usize>()), "{keys:?}");
    // All of them have to answer.
    all[2].freeze();
    members[0].wait_away();
    all[2].thaw();
    members[0].wait_up();
    members[1].wait_up();
}

#[test]
fn slots_that_move_are_followed() {
    let all = cluster(30_000); // a loaded machine is no reason to call a master dead
    let url = format!("url: 'redis+cluster://127.0.0.1:{}'", all[0].port);
    let spec = spec(|_| ());
    let member = Member::join(&config(&url), &[("fair", spec)]);
    member.wait_up();
    drive_for(&[&member], 0, 1000, 1, 500);
    let (from, key) = all
        .iter()
        .find_map(|redis| Some((redis, redis.keys("ringway:fair:*").first()?.clone())))
        .expect("the key is somewhere");
    let to = all.iter().find(|redis| redis.port != from.port).unwrap();
    let Reply::Number(slot) = from.command(&["CLUSTER", "KEYSLOT", &key]) else { panic!("no slot") };
    let (slot, to_port) = (slot.to_string(), to.port.to_string());
    let id = |redis: &Redis| match redis.command(&["CLUSTER", "MYID"]) {
        Reply::Text(id) => id,
        other => panic!("{other:?}"),
    };
    let (from_id, to_id) = (id(from), id(to));
    let asked = drive(&[&member], 0, 2 * RATE, 1, || {
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        assert_eq!(from.command(&["MIGRATE", "127.0.0.1", &to_port, &key, "0", "10000"]), Reply::Text("OK".into()));
        to.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        eventually("the key is asked about where it is now", || {
            (to.keys(&key).len() == 1 && member.facts().is_up && member.facts().reconnects > 0).then_some(())
        });
        std::thread::sleep(Duration::from_millis(700)); // the load goes on
    });
    let last = asked.last().unwrap().us;
    let passed = asked.iter().filter(|a| a.passed && a.us > last - 500_000).count();
    assert!(passed > 300, "{passed} of some 500 passed after the move");
    assert!(worst_excess(&asked, &spec) <= promised(&spec, 1, 1));
}

#[test]
fn a_config_that_comes_later_is_followed() {
    let redis = Redis::start();
    let (one, two) = (spec(|_| ()), spec(|s| (s.tokens, s.burst) = (50, 50)));
    let mut member = Member::join(&at(&redis), &[("one", one)]);
    member.wait_up();
    drive_for(&[&member], 0, 2 * RATE, 1, 300);
    let mut limits = member.limits.clone();
    limits.push(Shared { name: "two".into(), spec: two, table: Arc::new(Table::new(100)) });
    member.limits = limits.clone();
    member.follow.send(limits).unwrap();
    eventually("both are followed", || (member.facts().flows.len() == 2).then_some(()));
    let asked = drive_for(&[&member], 1, 500, 1, 2000);
    let passed = asked.iter().filter(|a| a.passed).count();
    // 50 at once and 50 a second; fewer when the machine is so busy that answers come too late.
    assert!((75..=180).contains(&passed), "{passed}");
    assert!(member.facts().flows.iter().all(|(_, flows)| flows.granted > 0), "{:?}", member.facts().flows);
    member.follow.send(vec![member.limits[1].clone()]).unwrap();
    eventually("one is gone", || (member.facts().flows.len() == 1).then_some(()));
}

#[test]
fn a_refused_abuser_costs_redis_nothing() {
    let redis = Redis::start();
    let spec = spec(|s| (s.tokens, s.per_us, s.burst) = (1, 3_600_000_000, 1));
    let member = Member::join(&at(&redis), &[("fair", spec)]);
    member.wait_up();
    drive_for(&[&member], 0, 1000, 1, 500);
    let (before, start) = (redis.calls("evalsha"), Instant::now());
    let asked = drive_for(&[&member], 0, 20_000, 1, 1000);
    let calls = redis.calls("evalsha") - before;
    assert!(asked.len() > 10_000 && asked.iter().all(|a| !a.passed), "{} of {}", asked.len(), asked.len());
    assert!((calls as f64) < start.elapsed().as_secs_f64() * 27.0, "{calls} calls are more than heartbeats");
}

#[test]
fn a_gateway_says_what_its_redis_is_up_to() {
    let redis = Redis::start();
    let gateway = Setup::new()
        .top(&format!("rate_limits: {{ redis: {{ url: '{}' }} }}", redis.url()))
        .top("filters: { fair: { rate_limit: { rate: 100/s } }, own: { rate_limit: { rate: 5/s, shared: false } } }")
        .route("match: { path: /x }, filters: [fair], respond: {}")
        .start();
    let ready = || gateway::get(gateway.admin, "/readyz").unwrap();
    let state = |state: &str| eventually(state, || (ready().json()["redis"]["state"] == state).then(ready));
    let up = state("up").json();
    assert_eq!((&up["redis"]["processes"], &up["redis"]["cause"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(gateway.get("/x").status, 200);
    eventually("Redis was asked", || {
        (gateway.metrics().sum("ringway_redis_questions_total", &[]) >= 1.0).then_some(())
    });
    let metrics = gateway.metrics();
    assert_eq!((metrics.sum("ringway_redis_up", &[]), metrics.sum("ringway_redis_processes", &[])), (1.0, 1.0));
    assert!(metrics.has("ringway_redis_answer_seconds_count") && metrics.has("ringway_redis_lost_total"));
    assert_eq!(metrics.find("ringway_limit_overflow_total", &[("filter", "own")]).len(), 1);
    assert!(metrics.sum("ringway_limit_tokens_total", &[("filter", "fair"), ("flow", "charged")]) >= 1.0);
    redis.kill();
    let away = state("away");
    assert_eq!(away.status, 200, "it serves all the same");
    assert!(away.json()["redis"]["cause"].as_str().unwrap().contains("refused"), "{}", away.json());
    eventually("the gauge follows", || (gateway.metrics().sum("ringway_redis_up", &[]) == 0.0).then_some(()));
    redis.start_again();
    state("up");
    assert!(gateway.metrics().sum("ringway_redis_reconnects_total", &[]) >= 1.0);
    // Once it has answered for a second.
    let said = eventually("it is said", || Some(gateway.process.output()).filter(|said| said.contains(" is back ")));
    let place = format!("ringway: rate limits: Redis at 127.0.0.1:{} is ", redis.port);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with(&place)).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("away: ") && lines[1].contains("back after "), "{lines:?}");
}

#[test]
fn who_was_heard_of_in_the_future_does_not_count() {
    let redis = Redis::start();
    // As if Redis' clock had been set back by an hour since.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let later = (now + Duration::from_secs(3600)).as_micros().to_string();
    redis.command(&["ZADD", "ringway:processes", &later, "0123456789abcdef"]);
    let member = Member::join(&at(&redis), &[("fair", spec(|_| ()))]);
    eventually("it is alone", || (member.facts().is_up && member.facts().processes == 1).then_some(()));
    assert_eq!(redis.command(&["ZCARD", "ringway:processes"]), Reply::Number(1));
}

#[test]
fn a_gateway_that_ends_in_order_signs_off() {
    let redis = Redis::start();
    let start = || {
        Setup::new()
            .top(&format!("rate_limits: {{ redis: {{ url: '{}' }} }}", redis.url()))
            .top("filters: { fair: { rate_limit: { rate: 100/s } } }")
            .route("match: { path: /x }, filters: [fair], respond: {}")
            .start()
    };
    let (first, mut second) = (start(), start());
    let count = || redis.command(&["ZCARD", "ringway:processes"]);
    eventually("both count", || (count() == Reply::Number(2)).then_some(()));
    second.term();
    assert!(second.wait_exit().success());
    assert_eq!(count(), Reply::Number(1), "it is signed off when it has ended");
    // Not at any price.
    redis.freeze();
    let mut first = first;
    let begun = Instant::now();
    first.term();
    assert!(first.wait_exit().success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    redis.thaw();
}

#[test]
fn a_redis_that_is_away_does_not_keep_a_gateway_from_starting() {
    let start = Instant::now();
    let gateway = Setup::new()
        .top(&format!("rate_limits: {{ redis: {{ url: 'redis://:s3cret@127.0.0.1:{}' }} }}", free_port()))
        .top("filters: { fair: { rate_limit: { rate: 100/s } } }")
        .route("match: { path: /x }, filters: [fair], respond: {}")
        .start();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(gateway.get("/x").status, 200);
    eventually("it is said", || gateway.process.output().contains(" is away: ").then_some(()));
    assert!(!gateway.process.output().contains("s3cret"));
}
