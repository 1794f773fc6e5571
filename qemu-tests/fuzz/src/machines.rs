//! What a machine of its own reads from outside: DHCP's answers, time servers' answers, and the owner's node.toml.

use crate::frames::{frame, framed};
use machine::node_toml::NodeToml;

pub(crate) fn dhcp(bytes: &[u8]) -> bool {
    network::fuzz::hear(&framed(bytes))
}

pub(crate) fn dhcp_seeds() -> Vec<Vec<u8>> {
    let conversations = network::fuzz::seeds();
    let joined = |datagrams: &Vec<Vec<u8>>| datagrams.iter().flat_map(|one| frame(one)).collect();
    conversations.iter().map(joined).collect()
}

/// Any text is a node's description or a mistake with its line; what can be saved of a right one is all of it.
pub(crate) fn node_toml(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let saved = NodeToml::salvage(&text);
    match NodeToml::parse(&text) {
        Ok(node) => {
            assert_eq!(saved, node);
            true
        }
        Err(error) => {
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            assert!(error.line <= lines, "{error}, of {lines} lines");
            false
        }
    }
}

pub(crate) fn node_toml_seeds() -> Vec<Vec<u8>> {
    let manual = include_str!("../../../docs/MACHINE.md");
    let example = manual.split("```toml\n").nth(1).unwrap_or_default();
    let example = example.split("```").next().unwrap_or_default();
    let more = "[s3]\nlisten = \"[::]:80\"\nregion = \"eu-west-1\"\nhosts = [\"s3.example\"]\n";
    [example, more, ""].map(|text| text.into()).into()
}
