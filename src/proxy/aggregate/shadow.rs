//! Shadow parts: asked beside a request and forgotten. They never delay it, never change its answer, and end by themselves.

use std::rc::Rc;

use crate::end::PartReason;

use super::call::{self, Order, plan_of};

/// Shadow calls of one worker at a time; more than these are not sent, since nobody may wait for them.
const SHADOWS_MAX: usize = 256;

/// Sends a shadow's request, and reads and drops the answer.
pub fn send(order: Order) {
    let core = Rc::clone(&order.plane.core);
    if core.shadows.get() >= SHADOWS_MAX {
        if let Some((_, part)) = plan_of(&order.live, order.route, order.part) {
            part.metrics.failed.add(PartReason::Cancelled.index(), 1);
        }
        return;
    }
    core.shadows.set(core.shadows.get() + 1);
    let running = Counted(Rc::clone(&core));
    let on_panic = move || core.metrics.panics.add(1);
    crate::io::spawn(
        async move {
            let (live, route, part) = (Rc::clone(&order.live), order.route, order.part);
            let core = Rc::clone(&order.plane.core);
            let from_us = core.clock.now_us();
            let result = Box::pin(call::call(order)).await;
            if let Some((_, part)) = plan_of(&live, route, part) {
                part.metrics
                    .ended(result.err().map(|failed| failed.reason), core.clock.now_us().saturating_sub(from_us));
            }
            drop(running);
        },
        on_panic,
    );
}

struct Counted(Rc<crate::core::Core>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shadows.set(self.0.shadows.get().saturating_sub(1));
    }
}
