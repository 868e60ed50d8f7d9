// SPDX-License-Identifier: GPL-2.0-only

//! The MSI-X table of an open device, and when it can be reached: the steering tags of vectors that
//! nobody has allocated are written here, those of others through the PCI core, which has a copy of
//! the words.

use super::vfio_pci_device::OpenDevice;
use crate::rust::{
    bindings,
    nospec,
    pci::{
        self as bus,
        config::Config, //
    }, //
};
use kernel::prelude::*;

// CAST: a bit of 16.
const MEMORY: u16 = bindings::PCI_COMMAND_MEMORY as u16;
const ENTRY_SIZE: u32 = bindings::PCI_MSIX_ENTRY_SIZE;
const TAG_SHIFT: u32 = bindings::PCI_MSIX_ENTRY_CTRL_ST.trailing_zeros();

/// Where the MSI-X table is.
#[derive(Clone, Copy)]
pub(crate) struct MsixLocation {
    /// BAR number, which is also the region's index.
    pub(crate) bar: u32,
    /// Offset in the BAR, in bytes.
    pub(crate) offset: u32,
    /// Length in bytes.
    pub(crate) size: u32,
}

impl MsixLocation {
    /// The number of vectors, 1 to 2048.
    pub(crate) fn vectors(&self) -> u16 {
        // CAST: at most 2048.
        (self.size / ENTRY_SIZE) as u16
    }
}

/// The MSI-X table, mapped.
struct Mapping {
    location: MsixLocation,
    base: *mut c_void,
}

impl OpenDevice {
    /// Where the MSI-X table is, if there is one that can be used: all of it in a memory BAR that
    /// vfio-pci-core has reserved and mapped. What a device says of that need not be true.
    pub(crate) fn msix(&self) -> Option<MsixLocation> {
        self.msix_mapping().map(|mapping| mapping.location)
    }

    /// As [`Self::msix`], with the address of the table, all of which is mapped while the device is
    /// open.
    fn msix_mapping(&self) -> Option<Mapping> {
        let raw = self.as_raw();
        // SAFETY: The device is valid, by the type's invariant; the fields are set at open.
        let (bar, offset, size) =
            unsafe { ((*raw).msix_bar, (*raw).msix_offset, (*raw).msix_size) };
        let location = MsixLocation {
            bar: bar.into(),
            offset,
            size: size.into(),
        };

        // SAFETY: The device is valid, by the type's invariant; its resources do not change while a
        // driver is bound, and its mappings not while it is open.
        let (resources, barmap) = unsafe { (&(*bus::as_raw(self.pci())).resource, &(*raw).barmap) };
        // There is no such BAR if the device has no MSI-X, either. What is behind the BARs in
        // `resources` is the expansion ROM, and what belongs to virtual functions.
        let bar = usize::from(bar);
        if bar >= barmap.len() {
            return None;
        }
        let bar = nospec::index(bar, barmap.len());
        // What is mapped of other BARs is a port.
        // CAST: a flag of 32 bits.
        if resources[bar].flags & bindings::IORESOURCE_MEM as usize == 0
            || u64::from(offset) + u64::from(size) > self.pci().resource_len(location.bar).ok()?
        {
            return None;
        }
        // vfio-pci-core has null or an error pointer for a BAR that it could not reserve, or map.
        let base = kernel::error::from_err_ptr(barmap[bar]).ok()?;
        (!base.is_null()).then(|| Mapping {
            location,
            // CAST: widens. The table ends within the BAR.
            base: base.wrapping_byte_add(offset as usize),
        })
    }

    /// Whether the device decodes its memory BARs: it must be in D0 and no error under way, the
    /// user must have it so, and so must hardware.
    ///
    /// vfio-pci-core goes by what the user has written. A device that was reset in a power state
    /// in which it loses what it has comes back without Memory Space Enable, whatever the user
    /// sees.
    fn decodes_memory(&self) -> bool {
        self.user_decodes_memory()
            && bus::is_in_d0(self.pci())
            && bus::is_accessible(self.pci())
            && (self.always_decodes_memory() || self.has_memory_space())
    }

    /// Whether the device has no Memory Space Enable of its own: a virtual function.
    fn always_decodes_memory(&self) -> bool {
        // SAFETY: The device is valid, by the type's invariant; the bit is set when it is found,
        // and never changed.
        unsafe { bindings::pci_dev::no_command_memory_raw(bus::as_raw(self.pci())) != 0 }
    }

    /// Whether Memory Space Enable is set in hardware. Also `true` if the device does not answer:
    /// the access to its memory that comes next shows that.
    fn has_memory_space(&self) -> bool {
        Config::new(self.pci())
            .command()
            .is_none_or(|command| command & MEMORY != 0)
    }

    /// Clears Memory Space Enable.
    #[cold]
    #[inline(never)]
    fn switch_memory_off(&self) {
        if let Some(command) = Config::new(self.pci()).command() {
            Config::new(self.pci()).set_memory_space(command, false);
        }
    }
}

/// Who else uses the memory of a device, and so what may be done to it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Hold {
    /// Others may use it: whether it is decoded must not change.
    Shared,
    /// Nobody else uses it.
    Alone,
    /// The device may have been reset, or have failed, and may have lost its BARs. `memory_lock`
    /// may be held for reading alone, and by others too; but nobody relies on memory that the user
    /// or a reset has switched off.
    Reset,
}

/// Proof that nobody else changes whether a device decodes its memory BARs, or its interrupt
/// vectors. It cannot be kept beyond the lock that sees to it, nor used for another device.
///
/// # Invariants
///
/// For `'a` nobody else changes Memory Space Enable or the power state of the device, allocates or
/// frees interrupt vectors, or resets it unannounced; and, unless the hold is `Hold::Shared`,
/// nobody else relies on whether it decodes what its user or a reset has switched off.
pub(crate) struct Memory<'a> {
    vdev: &'a OpenDevice,
    hold: Hold,
}

impl<'a> Memory<'a> {
    /// # Safety
    ///
    /// For `'a` the caller keeps others away from the device, as the invariant has it.
    pub(super) unsafe fn new(vdev: &'a OpenDevice, hold: Hold) -> Self {
        // INVARIANT: By the safety requirement.
        Self { vdev, hold }
    }

    /// The MSI-X table, for as long as the device decodes it. Unless the hold is `Hold::Shared`,
    /// the device is made to decode it until the table is dropped, whatever the user has made of
    /// Memory Space Enable.
    ///
    /// `None` if there is none that can be used, if the device is in a power state in which it
    /// cannot decode it, if the PCI core recovers it from an error, if it does not answer, or if
    /// its BARs are not where the kernel has put them: a reset of the link takes them away, and
    /// nobody need have restored them.
    pub(crate) fn msix_table(&mut self) -> Option<MsixTable<'_>> {
        let vdev = self.vdev;
        let Mapping { location, base } = vdev.msix_mapping()?;
        let switched_on = match self.hold {
            Hold::Shared if vdev.decodes_memory() => false,
            Hold::Shared => return None,
            Hold::Alone | Hold::Reset => self.decode(location.bar)?,
        };
        // INVARIANT: The device is open, and has the table mapped; it decodes it, by the above, and
        // nobody changes that, by the invariant of `self`, which is borrowed.
        Some(MsixTable {
            vdev,
            base,
            vectors: location.vectors(),
            switched_on,
        })
    }

    /// Makes the device decode `bar`. Returns whether it did not before; `None` if it cannot.
    fn decode(&self, bar: u32) -> Option<bool> {
        let vdev = self.vdev;
        if !bus::is_in_d0(vdev.pci()) || !bus::is_accessible(vdev.pci()) {
            return None;
        }
        let command = Config::new(vdev.pci()).command()?;
        let switch_on = !vdev.always_decodes_memory() && command & MEMORY == 0;
        // Whoever has switched memory on has put the BARs in place before: the PCI core, and
        // vfio-pci-core for its user.
        if (switch_on || self.hold == Hold::Reset) && !bus::bar_is_in_place(vdev.pci(), bar) {
            return None;
        }
        if switch_on {
            Config::new(vdev.pci()).set_memory_space(command, true);
        }
        Some(switch_on)
    }
}

/// The MSI-X table of an open device that decodes it.
///
/// # Invariants
///
/// `base` is mapped for `vectors` entries for `'a`. Meanwhile the device decodes it, and nobody
/// else allocates or frees interrupt vectors.
pub(crate) struct MsixTable<'a> {
    vdev: &'a OpenDevice,
    base: *mut c_void,
    vectors: u16,
    /// Whether the device did not decode before.
    switched_on: bool,
}

impl MsixTable<'_> {
    fn vector_control(&self, vector: u16) -> Option<*mut c_void> {
        if vector >= self.vectors {
            return None;
        }
        let offset = u32::from(vector) * ENTRY_SIZE + bindings::PCI_MSIX_ENTRY_VECTOR_CTRL;
        // SAFETY: The vector is below `vectors`, for which `base` is mapped, by the type's
        // invariant. CAST: widens.
        Some(unsafe { self.base.byte_add(offset as usize) })
    }

    /// Zeroes the tag of a vector that is not allocated, if it has one.
    ///
    /// ENXIO if there is no such vector. EIO if the vector has a tag afterwards: also if nobody
    /// answers. Then the other vectors will not, either, and each access may take long.
    pub(crate) fn clear_tag(&mut self, vector: u16) -> Result {
        let at = self.vector_control(vector).ok_or(ENXIO)?;
        // SAFETY: `at` is within the mapped table, by the type's invariant.
        let control = answer(unsafe { bindings::readl(at) })?;
        if control >> TAG_SHIFT == 0 {
            return Ok(());
        }
        // The read waits for the write to arrive: memory decoding may be disabled next.
        // SAFETY: `at` is within the mapped table, by the type's invariant.
        let control = answer(unsafe {
            bindings::writel(control & !bindings::PCI_MSIX_ENTRY_CTRL_ST, at);
            bindings::readl(at)
        })?;
        if control >> TAG_SHIFT != 0 {
            return Err(EIO);
        }
        Ok(())
    }

    /// The tag of a vector. `None` if nobody answers, or if there is no such vector.
    pub(crate) fn tag(&self, vector: u16) -> Option<u16> {
        // SAFETY: `at` is within the mapped table, by the type's invariant.
        let control = answer(unsafe { bindings::readl(self.vector_control(vector)?) }).ok()?;
        // CAST: what is left has 16 bits.
        Some((control >> TAG_SHIFT) as u16)
    }

    /// Writes the tags of consecutive vectors through the PCI core, which keeps its copy of the
    /// vectors' control words in step. The requester is disabled; as far as the PCI core is
    /// concerned, TPH is off afterwards.
    ///
    /// ENXIO if a vector is not allocated, EOPNOTSUPP if it cannot be masked: those before it are
    /// written. EIO if the table does not hold what was written: also if nobody answers.
    pub(crate) fn write_tags(&mut self, first: u16, tags: &[u16]) -> Result {
        write_tags(self, first, tags)
    }

    /// Whether the user has the device decode it, and not only we for the moment.
    pub(crate) fn is_decoded_for_user(&self) -> bool {
        !self.switched_on
    }

    /// The interrupt vectors, which nobody frees meanwhile.
    pub(crate) fn stable_vectors(&self) -> StableVectors<'_> {
        // SAFETY: Nobody frees vectors as long as `self` exists, by the invariant.
        unsafe { StableVectors::new(self.vdev) }
    }
}

impl Drop for MsixTable<'_> {
    #[inline(never)]
    fn drop(&mut self) {
        if self.switched_on {
            self.vdev.switch_memory_off();
        }
    }
}

/// A Vector Control word. EIO for all ones, which is no answer: bits 15:1 are reserved, and 0.
fn answer(control: u32) -> Result<u32> {
    if control == u32::MAX {
        return Err(EIO);
    }
    Ok(control)
}

#[cfg(VFIO_TPH_MSIX_TAGS)]
fn write_tags(table: &mut MsixTable<'_>, first: u16, tags: &[u16]) -> Result {
    // SAFETY: The device decodes the table, by the invariant of `MsixTable`.
    unsafe { bus::tph::write_msix_tags(table.vdev.pci(), first, tags) }
}

/// As above, on a kernel whose PCI core does not look whether its writes arrive.
#[cfg(not(VFIO_TPH_MSIX_TAGS))]
fn write_tags(table: &mut MsixTable<'_>, first: u16, tags: &[u16]) -> Result {
    let write = |first, tags: &[u16]| -> Result {
        let (Some(last), Some(&tag)) = (tags.len().checked_sub(1), tags.last()) else {
            return Ok(());
        };
        // SAFETY: The device decodes the table, by the invariant of `MsixTable`.
        unsafe { bus::tph::write_msix_tags(table.vdev.pci(), first, tags)? };
        // CAST: at most 2048 vectors.
        let at = table.vector_control(first + last as u16).ok_or(ENXIO)?;
        // SAFETY: `at` is within the mapped table, by the type's invariant.
        let control = answer(unsafe { bindings::readl(at) })?;
        // CAST: what is left has 16 bits.
        if (control >> TAG_SHIFT) as u16 != tag {
            return Err(EIO);
        }
        Ok(())
    };
    // The first one alone: the accesses of all others are for nothing if nobody answers.
    let (one, others) = tags.split_at(tags.len().min(1));
    write(first, one)?;
    write(first.saturating_add(1), others)
}

/// Proof that nobody else frees interrupt vectors of a device.
///
/// # Invariants
///
/// For `'a` nobody else frees interrupt vectors of the device.
#[derive(Clone, Copy)]
pub(crate) struct StableVectors<'a>(&'a OpenDevice);

impl<'a> StableVectors<'a> {
    /// # Safety
    ///
    /// For `'a` nobody frees interrupt vectors of the device.
    pub(super) unsafe fn new(vdev: &'a OpenDevice) -> Self {
        // INVARIANT: By the safety requirement.
        Self(vdev)
    }

    /// The tag that the PCI core has for an allocated vector, and writes to the table with the
    /// vector's mask bit; 0 for one that is not allocated.
    #[cfg(VFIO_TPH_MSIX_TAG)]
    pub(crate) fn tag(&self, vector: u16) -> u16 {
        let mut tag = 0;
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and
        // `tag` is valid for a write.
        let ret = unsafe {
            bindings::pci_msix_get_tph_tag(bus::as_raw(self.0.pci()), vector.into(), &mut tag)
        };
        // It fails for a vector that is not allocated, and writes nothing then.
        if ret == 0 {
            tag
        } else {
            0
        }
    }

    /// As above, on a kernel that does not say.
    #[cfg(not(VFIO_TPH_MSIX_TAG))]
    pub(crate) fn tag(&self, vector: u16) -> u16 {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and
        // the vector is not freed meanwhile, by the type's invariant.
        unsafe { bindings::tph_helper_vector_tag(bus::as_raw(self.0.pci()), vector.into()) }
    }
}
