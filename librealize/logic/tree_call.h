#pragma once

#include "librealize/logic/tree.h"

namespace realize::logic {

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
