//! How do tests run tiles on a machine that has none?
//!
//! A processor without AMX stops at each of its instructions, and the kernel sends SIGILL. A handler reads the instruction where
//! it lies, does to a tile state in software what the manual says, and lets the thread go on behind it. So the very machine
//! code that real tiles run is tested everywhere, slowly: a trap costs about a microsecond.

pub mod instruction;
pub mod tiles;

use std::cell::UnsafeCell;
use std::sync::OnceLock;

use instruction::decode;
use tiles::Tiles;

/// Who runs the instructions of AMX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tmm {
    Silicon,
    Emulated,
}

/// Makes sure that every thread of this process can run the instructions of AMX, and says who runs them. Kernels take the path
/// of tiles from then on, where the machine has the vector registers that this path also needs.
pub fn ready() -> Tmm {
    static READY: OnceLock<Tmm> = OnceLock::new();
    *READY.get_or_init(|| {
        if kernels::Isa::detect() == kernels::Isa::Amx {
            return Tmm::Silicon;
        }
        install();
        // SAFETY: the emulator has just been installed, for all threads and for good.
        unsafe { kernels::Isa::assume_tiles() };
        Tmm::Emulated
    })
}

thread_local! {
    /// A constant that needs no destructor, so that a signal handler may touch it.
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles::new()) };
}

/// Who handled SIGILL before us.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

fn install() {
    // SAFETY: `sigaction` is plain data, for which zeros are valid; the handler has the signature that SA_SIGINFO asks for, and
    // touches nothing but its thread's tiles and what the interrupted instruction names.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGILL, std::ptr::null(), &mut before), 0, "SIGILL has a handler");
        assert!(BEFORE.set(before).is_ok(), "the emulator is installed once");
        let mut ours: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_illegal_instruction;
        ours.sa_sigaction = handler as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGILL, &ours, std::ptr::null_mut()), 0, "SIGILL can be handled");
    }
}

extern "C" fn on_illegal_instruction(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands the interrupted thread's registers to a handler with SA_SIGINFO. The instruction pointer points
    // at readable code, of which `decode` reads no byte behind the instruction. Memory operands are what the interrupted code
    // itself would have accessed. Nobody else holds this thread's tiles: a handler is not interrupted by its own signal.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        let Some((instruction, length)) = decode(&|i| at.add(i).read()) else {
            return pass_on(signal, info, context);
        };
        let next = at.add(length) as u64;
        let done = TILES.with(|tiles| {
            (*tiles.get()).execute(instruction, &|number| registers[REGISTERS[number] as usize] as u64, next)
        });
        match done {
            Ok(()) => registers[libc::REG_RIP as usize] = next as i64,
            Err(fault) => {
                eprintln!("{instruction:?} at {at:?}: a processor would refuse it: {fault:?}");
                pass_on(signal, info, context);
            }
        }
    }
}

/// Where the kernel keeps the sixteen registers, in the order of their numbers.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Gives the signal to whoever handled it before. Where that is the system, the instruction runs again and ends the process.
///
/// # Safety
/// The arguments must be those of a signal handler.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: a handler that was installed with these flags takes these arguments; the action to restore came from the system.
    unsafe {
        let before = BEFORE.get().expect("the handler was installed after this was written");
        if matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &default, std::ptr::null_mut());
        } else if before.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(before.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(libc::c_int) = std::mem::transmute(before.sa_sigaction);
            handler(signal);
        }
    }
}
