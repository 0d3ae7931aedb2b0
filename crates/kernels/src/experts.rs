//! How do rows pass the few experts that each of them chose, and nobody else?
//!
//! Pairs of a row and an expert are sorted by expert, so that an expert's weights are read once for all its rows:
//!
//! ```text
//! chosen   row 0: 5 2   row 1: 2 7   row 2: 5 2
//! pairs    2: rows 0 1 2   5: rows 0 2   7: row 1
//! ```
//!
//! Both products are one list of tasks over all experts, some panels of one expert each, from which threads take the next one
//! when they have done one: nobody waits for an expert to end. At last each row adds up what its experts made of it, in the
//! order in which it chose them, whatever rows stand beside it.

use std::ops::Range;

use crate::cpu::dots::DotsPath;
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch};
use crate::cpu::matmul;
use crate::cpu::quantize::{Activations, Form};
use crate::cpu::words;
use crate::memory::Shared;
use crate::{Matrix, Pool, Precision, silu_mul};

/// The gated feed-forward weights of all experts of one layer.
///
/// All gates and ups are one matrix and all downs another, expert after expert, each padded with zeros to whole panels: memory
/// is taken twice and not once for each of a hundred experts, whose last huge pages would each be partly empty.
pub struct Experts {
    shape: ExpertsShape,
    gate_up: Matrix,
    down: Matrix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertsShape {
    pub count: usize,
    /// Values of a row.
    pub hidden: usize,
    /// Values between the two products of an expert.
    pub width: usize,
}

/// Which weights of an expert: gate and up have `width` rows of `hidden` values, down `hidden` rows of `width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertPart {
    Gate,
    Up,
    Down,
}

/// Which experts each row goes to, and how much each of them counts.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Experts that a row goes to.
    chosen: usize,
    /// `[rows][chosen]`, the likeliest first.
    experts: Vec<u32>,
    weights: Vec<f32>,
}

/// What passes between the products, kept from layer to layer and from step to step; as large as the largest step so far.
#[derive(Default)]
pub struct ExpertBuffers {
    pairs: Pairs,
    /// `[pairs][2][width]`
    gate_up: Vec<f32>,
    /// `[pairs][width]`
    gated: Vec<f32>,
    /// `[pairs][hidden]`
    down: Vec<f32>,
}

impl Routes {
    /// Chooses for each row of `experts` scores the `chosen` likeliest experts. Weights are softmax over all scores; where they are
    /// `renormalised`, those of a row are then divided by their sum. A row with a score that is NaN gets weights that are NaN.
    pub fn choose(&mut self, pool: &Pool, scores: &[f32], experts: usize, chosen: usize, renormalised: bool) {
        /// A thread is not worth waking for fewer scores than this.
        const SCORES_LEAST: usize = 4 << 10;
        assert!((1..=experts).contains(&chosen), "{chosen} of {experts} experts are chosen");
        assert!(scores.len().is_multiple_of(experts), "each row has {experts} scores");
        let rows = scores.len() / experts;
        self.chosen = chosen;
        self.experts.resize(rows * chosen, 0);
        self.weights.resize(rows * chosen, 0.0);
        let to = (Shared::new(self.experts.as_mut_ptr()), Shared::new(self.weights.as_mut_ptr()));
        pool.run_ranges(rows, (SCORES_LEAST / experts).max(1), &|range| {
            let mut left = Vec::with_capacity(experts);
            for row in range {
                // SAFETY: each row is in one range only, and its places lie inside both lists.
                let (experts_of_row, weights) = unsafe {
                    let at = row * chosen;
                    (
                        std::slice::from_raw_parts_mut(to.0.get().add(at), chosen),
                        std::slice::from_raw_parts_mut(to.1.get().add(at), chosen),
                    )
                };
                left.clear();
                left.extend_from_slice(&scores[row * experts..][..experts]);
                choose_for_row(&mut left, renormalised, experts_of_row, weights);
            }
        });
    }

    fn rows(&self) -> usize {
        self.experts.len() / self.chosen.max(1)
    }
}

/// Takes probabilities out of `scores` one by one, the greatest first.
fn choose_for_row(scores: &mut [f32], renormalised: bool, experts: &mut [u32], weights: &mut [f32]) {
    /// Below every probability, and below NaN in the order used here.
    const TAKEN: f32 = -1.0;
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    for (expert, weight) in experts.iter_mut().zip(&mut *weights) {
        // One NaN makes the sum NaN, and so all of them: then the first experts are as good as any.
        let mut best = 0;
        for (i, score) in scores.iter().enumerate() {
            if *score > scores[best] || (scores[best] == TAKEN && *score != TAKEN) {
                best = i;
            }
        }
        (*expert, *weight) = (best as u32, scores[best]);
        scores[best] = TAKEN;
    }
    if renormalised {
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
}

/// Pairs of a row and an expert, sorted by expert and then by row.
#[derive(Default)]
struct Pairs {
    /// The row of each pair.
    rows: Vec<u32>,
    /// Where the pairs of each row are: `[rows][chosen]`.
    places: Vec<u32>,
    /// Experts that anybody chose.
    groups: Vec<Group>,
}

/// The pairs of one expert.
#[derive(Clone, Copy)]
struct Group {
    expert: usize,
    first: usize,
    rows: usize,
}

impl Pairs {
    /// Counting sort: experts are few.
    fn sort(&mut self, routes: &Routes, experts: usize) {
        let mut next = vec![0; experts];
        routes.experts.iter().for_each(|expert| next[*expert as usize] += 1);
        self.groups.clear();
        let mut first = 0;
        for (expert, next) in next.iter_mut().enumerate() {
            let rows = std::mem::replace(next, first);
            if rows > 0 {
                self.groups.push(Group { expert, first, rows });
            }
            first += rows;
        }
        self.rows.resize(first, 0);
        self.places.resize(first, 0);
        for (slot, expert) in routes.experts.iter().enumerate() {
            let place = &mut next[*expert as usize];
            self.rows[*place] = (slot / routes.chosen) as u32;
            self.places[slot] = *place as u32;
            *place += 1;
        }
    }
}

impl ExpertsShape {
    /// Outputs and inputs of the matrix of all gates and ups: of each expert its gates, then its ups.
    pub fn gate_up(self) -> (usize, usize) {
        (self.count.saturating_mul(2 * whole_panels(self.width)), self.hidden)
    }
    /// Outputs and inputs of the matrix of all downs. Inputs are whole panels too, for these are what gates and ups put out.
    pub fn down(self) -> (usize, usize) {
        (self.count.saturating_mul(whole_panels(self.hidden)), whole_panels(self.width))
    }

    /// Returns which row of which part of which expert a row of the first matrix is; padding is nobody's.
    pub fn of_gate_up(self, row: usize) -> Option<(ExpertPart, usize, usize)> {
        let width = whole_panels(self.width);
        let (expert, row) = (row / (2 * width), row % (2 * width));
        let (part, row) = if row < width { (ExpertPart::Gate, row) } else { (ExpertPart::Up, row - width) };
        (row < self.width).then_some((part, expert, row))
    }
    pub fn of_down(self, row: usize) -> Option<(ExpertPart, usize, usize)> {
        let hidden = whole_panels(self.hidden);
        (row % hidden < self.hidden).then_some((ExpertPart::Down, row / hidden, row % hidden))
    }
}

impl Experts {
    /// Takes matrices whose rows, and what pads them with zeros, are where the shape says.
    pub fn new(shape: ExpertsShape, gate_up: Matrix, down: Matrix) -> Self {
        assert_eq!((gate_up.outputs(), gate_up.inputs()), shape.gate_up(), "gates and ups of all experts");
        assert_eq!((down.outputs(), down.inputs()), shape.down(), "downs of all experts");
        Self { shape, gate_up, down }
    }

    pub fn shape(&self) -> ExpertsShape {
        self.shape
    }
    pub fn precision(&self) -> Precision {
        self.gate_up.precision()
    }
    /// Bytes that all experts occupy, scales and padding included.
    pub fn resident_bytes(&self) -> usize {
        self.gate_up.resident_bytes() + self.down.resident_bytes()
    }
    /// The name of the code path that multiplies by them: that of vector registers, also where there are tiles.
    pub fn path(&self, pool: &Pool) -> &'static str {
        crate::matrix::path(pool.isa(), crate::Numerics::BatchInvariant, self.precision())
    }

    /// `out[row] += Σ_j weight[row][j] · expert[row][j](x[row])`.
    pub fn run(&self, pool: &Pool, x: &[f32], routes: &Routes, buffers: &mut ExpertBuffers, out: &mut [f32]) {
        let ExpertsShape { count, hidden, width } = self.shape;
        assert_eq!(x.len(), routes.rows() * hidden, "x has a row of {hidden} values for each route");
        assert_eq!(out.len(), x.len(), "out has as many values as x");
        assert!(
            routes.experts.iter().all(|expert| (*expert as usize) < count),
            "routes lead to experts that exist"
        );
        let ExpertBuffers { pairs, gate_up, gated, down } = buffers;
        pairs.sort(routes, count);
        let (width, padded) = (whole_panels(width), whole_panels(hidden));
        let gate_up = at_least(gate_up, pairs.rows.len() * 2 * width);
        let gated = at_least(gated, pairs.rows.len() * width);
        let down = at_least(down, pairs.rows.len() * padded);

        self.products(pool, &self.gate_up, x, Some(&pairs.rows), &pairs.groups, gate_up);
        silu_mul(pool, gate_up, width, gated);
        self.products(pool, &self.down, gated, None, &pairs.groups, down);
        let to = Shared::new(out.as_mut_ptr());
        pool.run_ranges(routes.rows(), (VALUES_LEAST / (hidden * routes.chosen)).max(1), &|rows| {
            // SAFETY: ranges of rows lie inside `out` and do not overlap; the pool holds only paths that this machine has.
            unsafe {
                let out =
                    std::slice::from_raw_parts_mut(to.get().add(rows.start * hidden), rows.len() * hidden);
                dispatch(
                    pool.isa(),
                    AddUp { routes, places: &pairs.places, made: down, stride: padded, hidden, rows, out },
                );
            }
        });
    }

    /// The product of each pair with its expert's part of a weight; `order` says which row of `x` a pair has, or each has its own.
    fn products(
        &self,
        pool: &Pool,
        weight: &Matrix,
        x: &[f32],
        order: Option<&[u32]>,
        groups: &[Group],
        out: &mut [f32],
    ) {
        let (outputs, inputs) = (weight.outputs() / self.shape.count, weight.inputs());
        let tasks = tasks(pool, groups, outputs / LANES);
        let out = Shared::new(out.as_mut_ptr());
        let place = |group: &Group| {
            // SAFETY: a group's rows lie in `out`, and each of its panels is in one task only.
            Shared::new(unsafe { out.get().add(group.first * outputs) })
        };
        if matches!(weight.precision(), Precision::Int8 | Precision::Int4) {
            let path = DotsPath::of(pool.isa());
            let mut bytes = 0;
            let forms: Vec<(Form, usize)> = groups
                .iter()
                .map(|group| {
                    let form = words::form(path, group.rows, weight);
                    bytes += form.all_bytes();
                    (form, bytes - form.all_bytes())
                })
                .collect();
            let mut scratch = pool.scratch(bytes);
            let start = Shared::new(scratch.start_mut());
            // SAFETY: the scratch has room for the rows of all groups, one behind the other, each a whole number of cache lines.
            let activations = |group: usize| unsafe {
                let (form, offset) = forms[group];
                Activations::at(form, Shared::new(start.get().add(offset)))
            };
            let pieces = row_pieces(groups, inputs);
            pool.run(pieces.len(), &|i| {
                let (group, rows) = &pieces[i];
                let first = groups[*group].first;
                let (x, order) = match order {
                    Some(order) => (x, Some(&order[first..])),
                    None => (&x[first * inputs..], None),
                };
                // SAFETY: each row is in one piece only.
                unsafe { activations(*group).fill(pool.isa(), x, order, rows.clone()) };
            });
            pool.run(tasks.len(), &|i| {
                let (group, panels) = &tasks[i];
                let first_panel = groups[*group].expert * outputs / LANES;
                let panels = first_panel + panels.start..first_panel + panels.end;
                let part = words::Part {
                    activations: &activations(*group),
                    weight,
                    panels,
                    out: place(&groups[*group]),
                    first_panel,
                    stride: outputs,
                };
                // SAFETY: see above; the pool holds only paths this machine has.
                unsafe { part.run(path) };
            });
            return;
        }
        let gathered = order.map(|order| gather(pool, x, order, inputs));
        let x = gathered.as_ref().map_or(x, |memory| bytemuck::cast_slice(memory.as_slice()));
        pool.run(tasks.len(), &|i| {
            let (group, panels) = &tasks[i];
            let Group { expert, first, rows } = groups[*group];
            let first_panel = expert * outputs / LANES;
            let panels = first_panel + panels.start..first_panel + panels.end;
            let x = &x[first * inputs..][..rows * inputs];
            // SAFETY: see above; the pool holds only paths this machine has.
            unsafe {
                matmul::part(
                    pool.isa(),
                    x,
                    rows,
                    weight,
                    panels,
                    place(&groups[*group]),
                    first_panel,
                    outputs,
                );
            }
        });
    }
}

/// A thread is not worth waking for fewer values than this.
const VALUES_LEAST: usize = 16 << 10;

fn whole_panels(outputs: usize) -> usize {
    outputs.next_multiple_of(LANES)
}

fn at_least(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// Cuts the panels of all chosen experts into tasks of about the same work.
fn tasks(pool: &Pool, groups: &[Group], panels: usize) -> Vec<(usize, Range<usize>)> {
    /// So many that the last one, which others wait for, is a small part of the whole; each still reads half a megabyte of one row's
    /// experts in a model of the size that people run.
    const TASKS_PER_THREAD: usize = 16;
    /// Rows that cost as much as reading the weights.
    const ROWS_PER_READ: usize = 4;
    let cost = |group: &Group| group.rows.next_multiple_of(ROWS_PER_READ);
    let all: usize = groups.iter().map(cost).sum::<usize>() * panels;
    let mut tasks = Vec::with_capacity(groups.len() + pool.threads() * TASKS_PER_THREAD);
    for (number, group) in groups.iter().enumerate() {
        let share = cost(group) * panels * pool.threads() * TASKS_PER_THREAD;
        let parts = share.div_ceil(all).clamp(1, panels);
        tasks.extend((0..parts).map(|i| (number, panels * i / parts..panels * (i + 1) / parts)));
    }
    tasks
}

/// Cuts the rows of all groups into pieces that are worth a thread's while.
fn row_pieces(groups: &[Group], inputs: usize) -> Vec<(usize, Range<usize>)> {
    let least = (VALUES_LEAST / inputs.max(1)).max(1);
    let pieces = |(number, group): (usize, &Group)| {
        let rows = group.rows;
        (0..rows).step_by(least).map(move |first| (number, first..rows.min(first + least)))
    };
    groups.iter().enumerate().flat_map(pieces).collect()
}

/// Copies rows of `x` in the order of the pairs, into the pool's scratch.
fn gather<'a>(
    pool: &'a Pool,
    x: &[f32],
    order: &[u32],
    inputs: usize,
) -> std::sync::MutexGuard<'a, crate::memory::Arena> {
    let mut memory = pool.scratch(order.len() * inputs * size_of::<f32>());
    let to = Shared::new(memory.start_mut().cast::<f32>());
    pool.run_ranges(order.len(), (VALUES_LEAST / inputs.max(1)).max(1), &|pairs| {
        for pair in pairs {
            let from = &x[order[pair] as usize * inputs..][..inputs];
            // SAFETY: the scratch has room for all pairs, and each is in one range only.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.get().add(pair * inputs), inputs) };
        }
    });
    memory
}

/// Adds to some rows what their experts made of them.
struct AddUp<'a> {
    routes: &'a Routes,
    /// The pair of each row and choice.
    places: &'a [u32],
    /// `[pairs][stride]`, of which `hidden` count.
    made: &'a [f32],
    stride: usize,
    hidden: usize,
    rows: Range<usize>,
    /// Of these rows.
    out: &'a mut [f32],
}

impl Operation for AddUp<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        /// Values whose sums stay in the nearest cache.
        const BLOCK: usize = 256;
        let chosen = self.routes.chosen;
        for (row, out) in self.rows.zip(self.out.chunks_exact_mut(self.hidden)) {
            let slots = row * chosen..(row + 1) * chosen;
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                let mut sums = [0.0_f32; BLOCK];
                for slot in slots.clone() {
                    let weight = self.routes.weights[slot];
                    let made =
                        &self.made[self.places[slot] as usize * self.stride + block * BLOCK..][..out.len()];
                    sums.iter_mut().zip(made).for_each(|(sum, made)| *sum += weight * made);
                }
                out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
            }
        }
    }
}
