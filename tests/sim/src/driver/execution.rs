//! `f`, the commit to what it gave, and partial signatures.

use super::*;
use crate::crypto::SecretNonce;
use crate::function;
use diversity_engine::api::{Execution, ExecutionPlan};
use diversity_proto::Digest;
use diversity_proto::round::{Body, Commit, Computed, OutputKind, Session, Subject};
use diversity_proto::wire::encode_envelope;

impl World {
    pub(super) fn execute(&mut self, node: usize, plan: &ExecutionPlan) {
        let disk = &self.hosts[node].disk;
        let window = match function::assemble(plan, |key| disk.written(key)) {
            Ok(w) => w,
            Err(why) => {
                return self.oracles.judge(
                    self.now,
                    "core",
                    Err(format!("node {node} plans t {}: {why}", plan.t)),
                );
            }
        };
        let of = &self.agreements[self.index_of(&plan.agreement)].plan;
        let execution = if of.abstains.contains(&(node, plan.t)) {
            function::abstain(plan, &window)
        } else {
            let mut window = window;
            if self.sabotage == Sabotage::FunctionSkipsMessages {
                window.leaves.iter_mut().for_each(|l| l.body.clear());
            }
            let mut output =
                function::run(of.behaviour(plan.t), of.keeps_carry, &plan.carry, &window);
            let differs = self.sabotage == Sabotage::FunctionDiffers && node == 0
                || self.sabotage == Sabotage::OtherOutputAfterRestart
                    && self.hosts[node].incarnation > 0;
            if differs && output.kind == OutputKind::Value {
                output.result[0] ^= 1;
            }
            let computed = function::computed(&output, &window, &plan.q_next);
            Execution {
                computed,
                detail: output.detail,
                carry: output.carry,
            }
        };
        let (agreement, epoch, t) = (plan.agreement, plan.epoch, plan.t);
        self.tell(
            node,
            self.s.execute_ms,
            Input::Executed {
                agreement,
                epoch,
                t,
                execution,
            },
        );
    }

    pub(super) fn commit(
        &mut self,
        node: usize,
        place: Place,
        subject: Subject,
        computed: &Computed,
    ) {
        let host = &self.hosts[node];
        let mut blinding = host.party.blinding(&subject);
        if self.sabotage == Sabotage::OtherSecretAfterRestart {
            blinding.secret[0] ^= host.incarnation as u8;
        }
        let commit = Commit::make(&subject, &host.party.node(), computed, &blinding, |d| {
            host.party.sign(d)
        });
        if self.sabotage == Sabotage::SignsForeignCommit && node == 0 {
            self.leak_second_commit(place, subject, computed);
        }
        self.tell(
            node,
            self.s.job_ms,
            Input::Committed {
                agreement: place.agreement,
                epoch: place.epoch,
                t: place.t,
                blinding,
                commit,
            },
        );
    }

    /// Node 0's key signs another commit for the same t, and both reach a peer.
    fn leak_second_commit(&mut self, place: Place, subject: Subject, computed: &Computed) {
        let party = &self.hosts[0].party;
        let blinding = party.blinding(&subject);
        let mut envelopes = Vec::new();
        for flip in 0..2 {
            let mut other = computed.clone();
            other.trace.0[0] ^= flip;
            let commit = Commit::make(&subject, &party.node(), &other, &blinding, |d| {
                party.sign(d)
            });
            envelopes.push(encode_envelope(&[place.part(Body::Commit { commit })]));
        }
        for bytes in envelopes {
            self.schedule(
                self.now + 5,
                Event::Deliver {
                    from: 0,
                    to: 1,
                    bytes: bytes.into(),
                },
            );
        }
    }

    pub(super) fn partial(
        &mut self,
        node: usize,
        session: &Session,
        nonces: &[[u8; 66]],
        digest: &Digest,
    ) -> Option<[u8; 32]> {
        let host = &mut self.hosts[node];
        let nonce = host.nonces.remove(session)?;
        if self.sabotage == Sabotage::NonceKept
            && let SecretNonce::Test(n) = nonce
        {
            // As if the next attempt took the nonce that lies about.
            let next = Session {
                attempt: session.attempt + 1,
                ..*session
            };
            host.nonces.insert(next, SecretNonce::Test(n));
        }
        let public = nonce.public();
        let agreement = self.index_of(&session.agreement);
        let key = &self.agreements[agreement].aggregate;
        let partial = key.partial(&self.hosts[node].party, nonce, session, nonces, digest)?;
        // A second reading may well give nothing: its cell says so.
        let reading = session.t < self.agreements[agreement].contract.next_t;
        if self.honest(node) && !reading && self.agreements[agreement].cuts.is_null(session.t) {
            let text = format!(
                "node {node} signs {}..={}, which ends in a null and cannot settle",
                session.from, session.t
            );
            self.oracles.judge(self.now, "chain", Err(text));
        }
        let words = self.agreements[agreement].contract.words;
        let verdict = self
            .oracles
            .signing
            .musig(node, session, &public, *digest, words);
        self.oracles.judge(self.now, "N3", verdict);
        Some(partial)
    }
}
