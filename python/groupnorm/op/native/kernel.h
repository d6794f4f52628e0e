// Group normalization and its gradient: the numerics, without TensorFlow.
//
// Data are seen as (N, A, C, B): samples, positions before the channel axis,
// channels, positions after it. G groups of D = C / G consecutive channels
// each; statistics over A, D and B for each sample and group.
//
// How it is accurate: a first look at a few positions gives each group a shift
// near its mean; sums of (x - shift) and (x - shift)^2, in short float runs
// added up in double, give mean and variance. Where the shift turns out to be
// far from the mean, or the numbers leave float's range, those groups alone are
// summed again in double. Then x - mean is taken before anything is scaled.
//
// How results do not depend on the number of threads: work is cut into chunks
// by shape alone, and their sums are added in a fixed order.
#ifndef GROUPNORM_KERNEL_H_
#define GROUPNORM_KERNEL_H_

#include <cmath>
#include <type_traits>
#include <vector>

#include "loops.h"
#include "pool.h"

namespace groupnorm {

struct Shape {
  int64_t N, A, C, B, G;
  int64_t D() const { return C / G; }
  int64_t Positions() const { return A * B; }
  int64_t Size() const { return N * A * C * B; }
};

struct Statistics {
  double mean, rstd;
};

// Sums of a group (of d and d^2) or of a channel (of dy and dy * xhat).
struct Sums {
  double first = 0, second = 0;
  void operator+=(const Sums& other) {
    first += other.first;
    second += other.second;
  }
};

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// How one sample is cut up, and which lane holds which channel.
//
// A slice is a part of a sample that is worked on by itself: all channels where
// the channels lie close together ("rows"), one group where each channel is a
// long run of values ("runs"). Elements of a slice are numbered from 0, and a
// chunk is a range of these numbers.
class Layout {
 public:
  explicit Layout(const Shape& shape) : shape_(shape) {
    runs_ = shape.B >= kRun;
    slices_ = runs_ ? shape.G : 1;
    groups_ = shape.G / slices_;
    channels_ = shape.C / slices_;
    channel_lanes_ = runs_ ? kRun : shape.B;
    lanes_ = Period() * (runs_ ? 1 : PositionsSideBySide());
    width_ = runs_ ? kRun : lanes_;
    elements_ = shape.Positions() * channels_;
    chunk_ = RoundUp(std::max(kChunk, CeilDiv(elements_, kMostChunks)), width_);
  }

  const Shape& shape() const { return shape_; }
  int64_t slices() const { return slices_; }
  int64_t groups() const { return groups_; }      // of a slice
  int64_t channels() const { return channels_; }  // of a slice
  int64_t D() const { return shape_.D(); }
  int64_t chunks() const { return CeilDiv(elements_, chunk_); }
  int64_t lanes() const { return lanes_; }
  // Neighbouring lanes that belong to one channel.
  int64_t channel_lanes() const { return channel_lanes_; }

  // Lanes after which the channels start again.
  int64_t Period() const { return channel_lanes_ * channels_; }

  // Calls f(offset, rows, width, lane) for the pieces of a chunk: rows of
  // `width` elements that lie one after the other from `offset` on.
  template <class F>
  void ForEachPiece(int64_t sample, int64_t slice, int64_t chunk, F f) const {
    const int64_t begin = chunk * chunk_;
    const int64_t end = std::min(elements_, begin + chunk_);
    if (!runs_) return Rows(sample * elements_ + begin, end - begin, 0, f);
    const int64_t B = shape_.B;
    for (int64_t at = begin; at < end;) {
      const int64_t d = at / B % channels_, a = at / (B * channels_), b = at % B;
      const int64_t count = std::min(B - b, end - at);
      Rows(RunOffset(sample, slice, a, d) + b, count, d * kRun, f);
      at += count;
    }
  }

  // Calls f(offset, rows, stride, width, lane) for a few positions, spread
  // evenly and away from the ends. Returns how many values of a group that is.
  template <class F>
  int64_t ForEachProbe(int64_t sample, int64_t slice, F f) const {
    const int64_t B = shape_.B;
    if (!runs_) {
      const int64_t rows = Between(1, shape_.A / 32, 8);
      const int64_t step = shape_.A / rows;
      f(sample * elements_ + step / 2 * Period(), rows, step * Period(),
        Period(), 0);
      return rows * B * shape_.D();
    }
    const int64_t probes = Between(1, elements_ / 512, 16);
    const int64_t step = elements_ / probes;
    for (int64_t at = step / 2; at < probes * step; at += step) {
      const int64_t d = at / B % channels_, a = at / (B * channels_);
      const int64_t b = std::min(at % B, B - kRun);
      f(RunOffset(sample, slice, a, d) + b, 1, kRun, kRun, d * kRun);
    }
    return probes * kRun;
  }

 private:
  static constexpr int64_t kRun = 32;        // lanes of a channel, in "runs"
  static constexpr int64_t kMinLanes = 64;   // in "rows"
  static constexpr int64_t kChunk = 65536;   // elements
  static constexpr int64_t kMostChunks = 256;

  static int64_t Between(int64_t low, int64_t value, int64_t high) {
    return std::max(low, std::min(value, high));
  }

  // In "rows": as many positions as make whole vectors, and enough of them.
  int64_t PositionsSideBySide() const {
    int64_t positions = 1;
    while (Period() * positions % kPad != 0) positions *= 2;
    positions *= CeilDiv(kMinLanes, Period() * positions);
    return std::min(shape_.A, positions);
  }

  int64_t RunOffset(int64_t sample, int64_t slice, int64_t a, int64_t d) const {
    const int64_t c = slice * channels_ + d;
    return ((sample * shape_.A + a) * shape_.C + c) * shape_.B;
  }

  template <class F>
  void Rows(int64_t offset, int64_t count, int64_t lane, F f) const {
    const int64_t rows = count / width_, whole = rows * width_;
    if (rows > 0) f(offset, rows, width_, lane);
    if (count > whole) f(offset + whole, 1, count - whole, lane);
  }

  const Shape shape_;
  bool runs_;
  int64_t slices_, groups_, channels_, channel_lanes_, lanes_, width_;
  int64_t elements_, chunk_;
};

// One value per lane of everything that the loops read or add to.
template <class R>
class Lanes {
 public:
  explicit Lanes(const Layout& layout)
      : size_(RoundUp(layout.lanes(), kPad)),
        reals_(5 * size_),
        doubles_(3 * size_) {}

  R* shift() { return &reals_[0]; }
  R* scale() { return &reals_[size_]; }
  R* slope() { return &reals_[2 * size_]; }
  R* curve() { return &reals_[3 * size_]; }
  R* offset() { return &reals_[4 * size_]; }
  double* exact_shift() { return &doubles_[0]; }
  double* first() { return &doubles_[size_]; }
  double* second() { return &doubles_[2 * size_]; }

  void ClearSums() { std::fill(first(), first() + 2 * size_, 0.0); }

 private:
  const int64_t size_;
  std::vector<R> reals_;
  std::vector<double> doubles_;
};

// Sets every lane of channel c, in group g, to of_group(g)(c).
template <class R, class F>
void SetLanes(const Layout& layout, R* values, F of_group) {
  const int64_t D = layout.D(), run = layout.channel_lanes();
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const auto value = of_group(g);
    const int64_t end = (g + 1) * D;
    if (run == 1) {
      for (int64_t c = g * D; c < end; ++c) values[c] = value(c);
    } else {
      for (int64_t c = g * D; c < end; ++c)
        std::fill_n(values + c * run, run, value(c));
    }
  }
  const int64_t period = layout.Period();
  for (int64_t lane = period; lane < layout.lanes(); lane += period)
    std::copy_n(values, period, values + lane);
}

// The sum, as four chains of additions that a processor can overlap.
inline double Total(const double* values, int64_t count) {
  double part[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int k = 0; k < 4; ++k) part[k] += values[i + k];
  for (; i < count; ++i) part[0] += values[i];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// Adds up the lanes of each run of `channels` channels.
template <class R>
void FoldLanes(const Layout& layout, int64_t channels, Lanes<R>* lanes,
               Sums* sums) {
  const int64_t period = layout.Period();
  double *first = lanes->first(), *second = lanes->second();
  for (int64_t start = period; start < layout.lanes(); start += period) {
    for (int64_t i = 0; i < period; ++i) first[i] += first[start + i];
    for (int64_t i = 0; i < period; ++i) second[i] += second[start + i];
  }
  const int64_t run = channels * layout.channel_lanes();
  for (int64_t lane = 0; lane < period; lane += run)
    *sums++ = {Total(first + lane, run), Total(second + lane, run)};
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

// A slice of a sample; the samples are numbered in blocks.
struct Unit {
  int64_t sample, slice, block;
};

// Gamma or beta of a unit's channels; `absent` for each where there is none.
template <class R>
class Parameter {
 public:
  Parameter(const R* values, R absent, const Unit& unit, const Layout& layout)
      : values_(values ? values + unit.slice * layout.channels() : nullptr),
        absent_(absent) {}
  R operator()(int64_t c) const { return values_ ? values_[c] : absent_; }

 private:
  const R* values_;
  R absent_;
};

template <class R>
auto Constant(R value) {
  return [value](int64_t) { return value; };
}

// Runs the two passes over all units, on the threads there are. A plan has
//   Start(unit, lanes)              before anything else
//   Load(unit, lanes)               fills the lanes for the first pass
//   Sum(unit, chunk, lanes, part)   first pass, over one chunk
//   Finish(unit, total, lanes)      once, with the sums of all chunks
//   SetUp(unit, total, lanes)       fills the lanes for the second pass
//   Apply(unit, chunk, lanes)       second pass, over one chunk
// where a part or total is `sums` Sums.
template <class R>
class Schedule {
 public:
  Schedule(const Layout& layout, int64_t sums)
      : layout_(layout),
        N_(layout.shape().N),
        slices_(layout.slices()),
        chunks_(layout.chunks()),
        sums_(sums) {
    const int threads = layout.shape().Size() < kInline ? 1 : Threads();
    split_ = threads > 1 && chunks_ > 1 && N_ * slices_ < 4 * threads;
    const int64_t tasks = split_ ? N_ * slices_ * chunks_ : Blocks() * slices_;
    slots_ = static_cast<int>(std::min<int64_t>(threads, tasks));
    lanes_.reserve(slots_);
    for (int slot = 0; slot < slots_; ++slot) lanes_.emplace_back(layout);
  }

  // Blocks are made by shape alone. They bound the memory that gradients of
  // gamma and beta take, since those are added up in place within a block.
  int64_t Blocks() const { return std::min<int64_t>(N_, 256); }

  template <class Plan>
  void Run(Plan* plan) {
    split_ ? RunSplit(plan) : RunWhole(plan);
  }

 private:
  static constexpr int64_t kInline = 32768;  // elements not worth a thread

  // A unit is one thread's: what the first pass read is in its cache for the
  // second.
  template <class Plan>
  void RunWhole(Plan* plan) {
    std::vector<Sums> scratch(2 * sums_ * slots_);
    ForEach(Blocks() * slices_, slots_, [&](int64_t task, int slot) {
      const int64_t block = task / slices_, slice = task % slices_;
      Sums* total = &scratch[2 * sums_ * slot];
      for (int64_t n = Begin(block); n < Begin(block + 1); ++n)
        RunUnit(plan, Unit{n, slice, block}, total, &lanes_[slot]);
    });
  }

  template <class Plan>
  void RunUnit(Plan* plan, const Unit& unit, Sums* total, Lanes<R>* lanes) {
    Sums* part = total + sums_;
    plan->Start(unit, lanes);
    plan->Load(unit, lanes);
    plan->Sum(unit, 0, lanes, total);
    for (int64_t chunk = 1; chunk < chunks_; ++chunk) {
      plan->Sum(unit, chunk, lanes, part);
      Add(part, total);
    }
    plan->Finish(unit, total, lanes);
    plan->SetUp(unit, total, lanes);
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      plan->Apply(unit, chunk, lanes);
  }

  // Few units: the threads share each of them, chunk by chunk.
  template <class Plan>
  void RunSplit(Plan* plan) {
    std::vector<Sums> parts(N_ * slices_ * chunks_ * sums_);
    const auto part = [&](int64_t unit, int64_t chunk) {
      return &parts[(unit * chunks_ + chunk) * sums_];
    };
    const int64_t units = N_ * slices_;
    for (int64_t i = 0; i < units; ++i) plan->Start(At(i), &lanes_[0]);
    ForEach(units * chunks_, slots_, [&](int64_t task, int slot) {
      const int64_t i = task / chunks_, chunk = task % chunks_;
      plan->Load(At(i), &lanes_[slot]);
      plan->Sum(At(i), chunk, &lanes_[slot], part(i, chunk));
    });
    for (int64_t i = 0; i < units; ++i) {
      for (int64_t chunk = 1; chunk < chunks_; ++chunk)
        Add(part(i, chunk), part(i, 0));
      plan->Finish(At(i), part(i, 0), &lanes_[0]);
    }
    ForEach(units * chunks_, slots_, [&](int64_t task, int slot) {
      const int64_t i = task / chunks_, chunk = task % chunks_;
      plan->SetUp(At(i), part(i, 0), &lanes_[slot]);
      plan->Apply(At(i), chunk, &lanes_[slot]);
    });
  }

  void Add(const Sums* part, Sums* total) const {
    for (int64_t i = 0; i < sums_; ++i) total[i] += part[i];
  }

  // First sample of a block.
  int64_t Begin(int64_t block) const { return N_ * block / Blocks(); }

  Unit At(int64_t i) const {
    const int64_t sample = i / slices_;
    int64_t block = sample * Blocks() / N_;
    while (Begin(block + 1) <= sample) ++block;
    return {sample, i % slices_, block};
  }

  const Layout& layout_;
  const int64_t N_, slices_, chunks_, sums_;
  bool split_;
  int slots_;
  std::vector<Lanes<R>> lanes_;
};

template <class T>
class ForwardPlan {
  using R = RealOf<T>;

 public:
  ForwardPlan(const Layout& layout, const T* x, const R* gamma, const R* beta,
              double epsilon, T* y, Statistics* stats)
      : layout_(layout),
        count_(layout.shape().Positions() * layout.shape().D()),
        x_(x),
        gamma_(gamma),
        beta_(beta),
        epsilon_(epsilon),
        y_(y),
        stats_(stats) {}

  // A shift near the mean, kept where the mean will be.
  void Start(const Unit& unit, Lanes<R>* lanes) {
    std::fill_n(lanes->shift(), layout_.lanes(), R(0));
    lanes->ClearSums();
    const int64_t count = layout_.ForEachProbe(
        unit.sample, unit.slice,
        [&](int64_t offset, int64_t rows, int64_t stride, int64_t width,
            int64_t lane) {
          groupnorm::Run(
              Moments<T, R>{x_ + offset, stride, lanes->shift() + lane,
                            lanes->first() + lane, lanes->second() + lane},
              rows, width);
        });
    std::vector<Sums> sums(layout_.groups());
    FoldLanes(layout_, layout_.D(), lanes, sums.data());
    Statistics* stats = StatsOf(unit);
    for (int64_t g = 0; g < layout_.groups(); ++g) {
      const R shift = static_cast<R>(sums[g].first / count);
      stats[g].mean = std::isfinite(shift) ? shift : 0;
    }
  }

  void Load(const Unit& unit, Lanes<R>* lanes) {
    const Statistics* stats = StatsOf(unit);
    SetLanes(layout_, lanes->shift(),
             [&](int64_t g) { return Constant(static_cast<R>(stats[g].mean)); });
  }

  void Sum(const Unit& unit, int64_t chunk, Lanes<R>* lanes, Sums* part) {
    lanes->ClearSums();
    SumRows<R>(unit, chunk, lanes->shift(), lanes);
    FoldLanes(layout_, layout_.D(), lanes, part);
  }

  void Finish(const Unit& unit, Sums* total, Lanes<R>* lanes) {
    Statistics* stats = StatsOf(unit);
    bool good = true;
    for (int64_t g = 0; g < layout_.groups(); ++g) good &= Good(total[g]);
    if (!good) SumExactly(unit, total, lanes);
    for (int64_t g = 0; g < layout_.groups(); ++g) {
      const double rest = total[g].first / count_;
      stats[g].mean += rest;
      stats[g].rstd = 1 / std::sqrt(Variance(total[g]) + epsilon_);
    }
  }

  void SetUp(const Unit& unit, const Sums*, Lanes<R>* lanes) {
    const Statistics* stats = StatsOf(unit);
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const Parameter<R> beta(beta_, 0, unit, layout_);
    SetLanes(layout_, lanes->shift(), [&](int64_t g) {
      return Constant(Center<R>(stats[g].mean).shift);
    });
    SetLanes(layout_, lanes->scale(), [&](int64_t g) {
      return [=, rstd = static_cast<R>(stats[g].rstd)](int64_t c) {
        return gamma(c) * rstd;
      };
    });
    SetLanes(layout_, lanes->offset(), [&](int64_t g) {
      return [=, rest = Rest<R>(stats[g])](int64_t c) {
        return beta(c) - gamma(c) * rest;
      };
    });
  }

  void Apply(const Unit& unit, int64_t chunk, Lanes<R>* lanes) {
    layout_.ForEachPiece(
        unit.sample, unit.slice, chunk,
        [&](int64_t offset, int64_t rows, int64_t width, int64_t lane) {
          groupnorm::Run(Affine<T>{x_ + offset, y_ + offset, width,
                                   lanes->shift() + lane, lanes->scale() + lane,
                                   lanes->offset() + lane},
                         rows, width);
        });
  }

 private:
  Statistics* StatsOf(const Unit& unit) const {
    return stats_ + unit.sample * layout_.shape().G +
           unit.slice * layout_.groups();
  }

  template <class S>
  void SumRows(const Unit& unit, int64_t chunk, const S* shift,
               Lanes<R>* lanes) {
    layout_.ForEachPiece(
        unit.sample, unit.slice, chunk,
        [&](int64_t offset, int64_t rows, int64_t width, int64_t lane) {
          groupnorm::Run(
              Moments<T, S>{x_ + offset, width, shift + lane,
                            lanes->first() + lane, lanes->second() + lane},
              rows, width);
        });
  }

  double Variance(const Sums& sums) const {
    const double rest = sums.first / count_;
    const double variance = sums.second / count_ - rest * rest;
    return variance < 0 ? 0 : variance;  // and a NaN stays one
  }

  // Whether float sums are good enough: nothing over- or underflowed that
  // matters, and the shift was near enough to the mean for the digits to be
  // there after rest^2 is taken off.
  bool Good(const Sums& sums) const {
    const double rest = sums.first / count_;
    const double v = Variance(sums) + epsilon_;
    const bool in_range = std::is_same<R, double>::value || (v > 1e-24 && v < 1e36);
    return in_range && rest * rest <= 3 * v;
  }

  // Again for the groups that need it, in double and around the mean.
  void SumExactly(const Unit& unit, Sums* total, Lanes<R>* lanes) {
    Statistics* stats = StatsOf(unit);
    std::vector<Sums> exact(layout_.groups()), part(layout_.groups());
    std::vector<double> shift(layout_.groups());
    for (int64_t g = 0; g < layout_.groups(); ++g) {
      const double mean = stats[g].mean + total[g].first / count_;
      shift[g] = std::isfinite(mean) ? mean : stats[g].mean;
    }
    SetLanes(layout_, lanes->exact_shift(),
             [&](int64_t g) { return Constant(shift[g]); });
    for (int64_t chunk = 0; chunk < layout_.chunks(); ++chunk) {
      lanes->ClearSums();
      SumRows<double>(unit, chunk, lanes->exact_shift(), lanes);
      FoldLanes(layout_, layout_.D(), lanes, part.data());
      for (int64_t g = 0; g < layout_.groups(); ++g) exact[g] += part[g];
    }
    for (int64_t g = 0; g < layout_.groups(); ++g) {
      if (Good(total[g])) continue;
      stats[g].mean = shift[g];
      total[g] = exact[g];
    }
  }

  const Layout& layout_;
  const int64_t count_;  // values in a group
  const T* const x_;
  const R *const gamma_, *const beta_;
  const double epsilon_;
  T* const y_;
  Statistics* const stats_;
};

template <class T>
class BackwardPlan {
  using R = RealOf<T>;

 public:
  // `blocks` has Sums for each channel and block of samples, set to zero.
  BackwardPlan(const Layout& layout, const T* x, const R* gamma,
               const Statistics* stats, const T* dy, T* dx, Sums* blocks)
      : layout_(layout),
        count_(layout.shape().Positions() * layout.shape().D()),
        x_(x),
        gamma_(gamma),
        stats_(stats),
        dy_(dy),
        dx_(dx),
        blocks_(blocks) {}

  void Start(const Unit&, Lanes<R>*) {}

  void Load(const Unit& unit, Lanes<R>* lanes) {
    const Statistics* stats = StatsOf(unit);
    SetLanes(layout_, lanes->shift(), [&](int64_t g) {
      return Constant(Center<R>(stats[g].mean).shift);
    });
    SetLanes(layout_, lanes->scale(), [&](int64_t g) {
      return Constant(static_cast<R>(stats[g].rstd));
    });
  }

  void Sum(const Unit& unit, int64_t chunk, Lanes<R>* lanes, Sums* part) {
    lanes->ClearSums();
    layout_.ForEachPiece(
        unit.sample, unit.slice, chunk,
        [&](int64_t offset, int64_t rows, int64_t width, int64_t lane) {
          groupnorm::Run(GradientSums<T>{x_ + offset, dy_ + offset, width,
                                         lanes->shift() + lane,
                                         lanes->scale() + lane,
                                         lanes->first() + lane,
                                         lanes->second() + lane},
                         rows, width);
        });
    FoldLanes(layout_, 1, lanes, part);
  }

  void Finish(const Unit& unit, Sums* total, Lanes<R>*) {
    const Statistics* stats = StatsOf(unit);
    Sums* block = blocks_ + unit.block * layout_.shape().C +
                  unit.slice * layout_.channels();
    for (int64_t g = 0, c = 0; g < layout_.groups(); ++g) {
      const double rest = Rest<R>(stats[g]);
      for (const int64_t end = c + layout_.D(); c < end; ++c) {
        total[c].second -= total[c].first * rest;
        block[c] += total[c];
      }
    }
  }

  // With m = mean of gamma * dy and k = mean of gamma * dy * xhat in a group,
  // dx = rstd * (gamma * dy - m - xhat * k).
  void SetUp(const Unit& unit, const Sums* total, Lanes<R>* lanes) {
    const Statistics* stats = StatsOf(unit);
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    std::vector<Sums> mean(layout_.groups());
    for (int64_t g = 0, c = 0; g < layout_.groups(); ++g)
      for (const int64_t end = c + layout_.D(); c < end; ++c)
        mean[g] += Sums{gamma(c) * total[c].first / count_,
                        gamma(c) * total[c].second / count_};
    Load(unit, lanes);
    SetLanes(layout_, lanes->slope(), [&](int64_t g) {
      return [=, rstd = static_cast<R>(stats[g].rstd)](int64_t c) {
        return gamma(c) * rstd;
      };
    });
    SetLanes(layout_, lanes->curve(), [&](int64_t g) {
      return Constant(static_cast<R>(-stats[g].rstd * mean[g].second));
    });
    SetLanes(layout_, lanes->offset(), [&](int64_t g) {
      const double rest = Rest<R>(stats[g]);
      return Constant(static_cast<R>(
          stats[g].rstd * (rest * mean[g].second - mean[g].first)));
    });
  }

  void Apply(const Unit& unit, int64_t chunk, Lanes<R>* lanes) {
    layout_.ForEachPiece(
        unit.sample, unit.slice, chunk,
        [&](int64_t offset, int64_t rows, int64_t width, int64_t lane) {
          groupnorm::Run(
              Gradient<T>{x_ + offset, dy_ + offset, dx_ + offset, width,
                          lanes->shift() + lane, lanes->scale() + lane,
                          lanes->slope() + lane, lanes->curve() + lane,
                          lanes->offset() + lane},
              rows, width);
        });
  }

 private:
  const Statistics* StatsOf(const Unit& unit) const {
    return stats_ + unit.sample * layout_.shape().G +
           unit.slice * layout_.groups();
  }

  const Layout& layout_;
  const int64_t count_;
  const T* const x_;
  const R* const gamma_;
  const Statistics* const stats_;
  const T* const dy_;
  T* const dx_;
  Sums* const blocks_;
};

// y may be x. A null gamma is all ones, a null beta all zeros. Takes N * G
// statistics.
template <class T>
void Forward(const Shape& shape, const T* x, const RealOf<T>* gamma,
             const RealOf<T>* beta, double epsilon, T* y, Statistics* stats) {
  if (shape.Size() == 0) {
    std::fill_n(stats, shape.N * shape.G, Statistics{0, 0});
    return;
  }
  const Layout layout(shape);
  ForwardPlan<T> plan(layout, x, gamma, beta, epsilon, y, stats);
  Schedule<RealOf<T>>(layout, layout.groups()).Run(&plan);
}

// dx may be x or dy. A null dgamma or dbeta is left out.
template <class T>
void Backward(const Shape& shape, const T* x, const RealOf<T>* gamma,
              const Statistics* stats, const T* dy, T* dx, RealOf<T>* dgamma,
              RealOf<T>* dbeta) {
  std::vector<Sums> total(shape.C);
  if (shape.Size() > 0) {
    const Layout layout(shape);
    Schedule<RealOf<T>> schedule(layout, layout.channels());
    std::vector<Sums> blocks(schedule.Blocks() * shape.C);
    BackwardPlan<T> plan(layout, x, gamma, stats, dy, dx, blocks.data());
    schedule.Run(&plan);
    for (size_t i = 0; i < blocks.size(); ++i) total[i % shape.C] += blocks[i];
  }
  for (int64_t c = 0; c < shape.C; ++c) {
    if (dgamma) dgamma[c] = static_cast<RealOf<T>>(total[c].second);
    if (dbeta) dbeta[c] = static_cast<RealOf<T>>(total[c].first);
  }
}

}  // namespace groupnorm

#endif  // GROUPNORM_KERNEL_H_
