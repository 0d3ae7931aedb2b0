//! Does a chunk of a prompt get the same attention on tiles as by its definition?
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod common;

use common::{BF16_ROUNDING, F32_ROUNDING, Numbers, bits, pools};
use kernels::{AttentionSpan, BLOCK_TOKENS, Isa, KvCache, KvPrecision, Numerics, Pool, reference};

#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

/// One sequence, and what its queries are made of.
struct Sequence {
    shape: Shape,
    length: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    blocks: Vec<u32>,
}

/// Tiles round queries to bf16. Queries that are bf16 already leave only the rounding of weights, and a sharp bound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Queries {
    Rounded,
    Any,
}

impl Sequence {
    fn new(shape: Shape, length: usize, queries: Queries, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let rounded = |value: f32| half::bf16::from_f32(value).to_f32();
        let any = |value: f32| value;
        let kept = if queries == Queries::Rounded { rounded } else { any };
        // Queries of this size make some weights large: a softmax that is nearly flat would hide mistakes.
        let wide = length * shape.heads * shape.head_dim;
        let queries = numbers.floats(wide).into_iter().map(|value| kept(4.0 * value)).collect();
        let mut cached = || -> Vec<f32> {
            let narrow = length * shape.kv_heads * shape.head_dim;
            numbers.floats(narrow).into_iter().map(rounded).collect()
        };
        let (keys, values) = (cached(), cached());
        // Blocks run backwards, and one in front of them belongs to nobody.
        let blocks = (1..=length.div_ceil(BLOCK_TOKENS) as u32).rev().collect();
        Self { shape, length, queries, keys, values, blocks }
    }

    fn cache(&self) -> KvCache {
        KvCache::new(KvPrecision::Bf16, 2, self.blocks.len() + 1, self.shape.kv_heads, self.shape.head_dim)
    }

    /// Appends and attends chunks of `rows` rows, one after the other.
    fn run(&self, pool: &Pool, cache: &mut KvCache, rows: usize) -> Vec<f32> {
        let Shape { heads, kv_heads, head_dim, window } = self.shape;
        let (wide, narrow, scale) = (heads * head_dim, kv_heads * head_dim, 1.0 / (head_dim as f32).sqrt());
        let mut out = vec![f32::NAN; self.length * wide];
        for start in (0..self.length).step_by(rows) {
            let rows = rows.min(self.length - start);
            let span = [AttentionSpan { first_row: 0, rows, first_position: start, blocks: &self.blocks }];
            cache.append(
                pool,
                1,
                &self.keys[start * narrow..],
                &self.values[start * narrow..],
                narrow,
                &span,
            );
            let out = &mut out[start * wide..][..rows * wide];
            cache.attend(pool, 1, &self.queries[start * wide..], wide, heads, scale, window, &span, out);
        }
        out
    }

    /// A score is a sum of d products, in any order: off by 2(d + 2) roundings of scale · Σ|q·k|, and by one rounding to bf16 where
    /// queries are rounded. With every score off by at most Δ, the weights of a row, which sum to one, are off by e^2Δ - 1 altogether.
    /// Each weight is rounded to bf16 before it meets its value. Exponentials are off by 4e-7, once for the weight and once for
    /// each chunk that shrinks the sums; sums over n tokens add n roundings, twice because the total errs too. Values are no larger than 1.
    fn check(&self, out: &[f32], queries: Queries) {
        let Shape { heads, kv_heads, head_dim, window } = self.shape;
        let (wide, narrow, scale) = (heads * head_dim, kv_heads * head_dim, 1.0 / (head_dim as f32).sqrt());
        for (i, out) in out.chunks_exact(head_dim).enumerate() {
            let (position, head) = (i / heads, i % heads);
            let kv = head / (heads / kv_heads) * head_dim;
            let query = &self.queries[position * wide + head * head_dim..][..head_dim];
            let key = |p: usize| &self.keys[p * narrow + kv..][..head_dim];
            let value = |p: usize| &self.values[p * narrow + kv..][..head_dim];
            let mut truth = vec![f32::NAN; head_dim];
            reference::attention::attend(query, position, window, scale, key, value, &mut truth);
            let size = query.iter().map(|q| f64::from(q.abs())).sum::<f64>() * f64::from(scale);
            let rounding = if queries == Queries::Any { BF16_ROUNDING } else { 0.0 };
            let score = size * (2.0 * (head_dim as f64 + 2.0) * F32_ROUNDING + rounding);
            let chunks = (position / 128 + 1) as f64;
            let sums = 2.0 * ((chunks + 1.0) * 4e-7 + (position as f64 + 8.0) * F32_ROUNDING);
            let bound = (2.0 * score).exp_m1() + BF16_ROUNDING + sums;
            for (dimension, (out, truth)) in out.iter().zip(&truth).enumerate() {
                let off = f64::from((out - truth).abs());
                assert!(
                    off <= bound,
                    "{:?}: position {position}, head {head}, dimension {dimension}: {out}, not {truth}: off by {off:e}, \
                     bound {bound:e}",
                    self.shape
                );
            }
        }
    }
}

/// The pool whose path is tiles; none where the machine lacks the vectors that this path also needs.
fn tiles() -> Option<Pool> {
    pools(Numerics::Fast).into_iter().find(|pool| pool.isa() == Isa::Amx)
}

const SHAPES: [Shape; 10] = [
    Shape { heads: 4, kv_heads: 2, head_dim: 64, window: None },
    Shape { heads: 2, kv_heads: 2, head_dim: 128, window: None },
    Shape { heads: 7, kv_heads: 1, head_dim: 16, window: None },
    Shape { heads: 8, kv_heads: 2, head_dim: 80, window: None },
    Shape { heads: 3, kv_heads: 3, head_dim: 256, window: None },
    Shape { heads: 40, kv_heads: 1, head_dim: 32, window: None },
    // Dimensions that fill no vector.
    Shape { heads: 2, kv_heads: 1, head_dim: 7, window: None },
    Shape { heads: 6, kv_heads: 3, head_dim: 20, window: Some(33) },
    Shape { heads: 4, kv_heads: 2, head_dim: 48, window: Some(10) },
    Shape { heads: 1, kv_heads: 1, head_dim: 96, window: Some(130) },
];

#[test]
fn a_prompt_in_one_chunk_is_right_for_every_shape() {
    let Some(pool) = tiles() else { return };
    for shape in SHAPES {
        for queries in [Queries::Rounded, Queries::Any] {
            let sequence = Sequence::new(shape, 70, queries, 1);
            sequence.check(&sequence.run(&pool, &mut sequence.cache(), 70), queries);
        }
    }
}

#[test]
fn a_long_prompt_is_right_in_chunks_of_every_kind() {
    let Some(pool) = tiles() else { return };
    for window in [None, Some(1), Some(31), Some(32), Some(100), Some(129), Some(200)] {
        let shape = Shape { heads: 6, kv_heads: 2, head_dim: 32, window };
        let sequence = Sequence::new(shape, 301, Queries::Rounded, 2);
        for rows in [16, 17, 32, 47, 128, 301] {
            sequence.check(&sequence.run(&pool, &mut sequence.cache(), rows), Queries::Rounded);
        }
    }
}

#[test]
fn what_an_earlier_owner_left_in_a_block_is_never_seen_on_tiles() {
    let Some(pool) = tiles() else { return };
    for head_dim in [24, 32, 80] {
        let shape = Shape { heads: 4, kv_heads: 2, head_dim, window: None };
        for length in 16..=34 {
            let sequence = Sequence::new(shape, length, Queries::Rounded, length as u64);
            let mut cache = KvCache::new(KvPrecision::Bf16, 2, 3, 2, head_dim);
            let mut poison = Sequence::new(shape, 96, Queries::Rounded, 0);
            poison.keys.fill(f32::NAN);
            poison.values.fill(f32::INFINITY);
            poison.blocks = vec![0, 1, 2];
            poison.run(&pool, &mut cache, 96);
            sequence.check(&sequence.run(&pool, &mut cache, length), Queries::Rounded);
        }
    }
}

#[test]
fn short_spans_keep_the_bits_of_registers_beside_a_prompt_on_tiles() {
    let Some(pool) = tiles() else { return };
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 64, window: None };
    let sequence = Sequence::new(shape, 80, Queries::Any, 3);
    let mut cache = sequence.cache();
    let alone = sequence.run(&pool, &mut cache, 5);
    let wide = 4 * 64;
    // Rows 40..60 as a chunk of a prompt, and row 79 as a sequence that grows.
    let queries = [&sequence.queries[40 * wide..60 * wide], &sequence.queries[79 * wide..]].concat();
    let span = |first_row, rows, first_position| AttentionSpan {
        first_row,
        rows,
        first_position,
        blocks: &sequence.blocks,
    };
    let mut out = vec![f32::NAN; 21 * wide];
    let spans = [span(0, 20, 40), span(20, 1, 79)];
    cache.attend(&pool, 1, &queries, wide, 4, 0.125, None, &spans, &mut out);
    assert_eq!(bits(&out[20 * wide..]), bits(&alone[79 * wide..]));
    assert!(out[..20 * wide].iter().all(|value| value.is_finite()));
    assert_ne!(bits(&out[..20 * wide]), bits(&alone[40 * wide..60 * wide]), "a chunk went to tiles");
}

#[test]
fn a_row_gives_the_same_bits_in_every_chunk_when_rows_must_not_depend_on_each_other() {
    tiles();
    for pool in pools(Numerics::BatchInvariant).iter().filter(|pool| pool.isa() == Isa::Amx) {
        let sequence = Sequence::new(SHAPES[0], 70, Queries::Any, 4);
        let alone = bits(&sequence.run(pool, &mut sequence.cache(), 1));
        assert!(bits(&sequence.run(pool, &mut sequence.cache(), 70)) == alone);
    }
}
