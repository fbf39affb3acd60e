//! The routes of one host level: a path tree for each priority, the higher ones asked first.

use super::params::Params;
use super::path::{Search, Tree};

/// Priorities that the routes of one host level may have: each is a walk of its own for every request.
pub(super) const PRIORITIES_MAX: usize = 32;

/// See the [module](self). Most configs have no priorities, and then there is one tree.
#[derive(Default)]
pub(super) struct Level {
    /// Of priority 0.
    plain: Tree,
    /// The others, from the highest.
    others: Vec<(i32, Tree)>,
}

impl Level {
    /// The route for what `search` looks for, and its parameters.
    #[inline]
    pub(super) fn find(&self, search: &mut Search<'_>) -> Option<(u32, Params)> {
        if self.others.is_empty() { self.plain.find(search) } else { self.find_by_priority(search) }
    }

    fn find_by_priority(&self, search: &mut Search<'_>) -> Option<(u32, Params)> {
        self.trees().find_map(|tree| tree.find(search))
    }

    /// All trees, in the order in which they are asked.
    pub(super) fn trees(&self) -> impl Iterator<Item = &Tree> {
        let (above, below) = self.others.split_at(self.others.partition_point(|(priority, _)| *priority > 0));
        above.iter().map(|(_, tree)| tree).chain([&self.plain]).chain(below.iter().map(|(_, tree)| tree))
    }

    /// The tree of a priority; `None`: there would be more than [`PRIORITIES_MAX`].
    pub(super) fn tree(&mut self, priority: i32) -> Option<&mut Tree> {
        if priority == 0 {
            return Some(&mut self.plain);
        }
        let at = match self.others.binary_search_by(|(other, _)| priority.cmp(other)) {
            Ok(at) => at,
            Err(_) if self.others.len() == PRIORITIES_MAX => return None,
            Err(at) => {
                self.others.insert(at, (priority, Tree::default()));
                at
            }
        };
        self.others.get_mut(at).map(|(_, tree)| tree)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_is_a_bound_to_priorities() {
        let mut level = Level::default();
        for priority in 1..=i32::try_from(PRIORITIES_MAX).unwrap() {
            assert!(level.tree(-priority).is_some());
        }
        assert!(level.tree(5).is_none());
        assert!(level.tree(0).is_some() && level.tree(-3).is_some());
        assert!(level.others.is_sorted_by(|(a, _), (b, _)| a > b));
    }
}
