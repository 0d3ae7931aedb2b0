use http::HeaderName;
use http::header::HeaderValue;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Headers (`name: value`) and fields of the body (`name=value`), and what they come to for `acme/research/alice`.
fn named(said: &[&str]) -> Result<Option<Named>, BadRequest> {
    let (mut headers, mut labels) = (HeaderMap::new(), Labels::default());
    for line in said {
        match line.split_once(": ") {
            Some((name, value)) => {
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            None => {
                let (name, value) = line.split_once('=').unwrap();
                labels.insert(name, value);
            }
        }
    }
    identify(&"acme/research/alice".into(), &headers, &labels)
}

#[track_caller]
fn check(said: &[&str], expected: Option<&str>) {
    let path = named(said).unwrap().map(|named| named.path.to_string());
    assert_eq!(path.as_deref(), expected, "{said:?}");
}

#[track_caller]
fn check_refused(said: &[&str], param: &str, words: &str) {
    let refused = named(said).unwrap_err();
    assert_eq!((refused.param.as_deref(), refused.code.as_deref()), (Some(param), Some("invalid_task")));
    assert!(refused.message.contains(words), "{}", refused.message);
}

#[test]
fn a_request_that_says_nothing_belongs_to_no_task() {
    check(&[], None);
    check(&["x-request-id: abc", "metadata.purpose=test"], None);
    check(&["helicone-session-id: ", "x-litellm-trace-id:  "], None);
}

#[test]
fn every_convention_names_a_task() {
    for (said, path) in [
        (&["x-baseload-task: run-42"][..], "acme/run-42"),
        (&["x-baseload-task: run-42/plan/search"], "acme/run-42/plan/search"),
        (&["metadata.task=run-42/plan"], "acme/run-42/plan"),
        (&["x-dynamo-session-id: s1", "x-dynamo-parent-session-id: s0"], "acme/s0/s1"),
        (&["x-claude-code-session-id: s1"], "acme/s1"),
        (&["x-claude-code-session-id: s1", "x-claude-code-agent-id: a1"], "acme/s1/a1"),
        (
            &[
                "x-claude-code-session-id: s1",
                "x-claude-code-agent-id: a2",
                "x-claude-code-parent-agent-id: a1",
            ],
            "acme/s1/a1/a2",
        ),
        (&["thread-id: t2", "x-codex-parent-thread-id: t1", "session-id: t0"], "acme/t1/t2"),
        (&["session-id: s1"], "acme/s1"),
        (&["session_id: s1"], "acme/s1"),
        (&["x-opencode-session: ses_1"], "acme/ses_1"),
        (&["x-session-id: ses_2", "x-parent-session-id: ses_1"], "acme/ses_1/ses_2"),
        (&["x-session-affinity: ses_1"], "acme/ses_1"),
        (&["helicone-session-id: h1"], "acme/h1"),
        (
            &["helicone-session-id: h1", "helicone-session-path: /abstract/outline"],
            "acme/h1/abstract/outline",
        ),
        (&["x-litellm-trace-id: l1", "x-litellm-session-id: l2"], "acme/l1"),
        (&["x-litellm-session-id: l2"], "acme/l2"),
        (&["litellm_session_id=l3"], "acme/l3"),
        (&["litellm_trace_id=l4"], "acme/l4"),
        (&["x-portkey-trace-id: p1"], "acme/p1"),
        (&["langfuse_session_id: f1", "langfuse_trace_id: f2"], "acme/f1"),
        (&["langfuse_trace_id: f2"], "acme/f2"),
        (&["metadata.session_id=m1"], "acme/m1"),
        (&["session_id=o1"], "acme/o1"),
        (
            &["langsmith-trace: 20261121T104500000000Za1b2c3.20261121T104501000000Zd4e5f6"],
            "acme/20261121T104500000000Za1b2c3",
        ),
        (
            &["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            "acme/trace-4bf92f3577b34da6a3ce929d0e0e4736",
        ),
    ] {
        check(said, Some(path));
    }
}

#[test]
fn a_convention_wins_over_all_that_stand_below_it() {
    let trace = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let mut said = vec![
        "x-baseload-task: t1",
        "metadata.task=t2",
        "x-dynamo-session-id: t3",
        "x-claude-code-session-id: t4",
        "thread-id: t5",
        "session-id: t6",
        "x-opencode-session: t7",
        "x-session-id: t8",
        "helicone-session-id: t9",
        "x-litellm-trace-id: t10",
        "litellm_session_id=t11",
        "x-portkey-trace-id: t12",
        "langfuse_session_id: t13",
        "metadata.session_id=t14",
        "session_id=t15",
        "langsmith-trace: t16",
        &trace,
    ];
    for place in 1..=16 {
        check(&said, Some(&format!("acme/t{place}")));
        said.remove(0);
    }
    check(&said, Some(&format!("acme/trace-{TRACE}")));
}

#[test]
fn a_parent_stands_before_its_task_once() {
    check(
        &["x-baseload-task: search", "x-baseload-parent-task: run-42/plan"],
        Some("acme/run-42/plan/search"),
    );
    check(&["x-baseload-task: run-42/plan", "x-baseload-parent-task: run-42"], Some("acme/run-42/plan"));
    check(&["metadata.task=b", "metadata.parent_task=a"], Some("acme/a/b"));
    check(&["x-session-id: s1", "x-parent-session-id: s1"], Some("acme/s1"));
    check_refused(
        &["x-baseload-parent-task: run-42"],
        "x-baseload-parent-task",
        "name the task in x-baseload-task",
    );
}

#[test]
fn what_was_written_for_us_is_refused_by_name_when_it_is_wrong() {
    check_refused(&["x-baseload-task: run 42"], "x-baseload-task", "\"run 42\" is no name for a task");
    check_refused(&["x-baseload-task: run-42//plan"], "x-baseload-task", "must not be empty");
    check_refused(&["x-baseload-task: run-42/.."], "x-baseload-task", "\"..\"");
    check_refused(&["x-baseload-task: größe"], "x-baseload-task", "ASCII");
    let deep = format!("x-baseload-task: {}", ["a"; 16].join("/"));
    check_refused(&[&deep], "x-baseload-task", "17 segments");
}

#[test]
fn what_others_write_becomes_a_name_and_different_names_stay_different() {
    let path = |said: &str| named(&[said]).unwrap().unwrap().path.to_string();
    let odd = path("helicone-session-id: agent:main:slack 7");
    assert!(odd.starts_with("acme/agent-main-slack-7-"), "{odd}");
    assert_ne!(odd, path("helicone-session-id: agent:main:slack-7"));
    assert_eq!(odd, path("helicone-session-id: agent:main:slack 7"));
    let long = path(&format!("x-litellm-trace-id: {}", "x".repeat(300)));
    assert_eq!(long.len(), "acme/".len() + TaskPath::SEGMENT_BYTES_MAX);
    let deep = path(&format!("metadata.task={}", ["a"; 40].join("/")));
    assert_eq!(deep.split('/').count(), TaskPath::DEPTH_MAX);
    assert!(!path("metadata.task=../../etc").contains("/../"));
}

#[test]
fn a_broken_traceparent_is_no_task() {
    for broken in
        ["00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-x", "", "garbage"]
    {
        check(&[&format!("traceparent: {broken}")], None);
    }
    check(&[&format!("traceparent: 00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase())], None);
}

#[test]
fn nobody_names_the_task_of_another_organisation() {
    check(&["x-baseload-task: rival/run-42"], Some("acme/rival/run-42"));
    let mut headers = HeaderMap::new();
    headers.insert("x-baseload-task", HeaderValue::from_static("run-42"));
    let rival = identify(&"rival/bob".into(), &headers, &Labels::default()).unwrap().unwrap();
    assert_eq!(rival.path.as_str(), "rival/run-42");
}

#[test]
fn a_task_of_another_account_has_a_neighbour_of_ones_own() {
    let trace = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let named = named(&[&trace]).unwrap().unwrap();
    assert_eq!((named.found_in, named.is_ours), ("traceparent", false));
    let (alice, bob) = (named.beside(&"acme/alice".into()), named.beside(&"acme/bob".into()));
    assert!(alice.as_str().starts_with(&format!("acme/trace-{TRACE}+")), "{alice}");
    assert_ne!(alice, bob);
    assert_ne!(alice, named.path);
}
