#include "tests/system/cli/cli_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace realize::test {

namespace {

std::string program(const char* variable) {
  const char* path = getenv(variable);
  REQUIRE_MESSAGE(path, "run through meson test: it says where the programs are");
  return path;
}

}  // namespace

Process::Process(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment,
                 const std::string& folder) {
  int out[2];
  int err[2];
  REQUIRE(pipe2(out, O_CLOEXEC) == 0);
  REQUIRE(pipe2(err, O_CLOEXEC) == 0);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_ = fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    dup2(out[1], 1);
    dup2(err[1], 2);
    if (!folder.empty() && chdir(folder.c_str()) != 0) _exit(126);
    for (auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  out_ = out[0];
  err_ = err[0];
}

Process::~Process() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (out_ >= 0) close(out_);
  if (err_ >= 0) close(err_);
}

std::string Process::line() {
  while (true) {
    size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string out = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return out;
    }
    char piece[4096];
    ssize_t n = read(out_, piece, sizeof piece);
    if (n <= 0) return "";
    buffer_.append(piece, static_cast<size_t>(n));
  }
}

void Process::stopReading() {
  close(out_);
  out_ = -1;
}

void Process::signal(int number) { kill(pid_, number); }

Ran Process::finish() {
  Ran ran;
  ran.out = buffer_;
  pollfd entries[] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  while (entries[0].fd >= 0 || entries[1].fd >= 0) {
    poll(entries, 2, -1);
    for (int i = 0; i < 2; ++i) {
      if (entries[i].fd < 0 || entries[i].revents == 0) continue;
      char piece[65536];
      ssize_t n = read(entries[i].fd, piece, sizeof piece);
      if (n <= 0) entries[i].fd = -1;
      else (i == 0 ? ran.out : ran.err).append(piece, static_cast<size_t>(n));
    }
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

Ran run(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment,
        const std::string& folder) {
  return Process(words, environment, folder).finish();
}

FakeHome::FakeHome() {
  const char* base = getenv("TMPDIR");
  std::string pattern = std::string(base && *base ? base : "/tmp") + "/realize-cli-XXXXXX";
  REQUIRE(mkdtemp(pattern.data()));
  path_ = pattern;
  std::filesystem::create_directory(path_ + "/files");
}

FakeHome::~FakeHome() {
  realize({"stop"});
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> FakeHome::words(std::vector<std::string> words) const {
  words.insert(words.begin(), {program("REALIZE_FAKE"), "--state", state()});
  return words;
}

Ran FakeHome::realize(std::vector<std::string> more, const std::string& folder) {
  return run(words(std::move(more)), {}, folder);
}

Ran FakeHome::mount(std::vector<std::string> more) {
  more.insert(more.begin(), {program("REALIZE_MOUNT_FAKE"), "--state", state()});
  return run(more);
}

void FakeHome::start(const std::string& arena) {
  REQUIRE(realize({"init", "--name", "a"}).code == 0);
  REQUIRE(realize({"serve", "--detach"}).code == 0);
  REQUIRE(realize({"arena", "create", arena, path_ + "/files"}).code == 0);
}

std::string readWhole(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void writeWhole(const std::string& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace realize::test
