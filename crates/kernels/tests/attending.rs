//! Does attention read exactly what it should, and the same way in a chunk, alone and in a batch?

mod common;

use common::{BF16_ROUNDING, F32_ROUNDING, Numbers, bits, pools};
use kernels::{
    AttentionSpan, BLOCK_TOKENS, Isa, KvCache, KvPrecision, Numerics, Pool, PoolOptions, reference,
};
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
    precision: KvPrecision,
    /// For each sequence `[position][heads · head_dim]`, and `[position][kv_heads · head_dim]`, on a grid that every cache and
    /// every arithmetic holds exactly.
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
        // Multiples of 1/128, of which bf16 holds those below 1 exactly; and so does int8, if the largest is 127/128.
        let rounded = |value: f32| (value * 127.0).round() / 128.0;
        let on_the_grid = |mut vectors: Vec<f32>| -> Vec<f32> {
            vectors.iter_mut().for_each(|value| *value = rounded(*value));
            vectors
                .iter_mut()
                .step_by(shape.head_dim)
                .for_each(|value| *value = (127.0 / 128.0_f32).copysign(*value));
            vectors
        };
        let (wide, narrow) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        // Queries of this size make some weights large: a softmax that is nearly flat would hide mistakes.
        let queries = lengths
            .iter()
            .map(|n| numbers.floats(n * wide).iter().map(|v| rounded(*v) * 4.0).collect())
            .collect();
        let mut cached = |lengths: &[usize]| -> Vec<Vec<f32>> {
            lengths.iter().map(|n| on_the_grid(numbers.floats(n * narrow))).collect()
        };
        let (keys, values) = (cached(lengths), cached(lengths));
        // Block numbers of the sequences interleave and run backwards.
        let count = |n: &usize| n.div_ceil(BLOCK_TOKENS);
        let total: usize = lengths.iter().map(count).sum();
        let mut free = (0..total as u32).rev().step_by(2).chain((0..total as u32).rev().skip(1).step_by(2));
        let blocks = lengths.iter().map(|n| free.by_ref().take(count(n)).collect()).collect();
        Self { shape, precision: KvPrecision::Bf16, queries, keys, values, blocks }
    }

    fn of(self, precision: KvPrecision) -> Self {
        Self { precision, ..self }
    }

    fn cache(&self) -> KvCache {
        KvCache::new(
            KvPrecision::Bf16,
            2,
            self.blocks.iter().map(Vec::len).sum(),
            self.shape.kv_heads,
            self.shape.head_dim,
        )
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

    /// Checks one chunk's output against the definition, where keys, values and (but for `Shorts`) queries are held exactly.
    ///
    /// A score is a sum of d products and a scale: off by (d + 4) roundings of scale · Σ|q·k|, or, in whole numbers, by half a
    /// step of each of the query's dimensions. Twice that moves a weight relatively, since the largest score moves too.
    /// Powers are off by 4e-7 (rough ones by 4e-6), once for the weight and once for each block that shrinks the sum; sums over
    /// n tokens add n roundings. Weights themselves are rounded to bf16 by `Pairs`; by `Shorts` to half of 1/32,767 of the
    /// largest in a chunk of 128. Weights and their total both err, hence twice. All is relative to a mean of values no larger
    /// than 1.
    fn check(&self, pool: &Pool, chunk: Chunk, out: &[f32]) {
        let form = Form::of(pool, self.precision);
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
            let largest = query.iter().fold(0.0_f64, |largest, q| largest.max(f64::from(q.abs())));
            let score = match form {
                // Sums of whole numbers are exact; the scales are four roundings.
                Form::Shorts => {
                    let step = largest / 32_766.0;
                    4.0 * F32_ROUNDING * size + step / 2.0 * head_dim as f64 * f64::from(scale)
                }
                _ => (head_dim as f64 + 4.0) * F32_ROUNDING * size,
            };
            let (power, weight) = match form {
                Form::Exact => (4e-7, 0.0),
                Form::Pairs => (4e-6, BF16_ROUNDING),
                Form::Shorts => (4e-6, 1.01 * 128.0 / 2.0 / 32_767.0),
            };
            let blocks = (position / BLOCK_TOKENS + 1) as f64;
            let roundings = (position as f64 + 8.0) * F32_ROUNDING;
            let bound = 2.0 * (2.0 * score + (blocks + 1.0) * power + roundings + weight);
            for (out, truth) in out.iter().zip(&truth) {
                let off = f64::from((out - truth).abs());
                assert!(
                    off <= bound,
                    "{:?} {form:?} {:?}: position {position}, head {head}: {out}, not {truth}: off by {off:e}, bound {bound:e}",
                    pool.isa(),
                    self.shape,
                );
            }
        }
    }
}

impl World {
    /// For each number of the first sequence's rows from 0 on: how far it is from the truth, and the most that any of its
    /// scores is off, as `moved(query, key)` says.
    fn off(&self, out: &[f32], moved: impl Fn(&[f32], &[f32]) -> f64) -> Vec<(f64, f64)> {
        let Shape { heads, kv_heads, head_dim, window } = self.shape;
        let narrow = kv_heads * head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mut all = Vec::new();
        for (i, out) in out.chunks_exact(head_dim).enumerate() {
            let (position, head) = (i / heads, i % heads);
            let kv = head / (heads / kv_heads) * head_dim;
            let query = &self.queries[0][i * head_dim..][..head_dim];
            let key = |p: usize| &self.keys[0][p * narrow + kv..][..head_dim];
            let value = |p: usize| &self.values[0][p * narrow + kv..][..head_dim];
            let mut truth = vec![f32::NAN; head_dim];
            reference::attention::attend(query, position, window, scale, key, value, &mut truth);
            let most = (0..=position).map(|p| moved(query, key(p))).fold(0.0, f64::max);
            all.extend(out.iter().zip(&truth).map(|(out, truth)| (f64::from((out - truth).abs()), most)));
        }
        all
    }
}

/// In which numbers a pool's attention is computed.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// f32 against bf16.
    Exact,
    /// bf16 against bf16.
    Pairs,
    /// 15 bits and a sign against int8.
    Shorts,
}

impl Form {
    fn of(pool: &Pool, precision: KvPrecision) -> Self {
        #[cfg(target_arch = "x86_64")]
        let has_dots = pool.isa() >= Isa::Avx512
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512vnni");
        #[cfg(not(target_arch = "x86_64"))]
        let has_dots = false;
        match precision {
            KvPrecision::Int8 => Self::Shorts,
            KvPrecision::Bf16 if has_dots && pool.numerics() == Numerics::Fast => Self::Pairs,
            KvPrecision::Bf16 => Self::Exact,
        }
    }
}

/// Every path with every kind of cache and arithmetic.
fn each_way(mut check: impl FnMut(&Pool, KvPrecision)) {
    for pool in pools(Numerics::Fast) {
        check(&pool, KvPrecision::Bf16);
        check(&pool, KvPrecision::Int8);
    }
    for pool in pools(Numerics::BatchInvariant) {
        check(&pool, KvPrecision::Bf16);
    }
}

const SHAPES: [Shape; 11] = [
    Shape { heads: 4, kv_heads: 2, head_dim: 64, window: None },
    Shape { heads: 2, kv_heads: 2, head_dim: 128, window: None },
    Shape { heads: 7, kv_heads: 1, head_dim: 16, window: None },
    Shape { heads: 8, kv_heads: 2, head_dim: 80, window: None },
    Shape { heads: 3, kv_heads: 3, head_dim: 256, window: None },
    Shape { heads: 40, kv_heads: 1, head_dim: 32, window: None },
    Shape { heads: 16, kv_heads: 4, head_dim: 96, window: None },
    Shape { heads: 32, kv_heads: 8, head_dim: 64, window: Some(45) },
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
    each_way(|pool, precision| {
        for shape in SHAPES {
            let world = World::new(shape, &[70], 1).of(precision);
            let mut cache = world.cache();
            let chunk = Chunk { sequence: 0, start: 0, rows: 70 };
            world.check(pool, chunk, &world.step(pool, &mut cache, &[chunk]));
        }
    });
}

#[test]
fn a_row_gives_the_same_bits_in_every_chunk_and_alone() {
    const LENGTH: usize = 101;
    each_way(|pool, precision| {
        for shape in SHAPES {
            let world = World::new(shape, &[LENGTH], 2).of(precision);
            let run = |rows: usize| {
                let mut cache = world.cache();
                cut(0, LENGTH, rows)
                    .flat_map(|chunk| world.step(pool, &mut cache, &[chunk]))
                    .collect::<Vec<f32>>()
            };
            let alone = bits(&run(1));
            for rows in [2, 3, 8, 31, 32, 33, 64, LENGTH] {
                assert!(bits(&run(rows)) == alone, "{:?} {shape:?}: chunks of {rows}", pool.isa());
            }
        }
    });
}

#[test]
fn a_sequence_gives_the_same_bits_alone_and_in_any_batch() {
    let lengths = [5, 40, 64, 33, 1];
    each_way(|pool, precision| {
        for shape in SHAPES {
            let world = World::new(shape, &lengths, 3).of(precision);
            let whole = |sequence: usize| Chunk { sequence, start: 0, rows: lengths[sequence] };
            let alone: Vec<_> =
                (0..lengths.len()).map(|i| world.step(pool, &mut world.cache(), &[whole(i)])).collect();
            for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
                let together = world.step(pool, &mut world.cache(), &order.map(whole));
                let expected: Vec<f32> = order.iter().flat_map(|i| alone[*i].iter().copied()).collect();
                assert!(bits(&together) == bits(&expected), "{:?} {shape:?}", pool.isa());
            }
        }
    });
}

#[test]
fn windows_hide_exactly_what_is_older() {
    for window in [1, 2, 31, 32, 33, 63, 64, 65, 200] {
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 32, window: Some(window) };
        let mut world = World::new(shape, &[130], window as u64);
        each_way(|pool, precision| {
            world.precision = precision;

            let mut cache = world.cache();
            for chunk in cut(0, 130, 47) {
                let out = world.step(pool, &mut cache, &[chunk]);
                world.check(pool, chunk, &out);
            }
        });
    }
}

#[test]
fn a_window_of_one_returns_the_rows_own_value() {
    let shape = Shape { heads: 1, kv_heads: 1, head_dim: 16, window: Some(1) };
    let mut world = World::new(shape, &[40], 5);
    each_way(|pool, precision| {
        world.precision = precision;

        let out = world.step(pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 40 }]);
        // In whole numbers the scale is divided by and multiplied with: a few roundings.
        let slack = if precision == KvPrecision::Int8 { 4.0 * F32_ROUNDING as f32 } else { 0.0 };
        for (out, value) in out.iter().zip(&world.values[0]) {
            assert!((out - value).abs() <= slack, "{:?} {precision:?}: {out}, not {value}", pool.isa());
        }
    });
}

#[test]
fn what_an_earlier_owner_left_in_a_block_is_never_seen() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 24, window: None };
    each_way(|pool, precision| {
        for length in 1..=34 {
            let world = World::new(shape, &[64], length as u64).of(precision);
            let mut cache = world.cache();
            let mut poison = World::new(shape, &[64], 0).of(precision);
            poison.keys[0].fill(f32::NAN);
            poison.values[0].fill(f32::INFINITY);
            poison.blocks = world.blocks.clone();
            poison.step(pool, &mut cache, &[Chunk { sequence: 0, start: 0, rows: 64 }]);
            let chunk = Chunk { sequence: 0, start: 0, rows: length };
            let out = world.step(pool, &mut cache, &[chunk]);
            world.check(pool, chunk, &out);
        }
    });
}

#[test]
fn a_broken_row_shows_as_nan_and_not_as_an_answer() {
    let shape = Shape { heads: 2, kv_heads: 1, head_dim: 16, window: None };
    let mut world = World::new(shape, &[20], 8);
    world.keys[0][10 * 16] = f32::NAN;
    each_way(|pool, precision| {
        world.precision = precision;

        let out = world.step(pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 20 }]);
        for (position, row) in out.chunks_exact(32).enumerate() {
            assert!(
                row.iter().all(|v| v.is_nan() == (position >= 10)),
                "{:?}: position {position}",
                pool.isa()
            );
        }
    });
}

#[test]
fn scores_far_apart_neither_overflow_nor_vanish() {
    let shape = Shape { heads: 1, kv_heads: 1, head_dim: 16, window: None };
    let mut world = World::new(shape, &[80], 8);
    world.queries[0].iter_mut().for_each(|q| *q *= 1e4);
    each_way(|pool, precision| {
        world.precision = precision;

        let out = world.step(pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 80 }]);
        assert!(out.iter().all(|v| v.abs() <= 1.0), "{:?}", pool.isa());
    });
}

#[test]
fn blocks_are_counted_in_bytes_that_are_really_there() {
    let int8 = KvCache::new(KvPrecision::Int8, 3, 0, 2, 64).block_bytes();
    assert_eq!(int8, 3 * 2 * (32 * 64 + 32 * 2) * 2);
    assert_eq!(KvCache::new(KvPrecision::Int8, 3, 5, 2, 64).resident_bytes(), 5 * int8);
    let cache = KvCache::new(KvPrecision::Bf16, 3, 5, 2, 64);
    assert_eq!(cache.block_bytes(), 3 * 2 * (32 * 64) * 2 * 2);
    assert_eq!(cache.resident_bytes(), 5 * cache.block_bytes());
    assert_eq!((cache.layers(), cache.blocks()), (3, 5));
}

#[test]
fn a_block_that_went_away_and_came_back_elsewhere_reads_the_same() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 24, window: None };
    each_way(|pool, precision| {
        let mut world = World::new(shape, &[70], 4).of(precision);
        let mut cache = world.cache();
        let before = world.step(pool, &mut cache, &[Chunk { sequence: 0, start: 0, rows: 70 }]);
        let bytes = cache.resident_bytes() / cache.blocks();
        let mut saved = vec![vec![0; bytes]; 3];
        for (block, bytes) in world.blocks[0].iter().zip(&mut saved) {
            cache.export_block(*block as usize, bytes);
        }
        // Another cache, and other places in it.
        let mut cache = world.cache();
        world.blocks[0].rotate_left(1);
        for (block, bytes) in world.blocks[0].iter().zip(&saved) {
            cache.import_block(*block as usize, bytes);
        }
        let last = world.step(pool, &mut cache, &[Chunk { sequence: 0, start: 69, rows: 1 }]);
        assert_eq!(bits(&last), bits(&before[69 * 4 * 24..]));
    });
}

/// Contexts past one segment, which several threads share: the same bits on any number of threads, alone and in a chunk.
#[test]
fn a_long_sequence_gives_the_same_bits_however_it_is_shared_out() {
    const LENGTH: usize = 1_190;
    let shapes = [
        Shape { heads: 4, kv_heads: 1, head_dim: 64, window: None },
        Shape { heads: 2, kv_heads: 2, head_dim: 32, window: Some(700) },
    ];
    for shape in shapes {
        each_way(|pool, precision| {
            if pool.isa() == Isa::Portable && precision == KvPrecision::Int8 {
                return;
            }
            let world = World::new(shape, &[LENGTH], 6).of(precision);
            let mut cache = world.cache();
            let wide = shape.heads * shape.head_dim;
            let all: Vec<f32> =
                cut(0, LENGTH, 500).flat_map(|chunk| world.step(pool, &mut cache, &[chunk])).collect();
            for (start, rows) in [(1_189, 1), (1_023, 1), (512, 1), (500, 27), (900, 3)] {
                let chunk = Chunk { sequence: 0, start, rows };
                world.check(pool, chunk, &all[start * wide..(start + rows) * wide]);
                for threads in [1, 2, 5] {
                    let options = PoolOptions { threads, isa: pool.isa(), numerics: pool.numerics() };
                    let out = world.step(&Pool::with(options), &mut cache, &[chunk]);
                    assert!(
                        bits(&out) == bits(&all[start * wide..(start + rows) * wide]),
                        "{:?} {precision:?} {shape:?}: {rows} rows at {start} with {threads} threads",
                        pool.isa()
                    );
                }
            }
        });
    }
}

/// A query that bf16 does not hold is off by up to 1/256 of each dimension, which moves each score by as much of
/// scale · Σ|q·k|; two scores that move apart change the shares of their values by e^(2 · that).
#[test]
fn queries_that_are_rounded_move_the_answer_by_no_more_than_derived() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 64, window: None };
    let mut world = World::new(shape, &[150], 12);
    world.queries[0].iter_mut().for_each(|q| *q *= 1.003);
    for pool in pools(Numerics::Fast) {
        let out = world.step(&pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 150 }]);
        let moved = world.off(&out, |query, key| {
            let size: f64 = query.iter().zip(key).map(|(q, k)| f64::from((q * k).abs())).sum();
            size * BF16_ROUNDING / 8.0
        });
        for (off, moved) in moved {
            let bound = ((2.0 * moved).exp() - 1.0) + 2.0 * (BF16_ROUNDING + 1e-4);
            assert!(off <= bound, "{:?}: off by {off:e}, bound {bound:e}", pool.isa());
        }
    }
}

/// Bytes keep half a step of each vector, and a step is 1/127 of its largest number, rounded up to bf16 (1/128 more). A
/// key moves a score by half a step of scale · Σ|q|; values move their mean by half a step of the largest value. An outlier
/// widens the step of its own token only.
#[test]
fn outliers_in_keys_and_values_cost_their_own_tokens_precision_and_nothing_else() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 64, window: None };
    let narrow = shape.kv_heads * shape.head_dim;
    for every in [1, 16, usize::MAX] {
        let mut world = World::new(shape, &[150], 13).of(KvPrecision::Int8);
        let mut numbers = Numbers(14);
        world.keys[0] = numbers.floats(150 * narrow);
        world.values[0] = numbers.floats(150 * narrow);
        // One dimension of each head is sixty times as large as the others, in some tokens or in all.
        for position in (0..150).step_by(every.min(150)).filter(|_| every < usize::MAX) {
            for head in 0..shape.kv_heads {
                world.keys[0][position * narrow + head * 64 + 5] *= 6.0;
                world.values[0][position * narrow + head * 64 + 9] = 60.0;
            }
        }
        const STEP: f64 = 1.0 / 127.0 * (1.0 + 1.0 / 128.0);
        let step = |vector: &[f32]| vector.iter().fold(0.0, |l, v| f64::from(v.abs()).max(l)) * STEP;
        let largest = world.values[0].iter().fold(0.0, |l, v| f64::from(v.abs()).max(l));
        for pool in pools(Numerics::Fast) {
            let out = world.step(&pool, &mut world.cache(), &[Chunk { sequence: 0, start: 0, rows: 150 }]);
            let moved = world.off(&out, |query, key| {
                query.iter().map(|q| f64::from(q.abs())).sum::<f64>() / 8.0 * step(key) / 2.0
            });
            let mut worst: f64 = 0.0;
            for (off, moved) in moved {
                let bound = largest * ((2.0 * moved).exp() - 1.0) + largest * (STEP / 2.0 + 0.005);
                assert!(off <= bound, "{:?}: off by {off:e}, bound {bound:e}", pool.isa());
                worst = worst.max(off);
            }
            println!("{:?}, outliers in one of {every}: off by up to {worst:.4} of {largest}", pool.isa());
            if every == usize::MAX {
                // Without outliers, steps of independent tokens mostly cancel: far below the bound.
                assert!(worst < 0.03, "{:?}: off by {worst}", pool.isa());
            }
        }
    }
}

#[test]
fn a_batch_that_reaches_outside_is_refused_with_a_reason() {
    let refused = |first_row: usize, rows: usize, first_position: usize, blocks: &[u32]| -> String {
        let span = AttentionSpan { first_row, rows, first_position, blocks };
        let attempt = std::panic::catch_unwind(|| {
            let cache = KvCache::new(KvPrecision::Bf16, 1, 4, 1, 16);
            let mut out = [0.0; 64];
            cache.attend(&Pool::new(1), 0, &[0.0; 64], 16, 1, 1.0, None, &[span], &mut out);
        });
        *attempt.expect_err("it is refused").downcast::<String>().unwrap()
    };
    assert!(refused(0, 1, 32, &[0]).contains("has 2 blocks"));
    assert!(refused(0, 1, 0, &[4]).contains("below 4"));
    let spans = [0, 1].map(|first_row| AttentionSpan { first_row, rows: 2, first_position: 0, blocks: &[0] });
    let attempt = std::panic::catch_unwind(|| {
        let cache = KvCache::new(KvPrecision::Bf16, 1, 4, 1, 16);
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
        window in prop::option::of(1_usize..100), chunk in 1_usize..50, int8: bool, seed: u64,
    ) {
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, window };
        let precision = if int8 { KvPrecision::Int8 } else { KvPrecision::Bf16 };
        let world = World::new(shape, &[length], seed).of(precision);
        for isa in Isa::available() {
            let pool = Pool::with(PoolOptions { threads: 2, isa, ..PoolOptions::default() });
            let mut cache = world.cache();
            for chunk in cut(0, length, chunk) {
                let out = world.step(&pool, &mut cache, &[chunk]);
                world.check(&pool, chunk, &out);
            }
        }
    }
}
