// The control socket's request parser: any bytes in, never a crash; what it accepts, it must read back the same.

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "frontends/daemon/control_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace realize::daemon;
  std::string_view line(reinterpret_cast<const char*>(data), size);

  if (auto request = parseRequest(line)) {
    for (auto name : {"path", "arena", "mark", "name", "value"}) {
      (void)request->args.text(name);
      (void)request->args.texts(name);
      (void)request->args.integer(name, 0, 0, 100);
      (void)request->args.flag(name, false);
    }
  }

  // Any bytes as a name survive the way out and back.
  nlohmann::json object = nlohmann::json::object();
  putText(object, "name", line);
  auto back = parseObject(toLine(object));
  if (!back || getText(*back, "name") != std::string(line)) std::abort();

  if (auto answer = parseObject(line)) {
    (void)errorFromJson(*answer);
    (void)toLine(*answer);
  }
  return 0;
}
