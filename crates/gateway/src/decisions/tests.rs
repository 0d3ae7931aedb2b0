//! Is every decision found again, within bounds, and after a restart?

use super::*;

fn record(nth: u32, account: &str) -> DecisionRecord {
    DecisionRecord {
        at: Timestamp::from_millis(i64::from(nth) * 1_000),
        request: RequestId::new(format!("req-{nth}")),
        account: account.into(),
        asked: "smart".into(),
        route: Some("smart".into()),
        needs: vec!["tools".into()],
        data_class: None,
        residency: vec!["eu-only: eu".into()],
        order: "cost".into(),
        candidates: vec![
            Candidate {
                unit: "llama@vllm".into(),
                verdict: Verdict::Chosen,
                cost_usd: Some("0.0001".into()),
                ..Candidate::default()
            },
            Candidate {
                unit: "claude@anthropic".into(),
                reason: Some("it processes in us".into()),
                ..Candidate::default()
            },
        ],
        candidates_left_out: 0,
        chosen: Some("llama@vllm".into()),
        attempts: Vec::new(),
    }
}

fn heavy(record: &DecisionRecord) -> usize {
    weight(&record.request, &record.line())
}

fn answered(unit: &str) -> Attempt {
    Attempt { unit: unit.into(), outcome: "answered".into(), ..Attempt::default() }
}

fn filter(within: &str) -> DecisionFilter {
    DecisionFilter { within: within.into(), since: None, model: None, unit: None, limit: 100 }
}

#[test]
fn a_decision_is_found_with_what_was_told_of_it_later() {
    let log = Decisions::in_memory(DecisionBounds::default());
    log.record(record(1, "acme"));
    log.amend(&"req-1".into(), |record| record.attempts.push(answered("llama@vllm")));
    assert_eq!(log.find(&"req-1".into()).unwrap().attempts, [answered("llama@vllm")]);
    log.amend(&"req-2".into(), |_| panic!("it is not known"));
    assert_eq!(log.find(&"req-2".into()), None);
}

#[test]
fn a_list_shows_the_latest_of_ones_own_subtree() {
    let log = Decisions::in_memory(DecisionBounds::default());
    for (nth, account) in [(1, "acme"), (2, "acme/eu"), (3, "other"), (4, "acme/eu")] {
        log.record(record(nth, account));
    }
    log.amend(&"req-2".into(), |record| record.attempts.push(answered("claude@anthropic")));
    let listed = |filter: DecisionFilter| {
        log.list(&filter).iter().map(|record| record.request.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(filter("acme")), ["req-4", "req-2", "req-1"]);
    assert_eq!(listed(filter("/")), ["req-4", "req-3", "req-2", "req-1"]);
    assert_eq!(listed(DecisionFilter { limit: 1, ..filter("acme/eu") }), ["req-4"]);
    assert_eq!(
        listed(DecisionFilter { since: Some(Timestamp::from_millis(3_000)), ..filter("/") }),
        ["req-4", "req-3"]
    );
    assert_eq!(listed(DecisionFilter { unit: Some("claude@anthropic".into()), ..filter("/") }), ["req-2"]);
    assert!(listed(DecisionFilter { model: Some("other".into()), ..filter("/") }).is_empty());
}

#[test]
fn memory_stays_within_its_bound_and_forgets_the_oldest_first() {
    let one = heavy(&record(1, "acme"));
    let log = Decisions::in_memory(DecisionBounds { memory_bytes: 10 * one + one / 2, file_bytes: 0 });
    for nth in 0..100 {
        log.record(record(nth, "acme"));
        // Telling more of the same changes its weight, and counts.
        log.amend(&RequestId::new(format!("req-{nth}")), |record| record.order = "listed".into());
        let memory = log.memory.lock();
        assert!(memory.bytes <= log.bounds.memory_bytes);
        let weights = memory.lines.iter().map(|(request, line)| weight(request, line));
        assert_eq!(memory.bytes, weights.sum::<usize>());
        assert_eq!(memory.lines.len(), memory.order.len());
    }
    assert_eq!(log.find(&"req-80".into()), None);
    assert!(log.find(&"req-99".into()).is_some());
}

#[test]
fn texts_of_strangers_are_cut() {
    let log = Decisions::in_memory(DecisionBounds::default());
    let mut long = record(1, "acme");
    long.asked = ModelName::new("ä".repeat(10_000));
    long.candidates = vec![Candidate { reason: Some("x".repeat(9_999)), ..Candidate::default() }; 500];
    log.record(long);
    let kept = log.find(&"req-1".into()).unwrap();
    assert_eq!((kept.candidates.len(), kept.candidates_left_out), (64, 436));
    assert_eq!(kept.asked.as_str().chars().count(), 400);
    assert!(heavy(&kept) < 60 << 10, "{}", heavy(&kept));
}

#[test]
fn a_restart_knows_the_last_and_finds_older_ones_in_two_bounded_files() {
    let folder = tempfile::tempdir().unwrap();
    let line = serde_json::to_string(&record(100, "acme")).unwrap().len() as u64 + 1;
    let bounds = DecisionBounds { memory_bytes: 5 * heavy(&record(100, "acme")), file_bytes: 20 * line };
    let log = Decisions::open(folder.path(), bounds).unwrap();
    for nth in 100..150 {
        log.record(record(nth, "acme"));
    }
    log.amend(&"req-149".into(), |record| record.attempts.push(answered("llama@vllm")));
    log.close();
    assert_eq!(log.left_out(), 0);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= bounds.file_bytes);
    }
    // A crash in the middle of a line.
    let path = folder.path().join("decisions.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"at\":1,\"requ");
    std::fs::write(&path, text).unwrap();
    let log = Decisions::open(folder.path(), bounds).unwrap();
    assert_eq!(log.list(&filter("/")).len(), 4, "five fit, but the one that was told more of is heavier");
    assert_eq!(log.find(&"req-149".into()).unwrap().attempts.len(), 1, "its last line counts");
    assert!(log.find(&"req-125".into()).is_some(), "it is in the file before");
    assert_eq!(log.find(&"req-100".into()), None, "it is gone");
    log.record(record(200, "acme"));
    log.close();
    let all = Decisions::look(folder.path(), DecisionBounds::default()).unwrap();
    assert!(all.list(&filter("/")).len() > 20);
    assert!(find_beside(folder.path(), &"req-200".into()).is_some());
}
