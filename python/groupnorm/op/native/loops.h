// What the loops over the data are given, and the choice of instruction set.
#ifndef GROUPNORM_LOOPS_H_
#define GROUPNORM_LOOPS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

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

// Rows whose partial sums stay in registers: few enough for the error not to
// grow, and for the block to stay in the L1 cache.
inline int64_t BlockRows(int64_t width) {
  constexpr int64_t kBlockValues = 4096;
  return std::min<int64_t>(64, std::max<int64_t>(8, kBlockValues / width));
}

// sum += x - shift, square += (x - shift)^2, for each lane.
template <class T, class R>
struct Moments {
  using Real = R;
  static constexpr int kTile = 4;  // vectors side by side, in registers
  const T* x;
  int64_t stride;  // elements from a row to the next
  const R* shift;
  double *sum, *square;
};

// y = (x - shift) * scale + offset.
template <class T>
struct Affine {
  using Real = RealOf<T>;
  static constexpr int kTile = 4;
  const T* x;
  T* y;
  int64_t stride;
  const Real *shift, *scale, *offset;
};

// sum += dy, product += dy * xhat with xhat = (x - shift) * scale: scaled
// before the product, so that huge and tiny data do not over- or underflow.
template <class T>
struct GradientSums {
  using Real = RealOf<T>;
  static constexpr int kTile = 4;
  const T *x, *dy;
  int64_t stride;
  const Real *shift, *scale;
  double *sum, *product;
};

// dx = dy * slope + xhat * curve + offset.
template <class T>
struct Gradient {
  using Real = RealOf<T>;
  static constexpr int kTile = 2;
  const T *x, *dy;
  T* dx;
  int64_t stride;
  const Real *shift, *scale, *slope, *curve, *offset;
};

}  // namespace groupnorm

#define GROUPNORM_ISA baseline
#define GROUPNORM_TARGET
#include "loops.inc"
#undef GROUPNORM_ISA
#undef GROUPNORM_TARGET

#if defined(__x86_64__) && !defined(__AVX2__) && !defined(GROUPNORM_BASELINE)
#define GROUPNORM_DISPATCH 1
#define GROUPNORM_ISA avx2
#define GROUPNORM_TARGET __attribute__((target("avx2,fma")))
#include "loops.inc"
#undef GROUPNORM_ISA
#undef GROUPNORM_TARGET
#endif

namespace groupnorm {

#ifdef GROUPNORM_DISPATCH
inline bool HasAvx2() {
  static const bool has =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}
#endif

// Runs a loop over `rows` rows of `width` lanes.
template <class Loop>
void Run(const Loop& loop, int64_t rows, int64_t width) {
#ifdef GROUPNORM_DISPATCH
  if (HasAvx2()) return avx2::Sweep(loop, rows, width);
#endif
  baseline::Sweep(loop, rows, width);
}

}  // namespace groupnorm

#endif  // GROUPNORM_LOOPS_H_
