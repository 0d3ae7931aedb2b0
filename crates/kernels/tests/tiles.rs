//! Does each instruction of AMX do what the manual says? On a machine with tiles the tests ask the silicon, elsewhere the
//! emulator that all other tests of tiles rely on.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod common;

use std::arch::asm;

use common::amx::instruction::{Base, Form, Instruction, Memory, decode};
use common::amx::tiles::{Fault, Tiles};
use common::amx::{Tmm, ready};
use common::{F32_ROUNDING, Numbers};

/// What LDTILECFG reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    line_bytes: [u16; 16],
    lines: [u8; 16],
}

impl Configuration {
    /// Tile 0 for the sums of a product, 1 for its left and 2 for its right factor; 3 as wide and high as can be.
    fn product(rows: usize, words: usize, columns: usize) -> Self {
        let mut configuration =
            Self { palette: 1, start_row: 0, reserved: [0; 14], line_bytes: [0; 16], lines: [0; 16] };
        for (i, (lines, line_words)) in
            [(rows, columns), (rows, words), (words, columns), (16, 16)].into_iter().enumerate()
        {
            configuration.lines[i] = lines as u8;
            configuration.line_bytes[i] = 4 * line_words as u16;
        }
        configuration
    }

    fn bytes(&self) -> [u8; 64] {
        // SAFETY: 64 bytes without padding.
        unsafe { std::mem::transmute_copy(self) }
    }
}

/// Sixteen lines of as many words.
type Square = [[u32; 16]; 16];

fn random(numbers: &mut Numbers) -> Square {
    std::array::from_fn(|_| std::array::from_fn(|_| numbers.next() as u32))
}

/// `sums + left · right` by one instruction. What of the squares lies outside the configured shapes is never looked at.
macro_rules! by_instruction {
    ($name:literal, $configuration:expr, $sums:expr, $left:expr, $right:expr) => {{
        ready();
        let mut sums: Square = *$sums;
        // SAFETY: `ready` saw to it that the instructions work; every square has sixteen lines of 64 bytes.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                "tileloadd tmm0, [{sums} + {stride}]",
                "tileloadd tmm1, [{left} + {stride}]",
                "tileloaddt1 tmm2, [{right} + {stride}]",
                concat!($name, " tmm0, tmm1, tmm2"),
                "tilestored [{sums} + {stride}], tmm0",
                "tilerelease",
                configuration = in(reg) $configuration,
                sums = in(reg) sums.as_mut_ptr(),
                left = in(reg) $left.as_ptr(),
                right = in(reg) $right.as_ptr(),
                stride = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _,
                options(nostack),
            );
        }
        sums
    }};
}

const SHAPES: [(usize, usize, usize); 9] = [
    (16, 16, 16),
    (1, 1, 1),
    (1, 16, 16),
    (16, 1, 16),
    (16, 16, 1),
    (3, 5, 7),
    (15, 8, 16),
    (16, 15, 9),
    (7, 16, 2),
];

fn bytes_product(
    shape: (usize, usize, usize),
    sums: &Square,
    left: &Square,
    right: &Square,
    signed: (bool, bool),
) -> Square {
    let value = |word: u32, i: usize, signed: bool| {
        let byte = word.to_le_bytes()[i];
        if signed { i64::from(byte as i8) } else { i64::from(byte) }
    };
    let mut result = *sums;
    for row in 0..shape.0 {
        for column in 0..shape.2 {
            let mut sum = i64::from(sums[row][column] as i32);
            for word in 0..shape.1 {
                for i in 0..4 {
                    sum += value(left[row][word], i, signed.0) * value(right[word][column], i, signed.1);
                }
            }
            result[row][column] = sum as u32;
        }
    }
    result
}

#[test]
fn products_of_bytes_are_exact_for_every_pair_of_signs_and_every_shape() {
    let mut numbers = Numbers(1);
    for shape in SHAPES {
        for _ in 0..4 {
            // Sums start anywhere, so some wrap around.
            let (sums, left, right) = (random(&mut numbers), random(&mut numbers), random(&mut numbers));
            let configuration = &Configuration::product(shape.0, shape.1, shape.2);
            let expected = |signed| bytes_product(shape, &sums, &left, &right, signed);
            let got = by_instruction!("tdpbssd", configuration, &sums, left, right);
            assert_eq!(got, expected((true, true)), "{shape:?}");
            let got = by_instruction!("tdpbsud", configuration, &sums, left, right);
            assert_eq!(got, expected((true, false)), "{shape:?}");
            let got = by_instruction!("tdpbusd", configuration, &sums, left, right);
            assert_eq!(got, expected((false, true)), "{shape:?}");
            let got = by_instruction!("tdpbuud", configuration, &sums, left, right);
            assert_eq!(got, expected((false, false)), "{shape:?}");
        }
    }
}

/// Two halves in a word.
fn halves(word: u32, value: impl Fn(u16) -> f32) -> [f32; 2] {
    [value(word as u16), value((word >> 16) as u16)]
}

fn from_bf16(bits: u16) -> f32 {
    half::bf16::from_bits(bits).to_f32()
}

/// A square of pairs of bf16 between -1 and 1.
fn random_bf16(numbers: &mut Numbers) -> Square {
    let mut half = || u32::from(half::bf16::from_f32(numbers.float()).to_bits());
    std::array::from_fn(|_| std::array::from_fn(|_| half() | half() << 16))
}

/// A sum of 2K products and what was there is off by at most a rounding at each of its 2K + 2 additions, each at most of the
/// sum of all magnitudes: in whatever order it is added, and so on any silicon.
#[test]
fn products_of_bf16_are_within_their_roundings_for_every_shape() {
    let mut numbers = Numbers(2);
    for shape in SHAPES {
        let (left, right) = (random_bf16(&mut numbers), random_bf16(&mut numbers));
        let sums: Square = std::array::from_fn(|_| std::array::from_fn(|_| numbers.float().to_bits()));
        let configuration = &Configuration::product(shape.0, shape.1, shape.2);
        let got = by_instruction!("tdpbf16ps", configuration, &sums, left, right);
        for row in 0..16 {
            for column in 0..16 {
                if row >= shape.0 || column >= shape.2 {
                    assert_eq!(got[row][column], sums[row][column], "only the tile is written");
                    continue;
                }
                let start = f64::from(f32::from_bits(sums[row][column]));
                let (mut truth, mut size) = (start, start.abs());
                for word in 0..shape.1 {
                    let pairs = [left[row][word], right[word][column]].map(|word| halves(word, from_bf16));
                    for (a, b) in pairs[0].into_iter().zip(pairs[1]) {
                        truth += f64::from(a) * f64::from(b);
                        size += (f64::from(a) * f64::from(b)).abs();
                    }
                }
                let off = (f64::from(f32::from_bits(got[row][column])) - truth).abs();
                let bound = (2 * shape.1 + 2) as f64 * F32_ROUNDING * size;
                assert!(off <= bound, "{shape:?}: off by {off:e}, bound {bound:e}");
            }
        }
    }
}

/// The sum of one pair with one pair, onto a given start.
fn one_pair(start: f32, left: [u16; 2], right: [u16; 2]) -> f32 {
    let word = |halves: [u16; 2]| u32::from(halves[0]) | u32::from(halves[1]) << 16;
    let (mut sums, mut a, mut b) = ([[0; 16]; 16], [[0; 16]; 16], [[0; 16]; 16]);
    (sums[0][0], a[0][0], b[0][0]) = (start.to_bits(), word(left), word(right));
    let configuration = &Configuration::product(1, 1, 1);
    f32::from_bits(by_instruction!("tdpbf16ps", configuration, &sums, a, b)[0][0])
}

#[test]
fn products_of_bf16_know_no_denormals_and_pass_on_what_is_no_number() {
    let bits = |value: f32| half::bf16::from_f32(value).to_bits();
    const DENORMAL: u16 = 0x007f;
    assert_eq!(one_pair(2.0, [bits(3.0), bits(5.0)], [bits(7.0), bits(11.0)]), 78.0);
    // A factor, a product and a start that are denormal count as zero.
    assert_eq!(one_pair(0.0, [DENORMAL, 0], [bits(1e20), 0]), 0.0);
    assert_eq!(one_pair(0.0, [bits(1e-20), 0], [bits(1e-20), 0]), 0.0);
    assert_eq!(one_pair(f32::MIN_POSITIVE / 2.0, [0, 0], [0, 0]), 0.0);
    assert_eq!(one_pair(1.0, [bits(f32::INFINITY), 0], [bits(2.0), 0]), f32::INFINITY);
    assert!(one_pair(1.0, [bits(f32::NAN), 0], [bits(2.0), 0]).is_nan());
    assert!(one_pair(1.0, [bits(f32::INFINITY), 0], [0, 0]).is_nan());
    // Halves of 2^24 are even: one is lost when it is added alone, and kept when both were added to each other first.
    assert_eq!(one_pair(16_777_216.0, [bits(1.0), bits(1.0)], [bits(1.0), bits(1.0)]), 16_777_218.0);
}

/// As Granite Rapids has it; small halves count here. Silicon without it is not asked.
#[test]
fn products_of_f16_are_exact_where_nothing_is_rounded() {
    if ready() == Tmm::Silicon && std::arch::x86_64::__cpuid_count(7, 1).eax & 1 << 21 == 0 {
        return;
    }
    let mut numbers = Numbers(4);
    for shape in SHAPES {
        // Whole numbers below 64, and the smallest of all halves.
        let half = |bits: u64| half::f16::from_f32((bits % 127) as f32 - 63.0).to_bits();
        let mut square = || -> Square {
            std::array::from_fn(|_| {
                std::array::from_fn(|_| {
                    u32::from(half(numbers.next())) | u32::from(half(numbers.next())) << 16
                })
            })
        };
        let (left, right) = (square(), square());
        let configuration = &Configuration::product(shape.0, shape.1, shape.2);
        let got = by_instruction!("tdpfp16ps", configuration, &[[0; 16]; 16], left, right);
        for row in 0..shape.0 {
            for column in 0..shape.2 {
                let value = |bits| half::f16::from_bits(bits).to_f32();
                let pair =
                    |word: usize| [left[row][word], right[word][column]].map(|word| halves(word, value));
                let sum: f32 = (0..shape.1).map(pair).map(|[a, b]| a[0] * b[0] + a[1] * b[1]).sum();
                assert_eq!(f32::from_bits(got[row][column]), sum);
            }
        }
    }
    let (mut left, mut right) = ([[0; 16]; 16], [[0; 16]; 16]);
    (left[0][0], right[0][0]) = (1, u32::from(half::f16::from_f32(1024.0).to_bits()));
    let got = by_instruction!("tdpfp16ps", &Configuration::product(1, 1, 1), &[[0; 16]; 16], left, right);
    assert_eq!(f32::from_bits(got[0][0]), half::f16::from_bits(1).to_f32() * 1024.0);
}

#[test]
fn a_load_reads_its_lines_where_base_stride_and_displacement_say() {
    ready();
    let source: Vec<u8> = (0..8192_u32).map(|i| (i * 7 + i / 256) as u8).collect();
    // Tile 1 has five lines of 12 bytes.
    let configuration = Configuration::product(5, 3, 16);
    for (stride, way) in [(64_usize, 0), (48, 1), (100, 2), (0, 3)] {
        let mut whole = [[0xaa_u8; 64]; 16];
        let base = source[1000..].as_ptr();
        // SAFETY: lines at most 800 bytes apart, five of them, lie in the source; `whole` has sixteen lines of 64 bytes.
        unsafe {
            match way {
                0 => asm!(
                    "ldtilecfg [{c}]", "tileloadd tmm1, [{base} + {stride}]", "tilestored [{to} + {line}], tmm1", "tilerelease",
                    c = in(reg) &configuration, base = in(reg) base, stride = in(reg) stride, to = in(reg) &mut whole,
                    line = in(reg) 64_usize, out("tmm1") _, options(nostack)),
                1 => asm!(
                    "ldtilecfg [{c}]", "tileloadd tmm1, [{base} + 2*{stride} + 77]", "tilestored [{to} + {line}], tmm1", "tilerelease",
                    c = in(reg) &configuration, base = in(reg) base, stride = in(reg) stride, to = in(reg) &mut whole,
                    line = in(reg) 64_usize, out("tmm1") _, options(nostack)),
                2 => asm!(
                    "ldtilecfg [{c}]", "tileloadd tmm1, [r13 + 8*r12 - 700]", "tilestored [r15 + r14], tmm1", "tilerelease",
                    c = in(reg) &configuration, in("r13") base, in("r12") stride, in("r15") &mut whole,
                    in("r14") 64_usize, out("tmm1") _, options(nostack)),
                _ => asm!(
                    "ldtilecfg [{c}]", "tileloadd tmm1, [{base} + 1000]", "tilestored [{to} + {line}], tmm1", "tilerelease",
                    c = in(reg) &configuration, base = in(reg) base, to = in(reg) &mut whole,
                    line = in(reg) 64_usize, out("tmm1") _, options(nostack)),
            }
        }
        let (offset, stride) = [(1000, 64), (1077, 96), (300, 800), (2000, 0)][way];
        for (i, line) in whole.iter().enumerate() {
            let expected: [u8; 64] = std::array::from_fn(|byte| {
                if i < 5 && byte < 12 { source[offset + i * stride + byte] } else { 0xaa }
            });
            assert_eq!(*line, expected, "way {way}, line {i}");
        }
    }
}

#[test]
fn a_zeroed_tile_is_zero_and_a_released_thread_has_no_configuration() {
    ready();
    let configuration = Configuration::product(16, 16, 16);
    let (mut line, mut before, mut after) = ([[7_u8; 64]; 16], [1_u8; 64], [1_u8; 64]);
    // SAFETY: sixteen lines of 64 bytes, and 64 bytes for each configuration.
    unsafe {
        asm!(
            "ldtilecfg [{c}]",
            "tileloadd tmm3, [{line} + {stride}]",
            "tilezero tmm3",
            "tilestored [{line} + {stride}], tmm3",
            "sttilecfg [{before}]",
            "tilerelease",
            "sttilecfg [{after}]",
            c = in(reg) &configuration, line = in(reg) &mut line, stride = in(reg) 64_usize,
            before = in(reg) &mut before, after = in(reg) &mut after, out("tmm3") _, options(nostack),
        );
    }
    assert_eq!(line, [[0; 64]; 16]);
    assert_eq!(before, configuration.bytes());
    assert_eq!(after, [0; 64]);
}

#[test]
fn every_thread_has_tiles_of_its_own() {
    ready();
    let threads: Vec<_> = (1..9_u32)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut square = [[thread; 16]; 16];
                let configuration = Configuration::product(16, 16, 16);
                for _ in 0..50 {
                    // SAFETY: a square has sixteen lines of 64 bytes. Other threads run between load and store.
                    unsafe {
                        asm!("ldtilecfg [{c}]", "tileloadd tmm2, [{square} + {stride}]", c = in(reg) &configuration,
                            square = in(reg) &square, stride = in(reg) 64_usize, options(nostack));
                        square = [[0; 16]; 16];
                        asm!("pause", options(nostack, nomem));
                        asm!("tilestored [{square} + {stride}], tmm2", "tilerelease", square = in(reg) &mut square,
                            stride = in(reg) 64_usize, out("tmm2") _, options(nostack));
                    }
                    assert_eq!(square, [[thread; 16]; 16]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("its tiles held what it had put there"));
}

/// What the emulator reads from an encoding, and how long that is.
fn read(bytes: &[u8]) -> Option<(Instruction, usize)> {
    decode(&|i| bytes[i])
}

/// The bytes are those that LLVM's assembler gives for the text.
#[test]
fn encodings_are_read_as_an_assembler_writes_them() {
    let memory = |base, index, displacement| Memory { base, index, displacement };
    let (rdi, rsi) = (Base::Register(7), Base::Register(6));
    let bytes = |left_signed, right_signed| Form::Bytes { left_signed, right_signed };
    let product = |form, sums, left, right| Instruction::Multiply { form, sums, left, right };
    let rows: [(&str, &[u8], Instruction); 17] = [
        (
            "ldtilecfg [rdi]",
            &[0xc4, 0xe2, 0x78, 0x49, 0x07],
            Instruction::LoadConfiguration(memory(rdi, None, 0)),
        ),
        (
            "ldtilecfg [rcx + 2*rdx]",
            &[0xc4, 0xe2, 0x78, 0x49, 0x04, 0x51],
            Instruction::LoadConfiguration(memory(Base::Register(1), Some((2, 1)), 0)),
        ),
        (
            "ldtilecfg [rip + 16]",
            &[0xc4, 0xe2, 0x78, 0x49, 0x05, 0x10, 0, 0, 0],
            Instruction::LoadConfiguration(memory(Base::Next, None, 16)),
        ),
        (
            "sttilecfg [rsi]",
            &[0xc4, 0xe2, 0x79, 0x49, 0x06],
            Instruction::StoreConfiguration(memory(rsi, None, 0)),
        ),
        ("tilerelease", &[0xc4, 0xe2, 0x78, 0x49, 0xc0], Instruction::Release),
        ("tilezero tmm5", &[0xc4, 0xe2, 0x7b, 0x49, 0xe8], Instruction::Zero(5)),
        (
            "tileloadd tmm1, [rdi]",
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x0c, 0x27],
            Instruction::Load(1, memory(rdi, None, 0)),
        ),
        (
            "tileloaddt1 tmm7, [rsi]",
            &[0xc4, 0xe2, 0x79, 0x4b, 0x3c, 0x26],
            Instruction::Load(7, memory(rsi, None, 0)),
        ),
        (
            "tileloadd tmm5, [10]",
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x2c, 0x25, 10, 0, 0, 0],
            Instruction::Load(5, memory(Base::None, None, 10)),
        ),
        (
            "tileloadd tmm1, [rax + 4*rbx + 32]",
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x4c, 0x98, 0x20],
            Instruction::Load(1, memory(Base::Register(0), Some((3, 2)), 32)),
        ),
        (
            "tilestored [rax + rbx], tmm1",
            &[0xc4, 0xe2, 0x7a, 0x4b, 0x0c, 0x18],
            Instruction::Store(memory(Base::Register(0), Some((3, 0)), 0), 1),
        ),
        ("tdpbssd tmm1, tmm2, tmm3", &[0xc4, 0xe2, 0x63, 0x5e, 0xca], product(bytes(true, true), 1, 2, 3)),
        ("tdpbsud tmm1, tmm2, tmm3", &[0xc4, 0xe2, 0x62, 0x5e, 0xca], product(bytes(true, false), 1, 2, 3)),
        ("tdpbusd tmm1, tmm2, tmm3", &[0xc4, 0xe2, 0x61, 0x5e, 0xca], product(bytes(false, true), 1, 2, 3)),
        ("tdpbuud tmm1, tmm2, tmm3", &[0xc4, 0xe2, 0x60, 0x5e, 0xca], product(bytes(false, false), 1, 2, 3)),
        ("tdpbf16ps tmm7, tmm0, tmm6", &[0xc4, 0xe2, 0x4a, 0x5c, 0xf8], product(Form::Bf16, 7, 0, 6)),
        ("tdpfp16ps tmm1, tmm2, tmm3", &[0xc4, 0xe2, 0x63, 0x5c, 0xca], product(Form::F16, 1, 2, 3)),
    ];
    for (text, bytes, instruction) in rows {
        assert_eq!(read(bytes), Some((instruction, bytes.len())), "{text}");
    }
}

#[test]
fn every_register_can_be_base_and_stride() {
    for base in 0..16_usize {
        for index in 0..16_usize {
            for (mode, displacement) in [(0, &[][..]), (1, &[0xf0][..]), (2, &[0, 1, 0, 0][..])] {
                let vex = 0xe2 ^ (index as u8 >> 3) << 6 ^ (base as u8 >> 3) << 5;
                let sib = 0b1000_0000 | (index as u8 & 7) << 3 | base as u8 & 7;
                let mut bytes = vec![0xc4, vex, 0x7b, 0x4b, mode << 6 | 6 << 3 | 4, sib];
                bytes.extend(displacement);
                // Without a displacement, the frame pointer and its twin stand for no base, and four bytes follow.
                let no_base = mode == 0 && base & 7 == 5;
                if no_base {
                    bytes.extend([8, 0, 0, 0]);
                }
                let memory = Memory {
                    base: if no_base { Base::None } else { Base::Register(base) },
                    // The stack pointer stands for no stride.
                    index: (index != 4).then_some((index, 2)),
                    displacement: if no_base { 8 } else { [0, -16, 256][usize::from(mode)] },
                };
                assert_eq!(
                    read(&bytes),
                    Some((Instruction::Load(6, memory), bytes.len())),
                    "{base} {index} {mode}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_instruction_of_amx_is_left_to_others() {
    let others: [&[u8]; 9] = [
        // ud2, and an instruction of AVX.
        &[0x0f, 0x0b, 0, 0, 0, 0],
        &[0xc5, 0xf8, 0x77, 0, 0, 0],
        // W or L set, a tile of sixteen, tiles without SIB, a configuration in a register, another map, another opcode.
        &[0xc4, 0xe2, 0xe3, 0x5e, 0xca, 0],
        &[0xc4, 0xe2, 0x67, 0x5e, 0xca, 0],
        &[0xc4, 0x62, 0x63, 0x5e, 0xca, 0],
        &[0xc4, 0xe2, 0x7b, 0x4b, 0x0f, 0],
        &[0xc4, 0xe2, 0x79, 0x49, 0xc6, 0],
        &[0xc4, 0xe1, 0x63, 0x5e, 0xca, 0],
        &[0xc4, 0xe2, 0x63, 0x5d, 0xca, 0],
    ];
    others.iter().for_each(|bytes| assert_eq!(read(bytes), None, "{bytes:x?}"));
}

#[test]
fn an_illegal_instruction_of_another_kind_still_ends_the_process() {
    ready();
    // SAFETY: the child does nothing but fail; the parent waits for it.
    let status = unsafe {
        let child = libc::fork();
        assert!(child >= 0, "the system lets us fork");
        if child == 0 {
            asm!("ud2", options(noreturn));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGILL, "{status:x}");
}

/// Executes instructions on tiles of the test's own: a processor's refusal would end the process.
struct Bench(Tiles);

impl Bench {
    fn configured(configuration: &Configuration) -> Result<Self, Fault> {
        let mut bench = Self(Tiles::new());
        let memory = Memory { base: Base::Register(0), index: None, displacement: 0 };
        bench.run(Instruction::LoadConfiguration(memory), configuration.bytes().as_ptr() as u64)?;
        Ok(bench)
    }
    fn run(&mut self, instruction: Instruction, address: u64) -> Result<(), Fault> {
        // SAFETY: configurations are 64 bytes; nothing else here reads memory.
        unsafe { self.0.execute(instruction, &|_| address, 0) }
    }
    fn multiply(&mut self, sums: usize, left: usize, right: usize) -> Result<(), Fault> {
        self.run(Instruction::Multiply { form: Form::Bf16, sums, left, right }, 0)
    }
}

#[test]
fn configurations_that_a_processor_refuses_are_refused() {
    let good = Configuration::product(16, 16, 16);
    assert!(Bench::configured(&good).is_ok());
    assert!(Bench::configured(&Configuration { palette: 0, ..good }).is_ok(), "palette 0 releases");
    let refused = |change: &dyn Fn(&mut Configuration)| {
        let mut configuration = good;
        change(&mut configuration);
        assert!(matches!(Bench::configured(&configuration), Err(Fault::Protection(_))), "{configuration:?}");
    };
    refused(&|c| c.palette = 2);
    refused(&|c| c.start_row = 1);
    refused(&|c| c.reserved[3] = 1);
    refused(&|c| c.lines[0] = 17);
    refused(&|c| c.lines[0] = 0);
    refused(&|c| c.line_bytes[0] = 65);
    refused(&|c| c.line_bytes[0] = 0);
    refused(&|c| c.line_bytes[8] = 4);
    refused(&|c| c.lines[8] = 4);
}

#[test]
fn products_that_a_processor_refuses_are_refused() {
    let product = |configuration: Configuration, sums, left, right| {
        Bench::configured(&configuration)?.multiply(sums, left, right)
    };
    let whole = Configuration::product(5, 3, 7);
    assert_eq!(product(whole, 0, 1, 2), Ok(()));
    let undefined = |result| assert!(matches!(result, Err(Fault::Undefined(_))), "{result:?}");
    // The same tile twice, tiles that are left out, and shapes that do not fit.
    undefined(product(whole, 0, 0, 2));
    undefined(product(whole, 0, 1, 1));
    undefined(product(whole, 2, 1, 2));
    undefined(product(whole, 0, 1, 4));
    undefined(product(whole, 1, 0, 2));
    undefined(product(whole, 0, 3, 2));
    let changed = |change: &dyn Fn(&mut Configuration)| {
        let mut configuration = whole;
        change(&mut configuration);
        configuration
    };
    undefined(product(changed(&|c| c.lines[0] = 6), 0, 1, 2));
    undefined(product(changed(&|c| c.line_bytes[0] = 24), 0, 1, 2));
    undefined(product(changed(&|c| c.lines[2] = 4), 0, 1, 2));
    undefined(product(changed(&|c| c.line_bytes[1] = 11), 0, 1, 2));
    // And nothing runs before tiles are configured, or after they were released.
    let mut bench = Bench(Tiles::new());
    undefined(bench.multiply(0, 1, 2));
    undefined(bench.run(Instruction::Zero(0), 0));
    let mut bench = Bench::configured(&whole).expect("it is valid");
    assert_eq!(bench.run(Instruction::Zero(0), 0), Ok(()));
    assert_eq!(bench.run(Instruction::Release, 0), Ok(()));
    undefined(bench.run(Instruction::Zero(0), 0));
}
