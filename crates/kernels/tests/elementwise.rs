//! Are norms and gates right on every path and at every width?

mod common;

use common::{F32_ROUNDING, Numbers, bits, pools};
use kernels::{Numerics, Pool, reference, rms_norm, silu_mul};

const WIDTHS: [usize; 10] = [1, 2, 15, 16, 17, 63, 64, 65, 100, 1024];

#[test]
fn norms_are_right_on_every_path() {
    for pool in pools(Numerics::Fast) {
        for width in WIDTHS {
            for rows in [1, 3, 40] {
                let mut numbers = Numbers(width as u64);
                let (x, weight) = (numbers.floats(rows * width), numbers.floats(width));
                let (mut out, mut truth) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                rms_norm(&pool, &x, &weight, 1e-6, &mut out);
                reference::norm::rms_norm(&x, &weight, 1e-6, &mut truth);
                // A sum of `width` squares is off by `width` roundings at most; its root halves that. Seven more operations.
                let share = (width as f64 / 2.0 + 8.0) * F32_ROUNDING;
                for (out, truth) in out.iter().zip(&truth) {
                    let off = f64::from((out - truth).abs());
                    assert!(
                        off <= share * f64::from(truth.abs()),
                        "{:?}, width {width}: {out}, not {truth}",
                        pool.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn a_norm_gives_a_row_the_same_bits_alone_and_in_a_crowd() {
    for pool in pools(Numerics::Fast) {
        for width in [100, 1024] {
            let mut numbers = Numbers(3);
            let (x, weight) = (numbers.floats(64 * width), numbers.floats(width));
            let (mut all, mut one) = (vec![0.0; x.len()], vec![0.0; width]);
            rms_norm(&pool, &x, &weight, 1e-5, &mut all);
            for (x, all) in x.chunks_exact(width).zip(all.chunks_exact(width)) {
                rms_norm(&pool, x, &weight, 1e-5, &mut one);
                assert_eq!(bits(all), bits(&one), "{:?}", pool.isa());
            }
        }
    }
}

#[test]
fn gates_are_right_on_every_path() {
    for pool in pools(Numerics::Fast) {
        for width in WIDTHS {
            for rows in [1, 3, 40] {
                let gate_up: Vec<f32> =
                    Numbers(width as u64).floats(2 * rows * width).iter().map(|v| v * 20.0).collect();
                let (mut out, mut truth) = (vec![f32::NAN; rows * width], vec![f32::NAN; rows * width]);
                silu_mul(&pool, &gate_up, width, &mut out);
                reference::gate::silu_mul(&gate_up, width, &mut truth);
                for (out, truth) in out.iter().zip(&truth) {
                    // The exponential is off by 2.5e-7; three operations follow.
                    let bound =
                        (2.5e-7 + 4.0 * F32_ROUNDING) * f64::from(truth.abs()) + f64::from(f32::MIN_POSITIVE);
                    let off = f64::from((out - truth).abs());
                    assert!(off <= bound, "{:?}, width {width}: {out}, not {truth}", pool.isa());
                }
            }
        }
    }
}

#[test]
fn gates_far_from_zero_are_open_or_shut_and_nan_passes() {
    for pool in pools(Numerics::Fast) {
        let gates = [-1e30, -200.0, 0.0, 200.0, 1e30, f32::NAN];
        let gate_up: Vec<f32> = gates.into_iter().chain([1.0; 6]).collect();
        let mut out = [7.0; 6];
        silu_mul(&pool, &gate_up, 6, &mut out);
        assert!(out[..3].iter().all(|v| v.abs() < 1e-7), "{:?}: {out:?}", pool.isa());
        assert_eq!(out[3..5], [200.0, 1e30], "{:?}", pool.isa());
        assert!(out[5].is_nan(), "{:?}", pool.isa());
    }
}

#[test]
fn rows_shared_by_threads_are_all_done() {
    let pool = Pool::new(3);
    let (width, rows) = (1024, 200);
    let gate_up = Numbers(1).floats(2 * width * rows);
    let (mut out, mut truth) = (vec![f32::NAN; width * rows], vec![f32::NAN; width * rows]);
    silu_mul(&pool, &gate_up, width, &mut out);
    reference::gate::silu_mul(&gate_up, width, &mut truth);
    assert!(out.iter().zip(&truth).all(|(out, truth)| (out - truth).abs() < 1e-6));
}
