// A thread's memory, and the way between what belongs to a group or a channel and what
// the loops read and add to: coefficients are set from the one, sums folded into it.
#ifndef GROUPNORM_COEFFICIENTS_H_
#define GROUPNORM_COEFFICIENTS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "layout.h"
#include "loops.h"
#include "memory.h"
#include "shape.h"

// Of a function that every channel goes through: compilers would rather call it.
#define GROUPNORM_EACH_CHANNEL __attribute__((always_inline))

namespace groupnorm {

// What a thread keeps of its unit: a value per place of everything that the
// loops read or add to, and one per group, channel or sample.
template <class R>
class Work {
 public:
  explicit Work(const Layout& layout)
      : size_(RoundUp(layout.batch() * layout.stride(), kPad)),
        groups_(layout.batch() * layout.groups()),
        reals_(Raw<R>(6 * size_)),
        doubles_(layout.by_rows() ? nullptr : Raw<double>(3 * size_)),
        shifts_(Raw<R>(groups_ + layout.batch())),
        shares_(Raw<double>(layout.batch())),
        lanes_(layout.is_short() ? Raw<R>(2 * layout.Piece() * layout.groups())
                                 : nullptr) {
    // What lies between the places of one sample and the next is read, and at the end.
    const int64_t stride = layout.stride(), places = layout.places();
    for (int k = 0; k < 6; ++k) {
      R* values = reals_.get() + k * size_;
      for (int64_t s = 0; s < layout.batch(); ++s)
        std::fill_n(values + s * stride + places, stride - places, R(0));
      std::fill(values + layout.batch() * stride, values + size_, R(0));
    }
  }

  R* shift() { return &reals_[0]; }
  R* scale() { return &reals_[size_]; }
  R* slope() { return &reals_[2 * size_]; }
  R* curve() { return &reals_[3 * size_]; }
  R* offset() { return &reals_[4 * size_]; }
  R* zeros() {
    std::fill_n(&reals_[5 * size_], size_, R(0));
    return &reals_[5 * size_];
  }
  double* exact_shift() { return &doubles_[0]; }
  double* first() { return &doubles_[size_]; }
  double* second() { return &doubles_[2 * size_]; }
  R* group_shift() { return shifts_.get(); }
  R* count() { return &shifts_[groups_]; }  // of the numbers looked at beforehand
  double* share() { return shares_.get(); }
  R* lane_sum() { return lanes_.get(); }

  void ClearSums() { std::fill(first(), first() + 2 * size_, 0.0); }

 private:
  const int64_t size_, groups_;
  Block<R> reals_;
  Block<double> doubles_;
  Block<R> shifts_;
  Block<double> shares_;
  Block<R> lanes_;
};

// Call f(n), with the smallest numbers as constants: loops of so few steps cost
// little if the compiler can write them out.
template <class F>
void WithConstant(int64_t n, F f) {
  if (n == 1) return f(std::integral_constant<int64_t, 1>());
  if (n == 2) return f(std::integral_constant<int64_t, 2>());
  if (n == 3) return f(std::integral_constant<int64_t, 3>());
  if (n == 4) return f(std::integral_constant<int64_t, 4>());
  f(n);
}

// The same for two, the second one only where it is 1.
template <class F>
void WithConstants(int64_t m, int64_t n, F f) {
  WithConstant(m, [&](auto m) {
    n == 1 ? f(m, std::integral_constant<int64_t, 1>()) : f(m, n);
  });
}

// Set the places of a group, whose first channel is `first`, to one of the values
// of each channel.
template <size_t k, class R, class Parts, class Run, class F>
void SetGroup(R* at, int64_t first, Parts parts, Run run, F of_channel) {
  for (int64_t c = 0; c < parts; ++c) {
    const R value = std::get<k>(of_channel(first + c));
    for (int64_t i = 0; i < run; ++i) *at++ = value;
  }
}

// Set the places of coefficients that are set together: those of channel c to
// of_group(s, g, parts)(c), where the groups g of all samples s are counted through.
template <size_t... k, class R, class F>
void SetPlaces(const Layout& layout, int64_t samples, std::index_sequence<k...>,
               const std::array<R*, sizeof...(k)>& values, F of_group) {
  const int64_t period = layout.Period(), groups = layout.groups();
  for (int64_t s = 0; s < samples; ++s) {
    R* const at[] = {values[k] + s * layout.stride()...};
    WithConstants(layout.parts(), layout.run(), [=](auto parts, auto run) {
      for (int64_t g = 0; g < groups; ++g) {
        const auto of_channel = of_group(s, s * groups + g, parts);
        const int64_t first = g * parts;
        (SetGroup<k>(at[k] + first * run, first, parts, run, of_channel), ...);
      }
    });
    for (R* start : at)
      for (int64_t lane = period; lane < layout.places(); lane += period)
        std::copy_n(start, period, start + lane);
  }
}

template <size_t kCount, class R, class F>
void SetPlaces(const Layout& layout, int64_t samples,
               const std::array<R*, kCount>& values, F of_group) {
  SetPlaces(layout, samples, std::make_index_sequence<kCount>(), values, of_group);
}

// The sum, as four chains of additions that a processor can overlap.
template <class R>
inline R Total(const R* values, int64_t count) {
  R part[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int k = 0; k < 4; ++k) part[k] += values[i + k];
  for (; i < count; ++i) part[0] += values[i];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// By columns: adds up the lanes of each run of `channels` channels.
template <class R>
void FoldLanes(const Layout& layout, int64_t samples, int64_t channels, Work<R>* work,
               Sums* sums) {
  const int64_t period = layout.Period(), run = channels * layout.run();
  for (int64_t s = 0; s < samples; ++s) {
    double* first = work->first() + s * layout.stride();
    double* second = work->second() + s * layout.stride();
    for (int64_t start = period; start < layout.places(); start += period) {
      for (int64_t i = 0; i < period; ++i) first[i] += first[start + i];
      for (int64_t i = 0; i < period; ++i) second[i] += second[start + i];
    }
    WithConstant(run, [&](auto run) {
      for (int64_t lane = 0; lane < period; lane += run)
        *sums++ = {Total(first + lane, run), Total(second + lane, run)};
    });
  }
}

// Set the places, each of which is a group's, to what its numbers have in common: the
// rest in place of the offset.
template <class R>
void SetGroups(const Statistics* stats, int64_t groups, Work<R>* work) {
  Run(Common<R>{stats, work->shift(), work->scale(), work->offset()}, 1, groups);
}

// One coefficient that is the same for all channels of a group.
template <class R>
auto Same(R value) {
  return [value](int64_t) GROUPNORM_EACH_CHANNEL { return std::array<R, 1>{value}; };
}

// A mean as a number that is taken off the data, and the small rest.
template <class R>
struct Center {
  explicit Center(double mean)
      : shift(static_cast<R>(mean)), rest(mean - shift) {}
  R shift;
  double rest;
};

// What x - shift lacks to be x - mean, in deviations.
template <class R>
R Rest(const Statistics& stats) {
  return static_cast<R>(Center<R>(stats.mean).rest * stats.rstd);
}

// Gamma or beta of a slice's channels; `absent` for each where there is none.
template <class R>
class Parameter {
 public:
  Parameter(const R* values, R absent, const Unit& unit, const Layout& layout)
      : values_(values ? values + unit.slice * layout.channels() : nullptr),
        absent_(absent) {}
  R operator()(int64_t c) const { return values_ ? values_[c] : absent_; }
  // As a factor or a term of a value for each of the first channels.
  void Multiply(R* with, int64_t channels) const {
    for (int64_t c = 0; values_ && c < channels; ++c) with[c] *= values_[c];
  }
  void Add(R* to, int64_t channels) const {
    for (int64_t c = 0; values_ && c < channels; ++c) to[c] += values_[c];
  }

 private:
  const R* values_;
  R absent_;
};

// Gamma or beta along the short rows: a value for each number of a sample, which
// are those given where a channel has one number.
template <class R>
class Lanes {
 public:
  Lanes() = default;
  Lanes(const Layout& layout, const R* values, R absent) {
    const Shape& shape = layout.shape();
    if (!layout.is_short()) return;
    lanes_ = values;
    if (values && shape.B == 1) return;
    spread_ = Raw<R>(shape.C * shape.B);
    for (int64_t c = 0; c < shape.C; ++c)
      std::fill_n(&spread_[c * shape.B], shape.B, values ? values[c] : absent);
    lanes_ = spread_.get();
  }
  const R* operator+(int64_t lane) const { return lanes_ + lane; }

 private:
  Block<R> spread_;
  const R* lanes_ = nullptr;
};

}  // namespace groupnorm

#endif  // GROUPNORM_COEFFICIENTS_H_
