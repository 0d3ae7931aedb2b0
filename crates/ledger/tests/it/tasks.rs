//! Tasks: who may add to one, what it may use, what became of it, and what it came to.

use ledger::budget::{Amount, NewLimit};
use ledger::{
    Action, Hold, HoldOutcome, LedgerError, Measure, NewTask, PriceChange, Scope, TaskChange, TaskDeed,
    TaskNode, TaskPath, TaskQuery, TaskRecord, TaskState, Window,
};

use super::support::*;

fn path(path: &str) -> TaskPath {
    TaskPath::parse(path).unwrap()
}

fn new(task: &str, account: &str) -> NewTask {
    NewTask { path: path(task), account: account.into(), limits: Vec::new(), at: at(1_000) }
}

fn calls(task: &str, calls: i64) -> NewLimit {
    NewLimit {
        name: None,
        scope: Scope::Task(path(task)),
        measure: Measure::Calls,
        amount: Amount(calls),
        window: Window::Total,
        action: Action::Refuse,
        thresholds: Vec::new(),
        at: at(1_000),
    }
}

fn change(task: &str, deed: TaskDeed) -> TaskChange {
    TaskChange { path: path(task), deed, reason: Some("because".into()), at: at(5_000) }
}

fn states(records: &[TaskRecord]) -> Vec<(String, TaskState)> {
    records.iter().map(|task| (task.path.to_string(), task.state)).collect()
}

fn hold_in(task: &str, account: &str, number: u128) -> Hold {
    Hold { account: account.into(), task: Some(path(task)), ..hold(request(number)) }
}

#[tokio::test]
async fn a_task_is_opened_with_all_that_it_is_inside_of_and_belongs_to_its_opener() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let chain = journal.open_task(new("acme/run-1/plan/search", "acme/research/bot")).await.unwrap();
    let running = |path: &str| (path.to_owned(), TaskState::Running);
    assert_eq!(
        states(&chain),
        [running("acme/run-1"), running("acme/run-1/plan"), running("acme/run-1/plan/search")]
    );
    assert!(chain.iter().all(|task| task.account.as_str() == "acme/research/bot"));
    // Accounts below the opener add to it, also a part of their own; others do not, above it neither.
    let chain = journal.open_task(new("acme/run-1/write", "acme/research/bot/helper")).await.unwrap();
    assert_eq!(chain[1].account.as_str(), "acme/research/bot/helper");
    for stranger in ["acme/research", "acme/research/bot2", "acme"] {
        let refused = journal.open_task(new("acme/run-1/other", stranger)).await;
        assert_eq!(refused, Err(LedgerError::TaskNotYours { path: path("acme/run-1/other") }), "{stranger}");
    }
    assert_eq!(journal.task_chain(&path("acme/run-1/other")).await.unwrap().len(), 1);
    journal.close().await;
}

#[tokio::test]
async fn a_tree_sums_up_what_the_requests_of_each_task_came_to() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let price = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    journal.set_prices(vec![price]).await.unwrap();
    journal.open_task(new("acme/run-1/plan", "acme")).await.unwrap();
    journal.open_task(new("acme/run-10", "acme")).await.unwrap();
    for (number, task) in
        [(1, "acme/run-1"), (2, "acme/run-1/plan"), (3, "acme/run-1/plan"), (4, "acme/run-10")]
    {
        journal.hold(hold_in(task, "acme", number)).await.unwrap();
    }
    for number in [1, 2, 4] {
        journal.settle(settlement(request(number), used(100, 0, 10))).await.unwrap();
    }
    let trees = TaskNode::trees(journal.task_tree(&path("acme/run-1")).await.unwrap());
    let [tree] = trees.as_slice() else { panic!("one tree: {trees:?}") };
    assert_eq!((tree.whole.calls, tree.whole.open_calls, tree.whole.usage.total()), (3, 1, 220));
    assert_eq!(tree.whole.cost.to_string(), "0.00028");
    assert_eq!((tree.row.own.calls, tree.row.own.busy_ms, tree.whole.elapsed_ms()), (1, 1_000, 1_000));
    assert_eq!((tree.inside.len(), tree.inside[0].row.own.calls), (1, 2));
    // A part alone, and the list of runs, the latest first.
    let plan = TaskNode::trees(journal.task_tree(&path("acme/run-1/plan")).await.unwrap());
    assert_eq!((plan.len(), plan[0].whole.calls), (1, 2));
    let query = TaskQuery { within: None, state: None, limit: 10 };
    let runs = journal.tasks(&query).await.unwrap();
    let listed: Vec<(&str, u64)> = runs.iter().map(|run| (run.record.path.as_str(), run.own.calls)).collect();
    assert_eq!(listed, [("acme/run-10", 1), ("acme/run-1", 3)]);
    let elsewhere = TaskQuery { within: Some("rival".into()), ..query };
    assert!(journal.tasks(&elsewhere).await.unwrap().is_empty());
    assert_sound(&journal).await;
    journal.close().await;
}

#[tokio::test]
async fn a_run_is_held_to_its_budget_with_all_inside_of_it_until_a_person_approves_more() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let limits = vec![calls("acme/run-1", 2)];
    journal.open_task(NewTask { limits, ..new("acme/run-1", "acme") }).await.unwrap();
    journal.open_task(new("acme/run-1/plan", "acme")).await.unwrap();
    // Whoever comes again with another budget changes nothing.
    let limits = vec![calls("acme/run-1", 9)];
    journal.open_task(NewTask { limits, ..new("acme/run-1", "acme") }).await.unwrap();
    let is_opened = async |task: &str, number| {
        matches!(journal.hold(hold_in(task, "acme", number)).await.unwrap(), HoldOutcome::Opened(..))
    };
    assert!(is_opened("acme/run-1", 1).await);
    assert!(is_opened("acme/run-1/plan", 2).await);
    assert!(!is_opened("acme/run-1/plan", 3).await);
    assert!(is_opened("acme/run-2", 4).await, "another run has its own");
    let more = TaskDeed::Approve(vec![(Measure::Calls, 1)]);
    journal.change_task(change("acme/run-1/plan", more)).await.unwrap();
    assert!(is_opened("acme/run-1/plan", 5).await);
    assert!(!is_opened("acme/run-1", 6).await);
    let no_budget =
        journal.change_task(change("acme/run-1", TaskDeed::Approve(vec![(Measure::Tokens, 1)]))).await;
    assert!(no_budget.unwrap_err().to_string().contains("tokens of task acme/run-1"));
    journal.close().await;
}

#[tokio::test]
async fn the_last_turn_is_given_once_and_an_approval_lets_all_inside_go_on() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.open_task(new("acme/run-1/plan", "acme")).await.unwrap();
    let change = async |task: &str, deed| states(&journal.change_task(change(task, deed)).await.unwrap());
    let is = |path: &str, state| vec![(path.to_owned(), state)];
    assert_eq!(
        change("acme/run-1/plan", TaskDeed::HandBack).await,
        is("acme/run-1/plan", TaskState::HandingBack)
    );
    assert_eq!(change("acme/run-1/plan", TaskDeed::HandBack).await, vec![]);
    assert_eq!(change("acme/run-1", TaskDeed::Stop).await, is("acme/run-1", TaskState::Stopped));
    let approved = change("acme/run-1", TaskDeed::Approve(Vec::new())).await;
    assert_eq!(
        approved,
        [is("acme/run-1", TaskState::Approved), is("acme/run-1/plan", TaskState::Approved)].concat()
    );
    let chain = journal.task_chain(&path("acme/run-1/plan")).await.unwrap();
    assert_eq!((chain[1].reason.as_deref(), chain[1].state_at), (Some("because"), at(5_000)));
    let unknown = journal.change_task(self::change("acme/run-9", TaskDeed::Stop)).await;
    assert_eq!(unknown, Err(LedgerError::NoSuchTask { path: path("acme/run-9") }));
    journal.close().await;
}
