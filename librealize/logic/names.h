#pragma once

// Pieces of which names are made that stand beside another.

#include <string>

namespace realize::logic {

constexpr size_t kNameBytes = 255;  ///< a folder holds none that is longer

/// ".txt" of "report.txt", so that programs know what it is; "" where there is none, or more than 16 bytes of it.
std::string endingOf(const std::string& name);

/// The front of a name: at most so many bytes, cut between characters of UTF-8.
std::string cutName(const std::string& name, size_t bytes);

}  // namespace realize::logic
