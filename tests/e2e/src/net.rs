//! A devnet of its own, driven by the programs alone, and gone when dropped, also when a test panics.

mod replay;

pub use replay::{Replay, Summary};

use crate::{E2eError, Result, programs};
use diversity_client::Api;
use diversity_client::api::{AgreementSummary, DisputeView, SettledResult};
use diversity_client::devnet::Devnet;
use diversity_proto::AgreementId;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often something that is awaited is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Folders whose processes run now: what an interrupted program must end.
static RUNNING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Who pays on a chain where gas has a price.
#[derive(Clone, Debug)]
pub struct Funds {
    /// Keystore of the account.
    pub keystore: PathBuf,
    /// File with its password.
    pub password_file: PathBuf,
    /// Wei that each node gets.
    pub wei: u128,
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// URLs of a chain that runs already, comma separated; otherwise one of its own.
    pub chain: Option<String>,
    /// Who pays there.
    pub funds: Option<Funds>,
    /// Number of nodes; `None` for what `diversity devnet up` makes of itself.
    pub nodes: Option<usize>,
    /// Other programs for some nodes: name and path.
    pub programs: Vec<(String, PathBuf)>,
    /// Folder; a temporary one otherwise.
    pub dir: Option<PathBuf>,
    /// Leave everything running and on disk.
    pub keep: bool,
}

/// A devnet that runs.
#[derive(Debug)]
pub struct Net {
    dir: PathBuf,
    keep: bool,
    temporary: Option<tempfile::TempDir>,
    runtime: tokio::runtime::Runtime,
    /// Endpoint of a chain that runs already: `devnet.json` shows it without what may be secret in its URL.
    rpc_url: Option<String>,
}

impl Net {
    /// Starts it; returns when every node is ready.
    ///
    /// # Errors
    /// [`E2eError`].
    pub fn up(plan: Plan) -> Result<Self> {
        let temporary = match &plan.dir {
            Some(_) => None,
            None => {
                let made = tempfile::Builder::new().prefix("diversity-").tempdir();
                Some(made.map_err(E2eError::system("make a temporary folder"))?)
            }
        };
        let dir = match (&plan.dir, &temporary) {
            (Some(dir), _) => dir.clone(),
            (None, Some(made)) => made.path().join("net"),
            (None, None) => unreachable!("one of them was made"),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(E2eError::system("start threads"))?;
        let net = Self {
            dir,
            keep: plan.keep,
            temporary,
            runtime,
            rpc_url: plan.chain.as_deref().and_then(|urls| {
                let urls = diversity_chain::rpc::split(urls);
                urls.into_iter().next()
            }),
        };
        running().push(net.dir.clone());
        net.bring_up(&plan)?;
        Ok(net)
    }

    fn bring_up(&self, plan: &Plan) -> Result {
        let mut arguments: Vec<OsString> = vec![
            "devnet".into(),
            "up".into(),
            "--dir".into(),
            self.dir.clone().into(),
        ];
        if let Some(n) = plan.nodes {
            arguments.extend(["--nodes".into(), n.to_string().into()]);
        }
        if let Some(chain) = &plan.chain {
            arguments.extend(["--chain".into(), chain.into()]);
        } else if let Some(anvil) = anvil_of_the_tree() {
            arguments.extend(["--anvil".into(), anvil.into()]);
        }
        if let Some(funds) = &plan.funds {
            arguments.extend(["--funder".into(), funds.keystore.clone().into()]);
            arguments.extend(["--password-file".into(), funds.password_file.clone().into()]);
            arguments.extend(["--fund".into(), funds.wei.to_string().into()]);
        }
        for (name, path) in &plan.programs {
            let mut value = OsString::from(format!("{name}="));
            value.push(path);
            arguments.extend(["--node-bin".into(), value]);
        }
        diversity(arguments).map(drop)
    }

    /// Ends all processes in order and starts them again in the same folder.
    ///
    /// # Errors
    /// [`E2eError::Program`].
    pub fn again(&self, plan: &Plan) -> Result {
        down(&self.dir)?;
        self.bring_up(plan)
    }

    /// How far an agreement is on a node.
    ///
    /// # Errors
    /// [`E2eError::Api`].
    pub fn progress(
        &self,
        node: &str,
        agreement: &AgreementId,
    ) -> Result<diversity_client::api::Progress> {
        let api = self.api(node)?;
        Ok(self.block_on(api.agreement(agreement))?.progress)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where `devnet.json` is.
    pub fn file(&self) -> PathBuf {
        self.dir.join("devnet.json")
    }

    /// `devnet.json` as it is now.
    ///
    /// # Errors
    /// [`E2eError::Devnet`].
    pub fn devnet(&self) -> Result<Devnet> {
        let mut devnet = Devnet::read(&self.file())?;
        if let Some(url) = &self.rpc_url {
            devnet.chain.rpc_url.clone_from(url);
        }
        Ok(devnet)
    }

    /// The API of a node.
    ///
    /// # Errors
    /// [`E2eError::Devnet`], [`E2eError::Api`].
    pub fn api(&self, node: &str) -> Result<Api> {
        Ok(self.devnet()?.node(node)?.api()?)
    }

    /// Waits for a future.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Kills a node, or `chain`, with SIGKILL.
    ///
    /// # Errors
    /// [`E2eError::Program`].
    pub fn kill(&self, name: &str) -> Result {
        self.change("kill", name)
    }

    /// Starts what was killed; returns when it is ready.
    ///
    /// # Errors
    /// [`E2eError::Program`].
    pub fn start(&self, name: &str) -> Result {
        self.change("start", name)
    }

    fn change(&self, what: &str, name: &str) -> Result {
        let dir = self.dir.clone().into();
        diversity(vec![
            "devnet".into(),
            what.into(),
            name.into(),
            "--dir".into(),
            dir,
        ])
        .map(drop)
    }

    /// Starts `sensor-sim replay` on this devnet. Its progress goes to our stderr.
    ///
    /// # Errors
    /// [`E2eError::NotBuilt`], [`E2eError::System`].
    pub fn replay(&self, trips: &Path, more: &[&str]) -> Result<Replay> {
        let mut arguments: Vec<OsString> = vec!["replay".into(), "--trips".into(), trips.into()];
        arguments.extend(["--devnet".into(), self.file().into(), "--json".into()]);
        arguments.extend(more.iter().map(Into::into));
        Replay::start(arguments)
    }

    /// Results as `diversity results --json` prints them.
    ///
    /// # Errors
    /// [`E2eError::Program`], [`E2eError::Output`].
    pub fn results(&self, node: &str, agreement: &str) -> Result<Vec<SettledResult>> {
        let at = ["--node", node, "--agreement", agreement];
        self.listed("results", &at)
    }

    /// Disputes as `diversity dispute list --json` prints them.
    ///
    /// # Errors
    /// [`E2eError::Program`], [`E2eError::Output`].
    pub fn disputes(&self, node: &str) -> Result<Vec<DisputeView>> {
        self.listed("dispute list", &["--node", node])
    }

    /// A command of `diversity` on this devnet, with its output for people.
    ///
    /// # Errors
    /// [`E2eError::Program`].
    pub fn words(&self, command: &str, more: &[&str]) -> Result<String> {
        diversity(self.command(command, more))
    }

    fn command(&self, command: &str, more: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = command.split(' ').map(Into::into).collect();
        arguments.extend(more.iter().map(Into::into));
        arguments.extend(["--devnet".into(), self.file().into()]);
        arguments
    }

    fn listed<T: DeserializeOwned>(&self, command: &str, more: &[&str]) -> Result<Vec<T>> {
        let mut arguments = self.command(command, more);
        arguments.push("--json".into());
        let text = diversity(arguments)?;
        let parse = |line: &str| {
            serde_json::from_str(line).map_err(|e| E2eError::Output {
                command: format!("diversity {command} --json"),
                reason: e.to_string(),
            })
        };
        text.lines().map(parse).collect()
    }

    /// The agreement that a replay has made, once the node knows it.
    ///
    /// # Errors
    /// [`E2eError::Late`].
    pub fn agreement(&self, node: &str, within: Duration) -> Result<AgreementId> {
        let api = self.api(node)?;
        await_that("agreement", within, || {
            let found = self.block_on(api.agreements());
            let mut found = found.map_err(|e| e.to_string())?;
            // Anybody can make one that names the node.
            found.retain(|a| a.accepted);
            match &found[..] {
                [one] => Ok(one.agreement),
                other => Err(format!("{} agreements", other.len())),
            }
        })
    }

    /// Waits until an agreement's progress on a node is as wanted.
    ///
    /// # Errors
    /// [`E2eError::Late`].
    pub fn await_progress(
        &self,
        node: &str,
        agreement: &AgreementId,
        what: &str,
        within: Duration,
        wanted: impl Fn(&diversity_client::api::Progress) -> bool,
    ) -> Result {
        let api = self.api(node)?;
        await_that(what, within, || {
            match self.block_on(api.agreement(agreement)) {
                Ok(view) if wanted(&view.progress) => Ok(()),
                Ok(view) => Err(format!("{:?}", view.progress)),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// How the agreements of a node stand.
    ///
    /// # Errors
    /// [`E2eError::Api`].
    pub fn agreements(&self, node: &str) -> Result<Vec<AgreementSummary>> {
        Ok(self.block_on(self.api(node)?.agreements())?)
    }

    /// Where everything is, for a person who keeps it.
    ///
    /// # Errors
    /// [`E2eError::Devnet`].
    pub fn addresses(&self) -> Result<String> {
        let devnet = self.devnet()?;
        let mut out = format!(
            "  folder  {}\n  chain   {}",
            self.dir.display(),
            devnet.chain.rpc_url
        );
        for node in &devnet.nodes {
            out.push_str(&format!(
                "\n  {}   {} (token in {})",
                node.name,
                node.api_url,
                node.token_file.display()
            ));
        }
        out.push_str(&format!(
            "\n  end it with: diversity devnet down --dir {}",
            self.dir.display()
        ));
        Ok(out)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        running().retain(|dir| *dir != self.dir);
        if self.keep {
            if let Some(temporary) = self.temporary.take() {
                let _ = temporary.keep();
            }
            return;
        }
        if std::thread::panicking() {
            self.tell_logs();
        }
        if let Err(error) = down(&self.dir) {
            eprintln!("{error}");
        }
    }
}

impl Net {
    /// The end of each log, for whoever reads why a test failed.
    pub fn tell_logs(&self) {
        let Ok(logs) = std::fs::read_dir(self.dir.join("logs")) else {
            return;
        };
        for log in logs.flatten() {
            let text = std::fs::read(log.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("-- {}", log.path().display());
            for line in &lines[lines.len().saturating_sub(25)..] {
                eprintln!("{line}");
            }
        }
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    RUNNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn down(dir: &Path) -> Result {
    if !dir.exists() {
        return Ok(());
    }
    diversity(vec![
        "devnet".into(),
        "down".into(),
        "--dir".into(),
        dir.into(),
    ])
    .map(drop)
}

/// From here on Ctrl-C and SIGTERM end the devnets too, and then this program with code 130.
///
/// # Errors
/// [`E2eError::System`].
pub fn clean_up_when_interrupted() -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(E2eError::system("start threads"))?;
    let mut terminate = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(E2eError::system("listen to signals"))?
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("interrupted: ending what was started");
        let dirs = running().clone();
        for dir in dirs {
            let _ = down(&dir);
            // Temporary folders are made by this program, as `.../diversity-XXXXXX/net`.
            if let Some(parent) = dir
                .parent()
                .filter(|p| p.starts_with(std::env::temp_dir()) && dir.ends_with("net"))
            {
                let _ = std::fs::remove_dir_all(parent);
            }
        }
        std::process::exit(130);
    });
    Ok(())
}

/// anvil as the tree installs it, for runs from another folder than the tree's top; none if DIVERSITY_ANVIL names one.
pub fn anvil_of_the_tree() -> Option<PathBuf> {
    if std::env::var_os("DIVERSITY_ANVIL").is_some() {
        return None;
    }
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/node_modules");
    let scoped = std::fs::read_dir(modules.join("@foundry-rs")).ok()?;
    let found = scoped
        .flatten()
        .map(|e| e.path().join("bin/anvil"))
        .find(|p| p.is_file())?;
    found.canonicalize().ok()
}

/// Runs `diversity`; what it prints on stdout.
///
/// # Errors
/// [`E2eError::Program`] with what it said on stderr.
pub fn diversity(arguments: Vec<OsString>) -> Result<String> {
    run("diversity", &arguments)
}

/// Runs a program of this build; what it prints on stdout.
///
/// # Errors
/// [`E2eError::Program`] with what it said on stderr.
pub fn run(program: &str, arguments: &[OsString]) -> Result<String> {
    let command = shown(program, arguments);
    let out = Command::new(programs::find(program)?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(E2eError::system(format!("run {command}")))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(E2eError::Program {
            command,
            status: out.status,
            said,
        });
    }
    String::from_utf8(out.stdout).map_err(|e| E2eError::Output {
        command,
        reason: e.to_string(),
    })
}

fn shown(program: &str, arguments: &[OsString]) -> String {
    let mut out = program.to_owned();
    for argument in arguments {
        out.push(' ');
        out.push_str(&argument.to_string_lossy());
    }
    out
}

/// Writes the trips of a generated city.
///
/// # Errors
/// [`E2eError::Program`].
pub fn city(
    path: &Path,
    bikes: u32,
    first: &str,
    months: u32,
    trips_per_day: u32,
    seed: u64,
) -> Result {
    let mut arguments: Vec<OsString> = vec![
        "fleet".into(),
        "--write".into(),
        path.into(),
        "--first".into(),
        first.into(),
    ];
    for (flag, value) in [
        ("--bikes", u64::from(bikes)),
        ("--months", months.into()),
        ("--trips-per-day", trips_per_day.into()),
        ("--seed", seed),
    ] {
        arguments.extend([flag.into(), value.to_string().into()]);
    }
    run("sensor-sim", &arguments).map(drop)
}

/// Waits until `look` gives something; polls, since what it waits for is in other processes.
///
/// # Errors
/// [`E2eError::Late`] with what was seen last.
pub fn await_that<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = match look() {
            Ok(found) => return Ok(found),
            Err(last) => last,
        };
        if Instant::now() > deadline {
            return Err(E2eError::Late {
                what: what.into(),
                seconds: within.as_secs(),
                last,
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
