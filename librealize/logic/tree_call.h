#pragma once

#include "librealize/logic/tree.h"

namespace realize::logic {

/// What it takes on a page, about.
size_t roughBytes(const Change& change);

/// Of a context, what the vector does not cover: the rest says nothing.
VersionVector beyond(const VersionVector& ctx, const VersionVector& vector);

/// Modulo 2^128, little-endian.
void add(TreeDigest& sum, const TreeDigest& term, bool subtract);

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
