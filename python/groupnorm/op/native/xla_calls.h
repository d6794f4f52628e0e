// The two operations as calls that XLA makes on a CPU, written on the C API of its
// foreign function interface only, so that one library serves many versions.
#ifndef GROUPNORM_XLA_CALLS_H_
#define GROUPNORM_XLA_CALLS_H_

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string>

#include "operations.h"
#include "xla_ffi.h"

namespace groupnorm {
namespace xla {

// ------------------------------------------------------------------ buffers

class Buffer {
 public:
  explicit Buffer(const void* buffer)
      : buffer_(static_cast<const XLA_FFI_Buffer*>(buffer)) {}

  Dims dims() const {
    return Dims(buffer_->rank, [&](int i) { return buffer_->dims[i]; });
  }
  void* data() const { return buffer_->data; }
  bool IsEmpty() const {
    const auto begin = buffer_->dims, end = begin + buffer_->rank;
    return std::find(begin, end, 0) != end;
  }
  int dtype() const { return buffer_->dtype; }

 private:
  const XLA_FFI_Buffer* buffer_;
};

class Context {
 public:
  using Tensor = Buffer;

  explicit Context(const XLA_FFI_CallFrame* frame) : frame_(frame) {}

  Buffer Input(int i) const { return Buffer(frame_->args.args[i]); }

  // What XLA has taken for it.
  Buffer Output(int i, const Dims& dims) const {
    const Buffer output(frame_->rets.rets[i]);
    CheckDims("an output", output.dims(), dims);
    return output;
  }

  // XLA decides what is where.
  Buffer OutputInPlaceOf(std::initializer_list<int>, int i, const Dims& dims) const {
    return Output(i, dims);
  }

  template <class V>
  V Attribute(const char* name) const {
    const XLA_FFI_Attrs& given = frame_->attrs;
    for (int64_t i = 0; i < given.size; ++i) {
      const XLA_FFI_ByteSpan& other = *given.names[i];
      if (std::string(other.ptr, other.len) == name)
        return *static_cast<V*>(static_cast<XLA_FFI_Scalar*>(given.attrs[i])->value);
    }
    throw Failure{kInternal, std::string("groupnorm: no attribute ") + name};
  }

 private:
  const XLA_FFI_CallFrame* frame_;
};

// ----------------------------------------------------------------- handlers

inline XLA_FFI_Error* Error(const XLA_FFI_Api* api, int code, const char* message) {
  XLA_FFI_Error_Create_Args args{sizeof args, nullptr, message, code};
  return api->XLA_FFI_Error_Create(&args);
}

template <class Op>
void Compute(const Attributes& attributes, const Context& context) {
  switch (const int dtype = context.Input(0).dtype()) {
    case XLA_FFI_DataType_F32:
      return Op::template Compute<float>(attributes, context);
    case XLA_FFI_DataType_F64:
      return Op::template Compute<double>(attributes, context);
    case XLA_FFI_DataType_BF16:
      return Op::template Compute<BFloat16>(attributes, context);
    case XLA_FFI_DataType_F16:
      return Op::template Compute<Half>(attributes, context);
    default:
      throw Failure{kInvalidArgument, "groupnorm: x has a dtype that has no kernel, " +
                                          std::to_string(dtype)};
  }
}

// The interface that Register() was given.
inline const XLA_FFI_Api*& Interface() {
  static const XLA_FFI_Api* interface = nullptr;
  return interface;
}

// Whether XLA only asks which version of the interface this is written for. It is told
// its own, if frames are laid out as they are known here, and one that there is not if
// they are not: then it declines.
inline bool IsAsked(const XLA_FFI_CallFrame* frame) {
  XLA_FFI_Extension_Base* extension = frame->extension_start;
  if (extension == nullptr || extension->type != XLA_FFI_Extension_Metadata) return false;
  constexpr size_t kFrame =
      offsetof(XLA_FFI_CallFrame, attrs) + sizeof(XLA_FFI_CallFrame::attrs);
  XLA_FFI_Api_Version& version =
      reinterpret_cast<XLA_FFI_Metadata_Extension*>(extension)->metadata->api_version;
  const XLA_FFI_Api_Version& known = Interface()->api_version;
  version.major_version = frame->struct_size == kFrame ? known.major_version : -1;
  version.minor_version = known.minor_version;
  return true;
}

template <class Op>
XLA_FFI_Error* Handle(XLA_FFI_CallFrame* frame) {
  XLA_FFI_Error* error = nullptr;
  if (IsAsked(frame)) return error;
  Guard(
      [&] {
        const Context context(frame);
        const Attributes attributes{context.Attribute<int64_t>("groups"),
                                    context.Attribute<int64_t>("axis"),
                                    context.Attribute<double>("epsilon")};
        Compute<Op>(attributes, context);
      },
      [&](int code, const char* message) { error = Error(frame->api, code, message); });
  return error;
}

// ------------------------------------------------------------- registration

inline std::string RegisterHandler(const char* name, XLA_FFI_Handler* handler) {
  const XLA_FFI_Api* api = Interface();
  const auto span = [](const char* text) {
    return XLA_FFI_ByteSpan{text, std::strlen(text)};
  };
  XLA_FFI_Handler_Register_Args args{};
  args.struct_size = sizeof args;
  args.name = span(name);
  args.platform = span("Host");
  args.bundle.execute = handler;
  XLA_FFI_Error* error = api->XLA_FFI_Handler_Register(&args);
  if (error == nullptr) return "";
  XLA_FFI_Error_GetMessage_Args read{sizeof read, nullptr, error, nullptr};
  api->XLA_FFI_Error_GetMessage(&read);
  const std::string message = read.message;
  XLA_FFI_Error_Destroy_Args destroy{sizeof destroy, nullptr, error};
  api->XLA_FFI_Error_Destroy(&destroy);
  return message;
}

// Returns why the operations could not be registered, or nothing.
inline std::string Register(const XLA_FFI_Api* api) {
  // Before version 0.1 there is something else in its place.
  const XLA_FFI_Api_Version& version = api->api_version;
  if (version.struct_size != sizeof version || version.major_version != 0)
    return "XLA's foreign function interface is not of a version from 0.1 to below 1";
  Interface() = api;
  const std::string error =
      RegisterHandler("groupnorm_forward", &Handle<ForwardOp>);
  return error.empty() ? RegisterHandler("groupnorm_backward", &Handle<BackwardOp>)
                       : error;
}

}  // namespace xla
}  // namespace groupnorm

#endif  // GROUPNORM_XLA_CALLS_H_
