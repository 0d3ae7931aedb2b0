//! How fast are products, attention and packing on this machine? Checks the answers first; a wrong one has no time.
//!
//! `cargo run --release -p kernels --example speed [products|tiles|attention|packing [precision [shape]]]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernels::{AttentionSpan, Isa, KvCache, Matrix, Pool, PoolOptions, Precision, matmul, reference};

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

/// Attention as in Qwen3-0.6B: 16 query heads on 8 kv heads of 128, many layers so that the cache is read from memory.
fn attention(pool: &Pool, bandwidth: f64) {
    const CONTEXT: usize = 4096;
    let (layers, heads, kv_heads, head_dim) = (28, 16, 8, 128);
    let mut cache = KvCache::new(layers, CONTEXT / 32, kv_heads, head_dim);
    let blocks: Vec<u32> = (0..CONTEXT as u32 / 32).collect();
    let stride = (heads + 2 * kv_heads) * head_dim;
    let mut fused = vec![0.0; CONTEXT * stride];
    fill(3, &mut fused);
    let (queries, narrow) = (heads * head_dim, kv_heads * head_dim);
    let whole = [AttentionSpan { first_row: 0, rows: CONTEXT, first_position: 0, blocks: &blocks }];
    let append =
        median(|| cache.append(pool, 0, &fused[queries..], &fused[queries + narrow..], stride, &whole));
    println!("append: {:.2} µs a token and layer", append * 1e6 / CONTEXT as f64);
    for layer in 1..layers {
        cache.append(pool, layer, &fused[queries..], &fused[queries + narrow..], stride, &whole);
    }
    let mut out = vec![0.0; 512 * queries];
    for (rows, name) in [(1, "decode"), (512, "prefill")] {
        let span = [AttentionSpan { first_row: 0, rows, first_position: CONTEXT - rows, blocks: &blocks }];
        let mut layer = 0;
        let seconds = median(|| {
            layer = (layer + 1) % layers;
            cache.attend(
                pool,
                layer,
                &fused,
                stride,
                heads,
                0.09,
                None,
                &span,
                black_box(&mut out[..rows * queries]),
            );
        });
        let bytes = (CONTEXT * narrow * 2 * 2) as f64 / seconds;
        let flops = (4 * queries * rows * (CONTEXT - rows / 2)) as f64 / seconds;
        println!(
            "attention, {name} of {rows} at {CONTEXT}: {:.0} µs a layer, {:.1} GB/s ({:.0} %), {:.0} GFLOP/s",
            seconds * 1e6,
            bytes / 1e9,
            100.0 * bytes / bandwidth,
            flops / 1e9
        );
    }
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
