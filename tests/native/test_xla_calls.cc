// Tests of the calls that XLA makes, with an XLA of no substance: what it is told, what
// comes back, and what it sees of errors.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "xla_calls.h"

struct XLA_FFI_Error {
  int code;
  std::string message;
};

namespace groupnorm {
namespace {

int failures = 0;

void Expect(bool condition, const std::string& what) {
  if (condition) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// ---------------------------------------------------------------------- XLA

std::map<std::string, XLA_FFI_Handler*> handlers;
std::string refusal;  // of handlers, if there is one
int errors = 0;       // that are not destroyed yet

XLA_FFI_Error* CreateError(XLA_FFI_Error_Create_Args* args) {
  ++errors;
  return new XLA_FFI_Error{args->errc, args->message};
}

void GetMessage(XLA_FFI_Error_GetMessage_Args* args) {
  args->message = args->error->message.c_str();
}

void DestroyError(XLA_FFI_Error_Destroy_Args* args) {
  --errors;
  delete args->error;
}

// As XLA does: it asks for the version, and wants its own.
XLA_FFI_Error* RegisterHandler(XLA_FFI_Handler_Register_Args* args);

XLA_FFI_Api Api(size_t version_size, int major, int minor) {
  XLA_FFI_Api api{};
  api.struct_size = sizeof api;
  api.api_version = {version_size, nullptr, major, minor};
  api.XLA_FFI_Error_Create = &CreateError;
  api.XLA_FFI_Error_GetMessage = &GetMessage;
  api.XLA_FFI_Error_Destroy = &DestroyError;
  api.XLA_FFI_Handler_Register = &RegisterHandler;
  return api;
}

constexpr int kBool = 1, kInt64 = 4;  // of XLA_FFI_DataType
const XLA_FFI_Api usual = Api(sizeof(XLA_FFI_Api_Version), 0, 2);
size_t frame_size = offsetof(XLA_FFI_CallFrame, attrs) + sizeof(XLA_FFI_Attrs);

XLA_FFI_Error* RegisterHandler(XLA_FFI_Handler_Register_Args* args) {
  XLA_FFI_Metadata metadata{};
  XLA_FFI_Metadata_Extension extension{
      {sizeof extension, XLA_FFI_Extension_Metadata, nullptr}, &metadata};
  XLA_FFI_CallFrame frame{};
  frame.struct_size = frame_size;
  frame.extension_start = &extension.extension_base;
  Expect(args->bundle.execute(&frame) == nullptr, "an answer to what is asked");
  const auto& version = metadata.api_version;
  if (version.major_version != 0 || version.minor_version != 2)
    refusal = "incompatible";
  XLA_FFI_Error_Create_Args error{sizeof error, nullptr, refusal.c_str(), 3};
  if (!refusal.empty()) return CreateError(&error);
  Expect(std::string(args->platform.ptr, args->platform.len) == "Host", "platform");
  handlers[{args->name.ptr, args->name.len}] = args->bundle.execute;
  return nullptr;
}

struct Operand {
  template <class V>
  Operand(int type, std::vector<int64_t> sizes, std::vector<V>* values)
      : dtype(type), dims(std::move(sizes)), data(values->data()) {}

  XLA_FFI_Buffer Shown() {
    const int64_t rank = dims.size();
    return {sizeof(XLA_FFI_Buffer), nullptr, dtype, data, rank, dims.data()};
  }

  int dtype;
  std::vector<int64_t> dims;
  void* data;
};

// Pointers to the elements, as XLA hands them on.
template <class V>
std::vector<void*> Pointers(std::vector<V>& values) {
  std::vector<void*> pointers;
  for (V& value : values) pointers.push_back(&value);
  return pointers;
}

struct Call {
  std::vector<Operand> inputs, outputs;
  int64_t groups, axis;
  double epsilon = 1e-3;
  bool has_epsilon = true;

  // The error, which is destroyed, or one with the code 0.
  XLA_FFI_Error Run(const std::string& name) {
    std::vector<XLA_FFI_Buffer> in, out;
    for (Operand& input : inputs) in.push_back(input.Shown());
    for (Operand& output : outputs) out.push_back(output.Shown());
    auto args = Pointers(in), rets = Pointers(out);
    XLA_FFI_ByteSpan axis_name{"axis", 4}, epsilon_name{"epsilon", 7};
    XLA_FFI_ByteSpan groups_name{"groups", 6};
    std::vector<XLA_FFI_ByteSpan*> names{&axis_name, &groups_name};
    std::vector<XLA_FFI_Scalar> values{{kInt64, &axis}, {kInt64, &groups}};
    if (has_epsilon) {
      names.push_back(&epsilon_name);
      values.push_back({XLA_FFI_DataType_F64, &epsilon});
    }
    auto attrs = Pointers(values);
    XLA_FFI_CallFrame frame{};
    frame.struct_size = frame_size;
    frame.api = &usual;
    frame.args.size = args.size();
    frame.args.args = args.data();
    frame.rets.size = rets.size();
    frame.rets.rets = rets.data();
    frame.attrs.size = attrs.size();
    frame.attrs.names = names.data();
    frame.attrs.attrs = attrs.data();
    XLA_FFI_Error* error = handlers.at(name)(&frame);
    if (error == nullptr) return {0, ""};
    const XLA_FFI_Error copy = *error;
    XLA_FFI_Error_Destroy_Args destroy{sizeof destroy, nullptr, error};
    DestroyError(&destroy);
    return copy;
  }
};

// -------------------------------------------------------------------- tests

void TestRegistration() {
  for (const XLA_FFI_Api& api : {
           Api(sizeof(void*), 0, 1),  // in version 0.0 a pointer is there
           Api(sizeof(XLA_FFI_Api_Version), 1, 0),
       }) {
    Expect(!xla::Register(&api).empty(), "an interface of another version");
    Expect(handlers.empty(), "nothing is registered with it");
  }
  frame_size += sizeof(void*);
  Expect(xla::Register(&usual) == "incompatible", "frames that are laid out otherwise");
  frame_size -= sizeof(void*);
  refusal = "as if it were there already";
  Expect(xla::Register(&usual) == refusal, "why not");
  refusal.clear();
  Expect(handlers.empty() && errors == 0, "nothing is left of refusals");
  Expect(xla::Register(&usual).empty(), "no reason why not");
  Expect(handlers.count("groupnorm_forward") && handlers.count("groupnorm_backward"),
         "both are there");
}

template <class V>
bool Same(const std::vector<V>& a, const std::vector<V>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0;
}

template <class T>
std::vector<T> Numbers(size_t count, int seed) {
  std::vector<T> values(count);
  for (size_t i = 0; i < count; ++i) {
    const float value = std::sin(float(7 * i + seed));
    if constexpr (sizeof(T) > 2) {
      values[i] = value;
    } else {  // some number, in both kinds of half precision
      values[i].bits = uint16_t(0x3800 + 256 * value);
    }
  }
  return values;
}

// What the kernel gives, bit for bit; test_kernel.cc tells whether that is right.
template <class T>
void TestCalls(int dtype, bool masked) {
  using R = RealOf<T>;
  const int real = sizeof(R) == 8 ? XLA_FFI_DataType_F64 : XLA_FFI_DataType_F32;
  const Shape shape{3, 5, 6, 2, 3};
  const size_t size = shape.Size(), groups = shape.N * shape.G;
  auto x = Numbers<T>(size, 1), dy = Numbers<T>(size, 2);
  auto gamma = Numbers<R>(6, 3), beta = Numbers<R>(6, 4);
  std::vector<unsigned char> counts(masked ? 15 : 0);
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = i % 4 != 3;
  const Mask mask = masked ? Mask(counts.data(), shape.Positions(), 2) : Mask();

  std::vector<T> y(size), dx(size), expected(size);
  std::vector<double> stats(2 * groups);
  std::vector<Statistics> expected_stats(groups);
  std::vector<R> dgamma(6), dbeta(6), expected_dgamma(6), expected_dbeta(6);
  const std::vector<int64_t> sizes{3, 5, 6, 2}, channels{6}, per_group{3, 3, 2};
  const std::vector<int64_t> mask_sizes =
      masked ? std::vector<int64_t>{3, 5, 1, 1} : std::vector<int64_t>{0};
  const std::string what = "dtype " + std::to_string(dtype) + (masked ? ", masked" : "");

  Forward<T>(shape, mask, x.data(), gamma.data(), beta.data(), 1e-3, expected.data(),
             expected_stats.data());
  const std::vector<Operand> inputs{{dtype, sizes, &x},
                                    {real, channels, &gamma},
                                    {real, channels, &beta},
                                    {kBool, mask_sizes, &counts}};
  Call forward{inputs,
               {{dtype, sizes, &y}, {XLA_FFI_DataType_F64, per_group, &stats}},
               shape.G,
               2};
  Expect(forward.Run("groupnorm_forward").code == 0, "forward, " + what);
  Expect(Same(y, expected), "y, " + what);
  Expect(std::memcmp(stats.data(), expected_stats.data(), 2 * groups * sizeof(double)) ==
             0,
         "statistics, " + what);

  Backward<T>(shape, mask, x.data(), gamma.data(), expected_stats.data(), dy.data(),
              expected.data(), expected_dgamma.data(), expected_dbeta.data());
  const std::vector<Operand> outputs{
      {dtype, sizes, &dx}, {real, channels, &dgamma}, {real, channels, &dbeta}};
  Call backward{inputs, outputs, shape.G, 2};
  backward.inputs.emplace_back(XLA_FFI_DataType_F64, per_group, &stats);
  backward.inputs.emplace_back(dtype, sizes, &dy);
  Expect(backward.Run("groupnorm_backward").code == 0, "backward, " + what);
  Expect(Same(dx, expected), "dx, " + what);
  Expect(Same(dgamma, expected_dgamma) && Same(dbeta, expected_dbeta),
         "dgamma and dbeta, " + what);
}

void TestErrors() {
  std::vector<float> x(24), few(5), y(24);
  std::vector<double> stats(16);
  std::vector<unsigned char> none;
  const auto call = [&](int dtype, int64_t channels, int64_t samples) {
    return Call{{{dtype, {4, 6}, &x},
                 {XLA_FFI_DataType_F32, {channels}, &few},
                 {XLA_FFI_DataType_F32, {0}, &none},
                 {kBool, {0}, &none}},
                {{dtype, {4, 6}, &y}, {XLA_FFI_DataType_F64, {samples, 2, 2}, &stats}},
                2,
                1};
  };
  const auto expect = [](XLA_FFI_Error error, int code, const std::string& part) {
    Expect(error.code == code && error.message.find(part) != std::string::npos,
           "an error with " + part + ", got " + error.message);
  };
  const int f32 = XLA_FFI_DataType_F32;
  expect(call(f32, 0, 4).Run("groupnorm_forward"), 0, "");
  expect(call(f32, 5, 4).Run("groupnorm_forward"), 3,
         "gamma must have shape [6], got [5]");
  expect(call(f32, 0, 3).Run("groupnorm_forward"), 3, "output must have shape [4, 2, 2]");
  expect(call(kInt64, 0, 4).Run("groupnorm_forward"), 3, "dtype");
  Call without = call(f32, 0, 4);
  without.has_epsilon = false;
  expect(without.Run("groupnorm_forward"), 13, "epsilon");
}

}  // namespace
}  // namespace groupnorm

int main() {
  using namespace groupnorm;
  TestRegistration();
  for (const bool masked : {false, true}) {
    TestCalls<float>(XLA_FFI_DataType_F32, masked);
    TestCalls<double>(XLA_FFI_DataType_F64, masked);
    TestCalls<BFloat16>(XLA_FFI_DataType_BF16, masked);
    TestCalls<Half>(XLA_FFI_DataType_F16, masked);
  }
  TestErrors();
  if (errors) Expect(false, "every error is destroyed once");
  std::printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures != 0;
}
