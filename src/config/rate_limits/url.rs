//! `rate_limits.redis.url`. Errors never show the URL: there may be a password in it.

use super::super::hosts::{self, Address};
use super::super::report::{did_you_mean, quote};
use super::{Layout, Login};
use crate::value::{Invalid, Secret};

const SCHEMES: [(&str, Kind, bool); 6] = [
    ("redis", Kind::Single, false),
    ("rediss", Kind::Single, true),
    ("redis+sentinel", Kind::Sentinel, false),
    ("rediss+sentinel", Kind::Sentinel, true),
    ("redis+cluster", Kind::Cluster, false),
    ("rediss+cluster", Kind::Cluster, true),
];
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// More is a mistake: each is tried in turn.
const ADDRESSES_MAX: usize = 64;
/// Redis' own limit of `databases` is a number of 31 bits.
const DB_MAX: u32 = 0x7fff_ffff;
const ENCODE: &str = "in user and password, write signs such as @ : / ? # % as %40 %3A %2F %3F %23 %25";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

/// What a URL says.
#[derive(Debug)]
pub(super) struct Url {
    pub(super) over_tls: bool,
    pub(super) addresses: Vec<Address>,
    pub(super) layout: Layout,
    pub(super) login: Login,
    pub(super) db: u32,
}

/// Reads `redis://[[user]:password@]host[:port][/db]` and its relatives.
///
/// # Errors
/// A predicate about the URL.
pub(super) fn read(text: &str) -> Result<Url, Invalid> {
    let (kind, over_tls, rest) = scheme(text)?;
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new("has a space or a control character in it", "remove it, or write it as %20"));
    }
    if rest.contains('#') {
        return Err(Invalid::new("has a `#` in it", ENCODE));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, _)) if user_info.contains('@') => {
            return Err(Invalid::new("has a second `@` before its host", ENCODE));
        }
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    let login = user_info.map_or(Ok(Login::default()), login)?;
    let port = if kind == Kind::Sentinel { SENTINEL_PORT } else { PORT };
    let addresses: Vec<Address> = hosts.split(',').map(|host| address(host, port)).collect::<Result<_, _>>()?;
    if addresses.len() > ADDRESSES_MAX {
        return Err(Invalid::new("has too many hosts", format!("at most {ADDRESSES_MAX}")));
    }
    let sentinel_login = sentinel_login(query, kind)?;
    let (layout, db) = match kind {
        Kind::Single if addresses.len() > 1 => {
            return Err(Invalid::new("has several hosts", "write redis+sentinel or redis+cluster, or one host"));
        }
        Kind::Single => (Layout::Single, db(path)?),
        Kind::Cluster if !matches!(path, "" | "0") => {
            return Err(Invalid::new("names a database", "a Redis Cluster has none but 0: remove it"));
        }
        Kind::Cluster => (Layout::Cluster, 0),
        Kind::Sentinel => {
            let (master, number) = path.split_once('/').unwrap_or((path, ""));
            let master = decode(master)?;
            // What sentinel.conf allows for it.
            let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if master.is_empty() || !master.chars().all(is_fine) {
                let remedy = "write it after the hosts, like redis+sentinel://10.0.0.5:26379/mymaster";
                return Err(Invalid::new("does not say what the sentinels call their master", remedy));
            }
            (Layout::Sentinel { master, login: sentinel_login }, db(number)?)
        }
    };
    Ok(Url { over_tls, addresses, layout, login, db })
}

fn scheme(text: &str) -> Result<(Kind, bool, &str), Invalid> {
    let names = || SCHEMES.iter().map(|(name, ..)| *name);
    let known = || format!("write one of {}, like redis://10.0.0.5:6379", names().collect::<Vec<_>>().join(", "));
    let Some((scheme, rest)) = text.split_once("://") else { return Err(Invalid::new("has no scheme", known())) };
    if let Some((_, kind, over_tls)) = SCHEMES.iter().find(|(name, ..)| *name == scheme) {
        return Ok((*kind, *over_tls, rest));
    }
    // A text that is no scheme may be anything, a password too.
    let is_scheme = scheme.len() <= 20 && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'+');
    if !is_scheme {
        return Err(Invalid::new("has no scheme that is known here", known()));
    }
    let remedy = did_you_mean(scheme, names()).unwrap_or_else(known);
    Err(Invalid::new(format!("has the scheme {}, which is not known here", quote(scheme)), remedy))
}

fn login(text: &str) -> Result<Login, Invalid> {
    let Some((user, password)) = text.split_once(':') else {
        return Err(Invalid::new(
            "has a user without a password",
            "write user:password@, or :password@ without a user",
        ));
    };
    if password.contains(':') {
        return Err(Invalid::new("has a second `:` before its host", ENCODE));
    }
    // `:${REDIS_PASSWORD:-}@` is how one config serves a Redis with a password and one without.
    if user.is_empty() && password.is_empty() {
        return Ok(Login::default());
    }
    if password.is_empty() {
        return Err(Invalid::new(
            "has a user with an empty password",
            "is its variable set? Or remove the part up to @",
        ));
    }
    let user = decode(user)?;
    let user = if user.is_empty() { None } else { Some(user) };
    Ok(Login { user, password: Some(Secret::new(decode(password)?)) })
}

/// `sentinel_user` and `sentinel_password`: sentinels know no user of Redis'.
fn sentinel_login(query: &str, kind: Kind) -> Result<Login, Invalid> {
    let mut login = Login::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "sentinel_user" if kind == Kind::Sentinel => login.user = Some(decode(value)?),
            "sentinel_password" if kind == Kind::Sentinel => login.password = Some(Secret::new(decode(value)?)),
            _ => {
                let remedy = "only those of sentinels can be there: ?sentinel_user=…&sentinel_password=…";
                return Err(Invalid::new("has parameters that are not known here", format!("{remedy}; {ENCODE}")));
            }
        }
    }
    if login.user.is_some() && login.password.is_none() {
        return Err(Invalid::new("has a sentinel_user without a password", "add sentinel_password"));
    }
    Ok(login)
}

fn address(text: &str, port: u16) -> Result<Address, Invalid> {
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let whole = if has_port { text.to_owned() } else { format!("{text}:{port}") };
    // Its own message would show the text, which is a password's end if that has a `/` or `@` in it.
    let wrong = |_| {
        Invalid::new("has a host or a port that is none", format!("write host:port, like 10.0.0.5:{port}; {ENCODE}"))
    };
    hosts::address(&whole).map_err(wrong)
}

fn db(text: &str) -> Result<u32, Invalid> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match (text, text.parse()) {
        ("", _) => Ok(0),
        (_, Ok(db)) if is_number && db <= DB_MAX => Ok(db),
        _ => Err(Invalid::new("has a database that is no number", format!("write it like /0 at the end; {ENCODE}"))),
    }
}

/// Percent-encoding (RFC 3986 section 2.1).
fn decode(text: &str) -> Result<String, Invalid> {
    let wrong = || Invalid::new("has a `%` in it that is not followed by two hex digits", ENCODE);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| Invalid::new("has something percent-encoded that is no UTF-8", ENCODE))
}
