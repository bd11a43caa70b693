#pragma once

#include <string>
#include <string_view>

namespace realize {

/// A name as a disk has it that minds neither case nor Unicode form: names with one fold are one name there. Unicode's canonical
/// caseless matching, without what is invisible by default, as APFS and ext4's casefold do; some disks tell more names apart.
/// Of a name that is no UTF-8, only ASCII letters are folded.
/// Source: The Unicode Standard, 3.13, D145. Not promised: the same result from another version of Unicode.
std::string foldName(std::string_view name);

}  // namespace realize
