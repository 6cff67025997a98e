//! Pages of atomic words that two processes map.
#![expect(unsafe_code, reason = "a mapping is memory that the compiler cannot know about")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{Resource, getrlimit};

const PAGE: usize = 4096;
/// Words in a page.
pub(crate) const WORDS: usize = PAGE / size_of::<AtomicU64>();

/// A page of words that this process may write.
pub(crate) struct SharedPage(MmapRaw);

/// A page of words that this process may only read.
pub(crate) struct ReadOnlyPage(MmapRaw);

impl SharedPage {
    /// A new page of zeros that only this process may write: every later mapping is read-only.
    pub(crate) fn create_own(name: &str) -> io::Result<(Self, OwnedFd)> {
        let fd = sized_memfd(name)?;
        let page = Self::map(&fd)?;
        // A forked worker shall not find the pages of its siblings in its memory.
        page.0.advise(Advice::DontFork)?;
        // From here on nobody can map it writable, whoever holds the descriptor; ours stays as it is.
        fcntl_add_seals(
            &fd,
            SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL,
        )?;
        Ok((page, fd))
    }

    /// Maps a page that another process made for us to write.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        refuse_short(&fd)?;
        Ok(Self(MmapOptions::new().len(PAGE).map_raw(&fd.as_fd())?))
    }
}

impl Deref for SharedPage {
    type Target = [AtomicU64; WORDS];

    fn deref(&self) -> &Self::Target {
        // SAFETY: the mapping is `PAGE` bytes, page-aligned, readable and writable, and lives as long as
        // `self`. Every bit pattern is a valid `AtomicU64`, and memory that other processes change at
        // any time may only be seen through atomics: this is all that is ever made of it.
        unsafe { &*self.0.as_ptr().cast() }
    }
}

impl ReadOnlyPage {
    /// A new page of zeros for another process to write. Its size is sealed, so that no writer can take
    /// the memory away under the reader (which would be a SIGBUS).
    pub(crate) fn create_for_writer(name: &str) -> io::Result<(Self, OwnedFd)> {
        let fd = sized_memfd(name)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let page = Self::map(&fd)?;
        page.0.advise(Advice::DontFork)?;
        Ok((page, fd))
    }

    /// Maps a page that another process writes.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        refuse_short(&fd)?;
        Ok(Self(MmapOptions::new().len(PAGE).map_raw_read_only(&fd.as_fd())?))
    }

    /// One word, sequentially consistent. There is no way to store: that would be a SIGSEGV.
    pub(crate) fn load(&self, word: usize) -> u64 {
        // SAFETY: as for `SharedPage`, but the mapping is read-only: only loads are made through it, and
        // a 64-bit atomic load is a plain load on every 64-bit target.
        let words: &[AtomicU64; WORDS] = unsafe { &*self.0.as_ptr().cast() };
        words[word].load(Ordering::SeqCst)
    }
}

fn sized_memfd(name: &str) -> io::Result<OwnedFd> {
    refuse_file_size(getrlimit(Resource::Fsize).current)?;
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, PAGE as u64)?;
    Ok(fd)
}

/// Beyond the limit ftruncate(2) ends the process by SIGXFSZ, without a word.
fn refuse_file_size(limit: Option<u64>) -> io::Result<()> {
    match limit.filter(|&limit| limit < PAGE as u64) {
        Some(limit) => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "a page shared with a worker has {PAGE} bytes, and files may have {limit}: raise the limit \
                 (ulimit -f, LimitFSIZE)"
            ),
        )),
        None => Ok(()),
    }
}

fn refuse_short(fd: impl AsFd) -> io::Result<()> {
    let size = rustix::fs::fstat(fd)?.st_size;
    if usize::try_from(size).is_ok_and(|size| size >= PAGE) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a shared page has {size} bytes instead of {PAGE}"),
    ))
}
