// Tests of the kernel's numerics, without TensorFlow: against the definition in
// long double, for any layout, size, type and number of threads.
//
// test_native_kernel.py builds this under the sanitizers and runs it.

#include <sys/wait.h>
#include <unistd.h>

#include <cfenv>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>
#include <utility>

#include "kernel.h"

namespace groupnorm {
namespace {

int failures = 0;

void Expect(bool condition, const std::string& what) {
  if (condition) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// ------------------------------------------------------------------- values

double ToDouble(float v) { return v; }
double ToDouble(double v) { return v; }
double ToDouble(BFloat16 v) {
  const uint32_t bits = uint32_t{v.bits} << 16;
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}
double ToDouble(Half v) {
  const int exponent = v.bits >> 10 & 31, mantissa = v.bits & 1023;
  double f = exponent == 0 ? std::ldexp(mantissa, -24)
                           : std::ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 31) f = mantissa ? NAN : INFINITY;
  return v.bits & 0x8000 ? -f : f;
}

// The nearest value of a 16-bit type, found by asking both neighbours.
template <class T>
T Nearest(double v) {
  uint16_t low = 0, high = sizeof(T) == 2 ? 0x7fff : 0;
  const double magnitude = std::fabs(v);
  while (high - low > 1) {
    const uint16_t middle = low + (high - low) / 2;
    const double m = ToDouble(T{middle});
    (std::isnan(m) || m > magnitude ? high : low) = middle;
  }
  const double below = ToDouble(T{low}), above = ToDouble(T{high});
  // An infinite neighbour counts as one step further on.
  const double step = low ? below - ToDouble(T{uint16_t(low - 1)}) : above;
  const double next = std::isinf(above) ? below + step : above;
  const double middle = (below + next) / 2;
  const bool up = magnitude > middle || (magnitude == middle && low % 2);
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  return T{uint16_t((up ? high : low) | sign)};
}

template <class T>
T From(double v) {
  return Nearest<T>(v);
}
template <>
float From<float>(double v) {
  return static_cast<float>(v);
}
template <>
double From<double>(double v) {
  return v;
}

class Random {
 public:
  explicit Random(uint64_t seed = 42) : state_(seed) {}
  double Uniform() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(state_ >> 11) / 9007199254740992.0;
  }
  double Normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += Uniform();
    return sum;
  }
  // From low to high, small numbers as often as large ones.
  int64_t Size(int64_t low, int64_t high) {
    return std::min(
        high, static_cast<int64_t>(low * std::pow((high + 1.0) / low, Uniform())));
  }
  template <class V>
  auto Of(const V& values) {
    return values[static_cast<size_t>(Uniform() * std::size(values))];
  }

 private:
  uint64_t state_;
};

// --------------------------------------------------------------- definition

template <class T>
struct Problem {
  using R = RealOf<T>;
  Shape shape;
  double epsilon = 1e-3;
  std::vector<T> x, dy;
  std::vector<R> gamma, beta;
  std::vector<unsigned char> mask;  // empty: all count
  int64_t repeat = 1;               // positions for each value of the mask

  Problem(const Shape& given, double shift = 0, double scale = 1,
          uint64_t seed = 42)
      : shape(given) {
    Random random(seed);
    for (int64_t i = 0; i < shape.Size(); ++i) {
      x.push_back(From<T>((random.Normal() + shift) * scale));
      dy.push_back(From<T>(random.Normal()));
    }
    for (int64_t c = 0; c < shape.C; ++c) {
      gamma.push_back(static_cast<R>(random.Normal()));
      beta.push_back(static_cast<R>(random.Normal()));
    }
  }

  int64_t Group(int64_t i) const {
    return i / shape.B % shape.C / shape.D() +
           i / (shape.A * shape.C * shape.B) * shape.G;
  }
  int64_t Channel(int64_t i) const { return i / shape.B % shape.C; }
  bool Counts(int64_t i) const {
    if (mask.empty()) return true;
    const int64_t before = i / (shape.C * shape.B);
    return mask[(before * shape.B + i % shape.B) / repeat] != 0;
  }
  Mask AsMask() const {
    if (mask.empty()) return Mask();
    return Mask(mask.data(), shape.Positions(), repeat);
  }
  // Positions count or not in stretches of `length` or so.
  void DrawMask(Random* random, int64_t every, double length) {
    repeat = every;
    bool counts = random->Uniform() < 0.7;
    for (int64_t i = 0; i < shape.N * shape.Positions() / every; ++i) {
      if (random->Uniform() < 1 / length) counts = !counts;
      mask.push_back(counts);
    }
  }
};

template <class T>
struct Answer {
  std::vector<T> y, dx, dgamma, dbeta;
  // Of what cancels in the gradients: gamma * dy * rstd, and a channel's sum, which is
  // often as large as the root of the sum of squares, but may be 0.
  T scale_dx = 0, scale_dgamma = 0, scale_dbeta = 0;
};

template <class T>
Answer<long double> Definition(const Problem<T>& p) {
  using L = long double;
  const int64_t size = p.shape.Size(), groups = p.shape.N * p.shape.G;
  std::vector<L> count(groups), mean(groups), variance(groups), m(groups), k(groups);
  const auto x = [&](int64_t i) { return L(ToDouble(p.x[i])); };
  const auto dy = [&](int64_t i) { return L(ToDouble(p.dy[i])); };
  const auto gamma = [&](int64_t i) {
    return p.gamma.empty() ? L(1) : L(p.gamma[p.Channel(i)]);
  };
  const auto rstd = [&](int64_t g) {
    return 1 / std::sqrt(variance[g] + L(p.epsilon));
  };
  const auto xhat = [&](int64_t i) {
    const int64_t g = p.Group(i);
    return (x(i) - mean[g]) * rstd(g);
  };
  for (int64_t i = 0; i < size; ++i) count[p.Group(i)] += p.Counts(i);
  for (int64_t i = 0; i < size; ++i) {
    const int64_t g = p.Group(i);
    if (p.Counts(i)) mean[g] += x(i) / count[g];
  }
  for (int64_t i = 0; i < size; ++i) {
    const int64_t g = p.Group(i);
    if (p.Counts(i)) variance[g] += (x(i) - mean[g]) * (x(i) - mean[g]) / count[g];
  }
  // With a mask, what is in x does not matter where nothing flows back.
  const auto product = [&](int64_t i) {
    return !p.mask.empty() && dy(i) == 0 ? L(0) : dy(i) * xhat(i);
  };
  Answer<L> answer;
  answer.dgamma.resize(p.shape.C);
  answer.dbeta.resize(p.shape.C);
  for (int64_t i = 0; i < size; ++i) {
    const int64_t g = p.Group(i), c = p.Channel(i);
    const L beta = p.beta.empty() ? L(0) : L(p.beta[c]);
    answer.y.push_back(xhat(i) * gamma(i) + beta);
    answer.dgamma[c] += product(i);
    answer.dbeta[c] += dy(i);
    answer.scale_dgamma += product(i) * product(i) / p.shape.C;
    answer.scale_dbeta += dy(i) * dy(i) / p.shape.C;
    if (count[g] == 0) continue;
    m[g] += gamma(i) * dy(i) / count[g];
    k[g] += gamma(i) * product(i) / count[g];
  }
  for (int64_t i = 0; i < size; ++i) {
    const int64_t g = p.Group(i);
    const L direct = gamma(i) * dy(i);
    const L through = p.Counts(i) ? m[g] + xhat(i) * k[g] : L(0);
    answer.dx.push_back(rstd(g) * (direct - through));
    answer.scale_dx = std::max(answer.scale_dx, std::fabs(rstd(g) * direct));
  }
  answer.scale_dgamma = std::sqrt(answer.scale_dgamma);
  answer.scale_dbeta = std::sqrt(answer.scale_dbeta);
  return answer;
}

template <class T>
struct Outcome {
  using R = RealOf<T>;
  std::vector<T> y, dx;
  std::vector<R> dgamma, dbeta;
  std::vector<Statistics> stats;
};

template <class R>
const R* OrNull(const std::vector<R>& v) {
  return v.empty() ? nullptr : v.data();
}

template <class T>
Outcome<T> Compute(const Problem<T>& p, bool in_place = false) {
  Outcome<T> out;
  out.y = out.dx = p.x;
  if (in_place) out.dx = p.dy;
  out.dgamma.resize(p.shape.C);
  out.dbeta.resize(p.shape.C);
  out.stats.resize(p.shape.N * p.shape.G);
  const T* dy = in_place ? out.dx.data() : p.dy.data();
  Forward<T>(p.shape, p.AsMask(), in_place ? out.y.data() : p.x.data(), OrNull(p.gamma),
             OrNull(p.beta), p.epsilon, out.y.data(), out.stats.data());
  Backward<T>(p.shape, p.AsMask(), p.x.data(), OrNull(p.gamma), out.stats.data(), dy,
              out.dx.data(), out.dgamma.data(), out.dbeta.data());
  return out;
}

// Largest error relative to the largest value, or to a larger `scale` of what
// cancels in it; NaN must be at the same places.
template <class T>
double Error(const std::vector<T>& got, const std::vector<long double>& want,
             long double scale = 0) {
  long double error = 0, largest = scale;
  for (size_t i = 0; i < want.size(); ++i) {
    const double value = ToDouble(got[i]);
    if (std::isnan(want[i]) != std::isnan(value)) return INFINITY;
    if (std::isnan(want[i])) continue;
    largest = std::max(largest, std::fabs(want[i]));
    error = std::max(error, std::fabs(want[i] - value));
  }
  return static_cast<double>(largest > 0 ? error / largest : error);
}

template <class T>
double Tolerance() {
  return 1e-6;
}
template <>
double Tolerance<double>() {
  return 1e-11;
}
template <>
double Tolerance<BFloat16>() {
  return 1.0 / 256;
}
template <>
double Tolerance<Half>() {
  return 1.0 / 2048;
}

std::string Name(const Shape& s, const std::string& rest) {
  return "(" + std::to_string(s.N) + ", " + std::to_string(s.A) + ", " +
         std::to_string(s.C) + ", " + std::to_string(s.B) + "), " +
         std::to_string(s.G) + " groups, " + rest;
}

template <class T>
void Verify(const Problem<T>& p, const std::string& what,
            double tolerance = Tolerance<T>()) {
  const auto want = Definition(p);
  const auto got = Compute(p);
  const double errors[] = {Error(got.y, want.y), Error(got.dx, want.dx, want.scale_dx),
                           Error(got.dgamma, want.dgamma, want.scale_dgamma),
                           Error(got.dbeta, want.dbeta, want.scale_dbeta)};
  const char* names[] = {"y", "dx", "dgamma", "dbeta"};
  for (int i = 0; i < 4; ++i)
    Expect(errors[i] <= tolerance,
           Name(p.shape, what) + ": " + names[i] + " is off by " +
               std::to_string(errors[i] / tolerance) + " tolerances");
}

template <class V>
bool Same(const V& a, const V& b) {
  return a.size() == b.size() &&
         (a.empty() ||
          std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0);
}

template <class T>
bool Same(const Outcome<T>& a, const Outcome<T>& b) {
  return Same(a.y, b.y) && Same(a.dx, b.dx) && Same(a.dgamma, b.dgamma) &&
         Same(a.dbeta, b.dbeta) && Same(a.stats, b.stats);
}

// -------------------------------------------------------------------- tests

// N, A, C, B, G: every layout, sizes around vector widths and chunk sizes.
const Shape kShapes[] = {
    {1, 1, 1, 1, 1},       {2, 5, 1, 1, 1},       {3, 1, 4, 1, 4},
    {2, 1, 7, 1, 7},       {2, 9, 6, 1, 3},       {2, 35, 6, 1, 2},
    {5, 12, 3, 1, 1},      {2, 3, 33, 1, 11},     {2, 257, 30, 1, 5},
    {1, 70, 64, 1, 32},    {3, 40, 100, 1, 10},   {2, 17, 511, 1, 7},
    {2, 1, 6, 49, 3},      {2, 1, 5, 31, 5},      {3, 1, 4, 32, 2},
    {2, 1, 4, 33, 1},      {2, 3, 6, 5, 2},       {2, 4, 3, 2, 3},
    {2, 3, 4, 70, 2},      {2, 2, 6, 100, 6},     {300, 3, 4, 1, 2},
    {300, 1, 2, 40, 2},    {1, 30000, 3, 1, 3},   {2, 9000, 16, 1, 4},
    {3, 5000, 30, 1, 6},   {1, 1, 4, 40000, 2},   {1, 3, 2, 50001, 1},
    {5, 1, 6, 12345, 3},   {40, 130, 64, 1, 8},   {1, 2, 70000, 1, 10},
    {7, 1, 4096, 1, 32},   {2, 1, 8192, 1, 8},    {5, 1, 864, 5, 32},
    {3, 5, 770, 1, 1},     {20, 33, 1027, 1, 1},  {2, 150, 900, 1, 1},
    {5, 4, 528, 1, 16},    {3, 2, 1030, 1, 5},    {40, 3, 512, 1, 32},
    {3, 1, 6, 128, 3},     {3, 1, 5, 129, 5},     {124, 5, 80, 1, 80},
    {1, 4, 50000, 1, 1},   {3, 2, 40000, 1, 4},
    {9, 1, 96, 1, 24},     {5, 1, 40, 1, 8},      {6, 1, 36, 1, 6},
    {40, 1, 224, 1, 32},   {4, 1, 10, 3, 5},
    // Samples of one group as one piece, and not; short rows of 8 to 15 numbers.
    {4, 7, 92, 1, 1},      {5, 16, 64, 1, 1},     {3, 7, 92, 1, 1},
    {5, 2, 512, 1, 64},    {6, 2, 288, 1, 32},    {5, 3, 448, 1, 32},
    {6, 2, 480, 1, 32},
    // Rows that are groups: some in a vector, one or more vectors each, and no whole ones.
    {9, 1, 64, 1, 32},     {9, 1, 24, 1, 12},     {5, 1, 8, 2, 8},
    {9, 1, 14, 1, 7},      {3, 1, 128, 1, 32},    {5, 1, 20, 1, 5},
    {3, 1, 256, 1, 32},    {70, 1, 512, 1, 32},   {3, 1, 1024, 1, 32},
    {3, 1, 70, 1, 7},      {5, 1, 1270, 1, 10},   {2, 1, 1290, 1, 10},
    {1, 1, 33000, 1, 16500},
};

// Of a few samples: many rows that are groups, as above.
const Shape kDense[] = {{4, 1, 16, 1, 8},  {4, 1, 32, 1, 8},  {4, 1, 48, 1, 6},
                        {4, 1, 96, 1, 6},  {9, 1, 55, 1, 5},  {4, 1, 150, 1, 3}};

// These shapes and those.
std::vector<Shape> WithDense(std::vector<Shape> shapes) {
  shapes.insert(shapes.end(), std::begin(kDense), std::end(kDense));
  return shapes;
}

template <class T>
void TestShapes() {
  for (const Shape& shape : kShapes) {
    if (sizeof(T) == 2 && shape.Size() > 100000) continue;
    Problem<T> problem(shape);
    Verify(problem, "plain");
    problem.gamma.clear();
    problem.beta.clear();
    if (shape.Size() < 10000) Verify(problem, "no gamma, no beta");
  }
}

// Any shape, with or without mask, and the same in place and on two threads.
template <class T>
void TestDrawn(uint64_t seed, int count) {
  Random random(seed);
  for (int i = 0; i < count; ++i) {
    // Many channels without positions, or with few; very many, and all in one group.
    const double kind = random.Uniform();
    const bool flat = kind < 0.1, dense = kind < 0.3, wide = kind > 0.9;
    int64_t A = dense || random.Uniform() < 0.4 ? 1 : random.Size(1, 300);
    if (flat) A = random.Size(2, 5);
    const int64_t B =
        dense || wide || random.Uniform() < 0.4 ? 1 : random.Size(1, 300);
    const int64_t D = wide ? random.Size(700, 1200) : random.Size(1, dense ? 300 : 60);
    const int64_t G = wide ? 1 : random.Size(1, 40);
    const int64_t N = random.Size(1, std::max<int64_t>(1, 20000 / (A * B * D * G)));
    const double shift = random.Of(std::vector<double>{0, 0, 30, 1e4});
    // Far from 0 a double's last digit alone is more than its tolerance.
    const double far = std::is_same<T, float>::value ? shift : shift / 1e3;
    Problem<T> p({N, A, D * G, B, G}, far, 1, seed + i);
    if (random.Uniform() < 0.2) p.gamma.clear();
    if (random.Uniform() < 0.2) p.beta.clear();
    std::string what = "drawn";
    if (random.Uniform() < 0.5) {
      const auto every = random.Of(std::vector<int64_t>{1, 1, B, A * B});
      p.DrawMask(&random, every, random.Of(std::vector<double>{1.5, 8, 100}));
      what += ", masked by " + std::to_string(every);
    }
    SetThreads(1);
    Verify(p, what);
    const auto want = Compute(p);
    SetThreads(2);
    Expect(Same(want, Compute(p)), Name(p.shape, what + ", two threads"));
    Expect(Same(want, Compute(p, true)), Name(p.shape, what + ", in place"));
    // Where the output is aligned, as some are.
    const size_t usual = std::exchange(least_past, 0);
    Expect(Same(want, Compute(p)), Name(p.shape, what + ", past the caches"));
    least_past = usual;
  }
}

// What does not count may hold anything, and nothing of it is seen elsewhere.
void TestMaskedNotFinite() {
  for (const Shape& shape :
       {Shape{3, 40, 6, 1, 3}, Shape{3, 1, 6, 64, 3}, Shape{3, 1, 6, 5, 3},
        Shape{3, 4, 6, 5, 3}, Shape{40, 1, 32, 1, 2}, Shape{40, 1, 6, 1, 3}}) {
    Random random;
    Problem<float> p(shape, 1);
    p.DrawMask(&random, 1, 3);
    for (int64_t i = 0; i < shape.Size(); ++i)
      if (!p.Counts(i)) p.dy[i] = 0;
    const auto before = Compute(p);
    Problem<float> q = p;
    for (int64_t i = 0; i < shape.Size(); ++i)
      if (!p.Counts(i)) q.x[i] = i % 2 ? NAN : INFINITY;
    const auto got = Compute(q);
    Expect(Same(before.dx, got.dx) && Same(before.dgamma, got.dgamma) &&
               Same(before.dbeta, got.dbeta),
           Name(shape, "gradients beside masked NaN"));
    for (int64_t i = 0; i < shape.Size(); ++i)
      if (p.Counts(i))
        Expect(before.y[i] == got.y[i], Name(shape, "y beside masked NaN"));
  }
}

template <class T>
void TestEmpty() {
  for (const Shape& shape : {Shape{0, 3, 4, 5, 2}, Shape{2, 0, 4, 1, 2},
                             Shape{2, 1, 4, 0, 4}}) {
    const auto out = Compute(Problem<T>(shape));
    for (const Statistics& s : out.stats)
      Expect(std::isfinite(s.mean) && std::isfinite(s.rstd), "empty: stats");
    for (auto v : out.dgamma) Expect(v == 0, "empty: dgamma");
    for (auto v : out.dbeta) Expect(v == 0, "empty: dbeta");
  }
}

void TestShifts() {
  for (const Shape& shape :
       WithDense({{2, 1000, 16, 1, 4}, {2, 1, 16, 1000, 4}, {2, 30, 6, 9, 3},
                  {3, 20, 5, 1, 5}, {2, 20, 800, 1, 1}}))
    for (double shift : {1e2, 1e3, 1e4, 1e5}) {
      Problem<float> p(shape, shift);
      Verify(p, "shift " + std::to_string(shift));
      for (double outlier : {0.0, 1e4}) {
        Problem<float> q = p;
        for (int64_t i = 0; i < shape.C; ++i)
          q.x[i] = q.x[q.x.size() - 1 - i] = static_cast<float>(outlier);
        Verify(q, "outliers at the ends, shift " + std::to_string(shift));
      }
    }
}

// One large value amid zeros, wherever it is: the shift may be far off.
void TestSpikes() {
  for (const Shape& shape : {Shape{1, 4096, 2, 1, 2}, Shape{1, 1, 2, 8192, 2}})
    for (int64_t at = 0; at < shape.Size(); at += 1021) {
      Problem<float> p(shape, 0, 1e-3);
      p.x[at] = 1e4f;
      const auto want = Definition(p);
      const auto got = Compute(p);
      Expect(Error(got.y, want.y) < 1e-6, Name(shape, "a spike"));
    }
}

void TestConstant() {
  for (const Shape& shape : WithDense({{2, 50, 6, 1, 3}, {2, 1, 6, 50, 3}})) {
    Problem<float> p(shape);
    for (float& v : p.x) v = 0.1f;
    p.beta.clear();
    for (float v : Compute(p).y) Expect(v == 0, Name(shape, "constant"));
  }
}

void TestRange() {
  for (const Shape& shape : WithDense({{2, 500, 8, 1, 4}, {2, 1, 8, 500, 4}})) {
    for (double scale : {1e30, 1e25, 1e15, 1e-3})
      Verify(Problem<float>(shape, 3, scale), "scale " + std::to_string(scale));
    for (double scale : {1e-12, 1e-20, 1e-30}) {
      Problem<float> p(shape, 3, scale);
      p.epsilon = scale * scale / 100;
      Verify(p, "tiny");
    }
  }
}

// A NaN or Inf makes its own group NaN and leaves the others as they were.
template <class T>
void TestNotFinite() {
  for (const Shape& shape :
       WithDense({{2, 30, 6, 1, 3}, {2, 1, 6, 64, 3}, {2, 3, 6, 5, 3}}))
    for (double value : {double(NAN), double(INFINITY), -double(INFINITY)}) {
      const Problem<T> clean(shape, 1);
      const auto before = Compute(clean);
      for (size_t at = 0; at < clean.x.size(); at += 61) {
        Problem<T> p = clean;
        p.x[at] = std::isnan(value) ? From<T>(0) : From<T>(value);
        if (std::isnan(value)) std::memset(&p.x[at], 0xff, sizeof(T));
        const auto got = Compute(p);
        for (int64_t i = 0; i < shape.Size(); ++i) {
          const bool own = p.Group(i) == p.Group(at);
          const double y = ToDouble(got.y[i]), dx = ToDouble(got.dx[i]);
          Expect(own ? std::isnan(y) && std::isnan(dx)
                     : y == ToDouble(before.y[i]) &&
                           dx == ToDouble(before.dx[i]),
                 Name(shape, "not finite"));
        }
      }
    }
}

template <class T>
void TestRounding() {
  Random random;
  constexpr int64_t kSize = 1 << 16;
  std::vector<T> got(kSize), data(kSize);
  std::vector<float> zero(64), one(64, 1.f), offset(64);
  for (int64_t i = 0; i < kSize; ++i) data[i] = T{static_cast<uint16_t>(i)};
  Run(Affine<T>{data.data(), got.data(), 64, zero.data(), one.data(),
                zero.data()},
      kSize / 64, 64);
  for (int64_t i = 0; i < kSize; ++i) {
    const double want = ToDouble(data[i]), is = ToDouble(got[i]);
    Expect(std::isnan(want) ? std::isnan(is) : want == is, "16-bit round trip");
  }
  // Zeros with an offset that lies between two 16-bit values.
  const std::vector<T> zeros(64, From<T>(0));
  for (int i = 0; i < 1000; ++i) {
    for (float& v : offset)
      v = static_cast<float>(random.Normal() *
                             std::pow(2.0, 45 * random.Uniform() - 28));
    if (i == 0)
      offset = {65519.f,        65520.f,        65536.f,        -65520.f,
                1.00048828125f, 1.00146484375f, 2.98023224e-8f, 8.94069672e-8f,
                1.00390625f,    1.01171875f,    3.39e38f,       3.4e38f};
    offset.resize(64, 6.1e-5f);
    Run(Affine<T>{zeros.data(), got.data(), 64, zero.data(), one.data(),
                  offset.data()},
        1, 64);
    for (int k = 0; k < 64; ++k)
      Expect(got[k].bits == From<T>(offset[k]).bits,
             "rounding of " + std::to_string(offset[k]));
  }
}

void TestInPlace() {
  for (const Shape& shape : kShapes) {
    const Problem<float> p(shape);
    Expect(Same(Compute(p), Compute(p, true)), Name(shape, "in place"));
  }
}

void TestThreads() {
  for (const Shape& shape : kShapes) {
    const Problem<float> p(shape, 100);
    SetThreads(1);
    const auto want = Compute(p);
    for (int threads = 2; threads <= 4; ++threads) {
      SetThreads(threads);
      Expect(Same(want, Compute(p)),
             Name(shape, std::to_string(threads) + " threads"));
    }
  }
}

void TestConcurrentCalls() {
  SetThreads(3);
  std::vector<std::thread> callers;
  std::atomic<int> different{0};
  for (int i = 0; i < 8; ++i)
    callers.emplace_back([i, &different] {
      const Shape shapes[] = {{8, 400, 64, 1, 8}, {1, 9000, 16, 1, 4},
                              {1, 1, 4, 40000, 2}, {2, 9, 6, 1, 3}};
      const Problem<float> p(shapes[i % 4]);
      const auto want = Compute(p);
      for (int k = 0; k < 20; ++k) different += !Same(want, Compute(p));
    });
  for (std::thread& caller : callers) caller.join();
  Expect(different == 0, "concurrent calls");
}

// What a thread does with numbers: its rounding, and where it flushes to zero.
struct Modes {
  int rounding = std::fegetround();
  float subnormal = 0;
  Modes() {
    volatile float tiny = std::numeric_limits<float>::min();
    subnormal = tiny / 2;
  }
  bool operator==(const Modes& other) const {
    return rounding == other.rounding && subnormal == other.subnormal;
  }
};

// Two tasks that wait for each other: one of them is a worker's.
bool WorkerHas(const Modes& modes) {
  std::atomic<int> there{0}, same{0};
  ForEach(2, 2, kForth, [&](int64_t, int) {
    ++there;
    for (int i = 0; there < 2 && i < 10000; ++i) usleep(1000);
    same += Modes() == modes;
  });
  return there == 2 && same == 2;
}

void TestModes() {
  std::fenv_t before;
  std::fegetenv(&before);
  Expect(WorkerHas(Modes()), "a worker has the modes of its caller");
  std::fesetround(FE_UPWARD);
#ifdef __SSE2__
  _mm_setcsr(_mm_getcsr() | 0x8040);  // flushes to zero, takes subnormals as zero
  Expect(Modes().subnormal == 0, "flushing to zero can be seen");
#endif
  const Modes changed;
  Expect(WorkerHas(changed), "a worker takes over changed modes");
  std::fesetenv(&before);
  Expect(!(Modes() == changed), "modes are set back");
  Expect(WorkerHas(Modes()), "a worker takes over modes that are set back");
}

void TestFork() {
#ifndef __SANITIZE_THREAD__  // which does not follow a fork
  SetThreads(3);
  const Problem<float> p(Shape{8, 400, 64, 1, 8});
  const auto want = Compute(p);
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      _exit(Same(want, Compute(p)) && Same(want, Compute(p)) ? 0 : 1);
    }
    Expect(Same(want, Compute(p)), "the parent of a fork");
    int status = 1;
    waitpid(child, &status, 0);
    Expect(status == 0, "the child of a fork");
  }
#endif
}

int Report() {
  std::printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures != 0;
}

}  // namespace
}  // namespace groupnorm

// Arguments: a seed for the drawn shapes, and "threads" for only what runs in
// several threads.
int main(int argc, char** argv) {
  using namespace groupnorm;
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  TestModes();
  TestThreads();
  TestConcurrentCalls();
  if (argc > 2 && std::string(argv[2]) == "threads") {
    TestDrawn<float>(seed, 20);
    return Report();
  }
  TestDrawn<float>(seed, 80);
  TestDrawn<double>(seed + 1, 25);
  TestDrawn<BFloat16>(seed + 2, 25);
  TestDrawn<Half>(seed + 3, 25);
  TestMaskedNotFinite();
  TestShapes<float>();
  TestShapes<double>();
  TestShapes<BFloat16>();
  TestShapes<Half>();
  TestEmpty<float>();
  TestEmpty<Half>();
  TestShifts();
  TestSpikes();
  TestConstant();
  TestRange();
  TestNotFinite<float>();
  TestNotFinite<double>();
  TestNotFinite<BFloat16>();
  TestNotFinite<Half>();
  TestRounding<BFloat16>();
  TestRounding<Half>();
  TestInPlace();
  TestFork();
  return Report();
}
