//! Where do large arrays live?

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Zeroed bytes, aligned to a cache line. Large ones are mapped on huge-page borders and take memory only once touched.
pub(crate) struct Arena {
    start: NonNull<u8>,
    bytes: usize,
    home: Home,
}

enum Home {
    Heap(Layout),
    #[cfg(target_os = "linux")]
    Mapping {
        start: *mut libc::c_void,
        bytes: usize,
    },
}

const CACHE_LINE_BYTES: usize = 64;
#[cfg(target_os = "linux")]
const HUGE_PAGE_BYTES: usize = 2 << 20;

// SAFETY: an arena owns its bytes as a Vec<u8> does; reading and writing them goes through & and &mut as usual.
unsafe impl Send for Arena {}
// SAFETY: as above; a shared arena gives out shared bytes only, or pointers whose users answer for their own writes.
unsafe impl Sync for Arena {}

impl Arena {
    pub fn zeroed(bytes: usize) -> Self {
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_PAGE_BYTES {
            return Self::mapped(bytes);
        }
        Self::on_heap(bytes)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
    pub fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }
    pub fn start_mut(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points at `bytes` initialised (zeroed) bytes that this arena owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` lets nobody else look.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    fn on_heap(bytes: usize) -> Self {
        let layout =
            Layout::from_size_align(bytes.max(1).next_multiple_of(CACHE_LINE_BYTES), CACHE_LINE_BYTES)
                .expect("an arena is smaller than the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, bytes, home: Home::Heap(layout) }
    }

    /// Maps one huge page more than asked, so that the arena can start on a huge-page border.
    #[cfg(target_os = "linux")]
    fn mapped(bytes: usize) -> Self {
        let mapped = bytes.next_multiple_of(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
        // SAFETY: a fresh anonymous private mapping at an address the kernel chooses touches nothing that exists.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            handle_alloc_error(
                Layout::from_size_align(bytes, CACHE_LINE_BYTES).expect("bytes fit the address space"),
            );
        }
        let start = mapping.cast::<u8>().map_addr(|address| address.next_multiple_of(HUGE_PAGE_BYTES));
        // SAFETY: the advised range lies inside the mapping made above. Advice may be refused; then pages are small.
        unsafe { libc::madvise(start.cast(), mapped - HUGE_PAGE_BYTES, libc::MADV_HUGEPAGE) };
        let start = NonNull::new(start).expect("a mapping does not start at zero");
        Self { start, bytes, home: Home::Mapping { start: mapping, bytes: mapped } }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        match self.home {
            // SAFETY: allocated in `on_heap` with this very layout, and freed only here.
            Home::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
            #[cfg(target_os = "linux")]
            // SAFETY: mapped in `mapped` with this very length, and unmapped only here.
            Home::Mapping { start, bytes } => unsafe {
                libc::munmap(start, bytes);
            },
        }
    }
}

/// A pointer that several threads may write through, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: whoever writes through it promises, at that place, that no other thread touches the same elements.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(start: *mut T) -> Self {
        Self(start)
    }
    pub fn get(self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_are_zero_and_aligned_at_every_size() {
        for bytes in [0, 1, 63, 4096, (2 << 20) - 1, 2 << 20, (5 << 20) + 3] {
            let arena = Arena::zeroed(bytes);
            assert_eq!(arena.as_slice().len(), bytes);
            assert!(arena.as_slice().iter().all(|byte| *byte == 0));
            assert_eq!(arena.start().addr() % CACHE_LINE_BYTES, 0);
        }
    }
}
