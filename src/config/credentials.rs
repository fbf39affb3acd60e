//! Files of credentials that filters use: read with the config, and read again when they change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Config;
use super::filters::Filter;
use super::filters::api_key::{self, read_keys};
use super::filters::basic::read_users;
use crate::filter::api_key::Keys;
use crate::filter::basic::Users;
use crate::shared::Rules;

/// What the files say, by their path.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Of `api_key` filters.
    pub keys: BTreeMap<PathBuf, Rules<Keys>>,
    /// Of `basic` filters.
    pub users: BTreeMap<PathBuf, Rules<Users>>,
}

impl Credentials {
    /// Reads the files of a config. What can not be read stays as it was; what is wrong with it is told, a line each.
    pub fn read(&mut self, config: &Config) -> Vec<String> {
        let mut faults = Vec::new();
        let before = std::mem::take(self);
        for path in key_files(config) {
            match read_keys(path) {
                Ok(keys) => drop(self.keys.insert(path.clone(), Rules::new(keys))),
                Err(errors) => {
                    faults.extend(errors.iter().map(ToString::to_string));
                    self.keys.extend(before.keys.get(path).map(|keys| (path.clone(), keys.clone())));
                }
            }
        }
        for path in user_files(config) {
            match read_users(path) {
                Ok(users) => drop(self.users.insert(path.clone(), Rules::new(users))),
                Err(errors) => {
                    faults.extend(errors.iter().map(ToString::to_string));
                    self.users.extend(before.users.get(path).map(|users| (path.clone(), users.clone())));
                }
            }
        }
        faults
    }

    /// The files that a config names.
    #[must_use]
    pub fn paths(config: &Config) -> Vec<PathBuf> {
        key_files(config).chain(user_files(config)).cloned().collect()
    }
}

fn key_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.filters.iter().filter_map(|named| match &named.filter {
        Filter::ApiKey(api_key::ApiKey { source: api_key::Source::File(path), .. }) => Some(path),
        _ => None,
    })
}

fn user_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.filters.iter().filter_map(|named| match &named.filter {
        Filter::Basic(basic) => Some(&basic.file),
        _ => None,
    })
}
