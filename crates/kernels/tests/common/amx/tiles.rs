//! What does an instruction of AMX do to the tiles of a thread?
//!
//! As Intel's manual writes it (volume 2, and section "Intel AMX instruction exception classes"), for palette 1: eight tiles of
//! at most sixteen lines of 64 bytes. Two things stay out: transactions, and instructions that a fault interrupted half-way
//! (`start_row` other than zero), which only a signal handler could see.

use super::instruction::{Form, Instruction, Name};

const TILES: usize = 8;
const LINES: usize = 16;
const LINE_BYTES: usize = 64;

type Data = [[u8; LINE_BYTES]; LINES];

/// The tile state of one thread.
pub struct Tiles {
    configured: bool,
    shapes: [Shape; TILES],
    data: [Data; TILES],
}

/// Zero lines of zero bytes stand for a tile that the configuration leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    lines: usize,
    line_bytes: usize,
}

/// Why a processor would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// #UD
    Undefined(&'static str),
    /// #GP
    Protection(&'static str),
}

const ABSENT: Shape = Shape { lines: 0, line_bytes: 0 };

impl Tiles {
    pub const fn new() -> Self {
        Self { configured: false, shapes: [ABSENT; TILES], data: [[[0; LINE_BYTES]; LINES]; TILES] }
    }

    /// # Safety
    /// Memory that the instruction reads or writes must be readable or writable; `registers` and `next` are the general
    /// registers and the address of the next instruction.
    pub unsafe fn execute(
        &mut self,
        instruction: Instruction,
        registers: &dyn Fn(usize) -> u64,
        next: u64,
    ) -> Result<(), Fault> {
        // SAFETY: as the caller promises; a configuration is 64 bytes.
        unsafe {
            match instruction {
                Instruction::LoadConfiguration(memory) => {
                    let at = memory.start(registers, next).wrapping_add(memory.stride(registers));
                    self.configure(&(at as *const [u8; 64]).read_unaligned())
                }
                Instruction::StoreConfiguration(memory) => {
                    let at = memory.start(registers, next).wrapping_add(memory.stride(registers));
                    (at as *mut [u8; 64]).write_unaligned(self.configuration());
                    Ok(())
                }
                Instruction::Release => {
                    *self = Self::new();
                    Ok(())
                }
                Instruction::Zero(name) => {
                    self.shape(name)?;
                    self.data[name] = [[0; LINE_BYTES]; LINES];
                    Ok(())
                }
                Instruction::Load(name, memory) => {
                    self.load(name, memory.start(registers, next), memory.stride(registers))
                }
                Instruction::Store(memory, name) => {
                    self.store(name, memory.start(registers, next), memory.stride(registers))
                }
                Instruction::Multiply { form, sums, left, right } => self.multiply(form, sums, left, right),
            }
        }
    }

    fn configure(&mut self, bytes: &[u8; 64]) -> Result<(), Fault> {
        let mut tiles = Self::new();
        match bytes[0] {
            0 => {}
            1 => {
                let reserved = bytes[2..16].iter().chain(&bytes[32..48]).chain(&bytes[56..64]);
                if reserved.into_iter().any(|byte| *byte != 0) {
                    return Err(Fault::Protection("a reserved byte of the configuration is not zero"));
                }
                if bytes[1] != 0 {
                    return Err(Fault::Protection("the emulator restarts no interrupted instruction"));
                }
                for (i, shape) in tiles.shapes.iter_mut().enumerate() {
                    let line_bytes = usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]]));
                    let lines = usize::from(bytes[48 + i]);
                    if lines > LINES || line_bytes > LINE_BYTES || (lines == 0) != (line_bytes == 0) {
                        return Err(Fault::Protection("a tile has a shape that palette 1 lacks"));
                    }
                    *shape = Shape { lines, line_bytes };
                }
                tiles.configured = true;
            }
            _ => return Err(Fault::Protection("there is no such palette")),
        }
        *self = tiles;
        Ok(())
    }

    fn configuration(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = u8::from(self.configured);
        for (i, shape) in self.shapes.iter().enumerate() {
            bytes[16 + 2 * i..][..2].copy_from_slice(&(shape.line_bytes as u16).to_le_bytes());
            bytes[48 + i] = shape.lines as u8;
        }
        bytes
    }

    fn shape(&self, name: Name) -> Result<Shape, Fault> {
        if !self.configured {
            return Err(Fault::Undefined("tiles are not configured in this thread"));
        }
        match self.shapes[name] {
            ABSENT => Err(Fault::Undefined("the configuration leaves this tile out")),
            shape => Ok(shape),
        }
    }

    unsafe fn load(&mut self, name: Name, start: u64, stride: u64) -> Result<(), Fault> {
        let shape = self.shape(name)?;
        let mut data = [[0; LINE_BYTES]; LINES];
        for (i, line) in data[..shape.lines].iter_mut().enumerate() {
            let from = start.wrapping_add(stride.wrapping_mul(i as u64)) as *const u8;
            // SAFETY: the caller promises that the lines are readable; a tile's line holds 64 bytes.
            unsafe { std::ptr::copy_nonoverlapping(from, line.as_mut_ptr(), shape.line_bytes) };
        }
        self.data[name] = data;
        Ok(())
    }

    unsafe fn store(&self, name: Name, start: u64, stride: u64) -> Result<(), Fault> {
        let shape = self.shape(name)?;
        for (i, line) in self.data[name][..shape.lines].iter().enumerate() {
            let to = start.wrapping_add(stride.wrapping_mul(i as u64)) as *mut u8;
            // SAFETY: the caller promises that the lines are writable; a tile's line holds 64 bytes.
            unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), to, shape.line_bytes) };
        }
        Ok(())
    }

    fn multiply(&mut self, form: Form, sums: Name, left: Name, right: Name) -> Result<(), Fault> {
        if sums == left || sums == right || left == right {
            return Err(Fault::Undefined("the three tiles of a product are different ones"));
        }
        let (shape, left_shape, right_shape) = (self.shape(sums)?, self.shape(left)?, self.shape(right)?);
        let whole_words =
            [shape, left_shape, right_shape].iter().all(|shape| shape.line_bytes.is_multiple_of(4));
        if !whole_words
            || shape.lines != left_shape.lines
            || shape.line_bytes != right_shape.line_bytes
            || left_shape.line_bytes / 4 != right_shape.lines
        {
            return Err(Fault::Undefined("the shapes of a product's tiles do not fit each other"));
        }
        let mut data = self.data[sums];
        let factors = Factors { left: &self.data[left], right: &self.data[right], words: right_shape.lines };
        factors.multiply(form, &mut data[..shape.lines]);
        data[..shape.lines].iter_mut().for_each(|line| line[shape.line_bytes..].fill(0));
        data[shape.lines..].fill([0; LINE_BYTES]);
        self.data[sums] = data;
        Ok(())
    }
}

/// Words in a line.
const WORDS: usize = LINE_BYTES / 4;

struct Factors<'a> {
    left: &'a Data,
    right: &'a Data,
    /// Words of a line of the left factor: lines of the right one.
    words: usize,
}

impl Factors<'_> {
    fn multiply(&self, form: Form, sums: &mut [[u8; LINE_BYTES]]) {
        if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked for these.
            return unsafe { self.multiply_with_vectors(form, sums) };
        }
        self.multiply_plainly(form, sums);
    }

    /// The same code, compiled to be twenty times as fast.
    ///
    /// # Safety
    /// The processor must have these features.
    #[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
    unsafe fn multiply_with_vectors(&self, form: Form, sums: &mut [[u8; LINE_BYTES]]) {
        self.multiply_plainly(form, sums);
    }

    #[inline(always)]
    fn multiply_plainly(&self, form: Form, sums: &mut [[u8; LINE_BYTES]]) {
        match form {
            Form::Bytes { left_signed, right_signed } => self.bytes(left_signed, right_signed, sums),
            Form::Bf16 => self.halves(bf16, sums),
            Form::F16 => self.halves(f16, sums),
        }
    }

    /// Four products of bytes for each word; sums wrap around.
    #[inline(always)]
    fn bytes(&self, left_signed: bool, right_signed: bool, sums: &mut [[u8; LINE_BYTES]]) {
        let value = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
        // For each word, its first, second, third and fourth bytes.
        let mut right = [[[0; WORDS]; 4]; LINES];
        for (line, words) in self.right.iter().zip(&mut right) {
            for (i, byte) in line.iter().enumerate() {
                words[i % 4][i / 4] = value(*byte, right_signed);
            }
        }
        for (line, sums) in self.left.iter().zip(sums) {
            let sums = sums.as_chunks_mut::<4>().0;
            let mut total: [i32; WORDS] = std::array::from_fn(|n| i32::from_le_bytes(sums[n]));
            for (word, right) in right[..self.words].iter().enumerate() {
                for i in 0..4 {
                    let left = value(line[4 * word + i], left_signed);
                    for n in 0..WORDS {
                        total[n] = total[n].wrapping_add(left * right[i][n]);
                    }
                }
            }
            sums.iter_mut().zip(total).for_each(|(place, sum)| *place = sum.to_le_bytes());
        }
    }

    /// The even and the odd halves are summed apart, one fused multiply-add after the other, then added to each other and
    /// then to what was there; numbers too small to be normal are zero, before and after.
    #[inline(always)]
    fn halves(&self, value: impl Fn(u16) -> f32, sums: &mut [[u8; LINE_BYTES]]) {
        let half = |bytes: [u8; 2]| value(u16::from_le_bytes(bytes));
        let floats = |line: &[u8; LINE_BYTES]| -> [f32; 2 * WORDS] {
            std::array::from_fn(|i| half(line.as_chunks().0[i]))
        };
        let right: [[f32; 2 * WORDS]; LINES] = std::array::from_fn(|i| floats(&self.right[i]));
        for (line, sums) in self.left.iter().zip(sums) {
            let left = floats(line);
            let mut apart = [[0.0; WORDS]; 2];
            for (word, right) in right[..self.words].iter().enumerate() {
                for n in 0..WORDS {
                    apart[0][n] = normal(left[2 * word].mul_add(right[2 * n], apart[0][n]));
                    apart[1][n] = normal(left[2 * word + 1].mul_add(right[2 * n + 1], apart[1][n]));
                }
            }
            for (n, place) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let pair = normal(apart[0][n] + apart[1][n]);
                *place = normal(normal(f32::from_le_bytes(*place)) + pair).to_le_bytes();
            }
        }
    }
}

#[inline(always)]
fn bf16(bits: u16) -> f32 {
    normal(f32::from_bits(u32::from(bits) << 16))
}

/// Unlike bf16, small numbers count.
#[inline(always)]
fn f16(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

#[inline(always)]
fn normal(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(value) } else { value }
}
