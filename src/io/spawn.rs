//! Tasks that can not take their worker down: a panic ends one connection.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project_lite::pin_project! {
    struct CatchUnwind<F, P> {
        #[pin]
        future: F,
        on_panic: Option<P>,
    }
}

impl<F: Future<Output = ()>, P: FnOnce()> Future for CatchUnwind<F, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        super::turn::begin();
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                if let Some(on_panic) = this.on_panic.take() {
                    on_panic();
                }
                Poll::Ready(()) // the task ends here, and drops what it owned: its connection closes
            }
        }
    }
}

/// Starts a task on this core. If it panics, it alone ends, and `on_panic` is called to count it.
pub fn spawn(future: impl Future<Output = ()> + 'static, on_panic: impl FnOnce() + 'static) {
    drop(monoio::spawn(CatchUnwind { future, on_panic: Some(on_panic) }));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_panic_ends_the_task_only_and_is_counted() {
        let panics = Rc::new(Cell::new(0));
        let count = Rc::clone(&panics);
        let mut task = std::pin::pin!(CatchUnwind {
            future: async { std::panic::resume_unwind(Box::new("one connection")) },
            on_panic: Some(move || count.set(count.get() + 1)),
        });
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(panics.get(), 1);
    }
}
