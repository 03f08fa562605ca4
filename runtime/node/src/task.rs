//! Tasks of a node's thread, of which none fails alone.
//!
//! - upon a panic in a task: the node's state may be half changed. Nothing more is put into it, and the node stops and
//!   says why. Left to itself the runtime would swallow the panic, and what remains would look like a node.
//!
//! Deliberately absent: any other way to start a task; `clippy.toml` bans the runtime's own.

use std::any::Any;
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;

use tokio::sync::Notify;

/// Why the node must stop, once it must.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    reason: RefCell<Option<String>>,
    raised: Notify,
}

impl Alarm {
    /// The node must stop. The first reason is the one that is told.
    pub(crate) fn raise(&self, reason: String) {
        self.reason.borrow_mut().get_or_insert(reason);
        self.raised.notify_one();
    }

    /// True once the node must stop: its state is no longer to be touched.
    pub(crate) fn is_raised(&self) -> bool {
        self.reason.borrow().is_some()
    }

    /// Waits until the node must stop, and tells why.
    pub(crate) async fn reason(&self) -> String {
        loop {
            if let Some(reason) = &*self.reason.borrow() {
                return reason.clone();
            }
            self.raised.notified().await;
        }
    }
}

/// Starts a task on the node's thread.
#[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
pub(crate) fn spawn(alarm: &Rc<Alarm>, task: impl Future<Output = ()> + 'static) {
    let alarm = Rc::clone(alarm);
    tokio::task::spawn_local(async move {
        let mut task = pin!(task);
        let ended = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
            polled.map_or_else(|panic| Err(panic).into(), |poll| poll.map(Ok))
        });
        if let Err(panic) = ended.await {
            alarm.raise(told(panic.as_ref()));
        }
    });
}

/// A panic in words.
pub(crate) fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a broken invariant, which is a defect of Verity: {}", text.unwrap_or("no words for it"))
}
