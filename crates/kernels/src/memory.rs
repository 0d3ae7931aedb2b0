//! Where do large arrays live?

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Gives what was freed back to the system. glibc keeps what a crowd needed for the next crowd, in every arena and for ever; where
/// another allocator is linked, this does nothing.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it gives away pages on which nothing is allocated, and changes nothing else.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of what was read of the program's own file so far: code and constants, most of which only its start needs. They stay in
/// the system's cache, where the next use of a page finds it; but they are this process' no more, and can be had by others.
/// To be called once: what a debugger has written into the code goes, too.
pub fn let_start_go() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    // SAFETY: the function is called with what the loader knows of each object, for as long as the call takes.
    unsafe {
        libc::dl_iterate_phdr(Some(let_object_go), std::ptr::null_mut());
    }
}

/// Returns 1, which ends the walk: the first object is the program.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
unsafe extern "C" fn let_object_go(
    object: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader's own table of segments, and the size of a page.
    let (base, segments, page) = unsafe {
        let object = &*object;
        let segments = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
        (object.dlpi_addr, segments, libc::sysconf(libc::_SC_PAGESIZE) as u64)
    };
    // What was never writable is as it is in the file. The pages of a segment are its own.
    for segment in segments.iter().filter(|it| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0) {
        let (start, end) = (base + segment.p_vaddr, base + segment.p_vaddr + segment.p_memsz);
        let start = start / page * page;
        // SAFETY: pages that only mirror the file are read from it again when they are next touched.
        unsafe {
            libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED);
        }
    }
    1
}

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
    pub fn start_mut(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points at `bytes` initialised (zeroed) bytes that this arena owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above; whoever has the arena mutably has its bytes.
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

/// A whole file, mapped for reading and shared by everything that lies in it. Its pages are the system's: they come when they
/// are touched, and a second process that maps the same file takes no second copy.
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    #[cfg(not(target_os = "linux"))]
    _read: Arena,
}

// SAFETY: a mapping is read-only for as long as it lives, so any thread may read it, and any may unmap it as the last.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file that nobody changes while it is mapped: whoever replaces it writes a new one and renames it. Of a file that is cut
    /// short meanwhile, Linux takes the pages away, and reading them ends the process.
    #[cfg(target_os = "linux")]
    pub fn open(file: &File) -> io::Result<Arc<Self>> {
        use std::os::fd::AsRawFd;

        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a fresh read-only mapping at an address the kernel chooses touches nothing that exists; length zero is refused.
        let start = unsafe {
            let anywhere = std::ptr::null_mut();
            libc::mmap(anywhere, bytes, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Packed weights are read from end to end. Advice may be refused; then pages are small, and come one by one.
        // SAFETY: the advised range is the mapping made above.
        unsafe {
            libc::madvise(start, bytes, libc::MADV_WILLNEED);
            libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
        }
        let start = NonNull::new(start.cast()).expect("a mapping does not start at zero");
        Ok(Arc::new(Self { start, bytes }))
    }

    /// Reads the file: there is no mapping on this system.
    #[cfg(not(target_os = "linux"))]
    pub fn open(mut file: &File) -> io::Result<Arc<Self>> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut read = Arena::zeroed(bytes);
        io::Read::read_exact(&mut file, read.as_mut_slice())?;
        Ok(Arc::new(Self { start: read.start, bytes, _read: read }))
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping holds this many readable bytes, and nobody changes the file, as `open` asks.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `open` with this very length, and unmapped only here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The bytes of one matrix: its own memory, or a part of a mapped file.
pub struct Storage(Place);

enum Place {
    Owned(Arena),
    Mapped { mapping: Arc<Mapping>, offset: usize, bytes: usize },
}

/// Why bytes cannot be the storage of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// Storage starts on a cache line.
    Misaligned { offset: usize },
    /// The part ends behind the file.
    PastTheEnd { offset: usize, bytes: usize, file_bytes: usize },
    /// A matrix of this shape takes another number of bytes; `None` is more than can be addressed.
    WrongLength { expected_bytes: Option<usize>, bytes: usize },
}

impl Storage {
    /// Returns zeroed memory of its own, to be filled.
    pub fn zeroed(bytes: usize) -> Self {
        Self(Place::Owned(Arena::zeroed(bytes)))
    }

    /// Returns a part of a mapped file; `offset` is a multiple of 64.
    pub fn mapped(mapping: Arc<Mapping>, offset: usize, bytes: usize) -> Result<Self, StorageError> {
        if !offset.is_multiple_of(CACHE_LINE_BYTES) {
            return Err(StorageError::Misaligned { offset });
        }
        if offset.checked_add(bytes).is_none_or(|end| end > mapping.bytes) {
            return Err(StorageError::PastTheEnd { offset, bytes, file_bytes: mapping.bytes });
        }
        Ok(Self(Place::Mapped { mapping, offset, bytes }))
    }

    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Place::Owned(arena) => arena.as_slice(),
            Place::Mapped { mapping, offset, bytes } => &mapping.as_slice()[*offset..][..*bytes],
        }
    }

    /// The bytes to be filled; `None` where they are a part of a file.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        match &mut self.0 {
            Place::Owned(arena) => Some(arena.as_mut_slice()),
            Place::Mapped { .. } => None,
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned { offset } => {
                write!(f, "a matrix cannot start at byte {offset}: it is no multiple of {CACHE_LINE_BYTES}")
            }
            Self::PastTheEnd { offset, bytes, file_bytes } => {
                write!(
                    f,
                    "a matrix of {bytes} bytes at byte {offset} ends behind a file of {file_bytes} bytes"
                )
            }
            Self::WrongLength { expected_bytes: Some(expected), bytes } => {
                write!(f, "a matrix of this shape takes {expected} bytes, not {bytes}")
            }
            Self::WrongLength { expected_bytes: None, .. } => {
                write!(f, "a matrix of this shape takes more bytes than there are addresses")
            }
        }
    }
}

impl std::error::Error for StorageError {}

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
            assert_eq!(arena.as_slice().as_ptr().addr() % CACHE_LINE_BYTES, 0);
        }
    }

    #[test]
    fn parts_of_a_file_are_read_where_they_lie_and_refused_where_there_is_none() {
        let path = std::env::temp_dir().join(format!("kernels-mapping-{}", std::process::id()));
        let content: Vec<u8> = (0..1000_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let mapping = Mapping::open(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let part = |offset, bytes| Storage::mapped(Arc::clone(&mapping), offset, bytes);
        assert_eq!(part(128, 500).unwrap().as_slice(), &content[128..628]);
        assert_eq!(part(0, 1000).unwrap().as_slice(), content);
        assert!(part(0, 1000).unwrap().as_mut_slice().is_none());
        let error = |offset, bytes| part(offset, bytes).err();
        assert_eq!(error(32, 1), Some(StorageError::Misaligned { offset: 32 }));
        let past = |offset, bytes| Some(StorageError::PastTheEnd { offset, bytes, file_bytes: 1000 });
        assert_eq!(error(64, 937), past(64, 937));
        assert_eq!(error(1024, 0), past(1024, 0));
        assert_eq!(error(64, usize::MAX), past(64, usize::MAX));
    }
}
