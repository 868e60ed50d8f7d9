// SPDX-License-Identifier: GPL-2.0-only

//! Registers of the DMA engine.

use tph_protocol::registers::{self, command, last_hint, status};
use tph_protocol::{Lost, Tag, TlpHint};

const WORDS: usize = ((registers::ENGINE_END - registers::ENGINE) / 4) as usize;

/// What was asked of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Write these bytes.
    Write {
        /// Bus address.
        address: u64,
        /// What to write.
        data: Vec<u8>,
    },
    /// Read.
    Read {
        /// Bus address.
        address: u64,
        /// Bytes.
        length: u32,
    },
    /// Raise a vector.
    Interrupt(u16),
}

/// Where a request in Device Specific mode takes its tag from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsTag {
    /// An ST entry.
    Entry(u16),
    /// The register itself.
    Raw(u16),
}

/// The registers as 32-bit words.
#[derive(Default)]
pub struct Engine {
    words: [u32; WORDS],
}

impl Engine {
    /// All registers after reset.
    pub fn reset(&mut self) {
        *self = Engine::default();
    }

    fn word(&self, register: u64) -> u32 {
        if register == registers::IDENT {
            return registers::IDENT_VALUE;
        }
        self.words[((register - registers::ENGINE) / 4) as usize]
    }

    fn set(&mut self, register: u64, value: u32) {
        self.words[((register - registers::ENGINE) / 4) as usize] = value;
    }

    /// A byte as the bus reads it; offsets are those of the BAR.
    pub fn read(&self, offset: u64) -> u8 {
        let register = offset & !3;
        if matches!(register, registers::COMMAND | registers::RESET_ITSELF) {
            return 0;
        }
        self.word(register).to_le_bytes()[(offset & 3) as usize]
    }

    /// A byte as the bus writes it.
    pub fn write(&mut self, offset: u64, value: u8) {
        let register = offset & !3;
        if matches!(
            register,
            registers::IDENT | registers::STATUS | registers::LAST_HINT
        ) {
            return;
        }
        let mut bytes = self.word(register).to_le_bytes();
        bytes[(offset & 3) as usize] = value;
        self.set(register, u32::from_le_bytes(bytes));
    }

    /// Takes the command out of its register; `None` if there is nothing to do.
    pub fn take_command(&mut self) -> Option<Result<Job, u32>> {
        let command = self.word(registers::COMMAND);
        self.set(registers::COMMAND, 0);
        if command == 0 || self.busy() {
            return None;
        }
        Some(self.decode(command).ok_or(status::BAD_COMMAND))
    }

    /// Takes out of its register what is to be reset; `None` if nothing is.
    pub fn take_reset(&mut self) -> Option<Lost> {
        let value = self.word(registers::RESET_ITSELF);
        self.set(registers::RESET_ITSELF, 0);
        match value {
            registers::reset_itself::EVERYTHING => Some(Lost::Everything),
            registers::reset_itself::TPH => Some(Lost::Tph),
            _ => None,
        }
    }

    fn decode(&self, command: u32) -> Option<Job> {
        let pair = |lo, hi| u64::from(self.word(lo)) | (u64::from(self.word(hi)) << 32);
        let address = pair(registers::ADDRESS_LO, registers::ADDRESS_HI);
        let length = self.word(registers::LENGTH);
        match command {
            command::WRITE if (1..=registers::LENGTH_MAX).contains(&length) => {
                let value = pair(registers::VALUE_LO, registers::VALUE_HI).to_le_bytes();
                let data = value.into_iter().cycle().take(length as usize).collect();
                Some(Job::Write { address, data })
            }
            command::READ if (1..=8).contains(&length) => Some(Job::Read { address, length }),
            command::INTERRUPT => self.index().map(Job::Interrupt),
            _ => None,
        }
    }

    /// INDEX, if it can be one of an entry.
    pub fn index(&self) -> Option<u16> {
        self.word(registers::INDEX).try_into().ok()
    }

    /// PH that a request carries.
    pub fn ph(&self) -> u8 {
        (self.word(registers::HINT) & 3) as u8
    }

    /// Device-specific tag.
    pub fn ds_tag(&self) -> DsTag {
        let register = self.word(registers::DS_TAG);
        if register & registers::DS_RAW != 0 {
            DsTag::Raw(register as u16)
        } else {
            DsTag::Entry((register & 0x7ff) as u16)
        }
    }

    /// A command runs.
    pub fn busy(&self) -> bool {
        self.word(registers::STATUS) == status::BUSY
    }

    /// Ends a command, or begins one.
    pub fn set_status(&mut self, value: u32) {
        self.set(registers::STATUS, value);
    }

    /// What was read; the client may answer with less than was asked, or more.
    pub fn set_value(&mut self, data: &[u8]) {
        let mut value = [0; 8];
        for (to, from) in value.iter_mut().zip(data) {
            *to = *from;
        }
        let value = u64::from_le_bytes(value);
        self.set(registers::VALUE_LO, value as u32);
        self.set(registers::VALUE_HI, (value >> 32) as u32);
    }

    /// What the last request carried.
    pub fn set_last_hint(&mut self, hint: Option<TlpHint>) {
        let bits = hint.map_or(0, |hint| {
            let tag = match hint.tag {
                None => 0,
                Some(Tag::St(tag)) => last_hint::TAG_VALID | u32::from(tag),
                Some(Tag::Xst(tag)) => {
                    last_hint::TAG_VALID | last_hint::TAG_EXTENDED | u32::from(tag)
                }
            };
            last_hint::PRESENT | (u32::from(hint.ph) << last_hint::PH_SHIFT) | tag
        });
        self.set(registers::LAST_HINT, bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(engine: &mut Engine, register: u64, value: u32) {
        for (i, byte) in (0..).zip(value.to_le_bytes()) {
            engine.write(register + i, byte);
        }
    }

    #[test]
    fn write_repeats_the_value() {
        let mut engine = Engine::default();
        write(&mut engine, registers::ADDRESS_LO, 0x1000);
        write(&mut engine, registers::ADDRESS_HI, 1);
        write(&mut engine, registers::VALUE_LO, 0x0403_0201);
        write(&mut engine, registers::VALUE_HI, 0x0807_0605);
        write(&mut engine, registers::LENGTH, 10);
        assert_eq!(engine.take_command(), None);
        write(&mut engine, registers::COMMAND, command::WRITE);
        assert_eq!(
            engine.take_command(),
            Some(Ok(Job::Write {
                address: 0x1_0000_1000,
                data: vec![1, 2, 3, 4, 5, 6, 7, 8, 1, 2],
            }))
        );
        assert_eq!(engine.take_command(), None);
    }

    #[test]
    fn bad_commands() {
        let mut engine = Engine::default();
        for (length, number) in [
            (0, command::WRITE),
            (4097, command::WRITE),
            (0, command::READ),
            (9, command::READ),
            (4, 99),
        ] {
            write(&mut engine, registers::LENGTH, length);
            write(&mut engine, registers::COMMAND, number);
            assert_eq!(engine.take_command(), Some(Err(status::BAD_COMMAND)));
        }
        write(&mut engine, registers::INDEX, 0x1_0000);
        write(&mut engine, registers::COMMAND, command::INTERRUPT);
        assert_eq!(engine.take_command(), Some(Err(status::BAD_COMMAND)));
    }

    #[test]
    fn reset_register() {
        use registers::{reset_itself, RESET_ITSELF};

        let mut engine = Engine::default();
        for (value, expected) in [
            (reset_itself::EVERYTHING, Some(Lost::Everything)),
            (reset_itself::TPH, Some(Lost::Tph)),
            (3, None),
        ] {
            write(&mut engine, RESET_ITSELF, value);
            assert_eq!(engine.read(RESET_ITSELF), 0);
            assert_eq!(engine.take_reset(), expected);
            assert_eq!(engine.take_reset(), None);
        }
    }

    #[test]
    fn read_only_registers() {
        let mut engine = Engine::default();
        for register in [registers::IDENT, registers::STATUS, registers::LAST_HINT] {
            let before = engine.read(register);
            engine.write(register, 0x5a);
            assert_eq!(engine.read(register), before);
        }
    }
}
