#pragma once

// Which names in an arena's folder are not ours: gitignore syntax in files named `.realizeignore`.
//
// A pattern file holds for its folder and all below; the deepest file decides first, within a file the last matching
// line. What lies below an ignored folder is ignored, whatever later lines say. `.realize` is ours at any level and
// cannot be included again.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "realize/result.h"

namespace realize::logic {

constexpr std::string_view kIgnoreFileName = ".realizeignore";
/// The program's own folder; never part of an arena's tree.
constexpr std::string_view kOwnFolderName = ".realize";

constexpr size_t kMaxIgnoreFileBytes = 256 << 10;
constexpr size_t kMaxIgnorePatterns = 8192;
constexpr size_t kMaxIgnorePatternBytes = 4096;

/// One line of a pattern file, compiled. Matching takes time in the order of pattern length times path length.
class IgnorePattern {
 public:
  /// `line`: without its end; not empty and not a comment.
  explicit IgnorePattern(std::string_view line);

  /// `path`: relative to the pattern file's folder, components joined by '/'.
  bool matches(std::string_view path, bool isDirectory) const;
  /// A line that begins with '!': what it matches is included again.
  bool includes() const { return negated_; }

 private:
  enum class Kind : uint8_t { Literal, AnyOne, Set, Star, StarStar, StarStarSlash };
  struct Token {
    Kind kind;
    uint8_t byte = 0;   ///< of a Literal
    uint32_t set = 0;   ///< of a Set: which of sets_
  };
  using ByteSet = std::vector<bool>;  ///< 256 long

  bool compile(std::string_view glob);
  size_t compileSet(std::string_view glob, size_t at);
  bool run(std::string_view text) const;
  bool accepts(const Token& token, uint8_t byte) const;

  std::string prefix_;  ///< bytes before the first wildcard, compared as they are
  std::vector<Token> tokens_;
  std::vector<ByteSet> sets_;
  std::string suffix_;  ///< literal bytes that end the pattern: a quick refusal
  bool negated_ = false;
  bool directoryOnly_ = false;
  bool nameOnly_ = false;  ///< no '/' but at the end: compared with the last component alone
  bool never_ = false;     ///< malformed: matches nothing
};

/// The patterns of one file.
class IgnoreRules {
 public:
  enum class Verdict : uint8_t { Unsaid, Ignored, Included };

  /// Any bytes are a pattern file; malformed patterns match nothing, as in git.
  /// Errors: TooLarge (kMaxIgnoreFileBytes, kMaxIgnorePatterns, kMaxIgnorePatternBytes). Then the caller does not
  /// know what is ignored there, and should leave the folder as it is (unreadable) rather than take all of it.
  static Result<IgnoreRules> parse(std::string_view bytes);

  /// `path`: relative to the file's folder.
  Verdict match(std::string_view path, bool isDirectory) const;
  bool empty() const { return patterns_.empty(); }

 private:
  std::vector<IgnorePattern> patterns_;
};

/// One directory as a walk meets it: what holds in it. A value; copies share the rules. Thread: any, not shared.
class IgnoreScope {
 public:
  /// The arena's root, where nothing is ignored yet.
  IgnoreScope() = default;

  /// The scope of the directory `name` in this one (its own pattern file not read yet).
  IgnoreScope enter(std::string_view name) const;
  /// The rules of the pattern file in this very directory; to be added before ignored() is asked.
  void add(std::shared_ptr<const IgnoreRules> rules);

  /// Is `name` in this directory not ours?
  bool ignored(std::string_view name, bool isDirectory) const;
  /// The directory itself is ignored, so all in it is.
  bool allIgnored() const { return allIgnored_; }

 private:
  struct Level {
    std::shared_ptr<const IgnoreRules> rules;
    size_t baseBytes;  ///< how much of a path is the folder of the pattern file, with its '/'
    std::shared_ptr<const Level> above;
  };
  std::string path_;  ///< with a '/' at the end, or empty for the root
  std::shared_ptr<const Level> deepest_;
  bool allIgnored_ = false;
};

/// The pattern files of an arena by folder, for questions about single paths. Thread: as its owner's.
class IgnoreTree {
 public:
  /// `directory`: "" or "a/b". Empty rules remove.
  void set(const std::string& directory, IgnoreRules rules);
  void clear(const std::string& directory) { rules_.erase(directory); }
  /// Drops what is known of a directory and all below (it was moved or removed: read the files again).
  void clearBelow(const std::string& directory);

  /// The scope of a directory, its own rules included.
  IgnoreScope scope(std::string_view directory) const;
  /// `path`: relative to the root, components joined by '/'. "" (the root) is never ignored.
  bool ignored(std::string_view path, bool isDirectory) const;

 private:
  std::map<std::string, std::shared_ptr<const IgnoreRules>, std::less<>> rules_;
};

}  // namespace realize::logic
