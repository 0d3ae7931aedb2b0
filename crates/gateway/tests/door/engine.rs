//! An engine that says what it was told to say, at the pace it was told, and breaks where it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::{
    EnginePort, EngineStatus, StepEvent, SubmitError, TokenId, TokenLogprob, TokenOut, Work, WorkEnd,
    WorkEvent, WorkKey, WorkUsage,
};
use gateway::Outbox;
use parking_lot::Mutex;

use crate::words;

#[derive(Clone)]
pub struct Script {
    answer: Vec<TokenId>,
    repeats: bool,
    pause: Duration,
    waiting_room: usize,
    cached_tokens: u32,
    starts: bool,
    breaks: Option<(usize, Break)>,
}

#[derive(Clone)]
enum Break {
    /// The engine gives the work up.
    Failure,
    /// The engine's thread ends without a word.
    Death,
}

impl Script {
    /// Answers with these words, then a stop token.
    pub fn says(answer: &str) -> Self {
        Self {
            answer: words::tokens(answer),
            repeats: false,
            pause: Duration::from_millis(1),
            waiting_room: usize::MAX,
            cached_tokens: 0,
            starts: true,
            breaks: None,
        }
    }
    /// Says these words over and over, up to the limit asked for.
    pub fn repeats(words: &str) -> Self {
        Self { repeats: true, ..Self::says(words) }
    }
    pub fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }
    pub fn with_room_for(self, waiting_room: usize) -> Self {
        Self { waiting_room, ..self }
    }
    pub fn finding_in_cache(self, cached_tokens: u32) -> Self {
        Self { cached_tokens, ..self }
    }
    /// Takes work and lets it wait for ever.
    pub fn never_starting(self) -> Self {
        Self { starts: false, ..self }
    }
    pub fn failing_after(self, tokens: usize) -> Self {
        Self { breaks: Some((tokens, Break::Failure)), ..self }
    }
    pub fn dying_after(self, tokens: usize) -> Self {
        Self { breaks: Some((tokens, Break::Death)), ..self }
    }
}

pub struct ScriptedEngine {
    script: Script,
    state: Mutex<State>,
    is_dead: AtomicBool,
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    running: Vec<Running>,
    cancelled: Vec<WorkKey>,
    submitted: Vec<Work>,
    produced: u64,
}

struct Running {
    work: Work,
    is_started: bool,
    produced: usize,
}

impl ScriptedEngine {
    pub fn start(script: Script, outbox: Outbox) -> Arc<Self> {
        let engine = Arc::new(Self {
            script,
            state: Mutex::default(),
            is_dead: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        });
        let worker = engine.clone();
        std::thread::spawn(move || worker.run(&outbox));
        engine
    }

    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
    /// Returns everything that was ever submitted.
    pub fn submitted(&self) -> Vec<Work> {
        self.state.lock().submitted.clone()
    }
    pub fn cancelled(&self) -> usize {
        self.state.lock().cancelled.len()
    }
    /// Returns how many events it has sent.
    pub fn produced(&self) -> u64 {
        self.state.lock().produced
    }
    pub fn running(&self) -> usize {
        self.state.lock().running.len()
    }

    fn run(&self, outbox: &Outbox) {
        while !self.is_stopped.load(Ordering::Relaxed) {
            let Some(events) = self.step() else {
                self.is_dead.store(true, Ordering::Relaxed);
                return;
            };
            outbox.deliver(events);
            std::thread::sleep(self.script.pause);
        }
    }

    /// Returns the step's events, or nothing if the engine dies of it.
    fn step(&self) -> Option<Vec<StepEvent>> {
        let state = &mut *self.state.lock();
        let mut events = Vec::new();
        let mut is_alive = true;
        state.running.retain_mut(|running| {
            let key = running.work.key.clone();
            let before = events.len();
            let mut say = |event| events.push(StepEvent { key: key.clone(), event });
            if state.cancelled.contains(&key) {
                say(running.ended(WorkEnd::Cancelled, &self.script));
                return false;
            }
            is_alive &= running.advance(&self.script, &mut say);
            state.produced += (events.len() - before) as u64;
            !matches!(events.last(), Some(StepEvent { event: WorkEvent::Ended { .. }, key: last }) if *last == key)
        });
        is_alive.then_some(events)
    }
}

impl Running {
    /// Returns whether the engine lives on.
    fn advance(&mut self, script: &Script, say: &mut impl FnMut(WorkEvent)) -> bool {
        if !script.starts {
            return true;
        }
        if !self.is_started {
            self.is_started = true;
            say(WorkEvent::Started { cached_tokens: script.cached_tokens });
            if self.work.prompt_logprobs {
                let scores = self.work.prompt.iter().enumerate();
                say(WorkEvent::PromptLogprobs(
                    scores.map(|(at, token)| (at > 0).then(|| self.score(*token))).collect(),
                ));
            }
        }
        match script.breaks {
            Some((tokens, Break::Failure)) if self.produced == tokens => {
                say(self.ended(WorkEnd::Failed("its scores are not numbers".into()), script));
                return true;
            }
            Some((tokens, Break::Death)) if self.produced == tokens => return false,
            _ => {}
        }
        if self.produced >= self.work.max_output_tokens as usize {
            say(self.ended(WorkEnd::Length, script));
            return true;
        }
        let next = match script.repeats {
            true => script.answer.get(self.produced % script.answer.len()),
            false => script.answer.get(self.produced),
        };
        self.produced += 1;
        match next {
            Some(&token) => {
                let logprob = self.work.logprobs.map(|_| self.score(token));
                say(WorkEvent::Produced(vec![TokenOut { token, logprob }]));
            }
            None => say(self.ended(WorkEnd::Stop, script)),
        }
        true
    }

    fn score(&self, token: TokenId) -> TokenLogprob {
        let rivals = u32::from(self.work.logprobs.unwrap_or(0));
        TokenLogprob {
            logprob: -0.5,
            top: (0..rivals).map(|rival| (token ^ rival, -0.5 - rival as f32)).collect(),
        }
    }

    fn ended(&self, end: WorkEnd, script: &Script) -> WorkEvent {
        let prompt_tokens = if self.is_started { self.work.prompt.len() as u32 } else { 0 };
        let cached_tokens = script.cached_tokens.min(prompt_tokens);
        WorkEvent::Ended {
            end,
            usage: WorkUsage {
                prompt_tokens,
                cached_tokens,
                output_tokens: self.produced as u32,
                ..WorkUsage::default()
            },
        }
    }
}

impl EnginePort for ScriptedEngine {
    fn submit(&self, work: Work) -> Result<(), SubmitError> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Err(SubmitError::Dead("it was told to die".into()));
        }
        let mut state = self.state.lock();
        let (waiting, limit) = (state.running.len(), self.script.waiting_room);
        if waiting >= limit {
            return Err(SubmitError::QueueFull { waiting, limit });
        }
        state.submitted.push(work.clone());
        state.running.push(Running { work, is_started: false, produced: 0 });
        Ok(())
    }
    fn cancel(&self, key: &WorkKey) {
        self.state.lock().cancelled.push(key.clone());
    }
    fn status(&self) -> EngineStatus {
        let state = self.state.lock();
        EngineStatus {
            running: state.running.len() as u64,
            blocks_total: 100,
            blocks_in_use: 25,
            output_tokens: state.produced,
            dead: self.is_dead.load(Ordering::Relaxed).then(|| "it was told to die".to_owned()),
            ..EngineStatus::default()
        }
    }
}
