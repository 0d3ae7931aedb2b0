//! The engine on its own thread, as a gateway meets it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use domain::{EnginePort, StepEvent, SubmitError, TokenId, Work, WorkEnd, WorkEvent, WorkKey};
use engine::{Engine, EngineConfig, EngineHandle, KvBudget, StartError};
use simulator::random::Random;
use simulator::toy::{Cost, Pace, Toy, ToySettings, greedy_answer};
use simulator::watch::Watch;
use simulator::world::{config, key, work};

/// Longer than anything here takes, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    engine: EngineHandle,
    messages: Receiver<Vec<StepEvent>>,
    watch: Watch,
}

fn serve(step_ms: u64, config: EngineConfig) -> Served {
    let cost = Cost { step_ns: step_ms * 1_000_000, ..Cost::default() };
    let toy = Toy::new(ToySettings { cost, pace: Pace::Real, ..ToySettings::default() });
    let (sender, messages) = channel();
    let outbox = Box::new(move |events| {
        let _ = sender.send(events);
    });
    let engine = Engine::start(Box::new(toy), config, outbox).expect("the engine starts");
    Served { engine, messages, watch: Watch::default() }
}

impl Served {
    fn wait_for(&mut self, mut done: impl FnMut(&Watch) -> bool) {
        let start = Instant::now();
        while !done(&self.watch) {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let events = self.messages.recv_timeout(left).expect("the engine goes on");
            assert!(!events.is_empty(), "a message without events");
            self.watch.note(events, start.elapsed());
        }
    }

    fn wait_for_end(&mut self, keys: &[WorkKey]) {
        self.wait_for(|watch| keys.iter().all(|key| watch.has_ended(key)));
    }

    /// The status after the step under way.
    fn idle_status(&self) -> domain::EngineStatus {
        let start = Instant::now();
        loop {
            let status = self.engine.status();
            if status.running + status.waiting + status.blocks_in_use == 0 || start.elapsed() > PATIENCE {
                return status;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn tokens(seed: u64, count: usize) -> Vec<TokenId> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.between(1, 60) as TokenId).collect()
}

fn endless(name: &str) -> Work {
    Work { max_output_tokens: 4000, ..work(name, tokens(1, 40)) }
}

#[test]
fn many_clients_at_once_each_get_their_own_answer() {
    let mut served = serve(0, config(100));
    let keys: Vec<WorkKey> = (0..64).map(|number| key(&format!("w{number}"))).collect();
    std::thread::scope(|scope| {
        for client in 0..4u64 {
            let engine = served.engine.clone();
            scope.spawn(move || {
                for number in (0..16).map(|round| round * 4 + client) {
                    let work = work(&format!("w{number}"), tokens(number, 30 + number as usize));
                    engine.submit(work).expect("there is room");
                }
            });
        }
    });
    served.wait_for_end(&keys);
    for number in 0..64u64 {
        let expected = greedy_answer(&tokens(number, 30 + number as usize), 8, &[], 61);
        assert_eq!(served.watch.answer(&keys[number as usize]).tokens, expected);
    }
    let status = served.idle_status();
    assert_eq!((status.blocks_in_use, status.output_tokens, status.failures), (0, 64 * 8, 0));
    served.engine.stop();
}

#[test]
fn an_idle_engine_sleeps() {
    let mut served = serve(0, config(100));
    served.engine.submit(work("w", tokens(1, 40))).unwrap();
    served.wait_for_end(&[key("w")]);
    // It checks its blocks before each sleep: at the start, and after the work.
    let start = Instant::now();
    while served.engine.status().integrity_checks < 2 {
        assert!(start.elapsed() < PATIENCE, "it never rests");
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = served.engine.status();
    std::thread::sleep(Duration::from_millis(100));
    let after = served.engine.status();
    assert_eq!((after.steps, after.integrity_checks), (before.steps, before.integrity_checks));
    served.engine.stop();
}

#[test]
fn a_cancelled_work_ends_within_a_step() {
    let mut served = serve(5, config(200));
    served.engine.submit(endless("w")).unwrap();
    served.wait_for(|watch| watch.heard_of(&key("w")).is_some_and(|answer| answer.tokens.len() > 3));
    served.engine.cancel(&key("w"));
    let at_cancel = served.engine.status().steps;
    served.wait_for_end(&[key("w")]);
    let status = served.idle_status();
    assert_eq!(served.watch.answer(&key("w")).ended(), &WorkEnd::Cancelled);
    // The step under way, and the one that tells.
    assert!(status.steps <= at_cancel + 2, "{} steps later", status.steps - at_cancel);
    served.engine.stop();
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let limits = EngineConfig { max_running: 1, max_waiting: 3, ..config(200) };
    let mut served = serve(2, limits);
    served.engine.submit(endless("running")).unwrap();
    served.wait_for(|watch| watch.heard_of(&key("running")).is_some());
    for number in 0..3 {
        served.engine.submit(work(&format!("w{number}"), tokens(number, 20))).unwrap();
    }
    let refused = served.engine.submit(work("too many", tokens(9, 20)));
    assert_eq!(refused, Err(SubmitError::QueueFull { waiting: 3, limit: 3 }));
    served.engine.cancel(&key("w0"));
    served.wait_for_end(&[key("w0")]);
    served.engine.submit(work("w3", tokens(3, 20))).expect("one place is free again");
    served.engine.cancel(&key("running"));
    served.wait_for_end(&[key("w1"), key("w2"), key("w3")]);
    served.engine.stop();
}

#[test]
fn what_can_never_fit_is_refused_with_the_numbers() {
    let served = serve(0, config(2));
    assert_eq!(served.engine.context_tokens(), 64);
    let refused = served.engine.submit(work("w", tokens(1, 64)));
    let (prompt_tokens, max_output_tokens, context_tokens) = (64, 8, 64);
    assert_eq!(
        refused,
        Err(SubmitError::ContextOverflow { prompt_tokens, max_output_tokens, context_tokens })
    );
    served.engine.stop();
}

#[test]
fn stopping_cancels_what_is_there_and_refuses_what_comes() {
    let mut served = serve(2, EngineConfig { max_running: 2, ..config(500) });
    let keys: Vec<WorkKey> = (0..5).map(|number| key(&format!("w{number}"))).collect();
    (0..5).for_each(|number| served.engine.submit(endless(&format!("w{number}"))).unwrap());
    served.wait_for(|watch| watch.heard_of(&keys[0]).is_some_and(|answer| !answer.tokens.is_empty()));
    served.engine.stop();
    served.wait_for_end(&keys);
    for key in &keys {
        let answer = served.watch.answer(key);
        assert_eq!(answer.ended(), &WorkEnd::Cancelled);
        assert_eq!(answer.usage().output_tokens as usize, answer.tokens.len());
    }
    assert_eq!(served.engine.submit(work("late", tokens(1, 9))), Err(SubmitError::Stopping));
    assert_eq!(served.engine.status().blocks_in_use, 0);
    served.engine.stop();
}

#[test]
fn dropping_the_last_handle_stops_the_engine() {
    let mut served = serve(1, config(200));
    served.engine.submit(endless("w")).unwrap();
    let Served { engine, messages, watch } = served;
    drop(engine);
    let mut watch = watch;
    // The channel closes when the thread has dropped its outbox.
    while let Ok(events) = messages.recv_timeout(PATIENCE) {
        watch.note(events, Duration::ZERO);
    }
    assert_eq!(watch.answer(&key("w")).ended(), &WorkEnd::Cancelled);
    served = serve(0, config(1));
    served.engine.stop();
}

#[test]
fn a_dead_engine_says_so_and_leaves_no_work_without_an_end() {
    let toy = ToySettings { pace: Pace::Real, cost: Cost::default(), ..ToySettings::default() };
    let (sender, messages) = channel();
    let mut steps = 0;
    let outbox = Box::new(move |events: Vec<StepEvent>| {
        steps += 1;
        assert!(steps != 5, "told to die");
        let _ = sender.send(events);
    });
    let limits = EngineConfig { max_running: 2, ..config(500) };
    let engine = Engine::start(Box::new(Toy::new(toy)), limits, outbox).unwrap();
    let keys: Vec<WorkKey> = (0..6).map(|number| key(&format!("w{number}"))).collect();
    let accepted: Vec<&WorkKey> =
        keys.iter().filter(|key| engine.submit(endless(key.request.as_str())).is_ok()).collect();
    let mut ends = 0;
    while let Ok(events) = messages.recv_timeout(PATIENCE) {
        for StepEvent { event, .. } in events {
            if let WorkEvent::Ended { end, .. } = event {
                assert_eq!(end, WorkEnd::Failed("the engine has died: told to die".to_owned()));
                ends += 1;
            }
        }
    }
    assert_eq!(ends, accepted.len());
    assert_eq!(engine.submit(work("late", tokens(1, 9))), Err(SubmitError::Dead("told to die".to_owned())));
    assert_eq!(engine.status().dead, Some("told to die".to_owned()));
    engine.stop();
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let start = |config| {
        let toy = Box::new(Toy::new(ToySettings::default()));
        Engine::start(toy, config, Box::new(|_| {})).map(|engine| engine.stop()).unwrap_err()
    };
    let tiny = EngineConfig { kv: KvBudget::Bytes(10), ..EngineConfig::default() };
    let bytes = Toy::new(ToySettings::default());
    let block_bytes = model::Forward::shape(&bytes).block_bytes;
    assert_eq!(start(tiny), StartError::KvTooSmall { budget_bytes: 10, block_bytes });
    let setting =
        |name, value, expected: &str| StartError::Setting { name, value, expected: expected.to_owned() };
    let none = EngineConfig { max_running: 0, ..EngineConfig::default() };
    assert_eq!(start(none), setting("max_running", 0, "at least 1"));
    let upside_down = EngineConfig { chunk_tokens_max: 8, ..EngineConfig::default() };
    assert_eq!(start(upside_down), setting("chunk_tokens_max", 8, "at least chunk_tokens_min"));
}

#[test]
fn a_handle_may_be_shared_as_a_port() {
    let served = serve(0, config(10));
    let port: Arc<dyn EnginePort> = Arc::new(served.engine.clone());
    assert_eq!(port.status().blocks_total, 10);
    served.engine.stop();
}
