//! How far the other nodes are, so that a read asks the nearest first and finds the way to it open.
//!
//! A store that writes learns it from its writes; one that only reads, as on a gateway, would never.

use super::Copies;
use super::courier::ASK_WITHIN;
use crate::disk::Disk;
use protocol::copies::CopyCall;
use std::rc::Rc;
use std::time::Duration;

/// Lines change; a question of a few bytes to each node tells.
const ROUND_EVERY: Duration = Duration::from_secs(60);
/// While there is a node that never answered.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

impl<D: Disk> Copies<D> {
    /// Measures for as long as the store lives.
    pub(crate) async fn measures(self: Rc<Self>) {
        loop {
            let again = match self.measure().await {
                true => ROUND_EVERY,
                false => AGAIN_AFTER,
            };
            tokio::time::sleep(again).await;
        }
    }

    /// Asks every other node once; answers whether each of them has answered by now.
    pub(super) async fn measure(&self) -> bool {
        let Some(placement) = self.placement() else {
            // There is nobody to ask, and soon there may be.
            return false;
        };
        let others = (0..).zip(&placement.nodes);
        let others = others.filter(|(node, _)| Some(*node) != placement.own);
        let measured = others.map(|(_, node)| self.measure_one(&node.name));
        let measured = futures_util::future::join_all(measured).await;
        measured.into_iter().all(|is_known| is_known)
    }

    /// A question without a word in it.
    async fn ask_nothing(&self, node: &str) -> bool {
        let call = CopyCall::Lacking { blocks: Vec::new() };
        self.ask(node, call, ASK_WITHIN).await.is_ok()
    }

    async fn measure_one(&self, node: &str) -> bool {
        // The first answer takes the round trips of opening the connection, too, and is not counted.
        let is_open = self.courier(node).round_trip().is_some() || self.ask_nothing(node).await;
        is_open && self.lacking(node, Vec::new()).await.is_ok()
    }
}
