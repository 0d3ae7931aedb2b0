//! In which form do queries and weights meet the numbers of the cache?

use crate::cpu::lanes::{Dots, FINE, LANES, Lanes, ROUGH, Terms, exp2};

/// Keys and values lie in lines of 64 bytes: a word of four bytes for each of sixteen outputs. A line meets one operand: the
/// query's (or the weights') numbers for the inputs in a word.
pub(crate) trait Form: Copy {
    /// Inputs in one line, and words of their operand.
    const INPUTS: usize;
    const WORDS: usize;
    /// How good the powers of the softmax are.
    const TERMS: Terms;
    /// Numbers behind the tokens that were written must be cleared before they are multiplied, even by zero.
    const CLEARS: bool;
    /// Keys and values of each token have scales, in bf16.
    const SCALED: bool;
    type Sum<V: Lanes>: Copy;
    type Line<V: Lanes>: Copy;

    /// # Safety
    /// As for `Lanes`, here and below.
    unsafe fn no_sum<V: Lanes>() -> Self::Sum<V>;
    /// # Safety
    /// 64 readable bytes.
    unsafe fn open<V: Lanes>(line: *const u8) -> Self::Line<V>;
    /// Adds the products of a line and an operand.
    ///
    /// # Safety
    /// `WORDS` readable words.
    unsafe fn dot<V: Lanes>(sum: Self::Sum<V>, line: Self::Line<V>, operand: *const u32) -> Self::Sum<V>;
    /// # Safety
    /// As for `Lanes`.
    unsafe fn float<V: Lanes>(sum: Self::Sum<V>) -> V;

    /// Writes a query, padded to whole lanes, as operands. Returns what a product with them is to be multiplied by.
    ///
    /// # Safety
    /// Words for all of the query must be writable.
    unsafe fn query<V: Lanes>(query: &[f32], to: *mut u32) -> f32;

    /// Writes the weights of scores as operands. Adds them to `total` as they are written. Returns what a product with them
    /// is to be multiplied by.
    ///
    /// # Safety
    /// As `Scores` says; words for all of the weights must be writable.
    unsafe fn weights<V: Lanes>(scores: Scores<'_, V>, to: *mut u32, total: V) -> (V, f32);
}

/// The scores of one query with the tokens of some blocks.
pub(crate) struct Scores<'a, V> {
    /// Two sixteens for each block; may be overwritten.
    pub scores: *mut f32,
    pub blocks: usize,
    pub factor: V,
    /// The largest score, in units of ln 2.
    pub largest: V,
    /// Of the values of each block, if there are any: what meets the values is a weight times a scale.
    pub scales: &'a [*const u16],
}

impl<V: Lanes> Scores<'_, V> {
    /// `2^(score · factor − largest)` of some sixteen tokens.
    ///
    /// # Safety
    /// As for `Lanes`; `i` must be below twice the number of blocks.
    #[inline(always)]
    unsafe fn weight(&self, i: usize, terms: Terms) -> V {
        // SAFETY: as the caller promises.
        unsafe {
            // Not fused: scores that were masked, and multiplied before, must give the same bits.
            exp2(V::load(self.scores.add(i * LANES)).mul(self.factor).sub(self.largest), terms)
        }
    }
}

/// bf16 numbers against f32 operands, by fused multiply-adds: any processor, and nothing is rounded on the way.
#[derive(Clone, Copy)]
pub(crate) struct Exact;

impl Form for Exact {
    const INPUTS: usize = 2;
    const WORDS: usize = 2;
    const TERMS: Terms = FINE;
    const CLEARS: bool = true;
    const SCALED: bool = false;
    type Sum<V: Lanes> = V;
    type Line<V: Lanes> = [V; 2];

    #[inline(always)]
    unsafe fn no_sum<V: Lanes>() -> V {
        // SAFETY: the caller answers for the instructions.
        unsafe { V::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn open<V: Lanes>(line: *const u8) -> [V; 2] {
        // SAFETY: as the caller promises.
        unsafe { V::open_bf16(line) }
    }
    #[inline(always)]
    unsafe fn dot<V: Lanes>(sum: V, [first, second]: [V; 2], operand: *const u32) -> V {
        // SAFETY: two readable words.
        unsafe {
            let operand = operand.cast::<f32>();
            let sum = V::splat(operand.read_unaligned()).mul_add(first, sum);
            V::splat(operand.add(1).read_unaligned()).mul_add(second, sum)
        }
    }
    #[inline(always)]
    unsafe fn float<V: Lanes>(sum: V) -> V {
        sum
    }
    #[inline(always)]
    unsafe fn query<V: Lanes>(query: &[f32], to: *mut u32) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(query.as_ptr(), to.cast(), query.len()) };
        1.0
    }
    #[inline(always)]
    unsafe fn weights<V: Lanes>(scores: Scores<'_, V>, to: *mut u32, mut total: V) -> (V, f32) {
        for i in 0..scores.blocks {
            // SAFETY: as the caller promises.
            unsafe {
                let (low, high) = (scores.weight(2 * i, Self::TERMS), scores.weight(2 * i + 1, Self::TERMS));
                low.store(to.add(2 * i * LANES).cast());
                high.store(to.add((2 * i + 1) * LANES).cast());
                total = total.add(low.add(high));
            }
        }
        (total, 1.0)
    }
}

/// bf16 numbers against bf16 operands, two products and sums in one instruction.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// Two ones.
const ONES: u32 = 0x3f80_3f80;

impl Form for Pairs {
    const INPUTS: usize = 2;
    const WORDS: usize = 1;
    const TERMS: Terms = ROUGH;
    const CLEARS: bool = true;
    const SCALED: bool = false;
    type Sum<V: Lanes> = V;
    type Line<V: Lanes> = V;

    #[inline(always)]
    unsafe fn no_sum<V: Lanes>() -> V {
        // SAFETY: the caller answers for the instructions.
        unsafe { V::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn open<V: Lanes>(line: *const u8) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load(line.cast()) }
    }
    #[inline(always)]
    unsafe fn dot<V: Lanes>(sum: V, line: V, operand: *const u32) -> V {
        // SAFETY: one readable word.
        unsafe { sum.dot_bf16(line, operand) }
    }
    #[inline(always)]
    unsafe fn float<V: Lanes>(sum: V) -> V {
        sum
    }
    #[inline(always)]
    unsafe fn query<V: Lanes>(query: &[f32], to: *mut u32) -> f32 {
        for (i, sixteen) in query.as_chunks::<LANES>().0.iter().enumerate() {
            // SAFETY: as the caller promises; sixteen halves are eight words.
            unsafe {
                let words = V::pairs_bf16(V::load(sixteen.as_ptr()), V::splat(0.0)).to_array();
                std::ptr::copy_nonoverlapping(words.as_ptr().cast(), to.add(i * LANES / 2), LANES / 2);
            }
        }
        1.0
    }
    /// The total is that of the rounded weights, so that they are shares of one whole.
    #[inline(always)]
    unsafe fn weights<V: Lanes>(scores: Scores<'_, V>, to: *mut u32, mut total: V) -> (V, f32) {
        for i in 0..scores.blocks {
            // SAFETY: as the caller promises.
            unsafe {
                let (low, high) = (scores.weight(2 * i, Self::TERMS), scores.weight(2 * i + 1, Self::TERMS));
                let pairs = V::pairs_bf16(low, high);
                pairs.store(to.add(i * LANES).cast());
                total = total.dot_bf16(pairs, &ONES);
            }
        }
        (total, 1.0)
    }
}

/// int8 numbers against operands of 15 bits and a sign, in whole numbers: exact, and the same on every processor.
///
/// Each query has one scale, so has each row of weights in a chunk; the scale of a key multiplies its score, that of a value
/// its weight.
#[derive(Clone, Copy)]
pub(crate) struct Shorts;

impl Shorts {
    /// The largest operand.
    const LARGEST: f32 = 32_767.0;
    /// The largest operand of a query: a sum over so many dimensions must fit in 31 bits.
    fn largest(dimensions: usize) -> f32 {
        const BYTE_LARGEST: usize = 127;
        Self::LARGEST.min((i32::MAX as usize / BYTE_LARGEST / dimensions.max(1)) as f32 - 1.0)
    }
}

impl Form for Shorts {
    const INPUTS: usize = 4;
    const WORDS: usize = 2;
    const TERMS: Terms = ROUGH;
    const CLEARS: bool = false;
    const SCALED: bool = true;
    type Sum<V: Lanes> = <V as Dots>::Whole;
    type Line<V: Lanes> = [<V as Dots>::Whole; 2];

    #[inline(always)]
    unsafe fn no_sum<V: Lanes>() -> Self::Sum<V> {
        // SAFETY: the caller answers for the instructions.
        unsafe { V::no_sum() }
    }
    #[inline(always)]
    unsafe fn open<V: Lanes>(line: *const u8) -> Self::Line<V> {
        // SAFETY: as the caller promises.
        unsafe { V::open_i8(line) }
    }
    #[inline(always)]
    unsafe fn dot<V: Lanes>(
        sum: Self::Sum<V>,
        [first, second]: Self::Line<V>,
        operand: *const u32,
    ) -> Self::Sum<V> {
        // SAFETY: two readable words.
        unsafe { V::dot_i16(V::dot_i16(sum, first, operand), second, operand.add(1)) }
    }
    #[inline(always)]
    unsafe fn float<V: Lanes>(sum: Self::Sum<V>) -> V {
        // SAFETY: the caller answers for the instructions.
        unsafe { V::float(sum) }
    }
    #[inline(always)]
    unsafe fn query<V: Lanes>(query: &[f32], to: *mut u32) -> f32 {
        // SAFETY: chunks of sixteen in, eight words of each out, as the caller promises.
        unsafe {
            let sixteens = query.as_chunks::<LANES>().0;
            let (mut largest, mut sum) = (V::splat(0.0), V::splat(0.0));
            for sixteen in sixteens {
                let x = V::load(sixteen.as_ptr());
                largest = largest.max(x.max(V::splat(0.0).sub(x)));
                sum = sum.add(x);
            }
            let (factor, inverse) = scale(largest.largest(), sum.sum(), Self::largest(query.len()));
            for (i, sixteen) in sixteens.iter().enumerate() {
                V::load(sixteen.as_ptr()).mul(V::splat(inverse)).store_i16(to.add(i * LANES / 2));
            }
            factor
        }
    }
    #[inline(always)]
    unsafe fn weights<V: Lanes>(scores: Scores<'_, V>, to: *mut u32, mut total: V) -> (V, f32) {
        // SAFETY: as the caller promises; each pair of sixteens has 32 scales.
        unsafe {
            let (mut largest, mut sum) = (V::splat(0.0), V::splat(0.0));
            for i in 0..2 * scores.blocks {
                let weight = scores.weight(i, Self::TERMS);
                total = total.add(weight);
                let scaled = weight.mul(V::load_bf16(scores.scales[i / 2].add(i % 2 * LANES)));
                // A token that is not seen may have any scale, even one that is not a number.
                let scaled = V::select_less(weight, V::splat(f32::MIN_POSITIVE), weight, scaled);
                scaled.store(scores.scores.add(i * LANES));
                largest = largest.max(scaled);
                sum = sum.add(scaled);
            }
            let (factor, inverse) = scale(largest.largest(), sum.sum(), Self::LARGEST);
            let inverse = V::splat(inverse);
            for i in 0..2 * scores.blocks {
                V::load(scores.scores.add(i * LANES)).mul(inverse).store_i16(to.add(i * LANES / 2));
            }
            (total, factor)
        }
    }
}

/// Returns what a whole number stands for, and its inverse. A sum that is not finite shows that some value is not.
#[inline(always)]
fn scale(largest: f32, sum: f32, levels: f32) -> (f32, f32) {
    if !sum.is_finite() {
        (f32::NAN, 0.0)
    } else if largest < f32::MIN_POSITIVE * 65_536.0 {
        (0.0, 0.0)
    } else {
        (largest / levels, levels / largest)
    }
}
