#include "librealize/logic/ignore.h"

#include <algorithm>

#include "librealize/base/path.h"

namespace realize::logic {

namespace {

constexpr std::string_view kWild = "*?[\\";

// Only blanks go, and none that a backslash protects.
std::string_view withoutTrailingSpaces(std::string_view line) {
  size_t end = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == ' ') continue;
    if (line[i] == '\\' && ++i == line.size()) return line;
    end = i + 1;
  }
  return line.substr(0, end);
}

// Character classes are those of ASCII, whatever the locale: peers must agree.
bool inClass(std::string_view name, uint8_t c, bool& known) {
  bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z', digit = c >= '0' && c <= '9';
  bool printable = c >= 0x20 && c <= 0x7e;
  bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
  known = true;
  if (name == "alnum") return lower || upper || digit;
  if (name == "alpha") return lower || upper;
  if (name == "blank") return c == ' ' || c == '\t';
  if (name == "cntrl") return c < 0x20 || c == 0x7f;
  if (name == "digit") return digit;
  if (name == "graph") return printable && !space;
  if (name == "lower") return lower;
  if (name == "print") return printable;
  if (name == "punct") return printable && !space && !lower && !upper && !digit;
  if (name == "space") return space;
  if (name == "upper") return upper;
  if (name == "xdigit") return digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  known = false;
  return false;
}

}  // namespace

IgnorePattern::IgnorePattern(std::string_view line) {
  if (!line.empty() && line[0] == '!') {
    negated_ = true;
    line.remove_prefix(1);
  }
  if (!line.empty() && line.back() == '/') {
    directoryOnly_ = true;
    line.remove_suffix(1);
  }
  nameOnly_ = line.find('/') == std::string_view::npos;
  if (!nameOnly_ && line[0] == '/') line.remove_prefix(1);

  // The literal start is cut off before wildcards are read, so `**` right after it counts as one that stands after a
  // '/': git does the same.
  size_t wild = std::min(line.find_first_of(kWild), line.size());
  prefix_ = std::string(line.substr(0, wild));
  never_ = line.empty() || !compile(line.substr(wild));

  for (size_t i = tokens_.size(); i > 0 && tokens_[i - 1].kind == Kind::Literal; --i)
    suffix_.insert(suffix_.begin(), char(tokens_[i - 1].byte));
}

bool IgnorePattern::compile(std::string_view glob) {
  size_t i = 0;
  while (i < glob.size()) {
    char c = glob[i];
    if (c == '?') {
      tokens_.push_back({Kind::AnyOne});
      ++i;
    } else if (c == '[') {
      i = compileSet(glob, i);
      if (i == 0) return false;
    } else if (c == '*') {
      size_t start = i;
      while (i < glob.size() && glob[i] == '*') ++i;
      bool before = start == 0 || glob[start - 1] == '/';
      bool escapedSlash = glob.substr(i, 2) == "\\/";
      bool after = i == glob.size() || glob[i] == '/' || escapedSlash;
      if (i - start == 1 || !before || !after) {
        tokens_.push_back({Kind::Star});
      } else if (i == glob.size() || escapedSlash) {
        tokens_.push_back({Kind::StarStar});
      } else {
        tokens_.push_back({Kind::StarStarSlash});
        ++i;
      }
    } else {
      if (c == '\\' && ++i == glob.size()) return false;
      tokens_.push_back({Kind::Literal, uint8_t(glob[i])});
      ++i;
    }
  }
  return true;
}

// `glob[at]` is '['. Returns where the rest begins, or 0 if the set is not closed or names an unknown class.
size_t IgnorePattern::compileSet(std::string_view glob, size_t at) {
  auto byteAt = [&](size_t i) -> int { return i < glob.size() ? uint8_t(glob[i]) : -1; };
  ByteSet set(256, false);
  size_t i = at + 1;
  bool negated = byteAt(i) == '!' || byteAt(i) == '^';
  if (negated) ++i;

  int previous = 0;  // 0: a '-' here begins no range
  for (bool first = true; first || byteAt(i) != ']'; first = false, ++i) {
    int c = byteAt(i);
    if (c < 0) return 0;
    if (c == '\\') {
      c = byteAt(++i);
      if (c < 0) return 0;
      set[size_t(c)] = true;
      previous = c;
    } else if (c == '-' && previous && byteAt(i + 1) >= 0 && byteAt(i + 1) != ']') {
      c = byteAt(++i);
      if (c == '\\') c = byteAt(++i);
      if (c < 0) return 0;
      for (int b = previous; b <= c; ++b) set[size_t(b)] = true;
      previous = 0;
    } else if (c == '[' && byteAt(i + 1) == ':') {
      size_t nameAt = i + 2, end = glob.find(']', nameAt);
      if (end == std::string_view::npos) return 0;
      if (end == nameAt || glob[end - 1] != ':') {  // No ":]": an ordinary '['.
        set['['] = true;
        previous = '[';
        continue;
      }
      bool known = false;
      for (int b = 0; b < 256; ++b)
        if (inClass(glob.substr(nameAt, end - 1 - nameAt), uint8_t(b), known)) set[size_t(b)] = true;
      if (!known) return 0;
      i = end;
      previous = 0;
    } else {
      set[size_t(c)] = true;
      previous = c;
    }
  }
  if (negated) set.flip();
  set['/'] = false;
  tokens_.push_back({Kind::Set, 0, uint32_t(sets_.size())});
  sets_.push_back(std::move(set));
  return i + 1;
}

bool IgnorePattern::matches(std::string_view path, bool isDirectory) const {
  if (never_ || (directoryOnly_ && !isDirectory)) return false;
  std::string_view text = nameOnly_ ? baseName(path) : path;
  if (text.size() < prefix_.size() + suffix_.size()) return false;
  if (text.substr(0, prefix_.size()) != prefix_) return false;
  text.remove_prefix(prefix_.size());
  if (text.substr(text.size() - suffix_.size()) != suffix_) return false;
  if (tokens_.size() == suffix_.size()) return text.size() == suffix_.size();
  // "*.o" and its like: nothing but one star before the end.
  if (tokens_.size() == suffix_.size() + 1 && tokens_[0].kind == Kind::Star)
    return text.substr(0, text.size() - suffix_.size()).find('/') == std::string_view::npos;
  return run(text);
}

bool IgnorePattern::accepts(const Token& token, uint8_t byte) const {
  switch (token.kind) {
    case Kind::Literal: return token.byte == byte;
    case Kind::AnyOne: return byte != '/';
    case Kind::Set: return sets_[token.set][byte];
    case Kind::Star: return byte != '/';
    case Kind::StarStar: return true;
    case Kind::StarStarSlash: return true;
  }
  return false;
}

// All positions in the pattern at once, so that no pattern takes exponential time. Position i: tokens before i are
// matched; a star's position stays active while it swallows bytes. StarStarSlash is left by nothing (at its start
// only) or by a '/'; `inside` notes the difference.
bool IgnorePattern::run(std::string_view text) const {
  size_t count = tokens_.size();
  enum : uint8_t { Off = 0, Fresh = 1, Inside = 2 };
  std::vector<uint8_t> now(count + 1, Off), then(count + 1, Off);
  auto activate = [&](std::vector<uint8_t>& at, size_t i, uint8_t how) {
    for (;;) {
      bool known = at[i] & how;
      at[i] |= how;
      if (known || i == count || how != Fresh) return;
      Kind kind = tokens_[i].kind;
      if (kind != Kind::Star && kind != Kind::StarStar && kind != Kind::StarStarSlash) return;
      ++i;  // A star may also match nothing.
    }
  };
  activate(now, 0, Fresh);
  size_t lowest = 0, highest = count;
  for (char c : text) {
    uint8_t byte = uint8_t(c);
    std::fill(then.begin(), then.end(), uint8_t(Off));
    bool any = false;
    for (size_t i = lowest; i < highest; ++i) {
      if (now[i] == Off || !accepts(tokens_[i], byte)) continue;
      any = true;
      switch (tokens_[i].kind) {
        case Kind::Star:
        case Kind::StarStar: activate(then, i, Fresh); break;
        case Kind::StarStarSlash:
          activate(then, i, Inside);
          if (byte == '/') activate(then, i + 1, Fresh);
          break;
        case Kind::Literal:
        case Kind::AnyOne:
        case Kind::Set: activate(then, i + 1, Fresh); break;
      }
    }
    if (!any) return false;
    now.swap(then);
    while (lowest < highest && now[lowest] == Off) ++lowest;
  }
  return now[count] != Off;
}

Result<IgnoreRules> IgnoreRules::parse(std::string_view bytes) {
  if (bytes.size() > kMaxIgnoreFileBytes)
    return Error{Code::TooLarge, "a .realizeignore file may have at most 256 KiB"};
  if (bytes.substr(0, 3) == "\xef\xbb\xbf") bytes.remove_prefix(3);
  IgnoreRules rules;
  while (!bytes.empty()) {
    size_t end = std::min(bytes.find('\n'), bytes.size());
    std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    if (line.empty() || line[0] == '#') continue;
    if (line.back() == '\r') line.remove_suffix(1);
    line = withoutTrailingSpaces(line.substr(0, line.find('\0')));
    if (line.empty()) continue;
    if (line.size() > kMaxIgnorePatternBytes)
      return Error{Code::TooLarge, "a pattern in a .realizeignore file may have at most 4096 bytes"};
    if (rules.patterns_.size() == kMaxIgnorePatterns)
      return Error{Code::TooLarge, "a .realizeignore file may have at most 8192 patterns"};
    rules.patterns_.emplace_back(line);
  }
  return rules;
}

IgnoreRules::Verdict IgnoreRules::match(std::string_view path, bool isDirectory) const {
  for (auto p = patterns_.rbegin(); p != patterns_.rend(); ++p)
    if (p->matches(path, isDirectory)) return p->includes() ? Verdict::Included : Verdict::Ignored;
  return Verdict::Unsaid;
}

IgnoreScope IgnoreScope::enter(std::string_view name) const {
  IgnoreScope scope = *this;
  scope.allIgnored_ = ignored(name, true);
  scope.path_ += name;
  scope.path_ += '/';
  return scope;
}

void IgnoreScope::add(std::shared_ptr<const IgnoreRules> rules) {
  if (!rules || rules->empty()) return;
  deepest_ = std::make_shared<Level>(Level{std::move(rules), path_.size(), deepest_});
}

bool IgnoreScope::ignored(std::string_view name, bool isDirectory) const {
  if (allIgnored_ || name == kOwnFolderName) return true;
  if (!deepest_) return false;
  std::string path = path_;
  path += name;
  for (const Level* level = deepest_.get(); level; level = level->above.get()) {
    switch (level->rules->match(std::string_view(path).substr(level->baseBytes), isDirectory)) {
      case IgnoreRules::Verdict::Ignored: return true;
      case IgnoreRules::Verdict::Included: return false;
      case IgnoreRules::Verdict::Unsaid: break;
    }
  }
  return false;
}

void IgnoreTree::set(const std::string& directory, IgnoreRules rules) {
  if (rules.empty()) clear(directory);
  else rules_[directory] = std::make_shared<IgnoreRules>(std::move(rules));
}

void IgnoreTree::clearBelow(const std::string& directory) {
  if (directory.empty()) {
    rules_.clear();
    return;
  }
  rules_.erase(directory);
  auto from = rules_.lower_bound(directory + '/');
  auto to = rules_.lower_bound(directory + char('/' + 1));
  rules_.erase(from, to);
}

IgnoreScope IgnoreTree::scope(std::string_view directory) const {
  IgnoreScope scope;
  auto addAt = [&](std::string_view path) {
    if (auto it = rules_.find(path); it != rules_.end()) scope.add(it->second);
  };
  addAt("");
  size_t at = 0;
  while (at < directory.size()) {
    size_t end = std::min(directory.find('/', at), directory.size());
    scope = scope.enter(directory.substr(at, end - at));
    addAt(directory.substr(0, end));
    at = end + 1;
  }
  return scope;
}

bool IgnoreTree::ignored(std::string_view path, bool isDirectory) const {
  if (path.empty()) return false;
  return scope(parentPath(path)).ignored(baseName(path), isDirectory);
}

}  // namespace realize::logic
