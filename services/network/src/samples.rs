//! A DHCP server's answers, for tests.

#![allow(
    clippy::indexing_slicing,
    reason = "of questions that this crate has made"
)]

use crate::packet::{OPTIONS_AT, option};

pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

/// A server's answer of that kind to a question.
pub(crate) fn answer(question: &[u8], kind: u8, lease: u32) -> Vec<u8> {
    let options: [(u8, &[u8]); 5] = [
        (option::KIND, &[kind]),
        (option::MASK, &[255, 255, 255, 0]),
        (option::ROUTERS, &[10, 0, 2, 2]),
        (option::SERVER, &[10, 0, 2, 2]),
        (option::LEASE, &lease.to_be_bytes()),
    ];
    let mut bytes = question[..OPTIONS_AT].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
    bytes.push(0); // padding
    for (code, value) in options {
        bytes.extend_from_slice(&[code, value.len() as u8]);
        bytes.extend_from_slice(value);
    }
    bytes.push(option::END);
    bytes
}
