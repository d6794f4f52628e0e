// Which thread does what, and when.
#ifndef GROUPNORM_SCHEDULE_H_
#define GROUPNORM_SCHEDULE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "coefficients.h"
#include "layout.h"
#include "loops.h"
#include "memory.h"
#include "pool.h"

namespace groupnorm {

// Run the two passes over all units, on the threads there are. A plan has
//   Start(unit, work)               before anything else
//   Load(unit, work)                coefficients for the first pass
//   Sum(unit, chunk, work, part)    first pass, over one chunk
//   Finish(unit, total, work)       once, with the sums of all chunks
//   SetUp(unit, total, work)        coefficients for the second pass, after Load
//   Apply(unit, chunk, work)        second pass, over one chunk
// where a part or total is `sums` Sums for each sample; and, for groups that are rows of
// few numbers, instead of all that
//   Visit(unit, work)               both passes
template <class R>
class Schedule {
 public:
  Schedule(const Layout& layout, int64_t sums)
      : layout_(layout),
        N_(layout.shape().N),
        slices_(layout.slices()),
        chunks_(layout.chunks()),
        sums_(sums * layout.batch()) {
    const int threads = Effort() < kInline ? 1 : Threads();
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
    const int64_t sums = layout_.shape().Size() / (kPerSum * layout_.shape().C);
    return Between(1, std::min(sums, Effort() / kBlock), most);
  }

  template <class Plan>
  void Run(Plan* plan) {
    split_ ? RunSplit(plan) : RunWhole(plan);
  }

 private:
  static constexpr int64_t kInline = 49152;  // of effort not worth a thread
  static constexpr int64_t kBlock = 16384;   // of effort worth a task
  static constexpr int64_t kPerGroup = 16;   // elements that take as long as a group
  static constexpr int64_t kPerSum = 16;     // elements worth a channel's sums
  static constexpr int64_t kTasks = 4;  // for each thread, to share them out evenly

  // In elements: what a group takes beside them is most of it where they are few.
  int64_t Effort() const {
    return layout_.shape().Size() + kPerGroup * N_ * layout_.shape().G;
  }

  // A unit is one thread's: what the first pass read is in its cache for the
  // second.
  template <class Plan>
  void RunWhole(Plan* plan) {
    const auto scratch = Raw<Sums>(2 * sums_ * slots_);
    ForEach(Blocks() * slices_, slots_, kForth, [&](int64_t task, int slot) {
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
    if (layout_.is_whole()) return plan->Visit(unit, work);
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
    // Back from the last one, which is in the cache still.
    for (int64_t chunk = chunks_; chunk-- > 0;) plan->Apply(unit, chunk, work);
  }

  // Few units: the threads share each of them, chunk by chunk. Not more of them at a
  // time than keep all threads busy: then they are in a cache for the second pass.
  template <class Plan>
  void RunSplit(Plan* plan) {
    const int64_t units = N_ * slices_;
    const int64_t some = std::min(units, CeilDiv(kTasks * slots_, chunks_));
    const auto parts = Raw<Sums>(some * chunks_ * sums_);
    for (int64_t first = 0; first < units; first += some)
      RunTogether(plan, first, std::min(some, units - first), parts.get());
  }

  template <class Plan>
  void RunTogether(Plan* plan, int64_t first, int64_t units, Sums* parts) {
    const auto part = [&](int64_t unit, int64_t chunk) {
      return parts + (unit * chunks_ + chunk) * sums_;
    };
    for (int64_t i = 0; i < units; ++i) plan->Start(At(first + i), &work_[0]);
    ForEach(units * chunks_, slots_, kForth, [&](int64_t task, int slot) {
      const int64_t i = task / chunks_, chunk = task % chunks_;
      plan->Load(At(first + i), &work_[slot]);
      plan->Sum(At(first + i), chunk, &work_[slot], part(i, chunk));
    });
    for (int64_t i = 0; i < units; ++i) {
      for (int64_t chunk = 1; chunk < chunks_; ++chunk)
        Add(part(i, chunk), part(i, 0));
      plan->Finish(At(first + i), part(i, 0), &work_[0]);
    }
    ForEach(units * chunks_, slots_, kBack, [&](int64_t task, int slot) {
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

}  // namespace groupnorm

#endif  // GROUPNORM_SCHEDULE_H_
