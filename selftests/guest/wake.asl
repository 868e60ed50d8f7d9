// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the firmware of a PC does around S3, which SeaBIOS leaves undone: some
 * registers of the chipset stay as they are after the reset that waking up is.
 * Without PCIEXBAR no device has extended config space, and with it no TPH
 * capability, and hotplug ports take theirs for gone; without PMBASE ACPI has
 * no events, and cannot switch the machine off.
 */
DefinitionBlock ("", "SSDT", 2, "VFIO", "WAKE", 1)
{
	External (\_SB.PCI0, DeviceObj)

	Scope (\_SB.PCI0)
	{
		// The host bridge
		Device (WAKH)
		{
			Name (_ADR, 0)
			OperationRegion (EXPC, PCI_Config, 0x60, 4)
			Field (EXPC, DWordAcc, NoLock, Preserve)
			{
				EXPB, 32	// PCIEXBAR
			}
		}

		// The bridge to LPC
		Device (WAKL)
		{
			Name (_ADR, 0x001F0000)
			OperationRegion (PMRC, PCI_Config, 0x40, 8)
			Field (PMRC, DWordAcc, NoLock, Preserve)
			{
				PMBS, 32,	// PMBASE
				ACCT, 32	// ACPI_CNTL
			}
		}
	}

	// What they hold as long as the machine is awake
	Name (EXPS, 0)
	Name (PMBS, 0)
	Name (ACCS, 0)

	Method (_PTS, 1, NotSerialized)
	{
		EXPS = \_SB.PCI0.WAKH.EXPB
		PMBS = \_SB.PCI0.WAKL.PMBS
		ACCS = \_SB.PCI0.WAKL.ACCT
	}

	Method (_WAK, 1, Serialized)
	{
		\_SB.PCI0.WAKH.EXPB = EXPS
		\_SB.PCI0.WAKL.PMBS = PMBS
		\_SB.PCI0.WAKL.ACCT = ACCS

		// Linux has set it already, when there was no such register.
		OperationRegion (PM1C, SystemIO, (PMBS & 0xFF80) + 4, 2)
		Field (PM1C, WordAcc, NoLock, Preserve)
		{
			SCIE, 1		// SCI_EN
		}
		SCIE = 1

		Return (Package () { 0, 0 })
	}
}
