use domain::Part;

use super::*;

/// A conversation, line by line: `user: …`, `say: …`, `name(arguments) -> result`; several calls of a turn are joined by ` & `.
fn conversation(lines: &[&str]) -> Vec<ChatMessage> {
    let mut messages = Vec::new();
    let mut drawn = 0;
    for line in lines {
        if let Some(text) = line.strip_prefix("user: ") {
            messages.push(message(Role::User, text));
        } else if let Some(text) = line.strip_prefix("say: ") {
            messages.push(message(Role::Assistant, text));
        } else {
            let calls: Vec<(ToolCall, &str)> = line
                .split(" & ")
                .map(|call| {
                    let (call, result) = call.split_once(" -> ").unwrap();
                    let (name, arguments) = call.split_once('(').unwrap();
                    drawn += 1;
                    let arguments = arguments.strip_suffix(')').unwrap().to_owned();
                    (
                        ToolCall {
                            id: format!("call_{drawn}"),
                            name: name.to_owned(),
                            arguments,
                            proof: None,
                        },
                        result,
                    )
                })
                .collect();
            let asking = calls.iter().map(|(call, _)| Part::ToolCall(call.clone())).collect();
            messages.push(ChatMessage::new(Role::Assistant, asking));
            for (call, result) in calls {
                let mut answer = message(Role::Tool, result);
                answer.tool_call_id = Some(call.id);
                messages.push(answer);
            }
        }
    }
    messages
}

fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage::of_text(role, content)
}

fn found(lines: &[&str]) -> Option<String> {
    let finding = Memory::default().judge(&conversation(lines), &Patience::default());
    finding.map(|finding| finding.word().to_owned())
}

#[track_caller]
fn check(lines: &[&str], expected: Option<&str>) {
    assert_eq!(found(lines).as_deref(), expected, "{lines:#?}");
}

#[test]
fn the_same_call_with_the_same_answer_is_a_loop_the_third_time() {
    let search = r#"search({"q":"invoice 17"}) -> nothing found"#;
    check(&["user: find invoice 17", search, search], None);
    check(&["user: find invoice 17", search, search, search], Some("same_call"));
    let found =
        Memory::default().judge(&conversation(&[search, search, search, search]), &Patience::default());
    assert_eq!(found, Some(Finding::SameCall { tool: "search".into(), times: 4 }));
    assert!(found.unwrap().to_string().contains("the tool search was called 4 times"));
}

#[test]
fn spaces_and_the_order_of_arguments_make_no_difference() {
    check(
        &[
            r#"search({"q":"x","page":{"n":1,"size":10}}) -> none"#,
            r#"search({ "page": {"size": 10, "n": 1}, "q": "x" }) -> none"#,
            r#"search({"page":{"n":1,"size":10},"q":"x"}) -> none"#,
        ],
        Some("same_call"),
    );
    // A list's order means something.
    check(&["f([1,2]) -> none", "f([2,1]) -> none", "f([1,2]) -> none"], None);
}

#[test]
fn two_calls_in_turn_are_a_loop_after_three_rounds() {
    let (read, edit) = (r#"read({"f":"a.rs"}) -> fn a() {"#, r#"edit({"f":"a.rs"}) -> error: no match"#);
    check(&["user: fix a.rs", read, edit, read, edit], None);
    check(&["user: fix a.rs", read, edit, read, edit, read, edit], Some("ping_pong"));
    check(
        &["user: fix a.rs", "say: let me see", edit, read, edit, read, edit, read, edit],
        Some("ping_pong"),
    );
}

#[test]
fn several_calls_of_one_turn_repeat_only_together() {
    let both = "a({}) -> 1 & b({}) -> 2";
    check(&[both, both, both], Some("same_call"));
    check(&[both, "a({}) -> 1 & b({}) -> 3", both], None);
}

#[test]
fn no_news_for_eight_turns_is_a_loop_whatever_was_asked() {
    let asks: Vec<String> =
        (0..9).map(|n| format!(r#"search({{"q":"try {n}"}}) -> nothing found"#)).collect();
    let asks: Vec<&str> = asks.iter().map(String::as_str).collect();
    check(&asks[..8], None); // the first "nothing found" was news
    check(&asks, Some("no_progress"));
}

#[test]
fn polling_whose_answer_changes_is_no_loop() {
    let polls: Vec<String> = (0..40).map(|n| format!(r#"status({{"job":7}}) -> {n} of 40 done"#)).collect();
    check(&polls.iter().map(String::as_str).collect::<Vec<_>>(), None);
}

#[test]
fn polling_that_waits_long_for_the_same_answer_is_a_loop() {
    let waiting = r#"status({"job":7}) -> running"#;
    check(&[waiting; 3], Some("same_call"));
    // Whoever must wait says so by policy, and is given more patience.
    let patience = Patience { same_call: 0, no_progress: 0, ..Patience::default() };
    assert_eq!(Memory::default().judge(&conversation(&[waiting; 30]), &patience), None);
}

#[test]
fn pages_are_no_loop() {
    let pages: Vec<String> =
        (1..30).map(|page| format!(r#"list({{"page":{page}}}) -> items {page}01 to {page}50"#)).collect();
    check(&pages.iter().map(String::as_str).collect::<Vec<_>>(), None);
    // Not even where most pages are empty, as long as something new comes between.
    let sparse: Vec<String> = (1..30)
        .map(|page| match page % 6 {
            0 => format!(r#"list({{"page":{page}}}) -> item {page}"#),
            _ => format!(r#"list({{"page":{page}}}) -> []"#),
        })
        .collect();
    check(&sparse.iter().map(String::as_str).collect::<Vec<_>>(), None);
}

#[test]
fn tests_that_are_run_again_after_each_edit_are_no_loop() {
    check(
        &[
            "user: make the tests pass",
            "run({}) -> 3 failed",
            r#"edit({"f":"a","n":1}) -> done"#,
            "run({}) -> 2 failed",
            r#"edit({"f":"a","n":2}) -> done"#,
            "run({}) -> 2 failed",
            r#"edit({"f":"b","n":1}) -> done"#,
            "run({}) -> 1 failed",
            r#"edit({"f":"b","n":2}) -> done"#,
            "run({}) -> 0 failed",
        ],
        None,
    );
}

#[test]
fn a_persons_word_begins_a_new_effort() {
    let search = r#"search({"q":"x"}) -> none"#;
    check(&["user: search x", search, search, "user: again, please", search], None);
    check(&["user: search x", search, search, search, "user: thanks"], None);
}

#[test]
fn a_nudge_that_the_agents_own_loop_repeats_begins_nothing() {
    let search = r#"search({"q":"x"}) -> none"#;
    check(&["user: search x", search, "user: continue", search, "user: continue", search], None);
    let nudged = [search, "user: continue"].repeat(4);
    check(&[&["user: search x"], &nudged[..]].concat(), Some("same_call"));
}

#[test]
fn a_call_without_its_answer_repeats_nothing() {
    let mut messages = conversation(&["f({}) -> 1", "f({}) -> 1", "f({}) -> 1"]);
    messages.pop();
    assert_eq!(Memory::default().judge(&messages, &Patience::default()), None);
}

#[test]
fn the_same_request_again_and_again_is_a_loop_though_history_is_cut() {
    let mut memory = Memory::default();
    let same = conversation(&["user: go on", "say: I will look once more"]);
    let other = conversation(&["user: go on"]);
    let mut judge = |messages: &[ChatMessage]| memory.judge(messages, &Patience::default());
    for _ in 0..4 {
        assert_eq!(judge(&same), None);
    }
    assert_eq!(judge(&same), Some(Finding::SameRequest { times: 5 }));
    assert_eq!(judge(&other), None);
    assert_eq!(judge(&same), None);
}

#[test]
fn memory_is_bounded_and_forgives() {
    let mut memory = Memory::default();
    for n in 0..10_000 {
        memory.judge(&conversation(&[&format!("user: {n}")]), &Patience::default());
    }
    assert_eq!(memory.requests.len(), REQUESTS_KEPT);
    let same = conversation(&["user: same"]);
    for _ in 0..9 {
        memory.judge(&same, &Patience::default());
    }
    memory.forgive();
    assert_eq!(memory.judge(&same, &Patience::default()), None);
}
