#pragma once

// Runs the programs under test and keeps what they print.

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace realize::test {

struct Ran {
  int code = -1;  ///< exit code; 128 + signal where one ended it
  std::string out;
  std::string err;
};

/// A child process with pipes. Killed and reaped when this ends.
class Process {
 public:
  Process(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment = {},
          const std::string& folder = "");
  ~Process();
  Process(const Process&) = delete;

  /// A line of its stdout; "" at the end.
  std::string line();
  /// Closes our reading end of its stdout.
  void stopReading();
  void signal(int number);
  /// Reads to the end of both outputs and waits.
  Ran finish();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  std::string buffer_;
};

Ran run(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment = {},
        const std::string& folder = "");

/// A state folder with a peer; ends its daemon when it goes.
class FakeHome {
 public:
  FakeHome();
  ~FakeHome();
  const std::string& path() const { return path_; }
  std::string state() const { return path_ + "/state"; }
  /// `realize WORDS...` on this state folder.
  Ran realize(std::vector<std::string> words, const std::string& folder = "");
  Ran mount(std::vector<std::string> words);
  /// As words, to be run by a Process.
  std::vector<std::string> words(std::vector<std::string> words) const;
  /// init, serve --detach, and an arena on `path()`/files.
  void start(const std::string& arena = "docs");

 private:
  std::string path_;
};

std::string readWhole(const std::string& file);
void writeWhole(const std::string& file, const std::string& bytes);

}  // namespace realize::test
