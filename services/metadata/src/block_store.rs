//! What several parts of the service ask this node's block-store. What only the sweep or only `placing` says to it is theirs.

use protocol::block::{BlockAnswer, BlockCall, Blocks, Usage};
use runtime::Link;

/// Why an answer that does not fit its question is none.
pub(crate) const OTHER: &str = "block-store: another answer than was asked for";

/// How full it is, and what it still owes; or why it does not say.
pub(crate) async fn usage(blocks: &Link<Blocks>) -> Result<Usage, String> {
    match ask(blocks, &BlockCall::Usage).await? {
        BlockAnswer::Usage(usage) => Ok(usage),
        _ => Err(OTHER.into()),
    }
}

/// Something that may be repeated without harm, and is answered without a descriptor; or why it is not.
pub(crate) async fn ask(blocks: &Link<Blocks>, call: &BlockCall) -> Result<BlockAnswer, String> {
    match blocks.repeat(call).await {
        Ok((Ok(answer), _)) => Ok(answer),
        Ok((Err(error), _)) => Err(format!("block-store: {error}")),
        Err(error) => Err(format!("block-store: {error}")),
    }
}
