//! Deliberate breakage of the driver or the world, one thing each, to show that no oracle is blind.

/// What is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// A crash also loses frames that were flushed (N1).
    DiskLosesFlushedFrames,
    /// The driver reports a batch as durable before it is (N1).
    ReportsBeforeFlush,
    /// A frame is changed on its way to the disk (N1).
    DiskChangesFrames,
    /// After a restart the node has lost its executions and draws another secret (N3).
    OtherSecretAfterRestart,
    /// After a restart the node has lost its commits, and its execution now comes out otherwise (N3).
    OtherOutputAfterRestart,
    /// The secret nonce is not erased when it has signed (N3).
    NonceKept,
    /// The contract takes every settlement, also one that it took before (N2).
    SettlesTwice,
    /// The contract verifies nothing and an honest node submits another result (N2).
    SettlesWrongResult,
    /// `f` differs on one honest node (N2: a hole without a cause).
    FunctionDiffers,
    /// A window's first message is left out of what every node executes (N2).
    FunctionSkipsMessages,
    /// A peer's evidence against an honest node is fabricated and the contract checks nothing (N4).
    FabricatedEvidence,
    /// A commit of an honest node gets signed a second time over other values, and a peer reports it (N3, N4).
    SignsForeignCommit,
    /// One node sends nothing any more once faults have stopped (N5).
    MuteAfterHeal,
    /// No submission ever arrives (N5).
    ChainDeaf,
    /// The cores' timers never fire (N5).
    ClockStands,
    /// Peers never answer repair requests and frames are not gossiped (N5).
    NoRepair,
}

impl Sabotage {
    /// Each of them with the oracles that may catch it.
    pub const ALL: [(Self, &'static [&'static str]); 16] = [
        (Self::DiskLosesFlushedFrames, &["N1"]),
        (Self::ReportsBeforeFlush, &["N1", "core"]),
        (Self::DiskChangesFrames, &["N1"]),
        (Self::OtherSecretAfterRestart, &["N3"]),
        (Self::OtherOutputAfterRestart, &["N2", "N3"]),
        (Self::NonceKept, &["N3"]),
        (Self::SettlesTwice, &["N2"]),
        (Self::SettlesWrongResult, &["N2"]),
        (Self::FunctionDiffers, &["N2"]),
        (Self::FunctionSkipsMessages, &["N2"]),
        (Self::FabricatedEvidence, &["N4"]),
        (Self::SignsForeignCommit, &["N3", "N4"]),
        (Self::MuteAfterHeal, &["N5"]),
        (Self::ChainDeaf, &["N5"]),
        (Self::ClockStands, &["N5"]),
        (Self::NoRepair, &["N5"]),
    ];
}
