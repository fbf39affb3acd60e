//! Encoders of answers: how many run, and those that can be used again.

use std::cell::{Cell, RefCell};

use crate::coding::Coding;
use crate::coding::encoder::{Broken, Encoder, Op, Step};

/// Idle ones that are kept. To set one up costs about as much as to compress 4 KiB; each holds up to 1.2 MiB.
const KEPT_MAX: usize = 8;

/// A core's encoders.
#[derive(Default)]
pub struct Encoders {
    running: Cell<usize>,
    kept: RefCell<Vec<((Coding, u8), Encoder)>>,
}

/// An encoder for one body; it counts as running until it is dropped.
pub struct Running<'a> {
    encoder: Option<Encoder>,
    choice: (Coding, u8),
    pool: &'a Encoders,
}

impl Encoders {
    /// An encoder of this coding and level, unless `running_max` of any kind run on this core.
    pub fn take(&self, choice: (Coding, u8), running_max: usize) -> Option<Running<'_>> {
        if self.running.get() >= running_max {
            return None;
        }
        let kept = {
            let mut kept = self.kept.borrow_mut();
            let place = kept.iter().rposition(|(own, _)| *own == choice);
            place.map(|place| kept.remove(place).1)
        };
        let encoder = kept.or_else(|| Encoder::new(choice.0, choice.1))?;
        self.running.set(self.running.get() + 1);
        Some(Running { encoder: Some(encoder), choice, pool: self })
    }
}

impl Running<'_> {
    /// Its coding.
    #[must_use]
    pub fn coding(&self) -> Coding {
        self.choice.0
    }

    /// See [`Encoder::step`].
    ///
    /// # Errors
    /// [`Broken`].
    pub fn step(&mut self, input: &[u8], out: &mut [u8], op: Op) -> Result<Step, Broken> {
        self.encoder.as_mut().ok_or(Broken)?.step(input, out, op)
    }

    /// Keeps it for another body. One that is dropped without that, within a body or after a fault, is thrown away.
    pub fn give_back(mut self) {
        let Some(mut encoder) = self.encoder.take() else { return };
        if encoder.reset() {
            let mut kept = self.pool.kept.borrow_mut();
            if kept.len() == KEPT_MAX {
                kept.remove(0); // the one that was not asked for longest
            }
            kept.push((self.choice, encoder));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.pool.running.set(self.pool.running.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_run_and_so_many_are_kept() {
        let pool = Encoders::default();
        let gzip = (Coding::Gzip, 1);
        let (a, b) = (pool.take(gzip, 2).unwrap(), pool.take((Coding::Brotli, 1), 2).unwrap());
        assert!(pool.take(gzip, 2).is_none(), "all kinds count");
        drop(a);
        b.give_back();
        assert_eq!((pool.running.get(), pool.kept.borrow().len()), (0, 0), "neither can be used again");
        let many: Vec<_> = (0..20).filter_map(|_| pool.take(gzip, 100)).collect();
        assert_eq!(pool.running.get(), 20);
        many.into_iter().for_each(Running::give_back);
        assert_eq!((pool.running.get(), pool.kept.borrow().len()), (0, KEPT_MAX));
        let mut again = pool.take(gzip, 1).unwrap();
        assert_eq!(pool.kept.borrow().len(), KEPT_MAX - 1);
        let mut out = [0; 64];
        assert!(again.step(b"a", &mut out, Op::Finish).unwrap().done);
        assert!(pool.take((Coding::Gzip, 2), 2).is_some() && pool.kept.borrow().len() == KEPT_MAX - 1, "by level");
    }
}
