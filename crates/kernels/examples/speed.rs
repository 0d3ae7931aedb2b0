//! How fast are products, attention and packing on this machine? Checks the answers first; a wrong one has no time.
//!
//! `cargo run --release -p kernels --example speed [products|tiles|attention|packing [precision [shape]]]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernels::{
    AttentionSpan, Isa, KvCache, KvPrecision, Matrix, Numerics, Pool, PoolOptions, Precision, matmul,
    reference, rope,
};

/// The products of one layer of Llama-3.2-1B and of Qwen3-0.6B, and their vocabularies: name, outputs, inputs.
const SHAPES: [(&str, usize, usize); 10] = [
    ("llama-qkv", 3072, 2048),
    ("llama-out", 2048, 2048),
    ("llama-gate+up", 16_384, 2048),
    ("llama-down", 2048, 8192),
    ("llama-vocabulary", 128_256, 2048),
    ("qwen-qkv", 4096, 1024),
    ("qwen-out", 1024, 2048),
    ("qwen-gate+up", 6144, 1024),
    ("qwen-down", 1024, 3072),
    ("qwen-vocabulary", 151_936, 1024),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wants = |at: usize, what: &str| arguments.get(at).is_none_or(|wanted| what.contains(wanted.as_str()));
    let pool = Pool::with(PoolOptions::default());
    let bandwidth = kernels::read_bandwidth(&pool);
    println!("{}; reads {:.1} GB/s with {} threads\n", kernels::describe(), bandwidth / 1e9, pool.threads());
    if wants(0, "products") {
        for precision in [Precision::Bf16, Precision::Int8, Precision::Int4, Precision::F16, Precision::F32] {
            if wants(1, &format!("{precision:?}").to_lowercase()) {
                products(precision, bandwidth, &|shape| wants(2, shape));
            }
        }
    }
    if wants(0, "tiles") {
        tiles(&pool);
    }
    if wants(0, "attention") {
        attention(&pool, bandwidth);
    }
    if wants(0, "packing") {
        packing(&pool);
    }
}

/// From how many rows on tiles are faster than registers, as the first pool has measured it.
fn tiles(pool: &Pool) {
    if kernels::tile_crossings().is_empty() {
        return println!("This machine has no tiles to measure.\n");
    }
    for precision in [Precision::Bf16, Precision::Int8, Precision::Int4] {
        let peak = kernels::tile_peak(pool, precision).unwrap_or(f64::NAN);
        let least = kernels::tile_rows_least(precision).expect("a machine that was measured has tiles");
        println!(
            "{precision:?}: tiles multiply at most {:.0} GOP/s, and take {least} rows or more",
            peak / 1e9
        );
        for crossing in kernels::tile_crossings().iter().filter(|crossing| crossing.precision == precision) {
            println!(
                "  {:>2} rows: tiles {:6.0} µs, registers {:6.0} µs, {:.2} times as fast",
                crossing.rows,
                crossing.tiles.as_secs_f64() * 1e6,
                crossing.registers.as_secs_f64() * 1e6,
                crossing.registers.as_secs_f64() / crossing.tiles.as_secs_f64()
            );
        }
    }
    println!();
}

/// One row is measured by what it reads, many by what they multiply; both as a share of what this machine can do.
fn products(precision: Precision, bandwidth: f64, wants: &dyn Fn(&str) -> bool) {
    let pools = pools(precision);
    let peaks: Vec<f64> = pools
        .iter()
        .map(|pool| {
            kernels::tile_peak(pool, precision).unwrap_or_else(|| kernels::multiply_peak(pool, precision))
        })
        .collect();
    for (pool, peak) in pools.iter().zip(&peaks) {
        let registers = kernels::multiply_peak(pool, precision);
        println!(
            "{precision:?} on {}: at most {:.0} GOP/s, {:.0} in registers",
            pool.path(precision),
            peak / 1e9,
            registers / 1e9
        );
    }
    for (name, outputs, inputs) in SHAPES.into_iter().filter(|shape| wants(shape.0)) {
        // Several copies of a shape, so that weights come from memory as they do in a model.
        let bytes = Matrix::storage_bytes(precision, outputs, inputs).expect("it fits");
        let matrices: Vec<Matrix> = (0..(200 << 20) / bytes + 1)
            .map(|seed| {
                let row = |row, values: &mut [f32]| fill(seed + row, values);
                Matrix::pack_with(&pools[0], precision, outputs, inputs, &row)
            })
            .collect();
        for (pool, peak) in pools.iter().zip(&peaks) {
            check(pool, &matrices[0]);
            print!("  {name:16}{outputs:>7} × {inputs:<5}{:18}", pool.path(precision));
            for rows in [1, 2, 4, 8, 16, 32, 128, 512] {
                let work = rows * outputs * inputs;
                if work > 1 << 34 || (pool.isa() == Isa::Portable && rows > 8) {
                    continue;
                }
                let seconds = time(&matrices, |matrix, x, out| matmul(pool, x, rows, matrix, out), rows);
                let (read, done) = (bytes as f64 / seconds, 2.0 * work as f64 / seconds);
                let (read_share, done_share) = (100.0 * read / bandwidth, 100.0 * done / peak);
                match rows {
                    1 => print!("{:6.1} GB/s ({read_share:3.0} %)", read / 1e9),
                    2..=8 => print!("  {rows}: {:.0} ({read_share:.0}, {done_share:.0} %)", done / 1e9),
                    _ => print!("  {rows}: {:.0} ({done_share:.0} %)", done / 1e9),
                }
            }
            println!();
        }
    }
}

/// One pool for each path that this precision can take.
fn pools(precision: Precision) -> Vec<Pool> {
    let make = |isa| Pool::with(PoolOptions { isa, ..PoolOptions::default() });
    let mut pools: Vec<Pool> = Isa::available().map(make).collect();
    pools.dedup_by_key(|pool| pool.path(precision));
    pools
}

/// Compares a few rows and outputs with the reference; the bound allows activations to be rounded to bf16, or to 127 steps up to
/// the largest of them, which is at most 1.
fn check(pool: &Pool, matrix: &Matrix) {
    const ROWS: usize = 33;
    let (inputs, outputs) = (matrix.inputs(), matrix.outputs());
    let mut x = vec![0.0; ROWS * inputs];
    fill(99, &mut x);
    let mut out = vec![f32::NAN; ROWS * outputs];
    matmul(pool, &x, ROWS, matrix, &mut out);
    let mut weight = vec![0.0; inputs];
    for output in (0..outputs).step_by(outputs / 50 + 1) {
        matrix.row(output, &mut weight);
        for row in 0..ROWS {
            let x = &x[row * inputs..][..inputs];
            let mut truth = [0.0];
            reference::matmul::matmul(x, &weight, 1, inputs, &mut truth);
            let size: f32 = x.iter().zip(&weight).map(|(x, w)| (x * w).abs()).sum();
            let off = (out[row * outputs + output] - truth[0]).abs();
            let rounded = weight.iter().map(|w| w.abs()).sum::<f32>() / 254.0;
            assert!(
                off <= size * (1.0 / 256.0 + 2e-7 * inputs as f32) + rounded,
                "wrong answer: off by {off}"
            );
        }
    }
}

/// The median time of one product, each with the next copy of the matrix.
fn time(matrices: &[Matrix], mut run: impl FnMut(&Matrix, &[f32], &mut [f32]), rows: usize) -> f64 {
    let (inputs, outputs) = (matrices[0].inputs(), matrices[0].outputs());
    let mut x = vec![0.0; rows * inputs];
    fill(7, &mut x);
    let mut out = vec![0.0; rows * outputs];
    let mut copies = matrices.iter().cycle();
    median(|| run(copies.next().expect("there is a matrix"), &x, black_box(&mut out)))
}

fn median(mut run: impl FnMut()) -> f64 {
    const LONG_ENOUGH: Duration = Duration::from_millis(150);
    run();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < LONG_ENOUGH {
        let before = Instant::now();
        run();
        times.push(before.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Heads of a model: query heads, kv heads, dimensions, and layers enough that the cache is read from memory.
#[derive(Clone, Copy)]
struct Heads {
    name: &'static str,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

const LLAMA_1B: Heads = Heads { name: "Llama-3.2-1B", layers: 16, heads: 32, kv_heads: 8, head_dim: 64 };
const QWEN_06B: Heads = Heads { name: "Qwen3-0.6B", layers: 28, heads: 16, kv_heads: 8, head_dim: 128 };

fn attention(pool: &Pool, bandwidth: f64) {
    let peak = [("f32 multiply-adds", peak(pool, false)), ("bf16 pairs", peak(pool, true))];
    for (name, flops) in peak {
        println!("registers reach {:.0} GFLOP/s in {name}", flops / 1e9);
    }
    let exact = Pool::with(PoolOptions { numerics: Numerics::BatchInvariant, ..PoolOptions::default() });
    for heads in [LLAMA_1B, QWEN_06B] {
        for (pool, precision) in
            [(pool, KvPrecision::Bf16), (pool, KvPrecision::Int8), (&exact, KvPrecision::Bf16)]
        {
            println!("\n{}, {precision:?} keys and values, {:?}", heads.name, pool.numerics());
            appending(pool, heads, precision);
            for lengths in [&[128][..], &[1024], &[4096], &[16_384], &[128; 8], &[128; 32]] {
                decode(pool, heads, precision, lengths, bandwidth);
            }
            let mixed: Vec<usize> = (0..32).map(|i| [128, 300, 1024, 2000][i % 4]).collect();
            for lengths in [&mixed[..8], &mixed] {
                decode(pool, heads, precision, lengths, bandwidth);
            }
            for position in [0, 2048, 8192] {
                prefill(pool, heads, precision, position, &peak);
            }
        }
    }
}

/// A cache whose layers hold sequences of these lengths, and the rows that filled it.
struct Filled {
    cache: KvCache,
    blocks: Vec<Vec<u32>>,
    /// `[2048][queries, keys, values]`
    fused: Vec<f32>,
    stride: usize,
}

/// Rows of `Filled`: what decodes or is prefilled takes the first of them.
const ROWS: usize = 2048;

impl Filled {
    fn new(pool: &Pool, shape: Heads, precision: KvPrecision, layers: usize, lengths: &[usize]) -> Self {
        let mut next = 0;
        let blocks: Vec<Vec<u32>> = lengths
            .iter()
            .map(|length| {
                let first = next;
                next += length.div_ceil(32) as u32;
                (first..next).collect()
            })
            .collect();
        let stride = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        let mut fused = vec![0.0; ROWS * stride];
        fill(3, &mut fused);
        let cache = KvCache::new(precision, layers, next as usize, shape.kv_heads, shape.head_dim);
        let mut filled = Self { cache, blocks, fused, stride };
        for layer in 0..layers {
            for (sequence, length) in lengths.iter().enumerate() {
                for first in (0..*length).step_by(ROWS) {
                    filled.append(pool, shape, layer, sequence, first, ROWS.min(length - first));
                }
            }
        }
        filled
    }

    fn append(
        &mut self,
        pool: &Pool,
        shape: Heads,
        layer: usize,
        sequence: usize,
        first_position: usize,
        rows: usize,
    ) {
        let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let span = AttentionSpan { first_row: 0, rows, first_position, blocks: &self.blocks[sequence] };
        let (k, v) = (&self.fused[queries..], &self.fused[queries + keys..]);
        self.cache.append(pool, layer, k, v, self.stride, &[span]);
    }

    fn attend(&self, pool: &Pool, shape: Heads, layer: usize, spans: &[AttentionSpan<'_>], out: &mut [f32]) {
        self.cache.attend(pool, layer, &self.fused, self.stride, shape.heads, 0.09, None, spans, out);
    }
}

/// What appending costs in this layout: a decode row alone, and a chunk.
fn appending(pool: &Pool, shape: Heads, precision: KvPrecision) {
    let mut filled = Filled::new(pool, shape, precision, 1, &[2048]);
    let mut position = 0;
    let one = median(|| {
        position = (position + 1) % 2048;
        filled.append(pool, shape, 0, 0, position, 1);
    });
    let chunk = median(|| filled.append(pool, shape, 0, 0, 512, 512));
    // Turning queries and keys comes just before it: would the two be worth one pass?
    let half = shape.head_dim / 2;
    let mut row = filled.fused[..filled.stride].to_vec();
    let (cos, sin) = (vec![0.8; half], vec![0.6; half]);
    let heads = shape.heads + shape.kv_heads;
    let turn = median(|| {
        rope(pool, black_box(&mut row), filled.stride, heads, shape.head_dim, shape.head_dim, &cos, &sin)
    });
    println!(
        "  rope: one row {:.2} µs a layer; append: one row {:.2} µs a layer, 512 rows {:.2} µs a row and layer; {} bytes a token and layer",
        turn * 1e6,
        one * 1e6,
        chunk * 1e6 / 512.0,
        filled.cache.block_bytes() / 32
    );
}

/// One row of each sequence.
fn decode(pool: &Pool, shape: Heads, precision: KvPrecision, lengths: &[usize], bandwidth: f64) {
    let blocks: usize = lengths.iter().map(|length| length.div_ceil(32)).sum();
    let block_bytes = KvCache::new(precision, 1, 0, shape.kv_heads, shape.head_dim).block_bytes();
    // Several times what a cache holds, where a model has so much.
    let layers = (192_usize << 20).div_ceil(blocks * block_bytes).clamp(2, shape.layers);
    let filled = Filled::new(pool, shape, precision, layers, lengths);
    let spans: Vec<AttentionSpan<'_>> = lengths
        .iter()
        .zip(&filled.blocks)
        .enumerate()
        .map(|(row, (length, blocks))| AttentionSpan {
            first_row: row,
            rows: 1,
            first_position: length - 1,
            blocks,
        })
        .collect();
    let mut out = vec![0.0; lengths.len() * shape.heads * shape.head_dim];
    let mut layer = 0;
    let seconds = median(|| {
        layer = (layer + 1) % layers;
        filled.attend(pool, shape, layer, &spans, black_box(&mut out));
    });
    let bytes = (blocks * block_bytes) as f64;
    println!(
        "  decode {:>2} × {:>5}{}: {:7.1} µs a layer, {:5.1} GB/s ({:3.0} %), {:.0} MB in all layers",
        lengths.len(),
        lengths[0],
        if lengths.iter().all(|length| *length == lengths[0]) { "   " } else { " …  " },
        seconds * 1e6,
        bytes / seconds / 1e9,
        100.0 * bytes / seconds / bandwidth,
        bytes * layers as f64 / 1e6,
    );
}

/// A chunk of 512 rows.
fn prefill(pool: &Pool, shape: Heads, precision: KvPrecision, position: usize, peak: &[(&str, f64); 2]) {
    const CHUNK: usize = 512;
    let filled = Filled::new(pool, shape, precision, 2, &[position + CHUNK]);
    let span =
        AttentionSpan { first_row: 0, rows: CHUNK, first_position: position, blocks: &filled.blocks[0] };
    let width = shape.heads * shape.head_dim;
    let mut out = vec![0.0; CHUNK * width];
    let mut layer = 0;
    let seconds = median(|| {
        layer ^= 1;
        filled.attend(pool, shape, layer, &[span], black_box(&mut out));
    });
    let keys = CHUNK * position + CHUNK * (CHUNK + 1) / 2;
    let flops = (4 * width * keys) as f64 / seconds;
    let [(_, multiply_add), (_, pairs)] = *peak;
    println!(
        "  prefill {CHUNK} at {position:>4}: {:8.0} µs a layer, {:4.0} GFLOP/s ({:2.0} % of f32 multiply-adds, {:2.0} % of bf16 \
         pairs)",
        seconds * 1e6,
        flops / 1e9,
        100.0 * flops / multiply_add,
        100.0 * flops / pairs
    );
}

/// What all threads reach in registers alone: multiply-adds of f32, or pairs of bf16 products. The widest vectors that this
/// processor has; 0 where it has no such instruction.
fn peak(pool: &Pool, pairs: bool) -> f64 {
    const STEPS: usize = 1 << 20;
    let best = (0..5).map(|_| {
        let start = Instant::now();
        let flops = std::sync::atomic::AtomicUsize::new(0);
        pool.run(pool.threads(), &|_| {
            flops.fetch_add(register_flops(STEPS, pairs), std::sync::atomic::Ordering::Relaxed);
        });
        flops.into_inner() as f64 / start.elapsed().as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
fn register_flops(steps: usize, pairs: bool) -> usize {
    use std::arch::x86_64::*;
    const SUMS: usize = 16;
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs_512(steps: usize) {
        // SAFETY: both are 64 bytes of plain numbers.
        let ones: __m512bh = unsafe { std::mem::transmute(black_box(_mm512_set1_epi32(0x3f80_3f80))) };
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..steps {
            sums.iter_mut().for_each(|sum| *sum = _mm512_dpbf16_ps(*sum, ones, ones));
        }
        black_box(sums);
    }
    #[target_feature(enable = "avx512f")]
    fn multiply_adds_512(steps: usize) {
        let ones = black_box(_mm512_set1_ps(1.0));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..steps {
            sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(ones, ones, *sum));
        }
        black_box(sums);
    }
    #[target_feature(enable = "avx2,fma")]
    fn multiply_adds_256(steps: usize) {
        let ones = black_box(_mm256_set1_ps(1.0));
        let mut sums = [_mm256_setzero_ps(); SUMS - 4];
        for _ in 0..steps {
            sums.iter_mut().for_each(|sum| *sum = _mm256_fmadd_ps(ones, ones, *sum));
        }
        black_box(sums);
    }
    // SAFETY: each is called only where the processor has its instructions.
    unsafe {
        if pairs {
            if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")) {
                return 0;
            }
            pairs_512(steps);
            steps * SUMS * 64
        } else if is_x86_feature_detected!("avx512f") {
            multiply_adds_512(steps);
            steps * SUMS * 32
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            multiply_adds_256(steps);
            steps * (SUMS - 4) * 16
        } else {
            0
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn register_flops(_steps: usize, _pairs: bool) -> usize {
    0
}

/// Packing a matrix of 311 MB, as the vocabulary of Qwen3-0.6B.
fn packing(pool: &Pool) {
    let (outputs, inputs) = (151_936, 1024);
    let file = vec![0x3c_u8; outputs * inputs * 2];
    let start = Instant::now();
    let row = |i: usize| &file[i * inputs * 2..][..inputs * 2];
    let matrix = black_box(Matrix::pack_bytes(pool, Precision::Bf16, outputs, inputs, &row));
    let gigabytes = matrix.resident_bytes() as f64 / 1e9;
    println!("pack_bytes bf16: {:.2} s a GB", start.elapsed().as_secs_f64() / gigabytes);
    for precision in [Precision::Bf16, Precision::Int8, Precision::Int4] {
        let start = Instant::now();
        black_box(Matrix::pack_with(pool, precision, outputs, inputs, &|row, values| fill(row, values)));
        println!("pack_with {precision:?}: {:.2} s for {outputs} × {inputs}", start.elapsed().as_secs_f64());
        let start = Instant::now();
        black_box(Matrix::pack(precision, outputs, inputs, &mut |row, values| fill(row, values)));
        println!("pack {precision:?}: {:.2} s for {outputs} × {inputs}", start.elapsed().as_secs_f64());
    }
}

/// Numbers between -1 and 1 that differ from place to place.
fn fill(seed: usize, values: &mut [f32]) {
    let mut state = (seed as u32).wrapping_mul(2_654_435_761);
    for value in values {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
}
