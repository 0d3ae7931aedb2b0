//! Which instructions may this process use?

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The code paths, each a superset of the one before it. Every path gives right answers; later ones give them sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust on arrays of sixteen, for any processor.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 and the bf16 and int8 tiles of AMX, where the operating system permits them.
    Amx,
}

impl Isa {
    /// Returns the best path of this machine; asks the processor and the operating system once.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        match *DETECTED.get_or_init(probe) {
            Self::Avx512 if TILES_ASSUMED.load(Ordering::Relaxed) => Self::Amx,
            detected => detected,
        }
    }

    /// For tests that emulate tiles: from now on, a machine with AVX-512 counts as one with AMX.
    ///
    /// # Safety
    /// Every thread of this process must be able to run the instructions of AMX tiles, however it is done.
    #[doc(hidden)]
    pub unsafe fn assume_tiles() {
        TILES_ASSUMED.store(true, Ordering::Relaxed);
    }

    /// All paths that this machine can take, the plainest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx].into_iter().filter(|isa| *isa <= Self::detect())
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }
}

impl Isa {
    /// Whether tiles may be emulated: their times say nothing about a processor.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn tiles_are_assumed() -> bool {
        TILES_ASSUMED.load(Ordering::Relaxed)
    }
}

/// Set by tests only; see `Isa::assume_tiles`.
static TILES_ASSUMED: AtomicBool = AtomicBool::new(false);

/// One line for people who start the program: the processor, the path taken, and the cores this process may use.
pub fn describe() -> String {
    let brand = brand();
    let cores = crate::pool::available_threads();
    let plural = if cores == 1 { "" } else { "s" };
    let path = match Isa::detect() {
        Isa::Portable => "plain code (no vector instructions known here)",
        Isa::Avx2 => "AVX2",
        Isa::Avx512 if tiles_in_silicon() => "AVX-512 (AMX is there, but the operating system refuses it)",
        Isa::Avx512 => "AVX-512",
        Isa::Amx => "AVX-512 and AMX",
    };
    format!("{brand}, {cores} core{plural}, {path}")
}

#[cfg(not(target_arch = "x86_64"))]
fn probe() -> Isa {
    Isa::Portable
}

#[cfg(not(target_arch = "x86_64"))]
fn tiles_in_silicon() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> String {
    std::env::consts::ARCH.to_owned()
}

#[cfg(target_arch = "x86_64")]
fn probe() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (false, _) => Isa::Portable,
        (true, false) => Isa::Avx2,
        (true, true) if tiles_in_silicon() && tiles_granted() => Isa::Amx,
        (true, true) => Isa::Avx512,
    }
}

/// CPUID leaf 7 EDX bits 22 (bf16), 24 (tiles) and 25 (int8); XCR0 bits 17 and 18 say that the kernel saves tile state.
#[cfg(target_arch = "x86_64")]
fn tiles_in_silicon() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    fn enabled_state() -> u64 {
        // SAFETY: XGETBV of register 0 exists wherever the operating system enabled XSAVE, which the caller checked.
        unsafe { _xgetbv(0) }
    }

    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = (1 << 22) | (1 << 24) | (1 << 25);
    const TILE_STATE: u64 = 0b11 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE is set, so the processor has XSAVE and the operating system enabled it.
    __cpuid_count(7, 0).edx & TILES == TILES && unsafe { enabled_state() } & TILE_STATE == TILE_STATE
}

/// Asks Linux for tile state. The grant holds for the whole process and all its threads, present and to come.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_TILE_DATA: libc::c_ulong = 18;
    // SAFETY: this call of arch_prctl takes two integers and touches no memory of ours; kernels without it return an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn tiles_granted() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn brand() -> String {
    use std::arch::x86_64::__cpuid;
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return "x86-64".to_owned();
    }
    let bytes: Vec<u8> = (0x8000_0002..=0x8000_0004u32)
        .map(__cpuid)
        .flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx])
        .flat_map(u32::to_le_bytes)
        .collect();
    let name = String::from_utf8_lossy(&bytes);
    name.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_can_take_the_plain_path_and_all_up_to_its_best() {
        let paths: Vec<Isa> = Isa::available().collect();
        assert_eq!(paths.first(), Some(&Isa::Portable));
        assert_eq!(paths.last(), Some(&Isa::detect()));
        assert!(paths.is_sorted());
    }

    #[test]
    fn the_description_is_one_line_that_counts_the_cores() {
        let line = describe();
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(&format!("{} core", crate::pool::available_threads())), "{line}");
    }
}
