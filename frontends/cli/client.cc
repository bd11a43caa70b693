#include "frontends/cli/client.h"

#include <nlohmann/json.hpp>

#include "frontends/daemon/control_protocol.h"

namespace realize::cli {

using nlohmann::json;

Client::Client(daemon::Fd fd) : fd_(std::move(fd)), reader_(fd_.get(), daemon::kMaxReplyBytes) {}

Result<std::unique_ptr<Client>> Client::connect(const std::string& stateDir) {
  REALIZE_ASSIGN(daemon::Fd fd, daemon::connectControl(stateDir));
  return std::unique_ptr<Client>(new Client(std::move(fd)));
}

Result<json> Client::call(const std::string& verb, const json& args) { return call(verb, args, {}); }

Result<json> Client::call(const std::string& verb, const json& args, const ReplyHandlers& handlers) {
  uint64_t id = ++lastId_;
  std::string request = daemon::toLine({{"id", id}, {"verb", verb}, {"args", args}}) + "\n";
  // A daemon that is sending us away may have closed already; its reason is still to be read.
  auto sent = daemon::sendAll(fd_.get(), request);
  if (!sent && sent.code() != Code::Cancelled) return sent.error();
  std::vector<std::byte> piece;
  while (true) {
    REALIZE_ASSIGN(auto line, reader_.line());
    if (!line) return Error{Code::NotRunning, "the daemon ended before it answered"};
    auto answer = daemon::parseObject(*line);
    if (!answer) return Error{Code::Internal, "the daemon's answer cannot be understood"};
    if (auto ok = answer->find("ok"); ok != answer->end()) {
      if (*ok == true) return answer->value("result", json::object());
      return daemon::errorFromJson(answer->value("error", json::object()));
    }
    if (auto size = answer->find("raw"); size != answer->end()) {
      if (!size->is_number_unsigned() || size->get<uint64_t>() > daemon::kMaxReplyBytes)
        return Error{Code::Internal, "the daemon's answer cannot be understood"};
      piece.resize(size->get<size_t>());
      REALIZE_TRY(reader_.raw(piece));
      if (handlers.raw && !handlers.raw(piece)) return Error{Code::Cancelled, "stopped"};
    }
    auto tell = [&](const char* key, auto& handler) {
      if (auto part = answer->find(key); part != answer->end() && handler) handler(*part);
    };
    tell("progress", handlers.progress);
    tell("event", handlers.event);
    tell("items", handlers.items);
  }
}

}  // namespace realize::cli
