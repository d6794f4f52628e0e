// A small pool of threads that fall asleep when there is nothing to do.
//
// TensorFlow's C API gives a kernel no access to TensorFlow's own threads.
#ifndef GROUPNORM_POOL_H_
#define GROUPNORM_POOL_H_

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#include "memory.h"

namespace groupnorm {

// In which order a thread does the tasks that it begins with. What came last is in its
// cache still, so that who comes back the same way finds more there.
enum Order { kForth, kBack };

// A loop over tasks that several threads take from, each under a slot number
// of its own. It lives on the stack of the thread that called ForEach, which
// always takes part: a job never depends on a worker being free.
//
// A thread begins with the tasks of its slot and then takes from the others. So the
// same thread has the same part of the data in one pass after the other, and often from
// call to call, and finds it in its own cache.
class Job {
 public:
  using Body = void (*)(void* self, int64_t task, int slot);

  Job(Body body, void* self, int64_t tasks, int slots, Order order)
      : body_(body),
        self_(self),
        slots_(slots),
        order_(order),
        shares_(Raw<Share>(slots)) {
    for (int slot = 0; slot < slots; ++slot) {
      Share& share = shares_[slot];
      share.next = share.begin = tasks * slot / slots;
      share.end = tasks * (slot + 1) / slots;
    }
    std::fegetenv(&floating_point_);
  }

  // Under the pool's lock, all but Idle().
  bool Full() const {
    if (joined_ == slots_) return true;
    const auto has_tasks = [](const Share& share) { return share.next < share.end; };
    return std::none_of(shares_.get(), shares_.get() + slots_, has_tasks);
  }
  int Join(int wanted) {
    ++active_;
    ++joined_;
    int slot = wanted % slots_;
    while (shares_[slot].taken) slot = (slot + 1) % slots_;
    shares_[slot].taken = true;
    return slot;
  }
  bool Leave() { return --active_ == 0; }
  bool Idle() const { return active_ == 0; }

  // Without it. Workers take over the caller's rounding and flush-to-zero
  // modes, so that no result depends on the thread that computed it.
  void Work(int slot) {
    if (slot > 0) std::fesetenv(&floating_point_);
    for (int i = 0; i < slots_; ++i) {
      Share& share = shares_[(slot + i) % slots_];
      for (int64_t task; (task = share.next.fetch_add(1)) < share.end;)
        body_(self_, order_ == kBack ? share.begin + share.end - 1 - task : task, slot);
    }
  }

 private:
  struct Share {
    std::atomic<int64_t> next{0};
    int64_t begin = 0, end = 0;
    bool taken = false;
    char apart[64] = {};  // from what another thread writes
  };

  const Body body_;
  void* const self_;
  const int slots_;
  const Order order_;
  const Block<Share> shares_;
  std::fenv_t floating_point_;
  int joined_ = 0;
  std::atomic<int> active_{0};
};

// Wait a short while for a condition without falling asleep: to be woken takes longer
// than many jobs do, and calls follow one another. Threads with work go first.
template <class Condition>
void Spin(Condition met) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::microseconds(50);
  while (!met() && Clock::now() < end) sched_yield();
}

class Pool {
 public:
  // Never destroyed: workers may outlive every static object.
  static Pool& Get() {
    static const int registered = (Current() = new Pool, AtFork());
    (void)registered;
    return *Current();
  }

  void Run(Job* job, int helpers) {
    std::unique_lock<std::mutex> lock(mutex_);
    Grow(helpers);
    const int slot = job->Join(0);
    jobs_.push_back(job);
    ++calls_;
    lock.unlock();
    for (int i = 0; i < helpers; ++i) wake_.notify_one();
    job->Work(slot);
    lock.lock();
    jobs_.remove(job);
    job->Leave();
    lock.unlock();
    Spin([job] { return job->Idle(); });
    lock.lock();
    done_.wait(lock, [job] { return job->Idle(); });
  }

 private:
  static Pool*& Current() {
    static Pool* pool = nullptr;
    return pool;
  }

  // A forked child has none of the threads and perhaps a locked mutex: it
  // starts afresh, and the parent's pool is left where it is.
  static int AtFork() {
    return pthread_atfork(nullptr, nullptr, [] { Current() = new Pool; });
  }

  void Grow(int helpers) {
    try {
      for (; workers_ < helpers; ++workers_)
        std::thread([this, slot = workers_ + 1] { Loop(slot); }).detach();
    } catch (const std::system_error&) {
      // The system gives no more threads: those that are there will do.
    }
  }

  void Loop(int wanted) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      Job* job = Waiting();
      if (job == nullptr) {
        const uint64_t calls = calls_;
        lock.unlock();
        Spin([&] { return calls_ != calls; });
        lock.lock();
        if (calls_ == calls) wake_.wait(lock);
        continue;
      }
      const int slot = job->Join(wanted);
      lock.unlock();
      job->Work(slot);
      lock.lock();
      if (job->Leave()) done_.notify_all();
    }
  }

  Job* Waiting() {
    for (Job* job : jobs_)
      if (!job->Full()) return job;
    return nullptr;
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::list<Job*> jobs_;
  std::atomic<uint64_t> calls_{0};
  int workers_ = 0;
};

// The processors that this process may use.
inline int Processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

inline std::atomic<int>& ThreadSetting() {
  static std::atomic<int> threads{0};
  return threads;
}

// 0 stands for one thread per processor.
inline void SetThreads(int threads) {
  ThreadSetting() = threads > 0 ? threads : Processors();
}

inline int Threads() {
  if (ThreadSetting() == 0) SetThreads(0);
  return ThreadSetting();
}

// Call body(task, slot) for every task, on up to `slots` threads; no two
// calls that run at the same time have the same slot. The body must not throw.
template <class F>
void ForEach(int64_t tasks, int slots, Order order, F body) {
  if (slots <= 1 || tasks <= 1) {
    for (int64_t i = 0; i < tasks; ++i) body(order == kBack ? tasks - 1 - i : i, 0);
    return;
  }
  Job job([](void* self, int64_t task,
             int slot) { (*static_cast<F*>(self))(task, slot); },
          &body, tasks, slots, order);
  Pool::Get().Run(&job,
                  static_cast<int>(std::min<int64_t>(slots, tasks)) - 1);
}

}  // namespace groupnorm

#endif  // GROUPNORM_POOL_H_
