// The gradients of the input, of gamma and of beta.
#ifndef GROUPNORM_BACKWARD_H_
#define GROUPNORM_BACKWARD_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>

#include "coefficients.h"
#include "layout.h"
#include "loops.h"
#include "shape.h"

namespace groupnorm {

template <class T>
class BackwardPlan {
  using R = RealOf<T>;

 public:
  // `blocks` has Sums for each channel and block of samples, set to zero; or there are
  // none, and a unit's own sums are the gradients.
  BackwardPlan(const Layout& layout, const Mask& mask, const T* x, const R* gamma,
               const Statistics* stats, const T* dy, T* dx, R* dgamma, R* dbeta,
               Sums* blocks)
      : layout_(layout),
        mask_(mask),
        groups_(layout, mask),
        x_(x),
        gamma_(layout.is_short() ? nullptr : gamma),
        gamma_lanes_(layout, gamma, 1),
        zero_lanes_(mask ? Lanes<R>(layout, nullptr, 0) : Lanes<R>()),
        stats_(stats),
        dy_(dy),
        dx_(dx),
        dgamma_(dgamma),
        dbeta_(dbeta),
        blocks_(blocks) {}

  // All of a unit whose groups are rows of few numbers.
  void Visit(const Unit& unit, Work<R>* work) {
    const int64_t at = layout_.Offset(unit, 0);
    const LaneSums lanes = ClearLanes(unit, work);
    groupnorm::Run(RowNormGradient<T>{x_ + at, dy_ + at, dx_ + at, StatsOf(unit),
                                      gamma_lanes_ + layout_.FirstLane(unit), lanes.sum,
                                      lanes.product, layout_.groups()},
                   groups_.Of(unit), layout_.Piece());
    Finish(unit, nullptr, work);
  }

  void Start(const Unit&, Work<R>*) {}

  void Load(const Unit& unit, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    if (layout_.PlacesAreGroups())
      return SetGroups(stats, groups_.Of(unit), work);
    SetPlaces<3, R>(
        layout_, unit.samples, {work->shift(), work->scale(), work->offset()},
        [&](int64_t, int64_t g, auto) {
          const std::array<R, 3> value{Center<R>(stats[g].mean).shift,
                                       static_cast<R>(stats[g].rstd),
                                       -Rest<R>(stats[g])};
          return [value](int64_t) GROUPNORM_EACH_CHANNEL { return value; };
        });
  }

  void Sum(const Unit& unit, int64_t chunk, Work<R>* work, Sums* part) {
    mask_ ? SumProducts<true>(unit, chunk, work, part)
          : SumProducts<false>(unit, chunk, work, part);
  }

  void Finish(const Unit& unit, Sums* total, Work<R>* work) {
    if (blocks_ == nullptr) return;
    const int64_t channels = layout_.channels();
    Sums* block = blocks_ + unit.block * layout_.shape().C + unit.slice * channels;
    if (!layout_.is_short()) {
      for (int64_t s = 0; s < unit.samples; ++s, total += channels)
        for (int64_t c = 0; c < channels; ++c) block[c] += total[c];
      return;
    }
    const int64_t B = layout_.shape().B;
    const R *sum = work->lane_sum(), *product = sum + channels * B;
    WithConstant(B, [=](auto B) {
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = c * B; i < (c + 1) * B; ++i)
          block[c] += Sums{sum[i], product[i]};
    });
  }

  // With m = mean of gamma * dy and k = mean of gamma * dy * xhat in a group,
  // dx = rstd * (gamma * dy - m - xhat * k).
  void SetUp(const Unit& unit, const Sums* total, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    if (layout_.PlacesAreGroups()) return SetUpGroups(unit, total, work);
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const int64_t groups = layout_.groups();
    double* share = work->share();
    for (int64_t s = 0; s < unit.samples; ++s) share[s] = groups_.Share(unit, s);
    SetPlaces<3, R>(
        layout_, unit.samples, {work->slope(), work->curve(), work->offset()},
        [=](int64_t s, int64_t g, auto parts) {
          Sums sums{};
          for (int64_t i = 0; i < parts; ++i) {
            const R weight = gamma((g - s * groups) * parts + i);
            const Sums& part = total[g * parts + i];
            sums += {weight * part.first, weight * part.second};
          }
          const double exact = stats[g].rstd;
          const double m = sums.first * share[s], k = sums.second * share[s];
          const R rstd = static_cast<R>(exact), curve = static_cast<R>(-exact * k);
          const R offset = static_cast<R>(exact * (Rest<R>(stats[g]) * k - m));
          return [=](int64_t c) GROUPNORM_EACH_CHANNEL {
            return std::array<R, 3>{gamma(c) * rstd, curve, offset};
          };
        });
  }

  void Apply(const Unit& unit, int64_t chunk, Work<R>* work) {
    if (!layout_.by_rows()) {
      layout_.ForEachColumnPiece(
          unit, chunk, mask_,
          [&](int64_t s, int64_t offset, int64_t rows, int64_t width, bool counts) {
            const int64_t lane = s * layout_.stride();
            if (!counts)
              return groupnorm::Run(
                  Affine<T>{dy_ + offset, dx_ + offset, width, work->zeros(),
                            work->slope() + lane, work->zeros()},
                  rows, width);
            groupnorm::Run(
                Gradient<T>{x_ + offset, dy_ + offset, dx_ + offset, width,
                            work->shift() + lane, work->scale() + lane,
                            work->slope() + lane, work->curve() + lane,
                            work->offset() + lane},
                rows, width);
          });
      return;
    }
    const R *gamma = nullptr, *zero = nullptr;
    const int64_t stride = RowWidth(), lane = layout_.FirstLane(unit);
    if (layout_.is_short()) gamma = gamma_lanes_ + lane;
    if (layout_.is_short() && mask_) zero = zero_lanes_ + lane;
    layout_.ForEachMaskedPiece(
        unit, chunk, mask_, stride,
        [&](int64_t offset, int64_t row, int64_t rows, int64_t columns, bool counts) {
          if (!counts)
            return groupnorm::Run(
                RowAffine<T>{dy_ + offset, dx_ + offset, stride, work->zeros(),
                             work->slope() + row, work->zeros(), gamma, zero,
                             layout_.groups()},
                rows, columns);
          groupnorm::Run(
              RowGradient<T>{x_ + offset, dy_ + offset, dx_ + offset, stride,
                             work->shift() + row, work->scale() + row,
                             work->slope() + row, work->curve() + row,
                             work->offset() + row, gamma, layout_.groups()},
              rows, columns);
        });
  }

 private:
  // As SetUp, where places are groups.
  void SetUpGroups(const Unit& unit, const Sums* total, Work<R>* work) {
    groups_.ForEachShare(unit, [&](int64_t first, int64_t groups, double share) {
      groupnorm::Run(
          CommonGradient<R>{total + first, share, StatsOf(unit) + first,
                            work->curve() + first, work->offset() + first},
          1, groups);
    });
    std::copy_n(work->scale(), groups_.Of(unit), work->slope());
    if (layout_.is_short()) return;
    // Their sums are those of one channel, without gamma.
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const int64_t groups = layout_.groups();
    for (R* values : {work->slope(), work->curve(), work->offset()})
      for (int64_t s = 0; s < unit.samples; ++s)
        gamma.Multiply(values + s * groups, groups);
  }

  const Statistics* StatsOf(const Unit& unit) const {
    return stats_ + groups_.First(unit);
  }

  int64_t RowWidth() const {
    return layout_.is_short() ? layout_.Piece() : layout_.shape().B;
  }

  // The sums of dy and dy * xhat in each lane of short rows.
  struct LaneSums {
    R *sum = nullptr, *product = nullptr;
  };

  LaneSums ClearLanes(const Unit& unit, Work<R>* work) {
    const int64_t lanes = layout_.groups() * layout_.Piece();
    const int64_t first = layout_.FirstLane(unit);
    R* sum = blocks_ ? work->lane_sum() : dbeta_ + first;
    R* product = blocks_ ? sum + lanes : dgamma_ + first;
    std::fill_n(sum, lanes, R(0));
    std::fill_n(product, lanes, R(0));
    return {sum, product};
  }

  template <bool kCareful>
  void SumProducts(const Unit& unit, int64_t chunk, Work<R>* work, Sums* part) {
    if (!layout_.by_rows()) {
      work->ClearSums();
      layout_.ForEachColumnPiece(
          unit, chunk, Mask(),
          [&](int64_t s, int64_t offset, int64_t rows, int64_t width, bool) {
            const int64_t lane = s * layout_.stride();
            groupnorm::Run(
                GradientSums<T, kCareful>{
                    x_ + offset, dy_ + offset, width, work->shift() + lane,
                    work->scale() + lane, work->offset() + lane,
                    work->first() + lane, work->second() + lane},
                rows, width);
          });
      return FoldLanes(layout_, unit.samples, 1, work, part);
    }
    std::fill_n(part, unit.samples * layout_.places(), Sums{});
    const R* gamma = nullptr;
    LaneSums lanes;
    if (layout_.is_short()) {
      gamma = gamma_lanes_ + layout_.FirstLane(unit);
      lanes = ClearLanes(unit, work);
    }
    layout_.ForEachRowPiece(
        unit, chunk, RowWidth(),
        [&](int64_t offset, int64_t row, int64_t rows, int64_t, int64_t columns) {
          groupnorm::Run(
              RowGradientSums<T, kCareful>{
                  x_ + offset, dy_ + offset, columns, work->shift() + row,
                  work->scale() + row, work->offset() + row, part + row, gamma,
                  lanes.sum, lanes.product, layout_.groups()},
              rows, columns);
        });
  }

  const Layout& layout_;
  const Mask& mask_;
  const Groups groups_;
  const T* const x_;
  const R* const gamma_;
  const Lanes<R> gamma_lanes_, zero_lanes_;
  const Statistics* const stats_;
  const T* const dy_;
  T* const dx_;
  R *const dgamma_, *const dbeta_;
  Sums* const blocks_;
};

}  // namespace groupnorm

#endif  // GROUPNORM_BACKWARD_H_
