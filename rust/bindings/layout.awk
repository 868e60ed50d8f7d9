# SPDX-License-Identifier: GPL-2.0-only
#
# Turns the layout assertions of bindgen, which parsed the headers with libclang,
# into assertions for the compiler that built the kernel: both have to see the
# same structs. Anonymous members and bit fields have no name to ask for.
#
# bindgen writes ["Size of NAME"][... - Nusize] and the like, on one line or two.

/^pub struct / {
	name = $3
	sub(/[^A-Za-z0-9_].*/, "", name)
	structs[name] = 1
}

match($0, /"(Size|Alignment) of [A-Za-z0-9_]+"/) {
	split(substr($0, RSTART + 1, RLENGTH - 2), words, " ")
	expression = ""
	if (words[3] in structs && words[3] !~ /__bindgen/)
		expression = (words[1] == "Size" ? "sizeof" : "_Alignof") \
			"(struct " words[3] ")"
}

match($0, /"Offset of field: [A-Za-z0-9_]+::[A-Za-z0-9_]+"/) {
	split(substr($0, RSTART + 18, RLENGTH - 19), words, "::")
	expression = ""
	# bindgen puts an underscore behind Rust's keywords.
	sub(/^type_$/, "type", words[2])
	sub(/^match_$/, "match", words[2])
	if (words[1] in structs && (words[1] words[2]) !~ /__bindgen/)
		expression = "offsetof(struct " words[1] ", " words[2] ")"
}

expression && match($0, /- [0-9]+usize/) {
	printf "static_assert(%s == %s);\n", expression,
		substr($0, RSTART + 2, RLENGTH - 7)
	expression = ""
}
