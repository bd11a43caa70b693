#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace realize::cli {

/// The answer to `status` for people. `household`: with the peer itself and its connections.
std::string statusText(const nlohmann::json& status, bool household);

}  // namespace realize::cli
