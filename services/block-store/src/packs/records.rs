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
    /// the scrub says. After an error the walk goes on where it was: [`BlockError::Refused`] is about descriptors, of which there may be some later.
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
            match self.pack(number).await {
                Ok(pack) => walk.at = Some((pack, 0)),
                Err(BlockError::NoSuchBlock | BlockError::Damaged) => {}
                Err(error) => return Err(error),
            }
            walk.next = number.checked_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use crate::disk::blocking::Blocking;
    use crate::tests::{Node, put_small, run};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::fs::File;
    use std::process::Command;

    /// Set in a process of its own, so that no other test runs out of descriptors.
    const ALONE: &str = "WITHOUT_DESCRIPTORS";

    #[test]
    fn a_pack_for_which_there_is_no_descriptor_is_waited_for_and_not_passed_over() {
        if std::env::var_os(ALONE).is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            alone.arg("a_pack_for_which_there_is_no_descriptor");
            let output = alone.env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let passed = output.status.success() && said.contains("1 passed");
            assert!(passed, "{said}{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(64);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        run(async {
            let home = tempfile::tempdir().unwrap();
            let node = Node::start(home.path(), Blocking::default()).await;
            put_small(&node.connect(), b"small").await.unwrap();
            let packs = &node.store.packs;
            packs.open.borrow_mut().packs.clear();
            let mut walk = Records::default();
            let all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            let refused = packs.next_record(&mut walk).await.err();
            assert!(
                matches!(refused, Some(BlockError::Refused(_))),
                "{refused:?}"
            );
            drop(all);
            let found = packs.next_record(&mut walk).await.unwrap();
            let (pack, _, header) = found.unwrap();
            assert_eq!((pack, header.length), (0, 5));
            assert!(packs.next_record(&mut walk).await.unwrap().is_none());
        });
    }
}
