// SPDX-License-Identifier: GPL-2.0-only

//! Configuration space as bytes with their write semantics.

use super::layout::SIZE;

/// 4 KiB of configuration space. A bit is read-only unless it is said to be otherwise.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    /// Bits that take what is written.
    writable: Vec<u8>,
    /// Bits that become 0 when 1 is written.
    write_one_clears: Vec<u8>,
    /// What reset brings back.
    defaults: Vec<u8>,
}

impl ConfigSpace {
    /// All zeros, all read-only.
    pub fn new() -> Self {
        let zeros = vec![0; usize::from(SIZE)];
        ConfigSpace {
            bytes: zeros.clone(),
            writable: zeros.clone(),
            write_one_clears: zeros.clone(),
            defaults: zeros,
        }
    }

    /// Gives a register of two bytes its reset value and its writable bits.
    pub fn define_u16(&mut self, offset: u16, value: u16, writable: u16) {
        self.define(offset, &value.to_le_bytes(), &writable.to_le_bytes());
    }

    /// Gives a register of four bytes its reset value and its writable bits.
    pub fn define_u32(&mut self, offset: u16, value: u32, writable: u32) {
        self.define(offset, &value.to_le_bytes(), &writable.to_le_bytes());
    }

    /// Makes bits of a register of four bytes write-one-to-clear.
    pub fn define_clear_u32(&mut self, offset: u16, bits: u32) {
        let at = usize::from(offset);
        self.write_one_clears[at..at + 4].copy_from_slice(&bits.to_le_bytes());
    }

    fn define(&mut self, offset: u16, value: &[u8], writable: &[u8]) {
        let range = usize::from(offset)..usize::from(offset) + value.len();
        self.bytes[range.clone()].copy_from_slice(value);
        self.defaults[range.clone()].copy_from_slice(value);
        self.writable[range].copy_from_slice(writable);
    }

    /// Forgets everything from there to the end.
    pub fn truncate(&mut self, offset: u16) {
        for part in [
            &mut self.bytes,
            &mut self.writable,
            &mut self.write_one_clears,
            &mut self.defaults,
        ] {
            part[usize::from(offset)..].fill(0);
        }
    }

    /// One byte; 0 beyond the end.
    pub fn u8(&self, offset: u16) -> u8 {
        self.bytes.get(usize::from(offset)).copied().unwrap_or(0)
    }

    /// Two bytes, little endian.
    pub fn u16(&self, offset: u16) -> u16 {
        u16::from_le_bytes([self.u8(offset), self.u8(offset + 1)])
    }

    /// Four bytes, little endian.
    pub fn u32(&self, offset: u16) -> u32 {
        u32::from(self.u16(offset)) | (u32::from(self.u16(offset + 2)) << 16)
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a byte would be after a write of `value`.
    pub fn after_write(&self, offset: u16, value: u8) -> u8 {
        let at = usize::from(offset);
        let writable = self.writable[at];
        ((self.bytes[at] & !writable) | (value & writable)) & !(value & self.write_one_clears[at])
    }

    /// A write as the bus does it.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (at, &value) in (offset..SIZE).zip(data) {
            self.bytes[usize::from(at)] = self.after_write(at, value);
        }
    }

    /// A write that knows no read-only bits.
    pub fn poke(&mut self, offset: u16, data: &[u8]) {
        for (at, &value) in (offset..SIZE).zip(data) {
            self.bytes[usize::from(at)] = value;
        }
    }

    /// A write that knows no read-only bits and that a reset does not undo.
    pub fn redefine(&mut self, offset: u16, data: &[u8]) {
        self.poke(offset, data);
        for (at, &value) in (offset..SIZE).zip(data) {
            self.defaults[usize::from(at)] = value;
        }
    }

    /// Reset values everywhere but in what is sticky.
    pub fn reset(&mut self, sticky: std::ops::Range<u16>) {
        for at in (0..SIZE).filter(|at| !sticky.contains(at)) {
            self.bytes[usize::from(at)] = self.defaults[usize::from(at)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_semantics() {
        let mut space = ConfigSpace::new();
        space.define_u32(0x10, 0x1234_5678, 0x0000_ffff);
        space.define_clear_u32(0x10, 0x00ff_0000);
        space.write(0x10, &[0xff; 4]);
        assert_eq!(space.u32(0x10), 0x1200_ffff);
        space.write(0x12, &[0]);
        assert_eq!(space.u32(0x10), 0x1200_ffff);
        space.poke(0x13, &[0xab]);
        assert_eq!(space.u32(0x10), 0xab00_ffff);
        space.reset(0..0);
        assert_eq!(space.u32(0x10), 0x1234_5678);
        space.redefine(0x12, &[0xcd]);
        assert_eq!(space.u32(0x10), 0x12cd_5678);
        space.write(0x10, &[0; 4]);
        space.reset(0..0);
        assert_eq!(space.u32(0x10), 0x12cd_5678);
    }

    #[test]
    fn end_of_space() {
        let mut space = ConfigSpace::new();
        space.define_u32(SIZE - 4, 0, !0);
        space.write(SIZE - 2, &[1, 2, 3, 4]);
        assert_eq!(space.u32(SIZE - 4), 0x0201_0000);
        assert_eq!(space.u8(SIZE), 0);
    }

    #[test]
    fn sticky_survives() {
        let mut space = ConfigSpace::new();
        space.define_u32(0x100, 0, !0);
        space.define_u32(0x104, 0, !0);
        space.write(0x100, &[1; 8]);
        space.reset(0x104..0x108);
        assert_eq!((space.u32(0x100), space.u32(0x104)), (0, 0x0101_0101));
    }
}
