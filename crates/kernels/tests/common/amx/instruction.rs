//! Which instruction of AMX is encoded at an address, and what does it work on?
//!
//! All are encoded alike: `C4`, two bytes of VEX, an opcode, ModRM, and for memory operands SIB and a displacement.

/// A tile register, 0 to 7.
pub type Name = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    LoadConfiguration(Memory),
    StoreConfiguration(Memory),
    Release,
    Zero(Name),
    Load(Name, Memory),
    Store(Memory, Name),
    /// `sums += left · right`.
    Multiply {
        form: Form,
        sums: Name,
        left: Name,
        right: Name,
    },
}

/// What the words of the two factors hold; of bytes, which side is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Bytes { left_signed: bool, right_signed: bool },
    Bf16,
    F16,
}

/// A memory operand; registers are numbered as the processor numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub base: Base,
    /// With the power of two it is shifted by.
    pub index: Option<(usize, u32)>,
    pub displacement: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Register(usize),
    /// The address of the next instruction.
    Next,
    None,
}

impl Memory {
    pub fn start(&self, registers: &dyn Fn(usize) -> u64, next: u64) -> u64 {
        let base = match self.base {
            Base::Register(number) => registers(number),
            Base::Next => next,
            Base::None => 0,
        };
        base.wrapping_add_signed(self.displacement)
    }
    /// What the index contributes: to an address, or from line to line of a tile.
    pub fn stride(&self, registers: &dyn Fn(usize) -> u64) -> u64 {
        self.index.map_or(0, |(number, shift)| registers(number) << shift)
    }
}

/// Returns the instruction and its length; nothing when these bytes are no instruction of AMX. Reads no byte behind its end.
pub fn decode(byte: &dyn Fn(usize) -> u8) -> Option<(Instruction, usize)> {
    if byte(0) != 0xc4 {
        return None;
    }
    let (first, second) = (byte(1), byte(2));
    // The three extensions of register numbers, and the register that VEX names, are stored inverted.
    let extension = |bit: u32| usize::from(!first >> bit & 1) << 3;
    let (reg_high, index_high, base_high) = (extension(7), extension(6), extension(5));
    let named = usize::from(!second >> 3 & 15);
    const MAP_0F38: u8 = 2;
    if first & 31 != MAP_0F38 {
        return None;
    }
    // W and L must be zero.
    if second & 0b1000_0100 != 0 {
        return None;
    }
    let (prefix, opcode) = (second & 3, byte(3));
    if !matches!(opcode, 0x49 | 0x4b | 0x5c | 0x5e) {
        return None;
    }
    let mod_rm = byte(4);
    let (mode, reg, rm) = (mod_rm >> 6, usize::from(mod_rm >> 3 & 7), usize::from(mod_rm & 7));
    const REGISTERS: u8 = 3;
    const NONE: u8 = 0;
    const X66: u8 = 1;
    const XF3: u8 = 2;
    const XF2: u8 = 3;
    let memory = || memory(byte, mode, rm, index_high, base_high);
    let bytes = |left_signed, right_signed| Form::Bytes { left_signed, right_signed };
    let no_extensions = reg_high == 0 && base_high == 0;
    let multiply = |form| {
        let instruction = Instruction::Multiply { form, sums: reg, left: rm, right: named };
        (no_extensions && named < 8).then_some((instruction, 5))
    };
    match (opcode, prefix, mode) {
        (0x49, NONE, REGISTERS) => {
            (mod_rm == 0xc0 && named == 0 && no_extensions).then_some((Instruction::Release, 5))
        }
        (0x49, XF2, REGISTERS) => {
            (rm == 0 && named == 0 && no_extensions).then_some((Instruction::Zero(reg), 5))
        }
        (0x49, NONE | X66, 0..REGISTERS) if reg == 0 && reg_high == 0 && named == 0 => {
            let (memory, length) = memory();
            let instruction = if prefix == NONE {
                Instruction::LoadConfiguration(memory)
            } else {
                Instruction::StoreConfiguration(memory)
            };
            Some((instruction, length))
        }
        // Tiles demand a SIB byte: the index is their stride.
        (0x4b, X66 | XF2 | XF3, 0..REGISTERS) if rm == 4 && reg_high == 0 && named == 0 => {
            let (memory, length) = memory();
            let store = prefix == XF3;
            Some((
                if store { Instruction::Store(memory, reg) } else { Instruction::Load(reg, memory) },
                length,
            ))
        }
        (0x5e, _, REGISTERS) => multiply(match prefix {
            XF2 => bytes(true, true),
            XF3 => bytes(true, false),
            X66 => bytes(false, true),
            _ => bytes(false, false),
        }),
        (0x5c, XF3, REGISTERS) => multiply(Form::Bf16),
        (0x5c, XF2, REGISTERS) => multiply(Form::F16),
        _ => None,
    }
}

/// The operand that ModRM begins, and the length of the whole instruction.
fn memory(
    byte: &dyn Fn(usize) -> u8,
    mode: u8,
    rm: usize,
    index_high: usize,
    base_high: usize,
) -> (Memory, usize) {
    const STACK: usize = 4;
    const FRAME: usize = 5;
    let mut at = 5;
    let mut index = None;
    let mut base = if rm == FRAME && mode == 0 { Base::Next } else { Base::Register(rm | base_high) };
    if rm == STACK {
        let sib = byte(at);
        at += 1;
        let number = usize::from(sib >> 3 & 7) | index_high;
        index = (number != STACK).then_some((number, u32::from(sib >> 6)));
        let number = usize::from(sib & 7);
        base = if number == FRAME && mode == 0 { Base::None } else { Base::Register(number | base_high) };
    }
    let wide = mode == 2 || (mode == 0 && matches!(base, Base::None | Base::Next));
    let displacement = if wide {
        let bytes = std::array::from_fn(|i| byte(at + i));
        at += 4;
        i64::from(i32::from_le_bytes(bytes))
    } else if mode == 1 {
        at += 1;
        i64::from(byte(at - 1) as i8)
    } else {
        0
    };
    (Memory { base, index, displacement }, at)
}
