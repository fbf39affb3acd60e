//! What a part's answer becomes.

use super::path::Path;

/// Which members are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    #[default]
    All,
    /// Those at these paths, with all that is in them.
    Allow(Vec<Path>),
    /// All but those at these paths.
    Deny(Vec<Path>),
}

/// A filter, then new keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    filter: Filter,
    rename: Vec<(Path, String)>,
}

impl Edit {
    /// An edit.
    pub fn new(filter: Filter, rename: Vec<(Path, String)>) -> Self {
        Self { filter, rename }
    }

    /// Values come out as they went in.
    pub fn is_nothing(&self) -> bool {
        self.filter == Filter::All && self.rename.is_empty()
    }

    /// Appends the edited value.
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }
}
