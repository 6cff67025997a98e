//! The eBPF program that chooses the least loaded slot, and the maps it works with.
//!
//! It runs in the kernel whenever a listener is looked up: for each SYN, for an ACK that belongs to nothing, and with
//! SYN cookies for the handshake's ACK again. It needs `CAP_BPF` to be loaded (Linux 5.8; before, `CAP_SYS_ADMIN`).
//! No compiler is involved: it is assembled here.
//!
//! ```text
//! counts   (program, supervisor, workers)   see `counts`
//! gates    (program, supervisor)            per slot: 1 if closed
//! members  (program), one per address       per slot: its listener
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use forkherd_core::SlotId;

use self::assembler::{Arithmetic, Assembler, Label, Register, When};
use crate::counts::{Count, Counts, LINE};
use crate::sys::{self, Instruction, Words};

mod assembler;

/// Where in the counts a word is that nobody writes, in bytes: beside `turn`.
const ZERO: i16 = 8;
/// `bpf_sk_select_reuseport`.
const SELECT: i32 = 82;
/// `SK_PASS`; with no socket selected the kernel hashes.
const PASS: i32 = 1;

/// A program in force on every address's group, and the memory it looks at.
#[derive(Debug)]
pub(crate) struct Least {
    /// Inherited by workers.
    pub(crate) map: OwnedFd,
    pub(crate) counts: Counts,
    gates: Words,
}

impl Least {
    /// Loads a program for each group and attaches it. All slots are closed; while they all are, the
    /// kernel hashes.
    ///
    /// Supervisor · once. `groups`: for each address its listeners, in slot order; two at least.
    ///
    /// # Errors
    /// `EPERM` without the right; other errors of `bpf(2)` where the kernel is too old.
    pub(crate) fn attach<F: AsFd>(groups: &[Vec<F>], idle: Idle) -> io::Result<Self> {
        let slots = groups.iter().map(Vec::len).max().unwrap_or(0);
        let slots = u32::try_from(slots).map_err(io::Error::other)?;
        let places = Counts::places(slots);
        let map = Counts::create(slots)?;
        let counts = Counts::map(&map, slots)?;
        let gates_map = sys::create_words("forkherd_gates", places)?;
        let gates = Words::map(&gates_map, places as usize)?;
        for gate in gates.iter() {
            // Those beyond the last slot remain closed for ever.
            gate.store(1, Ordering::Relaxed);
        }
        for group in groups {
            let members = sys::create_socket_array("forkherd_group", places)?;
            for (slot, member) in (0..).zip(group) {
                sys::put_socket(&members, slot, member)?;
            }
            let program = program(places, idle, &map, &gates_map, &members);
            let program = sys::load("forkherd_least", &program)?;
            if let Some(member) = group.first() {
                sys::attach(member, &program)?;
            }
        }
        Ok(Self { map, counts, gates })
    }

    /// Lets a slot be chosen, or not.
    pub(crate) fn open(&self, slot: SlotId, open: bool) {
        if let Some(gate) = self.gates.get(slot.index()) {
            gate.store(u64::from(!open), Ordering::Relaxed);
        }
    }
}

/// Who gets a connection when several have nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Idle {
    /// The next in turn: even.
    InTurn,
    /// The first: a few workers are busy often, and their caches stay warm.
    First,
}

/// Chooses the open slot with the least load, the next in turn among equals, and counts.
///
/// ```text
/// with Idle::First, for step in 0..places:
///     best = step, if it is open and waiting + serving ≤ 0: select
/// best = none; least = 2³¹ − 1
/// for step in 0..places:
///     slot = (turn + step) mod places
///     load = waiting[slot] + serving[slot]
///     if closed[slot] or load ≥ least: next
///     best = slot; least = load
///     if least ≤ 0: leave              nothing is less than nothing to do
/// if none: pass, and the kernel hashes
/// turn = best + 1                      so equals take turns, whatever lies between them
/// select:
/// waiting[best] += 1
/// select best; if that fails: waiting[best] −= 1
/// ```
///
/// Two processors that choose at the same moment may choose the same slot, and one `turn` is lost; both
/// are counted.
fn program(
    places: u32,
    idle: Idle,
    counts: &OwnedFd,
    gates: &OwnedFd,
    members: &OwnedFd,
) -> Vec<Instruction> {
    let [value, turn, slot, address, least] = [0, 1, 3, 4, 5].map(Register);
    let [context, loads, closed, best] = [6, 7, 8, 9].map(Register);
    let stack = Register(10);
    // At most 256 slots and their lines: it all fits.
    let places = i32::try_from(places).unwrap_or(i32::MAX);
    let line_shift = i32::try_from((LINE * 8).trailing_zeros()).unwrap_or(0);
    // From a slot's number, in lines, to its counts, in bytes: behind the line of `turn`.
    let at = |count: Count| i16::try_from(LINE * 8).unwrap_or(0) + 8 * count as i16;
    // `slot` and the load of it in `value`; closed: on to `next`.
    let look = |a: &mut Assembler, start: Register, step: i32, next: Label| {
        a.calculate(slot, Arithmetic::Move, start);
        a.calculate(slot, Arithmetic::Add, step);
        a.calculate(slot, Arithmetic::And, places - 1);
        a.calculate(address, Arithmetic::Move, slot);
        a.calculate(address, Arithmetic::ShiftLeft, 3);
        a.calculate(address, Arithmetic::Add, closed);
        a.load(value, address, 0);
        a.jump_if(value, When::NotEqual, 0, next);
        a.calculate(address, Arithmetic::Move, slot);
        a.calculate(address, Arithmetic::ShiftLeft, line_shift);
        a.calculate(address, Arithmetic::Add, loads);
        a.load(value, address, at(Count::Waiting));
        a.load(address, address, at(Count::Serving));
        a.calculate(value, Arithmetic::Add, address);
    };

    let mut a = Assembler::default();
    let [choose, select, pass] = [(); 3].map(|()| a.label());
    a.calculate(context, Arithmetic::Move, Register(1));
    a.value_of(loads, counts);
    a.value_of(closed, gates);
    // Both loops are unrolled: where a processor may guess a loop's end wrongly the verifier follows it
    // for ever, and refuses loops to whoever has not CAP_PERFMON. And both begin at a number that it
    // cannot know, if only because it does not know of a word that is always 0: with one that it knows it
    // would follow every way through as a different one (0.8 s for 128 slots).
    if idle == Idle::First {
        let zero = turn;
        a.load(zero, loads, ZERO);
        for step in 0..places {
            let next = a.label();
            look(&mut a, zero, step, next);
            a.jump_if(value, When::AtLeast, 1, next);
            a.calculate(best, Arithmetic::Move, slot);
            a.jump_if(value, When::AtMost, 0, select);
            a.place(next);
        }
    }
    a.load(turn, loads, 0);
    a.calculate(best, Arithmetic::Move, 0);
    a.calculate(least, Arithmetic::Move, i32::MAX);
    for step in 0..places {
        let next = a.label();
        look(&mut a, turn, step, next);
        // By their difference, of which the verifier knows nothing: a comparison would tell it a little
        // more about `least` each time, and no two ways to the next step would be the same.
        a.calculate(address, Arithmetic::Move, value);
        a.calculate(address, Arithmetic::Subtract, least);
        a.jump_if(address, When::AtLeast, 0, next);
        a.calculate(least, Arithmetic::Move, value);
        a.calculate(best, Arithmetic::Move, slot);
        a.jump_if(least, When::AtMost, 0, choose);
        a.place(next);
    }
    a.jump_if(least, When::Equal, i32::MAX, pass);

    a.place(choose);
    a.calculate(slot, Arithmetic::Move, best);
    a.calculate(slot, Arithmetic::Add, 1);
    a.store(loads, 0, slot);
    a.place(select);
    // Bounded before already; the verifier has forgotten.
    a.calculate(best, Arithmetic::And, places - 1);
    a.store_half(stack, -4, best);
    a.calculate(best, Arithmetic::ShiftLeft, line_shift);
    a.calculate(loads, Arithmetic::Add, best);
    a.calculate(value, Arithmetic::Move, 1);
    a.atomic_add(loads, at(Count::Waiting), value);
    a.calculate(Register(1), Arithmetic::Move, context);
    a.map(Register(2), members);
    a.calculate(Register(3), Arithmetic::Move, stack);
    a.calculate(Register(3), Arithmetic::Add, -4);
    a.calculate(Register(4), Arithmetic::Move, 0);
    a.call(SELECT);
    a.jump_if(value, When::Equal, 0, pass);
    a.calculate(turn, Arithmetic::Move, -1);
    a.atomic_add(loads, at(Count::Waiting), turn);

    a.place(pass);
    a.calculate(value, Arithmetic::Move, PASS);
    a.exit();
    a.finish()
}

#[cfg(test)]
mod tests;
