#include <catch2/catch.hpp>

#include <algorithm>
#include <map>

#include "content.grpc.pb.h"
#include "fakes.hpp"
#include "gateway/control/reflection_service.hpp"
#include "otlp.grpc.pb.h"
#include "reflection_v1alpha.grpc.pb.h"
#include "store/blobs/blob_store.hpp"

using namespace kiln;
using namespace kiln::testing;
namespace api = containerd::services::content::v1;

namespace {

/// Blobs in memory; only reading is used by the gateway.
class memory_blobs final : public store::blob_store {
 public:
  std::map<digest, std::string> blobs;

  bool has(const digest& d) const override { return blobs.contains(d); }
  result<store::blob_info> info(const digest& d) const override {
    auto it = blobs.find(d);
    if (it == blobs.end()) return make_error(errc::not_found, "content " + d.str() + ": not found");
    return store::blob_info{
        d, static_cast<std::int64_t>(it->second.size()), 1'700'000'000'000'000'001, {{"a", "b"}}};
  }
  std::filesystem::path path_of(const digest&) const override { return {}; }
  result<std::unique_ptr<store::byte_source>> read(const digest& d, std::int64_t offset) const override {
    struct source final : store::byte_source {
      std::string_view rest;
      result<std::size_t> read(std::span<char> buffer) override {
        auto n = std::min({buffer.size(), rest.size(), std::size_t{10'000}});  // short reads are allowed
        std::copy_n(rest.data(), n, buffer.data());
        rest.remove_prefix(n);
        return n;
      }
    };
    auto out = std::make_unique<source>();
    out->rest = std::string_view(blobs.at(d)).substr(static_cast<std::size_t>(offset));
    return std::unique_ptr<store::byte_source>(std::move(out));
  }
  result<std::string> read_all(const digest& d, std::int64_t) const override { return blobs.at(d); }
  digest add(std::string_view bytes) {
    auto d = sha256(bytes);
    blobs[d] = bytes;
    return d;
  }
  status change_labels(const digest&, const std::function<void(label_map&)>&) override { return {}; }
  status remove(const digest&) override { return {}; }
  std::vector<store::blob_info> list() const override {
    std::vector<store::blob_info> out;
    for (const auto& [d, bytes] : blobs) out.push_back(*info(d));
    return out;
  }
};

struct content_fixture : gateway_fixture {
  memory_blobs blobs;
  std::unique_ptr<api::Content::Stub> stub;
  content_fixture() {
    gateway::server_options options;
    options.addresses = {"unix://" + (dir.path / "kilnd.sock").string()};
    auto s = make_services();
    s.blobs = &blobs;
    server = *gateway::server::start(options, s);
    stub = api::Content::NewStub(channel());
  }
  ~content_fixture() { server->shutdown(); }
  result<std::string> read(const std::string& d, std::int64_t offset = 0, std::int64_t size = 0) {
    grpc::ClientContext context;
    api::ReadContentRequest q;
    q.set_digest(d);
    q.set_offset(offset);
    q.set_size(size);
    auto stream = stub->Read(&context, q);
    api::ReadContentResponse r;
    std::string all;
    while (stream->Read(&r)) {
      if (r.offset() != static_cast<std::int64_t>(all.size())) return make_error(errc::internal, "offsets");
      all += r.data();
    }
    auto s = stream->Finish();
    if (!s.ok()) return make_error(static_cast<errc>(s.error_code()), s.error_message());
    return all;
  }
};

}  // namespace

TEST_CASE("content is read whole, in ranges, and past its end not at all") {
  content_fixture f;
  std::string bytes;
  for (int i = 0; i < 700'000; ++i) bytes += std::to_string(i);
  auto d = f.blobs.add(bytes).str();
  CHECK(*f.read(d) == bytes);
  CHECK(*f.read(d, 5, 7) == bytes.substr(5, 7));
  CHECK(*f.read(d, static_cast<std::int64_t>(bytes.size()) - 3, 100) == bytes.substr(bytes.size() - 3));
  CHECK(f.read(d, static_cast<std::int64_t>(bytes.size()) + 1).error().code == errc::out_of_range);
  CHECK(f.read("nonsense").error().code == errc::invalid_argument);
  CHECK(f.read(sha256("absent").str()).error().code == errc::not_found);
  auto empty = f.blobs.add("").str();
  CHECK(f.read(empty)->empty());
}

TEST_CASE("content info and list tell digest, size and labels of every blob") {
  content_fixture f;
  for (int i = 0; i < 250; ++i) f.blobs.add("blob " + std::to_string(i));
  {
    grpc::ClientContext context;
    api::InfoRequest q;
    q.set_digest(sha256("blob 7").str());
    api::InfoResponse r;
    REQUIRE(f.stub->Info(&context, q, &r).ok());
    CHECK(r.info().size() == 6);
    CHECK(r.info().created_at().nanos() == 1);
    CHECK(r.info().labels().at("a") == "b");
  }
  grpc::ClientContext context;
  auto stream = f.stub->List(&context, {});
  api::ListContentResponse r;
  std::set<std::string> seen;
  while (stream->Read(&r)) {
    CHECK(r.info_size() <= 100);
    for (const auto& i : r.info()) seen.insert(i.digest());
  }
  CHECK(stream->Finish().ok());
  CHECK(seen.size() == 250);

  auto filtered = [&](std::vector<std::string> filters) {
    grpc::ClientContext c;
    api::ListContentRequest q;
    for (auto& one : filters) q.add_filters(std::move(one));
    auto some = f.stub->List(&c, q);
    std::size_t count = 0;
    while (some->Read(&r)) count += static_cast<std::size_t>(r.info_size());
    auto s = some->Finish();
    return s.ok() ? std::to_string(count) : s.error_message();
  };
  CHECK(filtered({"digest==" + sha256("blob 7").str()}) == "1");
  CHECK(filtered({"digest==" + sha256("blob 7").str(), "digest==" + sha256("blob 8").str()}) == "2");
  CHECK(filtered({"labels.a==b"}) == "250");
  CHECK(filtered({"labels.\"x.y\""}) == "0");
  CHECK(filtered({"labels.a=="}).find("filters: parse error") != std::string::npos);
}

TEST_CASE("a reader that leaves in the middle of a blob disturbs nobody") {
  content_fixture f;
  auto d = f.blobs.add(std::string(32 << 20, 'x')).str();
  for (int i = 0; i < 10; ++i) {
    grpc::ClientContext context;
    api::ReadContentRequest q;
    q.set_digest(d);
    auto stream = f.stub->Read(&context, q);
    api::ReadContentResponse r;
    REQUIRE(stream->Read(&r));
    context.TryCancel();
  }
  CHECK(f.read(d)->size() == 32 << 20);
}

TEST_CASE("writing content is refused") {
  content_fixture f;
  grpc::ClientContext c1;
  google::protobuf::Empty nothing;
  CHECK(f.stub->Delete(&c1, {}, &nothing).error_message() == "read-only content store");
  grpc::ClientContext c2;
  auto stream = f.stub->Write(&c2);
  api::WriteContentResponse r;
  CHECK_FALSE(stream->Read(&r));
  CHECK(stream->Finish().error_message() == "read-only content store");
}

TEST_CASE("spans are answered with unavailable while there is no collector") {
  gateway_fixture f;
  f.start();
  namespace otlp = opentelemetry::proto::collector::trace::v1;
  grpc::ClientContext context;
  otlp::ExportTraceServiceResponse r;
  auto s = otlp::TraceService::NewStub(f.channel())->Export(&context, {}, &r);
  CHECK(s.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(s.error_message() == "trace collector not configured");
}

TEST_CASE("reflection lists the services and sends the files of a symbol") {
  gateway_fixture f;
  f.start();
  auto stub = grpc::reflection::v1alpha::ServerReflection::NewStub(f.channel());
  grpc::ClientContext context;
  auto stream = stub->ServerReflectionInfo(&context);
  gateway::reflection::ServerReflectionRequest q;
  gateway::reflection::ServerReflectionResponse r;
  q.set_list_services("*");
  REQUIRE(stream->Write(q));
  REQUIRE(stream->Read(&r));
  std::set<std::string> names;
  for (const auto& s : r.list_services_response().service()) names.insert(s.name());
  CHECK(names.contains("moby.buildkit.v1.Control"));
  q.set_file_containing_symbol("moby.buildkit.v1.Control");
  REQUIRE(stream->Write(q));
  REQUIRE(stream->Read(&r));
  CHECK(r.file_descriptor_response().file_descriptor_proto_size() > 3);
  q.set_file_containing_symbol("no.Such");
  REQUIRE(stream->Write(q));
  REQUIRE(stream->Read(&r));
  CHECK(r.error_response().error_code() == 5);
  stream->WritesDone();
  CHECK(stream->Finish().ok());
}
