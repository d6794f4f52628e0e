// From sums to statistics: what is done once a group.
#ifndef GROUPNORM_STATISTICS_H_
#define GROUPNORM_STATISTICS_H_

#include <cmath>
#include <type_traits>

namespace groupnorm {

// Sums of a group (of d and d^2) or of a channel (of dy and dy * xhat).
struct Sums {
  double first, second;
  void operator+=(const Sums& other) {
    first += other.first;
    second += other.second;
  }
};

struct Statistics {
  double mean, rstd;
};

// The variance of a group with these sums of x - shift and its square, where `share` is
// 1 / number of values.
inline double Variance(const Sums& sums, double share) {
  const double rest = sums.first * share;
  const double variance = sums.second * share - rest * rest;
  return variance < 0 ? 0 : variance;  // and a NaN stays one
}

// Whether sums of type R are good enough: nothing over- or underflowed that matters, and
// the shift was near enough to the mean for the digits to be there after rest^2 is
// taken off. Without a branch, so that compilers can do several groups at a time.
template <class R>
inline bool IsGood(const Sums& sums, double share, double epsilon) {
  const double rest = sums.first * share;
  const double v = Variance(sums, share) + epsilon;
  const bool in_range = std::is_same<R, double>::value | ((v > 1e-24) & (v < 1e36));
  return in_range & (rest * rest <= 3 * v);
}

inline Statistics Conclude(double shift, const Sums& sums, double share,
                           double epsilon) {
  return {shift + sums.first * share,
          1 / std::sqrt(Variance(sums, share) + epsilon)};
}

}  // namespace groupnorm

#endif  // GROUPNORM_STATISTICS_H_
