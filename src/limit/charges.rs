//! Tokens that limits took for one request, in case that a later one refuses it and they are given back: to the buckets that
//! they came from, though filters between the two may have made out who calls.

/// By the index of the filter, with the key of that time. Its memory is reused.
#[derive(Debug, Default)]
pub struct Charges {
    keys: Vec<u8>,
    /// The filter's index, and where its key ends.
    ends: Vec<(usize, usize)>,
}

impl Charges {
    /// There are none.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
    }

    /// The limit with this index took its tokens of the bucket of this key.
    #[inline]
    pub fn add(&mut self, index: usize, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.ends.push((index, self.keys.len()));
    }

    /// What was taken: by the index of the filter, with the key.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let from = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(from).map(|((index, end), from)| (*index, self.keys.get(from..*end).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_key() {
        let mut charges = Charges::default();
        for (index, key) in [(2, b"ab".as_slice()), (3, b""), (7, b"c")] {
            charges.add(index, key);
        }
        assert!(charges.iter().eq([(2, b"ab".as_slice()), (3, b""), (7, b"c")]));
        charges.clear();
        assert_eq!(charges.iter().count(), 0);
    }
}
