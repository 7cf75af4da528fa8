//! Signing sessions: each is that of a unit, or of a second reading behind its door. Which machine it belongs to, and what it is to
//! sign, is said here; the rest is the machine's ([`signing`]).

use super::*;
use crate::api::SignatureCheck;
use signing::{Aim, Partial, Signing};

/// What signs a session, and what it is to sign.
fn signer<'a>(
    settle: &'a mut Settle,
    readings: &'a mut Readings,
    session: &Session,
    s: &Setting,
) -> (&'a mut Signing, Option<Aim>) {
    if is_reading(settle, readings, session) {
        readings.signing(session, s)
    } else {
        settle.signing(session)
    }
}

/// Whether a session is that of a second reading: the chain has settled its t.
fn is_reading(settle: &Settle, readings: &Readings, session: &Session) -> bool {
    session.t < settle.chain_next() && readings.has(session.t)
}

/// The machine of a session and its aim, from parts of an agreement that are no contexts.
macro_rules! signer {
    ($a:ident, $session:expr) => {
        signer(&mut $a.settle, &mut $a.readings, $session, &$a.setting)
    };
}

impl Agreement {
    /// This node's own public nonce is drawn.
    pub fn own_nonce(&mut self, session: Session, nonce: PublicNonce, io: &mut Io) {
        let (signing, aim) = signer!(self, &session);
        signing.own_nonce(session, nonce, aim, cx!(self, io));
    }
    /// This node's partial signature; `None` if its secret nonce is gone.
    pub fn partial_made(&mut self, session: Session, partial: Option<[u8; 32]>, io: &mut Io) {
        let (signing, aim) = signer!(self, &session);
        signing.made(session, partial, aim, cx!(self, io));
    }
    /// The envelope around it is signed.
    pub(super) fn partial_signed(&mut self, own: Partial, signature: Signature, io: &mut Io) {
        let (signing, aim) = signer!(self, &own.session);
        signing.enveloped(own, signature, aim, cx!(self, io));
    }
    /// The partials are added up, or some of them are bad.
    pub fn aggregated(
        &mut self,
        session: Session,
        result: Result<Signature, Vec<usize>>,
        io: &mut Io,
    ) {
        let (signing, aim) = signer!(self, &session);
        let signature = signing.aggregated(session, result, aim, cx!(self, io));
        if let Some(signature) = signature {
            self.aggregate_good(session, signature, io);
        }
    }
    /// The aggregated signature verifies.
    pub fn aggregate_good(&mut self, session: Session, signature: Signature, io: &mut Io) {
        let (signing, aim) = signer!(self, &session);
        if !signing.verified(&session, aim) {
            return;
        }
        if is_reading(&self.settle, &self.readings, &session) {
            self.readings.signed(session, signature, cx!(self, io));
        } else {
            self.settle.signed(session, signature, cx!(self, io));
        }
    }

    /// A node's public nonce. It proves itself: a wrong one only costs an attempt.
    pub(super) fn nonce(&mut self, from: usize, of: (Session, PublicNonce), io: &mut Io) {
        let near = if is_reading(&self.settle, &self.readings, &of.0) {
            self.readings.heard(&of.0)
        } else {
            self.settle.heard(from, &of.0, cx!(self, io))
        };
        if let Some(near) = near {
            let (signing, aim) = signer!(self, &of.0);
            signing.nonce(from, of, near, aim, cx!(self, io));
        }
    }
    /// The ordered nonces, from the coordinator of the attempt. They prove themselves likewise.
    pub(super) fn nonces(
        &mut self,
        from: usize,
        session: Session,
        nonces: Vec<PublicNonce>,
        io: &mut Io,
    ) {
        let (signing, aim) = signer!(self, &session);
        signing.nonces(from, session, nonces, aim, cx!(self, io));
    }
    /// Which signature the envelope around a partial of another node needs.
    pub(super) fn partial_check(
        &mut self,
        p: &Partial,
        signature: Signature,
    ) -> Option<SignatureCheck> {
        let (signing, aim) = signer!(self, &p.session);
        signing.check(p, signature, aim, &self.setting)
    }
    /// A node's partial signature in a good envelope.
    pub(super) fn partial(&mut self, p: Partial, io: &mut Io) {
        let (signing, aim) = signer!(self, &p.session);
        signing.partial(p, aim, cx!(self, io));
    }
    /// Somebody says that this is the aggregated signature. It proves itself.
    pub(super) fn aggregate(&mut self, session: Session, signature: Signature, io: &mut Io) {
        let (signing, aim) = signer!(self, &session);
        signing.claimed(session, signature, aim, cx!(self, io));
    }
    /// A session made no progress.
    pub(super) fn attempt_over(&mut self, from: u64, t: u64, io: &mut Io) {
        if t < self.settle.chain_next() {
            return self.readings.attempt_over(t, cx!(self, io));
        }
        let session = Session {
            agreement: self.setting.id,
            from,
            t,
            attempt: 0,
        };
        let (signing, aim) = self.settle.signing(&session);
        signing.attempt_over(from, t, aim, cx!(self, io));
    }
}
