#include <algorithm>
#include <chrono>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "frontends/daemon/json_forms.h"
#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

constexpr size_t kBatch = 500;

Result<FoundPath> pathArgument(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string text, args.text("path"));
  return findPath(context, text);
}

json placeOf(const FoundPath& place) {
  json out = json::object();
  putText(out, "arena", place.arenaName);
  putText(out, "path", place.path);
  return out;
}

Result<json> ls(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(FoundPath place, pathArgument(context, args));
  REALIZE_ASSIGN(auto entries, place.arena->list(place.path));
  for (size_t i = 0; i < entries.size(); i += kBatch) {
    json batch = json::array();
    for (size_t j = i; j < std::min(entries.size(), i + kBatch); ++j) batch.push_back(toJson(entries[j]));
    if (!context.reply.items(batch)) return gone();
  }
  return placeOf(place);
}

Result<json> stat(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(FoundPath place, pathArgument(context, args));
  REALIZE_ASSIGN(EntryInfo entry, place.arena->stat(place.path));
  json out = toJson(entry);
  putText(out, "arena", place.arenaName);
  return out;
}

Result<json> why(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(FoundPath place, pathArgument(context, args));
  REALIZE_ASSIGN(WhyReport report, place.arena->why(place.path));
  json out = toJson(report);
  putText(out, "arena", place.arenaName);
  return out;
}

/// An open file read in pieces: all of one version, however the entry changes meanwhile.
class OpenedVersion {
 public:
  explicit OpenedVersion(FileSystem& files) : files_(files) {}
  ~OpenedVersion() {
    if (opened_) files_.release(handle_);
  }
  OpenedVersion(const OpenedVersion&) = delete;

  Result<void> open(NodeId node) {
    auto answer = std::make_shared<std::promise<Result<FileHandle>>>();
    auto future = answer->get_future();
    files_.open(node, OpenFlags{}, [answer](Result<FileHandle> result) { answer->set_value(std::move(result)); });
    REALIZE_ASSIGN(handle_, future.get());
    opened_ = true;
    return {};
  }

  /// Cancels the read when the client leaves.
  Result<Bytes> read(uint64_t offset, size_t size, Reply& reply) {
    auto answer = std::make_shared<std::promise<Result<Bytes>>>();
    auto future = answer->get_future();
    uint64_t request = files_.read(handle_, offset, size,
                                   [answer](Result<Bytes> result) { answer->set_value(std::move(result)); });
    constexpr auto kCheck = std::chrono::milliseconds(500);
    bool cancelled = false;
    while (future.wait_for(kCheck) != std::future_status::ready)
      if (!cancelled && !reply.wanted()) {
        files_.cancel(request);
        cancelled = true;
      }
    return future.get();
  }

 private:
  FileSystem& files_;
  FileHandle handle_ = 0;
  bool opened_ = false;
};

Result<json> cat(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string text, args.text("path"));
  REALIZE_ASSIGN(FoundPath place, findPath(context, text));
  REALIZE_ASSIGN(int64_t offset, args.integer("offset", 0, 0, INT64_MAX));
  REALIZE_ASSIGN(int64_t limit, args.integer("limit", INT64_MAX, 0, INT64_MAX));
  REALIZE_ASSIGN(EntryInfo entry, place.arena->stat(place.path));
  if (entry.kind == EntryKind::Directory) return Error{Code::IsDirectory, text + ": is a folder"};
  if (entry.kind == EntryKind::Symlink)
    return Error{Code::InvalidArgument, text + ": is a symlink; 'realize stat' says where to"};
  auto about = [&](const Error& error) { return Error{error.code, text + ": " + error.message}; };
  OpenedVersion file(place.arena->fileSystem());
  if (auto opened = file.open(entry.node); !opened.ok()) return about(opened.error());
  uint64_t sent = 0;
  while (sent < static_cast<uint64_t>(limit)) {
    size_t wanted = static_cast<size_t>(std::min<uint64_t>(kRawPieceBytes, static_cast<uint64_t>(limit) - sent));
    auto piece = file.read(static_cast<uint64_t>(offset) + sent, wanted, context.reply);
    if (!piece.ok()) return about(piece.error());
    if (!piece->empty() && !context.reply.raw(*piece)) return gone();
    sent += piece->size();
    if (piece->size() < wanted) break;
  }
  return json{{"bytes", sent}};
}

Result<json> fetch(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(FoundPath place, pathArgument(context, args));
  bool left = false;
  auto done = place.arena->fetch(place.path, [&](const Progress& progress) {
    if (!left) left = !context.reply.progress(toJson(progress));
    return !left;
  });
  if (left) return gone();
  REALIZE_TRY(done);
  return placeOf(place);
}

Result<json> mark(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string word, args.text("mark"));
  auto wish = markFromName(word);
  if (!wish) return Error{Code::InvalidArgument, word + ": a mark is one of real, unreal, none"};
  REALIZE_ASSIGN(FoundPath place, pathArgument(context, args));
  REALIZE_TRY(place.arena->mark(place.path, *wish));
  json out = placeOf(place);
  if (*wish != Mark::Unreal) return out;
  // What stays real at once, and why, is worth a moment.
  ArenaStatus status;
  for (int look = 0; look < 20; ++look) {
    REALIZE_ASSIGN(status, place.arena->status());
    if (!status.lettingGo) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  json stays = json::array();
  for (const auto& file : status.staysReal)
    if (place.path.empty() || file.path == place.path || file.path.starts_with(place.path + "/")) stays.push_back(toJson(file));
  out["stays_real"] = stays;
  return out;
}

Result<json> resolve(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string label, args.textOr("label", ""));
  REALIZE_ASSIGN(FoundPath place, pathArgument(context, args));
  REALIZE_TRY(place.arena->resolve(place.path, label));
  return placeOf(place);
}

constexpr Verb kVerbs[] = {
    {"ls", ls}, {"stat", stat}, {"cat", cat}, {"fetch", fetch}, {"mark", mark}, {"resolve", resolve}, {"why", why},
};

}  // namespace

std::span<const Verb> fileVerbs() { return kVerbs; }

}  // namespace realize::daemon
