//! `basic`: a file of names and hashes of passwords, as `htpasswd -B` makes it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::decode::{Keys, Value, check_name};
use super::super::read_named;
use super::super::report::{Errors, Position, Report, quote};
use super::api_key::{absolute, principal_header};
use crate::filter::basic::Users;
use crate::shared::passwords::Hash;
use crate::value::{Duration, Invalid};

pub(in crate::config) const KEYS: Keys =
    Keys { known: &["file", "realm", "forward", "principal_header", "cache"], later: &[] };

const REALM_BYTES_MAX: usize = 128;

/// `basic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    /// Names and hashes.
    pub file: PathBuf,
    /// What a client is told that it needs a password for.
    pub realm: String,
    /// Whether the upstream gets name and password too.
    pub forward: bool,
    /// The field by which the upstream is told who calls.
    pub principal_header: Option<String>,
    /// How long a password that was right is taken for right.
    pub cache: Duration,
}

pub(super) fn decode(value: &Value<'_>) -> Option<Basic> {
    let block = value.block(&KEYS)?;
    let file = block.required("file").and_then(user_file);
    let principal_header = principal_header(&block);
    Some(Basic {
        realm: block.or("realm", "restricted".to_owned(), |v| v.parse(realm)),
        forward: block.or("forward", false, Value::boolean),
        cache: block
            .or("cache", Duration::from_secs(60), |v| v.duration(Duration::from_secs(1)..=Duration::from_secs(600))),
        principal_header: principal_header?,
        file: file?,
    })
}

/// A quoted string without anything that would need an escape (RFC 9110 11.5).
fn realm(text: &str) -> Result<String, Invalid> {
    let plain = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte);
    match !text.is_empty() && text.len() <= REALM_BYTES_MAX && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("is not a realm", "1 to 128 ASCII characters but `\"` and `\\`")),
    }
}

fn user_file(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.parse(absolute)?;
    match read_users(&path) {
        Ok(_) => Some(path),
        Err(errors) => {
            errors.iter().for_each(|error| value.error(error.to_string(), ""));
            None
        }
    }
}

/// Reads a file of users: lines `name:hash`, empty ones, and comments that begin with `#`.
///
/// # Errors
/// Everything that is wrong with it; hashes are never quoted.
pub fn read_users(path: &Path) -> Result<Users, Errors> {
    let report = Report::new(&path.display().to_string());
    let whole = Position::default();
    let text = match read_named(path) {
        Ok(text) => text,
        Err(fault) => {
            report.error(&whole, fault.what, fault.remedy);
            return report.finish(None);
        }
    };
    let mut users = Vec::new();
    let mut names = HashSet::new();
    for (line, number) in text.lines().zip(1..) {
        let at = Position { line: number, column: 1, key_path: String::new() };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, hash)) = line.split_once(':') else {
            report.error(&at, "is no user", "write name:hash");
            continue;
        };
        if let Err(fault) = check_name(name) {
            report.error(&at, format!("the user's name {}", fault.what), fault.remedy);
        } else if !names.insert(name) {
            report.error(&at, format!("the user {} is there before", quote(name)), "remove one");
        } else {
            match Hash::parse(hash) {
                Ok(hash) => users.push((name.to_owned(), hash)),
                Err(fault) => report.error(&at, format!("the user {} {}", quote(name), fault.what), fault.remedy),
            }
        }
    }
    // One that is empty may be half written; a comment says that there is to be nobody.
    if text.trim().is_empty() {
        report.error(&whole, "has no user", "add one: `htpasswd -B FILE NAME`; or a comment, and nobody may call");
    }
    report.finish(Some(Users::new(users)))
}
