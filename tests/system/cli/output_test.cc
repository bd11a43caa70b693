#include "frontends/cli/output.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "frontends/cli/exit_codes.h"
#include "frontends/cli/status_text.h"

using namespace realize;
using namespace realize::cli;

TEST_CASE("sizes are short and have units") {
  CHECK(sizeText(0) == "0 B");
  CHECK(sizeText(1023) == "1023 B");
  CHECK(sizeText(1536) == "1.5 KiB");
  CHECK(sizeText(1024 * 1024 - 1) == "1.0 MiB");
  CHECK(sizeText(200ull << 30) == "200 GiB");
  CHECK(sizeText(UINT64_MAX) == "16.0 EiB");
}

TEST_CASE("names cannot write on the terminal") {
  CHECK(nameText("a\x1b[31m\n\t\x7f", false) == "a\\x1b[31m\\n\\t\\x7f");
  CHECK(nameText("a\n", true) == "a\n");
}

TEST_CASE("tables line up by characters") {
  CHECK(tableText({{"a", "b"}, {"caf\xc3\xa9", "c"}}) == "a     b\ncaf\xc3\xa9  c\n");
  CHECK(tableText({{"a", "b"}, {"long", ""}}) == "a     b\nlong\n");
}

TEST_CASE("work under one second shows no progress, and a terminal gets one line redrawn") {
  int64_t now = 0;
  std::string out;
  ProgressLine bar(true, [&] { return now; }, [&](std::string_view text) { out += text; });

  bar.update("docs:", 0, 4 << 20);
  now = 999;
  bar.update("docs:", 1 << 20, 4 << 20);
  CHECK(out.empty());
  now = 2000;
  bar.update("docs:", 2 << 20, 4 << 20);
  CHECK(out == "\r\033[Kdocs: 2.0 MiB of 4.0 MiB (50%) [##########..........], 1.0 MiB/s, 2 s left");
  out.clear();
  now = 2050;
  bar.update("docs:", 3 << 20, 4 << 20);
  CHECK(out.empty());
  bar.finish();
  CHECK(out == "\r\033[K");
}

TEST_CASE("progress into a file is plain lines seconds apart") {
  int64_t now = 0;
  std::string out;
  ProgressLine bar(false, [&] { return now; }, [&](std::string_view text) { out += text; });

  bar.update("x", 0, 0);
  for (now = 1000; now <= 12'000; now += 500) bar.update("x", static_cast<uint64_t>(now) * 1024, 0);
  bar.finish();

  CHECK(std::count(out.begin(), out.end(), '\n') == 3);
  CHECK(out.find('\r') == std::string::npos);
}

TEST_CASE("what cannot be counted is said under the same rules") {
  int64_t now = 500;
  std::string out;
  ProgressLine bar(false, [&] { return now; }, [&](std::string_view text) { out += text; });

  bar.say("waiting: early");
  now = 2000;
  bar.say("waiting: for b");
  now = 3000;
  bar.say("waiting: for c");

  CHECK(out == "waiting: for b\n");
}

TEST_CASE("each code has an exit code of the table") {
  for (int i = 0; i <= static_cast<int>(Code::Internal); ++i) {
    int code = static_cast<int>(exitFor(static_cast<Code>(i)));
    CHECK(code != 0);
    std::string row = std::to_string(code) + "  ";
    CHECK(exitCodeTable().find(row) != std::string::npos);
  }
}

TEST_CASE("status tells of names that other systems take for one, with the bytes of those that look the same") {
  const nlohmann::json status = {
      {"arenas",
       {{{"name", "docs"},
         {"problems", nlohmann::json::array()},
         {"alike_count", 2},
         {"alike_names", nlohmann::json::array({nlohmann::json::array({"a/PLAN", "a/plan"}), nlohmann::json::array({"caf\u00e9", "cafe\u0301"})})}}}}};

  const std::string text = statusText(status, false);

  CHECK(text.find("    docs:a/PLAN  docs:a/plan\n") != std::string::npos);
  CHECK(text.find("    docs:caf\u00e9 (caf\\xc3\\xa9)  docs:cafe\u0301 (cafe\\xcc\\x81)\n") != std::string::npos);
}

TEST_CASE("status tells why two peers that do not listen never meet, and of the whole arena by its name") {
  const nlohmann::json status = {
      {"self", {{"name", "laptop"}, {"key", "12"}}},
      {"listen", ""},
      {"peers", {{{"name", "tv"}, {"address", ""}}, {{"name", "desk"}, {"address", "desk:1"}}}},
      {"arenas", {{{"name", "docs"}, {"problems", {{{"path", ""}, {"kind", "no-space"}, {"detail", "full"}}}}}}}};

  const std::string text = statusText(status, true);

  CHECK(text.find("tv    0 B   0 B       never connected: neither of the two listens; others pass on what they have\n") != std::string::npos);
  CHECK(text.find("desk  0 B   0 B       never connected\n") != std::string::npos);
  CHECK(text.find("    docs: no-space: full\n") != std::string::npos);
}
