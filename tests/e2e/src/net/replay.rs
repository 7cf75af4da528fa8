//! A fleet of simulated locks at work, and what it says at its end.

use super::shown;
use crate::{E2eError, Result, programs};
use serde::Deserialize;
use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The last line of `sensor-sim --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// The agreement.
    pub agreement: Option<String>,
    /// Messages, heartbeats included.
    pub sent: u64,
    /// Heartbeats among them.
    pub heartbeats: u64,
    /// Messages that nodes of every user hold.
    pub acknowledged: u64,
    /// Frames that were sent again.
    pub retried: u64,
    /// Messages that were lost; must be 0.
    pub lost: u64,
    /// Months settled.
    pub settled: u64,
    /// Months disputed.
    pub disputed: u64,
    /// Wall time.
    pub seconds: f64,
}

/// A replay that runs; it is killed when dropped.
#[derive(Debug)]
pub struct Replay {
    child: Child,
    command: String,
}

impl Replay {
    pub(super) fn start(arguments: Vec<OsString>) -> Result<Self> {
        let command = shown("sensor-sim", &arguments);
        let child = Command::new(programs::find("sensor-sim")?)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(E2eError::system(format!("run {command}")))?;
        Ok(Self { child, command })
    }

    /// Whether it runs still.
    ///
    /// # Errors
    /// [`E2eError::System`].
    pub fn runs(&mut self) -> Result<bool> {
        let ended = self
            .child
            .try_wait()
            .map_err(E2eError::system("look after a replay"))?;
        Ok(ended.is_none())
    }

    /// Waits for its end: how it ended, and its summary if it printed one.
    ///
    /// # Errors
    /// [`E2eError::System`], [`E2eError::Output`].
    pub fn end(mut self) -> Result<(ExitStatus, Option<Summary>)> {
        let mut text = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut out, &mut text)
                .map_err(E2eError::system("read a replay's output"))?;
        }
        let status = self
            .child
            .wait()
            .map_err(E2eError::system("wait for a replay"))?;
        let summary = match text.lines().last() {
            None => None,
            Some(line) => Some(serde_json::from_str(line).map_err(|e| E2eError::Output {
                command: self.command.clone(),
                reason: e.to_string(),
            })?),
        };
        Ok((status, summary))
    }

    /// Waits for its good end.
    ///
    /// # Errors
    /// [`E2eError::Program`] if it failed, [`E2eError::NotSo`] if messages were lost.
    pub fn finish(self) -> Result<Summary> {
        let command = self.command.clone();
        let (status, summary) = self.end()?;
        match summary {
            Some(summary) if status.success() => {
                if summary.lost > 0 || summary.acknowledged != summary.sent {
                    return Err(E2eError::NotSo(format!("messages were lost: {summary:?}")));
                }
                Ok(summary)
            }
            _ => Err(E2eError::Program {
                command,
                status,
                said: "see above".into(),
            }),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Summary {
    /// The agreement.
    ///
    /// # Errors
    /// [`E2eError::NotSo`] if there is none.
    pub fn agreement(&self) -> Result<&str> {
        self.agreement
            .as_deref()
            .ok_or_else(|| E2eError::NotSo("the replay names no agreement".into()))
    }
}
