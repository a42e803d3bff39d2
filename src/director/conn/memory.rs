//! The table's memory: zeroed, page-aligned, touched only as it is used or shortly before; and prefetch.
//!
//! The one file of the director with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

/// Types for which all-zero bytes are a valid value.
///
/// # Safety
/// The implementor must consist only of integers and atomics, and need no `Drop`.
#[allow(unsafe_code)]
pub(super) unsafe trait Zeroed: Sync {}

// SAFETY: a slot is made of atomic integers only.
unsafe impl Zeroed for super::slot::Slot {}
// SAFETY: a bucket is made of atomic integers only.
unsafe impl Zeroed for super::index::Bucket {}

/// A fixed array in anonymous pages of its own. Pages that were never written take no memory.
#[derive(Debug)]
pub(super) struct Pages<T> {
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: `Pages` owns its memory like a `Box<[T]>`, and hands out only `&[T]`.
unsafe impl<T: Zeroed> Send for Pages<T> where T: Send {}
// SAFETY: only shared references are handed out, and `T` is `Sync`.
unsafe impl<T: Zeroed> Sync for Pages<T> {}

impl<T: Zeroed> Pages<T> {
    /// Reserves `len` zeroed elements. `huge` asks for huge pages: fewer misses of address translation, but two
    /// megabytes taken at the first touch of any byte of them. Without it they are refused, even where the
    /// kernel gives them unasked.
    ///
    /// # Errors
    /// The kernel's, when the address space or the overcommit limit is exhausted.
    pub(super) fn zeroed(len: usize, huge: bool) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&b| b > 0).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new anonymous mapping; no existing memory is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: the range was just mapped; the advice changes how it is backed, not what it holds.
        let _unsupported_is_fine = unsafe { libc::madvise(start, bytes, advice) };
        let start = NonNull::new(start.cast::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len, owns: PhantomData })
    }

    /// Lets the kernel give and clear the pages of these elements now, whatever is in them. Others may use them meanwhile.
    ///
    /// # Errors
    /// The kernel's: EINVAL before Linux 5.14, or there is no memory.
    pub(super) fn touch(&self, elements: Range<usize>) -> io::Result<()> {
        let start = std::ptr::from_ref(self.get(elements.start).ok_or(io::ErrorKind::InvalidInput)?);
        let bytes = self.get(elements).map_or(0, size_of_val);
        // What is advised on begins with a page; the mapping does too, so this stays inside.
        let before = start.addr() % page_len();
        let page = start.wrapping_byte_sub(before).cast_mut().cast();
        // SAFETY: the pages of elements of this mapping; populating them changes nothing that can be read there.
        match unsafe { libc::madvise(page, before + bytes, libc::MADV_POPULATE_WRITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Bytes that are in memory.
    #[cfg(test)]
    pub(super) fn resident_bytes(&self) -> usize {
        let mut pages = vec![0_u8; (self.len * size_of::<T>()).div_ceil(page_len())];
        // SAFETY: the mapping, and a byte for each of its pages.
        let status = unsafe {
            libc::mincore(self.start.as_ptr().cast(), self.len * size_of::<T>(), pages.as_mut_ptr())
        };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|page| **page & 1 == 1).count() * page_len()
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `start` maps `len` elements for as long as `self` lives (a page's alignment suffices for
        // any `T` here), and zeroed bytes are valid values of a `Zeroed` type.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `zeroed` mapped, and no reference to it outlives `self`.
        let _cannot_fail = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

/// Bytes of a page.
fn page_len() -> usize {
    // SAFETY: it only tells a number, and knows this one everywhere.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(len).unwrap_or(4096)
}

/// Asks for the first `LINES` cache lines of `value` without waiting for them.
#[inline]
pub(super) fn prefetch<const LINES: usize, T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..LINES {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = std::ptr::from_ref(value).cast::<i8>().wrapping_add(line * 64);
        // SAFETY: a prefetch is a hint and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
