//! Every record of every pack, in order, for those who have all the time there is.

use super::{Pack, Packs, Step};
use crate::disk::Disk;
use crate::record::Header;
use protocol::block::BlockError;
use std::rc::Rc;

/// How far a walk has come.
pub(crate) struct Records<F> {
    /// The first number that was not looked at.
    next: Option<u32>,
    /// Where it is in which pack.
    at: Option<(Rc<Pack<F>>, u32)>,
}

impl<F> Default for Records<F> {
    fn default() -> Self {
        Self {
            next: Some(0),
            at: None,
        }
    }
}

impl<D: Disk> Packs<D> {
    /// The next record of a walk: its pack, its page, and what it says of itself. A pack that was removed meanwhile is passed over, and one that is damaged, which
    /// the scrub says.
    pub(crate) async fn next_record(
        &self,
        walk: &mut Records<D::File>,
    ) -> Result<Option<(u32, u32, Header)>, BlockError> {
        loop {
            if let Some((pack, page)) = &mut walk.at {
                let mut budget = u32::MAX;
                if let Step::Found(found, header) = self.next(pack, *page, &mut budget).await? {
                    *page = found + header.pages();
                    return Ok(Some((pack.number, found, header)));
                }
                walk.at = None;
            }
            let Some(number) = walk.next.and_then(|next| self.number_from(next)) else {
                return Ok(None);
            };
            walk.next = number.checked_add(1);
            match self.pack(number).await {
                Ok(pack) => walk.at = Some((pack, 0)),
                Err(BlockError::Disk(why)) => return Err(BlockError::Disk(why)),
                Err(_) => {}
            }
        }
    }
}
