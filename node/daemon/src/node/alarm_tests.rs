use super::*;
use diversity_chain::submitter::Waiting;
use diversity_proto::AgreementId;

fn waiting(n: u8, stuck: bool) -> Waiting {
    Waiting {
        id: Digest([n; 32]),
        label: format!("settle {n}"),
        agreement: Some(AgreementId([n; 32])),
        since: 0,
        stuck,
        by_contract: false,
        why: "it is refused".into(),
    }
}

fn status(balance: u128, waiting: Vec<Waiting>) -> Status {
    Status {
        account: Some(Address([7; 20])),
        balance: Some(balance),
        gas_price: Some(1_000),
        queued: waiting.len(),
        waiting,
        wasted: 2,
        wasted_gas: 60_000,
        ..Status::default()
    }
}

#[test]
fn what_is_stuck_and_an_empty_account_are_seen_until_they_are_mended() {
    let (view, _) = watch::channel(ChainView::default());
    let metrics = Metrics::default();
    let mut alarm = Alarm::default();
    alarm.outbox(
        &status(4_000, vec![waiting(1, true), waiting(2, false)]),
        &view,
        &metrics,
    );
    alarm.endpoints(&[], &view, &metrics);
    let seen = view.borrow().clone();
    assert_eq!((seen.stuck.len(), seen.outbox, seen.balance), (1, 2, 4_000));
    assert_eq!(seen.stuck[0].agreement, Some(AgreementId([1; 32])));
    assert!(seen.warnings[0].contains("4000 wei"), "{:?}", seen.warnings);
    assert_eq!(metrics.gas_wasted.get(), 60_000);

    // Funds are seen without anything to send.
    alarm.balance(5_000_000_000, &view);
    alarm.endpoints(&[], &view, &metrics);
    assert!(view.borrow().warnings.is_empty());
    alarm.balance(4_000, &view);
    alarm.endpoints(&[], &view, &metrics);
    assert_eq!(view.borrow().warnings.len(), 1);

    // Counted once, however often the state is looked at.
    let mended = status(5_000_000_000, vec![waiting(1, false)]);
    alarm.outbox(&mended, &view, &metrics);
    alarm.endpoints(&[], &view, &metrics);
    let seen = view.borrow().clone();
    assert!(seen.stuck.is_empty() && seen.warnings.is_empty());
    assert_eq!(
        (metrics.wasted.get(), metrics.gas_wasted.get()),
        (2, 60_000)
    );
}

#[test]
fn a_free_chain_wants_no_balance() {
    let mut alarm = Alarm::default();
    let free = Status {
        gas_price: Some(0),
        ..status(0, Vec::new())
    };
    let (view, _) = watch::channel(ChainView::default());
    alarm.outbox(&free, &view, &Metrics::default());
    alarm.endpoints(&[], &view, &Metrics::default());
    assert!(view.borrow().warnings.is_empty());
}

#[test]
fn endpoints_that_fail_or_lag_are_named_and_counted() {
    let endpoint = |name: &str, head, trouble: Option<&str>, lags| EndpointStatus {
        endpoint: name.into(),
        head: Some(head),
        trouble: trouble.map(Into::into),
        lags,
    };
    let (view, _) = watch::channel(ChainView::default());
    let metrics = Metrics::default();
    let all = [
        endpoint("http://a", 90, None, true),
        endpoint("http://b", 100, Some("it does not answer"), false),
        endpoint("http://c", 99, None, false),
    ];
    Alarm::default().endpoints(&all, &view, &metrics);
    let warnings = view.borrow().warnings.clone();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("http://a: it is at block 90, others are at 100"));
    assert!(warnings[1].contains("http://b: it does not answer"));
    let text = metrics.text();
    assert!(
        text.contains("diversity_endpoint_up{endpoint=\"http://b\"} 0"),
        "{text}"
    );
}

#[test]
fn trouble_has_a_beginning_and_an_end() {
    let (view, _) = watch::channel(ChainView::default());
    trouble(&view, "it is down".into());
    let since = view.borrow().trouble_since_ms;
    trouble(&view, "it is still down".into());
    assert!(since.is_some() && view.borrow().trouble_since_ms == since);
    view.send_modify(well);
    assert_eq!(*view.borrow(), ChainView::default());
}
