// Memory for the length of a call.
#ifndef GROUPNORM_MEMORY_H_
#define GROUPNORM_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "shape.h"

#if defined(__SANITIZE_ADDRESS__)
#define GROUPNORM_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GROUPNORM_WATCHED 1
#endif
#endif

namespace groupnorm {

// A little memory that a thread keeps: to be given some by the C library, block by block,
// takes as long as all that is done with a small tensor. What is taken is used again
// when all of it has been given back.
class Kept {
 public:
  // Of the thread that calls, which also has to give back what it takes.
  static Kept& Get() {
    thread_local Kept kept;
    return kept;
  }

  // Null if there is not as much left.
  void* Take(size_t bytes) {
    const size_t rounded = RoundUp(bytes, kLine);
    if (rounded > kSize - used_) return nullptr;
    if (!memory_) memory_.reset(new char[kSize + kLine]);
    const size_t at = reinterpret_cast<uintptr_t>(memory_.get()) % kLine;
    void* taken = memory_.get() + (kLine - at) + used_;
    used_ += rounded;
    ++blocks_;
    return taken;
  }

  void GiveBack() {
    if (--blocks_ == 0) used_ = 0;
  }

 private:
#ifdef GROUPNORM_WATCHED
  static constexpr size_t kSize = 0;  // only the library's own blocks can be watched
#else
  static constexpr size_t kSize = 1 << 18;
#endif
  static constexpr size_t kLine = 64;
  std::unique_ptr<char[]> memory_;
  size_t used_ = 0, blocks_ = 0;
};

struct Return {
  Kept* kept = nullptr;  // or it is from the C library
  template <class S>
  void operator()(S* block) const {
    kept ? kept->GiveBack() : operator delete(block);
  }
};

template <class S>
using Block = std::unique_ptr<S[], Return>;

// Memory that is not set to anything, if S does not do it itself.
template <class S>
Block<S> Raw(int64_t count) {
  const size_t bytes = count * sizeof(S);
  Kept& kept = Kept::Get();
  void* taken = kept.Take(bytes);
  Block<S> block(static_cast<S*>(taken ? taken : operator new(bytes)),
                 Return{taken ? &kept : nullptr});
  std::uninitialized_default_construct_n(block.get(), count);
  return block;
}

}  // namespace groupnorm

#endif  // GROUPNORM_MEMORY_H_
