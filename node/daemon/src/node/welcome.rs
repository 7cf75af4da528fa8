//! What a first start says: what it made, what to back up, and which account to fund.

use diversity_proto::Address;

use crate::config::NodeConfig;
use crate::node::shared::Identity;

/// The lines, in the order in which they matter.
pub fn lines(config: &NodeConfig, identity: &Identity) -> Vec<String> {
    let path = |name: &str| config.path(name).display().to_string();
    let account = Address(identity.keys.account.address());
    let password = if config.password_file.as_os_str().is_empty() {
        "their password".into()
    } else {
        format!("opened by {}", config.password_file.display())
    };
    vec![
        format!(
            "made node {} in {}: its keys (protocol, account, peer, seed; {password}) in {}, the tokens of its API in {}, its store in {}",
            identity.node,
            config.data_dir.display(),
            path("keys"),
            path("api-token-{ingest,read,operate,admin}"),
            path("store"),
        ),
        format!(
            "back up {} now, where nobody else reads it: no key is ever made anew. Do not restore an older copy of {} over a node that has run on: `diversity node --rebuild-store` mends a damaged one",
            path("keys"),
            path("store"),
        ),
        format!(
            "fund account {account} on chain {} if gas costs anything there; then register the node with `diversity register node`",
            identity.deployment.chain_id
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::testkit::Kit;

    #[test]
    fn everything_that_was_made_is_named() {
        let kit = Kit::new();
        let (config, identity) = (&kit.shared.config, &kit.shared.identity);
        let said = lines(config, identity).join("\n");
        let account = Address(identity.keys.account.address());
        for word in [
            identity.node.hex(),
            account.hex(),
            config.path("keys").display().to_string(),
            "back up".into(),
            "fund account".into(),
        ] {
            assert!(said.contains(&word), "{word} is not in {said}");
        }
    }
}
