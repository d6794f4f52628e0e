// What lies where, and what is worked on at a time: of the shape alone.
#ifndef GROUPNORM_LAYOUT_H_
#define GROUPNORM_LAYOUT_H_

#include <algorithm>
#include <cstdint>

#include "loops.h"
#include "shape.h"

namespace groupnorm {

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
// row is a whole group's piece, and gamma and beta lie along it ("short"); so it is,
// too, where there are few positions, beside which what belongs to lanes would be much.
//
// The places of a coefficient are lanes or rows; `parts` of them in a group.
class Layout {
 public:
  Layout(const Shape& shape, bool masked) : shape_(shape) {
    const int64_t piece = shape.D() * shape.B;  // of a group, in one
    const int64_t sample = shape.Positions() * shape.C;
    const bool torn = masked && shape.B > 1;  // where part of a piece counts
    const int64_t run = ShortRowsPay() ? 2 * kRun : kRun;
    by_rows_ = (shape.B >= run && !IsScattered(piece)) || torn ||
               (shape.A == 1 && (piece >= kPad / 2 || PairsPay(masked))) ||
               (!masked && FewRowsPay(piece));
    short_ = by_rows_ && shape.B < run && !torn;
    whole_ = short_ && shape.A == 1 && !masked && piece <= kWhole;
    const int64_t batch = Between(1, (short_ ? kShortBatch : kBatch) / sample, 64);
    batch_ = by_rows_ && shape.A > 1 ? 1 : std::min(shape.N, batch);
    // All of several samples, or rows of one and the next would not adjoin.
    groups_ = by_rows_ && batch_ == 1 ? GroupsTogether(piece) : shape.G;
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
  // Whether a row is a whole group, of few numbers.
  bool is_whole() const { return whole_; }
  int64_t batch() const { return batch_; }  // most samples of a unit
  int64_t slices() const { return shape_.G / groups_; }
  int64_t groups() const { return groups_; }      // of a slice
  int64_t channels() const { return channels_; }  // of a slice
  // Whether what belongs to a channel is added up by one unit of a block, in one lane.
  bool IsInOneUnit() const { return short_ && shape_.B == 1 && batch_ == shape_.N; }
  int64_t D() const { return shape_.D(); }
  int64_t chunks() const { return CeilDiv(elements_, chunk_); }
  int64_t parts() const { return parts_; }
  // Of a sample in a unit, and with what it takes to keep columns aligned: samples of
  // one row each are a single one, as they are in memory.
  int64_t places() const { return places_; }
  int64_t stride() const {
    return by_rows_ || shape_.A == 1 ? places_ : RoundUp(places_, kPad);
  }
  // Whether each place is a group's, so that what has one has the other: those of short
  // rows, and of groups of one channel.
  bool PlacesAreGroups() const { return places_ == groups_ && stride() == groups_; }
  // Neighbouring lanes that belong to one channel.
  int64_t run() const { return run_; }
  // Places after which the channels start again.
  int64_t Period() const { return groups_ * parts_ * run_; }
  // Numbers of a group that lie in one piece.
  int64_t Piece() const { return shape_.D() * shape_.B; }

  // Where a slice's short rows begin along those of a sample.
  int64_t FirstLane(const Unit& unit) const { return unit.slice * groups_ * Piece(); }

  // By columns: calls f(s, offset, rows, width, counts) for the pieces of a
  // chunk, rows of `width` elements that lie one after the other from `offset`
  // on, of the unit's sample s.
  template <class F>
  void ForEachColumnPiece(const Unit& unit, int64_t chunk, const Mask& mask,
                          F f) const {
    const int64_t begin = chunk * chunk_;
    const int64_t end = std::min(elements_, begin + chunk_);
    const int64_t row = channels_ * shape_.B;  // of one position before them
    if (shape_.A == 1 && !mask) {
      const int64_t offset = unit.sample * elements_;
      return f(0, offset, 1, unit.samples * elements_, true);
    }
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
  static constexpr int64_t kRun = 16;    // a channel's numbers that make a row
  static constexpr int64_t kFewRows = 4, kMostRows = 128;  // of a group in a sample
  static constexpr int64_t kTileLanes = 4 * kPad, kFewTiles = 32;
  static constexpr int64_t kWhole = 128;   // numbers of a row that is worked on once
  static constexpr int64_t kBatch = 2048;   // elements
  static constexpr int64_t kLong = 2048;    // elements, of a piece
  static constexpr int64_t kSlice = 262144;  // elements that fit a cache
  static constexpr int64_t kSlices = 8;     // of all samples, for threads
  // More where coefficients are few: sums for each lane are then put away less often.
  static constexpr int64_t kShortBatch = 16384;
  static constexpr int64_t kChunk = 65536;  // elements
  static constexpr int64_t kMostChunks = 256;

  // The groups of a slice: as many as are worth a visit; where there are positions before
  // the channels, so many that long pieces of memory are read one after the other, if a
  // slice then fits a cache, and there are enough of them for threads.
  int64_t GroupsTogether(int64_t piece) const {
    int64_t groups = 0, size = 0;
    for (int64_t more = 1; more <= shape_.G; ++more) {
      if (shape_.G % more != 0) continue;
      const bool fit = more * shape_.A * piece <= kSlice &&
                       shape_.N * (shape_.G / more) >= kSlices;
      const bool is_long = shape_.A == 1 || groups * piece >= kLong;
      if (size >= kBatch && (is_long || !fit)) break;
      groups = more;
      size = groups * shape_.A * piece;
    }
    return groups;
  }

  // Whether slices would have rows of few numbers, and little between the rows of others.
  bool IsScattered(int64_t piece) const {
    return shape_.A > 1 && shape_.B < 4 * kRun &&
           GroupsTogether(piece) * piece < kLong / 8;
  }

  // Whether up to twice kRun numbers are better in a short row with others: where what
  // lies along it, which is laid out for each call, stays in a first cache and serves
  // many samples.
  bool ShortRowsPay() const {
    return shape_.A == 1 && shape_.N >= 8 && shape_.C * shape_.B <= 8192;
  }

  // Whether groups are pairs, of which whole vectors can be made.
  bool PairsPay(bool masked) const {
    return !masked && shape_.D() * shape_.B == 2 && 2 * shape_.G % kPad == 0;
  }

  // Whether rows of few numbers to a channel cost less than what belongs to lanes would:
  // a row about as much as three lanes, a visit to a slice's rows as much as four rows.
  // A slice is not shared by threads, and its lanes are added in floats.
  bool FewRowsPay(int64_t piece) const {
    const int64_t A = shape_.A, lanes = PositionsSideBySide() * shape_.C * shape_.B;
    const auto pay = [&](int64_t slices) {
      return 3 * A * (shape_.G + 4 * slices) <= lanes;
    };
    if (A == 1 || A > kMostRows || piece < kPad || !pay(1)) return false;
    const int64_t groups = GroupsTogether(piece);
    const int64_t most = A <= kFewRows ? INT64_MAX : (shape_.N > 1 ? 2 : 1) * kChunk;
    return A * groups * piece <= most && pay(shape_.G / groups);
  }

  // By columns: as many positions as make whole vectors, and a tile of them, unless
  // coefficients and sums would be many beside a sample.
  int64_t PositionsSideBySide() const {
    const int64_t row = shape_.C * shape_.B;
    const int64_t lanes = Between(kPad, shape_.A * row / kFewTiles, kTileLanes);
    int64_t positions = 1;
    while (row * positions % kPad != 0) positions *= 2;
    positions *= CeilDiv(lanes, row * positions);
    return std::min(shape_.A, positions);
  }

  const Shape shape_;
  bool by_rows_, short_, whole_;
  int64_t batch_, groups_, channels_, elements_, side_by_side_;
  int64_t parts_, run_, places_, width_, chunk_;
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

  // Calls f(first, groups, share) for groups of a unit that have as many values each.
  template <class F>
  void ForEachShare(const Unit& unit, F f) const {
    if (!mask_) return f(0, Of(unit), Share(unit, 0));
    const int64_t groups = layout_.groups();
    for (int64_t s = 0; s < unit.samples; ++s) f(s * groups, groups, Share(unit, s));
  }

 private:
  const Layout& layout_;
  const Mask& mask_;
};

}  // namespace groupnorm

#endif  // GROUPNORM_LAYOUT_H_
