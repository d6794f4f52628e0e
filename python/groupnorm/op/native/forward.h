// Statistics, and the normalized output.
#ifndef GROUPNORM_FORWARD_H_
#define GROUPNORM_FORWARD_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "coefficients.h"
#include "layout.h"
#include "loops.h"
#include "shape.h"

namespace groupnorm {

// Bytes of an output that is stored past the caches. A line that is stored in a cache
// has to be read first; what is larger than caches that are near does not stay there.
// (Half precision, which is computed longer, gains nothing.)
inline size_t least_past = 6 << 20;

template <class T>
class ForwardPlan {
  using R = RealOf<T>;

 public:
  ForwardPlan(const Layout& layout, const Mask& mask, const T* x, const R* gamma,
              const R* beta, double epsilon, T* y, Statistics* stats)
      : layout_(layout),
        mask_(mask),
        groups_(layout, mask),
        x_(x),
        gamma_(layout.is_short() ? nullptr : gamma),
        beta_(layout.is_short() ? nullptr : beta),
        gamma_lanes_(layout, gamma, 1),
        beta_lanes_(layout, beta, 0),
        epsilon_(epsilon),
        y_(y),
        past_(std::is_same<T, R>::value && x != y &&
              layout.shape().Size() * sizeof(T) >= least_past),
        stats_(stats) {}

  // All of a unit whose groups are rows of few numbers.
  void Visit(const Unit& unit, Work<R>*) {
    const int64_t at = layout_.Offset(unit, 0), lane = layout_.FirstLane(unit);
    groupnorm::Run(RowNorm<T>{x_ + at, y_ + at, gamma_lanes_ + lane, beta_lanes_ + lane,
                              layout_.groups(), epsilon_, StatsOf(unit), past_},
                   groups_.Of(unit), layout_.Piece());
    if (past_) Arrive();
  }

  // A shift near the mean, kept where the mean will be.
  void Start(const Unit& unit, Work<R>* work) {
    layout_.by_rows() ? ProbeRows(unit, work) : ProbeColumns(unit, work);
    Statistics* stats = StatsOf(unit);
    for (int64_t s = 0, g = 0; s < unit.samples; ++s) {
      const R count = work->count()[s], share = count > 0 ? 1 / count : 0;
      for (int64_t i = 0; i < layout_.groups(); ++i, ++g) {
        const R shift = work->group_shift()[g] * share;
        stats[g].mean = std::isfinite(shift) ? shift : 0;
      }
    }
  }

  void Load(const Unit& unit, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    if (layout_.by_rows()) {
      for (int64_t g = 0; g < groups_.Of(unit); ++g)
        work->group_shift()[g] = static_cast<R>(stats[g].mean);
    } else {
      SetPlaces<1, R>(
          layout_, unit.samples, {work->shift()},
          [&](int64_t, int64_t g, auto) { return Same(static_cast<R>(stats[g].mean)); });
    }
  }

  void Sum(const Unit& unit, int64_t chunk, Work<R>* work, Sums* part) {
    const R* shift = layout_.by_rows() ? work->group_shift() : work->shift();
    SumMoments<R>(unit, chunk, shift, work, part);
  }

  void Finish(const Unit& unit, Sums* total, Work<R>* work) {
    Statistics* stats = StatsOf(unit);
    int64_t bad = 0;
    groups_.ForEachShare(unit, [&](int64_t first, int64_t groups, double share) {
      if (share > 0) {
        const Conclusions<R> loop{total + first, share, epsilon_, stats + first, &bad};
        groupnorm::Run(loop, 1, groups);
      } else {  // Where nothing counts, whatever was seen is left out.
        std::fill_n(stats + first, groups, Statistics{0, 1 / std::sqrt(epsilon_)});
      }
    });
    if (bad > 0) SumExactly(unit, total, work);
  }

  void SetUp(const Unit& unit, const Sums*, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    if (layout_.PlacesAreGroups()) return SetUpGroups(unit, work);
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const Parameter<R> beta(beta_, 0, unit, layout_);
    SetPlaces<3, R>(
        layout_, unit.samples, {work->shift(), work->scale(), work->offset()},
        [&](int64_t, int64_t g, auto) {
          const R shift = Center<R>(stats[g].mean).shift, rest = Rest<R>(stats[g]);
          const R rstd = static_cast<R>(stats[g].rstd);
          return [&, shift, rest, rstd](int64_t c) GROUPNORM_EACH_CHANNEL {
            return std::array<R, 3>{shift, gamma(c) * rstd, beta(c) - gamma(c) * rest};
          };
        });
  }

  void Apply(const Unit& unit, int64_t chunk, Work<R>* work) {
    layout_.by_rows() ? ApplyRows(unit, chunk, work) : ApplyColumns(unit, chunk, work);
    if (past_) Arrive();
  }

 private:
  // As SetUp, where places are groups.
  void SetUpGroups(const Unit& unit, Work<R>* work) {
    SetGroups(StatsOf(unit), groups_.Of(unit), work);
    if (layout_.is_short()) return;
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const Parameter<R> beta(beta_, 0, unit, layout_);
    const int64_t groups = layout_.groups();
    for (int64_t s = 0; s < unit.samples; ++s) {
      gamma.Multiply(work->scale() + s * groups, groups);
      gamma.Multiply(work->offset() + s * groups, groups);
      beta.Add(work->offset() + s * groups, groups);
    }
  }

  void ApplyColumns(const Unit& unit, int64_t chunk, Work<R>* work) {
    layout_.ForEachColumnPiece(
        unit, chunk, Mask(),
        [&](int64_t s, int64_t offset, int64_t rows, int64_t width, bool) {
          const int64_t lane = s * layout_.stride();
          groupnorm::Run(Affine<T>{x_ + offset, y_ + offset, width,
                                   work->shift() + lane, work->scale() + lane,
                                   work->offset() + lane, past_},
                         rows, width);
        });
  }

  void ApplyRows(const Unit& unit, int64_t chunk, Work<R>* work) {
    const int64_t width = layout_.is_short() ? layout_.Piece() : layout_.shape().B;
    const int64_t lane = layout_.FirstLane(unit);
    layout_.ForEachRowPiece(
        unit, chunk, width,
        [&](int64_t offset, int64_t row, int64_t rows, int64_t, int64_t columns) {
          RowAffine<T> loop{x_ + offset, y_ + offset, columns, work->shift() + row,
                            work->scale() + row, work->offset() + row, nullptr,
                            nullptr, layout_.groups(), past_};
          if (layout_.is_short()) {
            loop.gamma = gamma_lanes_ + lane;
            loop.beta = beta_lanes_ + lane;
          }
          groupnorm::Run(loop, rows, columns);
        });
  }

  Statistics* StatsOf(const Unit& unit) const { return stats_ + groups_.First(unit); }

  // Sums x over a few positions that count, spread evenly and away from the ends,
  // where the shifts of groups will be; and how many values of a group that is.
  void ProbeColumns(const Unit& unit, Work<R>* work) {
    const Shape& shape = layout_.shape();
    std::fill_n(work->shift(), RoundUp(unit.samples * layout_.stride(), kPad), R(0));
    if (shape.A == 1 && !mask_) {
      const int64_t row = shape.C * shape.B;
      groupnorm::Run(Probe<T>{x_ + unit.sample * row, 0, work->shift()}, 1,
                     unit.samples * row);
      std::fill_n(work->count(), unit.samples, R(layout_.Piece()));
    } else {
      for (int64_t s = 0; s < unit.samples; ++s) ProbeColumnsOf(s, unit, work);
    }
    WithConstant(layout_.Piece(), [&](auto piece) {
      R* sum = work->group_shift();
      for (int64_t s = 0; s < unit.samples; ++s)
        for (int64_t g = 0; g < layout_.groups(); ++g)
          *sum++ = Total(work->shift() + s * layout_.stride() + g * piece, piece);
    });
  }

  void ProbeColumnsOf(int64_t s, const Unit& unit, Work<R>* work) {
    const Shape& shape = layout_.shape();
    const int64_t row = shape.C * shape.B, sample = unit.sample + s;
    work->count()[s] = 0;
    const auto probe = [&](int64_t begin, int64_t end, bool counts) {
      if (!counts) return;
      // With few numbers of a group the shift is often far off, and all must be
      // summed again.
      const int64_t least = CeilDiv(8, shape.D() * shape.B);
      const int64_t all = (end - begin) / shape.B;
      const int64_t rows = std::min(all, Between(least, all / 32, 8));
      const int64_t step = all / rows, a = begin / shape.B + step / 2;
      groupnorm::Run(Probe<T>{x_ + (sample * shape.A + a) * row, step * row,
                              work->shift() + s * layout_.stride()},
                     rows, row);
      work->count()[s] += rows * shape.B * shape.D();
    };
    mask_.ForEachRange(sample, 0, shape.Positions(), probe);
  }

  void ProbeRows(const Unit& unit, Work<R>* work) {
    const Shape& shape = layout_.shape();
    const int64_t piece = layout_.Piece(), B = shape.B;
    R* sums = work->group_shift();
    std::fill_n(sums, groups_.Of(unit), R(0));
    if (!mask_ || layout_.is_short()) {
      const int64_t width = std::min<int64_t>(piece < 64 ? kPad : 32, piece);
      const int64_t probes = Between(1, shape.A * piece / 512, 16);
      const int64_t step = shape.A * piece / probes;
      for (int64_t at = step / 2; at < probes * step; at += step) {
        const int64_t from = std::min(at % piece, piece - width);
        const T* x = x_ + layout_.Offset(unit, at / piece) + from;
        groupnorm::Run(RowProbe<T>{x, piece, sums}, groups_.Of(unit), width);
      }
      std::fill_n(work->count(), unit.samples, R(probes * width));
      return;
    }
    std::fill_n(work->count(), unit.samples, R(0));
    for (int64_t s = 0; s < unit.samples; ++s) {
      const int64_t groups = layout_.groups();
      const auto probe = [&](int64_t position, int64_t width) {
        // In the middle one of a group's channels.
        const Unit one = {unit.sample + s, 1, unit.slice, unit.block};
        const T* x = x_ + layout_.Offset(one, position / B) +
                     layout_.D() / 2 * B + position % B;
        groupnorm::Run(RowProbe<T>{x, piece, sums + s * groups}, groups, width);
        work->count()[s] += width;
      };
      mask_.ForEachRange(
          unit.sample + s, 0, shape.Positions(),
          [&](int64_t begin, int64_t end, bool counts) {
            if (!counts) return;
            const int64_t middle = begin + (end - begin) / 2;
            probe(middle, Between(1, std::min(end, RoundUp(middle + 1, B)) - middle, 32));
          });
    }
  }

  template <class S>
  void SumMoments(const Unit& unit, int64_t chunk, const S* shift, Work<R>* work,
                  Sums* part) {
    if (!layout_.by_rows()) {
      work->ClearSums();
      layout_.ForEachColumnPiece(
          unit, chunk, mask_,
          [&](int64_t s, int64_t offset, int64_t rows, int64_t width, bool counts) {
            if (!counts) return;
            const int64_t lane = s * layout_.stride();
            groupnorm::Run(
                Moments<T, S>{x_ + offset, width, shift + lane,
                              work->first() + lane, work->second() + lane},
                rows, width);
          });
      return FoldLanes(layout_, unit.samples, layout_.D(), work, part);
    }
    std::fill_n(part, groups_.Of(unit), Sums{});
    if (!mask_ || layout_.is_short()) {
      layout_.ForEachRowPiece(
          unit, chunk, layout_.Piece(),
          [&](int64_t offset, int64_t row, int64_t rows, int64_t, int64_t columns) {
            groupnorm::Run(
                RowMoments<T, S>{x_ + offset, columns, shift + row, part + row, 1},
                rows, columns);
          });
      return;
    }
    const int64_t B = layout_.shape().B, D = layout_.D();
    layout_.ForEachMaskedPiece(
        unit, chunk, mask_, B,
        [&](int64_t offset, int64_t row, int64_t rows, int64_t columns, bool counts) {
          for (const int64_t end = row + rows; counts && row < end;) {
            const int64_t g = row / D, count = std::min(end - row, D - row % D);
            groupnorm::Run(RowMoments<T, S>{x_ + offset, B, shift + g, part + g, 0},
                           count, columns);
            row += count;
            offset += count * B;
          }
        });
  }

  // Again for the groups that need it, in double and around the mean.
  void SumExactly(const Unit& unit, const Sums* total, Work<R>* work) {
    Statistics* stats = StatsOf(unit);
    const int64_t groups = groups_.Of(unit);
    std::vector<Sums> exact(groups), part(groups);
    std::vector<double> shift(groups), share(groups);
    for (int64_t g = 0; g < groups; ++g) {
      share[g] = groups_.Share(unit, g / layout_.groups());
      const double mean = stats[g].mean + total[g].first * share[g];
      shift[g] = std::isfinite(mean) ? mean : stats[g].mean;
    }
    if (!layout_.by_rows())
      SetPlaces<1, double>(layout_, unit.samples, {work->exact_shift()},
                           [&](int64_t, int64_t g, auto) { return Same(shift[g]); });
    for (int64_t chunk = 0; chunk < layout_.chunks(); ++chunk) {
      const double* at = layout_.by_rows() ? shift.data() : work->exact_shift();
      SumMoments<double>(unit, chunk, at, work, part.data());
      for (int64_t g = 0; g < groups; ++g) exact[g] += part[g];
    }
    for (int64_t g = 0; g < groups; ++g) {
      if (share[g] == 0 || IsGood<R>(total[g], share[g], epsilon_)) continue;
      stats[g] = Conclude(shift[g], exact[g], share[g], epsilon_);
    }
  }

  const Layout& layout_;
  const Mask& mask_;
  const Groups groups_;
  const T* const x_;
  const R *const gamma_, *const beta_;
  const Lanes<R> gamma_lanes_, beta_lanes_;
  const double epsilon_;
  T* const y_;
  const bool past_;
  Statistics* const stats_;
};

}  // namespace groupnorm

#endif  // GROUPNORM_FORWARD_H_
