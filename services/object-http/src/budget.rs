//! The memory that the requests of one thread may hold at a time, shared out in KiB.

use crate::limits::BUDGET_WAIT;
use s3_wire::error::{ErrorCode, S3Error};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is left to share out.
pub struct Budget {
    kib: Arc<Semaphore>,
    all_kib: u32,
}

/// A share; given back when dropped.
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

impl Budget {
    /// So much.
    pub fn new(all_kib: u32) -> Self {
        Self {
            kib: Arc::new(Semaphore::new(all_kib as usize)),
            all_kib,
        }
    }

    /// Takes `kib` out of it (at most all), and waits for a while if there is not so much left.
    ///
    /// # Errors
    /// `SlowDown`, which clients answer by trying again later.
    pub async fn take(&self, kib: u32) -> Result<Share, S3Error> {
        let kib = kib.min(self.all_kib);
        if let Ok(permit) = self.kib.clone().try_acquire_many_owned(kib) {
            return Ok(Share { _permit: permit });
        }
        let waiting = self.kib.clone().acquire_many_owned(kib);
        match tokio::time::timeout(BUDGET_WAIT, waiting).await {
            Ok(Ok(permit)) => Ok(Share { _permit: permit }),
            _ => Err(ErrorCode::SlowDown.into()),
        }
    }
}
