//! What misbehaviour leads to: a notice, evidence, or the end of all signing here (R12).

use super::*;

impl Agreement {
    pub(super) fn faults(&mut self, faults: Faults, io: &mut Io) {
        for (epoch, t, fault) in faults {
            self.fault(epoch, t, fault, io);
        }
    }

    pub(super) fn fault(&mut self, epoch: u32, t: u64, fault: Fault, io: &mut Io) {
        let (node, what, evidence) = match fault {
            Fault::Equivocation {
                node,
                first,
                second,
            } => {
                let evidence = Evidence::Equivocation {
                    node: self.setting.node(node),
                    first,
                    second,
                };
                (node, "signed two commits for one execution", Some(evidence))
            }
            Fault::FalseOpening {
                node,
                commit,
                reveal,
                seal,
            } => {
                let evidence = Evidence::FalseOpening {
                    node: self.setting.node(node),
                    commit,
                    reveal,
                    seal,
                };
                let what = "revealed something that does not open its commit";
                (node, what, Some(evidence))
            }
            Fault::Altered { by } => (
                by,
                "sent a reveal whose secret is not the committed one",
                None,
            ),
            Fault::WrongRange { node } => (
                node,
                "revealed from another t, or with other holes, than the rounds before say",
                None,
            ),
            // R2, R12: two different statements, both signed by this node.
            Fault::StaleStore => return self.halt(t, io),
        };
        let cx = cx!(self, io);
        cx.fault(node, what);
        if let Some(evidence) = evidence {
            self.cases.accuse(epoch, t, evidence, cx);
            if on(Defect::ReportedMeansBlocked) && t == self.history.next() {
                self.history.hole(false);
            }
        }
    }

    fn halt(&mut self, t: u64, io: &mut Io) {
        let why = format!(
            "the other nodes hold something that this node signed for t={t} and its store does not know: the store is older \
             than what was signed. Restore the newest store; until then this node signs nothing for this agreement"
        );
        io.notice(Notice::Halted {
            agreement: self.setting.id,
            why: why.clone(),
        });
        self.halted = Some(why);
    }
}

/// Why t is a hole, in words.
pub(super) fn reason(s: &Setting, reveals: &[Reveal], all_abstained: bool) -> String {
    if all_abstained {
        return "every node abstained: none could run the code on this window within its own limits".into();
    }
    let mut groups: Vec<(&Reveal, Vec<String>)> = Vec::new();
    for (node, r) in s.committee.nodes.iter().zip(reveals) {
        match groups.iter_mut().find(|g| g.0.says_the_same(r)) {
            Some(g) => g.1.push(node.hex()),
            None => groups.push((r, vec![node.hex()])),
        }
    }
    let parts: Vec<_> = groups.iter().map(|g| g.1.join(", ")).collect();
    format!(
        "the nodes revealed different outcomes: [{}]",
        parts.join("] against [")
    )
}
