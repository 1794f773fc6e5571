//! DHCP messages as bytes (RFC 2131, RFC 2132): what a client sends, and what of an answer it uses.
//!
//! Our own, because the codec crate drags a whole DNS library into the process that reads whatever anybody on the local network sends.

use std::net::Ipv4Addr;

/// What goes over UDP without being fragmented.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1_472;
/// Relays of old expect no less (RFC 1542, 2.1).
const MESSAGE_BYTES_MIN: usize = 300;
pub(crate) const OPTIONS_AT: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const ETHERNET: u8 = 1;
/// "Answer by broadcast": we cannot receive what is sent to an address that we do not have yet.
const BROADCAST: [u8; 2] = [0x80, 0];

/// Codes of RFC 2132.
pub(crate) mod option {
    pub(crate) const MASK: u8 = 1;
    pub(crate) const ROUTERS: u8 = 3;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const REQUESTED: u8 = 50;
    pub(crate) const LEASE: u8 = 51;
    pub(crate) const KIND: u8 = 53;
    pub(crate) const SERVER: u8 = 54;
    pub(crate) const WISHES: u8 = 55;
    pub(crate) const SIZE_MAX: u8 = 57;
    pub(crate) const RENEWAL: u8 = 58;
    pub(crate) const REBINDING: u8 = 59;
    pub(crate) const CLIENT: u8 = 61;
    pub(crate) const END: u8 = 255;
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who gives an address?
    Discover,
    /// This one, of this server, please.
    Request { ip: Ipv4Addr, server: Ipv4Addr },
    /// The one that we have, for longer.
    Renew { ip: Ipv4Addr },
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Offer(Terms),
    Ack(Terms),
    Nak,
}

/// An address and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) ip: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) server: Ipv4Addr,
    /// `u32::MAX` is for ever.
    pub(crate) lease_seconds: u32,
    pub(crate) renew_seconds: u32,
    pub(crate) rebind_seconds: u32,
}

/// The bytes of a client's message. `mac` is the interface's address, `xid` what the answer has to repeat.
pub(crate) fn encode(ask: &Ask, mac: [u8; 6], xid: u32, seconds: u16, host: &str) -> Vec<u8> {
    let mut bytes = vec![0; OPTIONS_AT];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(0, &[1, ETHERNET, mac.len() as u8, 0]);
    put(4, &xid.to_be_bytes());
    put(8, &seconds.to_be_bytes());
    match ask {
        Ask::Renew { ip } => put(12, &ip.octets()),
        _ => put(10, &BROADCAST),
    }
    put(28, &mac);
    put(236, &COOKIE);
    let mut add = |code: u8, value: &[u8]| {
        bytes.extend_from_slice(&[code, value.len() as u8]);
        bytes.extend_from_slice(value);
    };
    let kind = if *ask == Ask::Discover { 1 } else { 3 };
    add(option::KIND, &[kind]);
    let [a, b, c, d, e, f] = mac;
    add(option::CLIENT, &[ETHERNET, a, b, c, d, e, f]);
    if let Ask::Request { ip, server } = ask {
        add(option::REQUESTED, &ip.octets());
        add(option::SERVER, &server.octets());
    }
    let host = host.as_bytes();
    add(option::HOST_NAME, host.get(..63).unwrap_or(host));
    add(option::SIZE_MAX, &(MESSAGE_BYTES_MAX as u16).to_be_bytes());
    let wishes = [
        option::MASK,
        option::ROUTERS,
        option::LEASE,
        option::RENEWAL,
        option::REBINDING,
    ];
    add(option::WISHES, &wishes);
    bytes.push(option::END);
    bytes.resize(bytes.len().max(MESSAGE_BYTES_MIN), 0);
    bytes
}

/// The answer in a datagram, if it is one to this client's question.
pub(crate) fn decode(bytes: &[u8], mac: [u8; 6], xid: u32) -> Option<Answer> {
    let at = |at: usize| bytes.get(at..at + 4)?.try_into().ok();
    let is_ours = bytes.first() == Some(&2)
        && at(4) == Some(xid.to_be_bytes())
        && bytes.get(28..34) == Some(&mac)
        && at(236) == Some(COOKIE);
    if !is_ours {
        return None;
    }
    let options = bytes.get(OPTIONS_AT..)?;
    let four = |code: u8| value(options, code)?.get(..4)?.try_into().ok();
    let seconds = |code: u8| four(code).map(u32::from_be_bytes);
    let kind = value(options, option::KIND)?;
    if kind == [6] {
        return Some(Answer::Nak);
    }
    let ip = Ipv4Addr::from(at(16)?);
    let prefix = match four(option::MASK).map(u32::from_be_bytes) {
        // A mask with holes is none.
        Some(mask) if mask.leading_ones() == mask.count_ones() && mask != 0 => {
            mask.leading_ones() as u8
        }
        Some(_) => return None,
        None => 24,
    };
    let lease_seconds = seconds(option::LEASE)?.max(LEASE_SECONDS_MIN);
    let half = lease_seconds / 2;
    let seven_eighths = lease_seconds - lease_seconds / 8;
    let renew_seconds = seconds(option::RENEWAL).unwrap_or(half).min(half);
    let rebind_seconds = seconds(option::REBINDING).unwrap_or(seven_eighths);
    let terms = Terms {
        ip,
        prefix,
        router: four(option::ROUTERS)
            .map(Ipv4Addr::from)
            .filter(|ip| is_host(*ip)),
        server: four(option::SERVER).map(Ipv4Addr::from)?,
        lease_seconds,
        renew_seconds: renew_seconds.max(LEASE_SECONDS_MIN / 2),
        rebind_seconds: rebind_seconds.clamp(renew_seconds, seven_eighths),
    };
    match kind {
        [2] if is_host(ip) => Some(Answer::Offer(terms)),
        [5] if is_host(ip) => Some(Answer::Ack(terms)),
        _ => None,
    }
}

/// A shorter lease would be nothing but traffic.
const LEASE_SECONDS_MIN: u32 = 60;

fn is_host(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
}

/// The value of an option: type, length, value; 0 is padding without a length.
fn value(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [option::END, ..] | [] | [_] => return None,
            [code, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;
    use crate::samples::{MAC, answer};
    use proptest::prelude::*;

    #[test]
    fn an_offer_to_our_question_is_understood_and_others_are_not() {
        let question = encode(&Ask::Discover, MAC, 7, 0, "attic");
        let offer = answer(&question, 2, 3_600);
        let Some(Answer::Offer(terms)) = decode(&offer, MAC, 7) else {
            panic!("{offer:?}");
        };
        assert_eq!((terms.ip, terms.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(terms.router, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!((terms.renew_seconds, terms.rebind_seconds), (1_800, 3_150));
        assert_eq!(decode(&offer, MAC, 8), None);
        assert_eq!(decode(&offer, [0; 6], 7), None);
        assert_eq!(decode(&question, MAC, 7), None);
        assert_eq!(decode(&answer(&question, 6, 1), MAC, 7), Some(Answer::Nak));
        let mut holes = offer.clone();
        holes[OPTIONS_AT + 6] = 0xF5;
        assert_eq!(decode(&holes, MAC, 7), None);
    }

    #[test]
    fn a_question_says_who_asks_and_for_what() {
        let (ip, server) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let request = encode(&Ask::Request { ip, server }, MAC, 7, 3, "attic");
        let options = &request[OPTIONS_AT..];
        assert_eq!(value(options, option::KIND), Some([3].as_slice()));
        assert_eq!(
            value(options, option::REQUESTED),
            Some(ip.octets().as_slice())
        );
        assert_eq!(value(options, option::HOST_NAME), Some(b"attic".as_slice()));
        assert_eq!(request[10..12], BROADCAST);
        let renewal = encode(&Ask::Renew { ip }, MAC, 7, 0, "attic");
        assert_eq!(
            (&renewal[10..12], &renewal[12..16]),
            ([0, 0].as_slice(), ip.octets().as_slice())
        );
        assert_eq!(value(&renewal[OPTIONS_AT..], option::SERVER), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_an_answer_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes, MAC, 7);
        }

        #[test]
        fn a_damaged_answer_never_gives_an_impossible_lease(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let mut bytes = answer(&encode(&Ask::Discover, MAC, 7, 0, "attic"), 5, 3_600);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            if let Some(Answer::Ack(terms) | Answer::Offer(terms)) = decode(&bytes, MAC, 7) {
                prop_assert!((1..=32).contains(&terms.prefix));
                prop_assert!(terms.renew_seconds <= terms.rebind_seconds.max(LEASE_SECONDS_MIN));
                prop_assert!(terms.rebind_seconds <= terms.lease_seconds);
            }
        }
    }
}
