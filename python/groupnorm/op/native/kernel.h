// Group normalization and its gradient: the numerics, without TensorFlow.
//
// Data are seen as (N, A, C, B): samples, positions before the channel axis,
// channels, positions after it. G groups of D = C / G consecutive channels
// each; statistics over A, D and B for each sample and group.
//
// What is done when:
//   once a call      the layout is chosen, memory for each thread is taken
//                    (Schedule), gradients of gamma and beta are added up
//   once a batch     of samples that together are worth a visit, or a slice of
//                    a large one (Unit): sums become statistics, and these
//                    become coefficients (ForwardPlan, BackwardPlan)
//   once a number    the loops, twice: for the sums, and for the result
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

#include <array>
#include <cmath>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "loops.h"
#include "pool.h"

// Of a function that every channel goes through: compilers would rather call it.
#define GROUPNORM_EACH_CHANNEL __attribute__((always_inline))

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
      int64_t i = first + 1;
      while (i < last && (values[i] != 0) == counts) ++i;
      const int64_t stop = std::min(end, i * repeat_);
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
  const unsigned char* values_ = nullptr;
  int64_t positions_ = 1, repeat_ = 1;
};

// A batch of samples, or a slice of one; units are numbered in blocks.
struct Unit {
  int64_t sample, samples, slice, block;
};

// How the data are seen as a matrix, and how they are cut up.
//
// By columns: a sample is a matrix with a row for each position before the
// channels. Everything that has a channel is a column, and there is one
// coefficient for each lane of a row (or of several rows side by side).
//
// By rows, where much of a group lies in one piece: a row is a channel's piece,
// and there is one coefficient for each row. Where these pieces are short, a
// row is a whole group's piece, and gamma and beta lie along it ("short").
//
// The places of a coefficient are lanes or rows; `parts` of them in a group.
class Layout {
 public:
  Layout(const Shape& shape, bool masked) : shape_(shape) {
    const int64_t piece = shape.D() * shape.B;  // of a group, in one
    const int64_t sample = shape.Positions() * shape.C;
    const bool torn = masked && shape.B > 1;  // where part of a piece counts
    by_rows_ = shape.B >= kRun || torn || (shape.A == 1 && piece >= kPad);
    short_ = by_rows_ && shape.B < kRun && !torn;
    const int64_t batch = Between(1, (short_ ? kShortBatch : kBatch) / sample, 64);
    batch_ = by_rows_ && shape.A > 1 ? 1 : std::min(shape.N, batch);
    groups_ = shape.G;
    if (by_rows_) {
      groups_ = 1;
      while (shape.G % groups_ || groups_ * shape.A * piece < kBatch) {
        if (groups_ == shape.G) break;
        ++groups_;
      }
    }
    channels_ = groups_ * shape.D();
    elements_ = shape.Positions() * channels_;
    side_by_side_ = by_rows_ ? 1 : PositionsSideBySide();
    parts_ = short_ ? 1 : shape.D();
    run_ = by_rows_ ? 1 : shape.B;
    places_ = groups_ * parts_ * run_ * side_by_side_;
    width_ = by_rows_ ? shape.B : places_;
    chunk_ = elements_;
    if (batch_ == 1 && !short_ && (groups_ == 1 || !by_rows_))
      chunk_ = RoundUp(std::max(kChunk, CeilDiv(elements_, kMostChunks)),
                       by_rows_ ? kPad : width_);
  }

  const Shape& shape() const { return shape_; }
  bool by_rows() const { return by_rows_; }
  bool is_short() const { return short_; }
  int64_t batch() const { return batch_; }  // most samples of a unit
  int64_t slices() const { return shape_.G / groups_; }
  int64_t groups() const { return groups_; }      // of a slice
  int64_t channels() const { return channels_; }  // of a slice
  int64_t D() const { return shape_.D(); }
  int64_t chunks() const { return CeilDiv(elements_, chunk_); }
  int64_t parts() const { return parts_; }
  // Of a sample in a unit, and with what it takes to keep columns aligned.
  int64_t places() const { return places_; }
  int64_t stride() const { return by_rows_ ? places_ : RoundUp(places_, kPad); }
  // Neighbouring lanes that belong to one channel.
  int64_t run() const { return run_; }
  // Places after which the channels start again.
  int64_t Period() const { return groups_ * parts_ * run_; }
  // Numbers of a group that lie in one piece.
  int64_t Piece() const { return shape_.D() * shape_.B; }

  // By columns: calls f(s, offset, rows, width, counts) for the pieces of a
  // chunk, rows of `width` elements that lie one after the other from `offset`
  // on, of the unit's sample s.
  template <class F>
  void ForEachColumnPiece(const Unit& unit, int64_t chunk, const Mask& mask,
                          F f) const {
    const int64_t begin = chunk * chunk_;
    const int64_t end = std::min(elements_, begin + chunk_);
    const int64_t row = channels_ * shape_.B;  // of one position before them
    for (int64_t s = 0; s < unit.samples; ++s) {
      const int64_t sample = unit.sample + s;
      const auto rows = [&](int64_t from, int64_t to, bool counts) {
        const int64_t count = (to - from) * row, offset = sample * elements_ + from * row;
        const int64_t whole = count / width_ * width_;
        if (whole > 0) f(s, offset, count / width_, width_, counts);
        if (count > whole) f(s, offset + whole, 1, count - whole, counts);
      };
      mask.ForEachRange(sample, begin / row, end / row, rows);
    }
  }

  // By rows: calls f(offset, row, rows, column, width) for the pieces of a
  // chunk, cut into rows of `width` of which each position before the channels
  // has a whole number. The first one is the unit's row `row`, from `column` on.
  template <class F>
  void ForEachRowPiece(const Unit& unit, int64_t chunk, int64_t width, F f) const {
    // Several samples lie in one piece.
    const int64_t length = channels_ * shape_.B * unit.samples;
    const int64_t begin = chunk * chunk_;
    const int64_t end = unit.samples > 1 ? length : std::min(elements_, begin + chunk_);
    for (int64_t at = begin; at < end;) {
      const int64_t a = at / length, row = at % length / width, column = at % width;
      const int64_t left = std::min(end, (a + 1) * length) - at;
      const int64_t offset = Offset(unit, a) + at % length;
      const bool whole = column == 0 && left >= width;
      const int64_t rows = whole ? left / width : 1;
      const int64_t columns = whole ? width : std::min(width - column, left);
      f(offset, row, rows, column, columns);
      at += rows * columns;
    }
  }

  // The same, with each piece cut where the mask changes, and whether it counts:
  // f(offset, row, rows, width, counts), where a row is `stride` elements long.
  template <class F>
  void ForEachMaskedPiece(const Unit& unit, int64_t chunk, const Mask& mask,
                          int64_t stride, F f) const {
    const int64_t in_sample = channels_ * shape_.B / stride;
    ForEachRowPiece(unit, chunk, stride, [&](int64_t offset, int64_t row, int64_t rows,
                                             int64_t column, int64_t columns) {
      if (!mask) return f(offset, row, rows, columns, true);
      for (const int64_t end = row + rows; row < end;) {
        const int64_t count = std::min(end - row, in_sample - row % in_sample);
        const int64_t before = offset / (shape_.C * shape_.B);
        const int64_t first = before % shape_.A * shape_.B + column;
        // All of a group's piece is at one position if a row is that piece.
        const int64_t size = short_ ? 1 : columns;
        const auto part = [&](int64_t from, int64_t to, bool counts) {
          f(offset + from - first, row, count, short_ ? columns : to - from, counts);
        };
        mask.ForEachRange(before / shape_.A, first, first + size, part);
        row += count;
        offset += count * stride;
      }
    });
  }

  // The unit's first element at a position before the channels.
  int64_t Offset(const Unit& unit, int64_t a) const {
    return ((unit.sample * shape_.A + a) * shape_.C + unit.slice * channels_) *
           shape_.B;
  }

 private:
  static constexpr int64_t kRun = 32;  // a channel's numbers that make a row
  static constexpr int64_t kMinLanes = 64;
  static constexpr int64_t kBatch = 2048;   // elements
  // More where coefficients are few: sums for each lane are then put away less often.
  static constexpr int64_t kShortBatch = 16384;
  static constexpr int64_t kChunk = 65536;  // elements
  static constexpr int64_t kMostChunks = 256;

  // By columns: as many positions as make whole vectors, and enough of them.
  int64_t PositionsSideBySide() const {
    const int64_t row = shape_.C * shape_.B;
    int64_t positions = 1;
    while (row * positions % kPad != 0) positions *= 2;
    positions *= CeilDiv(kMinLanes, row * positions);
    return std::min(shape_.A, positions);
  }

  const Shape shape_;
  bool by_rows_, short_;
  int64_t batch_, groups_, channels_, elements_, side_by_side_;
  int64_t parts_, run_, places_, width_, chunk_;
};

// Memory that is not set to anything.
template <class S>
std::unique_ptr<S[]> Raw(int64_t size) {
  return std::unique_ptr<S[]>(new S[size]);
}

// What a thread keeps of its unit: a value per place of everything that the
// loops read or add to, and one per group or channel of each sample.
template <class R>
class Work {
 public:
  explicit Work(const Layout& layout)
      : size_(layout.batch() * layout.stride()),
        groups_(layout.batch() * layout.groups()),
        reals_(Raw<R>(6 * size_)),
        doubles_(layout.by_rows() ? nullptr : Raw<double>(3 * size_)),
        shifts_(Raw<R>(groups_)),
        lanes_(layout.is_short() ? Raw<R>(2 * layout.Piece() * layout.groups())
                                 : nullptr) {
    const int64_t stride = layout.stride(), places = layout.places();
    for (int64_t at = 0; at < 6 * size_; at += stride)
      std::fill_n(&reals_[at] + places, stride - places, R(0));
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
  R* lane_sum() { return lanes_.get(); }

  void ClearSums() { std::fill(first(), first() + 2 * size_, 0.0); }

 private:
  const int64_t size_, groups_;
  std::unique_ptr<R[]> reals_;
  std::unique_ptr<double[]> doubles_;
  std::unique_ptr<R[]> shifts_, lanes_;
};

// Call f(n), with the smallest numbers as constants: loops of so few steps cost
// little if the compiler can write them out.
template <class F>
void WithConstant(int64_t n, F f) {
  if (n == 1) return f(std::integral_constant<int64_t, 1>());
  if (n == 2) return f(std::integral_constant<int64_t, 2>());
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
// of_group(s, g)(c), where the groups g of all samples s are counted through.
template <size_t... k, class R, class F>
void SetPlaces(const Layout& layout, int64_t samples, std::index_sequence<k...>,
               const std::array<R*, sizeof...(k)>& values, F of_group) {
  const int64_t period = layout.Period();
  for (int64_t s = 0, i = 0; s < samples; ++s) {
    R* const at[] = {values[k] + s * layout.stride()...};
    WithConstants(layout.parts(), layout.run(), [&](auto parts, auto run) {
      for (int64_t g = 0; g < layout.groups(); ++g, ++i) {
        const auto of_channel = of_group(s, i);
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
inline double Total(const double* values, int64_t count) {
  double part[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int k = 0; k < 4; ++k) part[k] += values[i + k];
  for (; i < count; ++i) part[0] += values[i];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// By columns: adds up the lanes of each run of `channels` channels, of the first
// `lanes` lanes of a sample.
template <class R>
void FoldLanes(const Layout& layout, int64_t samples, int64_t channels, int64_t lanes,
               Work<R>* work, Sums* sums) {
  const int64_t period = layout.Period(), run = channels * layout.run();
  for (int64_t s = 0; s < samples; ++s) {
    double* first = work->first() + s * layout.stride();
    double* second = work->second() + s * layout.stride();
    for (int64_t start = period; start < lanes; start += period) {
      for (int64_t i = 0; i < period; ++i) first[i] += first[start + i];
      for (int64_t i = 0; i < period; ++i) second[i] += second[start + i];
    }
    WithConstant(run, [&](auto run) {
      for (int64_t lane = 0; lane < period; lane += run)
        *sums++ = {Total(first + lane, run), Total(second + lane, run)};
    });
  }
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
  std::unique_ptr<R[]> spread_;
  const R* lanes_ = nullptr;
};

// Run the two passes over all units, on the threads there are. A plan has
//   Start(unit, work)               before anything else
//   Load(unit, work)                coefficients for the first pass
//   Sum(unit, chunk, work, part)    first pass, over one chunk
//   Finish(unit, total, work)       once, with the sums of all chunks
//   SetUp(unit, total, work)        coefficients for the second pass, after Load
//   Apply(unit, chunk, work)        second pass, over one chunk
// where a part or total is `sums` Sums for each sample.
template <class R>
class Schedule {
 public:
  Schedule(const Layout& layout, int64_t sums)
      : layout_(layout),
        N_(layout.shape().N),
        slices_(layout.slices()),
        chunks_(layout.chunks()),
        sums_(sums * layout.batch()) {
    const int threads = layout.shape().Size() < kInline ? 1 : Threads();
    split_ = threads > 1 && chunks_ > 1 && N_ * slices_ < kTasks * threads;
    const int64_t tasks = split_ ? N_ * slices_ * chunks_ : Blocks() * slices_;
    slots_ = static_cast<int>(std::min<int64_t>(threads, tasks));
    work_.reserve(slots_);
    for (int slot = 0; slot < slots_; ++slot) work_.emplace_back(layout);
  }

  // Blocks are made by shape alone. They bound the memory that gradients of
  // gamma and beta take, since those are added up in place within a block.
  int64_t Blocks() const {
    const int64_t most = std::min<int64_t>(N_, 256);
    return Between(1, layout_.shape().Size() / kBlock, most);
  }

  template <class Plan>
  void Run(Plan* plan) {
    split_ ? RunSplit(plan) : RunWhole(plan);
  }

 private:
  static constexpr int64_t kInline = 49152;  // elements not worth a thread
  static constexpr int64_t kBlock = 16384;   // elements worth a task
  static constexpr int64_t kTasks = 4;  // for each thread, to share them out evenly

  // A unit is one thread's: what the first pass read is in its cache for the
  // second.
  template <class Plan>
  void RunWhole(Plan* plan) {
    const auto scratch = Raw<Sums>(2 * sums_ * slots_);
    ForEach(Blocks() * slices_, slots_, [&](int64_t task, int slot) {
      const int64_t block = task / slices_, slice = task % slices_;
      Sums* total = &scratch[2 * sums_ * slot];
      const int64_t end = Begin(block + 1);
      for (int64_t n = Begin(block); n < end; n += layout_.batch()) {
        const int64_t samples = std::min(layout_.batch(), end - n);
        RunUnit(plan, Unit{n, samples, slice, block}, total, &work_[slot]);
      }
    });
  }

  template <class Plan>
  void RunUnit(Plan* plan, const Unit& unit, Sums* total, Work<R>* work) {
    Sums* part = total + sums_;
    plan->Start(unit, work);
    plan->Load(unit, work);
    plan->Sum(unit, 0, work, total);
    for (int64_t chunk = 1; chunk < chunks_; ++chunk) {
      plan->Sum(unit, chunk, work, part);
      Add(part, total);
    }
    plan->Finish(unit, total, work);
    plan->SetUp(unit, total, work);
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      plan->Apply(unit, chunk, work);
  }

  // Few units: the threads share each of them, chunk by chunk. Not more of them at a
  // time than keep all threads busy: then they are in a cache for the second pass.
  template <class Plan>
  void RunSplit(Plan* plan) {
    const int64_t units = N_ * slices_;
    const int64_t some = std::min(units, CeilDiv(kTasks * slots_, chunks_));
    std::vector<Sums> parts(some * chunks_ * sums_);
    for (int64_t first = 0; first < units; first += some)
      RunTogether(plan, first, std::min(some, units - first), parts.data());
  }

  template <class Plan>
  void RunTogether(Plan* plan, int64_t first, int64_t units, Sums* parts) {
    const auto part = [&](int64_t unit, int64_t chunk) {
      return parts + (unit * chunks_ + chunk) * sums_;
    };
    for (int64_t i = 0; i < units; ++i) plan->Start(At(first + i), &work_[0]);
    ForEach(units * chunks_, slots_, [&](int64_t task, int slot) {
      const int64_t i = task / chunks_, chunk = task % chunks_;
      plan->Load(At(first + i), &work_[slot]);
      plan->Sum(At(first + i), chunk, &work_[slot], part(i, chunk));
    });
    for (int64_t i = 0; i < units; ++i) {
      for (int64_t chunk = 1; chunk < chunks_; ++chunk)
        Add(part(i, chunk), part(i, 0));
      plan->Finish(At(first + i), part(i, 0), &work_[0]);
    }
    ForEach(units * chunks_, slots_, [&](int64_t task, int slot) {
      const int64_t i = task / chunks_, chunk = task % chunks_;
      plan->Load(At(first + i), &work_[slot]);
      plan->SetUp(At(first + i), part(i, 0), &work_[slot]);
      plan->Apply(At(first + i), chunk, &work_[slot]);
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
    return {sample, 1, i % slices_, block};
  }

  const Layout& layout_;
  const int64_t N_, slices_, chunks_, sums_;
  bool split_;
  int slots_;
  std::vector<Work<R>> work_;
};

// What both directions know: where a unit's statistics are, and how many
// values of its groups count.
class Groups {
 public:
  Groups(const Layout& layout, const Mask& mask) : layout_(layout), mask_(mask) {}

  // Of all samples of a unit.
  int64_t Of(const Unit& unit) const { return unit.samples * layout_.groups(); }

  // Of the unit's first group. A unit of several samples has all their groups.
  int64_t First(const Unit& unit) const {
    return unit.sample * layout_.shape().G + unit.slice * layout_.groups();
  }

  // How many values count in a group of the unit's sample s.
  int64_t Count(const Unit& unit, int64_t s) const {
    const int64_t positions = mask_ ? mask_.Count(unit.sample + s)
                                    : layout_.shape().Positions();
    return positions * layout_.D();
  }

  // 1 / that number, or 0 where there is none.
  double Share(const Unit& unit, int64_t s) const {
    const int64_t count = Count(unit, s);
    return count > 0 ? 1.0 / count : 0;
  }

 private:
  const Layout& layout_;
  const Mask& mask_;
};

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
        stats_(stats) {}

  // A shift near the mean, kept where the mean will be.
  void Start(const Unit& unit, Work<R>* work) {
    std::vector<Sums> sums(groups_.Of(unit));
    std::vector<int64_t> counts(unit.samples);
    layout_.by_rows() ? ProbeRows(unit, work, &sums, &counts)
                      : ProbeColumns(unit, work, &sums, &counts);
    Statistics* stats = StatsOf(unit);
    for (int64_t s = 0, g = 0; s < unit.samples; ++s) {
      const double share = counts[s] ? 1.0 / counts[s] : 0;
      for (int64_t i = 0; i < layout_.groups(); ++i, ++g) {
        const R shift = static_cast<R>(sums[g].first * share);
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
      SetPlaces<1, R>(layout_, unit.samples, {work->shift()}, [&](int64_t, int64_t g) {
        return Same(static_cast<R>(stats[g].mean));
      });
    }
  }

  void Sum(const Unit& unit, int64_t chunk, Work<R>* work, Sums* part) {
    const R* shift = layout_.by_rows() ? work->group_shift() : work->shift();
    SumMoments<R>(unit, chunk, shift, work, part);
  }

  void Finish(const Unit& unit, Sums* total, Work<R>* work) {
    Statistics* stats = StatsOf(unit);
    bool all = true;
    for (int64_t s = 0, i = 0; s < unit.samples; ++s) {
      const double share = groups_.Share(unit, s);
      for (int64_t g = 0; g < layout_.groups(); ++g, ++i) {
        const bool good = Good(total[i], share);
        if (good) stats[i] = Conclude(stats[i].mean, total[i], share);
        all &= good;
      }
    }
    if (!all) SumExactly(unit, total, work);
  }

  void SetUp(const Unit& unit, const Sums*, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const Parameter<R> beta(beta_, 0, unit, layout_);
    SetPlaces<3, R>(
        layout_, unit.samples, {work->shift(), work->scale(), work->offset()},
        [&](int64_t, int64_t g) {
          const R shift = Center<R>(stats[g].mean).shift, rest = Rest<R>(stats[g]);
          const R rstd = static_cast<R>(stats[g].rstd);
          return [&, shift, rest, rstd](int64_t c) GROUPNORM_EACH_CHANNEL {
            return std::array<R, 3>{shift, gamma(c) * rstd, beta(c) - gamma(c) * rest};
          };
        });
  }

  void Apply(const Unit& unit, int64_t chunk, Work<R>* work) {
    if (!layout_.by_rows()) {
      layout_.ForEachColumnPiece(
          unit, chunk, Mask(),
          [&](int64_t s, int64_t offset, int64_t rows, int64_t width, bool) {
            const int64_t lane = s * layout_.stride();
            groupnorm::Run(Affine<T>{x_ + offset, y_ + offset, width,
                                     work->shift() + lane, work->scale() + lane,
                                     work->offset() + lane},
                           rows, width);
          });
      return;
    }
    const int64_t width = layout_.is_short() ? layout_.Piece() : layout_.shape().B;
    const int64_t lane = unit.slice * layout_.groups() * layout_.Piece();
    layout_.ForEachRowPiece(
        unit, chunk, width,
        [&](int64_t offset, int64_t row, int64_t rows, int64_t, int64_t columns) {
          RowAffine<T> loop{x_ + offset, y_ + offset, columns, work->shift() + row,
                            work->scale() + row, work->offset() + row, nullptr,
                            nullptr, layout_.groups()};
          if (layout_.is_short()) {
            loop.gamma = gamma_lanes_ + lane;
            loop.beta = beta_lanes_ + lane;
          }
          groupnorm::Run(loop, rows, columns);
        });
  }

 private:
  Statistics* StatsOf(const Unit& unit) const { return stats_ + groups_.First(unit); }

  // Sums x over a few positions that count, spread evenly and away from the
  // ends. `counts` is how many values of a group that is, for each sample.
  void ProbeColumns(const Unit& unit, Work<R>* work, std::vector<Sums>* sums,
                    std::vector<int64_t>* counts) {
    const Shape& shape = layout_.shape();
    std::fill_n(work->shift(), unit.samples * layout_.stride(), R(0));
    work->ClearSums();
    for (int64_t s = 0; s < unit.samples; ++s) {
      const int64_t lane = s * layout_.stride(), sample = unit.sample + s;
      const auto probe = [&](int64_t a, int64_t rows, int64_t step) {
        const int64_t row = shape.C * shape.B;
        groupnorm::Run(
            Moments<T, R>{x_ + (sample * shape.A + a) * row, step * row,
                          work->shift() + lane, work->first() + lane,
                          work->second() + lane},
            rows, row);
        (*counts)[s] += rows * shape.B * shape.D();
      };
      mask_.ForEachRange(sample, 0, shape.Positions(),
                         [&](int64_t begin, int64_t end, bool counts) {
                           const int64_t rows = (end - begin) / shape.B;
                           // With few numbers of a group the shift is often far off,
                           // and all must be summed again.
                           const int64_t least = CeilDiv(8, shape.D() * shape.B);
                           const int64_t some =
                               std::min(rows, Between(least, rows / 32, 8));
                           const int64_t step = rows / some;
                           if (counts)
                             probe(begin / shape.B + step / 2, some, step);
                         });
    }
    FoldLanes(layout_, unit.samples, layout_.D(), layout_.Period(), work, sums->data());
  }

  void ProbeRows(const Unit& unit, Work<R>* work, std::vector<Sums>* sums,
                 std::vector<int64_t>* counts) {
    const Shape& shape = layout_.shape();
    const int64_t piece = layout_.Piece(), B = shape.B;
    const R zero = 0;
    std::fill_n(work->group_shift(), groups_.Of(unit), zero);
    if (!mask_ || layout_.is_short()) {
      const int64_t width = piece < 64 ? kPad : std::min<int64_t>(32, piece);
      const int64_t probes = Between(1, shape.A * piece / 512, 16);
      const int64_t step = shape.A * piece / probes;
      for (int64_t at = step / 2; at < probes * step; at += step) {
        const int64_t from = std::min(at % piece, piece - width);
        const T* x = x_ + layout_.Offset(unit, at / piece) + from;
        groupnorm::Run(RowMoments<T, R>{x, piece, work->group_shift(),
                                        sums->data(), 1},
                       groups_.Of(unit), width);
      }
      std::fill(counts->begin(), counts->end(), probes * width);
      return;
    }
    for (int64_t s = 0; s < unit.samples; ++s) {
      const int64_t groups = layout_.groups();
      const auto probe = [&](int64_t position, int64_t width) {
        // In the middle one of a group's channels.
        const Unit one = {unit.sample + s, 1, unit.slice, unit.block};
        const T* x = x_ + layout_.Offset(one, position / B) +
                     layout_.D() / 2 * B + position % B;
        groupnorm::Run(RowMoments<T, R>{x, piece, work->group_shift(),
                                        sums->data() + s * groups, 1},
                       groups, width);
        (*counts)[s] += width;
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
      return FoldLanes(layout_, unit.samples, layout_.D(), layout_.places(), work,
                       part);
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

  static double Variance(const Sums& sums, double share) {
    const double rest = sums.first * share;
    const double variance = sums.second * share - rest * rest;
    return variance < 0 ? 0 : variance;  // and a NaN stays one
  }

  // The statistics of a group whose sums are around `shift`.
  Statistics Conclude(double shift, const Sums& sums, double share) const {
    // Where nothing counts, whatever was seen is left out.
    if (share == 0) return {0, 1 / std::sqrt(epsilon_)};
    return {shift + sums.first * share,
            1 / std::sqrt(Variance(sums, share) + epsilon_)};
  }

  // Whether float sums are good enough: nothing over- or underflowed that
  // matters, and the shift was near enough to the mean for the digits to be
  // there after rest^2 is taken off.
  bool Good(const Sums& sums, double share) const {
    const double rest = sums.first * share;
    const double v = Variance(sums, share) + epsilon_;
    const bool in_range = std::is_same<R, double>::value || (v > 1e-24 && v < 1e36);
    return in_range && rest * rest <= 3 * v;
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
                           [&](int64_t, int64_t g) { return Same(shift[g]); });
    for (int64_t chunk = 0; chunk < layout_.chunks(); ++chunk) {
      const double* at = layout_.by_rows() ? shift.data() : work->exact_shift();
      SumMoments<double>(unit, chunk, at, work, part.data());
      for (int64_t g = 0; g < groups; ++g) exact[g] += part[g];
    }
    for (int64_t g = 0; g < groups; ++g) {
      if (!Good(total[g], share[g])) stats[g] = Conclude(shift[g], exact[g], share[g]);
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
  Statistics* const stats_;
};

template <class T>
class BackwardPlan {
  using R = RealOf<T>;

 public:
  // `blocks` has Sums for each channel and block of samples, set to zero.
  BackwardPlan(const Layout& layout, const Mask& mask, const T* x, const R* gamma,
               const Statistics* stats, const T* dy, T* dx, Sums* blocks)
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
        blocks_(blocks) {}

  void Start(const Unit&, Work<R>*) {}

  void Load(const Unit& unit, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    SetPlaces<3, R>(
        layout_, unit.samples, {work->shift(), work->scale(), work->offset()},
        [&](int64_t, int64_t g) {
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
    const int64_t channels = layout_.channels();
    Sums* block = blocks_ + unit.block * layout_.shape().C + unit.slice * channels;
    if (!layout_.is_short()) {
      for (int64_t s = 0; s < unit.samples; ++s, total += channels)
        for (int64_t c = 0; c < channels; ++c) block[c] += total[c];
      return;
    }
    const int64_t B = layout_.shape().B;
    const R *sum = work->lane_sum(), *product = sum + channels * B;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t b = 0; b < B; ++b) block[c] += Sums{*sum++, *product++};
  }

  // With m = mean of gamma * dy and k = mean of gamma * dy * xhat in a group,
  // dx = rstd * (gamma * dy - m - xhat * k).
  void SetUp(const Unit& unit, const Sums* total, Work<R>* work) {
    const Statistics* stats = StatsOf(unit);
    const Parameter<R> gamma(gamma_, 1, unit, layout_);
    const int64_t parts = layout_.parts(), channels = layout_.groups() * parts;
    std::vector<double> share(unit.samples);
    for (int64_t s = 0; s < unit.samples; ++s) share[s] = groups_.Share(unit, s);
    SetPlaces<3, R>(
        layout_, unit.samples, {work->slope(), work->curve(), work->offset()},
        [&](int64_t s, int64_t g) {
          Sums sums;
          for (int64_t i = g * parts; i < (g + 1) * parts; ++i) {
            const R weight = gamma(i - s * channels);
            sums += {weight * total[i].first, weight * total[i].second};
          }
          const double exact = stats[g].rstd;
          const double m = sums.first * share[s], k = sums.second * share[s];
          const R rstd = static_cast<R>(exact), curve = static_cast<R>(-exact * k);
          const R offset = static_cast<R>(exact * (Rest<R>(stats[g]) * k - m));
          return [&, rstd, curve, offset](int64_t c) GROUPNORM_EACH_CHANNEL {
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
    const int64_t stride = RowWidth(), lane = FirstLane(unit);
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
  const Statistics* StatsOf(const Unit& unit) const {
    return stats_ + groups_.First(unit);
  }

  int64_t RowWidth() const {
    return layout_.is_short() ? layout_.Piece() : layout_.shape().B;
  }

  int64_t FirstLane(const Unit& unit) const {
    return unit.slice * layout_.groups() * layout_.Piece();
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
      return FoldLanes(layout_, unit.samples, 1, layout_.places(), work, part);
    }
    std::fill_n(part, unit.samples * layout_.places(), Sums{});
    const R* gamma = nullptr;
    R *sum = nullptr, *product = nullptr;
    if (layout_.is_short()) {
      const int64_t lanes = layout_.groups() * layout_.Piece();
      gamma = gamma_lanes_ + FirstLane(unit);
      sum = work->lane_sum();
      product = sum + lanes;
      std::fill_n(sum, 2 * lanes, R(0));
    }
    layout_.ForEachRowPiece(
        unit, chunk, RowWidth(),
        [&](int64_t offset, int64_t row, int64_t rows, int64_t, int64_t columns) {
          groupnorm::Run(
              RowGradientSums<T, kCareful>{
                  x_ + offset, dy_ + offset, columns, work->shift() + row,
                  work->scale() + row, work->offset() + row, part + row, gamma,
                  sum, product, layout_.groups()},
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
  Sums* const blocks_;
};

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
  const Layout layout(shape, bool(mask));
  ForwardPlan<T> plan(layout, mask, x, gamma, beta, epsilon, y, stats);
  Schedule<RealOf<T>>(layout, layout.groups()).Run(&plan);
}

// dx may be x or dy. A null dgamma or dbeta is left out.
template <class T>
void Backward(const Shape& shape, const Mask& mask, const T* x,
              const RealOf<T>* gamma, const Statistics* stats, const T* dy, T* dx,
              RealOf<T>* dgamma, RealOf<T>* dbeta) {
  std::vector<Sums> total(shape.C);
  if (shape.Size() > 0) {
    const Layout layout(shape, bool(mask));
    Schedule<RealOf<T>> schedule(layout, layout.groups() * layout.parts());
    std::vector<Sums> blocks(schedule.Blocks() * shape.C);
    BackwardPlan<T> plan(layout, mask, x, gamma, stats, dy, dx, blocks.data());
    schedule.Run(&plan);
    for (int64_t block = 0; block < schedule.Blocks(); ++block)
      for (int64_t c = 0; c < shape.C; ++c) total[c] += blocks[block * shape.C + c];
  }
  for (int64_t c = 0; c < shape.C; ++c) {
    if (dgamma) dgamma[c] = static_cast<RealOf<T>>(total[c].second);
    if (dbeta) dbeta[c] = static_cast<RealOf<T>>(total[c].first);
  }
}

}  // namespace groupnorm

#undef GROUPNORM_EACH_CHANNEL

#endif  // GROUPNORM_KERNEL_H_
