// What the loops over the data are given, and the choice of instruction set.
#ifndef GROUPNORM_LOOPS_H_
#define GROUPNORM_LOOPS_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "statistics.h"

namespace groupnorm {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// The type that values of type T are computed in.
template <class T>
struct RealType {
  using type = float;
};
template <>
struct RealType<double> {
  using type = double;
};
template <class T>
using RealOf = typename RealType<T>::type;

// Arrays of coefficients and sums are padded to a multiple of this many lanes.
constexpr int64_t kPad = 8;

// ------------------------------------------------ coefficients of columns
//
// Loops down the columns of a matrix: `rows` rows of `width` lanes, `stride`
// elements apart, with one coefficient and one sum per lane.

// Rows whose partial sums stay in registers: few enough for the error not to
// grow, and enough to be worth adding up in memory.
inline int64_t BlockRows(int64_t width, int sums) {
  // Without sums, few: rows that a power of two lies between share cache sets.
  if (sums == 0) return std::min<int64_t>(64, std::max<int64_t>(2, 1024 / width));
  return std::min<int64_t>(64, std::max<int64_t>(16, 8192 / width));
}

// sum += x, for each lane.
template <class T>
struct Probe {
  using Real = RealOf<T>;
  static constexpr int kSums = 1;
  static constexpr int kTile = 4;  // vectors side by side, in registers
  const T* x;
  int64_t stride;  // elements from a row to the next
  Real* sum;
};

// sum += x - shift, square += (x - shift)^2, for each lane.
template <class T, class R>
struct Moments {
  using Real = R;
  static constexpr int kSums = 2;
  static constexpr int kTile = 4;
  const T* x;
  int64_t stride;
  const R* shift;
  double *sum, *square;
};

// y = (x - shift) * scale + offset; `past` the caches, if y is not x.
template <class T>
struct Affine {
  using Real = RealOf<T>;
  static constexpr int kSums = 0;
  static constexpr int kTile = 4;
  const T* x;
  T* y;
  int64_t stride;
  const Real *shift, *scale, *offset;
  bool past = false;
};

// sum += dy, product += dy * xhat with xhat = (x - shift) * scale + rest: scaled
// before the product, so that huge and tiny data do not over- or underflow.
// A careful product is 0 where dy is, whatever x is.
template <class T, bool kCareful>
struct GradientSums {
  using Real = RealOf<T>;
  static constexpr int kSums = 2;
  static constexpr int kTile = 4;
  const T *x, *dy;
  int64_t stride;
  const Real *shift, *scale, *rest;
  double *sum, *product;
};

// dx = dy * slope + xhat * curve + offset, here with xhat = (x - shift) * scale.
template <class T>
struct Gradient {
  using Real = RealOf<T>;
  static constexpr int kSums = 0;
  static constexpr int kTile = 2;
  const T *x, *dy;
  T* dx;
  int64_t stride;
  const Real *shift, *scale, *slope, *curve, *offset;
};

// --------------------------------------------------- coefficients of rows
//
// The same along the rows of a matrix, with one coefficient and one sum per
// row. Where gamma (or beta) is given, it has a value for each lane of each of
// `period` rows, after which it starts again.

// sum += x, for each row.
template <class T>
struct RowProbe {
  using Real = RealOf<T>;
  const T* x;
  int64_t stride;
  Real* sum;
};

// sums += x - shift and (x - shift)^2; the rows have a shift and sums each if
// `step` is 1, one for all if it is 0.
template <class T, class R>
struct RowMoments {
  using Real = R;
  const T* x;
  int64_t stride;
  const R* shift;
  Sums* sums;
  int64_t step;
};

// y = ((x - shift) * scale + offset) * gamma + beta; `past` the caches, if y is not x.
template <class T>
struct RowAffine {
  using Real = RealOf<T>;
  const T* x;
  T* y;
  int64_t stride;
  const Real *shift, *scale, *offset;
  const Real *gamma, *beta;
  int64_t period;
  bool past = false;
};

// sums += gamma * dy and gamma * dy * xhat; where gamma is given, each lane of
// each of `period` rows has its own sums of dy and dy * xhat too.
template <class T, bool kCareful>
struct RowGradientSums {
  using Real = RealOf<T>;
  const T *x, *dy;
  int64_t stride;
  const Real *shift, *scale, *rest;
  Sums* sums;
  const Real* gamma;
  Real *lane_sum, *lane_product;
  int64_t period;
};

// dx = dy * slope * gamma + xhat * curve + offset.
template <class T>
struct RowGradient {
  using Real = RealOf<T>;
  const T *x, *dy;
  T* dx;
  int64_t stride;
  const Real *shift, *scale, *slope, *curve, *offset;
  const Real* gamma;
  int64_t period;
};

// ----------------------------------------------------- rows that are groups
//
// A group that is one row of few numbers is worked on once, from its numbers to the
// result: some rows at a time, one step of all of them after the other, so that no step
// of a row has to wait for the one before.

// y, as RowAffine has it, and the statistics.
template <class T>
struct RowNorm {
  using Real = RealOf<T>;
  const T* x;
  T* y;
  const Real *gamma, *beta;
  int64_t period;
  double epsilon;
  Statistics* stats;
  bool past;
};

// dx, as RowGradient has it, and the sums of each lane, as RowGradientSums.
template <class T>
struct RowNormGradient {
  using Real = RealOf<T>;
  const T *x, *dy;
  T* dx;
  const Statistics* stats;
  const Real* gamma;
  Real *lane_sum, *lane_product;
  int64_t period;
};

// ------------------------------------------------------------ over groups
//
// A group of few numbers costs more than they do. So this is a loop, too.

// From sums of type R to statistics, of which the mean is the shift before; where the
// sums are not good it is left, and these groups are counted.
template <class R>
struct Conclusions {
  const Sums* sums;
  double share, epsilon;
  Statistics* stats;
  int64_t* bad;
};

// What the numbers of a group have in common: xhat = (x - shift) * scale + rest.
template <class R>
struct Common {
  const Statistics* stats;
  R *shift, *scale, *rest;
};

// And what their gradients have, from the sums of g = gamma * dy and g * xhat:
// dx = g * scale + (x - shift) * scale * curve + offset.
template <class R>
struct CommonGradient {
  const Sums* sums;
  double share;
  const Statistics* stats;
  R *curve, *offset;
};

}  // namespace groupnorm

#define GROUPNORM_ISA baseline
#define GROUPNORM_TARGET
#if defined(__AVX2__) && defined(__F16C__)
#define GROUPNORM_AVX2 1
#endif
#include "loops.inc"
#undef GROUPNORM_AVX2
#undef GROUPNORM_ISA
#undef GROUPNORM_TARGET

#if defined(__x86_64__) && !defined(__AVX2__) && !defined(GROUPNORM_BASELINE)
#define GROUPNORM_DISPATCH 1
#define GROUPNORM_ISA avx2
#define GROUPNORM_TARGET __attribute__((target("avx2,fma,f16c")))
#define GROUPNORM_AVX2 1
#include "loops.inc"
#undef GROUPNORM_AVX2
#undef GROUPNORM_ISA
#undef GROUPNORM_TARGET
#endif

namespace groupnorm {

#ifdef GROUPNORM_DISPATCH
inline bool FindAvx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

inline bool HasAvx2() {
  static const bool has = FindAvx2();
  return has;
}
#endif

// Other threads see what was stored past the caches only after this.
inline void Arrive() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Run a loop over `rows` rows of `width` lanes, or over a row of groups.
template <class Loop>
void Run(const Loop& loop, int64_t rows, int64_t width) {
#ifdef GROUPNORM_DISPATCH
  if (HasAvx2()) return avx2::Sweep(loop, rows, width);
#endif
  baseline::Sweep(loop, rows, width);
}

}  // namespace groupnorm

#endif  // GROUPNORM_LOOPS_H_
