use super::*;
use crate::rooms::testkit::{DEPLOYMENT, key, known};

const A: AgreementId = AgreementId([9; 32]);

fn own() -> NodeId {
    NodeId(key(11).address())
}

fn accepted() -> Accepted {
    let grant = Grant {
        owner: UserId([4; 20]),
        signature: WalletSignature([5; 65]),
    };
    let terms = (*known().terms).clone();
    Accepted::sign(&key(11), &DEPLOYMENT, A, terms, vec![grant])
}

fn nothing() -> Result<Vec<Accepted>, ConsentError> {
    Ok(Vec::new())
}

fn open(dir: &Path) -> Consent {
    let adopted = || -> Result<Vec<Accepted>, ConsentError> { panic!("there is a directory") };
    Consent::open(dir.into(), &DEPLOYMENT, &own(), adopted).expect("opens")
}

#[test]
fn what_was_accepted_is_there_after_a_restart_with_all_that_it_is_about() {
    let root = tempfile::tempdir().expect("dir");
    let dir = root.path().join("accepted");
    let consent = Consent::open(dir.clone(), &DEPLOYMENT, &own(), nothing).expect("new");
    let one = accepted();
    let digest = one.terms.digest();
    assert!(!consent.is_given(&A, &digest));
    consent.keep(one.clone()).expect("kept");
    consent.keep(one.clone()).expect("again");
    for consent in [consent, open(&dir)] {
        assert!(consent.is_given(&A, &digest));
        assert_eq!(consent.terms(&A, &digest).as_deref(), Some(&one.terms));
        // Other terms of the same agreement, and another agreement with these terms, were not accepted.
        assert!(!consent.is_given(&A, &Digest([1; 32])));
        assert!(!consent.is_given(&AgreementId([8; 32]), &digest));
    }
    let read = read(&path_of(&dir, &A)).expect("readable");
    assert_eq!(read, Some(one), "with the grants");
}

#[test]
fn a_file_that_does_not_prove_itself_counts_for_nothing() {
    let root = tempfile::tempdir().expect("dir");
    let dir = root.path().join("accepted");
    let consent = Consent::open(dir.clone(), &DEPLOYMENT, &own(), nothing).expect("new");
    let one = accepted();
    let digest = one.terms.digest();
    consent.keep(one.clone()).expect("kept");
    let path = path_of(&dir, &A);
    let whole = fs::read(&path).expect("read");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).expect("written");
        // Grants are checked before they are kept; the signature is over all else.
        let given = open(&dir).is_given(&A, &digest);
        let in_grants = (whole.len() - 65 - 85..whole.len() - 65).contains(&at);
        assert_eq!(given, in_grants, "byte {at}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).expect("written");
    assert!(!open(&dir).is_given(&A, &digest));
    // An acceptance of another node is none of this one.
    let foreign = Accepted::sign(&key(12), &DEPLOYMENT, A, one.terms, Vec::new());
    fs::write(&path, foreign.encode()).expect("written");
    assert!(!open(&dir).is_given(&A, &digest));
    // What was being written when the process died is no file yet.
    fs::write(path.with_extension("new"), &whole).expect("written");
    assert!(!open(&dir).is_given(&A, &digest));
}

#[test]
fn what_a_former_version_had_accepted_is_adopted_once() {
    let root = tempfile::tempdir().expect("dir");
    let dir = root.path().join("accepted");
    let digest = accepted().terms.digest();
    // A crash left a part of it.
    fs::create_dir(dir.with_extension("new")).expect("made");
    let adopted = || Ok::<_, ConsentError>(vec![accepted()]);
    let consent = Consent::open(dir.clone(), &DEPLOYMENT, &own(), adopted).expect("made");
    assert!(consent.is_given(&A, &digest));
    assert!(open(&dir).is_given(&A, &digest), "and not looked for again");
}
