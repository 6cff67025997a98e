//! The crate's only unsafe code: `bpf(2)`, the mapping of a BPF array, and the socket option that attaches
//! a program.
#![expect(unsafe_code, reason = "no crate wraps these calls without a tool chain of its own")]

use std::ffi::c_int;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::libc;

/// Commands of `bpf(2)` (linux/bpf.h).
mod command {
    use nix::libc::c_long;

    pub(super) const MAP_CREATE: c_long = 0;
    pub(super) const MAP_UPDATE: c_long = 2;
    pub(super) const PROGRAM_LOAD: c_long = 5;
}

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_REUSEPORT_SOCKARRAY: u32 = 20;
/// User space may map the array (Linux 5.5).
const MAPPABLE: u32 = 1 << 10;
const PROGRAM_TYPE_SK_REUSEPORT: u32 = 21;
const ATTACH_REUSEPORT_EBPF: c_int = 52;
/// What the verifier may say of a program it refuses.
const LOG_BYTES: usize = 1 << 20;
const PAGE: usize = 4096;

/// `union bpf_attr` as `BPF_MAP_CREATE` reads it; the kernel takes a shorter one as zeros to the end.
#[repr(C)]
#[derive(Default)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// `union bpf_attr` as `BPF_MAP_UPDATE_ELEM` reads it: key and value are addresses.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_PROG_LOAD` reads it, up to the last field we set.
#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// One instruction of a program: `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Instruction {
    /// What to do.
    pub(crate) code: u8,
    /// Source register in the upper four bits, destination in the lower.
    pub(crate) registers: u8,
    /// Distance of a jump, or offset of a memory access.
    pub(crate) offset: i16,
    /// A constant.
    pub(crate) immediate: i32,
}

/// Runs a command that makes a descriptor.
///
/// # Safety
/// As [`bpf`], and `command` is one that returns a new descriptor.
unsafe fn bpf_descriptor<A>(command: libc::c_long, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise about addresses is the one that is asked for.
    let fd = unsafe { bpf(command, attributes) }?;
    #[expect(clippy::disallowed_methods, reason = "the raw number comes from the kernel just now")]
    // SAFETY: the kernel just made this descriptor (close-on-exec) for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// Every address in `attributes` points to memory that is live for the call and as large as the command
/// reads, or writes, there.
unsafe fn bpf<A>(command: libc::c_long, attributes: &A) -> io::Result<c_int> {
    // SAFETY: the kernel reads `size_of::<A>()` bytes at the address of `attributes`, a live reference to
    // exactly so many; what it does with addresses in there the caller answers for.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Descriptors and zero fit.
    Ok(c_int::try_from(result).unwrap_or(0))
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    // One zero at the end remains.
    for (to, from) in name[..15].iter_mut().zip(text.bytes()) {
        *to = from;
    }
    name
}

fn create_map(attributes: &MapAttributes) -> io::Result<OwnedFd> {
    // SAFETY: `MapAttributes` holds no address, and a new map is a descriptor.
    unsafe { bpf_descriptor(command::MAP_CREATE, attributes) }
}

/// Creates an array of one value, so many words of zeros, that programs address directly and that
/// processes may map: [`Words::map`].
///
/// Supervisor. Corresponds to `bpf(2)` with `BPF_MAP_CREATE` (`BPF_F_MMAPABLE`: Linux 5.5).
///
/// # Errors
/// `EPERM` without `CAP_BPF`, and before Linux 5.11 beyond `RLIMIT_MEMLOCK`; `EINVAL` before 5.5.
pub(crate) fn create_words(label: &str, words: u32) -> io::Result<OwnedFd> {
    let bytes = words.checked_mul(8).ok_or(io::ErrorKind::InvalidInput)?;
    create_map(&MapAttributes {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: bytes,
        max_entries: 1,
        flags: MAPPABLE,
        name: name(label),
        ..MapAttributes::default()
    })
}

/// Creates an array of listening sockets that a program chooses from.
///
/// Supervisor. Corresponds to `bpf(2)` with `BPF_MAP_CREATE` (`REUSEPORT_SOCKARRAY`: Linux 4.19).
///
/// # Errors
/// As [`create_words`].
pub(crate) fn create_socket_array(label: &str, sockets: u32) -> io::Result<OwnedFd> {
    create_map(&MapAttributes {
        map_type: MAP_TYPE_REUSEPORT_SOCKARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: sockets,
        name: name(label),
        ..MapAttributes::default()
    })
}

/// Puts a listening socket of a reuseport group into an array of sockets. It leaves by itself when it is
/// closed.
///
/// # Errors
/// `EBUSY` if it is in such an array already, `EINVAL` if it is in no group.
pub(crate) fn put_socket(array: &OwnedFd, index: u32, socket: impl AsFd) -> io::Result<()> {
    // A descriptor is never negative.
    let value = u64::try_from(socket.as_fd().as_raw_fd()).unwrap_or(u64::MAX);
    let attributes = ElementAttributes {
        map: u32::try_from(array.as_raw_fd()).unwrap_or(u32::MAX),
        padding: 0,
        key: (&raw const index).addr() as u64,
        value: (&raw const value).addr() as u64,
        flags: 0,
    };
    // SAFETY: the array was created with keys of 4 and values of 8 bytes; `index` and `value` are locals
    // of these sizes that outlive the call.
    unsafe { bpf(command::MAP_UPDATE, &attributes) }.map(drop)
}

/// Verifies a program and loads it.
///
/// Supervisor. Corresponds to `bpf(2)` with `BPF_PROG_LOAD` and type `SK_REUSEPORT` (Linux 4.19).
///
/// # Errors
/// That of `bpf(2)`, untouched: `EPERM` without `CAP_BPF`. Of a program that the verifier refuses: `Unsupported`
/// without a number, and the end of what it said, which is asked for only then, because a log that does not fit
/// would fail a good program, too.
pub(crate) fn load(label: &str, program: &[Instruction]) -> io::Result<OwnedFd> {
    let refused = match try_load(label, program, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Err(error),
        Err(error) => error,
    };
    let mut log = vec![0; LOG_BYTES];
    if let Ok(fd) = try_load(label, program, &mut log) {
        return Ok(fd);
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&log[..end]);
    // Every instruction has a line; why it was refused stands in the last.
    let mut last: Vec<&str> = said.lines().rev().filter(|line| !line.is_empty()).take(3).collect();
    last.reverse();
    if last.is_empty() {
        // It was refused before anybody verified it.
        return Err(refused);
    }
    let said = last.join("; ");
    let text = format!("{refused}; the verifier said: {said}");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

fn try_load(label: &str, program: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let attributes = ProgramAttributes {
        program_type: PROGRAM_TYPE_SK_REUSEPORT,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        // Without a log there may be no address either.
        log: if log.is_empty() { 0 } else { log.as_mut_ptr().addr() as u64 },
        kernel_version: 0,
        flags: 0,
        name: name(label),
    };
    // SAFETY: the kernel reads `instruction_count` instructions, a string with its zero, and writes at
    // most `log_size` bytes of `log`: a slice, a literal and a slice that outlive the call. A loaded
    // program is a descriptor.
    unsafe { bpf_descriptor(command::PROGRAM_LOAD, &attributes) }
}

/// Makes `program` that of the whole group that `member` is in; it replaces the one before. The group
/// keeps it, so the descriptor may be closed.
///
/// Corresponds to `setsockopt(2)` with `SO_ATTACH_REUSEPORT_EBPF` (Linux 4.5).
///
/// # Errors
/// `EINVAL` if the socket is in no group.
pub(crate) fn attach(member: impl AsFd, program: &OwnedFd) -> io::Result<()> {
    let number: c_int = program.as_raw_fd();
    // 4.
    let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    // SAFETY: the option's value is a `c_int`; the kernel reads `length` bytes at the address of one.
    let result = unsafe {
        libc::setsockopt(
            member.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            ATTACH_REUSEPORT_EBPF,
            (&raw const number).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The words of an array of [`create_words`], shared with the programs and with whoever else maps them.
///
/// Dropping it unmaps; the array lives as long as a descriptor, a mapping or a program holds it.
pub(crate) struct Words {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: `start` is memory of this process alone to unmap, and all that is ever made of it are shared
// references to atomics.
unsafe impl Send for Words {}
// SAFETY: as for `Send`.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the first so many words.
    ///
    /// # Errors
    /// That of `mmap(2)`: `EINVAL` if the array is smaller.
    pub(crate) fn map(array: impl AsFd, words: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address the kernel chooses touches no memory that is in use. An
        // array never shrinks, so no access will fail.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::bytes(words),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                array.as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapped = Self { start, words };
        // A forked worker has what it is given, and not what the supervisor writes.
        // SAFETY: exactly what was just mapped; the advice changes nothing in this process.
        let advised = unsafe { libc::madvise(address, Self::bytes(words), libc::MADV_DONTFORK) };
        if advised == 0 { Ok(mapped) } else { Err(io::Error::last_os_error()) }
    }

    fn bytes(words: usize) -> usize {
        (words * size_of::<AtomicU64>()).next_multiple_of(PAGE)
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has at least so many words, is page-aligned, readable and writable, and
        // lives as long as `self`. Every bit pattern is a valid `AtomicU64`; what programs and other
        // processes change at any time is only seen through atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, which nobody else unmaps; references into it borrow `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), Self::bytes(self.words)) };
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Words").field("words", &self.words).finish_non_exhaustive()
    }
}
