#include "librealize/peer/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "librealize/base/errno_code.h"

namespace realize::peer {

namespace {

size_t bytesOf(const Event& event) {
  return sizeof event + event.arena.size() + event.path.size() + event.peer.size() + event.detail.size() + event.before.size() +
         event.after.size();
}

/// How long the UTF-8 character at `at` is; 0 where there is none.
size_t characterAt(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : 0; };
  const uint8_t first = byte(at);
  const size_t length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  if (first == 0xe0 && byte(at + 1) < 0xa0) return 0;   // Too long a form.
  if (first == 0xed && byte(at + 1) >= 0xa0) return 0;  // Surrogates.
  if (first == 0xf0 && byte(at + 1) < 0x90) return 0;
  if (first == 0xf4 && byte(at + 1) >= 0x90) return 0;
  return length;
}

bool plain(uint8_t c, bool blanks) { return c > 0x20 ? c < 0x7f && c != '\\' : c == ' ' && !blanks; }

/// `blanks`: they are escaped, too.
void putEscaped(std::string& out, const std::string& text, bool blanks) {
  size_t done = 0;
  while (done < text.size() && plain(uint8_t(text[done]), blanks)) ++done;
  out.append(text, 0, done);  // Mostly all of it.
  for (size_t i = done; i < text.size();) {
    const uint8_t c = uint8_t(text[i]);
    const size_t length = characterAt(text, i);
    if (length == 0 || c < 0x20 || c == 0x7f || c == '\\' || (c == ' ' && blanks)) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", c);
      out += hex;
      ++i;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
}

void putField(std::string& out, const std::string& text) {
  if (text.empty()) out += '-';
  else putEscaped(out, text, true);
}

void putTime(std::string& out, int64_t whenNs) {
  const time_t seconds = time_t(whenNs / 1'000'000'000);
  thread_local time_t lastSeconds = -1;
  thread_local char stamp[64];
  thread_local size_t length = 0;
  if (seconds != lastSeconds || length == 0) {
    tm parts{};
    gmtime_r(&seconds, &parts);
    length = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S.", &parts);
    lastSeconds = seconds;
  }
  const int ms = std::abs(int(whenNs / 1'000'000 % 1000));
  out.append(stamp, length);
  out += char('0' + ms / 100);
  out += char('0' + ms / 10 % 10);
  out += char('0' + ms % 10);
  out += 'Z';
}

void putLine(std::string& out, const Event& event, const std::string& peerName) {
  putTime(out, event.whenNs);
  for (const auto* text : {&event.arena, &peerName, &event.type, &event.path, &event.before}) {
    out += ' ';
    putField(out, *text);
  }
  out += " -> ";
  putField(out, event.after);
  if (!event.detail.empty()) {
    out += ' ';
    putEscaped(out, event.detail, false);
  }
  out += '\n';
}

}  // namespace

std::string AuditLog::lineFor(const Event& event, const std::string& peerName) {
  std::string out;
  putLine(out, event, peerName);
  return out;
}

AuditLog::AuditLog(std::function<std::string(const std::string&)> nameOf, Clock& clock)
    : nameOf_(std::move(nameOf)), clock_(clock) {}

void AuditLog::configure(const AuditSettings& settings) {
  on_ = settings.on;
  add({nullptr, 0, std::make_shared<const AuditSettings>(settings)});
}

void AuditLog::note(Events events) {
  if (on_) add({std::move(events), 0, nullptr});
}

void AuditLog::add(Item item) {
  {
    std::lock_guard held(mutex_);
    const size_t count = item.events ? item.events->size() : 0;
    for (; item.count < count; ++item.count) {
      const size_t bytes = bytesOf((*item.events)[item.count]);
      if (waitingBytes_ + bytes > kMaxWaitingBytes) break;
      waitingBytes_ += bytes;
    }
    if (const size_t lines = count - item.count) {
      lost_.lines += lines;
      untold_ += lines;
      lost_.why = "the disk is too slow for them";
    }
    if (item.count == 0 && !item.settings) return;
    waiting_.push_back(std::move(item));
    if (std::exchange(posted_, true)) return;
  }
  thread_.post([this] { write(); });
}

AuditLog::Lost AuditLog::lost() const {
  std::lock_guard held(mutex_);
  return lost_;
}

void AuditLog::lose(uint64_t lines, const std::string& why) {
  std::lock_guard held(mutex_);
  lost_.lines += lines;
  untold_ += lines;
  lost_.why = why;
}

void AuditLog::write() {
  std::deque<Item> items;
  uint64_t untold = 0;
  {
    std::lock_guard held(mutex_);
    items.swap(waiting_);
    waitingBytes_ = 0;
    posted_ = false;
    untold = untold_;
  }
  constexpr size_t kPieceBytes = 64 << 10;
  std::string piece;
  bool tells = false;
  auto flush = [&] {
    if (piece.empty()) return;
    const size_t wrote = append(piece);
    const int why = errno;
    if (wrote > 0 && tells) {  // In the first line.
      std::lock_guard held(mutex_);
      untold_ -= untold;
      tells = false;
    }
    if (wrote < piece.size())
      lose(uint64_t(std::count(piece.begin() + ptrdiff_t(wrote), piece.end(), '\n')) - tells, errnoError(why, settings_.path).message);
    {
      std::lock_guard held(mutex_);
      untold = untold_;
    }
    tells = false;
    piece.clear();
  };
  auto tellOfGap = [&] {
    if (untold == 0 || tells) return;
    Event gap;
    gap.whenNs = clock_.nowNs();
    gap.type = "lost";
    gap.detail = std::to_string(untold) + " lines before this one could not be written";
    putLine(piece, gap, "");
    tells = true;
  };
  std::string key, name;  // Mostly the same peer's.
  const std::string nobody;
  for (const auto& [events, count, settings] : items) {
    if (settings) {
      flush();
      settings_ = *settings;
      file_ = OwnedFd();
      dropOld();
      continue;
    }
    for (size_t i = 0; i < count; ++i) {
      const Event& event = (*events)[i];
      if (piece.empty()) tellOfGap();
      if (!event.peer.empty() && event.peer != key) name = nameOf_(key = event.peer);
      const size_t before = piece.size();
      putLine(piece, event, event.peer.empty() ? nobody : name);
      if (before > 0 && (piece.size() > kPieceBytes || sizeBytes_ + piece.size() > settings_.rotateBytes)) {
        const std::string line = piece.substr(before);
        piece.resize(before);
        flush();
        piece = line;
      }
    }
  }
  flush();
}

/// How many bytes of it are written: whole lines. If not all, errno says why.
size_t AuditLog::append(const std::string& text) {
  if (file_.get() < 0 && !open()) return 0;
  struct stat now{}, named{};
  // Taken away or replaced by somebody, such as logrotate: begin anew.
  if (stat(settings_.path.c_str(), &named) != 0 || fstat(file_.get(), &now) != 0 || named.st_ino != now.st_ino ||
      named.st_dev != now.st_dev) {
    if (!open()) return 0;
  } else if (S_ISREG(now.st_mode)) {
    sizeBytes_ = uint64_t(now.st_size);  // Somebody may have cut it, as logrotate's copytruncate does.
  }
  if (const int64_t at = clock_.nowNs(); at - lookedForOldNs_ > kLookForOldNs || at < lookedForOldNs_) dropOld();
  if (sizeBytes_ > 0 && sizeBytes_ + text.size() > settings_.rotateBytes && !rotate()) return 0;
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(file_.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int why = wrote < 0 ? errno : EIO;
      done = done == 0 ? 0 : text.rfind('\n', done - 1) + 1;  // npos + 1 is 0.
      sizeBytes_ += done;
      [[maybe_unused]] int cut = ftruncate(file_.get(), off_t(sizeBytes_));
      errno = why;
      return done;
    }
    done += size_t(wrote);
  }
  sizeBytes_ += done;
  return done;
}

bool AuditLog::open() {
  file_ = OwnedFd(::open(settings_.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  struct stat info{};
  if (file_.get() < 0 || fstat(file_.get(), &info) != 0) return false;
  sizeBytes_ = S_ISREG(info.st_mode) ? uint64_t(info.st_size) : 0;
  return true;
}

bool AuditLog::rotate() {
  auto numbered = [&](uint64_t number) { return settings_.path + "." + std::to_string(number); };
  if (settings_.keep == 0) {
    if (ftruncate(file_.get(), 0) != 0) return false;
    sizeBytes_ = 0;
    return true;
  }
  for (uint64_t number = settings_.keep - 1; number > 0; --number)
    if (rename(numbered(number).c_str(), numbered(number + 1).c_str()) != 0 && errno != ENOENT) return false;
  if (rename(settings_.path.c_str(), numbered(1).c_str()) != 0) return false;
  dropOld();
  return open();
}

/// Those beyond the number or the age that is kept.
void AuditLog::dropOld() {
  constexpr uint64_t kMost = 1000;  // The most that can be kept.
  lookedForOldNs_ = clock_.nowNs();
  const int64_t oldest = lookedForOldNs_ / 1'000'000'000 - int64_t(settings_.keepDays) * 86'400;
  for (uint64_t number = 1; number <= kMost; ++number) {
    const std::string path = settings_.path + "." + std::to_string(number);
    struct stat info{};
    if (lstat(path.c_str(), &info) != 0) {
      if (number > settings_.keep) return;
      continue;
    }
    const bool aged = settings_.keepDays > 0 && info.st_mtim.tv_sec < oldest;
    if (S_ISREG(info.st_mode) && (number > settings_.keep || aged)) unlink(path.c_str());
  }
}

}  // namespace realize::peer
