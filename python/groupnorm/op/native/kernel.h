// Group normalization and its gradient: the numerics, without TensorFlow.
//
// Data are seen as (N, A, C, B): samples, positions before the channel axis,
// channels, positions after it. G groups of D = C / G consecutive channels
// each; statistics over A, D and B for each sample and group.
//
// What is done when, and where it is written:
//   once a call      here: a small sample of one group is read as one piece, the
//                    layout is chosen (layout.h), memory for each thread is
//                    taken and work shared out (schedule.h), gradients of gamma
//                    and beta are added up
//   once a batch     of samples that together are worth a visit, or a slice of
//                    a large one (Unit): sums become statistics (statistics.h),
//                    and these become coefficients (forward.h, backward.h, and
//                    for both coefficients.h)
//   once a number    the loops (loops.h), twice: for the sums, and for the result
// Groups that are rows of few numbers, as those of dense layers, are worked on once: a
// few of them at a time go from numbers to result (groups.inc).
//
// How it is accurate: a first look at a few positions gives each group a shift
// near its mean; sums of (x - shift) and (x - shift)^2, in short float runs
// added up in double, give mean and variance. Where the shift turns out to be
// far from the mean, or the numbers leave float's range, those groups alone are
// summed again in double. Then x - mean is taken before anything is scaled.
//
// How results do not depend on the number of threads: work is cut into units
// and chunks by shape alone, and their sums are added in a fixed order.
#ifndef GROUPNORM_KERNEL_H_
#define GROUPNORM_KERNEL_H_

#include <algorithm>
#include <cstdint>

#include "backward.h"
#include "forward.h"
#include "layout.h"
#include "loops.h"
#include "memory.h"
#include "schedule.h"
#include "shape.h"

namespace groupnorm {

// Numbers of a sample of one group that are better read as one piece, whatever they are
// to the layout: coefficients for its lanes would be as many. So are gamma and beta when
// they are laid out along it, which takes as long as a few samples do.
constexpr int64_t kOnePiece = 1024, kSeveral = 4;

inline bool IsOnePiece(const Shape& shape, const Mask& mask) {
  const int64_t sample = shape.Positions() * shape.C;
  return !mask && shape.G == 1 && shape.A > 1 && shape.N >= kSeveral && sample > 0 &&
         sample <= kOnePiece;
}

// One position of more channels.
inline Shape AsOnePiece(const Shape& shape) {
  return {shape.N, 1, shape.A * shape.C, shape.B, 1};
}

// A parameter of these channels.
template <class R>
Block<R> Repeated(const R* values, const Shape& shape) {
  if (values == nullptr) return nullptr;
  auto repeated = Raw<R>(shape.A * shape.C);
  for (int64_t a = 0; a < shape.A; ++a)
    std::copy_n(values, shape.C, &repeated[a * shape.C]);
  return repeated;
}

// The gradient of a parameter, from those of its repetitions.
template <class R>
void AddUp(const R* repeated, const Shape& shape, R* values) {
  if (values == nullptr) return;
  const int64_t C = shape.C;
  const auto sums = Raw<double>(C);
  std::fill_n(sums.get(), C, 0.0);
  for (int64_t a = 0; a < shape.A; ++a)
    for (int64_t c = 0; c < C; ++c) sums[c] += repeated[a * C + c];
  for (int64_t c = 0; c < C; ++c) values[c] = static_cast<R>(sums[c]);
}

// y may be x. A null gamma is all ones, a null beta all zeros. Takes N * G
// statistics.
template <class T>
void Forward(const Shape& shape, const Mask& mask, const T* x,
             const RealOf<T>* gamma, const RealOf<T>* beta, double epsilon, T* y,
             Statistics* stats) {
  if (shape.Size() == 0) {
    std::fill_n(stats, shape.N * shape.G, Statistics{0, 0});
    return;
  }
  if (IsOnePiece(shape, mask)) {
    const auto gammas = Repeated(gamma, shape), betas = Repeated(beta, shape);
    return Forward(AsOnePiece(shape), mask, x, gammas.get(), betas.get(), epsilon, y,
                   stats);
  }
  const Layout layout(shape, bool(mask));
  ForwardPlan<T> plan(layout, mask, x, gamma, beta, epsilon, y, stats);
  Schedule<RealOf<T>>(layout, layout.groups()).Run(&plan);
}

// dx may be x or dy. A null dgamma or dbeta is left out.
template <class T>
void Backward(const Shape& shape, const Mask& mask, const T* x,
              const RealOf<T>* gamma, const Statistics* stats, const T* dy, T* dx,
              RealOf<T>* dgamma, RealOf<T>* dbeta) {
  using R = RealOf<T>;
  if (IsOnePiece(shape, mask)) {
    const Shape piece = AsOnePiece(shape);
    const auto gammas = Repeated(gamma, shape);
    const auto dgammas = Raw<R>(piece.C), dbetas = Raw<R>(piece.C);
    Backward(piece, mask, x, gammas.get(), stats, dy, dx, dgammas.get(), dbetas.get());
    AddUp(dgammas.get(), shape, dgamma);
    return AddUp(dbetas.get(), shape, dbeta);
  }
  if (shape.Size() == 0) {
    if (dgamma) std::fill_n(dgamma, shape.C, R(0));
    if (dbeta) std::fill_n(dbeta, shape.C, R(0));
    return;
  }
  const Layout layout(shape, bool(mask));
  Schedule<R> schedule(layout, layout.groups() * layout.parts());
  const bool in_one =
      schedule.Blocks() == 1 && layout.IsInOneUnit() && dgamma && dbeta;
  const int64_t sums = in_one ? 0 : schedule.Blocks() * shape.C;
  const auto blocks = in_one ? nullptr : Raw<Sums>(sums);
  std::fill_n(blocks.get(), sums, Sums{});
  BackwardPlan<T> plan(layout, mask, x, gamma, stats, dy, dx, dgamma, dbeta,
                       blocks.get());
  schedule.Run(&plan);
  if (in_one) return;
  // Into the first one.
  for (int64_t block = 1; block < schedule.Blocks(); ++block)
    for (int64_t c = 0; c < shape.C; ++c) blocks[c] += blocks[block * shape.C + c];
  for (int64_t c = 0; c < shape.C; ++c) {
    if (dgamma) dgamma[c] = static_cast<R>(blocks[c].second);
    if (dbeta) dbeta[c] = static_cast<R>(blocks[c].first);
  }
}

}  // namespace groupnorm

#endif  // GROUPNORM_KERNEL_H_
