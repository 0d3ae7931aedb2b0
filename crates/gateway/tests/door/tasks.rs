//! What does an agent see whose requests belong to a task?

use std::time::Duration;

use gateway::KeysPolicy;
use ledger::{Measure, TaskChange, TaskDeed, TaskNode, TaskPath, TaskState, Timestamp};
use serde_json::json;

use crate::engine::Script;
use crate::harness::{Door, Heard, chat};

const CHAT: &str = "/v1/chat/completions";
const TOOL: &str = "look_it_up";

async fn open() -> Door {
    // What a person does to a task is heard at once.
    Door::open_with(Script::says("ok"), KeysPolicy::LoopbackOpen, |limits| limits.key_reuse = Duration::ZERO)
        .await
}

/// Asks in a chat, offering a tool, with these headers.
async fn ask(door: &Door, headers: &[(&str, &str)]) -> Heard {
    let tool = json!({ "type": "function", "function": { "name": TOOL, "parameters": {} } });
    door.post_with(headers, CHAT, chat(json!({ "tools": [tool] }))).await
}

async fn change(door: &Door, task: &str, deed: TaskDeed) {
    let (path, at) = (TaskPath::parse(task).unwrap(), Timestamp::from(std::time::SystemTime::now()));
    door.journal
        .change_task(TaskChange { path, deed, reason: Some("a person said so".into()), at })
        .await
        .unwrap();
}

async fn tree(door: &Door, task: &str) -> TaskNode {
    let rows = door.journal.task_tree(&TaskPath::parse(task).unwrap()).await.unwrap();
    TaskNode::trees(rows).remove(0)
}

fn header<'a>(heard: &'a Heard, name: &str) -> Option<&'a str> {
    heard.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn requests_are_booked_to_the_task_that_they_name_and_the_tree_shows_them() {
    let door = open().await;
    let heard = ask(&door, &[("x-baseload-task", "run-42")]).await;
    assert_eq!((heard.status, header(&heard, "x-baseload-task")), (200, Some("local/run-42")));
    ask(&door, &[("x-baseload-task", "search"), ("x-baseload-parent-task", "run-42/plan")]).await;
    let labelled = door.chat(json!({ "metadata": { "task": "run-42/plan" }, "store": true })).await;
    assert_eq!(header(&labelled, "x-baseload-ignored-fields"), Some("store"));
    let tree = tree(&door, "local/run-42").await;
    assert_eq!((tree.whole.calls, tree.row.own.calls), (3, 1));
    let plan = &tree.inside[0];
    assert_eq!((plan.row.record.path.leaf(), plan.whole.calls, plan.inside[0].whole.calls), ("plan", 2, 1));
    assert!(tree.whole.usage.total() > 0);
    door.close().await;
}

#[tokio::test]
async fn what_was_written_for_us_and_makes_no_sense_is_refused_by_name() {
    let door = open().await;
    for (headers, param, code) in [
        (&[("x-baseload-task", "run 42")][..], "x-baseload-task", "invalid_task"),
        (&[("x-baseload-parent-task", "run-42")], "x-baseload-parent-task", "invalid_task"),
        (&[("x-baseload-task-budget", "usd=1")], "x-baseload-task-budget", "invalid_task_budget"),
        (
            &[("x-baseload-task", "r"), ("x-baseload-task-budget", "dollars=1")],
            "x-baseload-task-budget",
            "invalid_task_budget",
        ),
    ] {
        let heard = ask(&door, headers).await;
        assert_eq!(heard.refusal(), (400, "invalid_request_error", Some(param), Some(code)), "{headers:?}");
    }
    assert_eq!(door.engine.submitted().len(), 0);
    door.close().await;
}

#[tokio::test]
async fn nobody_adds_to_a_task_of_another_account() {
    let door = Door::open_with(Script::says("ok"), KeysPolicy::KeysRequired, |_| {}).await;
    let mut keys = Vec::new();
    for account in ["acme/alice", "acme/alice/helper", "acme/bob", "rival/eve"] {
        keys.push(format!("Bearer {}", door.make_key(account).await.1));
    }
    let as_task = async |key: &String, task: &str| {
        ask(&door, &[("authorization", key.as_str()), ("x-baseload-task", task)]).await
    };
    assert_eq!(as_task(&keys[0], "run-1").await.status, 200);
    assert_eq!(as_task(&keys[1], "run-1/help").await.status, 200);
    let bob = as_task(&keys[2], "run-1/steal").await;
    assert_eq!(bob.refusal(), (403, "permission_error", None, Some("task_not_yours")));
    assert!(bob.message().contains("choose another name"), "{}", bob.message());
    // In another organisation the same name is another task.
    let eve = as_task(&keys[3], "run-1").await;
    assert_eq!((eve.status, header(&eve, "x-baseload-task")), (200, Some("rival/run-1")));
    // A trace that passes through two accounts is a task of each: nobody asked for tasks, so nobody is refused.
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let alice = ask(&door, &[("authorization", &keys[0]), trace]).await;
    let bob = ask(&door, &[("authorization", &keys[2]), trace]).await;
    let own = header(&alice, "x-baseload-task").unwrap();
    let beside = header(&bob, "x-baseload-task").unwrap();
    assert!(own.ends_with("0e0e4736") && beside.starts_with(&format!("{own}+")), "{own} {beside}");
    assert_eq!(tree(&door, "acme/run-1").await.whole.calls, 2);
    door.close().await;
}

#[tokio::test]
async fn near_the_end_an_agent_hands_back_without_tools_and_goes_on_when_a_person_approves() {
    let door = open().await;
    let task = [("x-baseload-task", "run-1"), ("x-baseload-task-budget", "calls=3")];
    let first = ask(&door, &task).await;
    assert_eq!((first.status, header(&first, "x-baseload-task-state")), (200, None));
    let second = ask(&door, &task).await;
    assert_eq!(header(&second, "x-baseload-task-remaining"), Some("calls=2"));
    let last = ask(&door, &task).await;
    assert_eq!((last.status, header(&last, "x-baseload-task-state")), (200, Some("handing_back")));
    let prompts: Vec<String> =
        door.engine.submitted().iter().map(|work| crate::words::text(&work.prompt)).collect();
    assert!(
        !prompts[1].contains("Hand back what you know") && prompts[2].contains("Hand back what you know")
    );
    let refused = ask(&door, &task).await;
    assert_eq!(refused.refusal(), (403, "permission_error", None, Some("task_handed_back")));
    for words in ["local/run-1 has had its last turn", "calls=1", "baseload tasks approve local/run-1"] {
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    change(&door, "local/run-1", TaskDeed::Approve(vec![(Measure::Calls, 2)])).await;
    let approved = ask(&door, &task).await;
    assert_eq!((approved.status, header(&approved, "x-baseload-task-state")), (200, None));
    assert_eq!(tree(&door, "local/run-1").await.row.record.state, TaskState::Approved);
    door.close().await;
}

#[tokio::test]
async fn a_stopped_task_is_refused_with_all_inside_of_it_until_a_person_approves() {
    let door = open().await;
    ask(&door, &[("x-baseload-task", "run-1/plan")]).await;
    change(&door, "local/run-1", TaskDeed::Stop).await;
    for task in ["run-1", "run-1/plan", "run-1/new"] {
        let heard = ask(&door, &[("x-baseload-task", task)]).await;
        assert_eq!(heard.refusal().3, Some("task_stopped"), "{task}");
        assert!(
            heard.message().contains("local/run-1 is stopped, because a person said so"),
            "{}",
            heard.message()
        );
    }
    assert_eq!(ask(&door, &[("x-baseload-task", "run-2")]).await.status, 200);
    change(&door, "local/run-1", TaskDeed::Approve(Vec::new())).await;
    assert_eq!(ask(&door, &[("x-baseload-task", "run-1/plan")]).await.status, 200);
    door.close().await;
}

#[tokio::test]
async fn an_agent_that_goes_in_circles_is_told() {
    let door = open().await;
    let mut messages = vec![json!({ "role": "user", "content": "Look it up." })];
    for round in 1..=3 {
        let call = json!({ "id": format!("call-{round}"), "type": "function", "function": { "name": TOOL, "arguments": "{\"q\":1}" } });
        messages.push(json!({ "role": "assistant", "content": "", "tool_calls": [call] }));
        messages
            .push(json!({ "role": "tool", "tool_call_id": format!("call-{round}"), "content": "nothing" }));
        let heard = door
            .post_with(&[("x-baseload-task", "run-1")], CHAT, chat(json!({ "messages": messages })))
            .await;
        assert_eq!(heard.status, 200);
        let warning = header(&heard, "x-baseload-task-warning");
        assert_eq!(warning.is_some(), round == 3, "{warning:?}");
        if let Some(warning) = warning {
            assert!(warning.contains("loop same_call: the tool look_it_up was called 3 times"), "{warning}");
        }
    }
    door.close().await;
}
