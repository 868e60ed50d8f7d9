// SPDX-License-Identifier: GPL-2.0-only
/*
 * Firmware for the benchmark: like tph.asl, with a good answer for every CPU
 * that there can be. CPU n has UID 2n; its tags are n + 1.
 */
DefinitionBlock ("", "SSDT", 2, "VFIO", "TPHBENCH", 1)
{
	External (\_SB.PCI0, DeviceObj)

	Scope (\_SB.PCI0)
	{
		// Evaluations of function 0Fh, read by the module tph_kstate.
		Name (TPHN, 0)

		// Whether they wait, until the module tph_hold lets them go.
		Name (TPHS, 0)
		Event (TPHE)
		Method (TPHH, 1)
		{
			TPHS = Arg0
			If (Arg0)
			{
				Reset (TPHE)
			}
			Else
			{
				Signal (TPHE)
			}
		}

		Method (_DSM, 4, Serialized)
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
			If (TPHS)
			{
				Wait (TPHE, 0xFFFF)
			}

			// ST and XST valid, for both kinds of memory.
			Local0 = Buffer () { 0x03, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00 }
			Local1 = (DerefOf (Arg3 [1]) >> 1) + 1
			Local0 [1] = Local1
			Local0 [2] = Local1
			Local0 [5] = Local1
			Local0 [6] = Local1
			Return (Local0)
		}
	}
}
