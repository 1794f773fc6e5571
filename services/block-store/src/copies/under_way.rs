//! What is being done for single blocks just now: whoever wants the same waits for it, so that no byte goes twice.

use protocol::block::BlockId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use tokio::sync::OnceCell;

/// By block, and what comes of it. Nothing stays of what nobody waits for any more.
pub(super) struct UnderWay<T>(RefCell<HashMap<BlockId, Weak<OnceCell<T>>>>);

impl<T> Default for UnderWay<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> UnderWay<T> {
    /// What is under way for a block.
    pub(super) fn get(&self, id: &BlockId) -> Option<Rc<OnceCell<T>>> {
        self.0.borrow().get(id).and_then(Weak::upgrade)
    }

    /// The same, or something new, which begins when somebody waits for it.
    pub(super) fn of(&self, id: &BlockId) -> Rc<OnceCell<T>> {
        self.get(id).unwrap_or_else(|| {
            let one = Rc::new(OnceCell::new());
            let mut all = self.0.borrow_mut();
            all.retain(|_, one| one.strong_count() > 0);
            all.insert(*id, Rc::downgrade(&one));
            one
        })
    }
}
