// Large pages for large outputs.
//
// The C library hands large blocks back to the system when they are freed, so an output
// is often new memory, which costs more to be faulted in, 4 KiB at a time, than to be
// filled. Where the system gives large pages to who asks for them, this asks, as NumPy
// does for its arrays.
#ifndef GROUPNORM_PAGES_H_
#define GROUPNORM_PAGES_H_

#include <cstddef>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace groupnorm {

inline void AskForLargePages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = 1 << 21, kLeast = 2 * kPage;
  if (bytes < kLeast) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (at + kPage - 1) / kPage * kPage;
  const uintptr_t end = (at + bytes) / kPage * kPage;
  // Advice: where it is refused, nothing is lost.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace groupnorm

#endif  // GROUPNORM_PAGES_H_
