#include "librealize/peer/audit_log.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"

namespace realize::peer {

namespace {

std::string read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

Event change(const std::string& path) {
  Event event;
  event.whenNs = 1'700'000'000'123'456'789;
  event.type = "edit";
  event.arena = "docs";
  event.peer = "key";
  event.path = path;
  event.before = "aa:1";
  event.after = "bb:2";
  return event;
}

struct Audited {
  explicit Audited(AuditSettings settings) : log([](const std::string& key) { return key == "key" ? "b" : key; }, clock) {
    log.configure(settings);
  }
  test::FakeClock clock;
  AuditLog log;
};

AuditSettings settingsFor(const std::string& path) {
  AuditSettings settings;
  settings.path = path;
  return settings;
}

}  // namespace

TEST_CASE("a change is a line that can be taken apart at its blanks, whatever the name") {
  CHECK(AuditLog::lineFor(change("a/b.txt"), "b") == "2023-11-14T22:13:20.123Z docs b edit a/b.txt aa:1 -> bb:2\n");
  CHECK(AuditLog::lineFor(change("two words\n\\\xff \xc3\xa4"), "b") ==
        "2023-11-14T22:13:20.123Z docs b edit two\\x20words\\x0a\\x5c\\xff\\x20\xc3\xa4 aa:1 -> bb:2\n");
  Event connection;
  connection.type = "disconnected";
  connection.detail = "it said\nnothing";
  CHECK(AuditLog::lineFor(connection, "") == "1970-01-01T00:00:00.000Z - - disconnected - - -> - it said\\x0anothing\n");
}

TEST_CASE("each event is a line, also when there are more than subscribers are told of") {
  test::TempDir dir;
  Audited audited(settingsFor(dir / "audit.log"));
  constexpr int kEvents = 20'000;

  for (int i = 0; i < kEvents; ++i) audited.log.note(change(std::to_string(i)));
  audited.log.stop();

  std::istringstream lines(read(dir / "audit.log"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) CHECK(line.find(" edit " + std::to_string(count) + " ") != line.npos);
  CHECK(count == kEvents);
  CHECK(audited.log.lost().lines == 0);
}

TEST_CASE("of events that come together, those that are too many are counted") {
  test::TempDir dir;
  auto settings = settingsFor(dir / "audit.log");
  settings.rotateBytes = 1u << 30;
  Audited audited(settings);
  auto events = std::make_shared<std::vector<Event>>(40, change(std::string(1 << 20, 'x')));

  audited.log.note(events);
  audited.log.stop();

  const std::string text = read(dir / "audit.log");
  const auto lines = uint64_t(std::count(text.begin(), text.end(), '\n'));
  CHECK(lines == 32);  // 31 of 32 MiB, as an event takes more than its path; and what tells of the others.
  CHECK(audited.log.lost().lines == 9);
}

TEST_CASE("the log takes no more room than its settings say") {
  test::TempDir dir;
  auto settings = settingsFor(dir / "audit.log");
  settings.rotateBytes = 4096;
  settings.keep = 2;
  Audited audited(settings);

  for (int i = 0; i < 1000; ++i) audited.log.note(change(std::to_string(i)));
  audited.log.stop();

  size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(dir / "")) {
    ++files;
    CHECK(file.file_size() <= 4096);
  }
  CHECK(files == 3);
  CHECK(read(dir / "audit.log").find(" 999 ") != std::string::npos);
  CHECK(audited.log.lost().lines == 0);
}

TEST_CASE("what the disk does not take is counted, and waited for by nobody") {
  test::TempDir dir;
  auto full = settingsFor("/dev/full");  // full(4)
  Audited audited(full);
  for (int i = 0; i < 10; ++i) audited.log.note(change(std::to_string(i)));

  audited.log.configure(settingsFor(dir / "audit.log"));
  audited.log.note(change("after"));
  audited.log.stop();

  CHECK(audited.log.lost().lines == 10);
  CHECK(audited.log.lost().why.find("space") != std::string::npos);
  const std::string text = read(dir / "audit.log");
  CHECK(text.find("10 lines before this one could not be written\n") != std::string::npos);
  CHECK(text.find(" edit after ") != std::string::npos);
}

TEST_CASE("a log that is moved away is begun anew, one that is off is not written") {
  test::TempDir dir;
  auto settings = settingsFor(dir / "audit.log");
  {
    Audited audited(settings);
    audited.log.note(change("first"));
    audited.log.stop();
  }
  std::filesystem::rename(dir / "audit.log", dir / "elsewhere");
  {
    Audited audited(settings);
    audited.log.note(change("second"));
    audited.log.stop();
  }
  settings.on = false;
  {
    Audited audited(settings);
    audited.log.note(change("third"));
    audited.log.stop();
  }

  CHECK(read(dir / "elsewhere").find(" first ") != std::string::npos);
  const std::string text = read(dir / "audit.log");
  CHECK(text.find(" second ") != std::string::npos);
  CHECK(text.find(" first ") == std::string::npos);
  CHECK(text.find(" third ") == std::string::npos);
}

namespace {
/// What was noted is written by another thread.
bool eventuallyIn(const std::string& path, const std::string& what) {
  for (int i = 0; i < 10'000'000; ++i) {
    if (read(path).find(what) != std::string::npos) return true;
    std::this_thread::yield();
  }
  return false;
}
}  // namespace

TEST_CASE("a log that logrotate moves away under a running peer goes on under its name") {
  test::TempDir dir;
  Audited audited(settingsFor(dir / "audit.log"));
  audited.log.note(change("first"));
  REQUIRE(eventuallyIn(dir / "audit.log", " first "));

  std::filesystem::rename(dir / "audit.log", dir / "audit.log.moved");
  audited.log.note(change("second"));
  audited.log.stop();

  CHECK(read(dir / "audit.log.moved").find(" second ") == std::string::npos);
  CHECK(read(dir / "audit.log").find(" second ") != std::string::npos);
  CHECK(audited.log.lost().lines == 0);
}

TEST_CASE("a log that logrotate copies and truncates begins at its beginning, and counts from there") {
  test::TempDir dir;
  auto settings = settingsFor(dir / "audit.log");
  settings.rotateBytes = 4096;
  Audited audited(settings);
  for (int i = 0; i < 40; ++i) audited.log.note(change("before " + std::to_string(i)));
  REQUIRE(eventuallyIn(dir / "audit.log", "before\\x2039"));

  std::filesystem::resize_file(dir / "audit.log", 0);
  for (int i = 0; i < 40; ++i) audited.log.note(change("after " + std::to_string(i)));
  audited.log.stop();

  const std::string text = read(dir / "audit.log");
  CHECK(text.find('\0') == std::string::npos);
  CHECK(text.find("after\\x200 ") != std::string::npos);
  CHECK(text.find("after\\x2039 ") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(dir / "audit.log.1"));
}

TEST_CASE("earlier files of the log go when they are too old, without a restart") {
  test::TempDir dir;
  auto settings = settingsFor(dir / "audit.log");
  settings.keepDays = 7;
  Audited audited(settings);
  const auto now = std::filesystem::file_time_type::clock::now();
  auto makeOf = [&](const std::string& name, int days) {
    std::ofstream(dir / name) << "old lines\n";
    std::filesystem::last_write_time(dir / name, now - std::chrono::hours(24 * days));
  };
  audited.clock.jump(std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1) - audited.clock.nowNs());
  audited.log.note(change("first"));
  REQUIRE(eventuallyIn(dir / "audit.log", " first "));
  makeOf("audit.log.1", 3);
  makeOf("audit.log.2", 6);
  makeOf("audit.log.3", 8);

  audited.clock.advance(2LL * 24 * 3600 * 1'000'000'000);
  audited.log.note(change("two days later"));
  audited.log.stop();

  CHECK(std::filesystem::exists(dir / "audit.log.1"));
  CHECK_FALSE(std::filesystem::exists(dir / "audit.log.2"));
  CHECK_FALSE(std::filesystem::exists(dir / "audit.log.3"));
}

}  // namespace realize::peer
