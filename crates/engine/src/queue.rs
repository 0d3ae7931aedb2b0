//! Who of those that wait is next?
//!
//! First the priority class; inside a class, tenants take turns (deficit round-robin in tokens); inside a tenant's lane,
//! the order of arrival, except that a sequence near the front with more of its prompt in the cache may go first.

use std::collections::{HashMap, VecDeque};

use domain::{Tenant, WorkKey};

use crate::sequence::Sequence;

/// Tokens that a tenant may have computed in each of its turns: an ordinary request. Less would only turn the ring faster,
/// more would let tenants go in bursts.
pub(crate) const QUANTUM_TOKENS: i64 = 512;
/// What a produced token counts, in prompt tokens: prompt rows share one reading of the weights, an answer's rows share it
/// only with their neighbours. Two is what is commonly charged for the difference, and errs on the side of long answers.
pub(crate) const OUTPUT_TOKEN_COST: i64 = 2;
/// How far from the front of its lane a sequence may be preferred, and how often it may be bypassed.
const WINDOW: usize = 8;

/// Everything that waits. At most `max_waiting` newcomers and `max_running` preempted ones.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Indexed by priority.
    classes: [Class; 3],
    waiting: usize,
}

#[derive(Debug, Default)]
struct Class {
    /// Tenants that wait or run; a tenant that does neither is forgotten with its credit.
    lanes: HashMap<Tenant, Lane>,
    /// Tenants that wait, in the order of their turns.
    ring: VecDeque<Tenant>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Sequence>,
    running: usize,
    /// Tokens this tenant may still have computed in this turn; negative when it took more.
    credit_tokens: i64,
}

/// A place in the queue; good until the queue changes.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    class: usize,
    tenant: Tenant,
    index: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
    pub(crate) fn get(&self, candidate: &Candidate) -> &Sequence {
        &self.classes[candidate.class].lanes[&candidate.tenant].waiting[candidate.index]
    }

    pub(crate) fn push(&mut self, sequence: Sequence) {
        self.lane_to_fill(&sequence).waiting.push_back(sequence);
    }

    /// Puts a preempted sequence before its tenant's others.
    pub(crate) fn push_preempted(&mut self, sequence: Sequence) {
        let lane = self.lane_to_fill(&sequence);
        lane.running -= 1;
        lane.waiting.push_front(sequence);
    }

    /// Returns who is next among those that are ready: `cached` says how many blocks of a sequence are in the cache, or
    /// nothing if it had better wait. Asking again without a change gives the same answer.
    pub(crate) fn next(
        &mut self,
        mut cached: impl FnMut(&mut Sequence) -> Option<usize>,
    ) -> Option<Candidate> {
        for (index, class) in self.classes.iter_mut().enumerate().rev() {
            class.turn();
            let Class { lanes, ring } = class;
            for tenant in ring {
                let lane = lanes.get_mut(tenant).expect("every tenant of the ring has a lane");
                if let Some(place) = lane.choose(&mut cached) {
                    return Some(Candidate { class: index, tenant: tenant.clone(), index: place });
                }
            }
        }
        None
    }

    /// Takes a sequence out to run, at the cost of so many tokens.
    pub(crate) fn take(&mut self, candidate: Candidate, tokens: usize) -> Sequence {
        let class = &mut self.classes[candidate.class];
        let lane = class.lanes.get_mut(&candidate.tenant).expect("a candidate has a lane");
        let sequence = lane.waiting.remove(candidate.index).expect("a candidate has its place");
        for bypassed in lane.waiting.iter_mut().take(candidate.index) {
            bypassed.bypassed += 1;
        }
        lane.running += 1;
        lane.credit_tokens -= tokens as i64;
        class.tidy(&candidate.tenant);
        self.waiting -= 1;
        sequence
    }

    /// Charges a running sequence's tenant for a token produced.
    pub(crate) fn charge_output(&mut self, sequence: &Sequence) {
        if let Some(lane) = self.classes[sequence.priority() as usize].lanes.get_mut(sequence.tenant()) {
            lane.credit_tokens -= OUTPUT_TOKEN_COST;
        }
    }

    /// Takes note that a running sequence has ended.
    pub(crate) fn note_end(&mut self, sequence: &Sequence) {
        let class = &mut self.classes[sequence.priority() as usize];
        let lane = class.lanes.get_mut(sequence.tenant()).expect("who runs has a lane");
        lane.running -= 1;
        class.tidy(sequence.tenant());
    }

    /// Takes out every waiting sequence of that key.
    pub(crate) fn remove(&mut self, key: &WorkKey) -> Vec<Sequence> {
        self.remove_where(|sequence| sequence.key() == key)
    }

    pub(crate) fn remove_all(&mut self) -> Vec<Sequence> {
        self.remove_where(|_| true)
    }

    fn remove_where(&mut self, goes: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let mut gone = Vec::new();
        for class in &mut self.classes {
            for tenant in class.ring.clone() {
                let lane = class.lanes.get_mut(&tenant).expect("every tenant of the ring has a lane");
                for index in (0..lane.waiting.len()).rev() {
                    if goes(&lane.waiting[index]) {
                        gone.extend(lane.waiting.remove(index));
                    }
                }
                class.tidy(&tenant);
            }
        }
        self.waiting -= gone.len();
        gone
    }

    fn lane_to_fill(&mut self, sequence: &Sequence) -> &mut Lane {
        self.waiting += 1;
        let class = &mut self.classes[sequence.priority() as usize];
        let lane = class.lanes.entry(sequence.tenant().clone()).or_default();
        if lane.waiting.is_empty() {
            class.ring.push_back(sequence.tenant().clone());
        }
        lane
    }
}

impl Class {
    /// Brings a tenant with credit to the front of the ring; whoever has none gets a quantum and goes to the back.
    fn turn(&mut self) {
        while let Some(tenant) = self.ring.front() {
            let lane = self.lanes.get_mut(tenant).expect("every tenant of the ring has a lane");
            if lane.credit_tokens > 0 {
                break;
            }
            lane.credit_tokens += QUANTUM_TOKENS;
            self.ring.rotate_left(1);
        }
    }

    fn tidy(&mut self, tenant: &Tenant) {
        let lane = &self.lanes[tenant];
        if lane.waiting.is_empty() {
            if lane.running == 0 {
                self.lanes.remove(tenant);
            }
            self.ring.retain(|other| other != tenant);
        }
    }
}

impl Lane {
    fn choose(&mut self, mut cached: impl FnMut(&mut Sequence) -> Option<usize>) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        for (index, sequence) in self.waiting.iter_mut().take(WINDOW).enumerate() {
            let Some(blocks) = cached(sequence) else { continue };
            if sequence.bypassed as usize >= WINDOW {
                return Some(index);
            }
            if best.is_none_or(|(_, most)| blocks > most) {
                best = Some((index, blocks));
            }
        }
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::{Priority, RequestId, Sampling, Tokens, Work};

    use super::*;

    fn sequence(name: &str, tenant: &str, priority: Priority) -> Sequence {
        let work = Work {
            key: WorkKey { request: RequestId::from(name), choice: 0 },
            tenant: Tenant::from(tenant),
            priority,
            prompt: Tokens::new(vec![1, 2, 3]).unwrap(),
            max_output_tokens: 1,
            sampling: Sampling::greedy(),
            stop_tokens: Arc::new([]),
            logprobs: None,
            prompt_logprobs: false,
        };
        Sequence::new(work, Vec::new(), 0)
    }

    fn name(sequence: &Sequence) -> String {
        sequence.key().request.to_string()
    }

    /// Takes everything, each at a cost, and returns the names in order.
    fn drain(queue: &mut Queue, tokens: usize) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(candidate) = queue.next(|_| Some(0)) {
            order.push(name(&queue.take(candidate, tokens)));
        }
        assert!(queue.is_empty());
        order
    }

    #[test]
    fn higher_classes_go_first_and_equals_in_order_of_arrival() {
        let mut queue = Queue::default();
        for (name, priority) in [
            ("b1", Priority::Batch),
            ("s1", Priority::Standard),
            ("h1", Priority::High),
            ("s2", Priority::Standard),
            ("h2", Priority::High),
        ] {
            queue.push(sequence(name, "t", priority));
        }
        assert_eq!(drain(&mut queue, 10), ["h1", "h2", "s1", "s2", "b1"]);
    }

    #[test]
    fn a_tenant_with_many_requests_does_not_hold_up_one_with_few() {
        let mut queue = Queue::default();
        for index in 0..6 {
            queue.push(sequence(&format!("a{index}"), "a", Priority::Standard));
        }
        queue.push(sequence("b0", "b", Priority::Standard));
        queue.push(sequence("b1", "b", Priority::Standard));
        let order = drain(&mut queue, QUANTUM_TOKENS as usize);
        assert_eq!(order, ["a0", "b0", "a1", "b1", "a2", "a3", "a4", "a5"]);
    }

    #[test]
    fn turns_are_counted_in_tokens_and_not_in_requests() {
        let mut queue = Queue::default();
        for index in 0..8 {
            queue.push(sequence(&format!("small{index}"), "small", Priority::Standard));
            queue.push(sequence(&format!("large{index}"), "large", Priority::Standard));
        }
        let (mut small, mut large) = (0usize, 0usize);
        while small < 8 {
            let candidate = queue.next(|_| Some(0)).unwrap();
            let is_small = name(queue.get(&candidate)).starts_with("small");
            queue.take(candidate, if is_small { 500 } else { 2000 });
            if is_small {
                small += 1
            } else {
                large += 1
            }
            let ahead = (500 * small).abs_diff(2000 * large);
            // The bound of deficit round-robin: a quantum and one request.
            assert!(ahead <= 512 + 2000, "{small} small and {large} large");
        }
        assert_eq!(large, 2);
    }

    #[test]
    fn cached_prompts_are_preferred_near_the_front_and_nobody_is_bypassed_for_ever() {
        let mut queue = Queue::default();
        queue.push(sequence("cold", "t", Priority::Standard));
        for index in 0..20 {
            queue.push(sequence(&format!("hot{index}"), "t", Priority::Standard));
        }
        let mut order = Vec::new();
        while let Some(next) = queue.next(|sequence| Some(usize::from(name(sequence).starts_with("hot")))) {
            order.push(name(&queue.take(next, 1)));
        }
        assert_eq!(order[0], "hot0");
        assert_eq!(order.iter().position(|name| name == "cold"), Some(WINDOW));
    }

    #[test]
    fn who_is_not_ready_does_not_hold_up_the_others() {
        let mut queue = Queue::default();
        queue.push(sequence("later", "a", Priority::High));
        queue.push(sequence("now", "b", Priority::Batch));
        let mut ready = |sequence: &mut Sequence| (name(sequence) == "now").then_some(0);
        let next = queue.next(&mut ready).unwrap();
        assert_eq!(name(&queue.take(next, 1)), "now");
        assert!(queue.next(&mut ready).is_none());
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_preempted_sequence_comes_back_first() {
        let mut queue = Queue::default();
        for name in ["one", "two", "three"] {
            queue.push(sequence(name, "t", Priority::Standard));
        }
        let next = queue.next(|_| Some(0)).unwrap();
        let preempted = queue.take(next, 1);
        queue.push_preempted(preempted);
        assert_eq!(drain(&mut queue, 1), ["one", "two", "three"]);
    }

    #[test]
    fn a_tenant_without_work_is_forgotten() {
        let mut queue = Queue::default();
        queue.push(sequence("one", "t", Priority::Standard));
        queue.push(sequence("two", "t", Priority::Standard));
        assert_eq!(queue.remove(&sequence("two", "t", Priority::Standard).key().clone()).len(), 1);
        let next = queue.next(|_| Some(0)).unwrap();
        let running = queue.take(next, 1);
        queue.charge_output(&running);
        queue.note_end(&running);
        assert!(queue.classes.iter().all(|class| class.lanes.is_empty() && class.ring.is_empty()));
    }
}
