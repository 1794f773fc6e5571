//! The bytes of foca's messages, and which of what they say counts: only what is said of members of the roster, by whom it says.
//!
//! foca keeps whoever it is told of. So that it is told of nobody else, each mention of a node that does not belong is read as what the
//! message's own head says already: that its sender lives.

use crate::identity::NodeId;
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Incarnation, Member, PostcardCodec, State};
use protocol::cluster::NodeKey;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

/// Why a message is not heard.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Not the bytes of a message.
    Malformed(postcard::Error),
    /// Its head names another sender than the one who sealed it, or one that does not belong.
    Forged,
    /// Something in it is longer than it may be.
    Long,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Forged => write!(f, "a message under another's name"),
            Self::Long => write!(f, "a node that says too much of itself"),
        }
    }
}

impl std::error::Error for Refused {}

/// Shared by the codec, which foca owns, and whoever feeds foca.
#[derive(Default)]
pub(crate) struct Trust {
    /// Those that belong.
    pub(crate) members: BTreeSet<NodeKey>,
    /// Who has sealed the message that is being read.
    pub(crate) sender: Option<NodeKey>,
    /// What its head says of that sender.
    head: Option<(NodeId, Incarnation)>,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct MembersOnly {
    pub(crate) trust: Rc<RefCell<Trust>>,
}

impl Codec<NodeId> for MembersOnly {
    type Error = Refused;

    fn encode_header(&mut self, header: &Header<NodeId>, buf: impl BufMut) -> Result<(), Refused> {
        PostcardCodec
            .encode_header(header, buf)
            .map_err(Refused::Malformed)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<NodeId>, Refused> {
        let header: Header<NodeId> = PostcardCodec
            .decode_header(buf)
            .map_err(Refused::Malformed)?;
        let mut trust = self.trust.borrow_mut();
        let sender = header.src.key;
        if trust.sender != Some(sender) || !trust.members.contains(&sender) {
            return Err(Refused::Forged);
        }
        if !header.src.is_bounded() {
            return Err(Refused::Long);
        }
        trust.head = Some((header.src.clone(), header.src_incarnation));
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<NodeId>, buf: impl BufMut) -> Result<(), Refused> {
        PostcardCodec
            .encode_member(member, buf)
            .map_err(Refused::Malformed)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<NodeId>, Refused> {
        let member: Member<NodeId> = PostcardCodec
            .decode_member(buf)
            .map_err(Refused::Malformed)?;
        let trust = self.trust.borrow();
        if trust.members.contains(&member.id().key) {
            return match member.id().is_bounded() {
                true => Ok(member),
                false => Err(Refused::Long),
            };
        }
        // A head comes before every member.
        let (sender, incarnation) = trust.head.clone().ok_or(Refused::Forged)?;
        Ok(Member::new(sender, incarnation, State::Alive))
    }
}
