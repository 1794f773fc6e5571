//! The way to the block-stores of other nodes: a link for each, which the bus makes.

use crate::copies::{PeerAnswer, PeerError, Peers};
use protocol::copies::{Copies, CopyCall};
use runtime::{Bus, Link};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// One link for each node that was ever called.
pub(crate) struct Links {
    bus: Bus,
    links: RefCell<BTreeMap<String, Rc<Link<Copies>>>>,
}

impl Links {
    pub(crate) fn new(bus: Bus) -> Self {
        Self {
            bus,
            links: RefCell::default(),
        }
    }

    fn link(&self, node: &str) -> Rc<Link<Copies>> {
        let mut links = self.links.borrow_mut();
        let link = links.entry(node.to_owned());
        let new = || Rc::new(Link::on(self.bus.clone(), "block-store", node));
        link.or_insert_with(new).clone()
    }
}

impl Peers for Links {
    fn call<'a>(&'a self, node: &'a str, call: CopyCall) -> PeerAnswer<'a> {
        Box::pin(async move {
            match self.link(node).call(&call).await {
                Ok((answer, _)) => answer.map_err(PeerError::Refused),
                Err(error) => Err(PeerError::Unreachable(error.to_string())),
            }
        })
    }

    fn heard(&self, node: &str) -> u64 {
        self.link(node).heard()
    }
}
