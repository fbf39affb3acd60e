//! What a pattern's parameters matched: spans into the path of the request, in the order of the pattern.

use super::pattern::PARAMS_MAX;

/// The matched parameters as offsets into the path: no lifetime and no allocation, so that a request can keep them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    spans: [(u16, u16); PARAMS_MAX],
    len: u8,
}

impl Params {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `i`-th parameter, read from the same path that was given to [`Router::find`](super::Router::find); empty
    /// where there is none.
    pub fn get<'p>(&self, i: usize, path: &'p str) -> &'p str {
        let Some(&(start, len)) = self.spans.get(..self.len()).and_then(|spans| spans.get(i)) else { return "" };
        let start = usize::from(start);
        path.get(start..start + usize::from(len)).unwrap_or_default()
    }

    /// Adds `path[start..end]`. Patterns have at most as many parameters as there is room for.
    #[inline]
    pub(super) fn push(&mut self, start: usize, end: usize) {
        let span = (u16::try_from(start), u16::try_from(end - start));
        if let (Some(room), (Ok(start), Ok(len))) = (self.spans.get_mut(usize::from(self.len)), span) {
            *room = (start, len);
            self.len += 1;
        }
    }

    /// Takes back all but the first `len`.
    #[inline]
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = u8::try_from(len).map_or(self.len, |len| self.len.min(len));
    }
}
