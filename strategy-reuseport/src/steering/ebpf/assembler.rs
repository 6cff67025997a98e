//! A small assembler: instructions by what they do, jumps by label.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::sys::Instruction;

/// A register. 0 is what a call returns, 1 to 5 are what it takes and destroys, 6 to 9 survive it, 10 is
/// the end of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Register(pub(super) u8);

/// What a second operand is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Register(Register),
    Constant(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Self {
        Self::Constant(constant)
    }
}

/// Arithmetic on 64 bits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    Add = 0x07,
    Subtract = 0x17,
    ShiftLeft = 0x67,
    And = 0x57,
    Move = 0xb7,
}

/// When to jump; numbers are signed.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Equal = 0x15,
    NotEqual = 0x55,
    AtLeast = 0x75,
    AtMost = 0xd5,
}

/// A place to jump to, before or after the jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

const LOAD_WORD: u8 = 0x79;
const STORE_HALF_WORD: u8 = 0x63;
const STORE_WORD: u8 = 0x7b;
const ATOMIC_ADD: u8 = 0xdb;
const LOAD_CONSTANT: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The second operand is a register.
const BY_REGISTER: u8 = 0x08;
/// A constant of 64 bits is: the map of this descriptor.
const MAP: u8 = 1;
/// It is: the address of that map's first value.
const MAP_VALUE: u8 = 2;

#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is, once it is placed.
    labels: Vec<Option<usize>>,
    /// Jumps to be told how far.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, immediate: i32) {
        let registers = from.0 << 4 | to.0;
        self.code.push(Instruction { code, registers, offset, immediate });
    }

    /// An operation of either form.
    fn operate(&mut self, code: u8, to: Register, operand: Operand) {
        match operand {
            Operand::Register(from) => self.push(code | BY_REGISTER, to, from, 0, 0),
            Operand::Constant(constant) => self.push(code, to, Register(0), 0, constant),
        }
    }

    pub(super) fn calculate(
        &mut self,
        to: Register,
        arithmetic: Arithmetic,
        operand: impl Into<Operand>,
    ) {
        self.operate(arithmetic as u8, to, operand.into());
    }

    /// The address of the value of an array with one.
    pub(super) fn value_of(&mut self, to: Register, array: &OwnedFd) {
        self.constant_of(to, MAP_VALUE, array);
    }

    pub(super) fn map(&mut self, to: Register, map: &OwnedFd) {
        self.constant_of(to, MAP, map);
    }

    /// Takes two places.
    fn constant_of(&mut self, to: Register, kind: u8, map: &OwnedFd) {
        self.push(LOAD_CONSTANT, to, Register(kind), 0, map.as_raw_fd());
        self.push(0, Register(0), Register(0), 0, 0);
    }

    /// Reads the 64 bits at `base + offset`.
    pub(super) fn load(&mut self, to: Register, base: Register, offset: i16) {
        self.push(LOAD_WORD, to, base, offset, 0);
    }

    /// Writes 64 bits to `base + offset`.
    pub(super) fn store(&mut self, base: Register, offset: i16, from: Register) {
        self.push(STORE_WORD, base, from, offset, 0);
    }

    /// Writes 32 bits to `base + offset`.
    pub(super) fn store_half(&mut self, base: Register, offset: i16, from: Register) {
        self.push(STORE_HALF_WORD, base, from, offset, 0);
    }

    /// Adds to the 64 bits at `base + offset`, in one step for all processors.
    pub(super) fn atomic_add(&mut self, base: Register, offset: i16, from: Register) {
        self.push(ATOMIC_ADD, base, from, offset, 0);
    }

    pub(super) fn call(&mut self, function: i32) {
        self.push(CALL, Register(0), Register(0), 0, function);
    }

    pub(super) fn exit(&mut self) {
        self.push(EXIT, Register(0), Register(0), 0, 0);
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    pub(super) fn jump_if(
        &mut self,
        value: Register,
        when: When,
        operand: impl Into<Operand>,
        label: Label,
    ) {
        self.jumps.push((self.code.len(), label));
        self.operate(when as u8, value, operand.into());
    }

    /// The program, every jump as far as its label is.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            // An unplaced label would be a mistake in a program that is written here: it jumps to the
            // end, which the verifier refuses.
            let target = self.labels[label.0].unwrap_or(self.code.len());
            let distance = target as i64 - at as i64 - 1;
            self.code[at].offset = i16::try_from(distance).unwrap_or(i16::MAX);
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_reach_their_labels_forwards_and_backwards() {
        let mut assembler = Assembler::default();
        let (top, end) = (assembler.label(), assembler.label());
        let counter = Register(3);
        assembler.calculate(counter, Arithmetic::Move, 0);
        assembler.place(top);
        assembler.calculate(counter, Arithmetic::Add, 1);
        assembler.jump_if(counter, When::AtLeast, 5, end);
        assembler.jump_if(counter, When::Equal, counter, top);
        assembler.place(end);
        assembler.exit();
        let offsets: Vec<_> = assembler.finish().iter().map(|i| (i.code, i.offset)).collect();
        assert_eq!(offsets, [(0xb7, 0), (0x07, 0), (0x75, 1), (0x1d, -3), (0x95, 0)]);
    }

    #[test]
    fn registers_and_constants_are_where_the_kernel_looks() {
        let mut assembler = Assembler::default();
        assembler.calculate(Register(6), Arithmetic::Move, Register(1));
        assembler.load(Register(2), Register(7), 8);
        assembler.store_half(Register(10), -4, Register(9));
        let code = assembler.finish();
        let of = |code, registers, offset| Instruction { code, registers, offset, immediate: 0 };
        assert_eq!(code, [of(0xbf, 0x16, 0), of(0x79, 0x72, 8), of(0x63, 0x9a, -4)]);
    }
}
