// From sums to statistics: what is done once a group.
#ifndef GROUPNORM_STATISTICS_H_
#define GROUPNORM_STATISTICS_H_

#include <cmath>
#include <limits>

namespace groupnorm {

// Sums of a group (of d and d^2) or of a channel (of dy and dy * xhat).
template <class S>
struct SumsIn {
  S first, second;
  void operator+=(const SumsIn& other) {
    first += other.first;
    second += other.second;
  }
};
using Sums = SumsIn<double>;

struct Statistics {
  double mean, rstd;
};

// The variance of a group with these sums of x - shift and its square, where `share` is
// 1 / number of values.
template <class S>
inline S Variance(const SumsIn<S>& sums, S share) {
  const S rest = sums.first * share;
  const S variance = sums.second * share - rest * rest;
  return variance < 0 ? 0 : variance;  // and a NaN stays one
}

// Variances that are exact in R: nothing over- or underflowed that matters.
template <class R>
struct Range {
  static constexpr R kLeast = 1e-24f, kMost = 1e36f;
};
template <>
struct Range<double> {
  static constexpr double kLeast = -1, kMost = std::numeric_limits<double>::infinity();
};

// Whether sums of type R are good enough: in range, and the shift was near enough to the
// mean for the digits to be there after rest^2 is taken off. Without a branch, so that
// compilers can do several groups at a time.
template <class R, class S>
inline bool IsGood(const SumsIn<S>& sums, S share, S epsilon) {
  const S rest = sums.first * share;
  const S v = Variance(sums, share) + epsilon;
  return (v > Range<R>::kLeast) & (v < Range<R>::kMost) & (rest * rest <= 3 * v);
}

inline Statistics Conclude(double shift, const Sums& sums, double share,
                           double epsilon) {
  return {shift + sums.first * share,
          1 / std::sqrt(Variance(sums, share) + epsilon)};
}

}  // namespace groupnorm

#endif  // GROUPNORM_STATISTICS_H_
