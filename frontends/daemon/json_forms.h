#pragma once

// How the values of the public API look in JSON: snake_case keys, units at their ends (PROTOCOL.md).

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>

#include "realize/peer.h"

namespace realize::daemon {

std::string_view kindName(EntryKind kind);
std::string_view markName(Mark mark);
/// Nothing for another word.
std::optional<Mark> markFromName(std::string_view name);

nlohmann::json toJson(const PeerInfo& peer);
nlohmann::json toJson(const ConnectionStatus& connection);
nlohmann::json toJson(const MemberStatus& member);
nlohmann::json toJson(const HeadInfo& head);
nlohmann::json toJson(const Problem& problem);
nlohmann::json toJson(const ArenaStatus& arena);
nlohmann::json toJson(const PeerStatus& status);
nlohmann::json toJson(const EntryInfo& entry);
nlohmann::json toJson(const HistoryItem& item);
nlohmann::json toJson(const Event& event);
nlohmann::json toJson(const Progress& progress);
nlohmann::json toJson(const VerifyReport& report);
nlohmann::json toJson(const WhyReport& report);
nlohmann::json toJson(const CacheStatus& status);
nlohmann::json toJson(const UndoItem& item);
nlohmann::json toJson(const Setting& setting);

}  // namespace realize::daemon
