//! Settings of a node: file, then `DIVERSITY_*` environment, then flags; the later wins. Every setting has a safe default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use diversity_chain::fees::FeePolicy;
use diversity_engine::api::AHEAD_MAX;
use diversity_proto::{Address, Deployment};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Deserializer, Serialize};

use crate::settings::{Stall, Urls};

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("there is no settings file {path}: check --config, or leave it out")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// A file, variable or flag that does not fit.
    #[error("the settings cannot be used: {0}")]
    Settings(String),
    /// Something that only the operator knows.
    #[error(
        "{setting} is not set: give --{flag}, DIVERSITY_{variable} or `{name} = ...` in the settings file"
    )]
    NotSet {
        /// What it is.
        setting: &'static str,
        /// The flag.
        flag: String,
        /// The variable.
        variable: String,
        /// The name in the file.
        name: &'static str,
    },
    /// A value that cannot be right.
    #[error("{setting} is {value}: {wanted}")]
    Value {
        /// Which setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What is wanted.
        wanted: &'static str,
    },
}

/// A list of texts; one text with commas in flags and variables, a list in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct List(pub Vec<String>);

impl std::ops::Deref for List {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for List {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        Ok(Self(items.map(String::from).collect()))
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::One(text) => text.parse().expect("cannot fail"),
            Form::Many(items) => Self(items),
        })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:ident : $ty:ty = $default:expr; )+) => {
        /// Settings of a node.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct NodeConfig {
            $( $(#[doc = $doc])+ pub $name: $ty, )+
        }

        impl Default for NodeConfig {
            fn default() -> Self {
                Self { $( $name: $default, )+ }
            }
        }

        /// The same settings as flags; each is also a `DIVERSITY_*` variable (upper case, `_` for `-`) and, by its name with
        /// `_`, a line of the settings file.
        #[derive(Clone, Debug, Default, Serialize, clap::Args)]
        pub struct NodeFlags {
            /// Settings file (TOML).
            #[arg(long, value_name = "FILE", env = "DIVERSITY_CONFIG")]
            #[serde(skip)]
            pub config: Option<PathBuf>,
            $( $(#[doc = $doc])+
               #[arg(long)]
               #[serde(skip_serializing_if = "Option::is_none")]
               pub $name: Option<$ty>, )+
        }

        const NAMES: &[&str] = &[ $( stringify!($name), )+ ];
    };
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

settings! {
    /// Where keys, store, modules and API tokens lie. [default: diversity-data]
    data_dir: PathBuf = "diversity-data".into();
    /// Name of this node for people. [default: node]
    name: String = "node".into();
    /// RPC endpoints of the chain, http or https, comma separated; the first that answers is used. Never shown with user, password, path or query. [default: http://127.0.0.1:8545]
    rpc_urls: Urls = Urls(vec!["http://127.0.0.1:8545".into()]);
    /// File with PEM certificates that https endpoints may be signed by, beside those of the system. [default: none]
    rpc_ca_file: PathBuf = PathBuf::new();
    /// File with a bearer token for the endpoints whose URL names no user; it may be replaced while the node runs. [default: none]
    rpc_token_file: PathBuf = PathBuf::new();
    /// Least price of gas (tip, where there is a base fee) that is offered, wei; 0 is 1000 where the base fee is above zero, and nothing where gas is free. [default: 0]
    min_gas_price: u64 = 0;
    /// Most that is ever paid for a unit of gas, wei. [default: 1000000000000]
    max_gas_price: u64 = 1_000_000_000_000;
    /// Added to an estimate of gas, percent. [default: 20]
    gas_margin_percent: u64 = 20;
    /// Chain id (EIP-155) that the endpoints must have. No default: it is part of everything that is signed.
    chain_id: u64 = 0;
    /// Address of MainContract. No default.
    contract: String = String::new();
    /// Address of Cells, which belongs to that MainContract. No default.
    cells: String = String::new();
    /// Block in which MainContract was deployed: events are read from there. [default: 0]
    from_block: u64 = 0;
    /// Blocks on top of an event before it counts; 0 is right for chains with finality such as QBFT, and for anvil. [default: 0]
    confirmations: u64 = 0;
    /// How often the chain is asked for new blocks, milliseconds. [default: 500]
    chain_poll_ms: u64 = 500;
    /// A chain whose head has not moved for this long is reported by /readyz: seconds, 0 never, or auto: ten times the longest pause that the chain makes before empty blocks, at least 30 s, and never if it makes none. [default: auto]
    chain_stall_s: Stall = Stall::Auto;
    /// Address of the HTTP API. It speaks plain HTTP: leave it on loopback, or put a TLS proxy before it. [default: 127.0.0.1:8440]
    api_listen: SocketAddr = loopback(8440);
    /// Addresses for other nodes to connect to (multiaddr). [default: /ip4/127.0.0.1/tcp/7440]
    p2p_listen: List = List(vec!["/ip4/127.0.0.1/tcp/7440".into()]);
    /// Addresses to register for other nodes, if they differ from those listened on. [default: none]
    p2p_advertise: List = List(Vec::new());
    /// Nodes to connect to before any agreement names them: multiaddr with /p2p/PEER-ID, comma separated. [default: none]
    p2p_peers: List = List(Vec::new());
    /// File with the password of the keystores. [default: DATA_DIR/keys/password, generated]
    password_file: PathBuf = PathBuf::new();
    /// Cheap key derivation for new keystores: for tests and local networks only. [default: false]
    light_keys: bool = false;
    /// Longest request body, bytes: frames, modules, terms. [default: 2097152]
    http_body_bytes_max: usize = diversity_client::api::REQUEST_BYTES_MAX;
    /// Requests that are worked on at once; beyond it the API answers 503. [default: 256]
    http_requests_max: usize = 256;
    /// Requests a second from one address, averaged; beyond it the API answers 429. [default: 5000]
    http_rate_per_s: u32 = 5_000;
    /// Listeners of /v1/events at once. [default: 64]
    http_listeners_max: usize = 64;
    /// Threads that check signatures and run f; 0 is one for each core. [default: 0]
    worker_threads: usize = 0;
    /// Memory for stored frames that windows are cut from, bytes. [default: 67108864]
    frame_cache_bytes: usize = 64 * 1024 * 1024;
    /// Frames from the API are gossiped at once, or this long after the batch before, milliseconds. [default: 5]
    gossip_flush_ms: u64 = 5;
    /// How often nodes tell one another what they hold, milliseconds. [default: 1000]
    status_interval_ms: u64 = 1_000;
    /// The next node submits a certificate that has not settled for this long, milliseconds. [default: 15000]
    settle_stage_ms: u64 = 15_000;
    /// Gas that one agreement may cost this node in a day (UTC); beyond it settlements wait, owed, and waiting_for says gas_budget. [default: 5000000]
    gas_per_day: u64 = 5_000_000;
    /// Memory and disk for what others than the parties of this node's agreements write to the chain, bytes; beyond it the oldest of it is dropped, and looked for on the chain should it be needed. [default: 67108864]
    strangers_bytes_max: usize = 64 * 1024 * 1024;
    /// Executed but undecided t of one agreement, 1 to 64. [default: 64]
    ahead_max: usize = 64;
    /// How far beyond the first missing q frames of a sensor are stored, messages. [default: 65536]
    q_ahead_max: u64 = 65_536;
    /// Frames being verified or stored, at most; beyond it the API answers 429. [default: 8192]
    inflight_max: usize = 8_192;
    /// Frames of sensors that are in no agreement, of all of them together; beyond it they are refused with the code quota. [default: 100000]
    unagreed_frames_max: u64 = 100_000;
    /// Bytes of those frames, at most. [default: 67108864]
    unagreed_bytes_max: u64 = 64 * 1024 * 1024;
    /// What is logged, such as `info` or `diversity_daemon=debug,info`. [default: info,libp2p_gossipsub=error]
    log: String = "info,libp2p_gossipsub=error".into();
    /// How log lines look: human or json. [default: human]
    log_format: LogFormat = LogFormat::Human;
}

impl NodeConfig {
    /// Reads the settings file that the flags name (if any), the environment, and the flags.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting; also for a line of the file that is no setting.
    pub fn load(flags: &NodeFlags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = &flags.config {
            if !path.is_file() {
                return Err(ConfigError::Missing { path: path.clone() });
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        let config: Self = figment
            .merge(Env::prefixed("DIVERSITY_").only(NAMES))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| ConfigError::Settings(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let value = |setting, value: &dyn std::fmt::Display, wanted| {
            Err(ConfigError::Value {
                setting,
                value: value.to_string(),
                wanted,
            })
        };
        self.deployment()?;
        self.cells()?;
        if self.rpc_urls.is_empty() {
            return value(
                "rpc_urls",
                &"empty",
                "give the URL of an RPC endpoint of the chain",
            );
        }
        if self.name.is_empty() || self.name.len() > diversity_proto::entity::NAME_BYTES_MAX {
            return value("name", &self.name, "give 1 to 64 bytes");
        }
        if !(1024..=8 * 1024 * 1024).contains(&self.http_body_bytes_max) {
            return value(
                "http_body_bytes_max",
                &self.http_body_bytes_max,
                "give 1 KiB to 8 MiB",
            );
        }
        for (setting, n) in [
            ("http_requests_max", self.http_requests_max),
            ("http_rate_per_s", self.http_rate_per_s as usize),
            ("inflight_max", self.inflight_max),
        ] {
            if n == 0 || n > 1_000_000 {
                return value(setting, &n, "give 1 to 1,000,000");
            }
        }
        if !(1..=AHEAD_MAX).contains(&self.ahead_max) {
            return value("ahead_max", &self.ahead_max, "give 1 to 64");
        }
        if self.gas_per_day == 0 {
            return value(
                "gas_per_day",
                &0,
                "give at least 1 gas: nothing would ever settle",
            );
        }
        if self.worker_threads > 256 {
            return value("worker_threads", &self.worker_threads, "give at most 256");
        }
        if self.max_gas_price < self.min_gas_price.max(1) {
            return value(
                "max_gas_price",
                &self.max_gas_price,
                "give at least min_gas_price, in wei",
            );
        }
        if self.gas_margin_percent > 1_000 {
            return value(
                "gas_margin_percent",
                &self.gas_margin_percent,
                "give 0 to 1000 percent",
            );
        }
        if self.chain_poll_ms == 0 {
            return value("chain_poll_ms", &0, "give at least 1 ms");
        }
        Ok(())
    }

    /// Chain and contract.
    ///
    /// # Errors
    /// [`ConfigError`] if they are not set or no address.
    pub fn deployment(&self) -> Result<Deployment, ConfigError> {
        if self.chain_id == 0 {
            return Err(not_set("the chain id", "chain_id"));
        }
        if self.contract.is_empty() {
            return Err(not_set("the address of MainContract", "contract"));
        }
        Ok(Deployment {
            chain_id: self.chain_id,
            contract: address("contract", &self.contract)?,
        })
    }

    /// Where the cells are.
    ///
    /// # Errors
    /// [`ConfigError`] if it is not set or no address.
    pub fn cells(&self) -> Result<Address, ConfigError> {
        if self.cells.is_empty() {
            return Err(not_set("the address of Cells", "cells"));
        }
        address("cells", &self.cells)
    }

    /// How fees are chosen.
    pub fn fees(&self) -> FeePolicy {
        let policy = FeePolicy {
            max_gas_price: self.max_gas_price.into(),
            gas_margin_percent: self.gas_margin_percent,
            ..FeePolicy::default()
        };
        match self.min_gas_price {
            0 => policy,
            least => FeePolicy {
                min_gas_price: least.into(),
                free_gas_price: least.into(),
                ..policy
            },
        }
    }

    /// Threads that check signatures and run `f`.
    pub fn workers(&self) -> usize {
        match self.worker_threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            n => n,
        }
    }

    /// Addresses that the node registers for others.
    pub fn advertised(&self) -> &[String] {
        if self.p2p_advertise.is_empty() {
            &self.p2p_listen
        } else {
            &self.p2p_advertise
        }
    }

    /// A path in the data directory.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.data_dir).join(name)
    }
}

fn not_set(setting: &'static str, name: &'static str) -> ConfigError {
    ConfigError::NotSet {
        setting,
        flag: name.replace('_', "-"),
        variable: name.to_uppercase(),
        name,
    }
}

fn address(setting: &'static str, value: &str) -> Result<Address, ConfigError> {
    Address::from_hex(value).ok_or_else(|| ConfigError::Value {
        setting,
        value: value.into(),
        wanted: "give an address: 0x and 40 hexadecimal digits",
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
