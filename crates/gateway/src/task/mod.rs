//! Does a request belong to an agent's task, and may the task go on?
//!
//! ```text
//! headers, labels ─▶ identity ─▶ its records in the book ─▶ stopped? circles? budget nearly used?
//!                                                             │
//!            go on · warned · cheaper model · one turn without tools · refused
//! ```
//! The decisions are pure and in files of their own; here they meet the book. Budgets themselves are limits like any other and
//! are kept by the ledger: what happens here is what an agent gets *before* a limit refuses it.

pub mod budget;
pub mod identity;
pub mod loops;
pub mod memory;
pub mod policy;
pub mod stage;

use dialect::{BadRequest, Labels};
use domain::{ChatMessage, Input, ModelName, Part, Role, ToolChoice};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ledger::{LedgerError, NewTask, TaskChange, TaskDeed, TaskPath, TaskRecord, TaskState};

use crate::admit::now;
use crate::app::App;
use crate::refusal::Refusal;
use crate::who::Caller;
use budget::TaskBudget;
use loops::Finding;
use memory::Remembered;
use policy::{LoopDeed, TaskPolicy};
use stage::{Gauge, Stage};

/// All that the door knows of tasks.
#[derive(Default)]
pub struct Tasks {
    pub policy: TaskPolicy,
    pub remembered: Remembered,
}

/// One request's place in its task, and how it goes on there.
#[derive(Clone, Debug)]
pub struct Turn {
    pub path: TaskPath,
    /// The cheaper model that answers in the place of the one asked for.
    pub downgrade_to: Option<ModelName>,
    /// It is the task's last turn, without tools. The book gives it once: see [`hand_back`].
    pub is_hand_back: bool,
    /// Why it is the last.
    why: Option<String>,
    warning: Option<String>,
    gauges: Vec<Gauge>,
}

/// What the agent is told in its last turn, in place of its tools.
const HAND_BACK_NOTE: &str = "This task has reached the end of its budget. Tools are not available any more. \
    Hand back what you know: say in a short answer what is done, what was found and what is left to do.";

const TASK: HeaderName = HeaderName::from_static("x-baseload-task");
const REMAINING: HeaderName = HeaderName::from_static("x-baseload-task-remaining");
const WARNING: HeaderName = HeaderName::from_static("x-baseload-task-warning");
const STATE: HeaderName = HeaderName::from_static("x-baseload-task-state");

/// Returns the request's turn in its task, if it belongs to one, or why the task does not go on.
pub async fn enter(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    labels: &Labels,
    messages: &[ChatMessage],
) -> Result<Option<Turn>, Refusal> {
    let asked = read_budget(headers)?;
    let policy = &app.tasks.policy;
    let named = identity::identify(&caller.account, headers, labels)?;
    let Some(named) = named.filter(|named| !(policy.ignore_traceparent && named.found_in == "traceparent"))
    else {
        return match asked {
            Some(_) => Err(budget_of_nothing()),
            None => Ok(None),
        };
    };
    let (path, chain) = records(app, caller, &named, asked.unwrap_or_default()).await?;
    check_state(&chain)?;
    // A completion has no conversation to go in circles with.
    let finding = match messages {
        [] => None,
        messages => app.tasks.remembered.judge(&path, messages, &policy.loops.patience),
    };
    let gauges = app.tasks.remembered.gauges(&path, now());
    let turn = decide(policy, path, finding, gauges);
    match &turn.why {
        Some(why) if !turn.is_hand_back => Err(stop(app, &turn.path, why).await),
        _ => Ok(Some(turn)),
    }
}

/// Takes the task's last turn; refuses where another request was faster.
pub async fn hand_back(app: &App, turn: &Turn) -> Result<(), Refusal> {
    let changed = change(app, &turn.path, TaskDeed::HandBack, turn.why.as_deref()).await?;
    match changed.is_empty() {
        false => Ok(()),
        true => Err(ended(&turn.path, TaskState::HandingBack, turn.why.as_deref())),
    }
}

impl Turn {
    /// Takes the tools away and says why, where this is the task's last turn.
    pub fn prepare(&self, input: &mut Input) {
        let Input::Chat(chat) = input else { return };
        if !self.is_hand_back {
            return;
        }
        (chat.tools, chat.tool_choice) = (Vec::new(), ToolChoice::Auto);
        let messages = &mut chat.messages;
        // Many templates take a system message only at the beginning, so the note joins the one that is there.
        match messages.first_mut().filter(|first| matches!(first.role, Role::System | Role::Developer)) {
            Some(first) => first.parts.push(Part::text(format!("\n\n{HAND_BACK_NOTE}"))),
            None => messages.insert(0, ChatMessage::of_text(Role::System, HAND_BACK_NOTE)),
        }
    }

    /// Returns what an agent can read of its task in the answer's headers.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let remaining = stage::remaining(&self.gauges);
        let said = [
            (TASK, Some(self.path.as_str().to_owned())),
            (REMAINING, Some(remaining).filter(|remaining| !remaining.is_empty())),
            (WARNING, self.warning.clone()),
            (STATE, self.is_hand_back.then(|| "handing_back".to_owned())),
        ];
        let header =
            |(name, value): (HeaderName, Option<String>)| Some((name, HeaderValue::from_str(&value?).ok()?));
        said.into_iter().filter_map(header).collect()
    }
}

/// What follows from circles and budgets. A `why` without a hand-back stops the task.
fn decide(policy: &TaskPolicy, path: TaskPath, finding: Option<Finding>, gauges: Vec<Gauge>) -> Turn {
    let stage = stage::stage(&gauges, &policy.thresholds);
    let mut turn = Turn { path, downgrade_to: None, is_hand_back: false, why: None, warning: None, gauges };
    match (&finding, policy.loops.then) {
        (None, _) => {}
        (Some(finding), LoopDeed::Warn) => turn.warning = Some(format!("loop {}: {finding}", finding.word())),
        (Some(finding), LoopDeed::HandBack) => {
            (turn.is_hand_back, turn.why) = (true, Some(format!("it goes in circles: {finding}")));
        }
        (Some(finding), LoopDeed::Stop) => turn.why = Some(format!("it goes in circles: {finding}")),
    }
    if turn.why.is_none() && stage == Stage::HandBack {
        let left = stage::remaining(&turn.gauges);
        (turn.is_hand_back, turn.why) = (true, Some(format!("its budget is nearly used; left are {left}")));
    }
    if stage >= Stage::Downgraded {
        turn.downgrade_to = policy.downgrade_to.clone();
    }
    if stage >= Stage::Warned && turn.warning.is_none() {
        turn.warning = Some(format!("budget: {}", stage::remaining(&turn.gauges)));
    }
    turn
}

/// Returns the task's path and records, the run first. Records are read again after a moment, so that what a person does to
/// a task is heard by every process.
async fn records(
    app: &App,
    caller: &Caller,
    named: &identity::Named,
    asked: TaskBudget,
) -> Result<(TaskPath, Vec<TaskRecord>), Refusal> {
    let mut path = named.path.clone();
    loop {
        if let Some(chain) = app.tasks.remembered.chain(&path, app.limits.key_reuse)
            && owns(caller, &chain)
        {
            return Ok((path, chain));
        }
        match open(app, caller, &path, asked).await {
            Ok(chain) => {
                app.tasks.remembered.read(&path, chain.clone());
                return Ok((path, chain));
            }
            Err(LedgerError::TaskNotYours { .. }) if !named.is_ours && path == named.path => {
                path = named.beside(&caller.account);
            }
            Err(LedgerError::TaskNotYours { path }) => return Err(Refusal::TaskNotYours { task: path }),
            Err(error) => return Err(unavailable(app, &path, &error)),
        }
    }
}

async fn open(
    app: &App,
    caller: &Caller,
    path: &TaskPath,
    asked: TaskBudget,
) -> Result<Vec<TaskRecord>, LedgerError> {
    let chain = app.journal.task_chain(path).await?;
    // All but the organisation are there: nothing is to be written.
    if chain.len() + 1 == path.depth() && owns(caller, &chain) {
        return Ok(chain);
    }
    let at = now();
    let is_run = path.depth() == 2;
    // Policy holds the run, and so all inside of it; a part of it has only what its own first request says.
    let budget = if is_run { app.tasks.policy.budget_of(&caller.account).tightened(asked) } else { asked };
    let mut limits = budget.limits(path, at);
    if !is_run && chain.is_empty() {
        limits.extend(app.tasks.policy.budget_of(&caller.account).limits(&path.top(2), at));
    }
    app.journal.open_task(NewTask { path: path.clone(), account: caller.account.clone(), limits, at }).await
}

fn owns(caller: &Caller, chain: &[TaskRecord]) -> bool {
    chain.first().is_some_and(|run| ledger::account::is_within(&caller.account, &run.account))
}

/// What stops a task stops all inside of it; a hand-back is the task's own.
fn check_state(chain: &[TaskRecord]) -> Result<(), Refusal> {
    let is_over = |(place, task): &(usize, &TaskRecord)| {
        task.state == TaskState::Stopped || (place + 1 == chain.len() && !task.state.is_going())
    };
    match chain.iter().enumerate().find(is_over) {
        Some((_, task)) => Err(ended(&task.path, task.state, task.reason.as_deref())),
        None => Ok(()),
    }
}

fn ended(path: &TaskPath, state: TaskState, why: Option<&str>) -> Refusal {
    Refusal::TaskEnded { task: path.clone(), state, why: why.unwrap_or_default().to_owned() }
}

async fn stop(app: &App, path: &TaskPath, why: &str) -> Refusal {
    match change(app, path, TaskDeed::Stop, Some(why)).await {
        Ok(_) => ended(path, TaskState::Stopped, Some(why)),
        Err(refusal) => refusal,
    }
}

async fn change(
    app: &App,
    path: &TaskPath,
    deed: TaskDeed,
    why: Option<&str>,
) -> Result<Vec<TaskRecord>, Refusal> {
    let change = TaskChange { path: path.clone(), deed, reason: why.map(str::to_owned), at: now() };
    let changed = app.journal.change_task(change).await.map_err(|error| unavailable(app, path, &error))?;
    if let Ok(chain) = app.journal.task_chain(path).await {
        app.tasks.remembered.read(path, chain);
    }
    Ok(changed)
}

fn unavailable(app: &App, path: &TaskPath, error: &LedgerError) -> Refusal {
    crate::events::TaskUnread { task: path.as_str(), error }.emit();
    Refusal::LedgerUnavailable { retry_after: app.limits.retry_after }
}

fn read_budget(headers: &HeaderMap) -> Result<Option<TaskBudget>, BadRequest> {
    let Some(value) = headers.get(budget::HEADER) else { return Ok(None) };
    TaskBudget::read(&String::from_utf8_lossy(value.as_bytes())).map(Some)
}

/// A budget that holds nothing would be taken for one that does.
fn budget_of_nothing() -> Refusal {
    let message = format!(
        "the header {} sets the budget of a task, and the request names none; name it in {TASK}",
        budget::HEADER
    );
    BadRequest::new(message).at(budget::HEADER).code("invalid_task_budget").into()
}

#[cfg(test)]
mod tests {
    use domain::{Chat, Tool};
    use ledger::{Measure, Timestamp};

    use super::*;

    fn turn(policy: &TaskPolicy, finding: Option<Finding>, used: i64) -> Turn {
        let gauge = Gauge { measure: Measure::Tokens, amount: 1_000, used, usual: 0, reserved: 0 };
        decide(policy, TaskPath::parse("acme/run-42").unwrap(), finding, vec![gauge])
    }

    fn header(turn: &Turn, name: &HeaderName) -> Option<String> {
        let headers = turn.headers();
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_task_is_told_what_is_left_and_gets_a_cheaper_model_and_then_its_last_turn() {
        let policy = TaskPolicy { downgrade_to: Some("small".into()), ..TaskPolicy::default() };
        let free = turn(&policy, None, 100);
        assert_eq!(header(&free, &REMAINING).as_deref(), Some("tokens=900"));
        assert_eq!((header(&free, &WARNING), free.downgrade_to), (None, None));
        let warned = turn(&policy, None, 850);
        assert_eq!(header(&warned, &WARNING).as_deref(), Some("budget: tokens=150"));
        let cheaper = turn(&policy, None, 920);
        assert_eq!((cheaper.downgrade_to, cheaper.is_hand_back), (Some("small".into()), false));
        let last = turn(&policy, None, 960);
        assert!(last.is_hand_back);
        assert_eq!(header(&last, &STATE).as_deref(), Some("handing_back"));
    }

    #[test]
    fn circles_lead_to_what_policy_says() {
        let finding = || Some(Finding::SameRequest { times: 5 });
        let policy = |then| {
            let loops = policy::LoopPolicy { then, ..policy::LoopPolicy::default() };
            TaskPolicy { loops, ..TaskPolicy::default() }
        };
        let warned = turn(&policy(LoopDeed::Warn), finding(), 0);
        assert_eq!(
            header(&warned, &WARNING).as_deref(),
            Some("loop same_request: the same request came 5 times in a row")
        );
        assert!(!warned.is_hand_back && warned.why.is_none());
        assert!(turn(&policy(LoopDeed::HandBack), finding(), 0).is_hand_back);
        let stopped = turn(&policy(LoopDeed::Stop), finding(), 0);
        assert!(!stopped.is_hand_back && stopped.why.unwrap().contains("circles"));
    }

    #[test]
    fn the_last_turn_has_no_tools_and_a_note_beside_the_agents_own_instructions() {
        let last = turn(&TaskPolicy::default(), None, 999);
        let message = ChatMessage::of_text;
        let tool = Tool::Native { dialect: "openai.chat", tool: serde_json::json!({"type": "function"}) };
        let chat = |messages| Input::Chat(Chat { messages, tools: vec![tool.clone()], ..Chat::default() });
        let mut input = chat(vec![message(Role::System, "Be brief."), message(Role::User, "Go on.")]);
        last.prepare(&mut input);
        let Input::Chat(Chat { messages, tools, .. }) = &input else { panic!() };
        assert!(tools.is_empty());
        assert!(messages[0].text().starts_with("Be brief.\n\nThis task has reached the end"));
        assert_eq!(messages.len(), 2);
        let mut input = chat(vec![message(Role::User, "Go on.")]);
        last.prepare(&mut input);
        let Input::Chat(Chat { messages, .. }) = &input else { panic!() };
        assert_eq!((messages.len(), messages[0].role), (2, Role::System));
        let mut untouched = chat(Vec::new());
        turn(&TaskPolicy::default(), None, 0).prepare(&mut untouched);
        assert_eq!(untouched, chat(Vec::new()));
    }

    #[test]
    fn a_stopped_task_stops_all_inside_and_a_hand_back_only_itself() {
        let record = |path: &str, state| TaskRecord {
            path: TaskPath::parse(path).unwrap(),
            account: "acme".into(),
            state,
            reason: Some("because".into()),
            created_at: Timestamp::default(),
            state_at: Timestamp::default(),
        };
        let chain = |run, plan| [record("acme/run", run), record("acme/run/plan", plan)];
        use TaskState::{Approved, HandingBack, Running, Stopped};
        for (run, plan, over) in [
            (Running, Running, None),
            (Approved, Approved, None),
            (HandingBack, Running, None),
            (Stopped, Running, Some("acme/run")),
            (Running, HandingBack, Some("acme/run/plan")),
            (Running, Stopped, Some("acme/run/plan")),
        ] {
            let refused = check_state(&chain(run, plan)).err().map(|refusal| match refusal {
                Refusal::TaskEnded { task, .. } => task.to_string(),
                other => panic!("{other}"),
            });
            assert_eq!(refused.as_deref(), over);
        }
    }
}
