//! Where Redis is: at its address, where the sentinels say, or on each master of a cluster. Connecting ends with
//! everything that a question needs: who the gateway is, the database, the scripts.
//!
//! **Sentinels** are asked anew at each connect, the one that answered last first; what they name must call itself a master.
//!
//! **A Redis Cluster** has a bucket's key on one of its masters. All of them have to be connected: a gateway that knew only
//! some could not tell a key that is quiet from one whose master is away, and `on_unavailable` is for all keys of a limit.
//! A key that has moved costs one question; then the map is read again.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fault::Fault;
use super::link::{Link, Request};
use super::questions::Author;
use super::slots::{Map, host_and_port};
use crate::config::hosts::Address;
use crate::config::rate_limits::{Layout, Login, Redis};

/// One Redis, its TLS handshake and its first answers.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// All of it: a few sentinels or seeds that do not answer.
const CONNECT_ALL_MAX: Duration = Duration::from_secs(5);
/// A sentinel: the next one may answer.
const SENTINEL_MAX: Duration = Duration::from_millis(300);

/// Everything that is connected.
#[derive(Debug)]
pub(super) struct Connected {
    /// A link is away while it is being asked.
    pub(super) links: Vec<Option<Link>>,
    /// Of a cluster.
    map: Option<Map>,
}

impl Connected {
    /// Which link leads to this key.
    pub(super) fn link_of(&self, key: &str) -> usize {
        self.map.as_ref().map_or(0, |map| map.master_of(key))
    }

    /// Whether a call may be about one key only.
    pub(super) fn is_spread(&self) -> bool {
        self.map.is_some()
    }
}

/// How to get there.
#[derive(Debug)]
pub(super) struct Place {
    redis: Redis,
    /// Where to begin: the sentinel, or seed of a cluster, that answered last.
    first: usize,
}

impl Place {
    pub(super) fn new(redis: Redis) -> Self {
        Self { redis, first: 0 }
    }

    /// Connects. Never takes longer than 5 s.
    pub(super) async fn connect(
        &mut self,
        tls: Option<Arc<ClientConfig>>,
        author: &Author,
    ) -> Result<Connected, Fault> {
        let connecting = self.connect_all(tls, author);
        timeout(CONNECT_ALL_MAX, connecting).await.unwrap_or(Err(Fault::Silent("it can not be connected within 5 s")))
    }

    async fn connect_all(&mut self, tls: Option<Arc<ClientConfig>>, author: &Author) -> Result<Connected, Fault> {
        let n = self.redis.addresses.len();
        let mut last = Fault::Broken("it has no address".into());
        for i in (0..n).map(|i| (self.first + i) % n) {
            let Some(address) = self.redis.addresses.get(i).cloned() else { continue };
            let connected = match &self.redis.layout {
                Layout::Single => self.single(&address, tls.as_ref(), author).await,
                Layout::Sentinel { master, login } => {
                    match timeout(SENTINEL_MAX, ask_sentinel(&address, tls.as_ref(), master, login)).await {
                        Ok(Ok(found)) => self.master(&found, tls.as_ref(), author).await,
                        Ok(Err(fault)) => Err(of(&address, &fault)),
                        Err(_) => Err(of(&address, &Fault::Silent("no answer within 300 ms"))),
                    }
                }
                Layout::Cluster => self.masters(&address, tls.as_ref(), author).await,
            };
            match connected {
                Ok(connected) => {
                    self.first = i;
                    return Ok(connected);
                }
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn single(&self, at: &Address, tls: Option<&Arc<ClientConfig>>, author: &Author) -> Result<Connected, Fault> {
        let (link, _) = open(at, tls, self.hello(author, None), author).await?;
        Ok(Connected { links: vec![Some(link)], map: None })
    }

    async fn master(&self, at: &Address, tls: Option<&Arc<ClientConfig>>, author: &Author) -> Result<Connected, Fault> {
        let opened = open(at, tls, self.hello(author, Some(&["ROLE"])), author).await;
        let (link, role) = opened.map_err(|fault| of(at, &fault))?;
        let is_master = match role {
            Some(Value::Array(words)) => matches!(words.first(), Some(Value::BulkString(word)) if word == b"master"),
            _ => false,
        };
        if !is_master {
            return Err(of(at, &Fault::Broken("the sentinels call it their master, it does not".into())));
        }
        Ok(Connected { links: vec![Some(link)], map: None })
    }

    async fn masters(
        &self,
        at: &Address,
        tls: Option<&Arc<ClientConfig>>,
        author: &Author,
    ) -> Result<Connected, Fault> {
        let opened = open(at, tls, self.hello(author, Some(&["CLUSTER", "SLOTS"])), author).await;
        let (seed, reply) = opened.map_err(|fault| of(at, &fault))?;
        let map = Map::read(&reply.unwrap_or_default(), seed.address())?;
        let mut opening = JoinSet::new();
        for (i, master) in map.masters.iter().cloned().enumerate() {
            let (tls, hello) = (tls.cloned(), self.hello(author, None));
            let opened =
                async move { (i, hello_to(&master, tls.as_ref(), hello).await.map_err(|fault| of(&master, &fault))) };
            opening.spawn(opened);
        }
        let mut links: Vec<Option<Link>> = map.masters.iter().map(|_| None).collect();
        while let Some(opened) = opening.join_next().await {
            let (i, opened) = opened.map_err(|e| Fault::Broken(e.to_string()))?;
            let (link, replies) = opened?;
            author.check_loaded(replies.get(replies.len().saturating_sub(2)..).unwrap_or_default())?;
            if let Some(place) = links.get_mut(i) {
                *place = Some(link);
            }
        }
        Ok(Connected { links, map: Some(map) })
    }

    /// What a connection begins with: the scripts come last, `extra` before them.
    fn hello(&self, author: &Author, extra: Option<&[&str]>) -> Request {
        let mut hello = Request::default();
        hello.log_in(&self.redis.login);
        if self.redis.db != 0 {
            hello.add(&["SELECT", &self.redis.db.to_string()]);
        }
        if let Some(extra) = extra {
            hello.add(extra);
        }
        author.load_scripts(&mut hello);
        hello
    }
}

/// A link whose scripts are there, and the reply before theirs.
async fn open(
    at: &Address,
    tls: Option<&Arc<ClientConfig>>,
    hello: Request,
    author: &Author,
) -> Result<(Link, Option<Value>), Fault> {
    let (link, mut replies) = hello_to(at, tls, hello).await?;
    let scripts = replies.split_off(replies.len().saturating_sub(2));
    author.check_loaded(&scripts)?;
    Ok((link, replies.pop()))
}

async fn hello_to(at: &Address, tls: Option<&Arc<ClientConfig>>, hello: Request) -> Result<(Link, Vec<Value>), Fault> {
    let greeting = async {
        let mut link = Link::dial(at, tls).await?;
        let replies = link.demand(&hello).await?;
        Ok((link, replies))
    };
    timeout(CONNECT_MAX, greeting).await.unwrap_or(Err(Fault::Silent("no answer within 1 s")))
}

/// Where a sentinel says that the master is.
async fn ask_sentinel(
    at: &Address,
    tls: Option<&Arc<ClientConfig>>,
    master: &str,
    login: &Login,
) -> Result<Address, Fault> {
    let mut link = Link::dial(at, tls).await?;
    let mut request = Request::default();
    request.log_in(login);
    request.add(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", master]);
    let words = match link.demand(&request).await?.pop() {
        Some(Value::Array(words)) => words,
        Some(Value::Nil) => return Err(Fault::Broken(format!("this sentinel knows no master {master}"))),
        _ => return Err(Fault::nonsense("what is no address")),
    };
    let text = |word: &Value| match word {
        Value::BulkString(text) => String::from_utf8(text.clone()).ok(),
        _ => None,
    };
    let [host, port] = words.as_slice() else { return Err(Fault::nonsense("what is no address")) };
    let port = text(port).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let found = text(host).zip(port).and_then(|(host, port)| host_and_port(&host, port));
    found.ok_or_else(|| Fault::nonsense("what is no address"))
}

/// A fault of one of several.
fn of(at: &Address, fault: &Fault) -> Fault {
    Fault::Broken(format!("{at}: {fault}"))
}
