#pragma once

// The schema's steps, embedded at build time from migrations/. A released step is never edited: add the next number.

#include <span>

#include "librealize/store/database.h"

namespace realize::store {

std::span<const Migration> arenaMigrations();
std::span<const Migration> peerMigrations();

/// In the file's header, so that one kind of database is not taken for another.
constexpr uint32_t kArenaApplicationId = 0x524c4152;  // "RLAR"
constexpr uint32_t kPeerApplicationId = 0x524c5052;   // "RLPR"

}  // namespace realize::store
