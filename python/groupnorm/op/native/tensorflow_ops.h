// GroupnormForward and GroupnormBackward as TensorFlow operations, written on
// TensorFlow's C API only, so that one library serves many TensorFlow versions.
#ifndef GROUPNORM_TENSORFLOW_OPS_H_
#define GROUPNORM_TENSORFLOW_OPS_H_

#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "operations.h"
#include "pages.h"
#include "tensorflow_c.h"

namespace groupnorm {
namespace tensorflow {

// ---------------------------------------------------------------- ownership

struct Deleter {
  void operator()(TF_Status* p) const { TF_DeleteStatus(p); }
  void operator()(TF_Tensor* p) const { TF_DeleteTensor(p); }
  void operator()(TF_ShapeHandle* p) const { TF_DeleteShapeHandle(p); }
};
template <class P>
using Owned = std::unique_ptr<P, Deleter>;

inline void Check(const Owned<TF_Status>& status) {
  const TF_Code code = TF_GetCode(status.get());
  if (code != TF_OK) throw Failure{code, TF_Message(status.get())};
}

// Guard() for functions of the C API, which are told of errors by a status.
template <class Body, class Report>
void Guarded(Body body, Report report) {
  Guard(body, [&](int code, const char* message) {
    const Owned<TF_Status> status(TF_NewStatus());
    TF_SetStatus(status.get(), static_cast<TF_Code>(code), message);
    report(status.get());
  });
}

// ------------------------------------------------------------------ tensors

class Tensor {
 public:
  explicit Tensor(TF_Tensor* tensor) : tensor_(tensor) {}
  Dims dims() const {
    const TF_Tensor* tensor = tensor_.get();
    return Dims(TF_NumDims(tensor), [&](int i) { return TF_Dim(tensor, i); });
  }
  void* data() const { return TF_TensorData(tensor_.get()); }
  bool IsEmpty() const { return TF_TensorElementCount(tensor_.get()) == 0; }

 private:
  Owned<TF_Tensor> tensor_;
};

class Context {
 public:
  using Tensor = tensorflow::Tensor;

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
      AskForLargePages(TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return Tensor(tensor);
  }

 private:
  TF_OpKernelContext* context_;
  Owned<TF_Status> status_;
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

inline void* Create(TF_OpKernelConstruction* construction) {
  Attributes* attributes = nullptr;
  Guarded(
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
  Guarded(
      [&] {
        Op::template Compute<T>(*static_cast<const Attributes*>(attributes),
                                Context(context));
      },
      [&](TF_Status* status) { TF_OpKernelContext_Failure(context, status); });
}

inline void Delete(void* attributes) { delete static_cast<Attributes*>(attributes); }

// `op` is the operation's name.
template <class Op, class T>
void RegisterKernel(const char* op, TF_DataType type) {
  Owned<TF_Status> status(TF_NewStatus());
  TF_KernelBuilder* builder =
      TF_NewKernelBuilder(op, "CPU", &Create, &Compute<Op, T>, &Delete);
  TF_KernelBuilder_TypeConstraint(builder, "T", type, status.get());
  Check(status);
  const TF_DataType real =
      std::is_same<RealOf<T>, double>::value ? TF_DOUBLE : TF_FLOAT;
  TF_KernelBuilder_TypeConstraint(builder, "S", real, status.get());
  Check(status);
  const std::string name = op + std::to_string(type);
  TF_RegisterKernelBuilder(name.c_str(), builder, status.get());
  Check(status);
}

template <class Op>
void RegisterKernels(const char* op) {
  RegisterKernel<Op, float>(op, TF_FLOAT);
  RegisterKernel<Op, double>(op, TF_DOUBLE);
  RegisterKernel<Op, BFloat16>(op, TF_BFLOAT16);
  RegisterKernel<Op, Half>(op, TF_HALF);
}

// Give output i the shape of input `from`.
inline void CopyShape(TF_ShapeInferenceContext* context, int from, int i,
               TF_Status* status) {
  Owned<TF_ShapeHandle> shape(TF_NewShapeHandle());
  TF_ShapeInferenceContextGetInput(context, from, shape.get(), status);
  if (TF_GetCode(status) != TF_OK) return;
  TF_ShapeInferenceContextSetOutput(context, i, shape.get(), status);
}

// The C API has no integer attributes here, so the shape of stats, which
// depends on groups, stays unknown.
inline void ForwardShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  if (TF_GetCode(status) == TF_OK) CopyShape(context, 0, 0, status);
}

inline void BackwardShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  for (int i = 0; i < 3 && TF_GetCode(status) == TF_OK; ++i)
    CopyShape(context, i, i, status);
}

// Both operations have the same attributes. An attribute is float32: epsilon_rest
// carries the digits that epsilon loses. The backward operation does not need them,
// but its own gradient does.
inline void RegisterOp(const char* name, std::initializer_list<const char*> inputs,
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

inline bool Register() {
  constexpr const char *kForward = "GroupnormForward", *kBackward = "GroupnormBackward";
  bool done = false;
  Guarded(
      [&] {
        RegisterOp(kForward, {"x: T", "gamma: S", "beta: S", "mask: bool"},
                   {"y: T", "stats: double"}, &ForwardShapes);
        RegisterOp(kBackward,
                   {"x: T", "gamma: S", "beta: S", "mask: bool", "stats: double",
                    "dy: T"},
                   {"dx: T", "dgamma: S", "dbeta: S"}, &BackwardShapes);
        RegisterKernels<ForwardOp>(kForward);
        RegisterKernels<BackwardOp>(kBackward);
        done = true;
      },
      [](TF_Status* status) {
        std::fprintf(stderr, "groupnorm: %s\n", TF_Message(status));
      });
  return done;
}

}  // namespace tensorflow
}  // namespace groupnorm

#endif  // GROUPNORM_TENSORFLOW_OPS_H_
