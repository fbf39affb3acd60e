//! A bell at control's door: a core rings it and goes on, however often; control hears it once.

use async_channel::{Receiver, Sender};

/// A core's side. One that nobody hears, such as the default, does nothing.
#[derive(Clone, Debug, Default)]
pub struct Doorbell(Option<Sender<()>>);

impl Doorbell {
    /// A bell, and where it is heard.
    #[must_use]
    pub fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = async_channel::bounded(1);
        (Self(Some(sender)), receiver)
    }

    /// Rings. Never waits: a bell that rings already goes on ringing.
    pub fn ring(&self) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(()); // full: it rings already
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rings_are_heard_once() {
        let (bell, heard) = Doorbell::new();
        (0..1000).for_each(|_| bell.ring());
        assert!(heard.try_recv().is_ok() && heard.try_recv().is_err());
        bell.ring();
        assert!(heard.try_recv().is_ok());
        drop(heard);
        bell.ring();
        Doorbell::default().ring();
    }
}
