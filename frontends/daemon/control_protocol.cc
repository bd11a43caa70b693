#include "frontends/daemon/control_protocol.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace realize::daemon {

using nlohmann::json;

namespace {

/// Length of the valid UTF-8 sequence at the start of `s`, 0 if there is none.
size_t sequenceLength(std::string_view s) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  auto continues = [&](size_t i, uint8_t low = 0x80, uint8_t high = 0xbf) {
    return i < s.size() && byte(i) >= low && byte(i) <= high;
  };
  if (s.empty()) return 0;
  uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    uint8_t low = first == 0xe0 ? 0xa0 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : 0xbf;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    uint8_t low = first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xf4 ? 0x8f : 0xbf;
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

const char kHexDigits[] = "0123456789abcdef";

int hexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Checked before parsing, so that no parser ever sees a tower of brackets.
bool tooDeep(std::string_view line) {
  int depth = 0;
  bool inString = false;
  for (size_t i = 0; i < line.size(); ++i) {
    char c = line[i];
    if (inString) {
      if (c == '\\') ++i;
      else if (c == '"') inString = false;
    } else if (c == '"') {
      inString = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxNesting) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

Error bad(const std::string& name, const char* expected) {
  return {Code::InvalidArgument, "argument '" + name + "': " + expected};
}

}  // namespace

bool isUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    size_t n = sequenceLength(bytes);
    if (n == 0) return false;
    bytes.remove_prefix(n);
  }
  return true;
}

std::string printable(std::string_view bytes) {
  if (isUtf8(bytes)) return std::string(bytes);
  std::string out;
  while (!bytes.empty()) {
    size_t n = sequenceLength(bytes);
    if (n == 0) {
      auto b = static_cast<uint8_t>(bytes[0]);
      out += "\\x";
      out += kHexDigits[b >> 4];
      out += kHexDigits[b & 15];
      n = 1;
    } else if (bytes[0] == '\\') {
      out += "\\\\";
    } else {
      out += bytes.substr(0, n);
    }
    bytes.remove_prefix(n);
  }
  return out;
}

std::string toHex(std::string_view bytes) {
  std::string out;
  out.reserve(2 * bytes.size());
  for (char c : bytes) {
    auto b = static_cast<uint8_t>(c);
    out += kHexDigits[b >> 4];
    out += kHexDigits[b & 15];
  }
  return out;
}

std::optional<std::string> fromHex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string out;
  out.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    int high = hexValue(hex[i]);
    int low = hexValue(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
  }
  return out;
}

void putText(json& object, const std::string& key, std::string_view bytes) {
  object[key] = printable(bytes);
  if (!isUtf8(bytes)) object[key + "_hex"] = toHex(bytes);
}

std::optional<std::string> getText(const json& object, const std::string& key) {
  if (!object.is_object()) return std::nullopt;
  if (auto hex = object.find(key + "_hex"); hex != object.end()) {
    if (!hex->is_string()) return std::nullopt;
    return fromHex(hex->get_ref<const std::string&>());
  }
  auto plain = object.find(key);
  if (plain == object.end() || !plain->is_string()) return std::nullopt;
  return plain->get<std::string>();
}

Args::Args() : object_(std::make_shared<json>(json::object())) {}
Args::Args(std::shared_ptr<const json> object) : object_(std::move(object)) {}

bool Args::has(const std::string& name) const {
  return object_->contains(name) || object_->contains(name + "_hex");
}

Result<std::string> Args::text(const std::string& name) const {
  auto value = getText(*object_, name);
  if (!value) return bad(name, "a string is needed");
  if (value->find('\0') != std::string::npos) return bad(name, "must not contain a zero byte");
  return *value;
}

Result<std::string> Args::textOr(const std::string& name, const std::string& fallback) const {
  if (!has(name)) return fallback;
  return text(name);
}

Result<std::vector<std::string>> Args::texts(const std::string& name) const {
  std::vector<std::string> out;
  auto list = object_->find(name);
  if (list == object_->end()) return out;
  if (!list->is_array()) return bad(name, "a list of strings is needed");
  for (auto& item : *list) {
    if (!item.is_string()) return bad(name, "a list of strings is needed");
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<int64_t> Args::integer(const std::string& name, int64_t fallback, int64_t least, int64_t most) const {
  auto value = object_->find(name);
  if (value == object_->end()) return fallback;
  if (!value->is_number_integer()) return bad(name, "a whole number is needed");
  bool beyond = value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  int64_t number = beyond ? INT64_MAX : value->get<int64_t>();
  if (beyond || number < least || number > most)
    return bad(name, ("must be between " + std::to_string(least) + " and " + std::to_string(most)).c_str());
  return number;
}

Result<bool> Args::flag(const std::string& name, bool fallback) const {
  auto value = object_->find(name);
  if (value == object_->end()) return fallback;
  if (!value->is_boolean()) return bad(name, "true or false is needed");
  return value->get<bool>();
}

Result<Request> parseRequest(std::string_view line) {
  if (line.size() > kMaxRequestBytes) return Error{Code::TooLarge, "request line is too long"};
  if (tooDeep(line)) return Error{Code::InvalidArgument, "request is too deeply nested"};
  auto object = std::make_shared<json>(json::parse(line, nullptr, false));
  if (!object->is_object()) return Error{Code::InvalidArgument, "request is not a JSON object"};
  Request request;
  auto id = object->find("id");
  if (id == object->end() || !id->is_number_unsigned())
    return Error{Code::InvalidArgument, "request has no 'id', a number of zero or more"};
  request.id = id->get<uint64_t>();
  auto verb = object->find("verb");
  if (verb == object->end() || !verb->is_string())
    return Error{Code::InvalidArgument, "request has no 'verb', a string"};
  request.verb = verb->get<std::string>();
  if (auto args = object->find("args"); args != object->end()) {
    if (!args->is_object()) return Error{Code::InvalidArgument, "'args' is not an object"};
    request.args = Args(std::make_shared<json>(std::move(*args)));
  }
  return request;
}

std::string toLine(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<json> parseObject(std::string_view line) {
  if (tooDeep(line)) return std::nullopt;
  json value = json::parse(line, nullptr, false);
  if (!value.is_object()) return std::nullopt;
  return value;
}

json errorToJson(const Error& error) {
  return {{"code", std::string(codeName(error.code))}, {"message", printable(error.message)}};
}

Error errorFromJson(const json& object) {
  return {codeFromName(getText(object, "code").value_or("")), getText(object, "message").value_or("no reason was given")};
}

Code codeFromName(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Code::Internal); ++i) {
    auto code = static_cast<Code>(i);
    if (codeName(code) == name) return code;
  }
  return Code::Internal;
}

}  // namespace realize::daemon
