//! What can be done with tasks: list runs, show a tree, let one go on, stop one?

use axum::extract::State;
use domain::{Account, Money};
use ledger::account::ROOT;
use ledger::{
    Amount, Deed, Measure, TaskChange, TaskDeed, TaskNode, TaskPath, TaskQuery, TaskRecord, TaskState,
    TaskSums,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accounts::within;
use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb};
use super::wire::{Answer, Json, Query, page_limit};

/// A task, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskView {
    /// The path: the organisation's name, then the run, then what is inside of it.
    #[schema(example = "acme/run-42/plan")]
    pub task: String,
    /// Who opened it.
    pub account: String,
    pub state: TaskWord,
    #[schema(required)]
    pub reason: Option<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub state_at: String,
    pub calls: u64,
    pub open_calls: u64,
    /// Those that used something without a price; it is not in `cost`.
    pub unpriced_calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// USD, as a decimal string.
    pub cost: String,
    /// From each call's beginning to its end, added up.
    pub busy_ms: u64,
    /// How deep it lies below the task that was asked for.
    pub level: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TaskState)]
pub enum TaskWord {
    Running,
    HandingBack,
    Stopped,
    Approved,
}

/// Tasks: runs, or the tree of one, each after what it is inside of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    pub data: Vec<TaskView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTasks {
    /// Runs that this account, or one below it, opened; without it, all that the key may see.
    pub within: Option<String>,
    /// Those that have a task in this state.
    pub state: Option<TaskWord>,
    /// The latest so many: 1 to 1,000, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowTask {
    /// Its path, such as `acme/run-42`.
    pub task: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    #[schema(example = "acme/run-42")]
    pub task: String,
    /// For people, and for the agent that hears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTask {
    #[schema(example = "acme/run-42")]
    pub task: String,
    /// So much more money than it had, in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "5.00")]
    pub usd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub calls: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Letters of a reason: a sentence or two.
const REASON_CHARACTERS_MAX: usize = 500;

impl Verb for ListTasks {
    type Reply = TaskList;

    fn call(&self) -> Call {
        let state = self.state.map(|state| TaskState::from(state).word().replace(' ', "_"));
        Call::get("/admin/v1/tasks")
            .with("within", self.within.clone())
            .with("state", state)
            .with("limit", self.limit)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<TaskList, AdminError> {
        let top = within(actor, self.within.as_deref())?;
        let limit = page_limit(self.limit)?;
        let within = Some(top).filter(|top| top.as_str() != ROOT);
        let query = TaskQuery { within, state: self.state.map(TaskState::from), limit };
        let rows = desk.journal.tasks(&query).await?;
        Ok(TaskList { data: rows.into_iter().map(|row| TaskView::of(&row.record, &row.own, 0)).collect() })
    }
}

impl Verb for ShowTask {
    type Reply = TaskList;

    fn call(&self) -> Call {
        Call::get("/admin/v1/tasks/tree").with("task", Some(&self.task))
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<TaskList, AdminError> {
        let path = find(desk, actor, &self.task, Access::Read).await?;
        let trees = TaskNode::trees(desk.journal.task_tree(&path).await?);
        let mut data = Vec::new();
        trees.iter().for_each(|tree| flatten(tree, 0, &mut data));
        Ok(TaskList { data })
    }
}

impl Verb for StopTask {
    type Reply = TaskList;

    fn call(&self) -> Call {
        Call::post("/admin/v1/tasks/stop", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<TaskList, AdminError> {
        let path = find(desk, actor, &self.task, Access::Change).await?;
        change(desk, path, TaskDeed::Stop, self.reason).await
    }
}

impl Verb for ApproveTask {
    type Reply = TaskList;

    fn call(&self) -> Call {
        Call::post("/admin/v1/tasks/approve", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<TaskList, AdminError> {
        let path = find(desk, actor, &self.task, Access::Change).await?;
        let usd = self.usd.map(|text| text.parse::<Money>().map_err(|error| AdminError::bad("usd", error)));
        let money = usd.transpose()?.map(Amount::of_money).transpose();
        let money = money.map_err(|error| AdminError::bad("usd", error))?;
        let more: Vec<(Measure, i64)> = [
            (Measure::Money, money.map(|Amount(pico)| pico)),
            (Measure::Tokens, self.tokens.map(i64::from)),
            (Measure::Calls, self.calls.map(i64::from)),
            (Measure::WallClock, self.seconds.map(|seconds| i64::from(seconds) * 1_000)),
        ]
        .into_iter()
        .filter_map(|(measure, more)| Some((measure, more?)))
        .collect();
        change(desk, path, TaskDeed::Approve(more), self.reason).await
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Change,
}

/// Returns the path of a task that the actor may see; any other is not there, as far as it can tell.
async fn find(desk: &Desk, actor: &Actor, task: &str, access: Access) -> Result<TaskPath, AdminError> {
    actor.may(Deed::Read(&actor.account))?;
    let path = TaskPath::parse(task).map_err(|error| AdminError::bad("task", error))?;
    let rows = desk.journal.task_tree(&path).await?;
    let record = rows.iter().map(|row| &row.record).find(|record| record.path == path);
    let owner: Option<Account> = record.map(|record| record.account.clone());
    let Some(owner) = owner.filter(|owner| actor.can(Deed::Read(owner))) else {
        return Err(AdminError::NotFound { what: "task", name: task.chars().take(128).collect() });
    };
    if let Access::Change = access {
        actor.may(Deed::ChangeTask(&owner))?;
    }
    Ok(path)
}

async fn change(
    desk: &Desk,
    path: TaskPath,
    deed: TaskDeed,
    reason: Option<String>,
) -> Result<TaskList, AdminError> {
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_CHARACTERS_MAX) {
        return Err(AdminError::bad(
            "reason",
            format!("a reason has at most {REASON_CHARACTERS_MAX} characters"),
        ));
    }
    let changed = desk.journal.change_task(TaskChange { path, deed, reason, at: desk.now() }).await?;
    let view = |record: &TaskRecord| TaskView::of(record, &TaskSums::default(), 0);
    Ok(TaskList { data: changed.iter().map(view).collect() })
}

fn flatten(node: &TaskNode, level: usize, into: &mut Vec<TaskView>) {
    into.push(TaskView::of(&node.row.record, &node.whole, level));
    node.inside.iter().for_each(|inside| flatten(inside, level + 1, into));
}

impl TaskView {
    fn of(record: &TaskRecord, sums: &TaskSums, level: usize) -> Self {
        Self {
            task: record.path.to_string(),
            account: record.account.to_string(),
            state: record.state.into(),
            reason: record.reason.clone(),
            created_at: record.created_at.to_string(),
            state_at: record.state_at.to_string(),
            calls: sums.calls,
            open_calls: sums.open_calls,
            unpriced_calls: sums.unpriced_calls,
            input_tokens: sums.usage.input(),
            output_tokens: sums.usage.output,
            cost: sums.cost.to_string(),
            busy_ms: sums.busy_ms,
            level,
        }
    }
}

impl From<TaskState> for TaskWord {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Running => Self::Running,
            TaskState::HandingBack => Self::HandingBack,
            TaskState::Stopped => Self::Stopped,
            TaskState::Approved => Self::Approved,
        }
    }
}

impl From<TaskWord> for TaskState {
    fn from(word: TaskWord) -> Self {
        match word {
            TaskWord::Running => Self::Running,
            TaskWord::HandingBack => Self::HandingBack,
            TaskWord::Stopped => Self::Stopped,
            TaskWord::Approved => Self::Approved,
        }
    }
}

/// List runs, the latest first
#[utoipa::path(get, path = "/admin/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(ListTasks),
    responses((status = 200, body = TaskList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ListTasks>,
) -> Result<Answer<TaskList>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Show a task and everything inside of it, with what each came to
#[utoipa::path(get, path = "/admin/v1/tasks/tree", operation_id = "get_task_tree", tag = "tasks", params(ShowTask),
    responses((status = 200, body = TaskList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ShowTask>,
) -> Result<Answer<TaskList>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Let a task go on, with so much more than it had
#[utoipa::path(post, path = "/admin/v1/tasks/approve", operation_id = "approve_task", tag = "tasks", request_body = ApproveTask,
    responses((status = 200, body = TaskList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn approve(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<ApproveTask>,
) -> Result<Answer<TaskList>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Stop a task, and everything inside of it
#[utoipa::path(post, path = "/admin/v1/tasks/stop", operation_id = "stop_task", tag = "tasks", request_body = StopTask,
    responses((status = 200, body = TaskList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn stop(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<StopTask>,
) -> Result<Answer<TaskList>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}
