// SPDX-License-Identifier: GPL-2.0-only
/*
 * Firmware that is wrong, in place of tph.asl: CPU n, which has the ACPI processor
 * UID 2n, gets another kind of nonsense each. Every answer that looks like one
 * holds tags that are found nowhere else, EEh and EEEEh, marked valid. The program
 * "firmware" knows the list.
 */
DefinitionBlock ("", "SSDT", 2, "VFIO", "WRONG", 1)
{
	External (\_SB.PCI0, DeviceObj)

	Scope (\_SB.PCI0)
	{
		// Evaluations of function 0Fh, as in tph.asl.
		Name (TPHN, 0)

		Method (_DSM, 4, Serialized)
		{
			If (Arg0 != ToUUID ("e5c937d0-3553-4d7a-9117-ea4d19c3434d") ||
			    Arg1 != 7)
			{
				Return (Buffer () { 0x00 })
			}

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
			Switch (ToInteger (Local0))
			{
				// The only one that is right: ST 10h, XST 1100h.
				Case (0)
				{
					Return (Buffer () { 0x03, 0x10, 0x00, 0x11, 0x03, 0x50, 0x00, 0x55 })
				}

				// One byte is missing.
				Case (2)
				{
					Return (Buffer () { 0x03, 0xEE, 0xEE, 0xEE, 0x03, 0xEE, 0xEE })
				}

				// All are.
				Case (4)
				{
					Return (Buffer (0) { })
				}

				// An integer, whose bytes would be a good answer.
				Case (6)
				{
					Return (0xEEEEEE03EEEEEE03)
				}

				// A package that holds a good answer.
				Case (8)
				{
					Return (Package () {
						Buffer () { 0x03, 0xEE, 0xEE, 0xEE, 0x03, 0xEE, 0xEE, 0xEE }
					})
				}

				// A string of eight bytes.
				Case (10)
				{
					Return ("\x03\xEE\xEE\xEE\x03\xEE\xEE\xEE")
				}

				// An error while it is evaluated.
				Case (12)
				{
					Local1 = Package () { 0x03 }
					Return (DerefOf (Local1 [Local0]))
				}

				// A function that is not there after all.
				Case (14)
				{
					Return (Buffer () { 0x00 })
				}

				// Every bit that means nothing is set, and not one that does.
				Case (16)
				{
					Return (Buffer () { 0xF8, 0xEE, 0xEE, 0xEE, 0xF8, 0xEE, 0xEE, 0xEE })
				}

				// Eight good bytes, and more.
				Case (18)
				{
					Return (Buffer () {
						0x03, 0x19, 0x09, 0x11, 0x03, 0x59, 0x09, 0x55,
						0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE
					})
				}
			}

			// Anything else: no word.
			Return (Buffer (8) { })
		}
	}
}
