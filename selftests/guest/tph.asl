// SPDX-License-Identifier: GPL-2.0-only
/*
 * Firmware's side of TPH in the test VM: a _DSM below the host bridge PCI0 that
 * gives the steering tags of each CPU (PCI Firmware Specification, revision 7,
 * function 0Fh). selftests/run compiles it and hands it to QEMU; firmware.rs
 * says the same for the tests.
 *
 * A row of TPHT is the answer for the ACPI processor UID that is its index, in
 * the layout of union st_info in drivers/pci/tph.c:
 *
 *   byte 0   volatile memory: bit 0 ST valid, bit 1 XST valid, bit 2 PH ignored
 *   byte 1   ST
 *   byte 2-3 XST, little endian
 *   byte 4-7 the same for persistent memory
 *
 * A field that is not valid holds EEh: who ignores the valid bits shows up.
 * CPU n of the VM has UID 2n. The odd UIDs have no CPU and look as good as any:
 * who takes a CPU number for a UID gets the tags of another one.
 */
DefinitionBlock ("", "SSDT", 2, "VFIO", "TPH", 1)
{
	External (\_SB.PCI0, DeviceObj)

	Scope (\_SB.PCI0)
	{
		// Evaluations of function 0Fh, read by the module tph_kstate.
		Name (TPHN, 0)

		Name (TPHT, Package () {
			// CPU 0: everything
			Buffer () { 0x03, 0x10, 0x00, 0x11, 0x03, 0x50, 0x00, 0x55 },
			Buffer () { 0x03, 0x11, 0x01, 0x11, 0x03, 0x51, 0x01, 0x55 },
			// CPU 1: PH ignored for volatile memory
			Buffer () { 0x07, 0x12, 0x02, 0x11, 0x03, 0x52, 0x02, 0x55 },
			Buffer () { 0x03, 0x13, 0x03, 0x11, 0x03, 0x53, 0x03, 0x55 },
			// CPU 2: valid zeros; persistent memory: XST alone
			Buffer () { 0x03, 0x00, 0x00, 0x00, 0x02, 0xEE, 0x04, 0x55 },
			Buffer () { 0x03, 0x15, 0x05, 0x11, 0x03, 0x55, 0x05, 0x55 },
			// CPU 3: ST alone; persistent memory: nothing, PH ignored
			Buffer () { 0x01, 0x16, 0xEE, 0xEE, 0x04, 0xEE, 0xEE, 0xEE },
			Buffer () { 0x03, 0x17, 0x07, 0x11, 0x03, 0x57, 0x07, 0x55 },
			// CPU 4: nothing; persistent memory: everything
			Buffer () { 0x00, 0xEE, 0xEE, 0xEE, 0x03, 0x58, 0x08, 0x55 },
			Buffer () { 0x03, 0x19, 0x09, 0x11, 0x03, 0x59, 0x09, 0x55 },
			// CPU 5: XST alone; persistent memory: ST alone
			Buffer () { 0x02, 0xEE, 0x0A, 0x11, 0x01, 0x5A, 0xEE, 0xEE },
			Buffer () { 0x03, 0x1B, 0x0B, 0x11, 0x03, 0x5B, 0x0B, 0x55 },
			// CPU 6: firmware that is wrong: four bytes
			Buffer () { 0x03, 0x1C, 0x0C, 0x11 },
			Buffer () { 0x03, 0x1D, 0x0D, 0x11, 0x03, 0x5D, 0x0D, 0x55 },
			// CPU 7: firmware that is wrong: not a buffer
			0x1103,
			Buffer () { 0x03, 0x1F, 0x0F, 0x11, 0x03, 0x5F, 0x0F, 0x55 }
		})

		// Not serialized: ACPICA keeps a serialized method's mutex when it runs
		// out of memory, and the next evaluation waits for ever.
		Method (_DSM, 4, NotSerialized)
		{
			If (Arg0 != ToUUID ("e5c937d0-3553-4d7a-9117-ea4d19c3434d") ||
			    Arg1 != 7)
			{
				Return (Buffer () { 0x00 })
			}

			// Functions 0 and 0Fh
			If (Arg2 == 0)
			{
				Return (Buffer () { 0x01, 0x80 })
			}

			If (Arg2 != 0x0F)
			{
				Return (Buffer () { 0x00 })
			}

			TPHN++
			Local0 = DerefOf (Arg3 [1])
			// Only feature 0 and no properties; beyond the table nothing is valid.
			If (DerefOf (Arg3 [0]) != 0 || DerefOf (Arg3 [2]) != 0 ||
			    Local0 >= SizeOf (TPHT))
			{
				Return (Buffer (8) { })
			}

			Return (DerefOf (TPHT [Local0]))
		}
	}
}
