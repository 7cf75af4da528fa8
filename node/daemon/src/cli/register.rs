//! `diversity register`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use diversity_client::sign::Signer;
use diversity_keys::SecretKey;
use diversity_proto::PublicKey;
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{Variable, VariableType};

use super::keys::password;
use super::locate::{At, Who};
use super::output::{Context, Outcome, Output};

/// What to register. The node relays and pays; it never sees a user's key.
#[derive(Subcommand)]
pub enum Command {
    /// Register a user: its account signs its name
    #[command(
        after_help = "Example:\n  diversity register user --name alice --keystore alice.json --password-file alice.password --api http://127.0.0.1:8440 --token-file token"
    )]
    User {
        /// Name for people, 1 to 64 bytes.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        at: At,
    },
    /// Register a sensor: its owner and its own key sign its declaration
    #[command(
        after_help = "Example:\n  diversity register sensor --sensor-keystore lock7.json --sensor-password-file lock7.password --type bike-lock \\\n      --label 'bike 7' --variables state:bool --period month --user operator --devnet net/devnet.json"
    )]
    Sensor {
        /// Keystore of the sensor's key.
        #[arg(long, value_name = "FILE")]
        sensor_keystore: PathBuf,
        /// File with its password.
        #[arg(long, value_name = "FILE")]
        sensor_password_file: PathBuf,
        /// Type, such as bike-lock.
        #[arg(long = "type", value_name = "TYPE")]
        sensor_type: String,
        /// Name for people, such as the number on the bike.
        #[arg(long, default_value = "")]
        label: String,
        /// Typed variables of a message, NAME:TYPE, in order; types bool, u8..u64, i8..i64, bytes32.
        #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = variable)]
        variables: Vec<Variable>,
        /// Span that no frame crosses.
        #[arg(long, value_enum, default_value_t = PeriodArg::None)]
        period: PeriodArg,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        at: At,
    },
    /// Register the node that the command talks to under its owner
    #[command(
        after_help = "Needs the node's admin token: the node consents with its protocol key.\n\nExample:\n  diversity register node --keystore alice.json --password-file alice.password --api http://127.0.0.1:8440 --token-file data/api-token-admin"
    )]
    Node {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        at: At,
    },
}

/// A period on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub enum PeriodArg {
    /// None.
    None,
    /// UTC day.
    Day,
    /// UTC month.
    Month,
}

/// `NAME:TYPE`.
pub fn variable(text: &str) -> Result<Variable, String> {
    let (name, ty) = text
        .split_once(':')
        .ok_or("a variable is NAME:TYPE, such as state:bool")?;
    let ty = VariableType::from_name(ty).ok_or_else(|| {
        format!(
            "there is no type {ty}: choose bool, u8, u16, u32, u64, i8, i16, i32, i64 or bytes32"
        )
    })?;
    Ok(Variable {
        name: name.into(),
        ty,
    })
}

/// Runs the command.
pub async fn run(command: Command, output: Output) -> Outcome {
    match command {
        Command::User { name, who, at } => {
            let api = at.api().await?;
            let signer = who.signer(&at, api.info().await?.deployment.into())?;
            let user = api.register_user(&signer.user(&name)).await?;
            output.item(&user, |u| {
                format!("user {} ({}) is registered", u.user, u.name)
            })
        }
        Command::Node { who, at } => {
            let api = at.api().await?;
            let signer = who.signer(&at, api.info().await?.deployment.into())?;
            let node = register_node(&api, &signer).await?;
            output.item(&node, |n| {
                format!("node {} ({}) is registered by {}", n.node, n.name, n.owner)
            })
        }
        Command::Sensor {
            sensor_keystore,
            sensor_password_file,
            sensor_type,
            label,
            variables,
            period,
            who,
            at,
        } => {
            let api = at.api().await?;
            let signer = who.signer(&at, api.info().await?.deployment.into())?;
            let secret = diversity_keys::keystore::read(
                &sensor_keystore,
                password(&sensor_password_file)?.as_bytes(),
            )
            .context("the sensor's keystore")?;
            let key = SecretKey::from_bytes(&secret).context("the sensor's keystore")?;
            let declaration = SensorDeclaration {
                public_key: PublicKey(key.public_key()),
                sensor_type,
                label,
                variables,
                period: match period {
                    PeriodArg::None => Period::None,
                    PeriodArg::Day => Period::Day,
                    PeriodArg::Month => Period::Month,
                },
            };
            let count = api.registered(&signer.id()).await?;
            let request = signer
                .sensors(&[(&declaration, &key)], count)
                .context("cannot sign")?;
            let answer = api.register_sensors(&request).await?;
            output.item(&answer, |a| {
                let ids: Vec<_> = a.sensors.iter().map(|s| s.hex()).collect();
                format!("sensor {} is registered", ids.join(", "))
            })
        }
    }
}

/// Has a node consent to its owner and registers it.
pub async fn register_node(
    api: &diversity_client::Api,
    owner: &Signer,
) -> Outcome<diversity_client::api::NodeView> {
    let binding = api.node_binding(&owner.id()).await?;
    let count = api.registered(&owner.id()).await?;
    let registration = owner.node(binding, count).context("the node's consent")?;
    Ok(api.register_node(&registration).await?)
}
