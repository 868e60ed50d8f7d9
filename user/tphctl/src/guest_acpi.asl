// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * What 'tphctl guest-acpi' makes without iasl (guest_acpi.rs), for people to read. A
 * test compiles this and compares: it defines VCPUS, and BRIDGE where there is a
 * second host bridge.
 *
 * A guest's kernel asks function 0Fh of its host bridge's _DSM for the steering tags
 * of a CPU (PCI Firmware Specification, 4.6.15). For ACPI processor UID u these are
 * u + 1, which the host takes for "wherever vCPU u runs". The answer:
 *
 *   byte 0   volatile memory: bit 0 ST valid, bit 1 extended ST valid
 *   byte 1   ST
 *   byte 2-3 extended ST
 *   byte 4-7 the same for persistent memory: nothing is valid
 */
DefinitionBlock ("", "SSDT", 2, "VFIO", "TPHGUEST", 1)
{
	External (\_SB.PCI0, DeviceObj)
#ifdef BRIDGE
	External (\_SB.PC04, DeviceObj)
#endif

	Scope (\_SB)
	{
		Method (TPHD, 4, NotSerialized)
		{
			If (Arg0 != ToUUID ("e5c937d0-3553-4d7a-9117-ea4d19c3434d"))
			{
				Return (Buffer () { 0x00 })
			}

			If (Arg1 != 7)
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

			Local1 = Buffer () { 0, 0, 0, 0, 0, 0, 0, 0 }
			// Feature 0, and no properties.
			If (DerefOf (Arg3 [0]) != 0)
			{
				Return (Local1)
			}

			If (DerefOf (Arg3 [2]) != 0)
			{
				Return (Local1)
			}

			Local0 = DerefOf (Arg3 [1])
			If (Local0 >= VCPUS)
			{
				Return (Local1)
			}

			Local0 = Local0 + 1
			Local1 [0] = 0x03
			Local1 [1] = Local0
			Local1 [2] = Local0
			Return (Local1)
		}
	}

	Scope (\_SB.PCI0)
	{
		Method (_DSM, 4, NotSerialized)
		{
			Return (TPHD (Arg0, Arg1, Arg2, Arg3))
		}
	}

#ifdef BRIDGE
	Scope (\_SB.PC04)
	{
		Method (_DSM, 4, NotSerialized)
		{
			Return (TPHD (Arg0, Arg1, Arg2, Arg3))
		}
	}
#endif
}
