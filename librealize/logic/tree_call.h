#pragma once

#include "librealize/logic/tree.h"

namespace realize::logic {

/// What it takes on a page, about.
size_t roughBytes(const Change& change);

class Tree::Call {
 public:
  explicit Call(Tree& tree);
  ~Call() noexcept(false);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  Tree& tree_;
  int exceptions_;
};

}  // namespace realize::logic
