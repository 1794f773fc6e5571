//! What other nodes' block-stores ask of this one.

use super::audit::sum;
use super::{Copies, PeerError};
use crate::disk::Disk;
use crate::pins::Name;
use protocol::block::BlockError;
use protocol::bus::{Accept, Origin};
use protocol::copies::{Copies as Conversation, CopyAnswer, CopyCall, NAMES_MAX};
use runtime::Serve;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// The copies of a store, to other nodes.
pub struct CopyService<D: Disk>(pub(crate) Rc<Copies<D>>);

impl<D: Disk> Serve<Conversation> for CopyService<D> {
    /// Whether the client is the block-store of a node that belongs.
    type Session = bool;

    fn connected(&self, accept: Accept) -> bool {
        matches!(accept.origin, Origin::Member { .. })
    }

    async fn answer(
        &self,
        is_member: &bool,
        call: CopyCall,
        _descriptors: Vec<OwnedFd>,
    ) -> (Result<CopyAnswer, BlockError>, Vec<OwnedFd>) {
        let answer = match is_member {
            true => self.0.answer_peer(call).await,
            false => Err(BlockError::Refused("only other nodes may ask this".into())),
        };
        (answer, Vec::new())
    }
}

impl<D: Disk> Copies<D> {
    /// One call of another node.
    pub(crate) async fn answer_peer(&self, call: CopyCall) -> Result<CopyAnswer, BlockError> {
        self.shared.works()?;
        match call {
            CopyCall::Put {
                id,
                key,
                bytes,
                repair,
            } => {
                let is_new = !self.has(&id)?;
                if !repair {
                    self.buried.borrow_mut().remove(&id);
                } else if is_new && self.buried.borrow().has(&id) {
                    let why = "it was removed here as garbage not long ago";
                    return Err(BlockError::Refused(why.into()));
                }
                let length = self.keep(&id, key, bytes).await?;
                if is_new {
                    self.arrivals.borrow_mut().add(length);
                }
                if self.is_stray(&id) {
                    self.strays.borrow_mut().add(id, length);
                }
                Ok(CopyAnswer::Kept(self.shared.epochs.now()))
            }
            CopyCall::Get { block } => {
                let (key, bytes) = self.whole(&block).await?;
                Ok(CopyAnswer::Block { key, bytes })
            }
            CopyCall::Lacking { blocks } => {
                if blocks.len() > NAMES_MAX {
                    return Err(BlockError::Refused(format!("at most {NAMES_MAX} names")));
                }
                let mut lacking = Vec::new();
                for id in blocks {
                    match self.has(&id)? {
                        // Whoever hears that it is here relies on it.
                        true => self.shared.pins.borrow_mut().lift(Name::File(id)),
                        false => lacking.push(id),
                    }
                }
                // Without a pause since the first of them.
                let epoch = self.shared.epochs.now();
                let blocks = lacking;
                Ok(CopyAnswer::Lacking { blocks, epoch })
            }
            CopyCall::Sum { partition } => {
                let ids = self.shared.layout.blocks(partition);
                let ids =
                    ids.map_err(|errno| self.shared.system("a directory of blocks", errno))?;
                let (files, names) = sum(&ids);
                Ok(CopyAnswer::Sum { files, names })
            }
        }
    }
}

impl From<BlockError> for PeerError {
    fn from(error: BlockError) -> Self {
        Self::Refused(error)
    }
}
