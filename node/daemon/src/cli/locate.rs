//! Which node a command talks to, and with which user's key it signs.

use std::path::{Path, PathBuf};

use diversity_client::devnet::{Devnet, DevnetError, DevnetUser};
use diversity_client::sign::Signer;
use diversity_client::{Api, ApiError};
use diversity_proto::{Address, AgreementId, Deployment};

use super::output::{Context, FAILED, Failure, Outcome, REFUSED, UNREACHABLE};

/// Which node.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which node")]
pub struct At {
    /// The devnet.json of a devnet. [env: DIVERSITY_DEVNET]
    #[arg(long, value_name = "FILE", conflicts_with = "api")]
    pub devnet: Option<PathBuf>,
    /// A node of the devnet. [default: the first that answers] [env: DIVERSITY_NODE]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// The API of a node, such as http://127.0.0.1:8440. [env: DIVERSITY_API]
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// File with the token of the API. [env: DIVERSITY_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let code = match &error {
            e if e.is_transient() => UNREACHABLE,
            ApiError::Problem { .. } => REFUSED,
            _ => FAILED,
        };
        Self::new(code, error)
    }
}

impl From<DevnetError> for Failure {
    fn from(error: DevnetError) -> Self {
        match error {
            DevnetError::Api(error) => error.into(),
            DevnetError::NobodyAnswers { .. } => Self::new(UNREACHABLE, error),
            other => Self::new(FAILED, other),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl At {
    /// The flags, with what they leave open taken from the environment. A flag of one kind (devnet, API) makes the
    /// variables of the other kind count for nothing.
    fn whole(&self) -> Self {
        let mut at = self.clone();
        if at.api.is_none() && at.devnet.is_none() {
            at.devnet = variable("DIVERSITY_DEVNET").map(PathBuf::from);
            if at.devnet.is_none() {
                at.api = variable("DIVERSITY_API");
            }
        }
        if at.devnet.is_some() {
            at.node = at.node.or_else(|| variable("DIVERSITY_NODE"));
        }
        if at.api.is_some() {
            at.token_file = at
                .token_file
                .or_else(|| variable("DIVERSITY_TOKEN_FILE").map(PathBuf::from));
        }
        at
    }

    /// The node's API.
    pub async fn api(&self) -> Outcome<Api> {
        let at = self.whole();
        if let Some(file) = &at.devnet {
            return Ok(Devnet::read(file)?.api(at.node.as_deref()).await?);
        }
        let Some(url) = &at.api else {
            return Err(Failure::usage(
                "which node? Give --devnet DIR/devnet.json, or --api URL with --token-file FILE (or set DIVERSITY_DEVNET or DIVERSITY_API)",
            ));
        };
        Ok(match &at.token_file {
            Some(file) => Api::with_token_file(url, file)?,
            None => Api::new(url, None)?,
        })
    }

    /// The node that was named, or every node of the devnet.
    pub async fn all(&self) -> Outcome<Vec<(String, Api)>> {
        let at = self.whole();
        match &at.devnet {
            Some(file) if at.node.is_none() => {
                let devnet = Devnet::read(file)?;
                let apis = devnet.nodes.iter().map(|n| Ok((n.name.clone(), n.api()?)));
                apis.collect()
            }
            _ => {
                let api = self.api().await?;
                Ok(vec![(
                    at.node.unwrap_or_else(|| api.base().to_owned()),
                    api,
                )])
            }
        }
    }

    /// The devnet, if the command was given one.
    pub fn devnet(&self) -> Outcome<Option<Devnet>> {
        Ok(self
            .whole()
            .devnet
            .as_deref()
            .map(Devnet::read)
            .transpose()?)
    }
}

/// With whose key something is signed.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Who signs")]
pub struct Who {
    /// A user of the devnet, by name.
    #[arg(long, value_name = "NAME", conflicts_with = "keystore")]
    pub user: Option<String>,
    /// Keystore of the user (Web3 Secret Storage).
    #[arg(long, value_name = "FILE", requires = "password_file")]
    pub keystore: Option<PathBuf>,
    /// File with the keystore's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

impl Who {
    /// The signer of this user.
    pub fn signer(&self, at: &At, deployment: Deployment) -> Outcome<Signer> {
        let (keystore, password) = match (&self.user, &self.keystore, &self.password_file) {
            (_, Some(keystore), Some(password)) => (keystore.clone(), password.clone()),
            (Some(name), _, _) => {
                let user = devnet_user(at, name)?;
                (user.keystore, user.password_file)
            }
            _ => {
                return Err(Failure::usage(
                    "who signs? Give --keystore FILE with --password-file FILE, or --user NAME of a devnet",
                ));
            }
        };
        open(&keystore, &password, deployment)
    }
}

/// The signer of a keystore.
pub fn open(keystore: &Path, password_file: &Path, deployment: Deployment) -> Outcome<Signer> {
    Signer::from_keystore(keystore, password_file, deployment).context("cannot sign")
}

/// The user of the devnet with this name.
pub fn devnet_user(at: &At, name: &str) -> Outcome<DevnetUser> {
    let devnet = at
        .devnet()?
        .ok_or_else(|| Failure::usage("--user names a user of a devnet: give --devnet FILE too"))?;
    let known: Vec<_> = devnet.users.iter().map(|u| u.name.clone()).collect();
    devnet
        .users
        .into_iter()
        .find(|u| u.name == name)
        .ok_or_else(|| {
            Failure::usage(format_args!(
                "no user of the devnet is called {name}; there are: {}",
                known.join(", ")
            ))
        })
}

/// An agreement id on the command line.
pub fn agreement_id(text: &str) -> Result<AgreementId, String> {
    AgreementId::from_hex(text).ok_or_else(|| "an agreement id is 32 bytes of hexadecimal".into())
}

/// An address on the command line.
pub fn address(text: &str) -> Result<Address, String> {
    Address::from_hex(text).ok_or_else(|| "an address is 20 bytes of hexadecimal".into())
}

/// A digest on the command line.
pub fn digest(text: &str) -> Result<diversity_proto::Digest, String> {
    diversity_proto::Digest::from_hex(text)
        .ok_or_else(|| "a digest is 32 bytes of hexadecimal".into())
}

/// The agreement that was named, or the only one of the node.
pub async fn which_agreement(api: &Api, named: Option<AgreementId>) -> Outcome<AgreementId> {
    if let Some(agreement) = named {
        return Ok(agreement);
    }
    let mut all = api.agreements().await?;
    // One that only names the node is not its.
    all.retain(|a| a.accepted);
    match &all[..] {
        [only] => Ok(only.agreement),
        [] => Err(Failure::new(FAILED, "this node has no agreement yet")),
        several => Err(Failure::usage(format_args!(
            "this node has {} agreements; choose with --agreement: {}",
            several.len(),
            several
                .iter()
                .map(|a| format!("{} ({})", a.agreement, a.title))
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}
