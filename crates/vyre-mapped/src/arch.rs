//! The instructions of the copy, and the registers by which the handler recognizes and ends it.
//!
//! `copy` keeps these rules, on which the argument in `sys` rests:
//! - every access to the source lies between the two labels;
//! - between the labels, `start` and `end`, the bounds of the mapping, stay in the registers in which they were passed, and `len`
//!   holds the number of bytes that are still to be copied;
//! - at the second label, that number is the first result;
//! - the stack pointer and the return address stay where they were at the call, as the CFI says. So a
//!   handler or a profiler that interrupts the copy can unwind through it.
#![expect(
    unsafe_code,
    reason = "two functions in assembly, and access to the registers of a signal's context"
)]

use std::ffi::c_void;

/// Two results in two registers: for a copy the number of bytes left, for the labels their addresses.
#[repr(C)]
pub(crate) struct Pair(usize, usize);

impl From<Pair> for (usize, usize) {
    fn from(pair: Pair) -> Self {
        (pair.0, pair.1)
    }
}

pub(crate) use imp::copy;

/// `true` if the copy exists for this architecture. Miri runs no assembly, and counts as another one.
pub(crate) const AVAILABLE: bool = cfg!(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
));

/// The number of bytes of a line of the processor's cache.
const LINE: usize = 64;

/// Loads the lines of `len` bytes into the processor's cache. Never faults: a processor ignores a hint for an
/// address that it cannot load.
#[inline]
pub(crate) fn prefetch(mut address: *const u8, mut len: usize) {
    // Four at a time: a hint for many lines should cost little more than one instruction for each.
    while len >= 4 * LINE {
        prefetch_four_lines(address);
        address = address.wrapping_add(4 * LINE);
        len -= 4 * LINE;
    }
    while len > 0 {
        prefetch_line(address);
        address = address.wrapping_add(LINE);
        len = len.saturating_sub(LINE);
    }
}

#[inline]
fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction changes neither memory nor registers, and never faults.
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction changes neither memory nor registers, and never faults.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

#[inline]
fn prefetch_four_lines(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `prefetch_line`.
    unsafe {
        std::arch::asm!(
            "prefetcht0 [{0}]",
            "prefetcht0 [{0} + 64]",
            "prefetcht0 [{0} + 128]",
            "prefetcht0 [{0} + 192]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as in `prefetch_line`.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{0}]",
            "prfm pldl1keep, [{0}, #64]",
            "prfm pldl1keep, [{0}, #128]",
            "prfm pldl1keep, [{0}, #192]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Ends the copy if it was interrupted by a fault at this address. Returns whether it was.
///
/// # Safety
/// `context` is the context of a signal that is being handled on this thread.
pub(crate) unsafe fn interrupted(context: *mut c_void, address: usize) -> bool {
    let null = std::ptr::null_mut();
    // SAFETY: without a destination the function accesses no memory and returns its labels.
    let (first, last) = unsafe { copy(null, null, 0, 0, 0) }.into();
    // SAFETY: the caller vouches for the context.
    let (counter, start, end) = unsafe { imp::registers(context) };
    let is_copy = (first..last).contains(&counter) && (start..end).contains(&address);
    if is_copy {
        // SAFETY: the caller vouches for the context. From the second label on, the function returns
        // the number of bytes left.
        unsafe { imp::set_counter(context, last) };
    }
    is_copy
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod imp {
    use std::arch::naked_asm;
    use std::ffi::c_void;

    use libc::{REG_R8, REG_RDX, REG_RIP, ucontext_t};

    use super::Pair;

    /// Copies `len` bytes. Returns the number of bytes that were not copied. If the destination is
    /// null, returns the labels instead.
    ///
    /// # Safety
    /// The destination is null, or valid for writes of `len` bytes. `start..end` is a mapping, in which
    /// `source` and `len` name a range.
    #[unsafe(naked)]
    pub(crate) unsafe extern "sysv64" fn copy(
        destination: *mut u8, // rdi
        source: *const u8,    // rsi
        start: usize,         // rdx
        len: usize,           // rcx
        end: usize,           // r8
    ) -> Pair {
        naked_asm!(
            ".cfi_startproc",
            "test rdi, rdi",
            "jz 4f",
            // Interrupted, the instruction leaves in rcx what is left, as its definition says. It copies
            // upwards: the calling convention has the direction flag clear.
            "2:",
            "rep movsb",
            "3:",
            "mov rax, rcx",
            "ret",
            "4:",
            "lea rax, [rip + 2b]",
            "lea rdx, [rip + 3b]",
            "ret",
            ".cfi_endproc",
        )
    }

    /// Returns the program counter and the bounds of the mapping.
    ///
    /// # Safety
    /// `context` is the context of a signal that is being handled on this thread.
    pub(super) unsafe fn registers(context: *mut c_void) -> (usize, usize, usize) {
        // SAFETY: the caller vouches for the context.
        let registers = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext.gregs };
        let of = |number: i32| registers[number as usize] as usize;
        (of(REG_RIP), of(REG_RDX), of(REG_R8))
    }

    /// Sets the program counter.
    ///
    /// # Safety
    /// `context` is as for `registers`, and the code at `counter` may run with the other registers
    /// unchanged.
    pub(super) unsafe fn set_counter(context: *mut c_void, counter: usize) {
        // SAFETY: the caller vouches for the context.
        let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
        registers[REG_RIP as usize] = counter as i64;
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod imp {
    use std::arch::naked_asm;
    use std::ffi::c_void;

    use libc::ucontext_t;

    use super::Pair;

    /// Copies `len` bytes. Returns the number of bytes that were not copied. If the destination is
    /// null, returns the labels instead.
    ///
    /// # Safety
    /// The destination is null, or valid for writes of `len` bytes. `start..end` is a mapping, in which
    /// `source` and `len` name a range.
    #[unsafe(naked)]
    pub(crate) unsafe extern "C" fn copy(
        destination: *mut u8, // x0
        source: *const u8,    // x1
        start: usize,         // x2
        len: usize,           // x3
        end: usize,           // x4
    ) -> Pair {
        naked_asm!(
            ".cfi_startproc",
            "cbz x0, 9f",
            // A fault leaves x3 as it was before the block, word or byte that could not be loaded.
            "2:",
            "cmp x3, #64",
            "b.lo 3f",
            "ldp q0, q1, [x1]",
            "ldp q2, q3, [x1, #32]",
            "stp q0, q1, [x0]",
            "stp q2, q3, [x0, #32]",
            "add x1, x1, #64",
            "add x0, x0, #64",
            "sub x3, x3, #64",
            "b 2b",
            "3:",
            "cmp x3, #8",
            "b.lo 4f",
            "ldr x5, [x1]",
            "str x5, [x0]",
            "add x1, x1, #8",
            "add x0, x0, #8",
            "sub x3, x3, #8",
            "b 3b",
            "4:",
            "cbz x3, 5f",
            "ldrb w5, [x1]",
            "strb w5, [x0]",
            "add x1, x1, #1",
            "add x0, x0, #1",
            "sub x3, x3, #1",
            "b 4b",
            "5:",
            "mov x0, x3",
            "ret",
            "9:",
            "adr x0, 2b",
            "adr x1, 5b",
            "ret",
            ".cfi_endproc",
        )
    }

    /// Returns the program counter and the bounds of the mapping.
    ///
    /// # Safety
    /// `context` is the context of a signal that is being handled on this thread.
    pub(super) unsafe fn registers(context: *mut c_void) -> (usize, usize, usize) {
        // SAFETY: the caller vouches for the context.
        let machine = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext };
        (
            machine.pc as usize,
            machine.regs[2] as usize,
            machine.regs[4] as usize,
        )
    }

    /// Sets the program counter.
    ///
    /// # Safety
    /// `context` is as for `registers`, and the code at `counter` may run with the other registers
    /// unchanged.
    pub(super) unsafe fn set_counter(context: *mut c_void, counter: usize) {
        // SAFETY: the caller vouches for the context.
        let machine = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext };
        machine.pc = counter as u64;
    }
}

/// On other architectures nothing is copied: a copy needs a [`Recovery`](crate::Recovery), and none
/// exists.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod imp {
    use std::ffi::c_void;

    use super::Pair;

    /// Copies nothing.
    ///
    /// # Safety
    /// None is needed.
    pub(crate) unsafe extern "C" fn copy(
        _destination: *mut u8,
        _source: *const u8,
        _start: usize,
        len: usize,
        _end: usize,
    ) -> Pair {
        Pair(len, 0)
    }

    /// Returns values that no fault of a copy has.
    ///
    /// # Safety
    /// None is needed.
    pub(super) unsafe fn registers(_context: *mut c_void) -> (usize, usize, usize) {
        (0, 0, 0)
    }

    /// Changes nothing.
    ///
    /// # Safety
    /// None is needed.
    pub(super) unsafe fn set_counter(_context: *mut c_void, _counter: usize) {}
}

#[cfg(all(test, not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use std::mem::zeroed;

    use libc::ucontext_t;

    use super::*;

    /// Returns a context of a copy from a mapping at 0x1000..0x3000, interrupted at `counter`.
    fn context(counter: usize) -> ucontext_t {
        // SAFETY: the struct consists of integers and pointers, for which zeros are valid.
        let mut context: ucontext_t = unsafe { zeroed() };
        #[cfg(target_arch = "x86_64")]
        {
            context.uc_mcontext.gregs[libc::REG_RDX as usize] = 0x1000;
            context.uc_mcontext.gregs[libc::REG_R8 as usize] = 0x3000;
        }
        #[cfg(target_arch = "aarch64")]
        {
            context.uc_mcontext.regs[2] = 0x1000;
            context.uc_mcontext.regs[4] = 0x3000;
        }
        // SAFETY: the context is valid, and is never returned to.
        unsafe { imp::set_counter((&raw mut context).cast(), counter) };
        context
    }

    #[test]
    fn only_the_instructions_and_the_mapping_of_the_copy_are_its_own() {
        let null = std::ptr::null_mut();
        // SAFETY: without a destination the function returns its labels.
        let (first, last): (usize, usize) = unsafe { copy(null, null, 0, 0, 0) }.into();
        assert!((copy as *const () as usize) < first && first < last);
        for (counter, address, ours) in [
            (first, 0x1000, true),
            (last - 1, 0x2fff, true),
            (first - 1, 0x1000, false),
            (last, 0x1000, false),
            (first, 0xfff, false),
            (first, 0x3000, false),
        ] {
            let mut context = context(counter);
            let pointer: *mut c_void = (&raw mut context).cast();
            // SAFETY: the context is valid, and is never returned to.
            let found = unsafe { interrupted(pointer, address) };
            assert_eq!(found, ours, "{counter:#x} {address:#x}");
            // SAFETY: as above.
            let (now, ..) = unsafe { imp::registers(pointer) };
            assert_eq!(now, if ours { last } else { counter });
        }
    }
}
