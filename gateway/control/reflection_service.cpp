#include "gateway/control/reflection_service.hpp"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <mutex>
#include <set>

namespace kiln::gateway {

namespace pbuf = google::protobuf;

namespace {

constexpr int not_found = 5;

void add_with_imports(const pbuf::FileDescriptor* file, std::set<const pbuf::FileDescriptor*>& seen,
                      reflection::FileDescriptorResponse& out) {
  if (!seen.insert(file).second) return;
  pbuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  out.add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) add_with_imports(file->dependency(i), seen, out);
}

void answer_file(const pbuf::FileDescriptor* file, const std::string& what,
                 reflection::ServerReflectionResponse& out) {
  if (!file) {
    out.mutable_error_response()->set_error_code(not_found);
    out.mutable_error_response()->set_error_message("not found: " + what);
    return;
  }
  std::set<const pbuf::FileDescriptor*> seen;
  add_with_imports(file, seen, *out.mutable_file_descriptor_response());
}

/// Answers question after question until the client has no more.
class reflection_call final : public reflection_reactor {
 public:
  explicit reflection_call(const std::vector<std::string>& services) : services_(services) {
    StartRead(&in_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return end();
    out_ = reflect(in_, services_);
    StartWrite(&out_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return end();
    StartRead(&in_);
  }
  void OnCancel() override { end(); }
  void OnDone() override { delete this; }
  void end() {
    std::call_once(ended_, [this] { Finish(grpc::Status::OK); });
  }

  const std::vector<std::string>& services_;
  reflection::ServerReflectionRequest in_;
  reflection::ServerReflectionResponse out_;
  std::once_flag ended_;
};

}  // namespace

reflection::ServerReflectionResponse reflect(const reflection::ServerReflectionRequest& request,
                                             const std::vector<std::string>& services) {
  using kind = reflection::ServerReflectionRequest::MessageRequestCase;
  const auto* pool = pbuf::DescriptorPool::generated_pool();
  reflection::ServerReflectionResponse out;
  out.set_valid_host(request.host());
  *out.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case kind::kListServices:
      for (const auto& name : services) out.mutable_list_services_response()->add_service()->set_name(name);
      break;
    case kind::kFileByFilename:
      answer_file(pool->FindFileByName(request.file_by_filename()), request.file_by_filename(), out);
      break;
    case kind::kFileContainingSymbol:
      answer_file(pool->FindFileContainingSymbol(request.file_containing_symbol()),
                  request.file_containing_symbol(), out);
      break;
    case kind::kAllExtensionNumbersOfType:
      if (pool->FindMessageTypeByName(request.all_extension_numbers_of_type())) {
        out.mutable_all_extension_numbers_response()->set_base_type_name(
            request.all_extension_numbers_of_type());  // proto3: there are none
        break;
      }
      answer_file(nullptr, request.all_extension_numbers_of_type(), out);
      break;
    case kind::kFileContainingExtension:
      answer_file(nullptr, request.file_containing_extension().containing_type(), out);
      break;
    default:
      out.mutable_error_response()->set_error_code(3);
      out.mutable_error_response()->set_error_message("invalid MessageRequest");
  }
  return out;
}

reflection_reactor* reflection_service::ServerReflectionInfo(grpc::CallbackServerContext*) {
  return new reflection_call(services_);
}

reflection_reactor* reflection_alpha_service::ServerReflectionInfo(grpc::CallbackServerContext*) {
  return new reflection_call(services_);
}

}  // namespace kiln::gateway
