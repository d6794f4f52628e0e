// The two operations as whoever runs them calls them: what they are given is checked,
// and handed to the kernel.
//
// A Context, TensorFlow's (tensorflow_ops.h) or XLA's (xla_calls.h), gives them inputs
// and outputs by number. Its Tensors have dims(), data() and IsEmpty().
#ifndef GROUPNORM_OPERATIONS_H_
#define GROUPNORM_OPERATIONS_H_

#include <algorithm>
#include <exception>
#include <initializer_list>
#include <new>
#include <string>

#include "kernel.h"

namespace groupnorm {

// ------------------------------------------------------------------- errors

// As TensorFlow and XLA number them.
enum Code { kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13 };

// An error on its way to whoever called.
struct Failure {
  int code;
  std::string message;
};

// The message is made only if it is needed: to make it takes as long as small tensors.
template <class Message>
void Check(bool condition, Message message) {
  if (!condition) throw Failure{kInvalidArgument, message()};
}

// Call body() and hand what it throws to report(code, message).
template <class Body, class Report>
void Guard(Body body, Report report) {
  try {
    body();
  } catch (const Failure& failure) {
    report(failure.code, failure.message.c_str());
  } catch (const std::bad_alloc&) {
    report(kResourceExhausted, "groupnorm: no memory");
  } catch (const std::exception& error) {
    report(kInternal, error.what());
  }
}

// -------------------------------------------------------------------- sizes

// The sizes of a tensor's axes: on the stack, for small tensors take less time than what
// is asked of the C library.
class Dims {
 public:
  Dims(std::initializer_list<int64_t> sizes) : size_(sizes.size()) {
    std::copy(sizes.begin(), sizes.end(), sizes_);
  }
  // size_of(i) is that of axis i.
  template <class SizeOf>
  Dims(size_t size, SizeOf size_of) : size_(size) {
    for (size_t i = 0; i < size_; ++i) sizes_[i] = size_of(i);
  }

  size_t size() const { return size_; }
  const int64_t* data() const { return sizes_; }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + size_; }
  int64_t operator[](size_t i) const { return sizes_[i]; }
  bool operator==(const Dims& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }
  bool operator!=(const Dims& other) const { return !(*this == other); }

 private:
  static constexpr size_t kMost = 254;  // of a tensor in TensorFlow
  size_t size_;
  int64_t sizes_[kMost];
};

inline std::string Text(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i)
    text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

// --------------------------------------------------------------- operations

template <class T, class Tensor>
T* Data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data());
}

// Null for a tensor without elements: an absent gamma or beta.
template <class T, class Tensor>
T* DataOrNull(const Tensor& tensor) {
  return tensor.IsEmpty() ? nullptr : Data<T>(tensor);
}

struct Attributes {
  int64_t groups, axis;
  double epsilon;
};

inline Shape MakeShape(const Dims& dims, const Attributes& attributes) {
  const int64_t rank = dims.size(), axis = attributes.axis;
  Check(rank >= 2, [&] {
    return "groupnorm: x must have rank >= 2, got shape " + Text(dims);
  });
  Check(axis >= 1 && axis < rank, [&] {
    return "groupnorm: axis " + std::to_string(axis) +
           " is not a channel axis of shape " + Text(dims);
  });
  Shape shape{dims[0], 1, dims[axis], 1, attributes.groups};
  for (int64_t i = 1; i < axis; ++i) shape.A *= dims[i];
  for (int64_t i = axis + 1; i < rank; ++i) shape.B *= dims[i];
  Check(shape.C % shape.G == 0, [&] {
    return "groupnorm: groups (" + std::to_string(shape.G) +
           ") must divide the number of channels (" + std::to_string(shape.C) + ")";
  });
  return shape;
}

inline void CheckDims(const char* name, const Dims& dims, const Dims& expected) {
  Check(dims == expected, [&] {
    return std::string("groupnorm: ") + name + " must have shape " + Text(expected) +
           ", got " + Text(dims);
  });
}

inline void CheckParameter(const char* name, const Dims& dims, const Shape& shape) {
  if (dims != Dims{0}) CheckDims(name, dims, {shape.C});
}

// The mask has the axes of x, with size 1 for that of the channels and for those
// at the end over which it stays the same; or is of shape [0] if there is none.
template <class Tensor>
Mask MakeMask(const Tensor& mask, const Dims& dims, const Attributes& attributes,
              const Shape& shape) {
  const Dims given = mask.dims();
  if (given == Dims{0}) return Mask();
  const auto message = [&] {
    return "groupnorm: mask must have shape " + Text(dims) + " with 1 for axis " +
           std::to_string(attributes.axis) + " (and for axes at the end), got " +
           Text(given);
  };
  Check(given.size() == dims.size(), message);
  int64_t repeat = 1;
  bool at_end = true;
  for (int64_t i = dims.size() - 1; i >= 0; --i) {
    const int64_t size = i == attributes.axis ? 1 : dims[i];
    at_end &= i > 0 && given[i] == 1;
    if (at_end) repeat *= size;
    Check(at_end || given[i] == size, message);
  }
  return Mask(Data<unsigned char>(mask), shape.Positions(), repeat);
}

struct ForwardOp {
  template <class T, class Context>
  static void Compute(const Attributes& attributes, Context context) {
    using Tensor = typename Context::Tensor;
    using R = RealOf<T>;
    const Dims dims = context.Input(0).dims();
    const Shape shape = MakeShape(dims, attributes);
    const Tensor gamma = context.Input(1), beta = context.Input(2);
    CheckParameter("gamma", gamma.dims(), shape);
    CheckParameter("beta", beta.dims(), shape);
    const Tensor mask = context.Input(3);
    const Mask counts = MakeMask(mask, dims, attributes, shape);
    const Tensor y = context.OutputInPlaceOf({0}, 0, dims);
    const Tensor stats = context.Output(1, {shape.N, shape.G, 2});
    const Tensor x = context.Input(0);
    Forward<T>(shape, counts, Data<T>(x), DataOrNull<R>(gamma), DataOrNull<R>(beta),
               attributes.epsilon, Data<T>(y), Data<Statistics>(stats));
  }
};

struct BackwardOp {
  template <class T, class Context>
  static void Compute(const Attributes& attributes, Context context) {
    using Tensor = typename Context::Tensor;
    using R = RealOf<T>;
    const Dims dims = context.Input(0).dims();
    const Shape shape = MakeShape(dims, attributes);
    const Tensor gamma = context.Input(1), beta = context.Input(2);
    const Tensor mask = context.Input(3), stats = context.Input(4);
    CheckParameter("gamma", gamma.dims(), shape);
    CheckParameter("beta", beta.dims(), shape);
    const Mask counts = MakeMask(mask, dims, attributes, shape);
    CheckDims("stats", stats.dims(), {shape.N, shape.G, 2});
    CheckDims("dy", context.Input(5).dims(), dims);
    const Tensor dx = context.OutputInPlaceOf({5, 0}, 0, dims);
    const Tensor dgamma = context.Output(1, gamma.dims());
    const Tensor dbeta = context.Output(2, beta.dims());
    const Tensor x = context.Input(0), dy = context.Input(5);
    Backward<T>(shape, counts, Data<T>(x), DataOrNull<R>(gamma), Data<Statistics>(stats),
                Data<T>(dy), Data<T>(dx), DataOrNull<R>(dgamma), DataOrNull<R>(dbeta));
  }
};

}  // namespace groupnorm

#endif  // GROUPNORM_OPERATIONS_H_
