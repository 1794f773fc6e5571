//! The node's values, of which each process is told those that its manifest names.

use crate::identity::Keys;
use crate::{Config, Identity};
use protocol::token::Token;

/// What membership is told of the node.
pub(crate) const OF_MEMBERSHIP: [&str; 9] = [
    "node",
    "node_key",
    "zone",
    "capacity",
    "reach_mesh",
    "reach_gossip",
    "join",
    "version",
    "services",
];

/// The node's values, by name.
pub(crate) fn of_node(
    config: &Config,
    identity: &Identity,
    keys: &Keys,
) -> Vec<(&'static str, String)> {
    let capacity = identity.capacity_bytes;
    let capacity = capacity.unwrap_or_else(|| config.data.disk_bytes());
    let ssh = config.ssh.as_ref().map(|ssh| ssh.address.clone());
    // A founder belongs already; a joiner knows by its roster whether it does.
    let join = config.wish.join.as_ref().filter(|_| !identity.founder);
    let copies = config.wish.copies.filter(|_| identity.founder);
    let mut settings = vec![
        ("node", identity.name.clone()),
        ("node_key", keys.node_key.to_string()),
        (
            "founder",
            if identity.founder { "yes" } else { "no" }.into(),
        ),
        (
            "copies",
            copies.map_or_else(String::new, |copies| copies.to_string()),
        ),
        ("zone", identity.zone.clone()),
        ("capacity", capacity.to_string()),
        ("join", join.map_or_else(String::new, Token::to_text)),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("region", config.region.clone()),
        ("host", config.hosts.clone()),
        ("s3", config.s3.clone()),
        ("gossip", config.gossip.clone()),
        ("mesh", config.mesh.clone().unwrap_or_default()),
        ("reach_gossip", config.reach.gossip.clone()),
        ("reach_mesh", config.reach.mesh.clone()),
        ("web", config.web.clone().unwrap_or_default()),
        ("web_domain", config.web_domains.clone()),
        ("webhooks", config.webhooks.addresses()),
        ("webhook_names", config.webhooks.names()),
        ("webhook_requests", config.webhooks.requests()),
        ("ssh", ssh.unwrap_or_default()),
    ];
    let has = |name: &str| {
        let mut found = settings.iter().filter(|(setting, _)| *setting == name);
        found.all(|(_, address)| !address.is_empty())
    };
    let services = config.policy.services().into_iter();
    let services = services.filter(|manifest| manifest.runs_where(has));
    let services: Vec<&str> = services.map(|manifest| manifest.name.as_str()).collect();
    settings.push(("services", services.join(" ")));
    settings.extend(config.settings.iter().cloned());
    settings
}
