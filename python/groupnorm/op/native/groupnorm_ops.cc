// GroupnormForward and GroupnormBackward as TensorFlow operations, written on
// TensorFlow's C API only, so that one library serves many TensorFlow versions.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "kernel.h"
#include "pages.h"
#include "tensorflow_c.h"

namespace {

using groupnorm::BFloat16;
using groupnorm::Half;
using groupnorm::Mask;
using groupnorm::RealOf;
using groupnorm::Shape;
using groupnorm::Statistics;

// ---------------------------------------------------------------- ownership

struct Deleter {
  void operator()(TF_Status* p) const { TF_DeleteStatus(p); }
  void operator()(TF_Tensor* p) const { TF_DeleteTensor(p); }
  void operator()(TF_ShapeHandle* p) const { TF_DeleteShapeHandle(p); }
};
template <class P>
using Owned = std::unique_ptr<P, Deleter>;

// An error on its way to a TF_Status.
struct Failure {
  TF_Code code;
  std::string message;
};

// The message is made only if it is needed: to make it takes as long as small tensors.
template <class Message>
void Check(bool condition, Message message) {
  if (!condition) throw Failure{TF_INVALID_ARGUMENT, message()};
}

void Check(const Owned<TF_Status>& status) {
  const TF_Code code = TF_GetCode(status.get());
  if (code != TF_OK) throw Failure{code, TF_Message(status.get())};
}

// Call body() and hand what it throws to report(status).
template <class Body, class Report>
void Guard(Body body, Report report) {
  const auto fail = [&](TF_Code code, const char* message) {
    const Owned<TF_Status> status(TF_NewStatus());
    TF_SetStatus(status.get(), code, message);
    report(status.get());
  };
  try {
    body();
  } catch (const Failure& failure) {
    fail(failure.code, failure.message.c_str());
  } catch (const std::bad_alloc&) {
    fail(TF_RESOURCE_EXHAUSTED, "groupnorm: no memory");
  } catch (const std::exception& error) {
    fail(TF_INTERNAL, error.what());
  }
}

// ------------------------------------------------------------------ tensors

// The sizes of a tensor's axes: on the stack, for small tensors take less time than what
// is asked of the C library.
class Dims {
 public:
  Dims(std::initializer_list<int64_t> sizes) : size_(sizes.size()) {
    std::copy(sizes.begin(), sizes.end(), sizes_);
  }
  explicit Dims(const TF_Tensor* tensor) : size_(TF_NumDims(tensor)) {
    for (size_t i = 0; i < size_; ++i) sizes_[i] = TF_Dim(tensor, i);
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

std::string Text(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i)
    text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

class Tensor {
 public:
  explicit Tensor(TF_Tensor* tensor) : tensor_(tensor) {}
  Dims dims() const { return Dims(tensor_.get()); }
  template <class T>
  T* data() const {
    return static_cast<T*>(TF_TensorData(tensor_.get()));
  }
  // Null for a tensor without elements: an absent gamma or beta.
  template <class T>
  T* DataOrNull() const {
    return TF_TensorElementCount(tensor_.get()) ? data<T>() : nullptr;
  }

 private:
  Owned<TF_Tensor> tensor_;
};

class Context {
 public:
  explicit Context(TF_OpKernelContext* context)
      : context_(context), status_(TF_NewStatus()) {}

  Tensor Input(int i) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, i, &tensor, status_.get());
    Check(status_);
    return Tensor(tensor);
  }

  Tensor Output(int i, const Dims& dims) {
    const TF_DataType type = TF_ExpectedOutputDataType(context_, i);
    size_t bytes = TF_DataTypeSize(type);
    for (int64_t dim : dims) bytes *= dim;
    TF_Tensor* tensor = TF_AllocateOutput(context_, i, type, dims.data(),
                                          dims.size(), bytes, status_.get());
    Check(status_);
    return Tensor(tensor);
  }

  // Take over an input's buffer if nobody else needs it: nobody includes us,
  // so no Tensor of that input may be alive here.
  Tensor OutputInPlaceOf(std::initializer_list<int> inputs, int i,
                         const Dims& dims) {
    int forwarded = -1;
    TF_Tensor* tensor = TF_ForwardInputOrAllocateOutput(
        context_, inputs.begin(), inputs.size(), i, dims.data(), dims.size(),
        &forwarded, status_.get());
    Check(status_);
    if (forwarded < 0)
      groupnorm::AskForLargePages(TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return Tensor(tensor);
  }

 private:
  TF_OpKernelContext* context_;
  Owned<TF_Status> status_;
};

// --------------------------------------------------------------- operations

struct Attributes {
  int64_t groups, axis;
  double epsilon;
};

Shape MakeShape(const Dims& dims, const Attributes& attributes) {
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

void CheckDims(const char* name, const Dims& dims, const Dims& expected) {
  Check(dims == expected, [&] {
    return std::string("groupnorm: ") + name + " must have shape " + Text(expected) +
           ", got " + Text(dims);
  });
}

void CheckParameter(const char* name, const Dims& dims, const Shape& shape) {
  if (dims != Dims{0}) CheckDims(name, dims, {shape.C});
}

// The mask has the axes of x, with size 1 for that of the channels and for those
// at the end over which it stays the same; or is of shape [0] if there is none.
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
  return Mask(mask.data<unsigned char>(), shape.Positions(), repeat);
}

struct ForwardOp {
  static constexpr const char* kName = "GroupnormForward";

  template <class T>
  static void Compute(const Attributes& attributes, Context context) {
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
    groupnorm::Forward<T>(shape, counts, x.data<T>(), gamma.DataOrNull<R>(),
                          beta.DataOrNull<R>(), attributes.epsilon, y.data<T>(),
                          stats.data<Statistics>());
  }
};

struct BackwardOp {
  static constexpr const char* kName = "GroupnormBackward";

  template <class T>
  static void Compute(const Attributes& attributes, Context context) {
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
    groupnorm::Backward<T>(shape, counts, x.data<T>(), gamma.DataOrNull<R>(),
                           stats.data<Statistics>(), dy.data<T>(), dx.data<T>(),
                           dgamma.DataOrNull<R>(), dbeta.DataOrNull<R>());
  }
};

// ------------------------------------------------------------- registration

// `read` is the function of the C API for this type.
template <class V>
V Attribute(TF_OpKernelConstruction* construction, const char* name,
            void (*read)(TF_OpKernelConstruction*, const char*, V*, TF_Status*)) {
  Owned<TF_Status> status(TF_NewStatus());
  V value{};
  read(construction, name, &value, status.get());
  Check(status);
  return value;
}

void* Create(TF_OpKernelConstruction* construction) {
  Attributes* attributes = nullptr;
  Guard(
      [&] {
        const auto number = [&](const char* name) {
          return Attribute<float>(construction, name,
                                  &TF_OpKernelConstruction_GetAttrFloat);
        };
        const auto integer = [&](const char* name) {
          return Attribute<int64_t>(construction, name,
                                    &TF_OpKernelConstruction_GetAttrInt64);
        };
        const double epsilon = number("epsilon");
        attributes = new Attributes{integer("groups"), integer("axis"),
                                    epsilon + number("epsilon_rest")};
      },
      [&](TF_Status* status) {
        TF_OpKernelConstruction_Failure(construction, status);
      });
  return attributes;
}

template <class Op, class T>
void Compute(void* attributes, TF_OpKernelContext* context) {
  Guard(
      [&] {
        Op::template Compute<T>(*static_cast<Attributes*>(attributes),
                                Context(context));
      },
      [&](TF_Status* status) { TF_OpKernelContext_Failure(context, status); });
}

void Delete(void* attributes) { delete static_cast<Attributes*>(attributes); }

template <class Op, class T>
void RegisterKernel(TF_DataType type) {
  Owned<TF_Status> status(TF_NewStatus());
  TF_KernelBuilder* builder =
      TF_NewKernelBuilder(Op::kName, "CPU", &Create, &Compute<Op, T>, &Delete);
  TF_KernelBuilder_TypeConstraint(builder, "T", type, status.get());
  Check(status);
  const TF_DataType real =
      std::is_same<RealOf<T>, double>::value ? TF_DOUBLE : TF_FLOAT;
  TF_KernelBuilder_TypeConstraint(builder, "S", real, status.get());
  Check(status);
  const std::string name = Op::kName + std::to_string(type);
  TF_RegisterKernelBuilder(name.c_str(), builder, status.get());
  Check(status);
}

template <class Op>
void RegisterKernels() {
  RegisterKernel<Op, float>(TF_FLOAT);
  RegisterKernel<Op, double>(TF_DOUBLE);
  RegisterKernel<Op, BFloat16>(TF_BFLOAT16);
  RegisterKernel<Op, Half>(TF_HALF);
}

// Give output i the shape of input `from`.
void CopyShape(TF_ShapeInferenceContext* context, int from, int i,
               TF_Status* status) {
  Owned<TF_ShapeHandle> shape(TF_NewShapeHandle());
  TF_ShapeInferenceContextGetInput(context, from, shape.get(), status);
  if (TF_GetCode(status) != TF_OK) return;
  TF_ShapeInferenceContextSetOutput(context, i, shape.get(), status);
}

// The C API has no integer attributes here, so the shape of stats, which
// depends on groups, stays unknown.
void ForwardShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  if (TF_GetCode(status) == TF_OK) CopyShape(context, 0, 0, status);
}

void BackwardShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  for (int i = 0; i < 3 && TF_GetCode(status) == TF_OK; ++i)
    CopyShape(context, i, i, status);
}

// Both operations have the same attributes. An attribute is float32: epsilon_rest
// carries the digits that epsilon loses. The backward operation does not need them,
// but its own gradient does.
void RegisterOp(const char* name, std::initializer_list<const char*> inputs,
                std::initializer_list<const char*> outputs,
                void (*shapes)(TF_ShapeInferenceContext*, TF_Status*)) {
  Owned<TF_Status> status(TF_NewStatus());
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(name);
  for (const char* spec : inputs)
    TF_OpDefinitionBuilderAddInput(builder, spec);
  for (const char* spec : outputs)
    TF_OpDefinitionBuilderAddOutput(builder, spec);
  for (const char* spec :
       {"T: {float, double, bfloat16, half}", "S: {float, double}",
        "groups: int >= 1", "axis: int >= 1", "epsilon: float",
        "epsilon_rest: float = 0.0"})
    TF_OpDefinitionBuilderAddAttr(builder, spec);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, shapes);
  TF_RegisterOpDefinition(builder, status.get());
  Check(status);
}

bool Register() {
  bool done = false;
  Guard(
      [&] {
        RegisterOp(ForwardOp::kName, {"x: T", "gamma: S", "beta: S", "mask: bool"},
                   {"y: T", "stats: double"}, &ForwardShapes);
        RegisterOp(BackwardOp::kName,
                   {"x: T", "gamma: S", "beta: S", "mask: bool", "stats: double",
                    "dy: T"},
                   {"dx: T", "dgamma: S", "dbeta: S"}, &BackwardShapes);
        RegisterKernels<ForwardOp>();
        RegisterKernels<BackwardOp>();
        done = true;
      },
      [](TF_Status* status) {
        std::fprintf(stderr, "groupnorm: %s\n", TF_Message(status));
      });
  return done;
}

// tf.load_op_library looks at what registers itself while it is loaded.
const bool registered = Register();

}  // namespace

extern "C" __attribute__((visibility("default"))) void groupnorm_set_threads(
    int threads) {
  groupnorm::SetThreads(threads);
}
