// What a call is about: the shape of the data, and which positions count.
#ifndef GROUPNORM_SHAPE_H_
#define GROUPNORM_SHAPE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace groupnorm {

struct Shape {
  int64_t N, A, C, B, G;
  int64_t D() const { return C / G; }
  int64_t Positions() const { return A * B; }
  int64_t Size() const { return N * A * C * B; }
};

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }
inline int64_t Between(int64_t low, int64_t value, int64_t high) {
  return std::max(low, std::min(value, high));
}

// Which positions of a sample count: all, or those where a value is not 0.
class Mask {
 public:
  Mask() = default;
  // Each value stands for `repeat` positions in a row.
  Mask(const unsigned char* values, int64_t positions, int64_t repeat)
      : values_(values), positions_(positions), repeat_(repeat) {}

  explicit operator bool() const { return values_ != nullptr; }

  // Call f(begin, end, counts) for the parts of a range of positions that
  // count as a whole, or do not.
  template <class F>
  void ForEachRange(int64_t sample, int64_t begin, int64_t end, F f) const {
    if (values_ == nullptr) return f(begin, end, true);
    const unsigned char* values = values_ + sample * (positions_ / repeat_);
    while (begin < end) {
      const int64_t first = begin / repeat_, last = CeilDiv(end, repeat_);
      const bool counts = values[first] != 0;
      const int64_t next = counts ? FirstZero(values, first, last)
                                  : FirstOther(values, first, last);
      const int64_t stop = std::min(end, next * repeat_);
      f(begin, stop, counts);
      begin = stop;
    }
  }

  int64_t Count(int64_t sample) const {
    int64_t count = 0;
    ForEachRange(sample, 0, positions_, [&](int64_t begin, int64_t end, bool counts) {
      if (counts) count += end - begin;
    });
    return count;
  }

 private:
  // Where in a range the first value is that is 0, or that is not; its end if none is.
  // A mask is read for each group, so that byte by byte it would cost as much as the data.
  static int64_t FirstZero(const unsigned char* values, int64_t i, int64_t end) {
    const void* at = std::memchr(values + i, 0, end - i);
    return at ? static_cast<const unsigned char*>(at) - values : end;
  }

  static int64_t FirstOther(const unsigned char* values, int64_t i, int64_t end) {
    for (uint64_t eight; i + 8 <= end; i += 8) {
      std::memcpy(&eight, values + i, 8);
      if (eight != 0) break;
    }
    while (i < end && values[i] == 0) ++i;
    return i;
  }

  const unsigned char* values_ = nullptr;
  int64_t positions_ = 1, repeat_ = 1;
};

}  // namespace groupnorm

#endif  // GROUPNORM_SHAPE_H_
