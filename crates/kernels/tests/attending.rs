//! Does attention read exactly what it should, and the same way in a chunk, alone and in a batch?

mod common;

use common::{F32_ROUNDING, Numbers, bits, pools};
use kernels::{AttentionSpan, BLOCK_TOKENS, Isa, KvCache, Numerics, Pool, reference};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

/// Sequences whose queries, keys and values are known for every position.
struct World {
    shape: Shape,
    /// For each sequence `[position][heads · head_dim]`, and `[position][kv_heads · head_dim]`, rounded as the cache rounds.
    queries: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    blocks: Vec<Vec<u32>>,
}

/// A stretch of one sequence, computed in one batch.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    sequence: usize,
    start: usize,
    rows: usize,
}

impl World {
    fn new(shape: Shape, lengths: &[usize], seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let rounded = |value: f32| half::bf16::from_f32(value).to_f32();
        let (wide, narrow) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        // Queries of this size make some weights large: a softmax that is nearly flat would hide mistakes.
        let queries =
            lengths.iter().map(|n| numbers.floats(n * wide).iter().map(|v| v * 4.0).collect()).collect();
        let mut cached = |lengths: &[usize]| -> Vec<Vec<f32>> {
            lengths.iter().map(|n| numbers.floats(n * narrow).into_iter().map(rounded).collect()).collect()
        };
        let (keys, values) = (cached(lengths), cached(lengths));
        // Block numbers of the sequences interleave and run backwards.
        let count = |n: &usize| n.div_ceil(BLOCK_TOKENS);
        let total: usize = lengths.iter().map(count).sum();
        let mut free = (0..total as u32).rev().step_by(2).chain((0..total as u32).rev().skip(1).step_by(2));
        let blocks = lengths.iter().map(|n| free.by_ref().take(count(n)).collect()).collect();
        Self { shape, queries, keys, values, blocks }
    }

    fn cache(&self) -> KvCache {
        KvCache::new(2, self.blocks.iter().map(Vec::len).sum(), self.shape.kv_heads, self.shape.head_dim)
    }

    /// Appends and attends one batch of chunks in layer 1; returns the rows of `out`.
    fn step(&self, pool: &Pool, cache: &mut KvCache, chunks: &[Chunk]) -> Vec<f32> {
        let Shape { heads, kv_heads, head_dim, window } = self.shape;
        let (wide, narrow) = (heads * head_dim, kv_heads * head_dim);
        // Rows as a fused product gives them: queries, keys, values, and something behind that nobody should read.
        let stride = wide + 2 * narrow + 3;
        let mut fused = Vec::new();
        let mut spans = Vec::new();
        for chunk in chunks {
            spans.push(AttentionSpan {
                first_row: fused.len() / stride,
                rows: chunk.rows,
                first_position: chunk.start,
                blocks: &self.blocks[chunk.sequence],
            });
            for p in chunk.start..chunk.start + chunk.rows {
                fused.extend_from_slice(&self.queries[chunk.sequence][p * wide..][..wide]);
                fused.extend_from_slice(&self.keys[chunk.sequence][p * narrow..][..narrow]);
                fused.extend_from_slice(&self.values[chunk.sequence][p * narrow..][..narrow]);
                fused.extend([f32::NAN; 3]);
            }
        }
        let mut out = vec![f32::NAN; fused.len() / stride * wide];
        cache.append(pool, 1, &fused[wide..], &fused[wide + narrow..], stride, &spans);
        let scale = 1.0 / (head_dim as f32).sqrt();
        cache.attend(pool, 1, &fused, stride, heads, scale, window, &spans, &mut out);
        out
    }

    /// Checks one chunk's output against the definition.
    ///
    /// A score is a sum of d products and a scale: off by (d + 2) roundings of scale · Σ|q·k|. Twice that moves a weight
    /// relatively, since the largest score moves too. Exponentials are off by 2.5e-7, once for the weight and once for each block
    /// that shrinks the sum; sums over n tokens add n roundings. Weights and their total both err, hence twice. All is
    /// relative to a mean of values no larger than 1.
    fn check(&self, pool: &Pool, chunk: Chunk, out: &[f32]) {
        let Shape { heads, kv_heads, head_dim, window } = self.shape;
        let (wide, narrow, scale) = (heads * head_dim, kv_heads * head_dim, 1.0 / (head_dim as f32).sqrt());
        for (i, out) in out.chunks_exact(head_dim).enumerate() {
            let (position, head) = (chunk.start + i / heads, i % heads);
            let kv = head / (heads / kv_heads) * head_dim;
            let query = &self.queries[chunk.sequence][position * wide + head * head_dim..][..head_dim];
            let key = |p: usize| &self.keys[chunk.sequence][p * narrow + kv..][..head_dim];
            let value = |p: usize| &self.values[chunk.sequence][p * narrow + kv..][..head_dim];
            let mut truth = vec![f32::NAN; head_dim];
            reference::attention::attend(query, position, window, scale, key, value, &mut truth);
            let size = query.iter().map(|q| f64::from(q.abs())).sum::<f64>() * f64::from(scale);
            let score = (head_dim as f64 + 2.0) * F32_ROUNDING * size;
            let blocks = (position / BLOCK_TOKENS + 1) as f64;
            let bound = 2.0 * (2.0 * score + (blocks + 1.0) * 4e-7 + (position as f64 + 8.0) * F32_ROUNDING);
            for (out, truth) in out.iter().zip(&truth) {
                let off = f64::from((out - truth).abs());
                assert!(
                    off <= bound,
                    "{:?} {:?}: position {position}, head {head}: {out}, not {truth}: off by {off:e}, bound {bound:e}",
                    pool.isa(),
                    self.shape,
                );
            }
        }
    }
}

/// Pools whose attention does not round queries and weights. Tiles do, and `attending_on_tiles` says by how much; where rows must
/// not depend on each other, they leave attention to registers.
fn exact_pools() -> Vec<Pool> {
    let numerics = |pool: &Pool| (pool.isa() == Isa::Amx) == (pool.numerics() == Numerics::BatchInvariant);
    [Numerics::Fast, Numerics::BatchInvariant].into_iter().flat_map(pools).filter(numerics).collect()
}

const SHAPES: [Shape; 9] = [
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
];

/// Cuts positions `0..length` into chunks of one sequence.
fn cut(sequence: usize, length: usize, rows: usize) -> impl Iterator<Item = Chunk> {
    (0..length).step_by(rows).map(move |start| Chunk { sequence, start, rows: rows.min(length - start) })
}

#[test]
fn attention_is_right_on_every_path_for_every_shape() {
    for pool in exact_pools() {
        for shape in SHAPES {
            let world = World::new(shape, &[70], 1);
            let mut cache = world.cache();
            let chunk = Chunk { sequence: 0, start: 0, rows: 70 };
            world.check(&pool, chunk, &world.step(&pool, &mut cache, &[chunk]));
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_in_every_chunk_and_alone() {
    const LENGTH: usize = 101;
    for pool in exact_pools() {
        for shape in SHAPES {
            let world = World::new(shape, &[LENGTH], 2);
            let run = |rows: usize| {
                let mut cache = world.cache();
                cut(0, LENGTH, rows)
                    .flat_map(|chunk| world.step(&pool, &mut cache, &[chunk]))
                    .collect::<Vec<f32>>()
            };
            let alone = bits(&run(1));
            for rows in [2, 3, 8, 31, 32, 33, 64, LENGTH] {
                assert!(bits(&run(rows)) == alone, "{:?} {shape:?}: chunks of {rows}", pool.isa());
            }
        }
    }
}

#[test]
fn a_sequence_gives_the_same_bits_alone_and_in_any_batch() {
    let lengths = [5, 40, 64, 33, 1];
    for pool in pools(Numerics::Fast) {
        for shape in SHAPES {
            let world = World::new(shape, &lengths, 3);
            let whole = |sequence: usize| Chunk { sequence, start: 0, rows: lengths[sequence] };
            let alone: Vec<_> =
                (0..lengths.len()).map(|i| world.step(&pool, &mut world.cache(), &[whole(i)])).collect();
            for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
                let together = world.step(&pool, &mut world.cache(), &order.map(whole));
                let expected: Vec<f32> = order.iter().flat_map(|i| alone[*i].iter().copied()).collect();
                assert!(bits(&together) == bits(&expected), "{:?} {shape:?}", pool.isa());
            }
        }
    }
}

#[test]
fn windows_hide_exactly_what_is_older() {
    for window in [1, 2, 31, 32, 33, 63, 64, 65, 200] {
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 32, window: Some(window) };
        let world = World::new(shape, &[130], window as u64);
        for pool in exact_pools() {
            let mut cache = world.cache();
            for chunk in cut(0, 130, 47) {
                let out = world.step(&pool, &mut cache, &[chunk]);
                world.check(&pool, chunk, &out);
            }
        }
    }
}

#[test]
fn a_window_of_one_returns_the_rows_own_value() {
    let shape = Shape { heads: 1, kv_heads: 1, head_dim: 16, window: Some(1) };
    let world = World::new(shape, &[40], 5);
    for pool in pools(Numerics::Fast) {
        let out = world.step(&pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 40 }]);
        assert_eq!(out, world.values[0], "{:?}", pool.isa());
    }
}

#[test]
fn what_an_earlier_owner_left_in_a_block_is_never_seen() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 24, window: None };
    for pool in exact_pools() {
        for length in 1..=34 {
            let world = World::new(shape, &[64], length as u64);
            let mut cache = world.cache();
            let mut poison = World::new(shape, &[64], 0);
            poison.keys[0].fill(f32::NAN);
            poison.values[0].fill(f32::INFINITY);
            poison.blocks = world.blocks.clone();
            poison.step(&pool, &mut cache, &[Chunk { sequence: 0, start: 0, rows: 64 }]);
            let chunk = Chunk { sequence: 0, start: 0, rows: length };
            let out = world.step(&pool, &mut cache, &[chunk]);
            world.check(&pool, chunk, &out);
        }
    }
}

#[test]
fn a_broken_row_shows_as_nan_and_not_as_an_answer() {
    let shape = Shape { heads: 2, kv_heads: 1, head_dim: 16, window: None };
    let mut world = World::new(shape, &[20], 8);
    world.keys[0][10 * 16] = f32::NAN;
    for pool in pools(Numerics::Fast) {
        let out = world.step(&pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 20 }]);
        for (position, row) in out.chunks_exact(32).enumerate() {
            assert!(
                row.iter().all(|v| v.is_nan() == (position >= 10)),
                "{:?}: position {position}",
                pool.isa()
            );
        }
    }
}

#[test]
fn scores_far_apart_neither_overflow_nor_vanish() {
    let shape = Shape { heads: 1, kv_heads: 1, head_dim: 16, window: None };
    let mut world = World::new(shape, &[80], 8);
    world.queries[0].iter_mut().for_each(|q| *q *= 1e4);
    for pool in pools(Numerics::Fast) {
        let out = world.step(&pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 80 }]);
        assert!(out.iter().all(|v| v.abs() <= 1.0), "{:?}", pool.isa());
    }
}

#[test]
fn blocks_are_counted_in_bytes_that_are_really_there() {
    let cache = KvCache::new(3, 5, 2, 64);
    assert_eq!(KvCache::block_bytes(3, 2, 64), 3 * 2 * (32 * 64) * 2 * 2);
    assert_eq!(cache.resident_bytes(), 5 * KvCache::block_bytes(3, 2, 64));
    assert_eq!((cache.layers(), cache.blocks()), (3, 5));
}

#[test]
fn a_batch_that_reaches_outside_is_refused_with_a_reason() {
    let refused = |first_row: usize, rows: usize, first_position: usize, blocks: &[u32]| -> String {
        let span = AttentionSpan { first_row, rows, first_position, blocks };
        let attempt = std::panic::catch_unwind(|| {
            let cache = KvCache::new(1, 4, 1, 16);
            let mut out = [0.0; 64];
            cache.attend(&Pool::new(1), 0, &[0.0; 64], 16, 1, 1.0, None, &[span], &mut out);
        });
        *attempt.expect_err("it is refused").downcast::<String>().unwrap()
    };
    assert!(refused(0, 1, 32, &[0]).contains("has 2 blocks"));
    assert!(refused(0, 1, 0, &[4]).contains("below 4"));
    let spans = [0, 1].map(|first_row| AttentionSpan { first_row, rows: 2, first_position: 0, blocks: &[0] });
    let attempt = std::panic::catch_unwind(|| {
        let cache = KvCache::new(1, 4, 1, 16);
        cache.attend(&Pool::new(1), 0, &[0.0; 64], 16, 1, 1.0, None, &spans, &mut [0.0; 64]);
    });
    assert!(
        attempt.expect_err("it is refused").downcast::<String>().unwrap().contains("belongs to one span")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_of_any_shape_and_chunking_is_right(
        kv_heads in 1_usize..4, group in 1_usize..6, head_dim in 1_usize..70, length in 1_usize..120,
        window in prop::option::of(1_usize..100), chunk in 1_usize..50, seed: u64,
    ) {
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, window };
        let world = World::new(shape, &[length], seed);
        for pool in exact_pools() {
            let mut cache = world.cache();
            for chunk in cut(0, length, chunk) {
                let out = world.step(&pool, &mut cache, &[chunk]);
                world.check(&pool, chunk, &out);
            }
        }
    }
}
