//! Asking the bus for what a manifest declares, and telling it what runs on other nodes.

use crate::Error;
use protocol::Channel;
use protocol::bus::{BusError, Supply, SupplyAnswer, SupplyCall};
use protocol::channel::ReceiveBuffer;
use protocol::wire::Numbered;
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Our line to the bus. One call at a time: the bus is of a lower rank and answers without asking anybody.
pub(crate) struct Supplier {
    channel: Channel,
    next: u32,
    buffer: ReceiveBuffer,
}

impl Supplier {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            next: 0,
            buffer: ReceiveBuffer::new(),
        }
    }

    /// The descriptors that the bus makes for a new incarnation of `service`, with their names.
    pub(crate) fn pack(
        &mut self,
        service: &str,
    ) -> Result<Result<Vec<(String, OwnedFd)>, BusError>, Error> {
        let call = SupplyCall::Pack {
            service: service.into(),
        };
        let (answer, descriptors) = self.call(call)?;
        Ok(match answer {
            Ok(SupplyAnswer::Packed(names)) if names.len() == descriptors.len() => {
                Ok(names.into_iter().zip(descriptors).collect())
            }
            Ok(_) => Err(BusError::Unknown),
            Err(error) => Err(error),
        })
    }

    /// Where the placed services run that do not run here: from there clients of this node are served.
    pub(crate) fn elsewhere(&mut self, services: &[(String, Vec<String>)]) -> Result<(), Error> {
        let services = services.to_vec();
        match self.call(SupplyCall::Elsewhere { services })?.0 {
            Ok(SupplyAnswer::Noted) => {}
            other => runtime::error!("the bus was told what runs on other nodes: {other:?}"),
        }
        Ok(())
    }

    fn call(
        &mut self,
        body: SupplyCall,
    ) -> Result<(Result<SupplyAnswer, BusError>, Vec<OwnedFd>), Error> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let gone = |_| Error::BusGone;
        let call = Numbered { id, body };
        self.channel
            .send_message::<Supply>(&call, &[], SendFlags::empty())
            .map_err(gone)?;
        let answer = self
            .channel
            .receive_message::<Supply, Numbered<_>>(&mut self.buffer, RecvFlags::empty())
            .map_err(gone)?;
        let (Numbered { body, .. }, descriptors) = answer.ok_or(Error::BusGone)?;
        Ok((body, descriptors))
    }
}

impl AsFd for Supplier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
