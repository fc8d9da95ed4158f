// Names that are no UTF-8 in messages, as every client of BuildKit may send them.
#include <catch2/catch.hpp>

#include <google/protobuf/stubs/logging.h>

#include "gateway.pb.h"
#include "ops.pb.h"
#include "wire.pb.h"

namespace {

const std::string odd = "latin\xe9/\xff\xfe";

/// Counts what protobuf complains of.
int complaints = 0;
void count(google::protobuf::LogLevel, const char*, int, const std::string&) { ++complaints; }

template <class Message>
Message there_and_back(const Message& m) {
  auto* before = google::protobuf::SetLogHandler(count);
  complaints = 0;
  auto bytes = m.SerializeAsString();
  Message out;
  REQUIRE(out.ParseFromString(bytes));
  CHECK(out.SerializeAsString().size() == bytes.size());
  google::protobuf::SetLogHandler(before);
  CHECK(complaints == 0);
  return out;
}

}  // namespace

TEST_CASE("paths, link targets and attribute names of a transfer are any bytes") {
  fsutil::types::Packet p;
  p.mutable_stat()->set_path(odd);
  p.mutable_stat()->set_linkname(odd);
  (*p.mutable_stat()->mutable_xattrs())["user." + odd] = odd;
  auto back = there_and_back(p);
  CHECK(back.stat().path() == odd);
  CHECK(back.stat().linkname() == odd);
  CHECK(back.stat().xattrs().at("user." + odd) == odd);
  // The bytes on the wire are those of a string.
  CHECK(p.stat().SerializeAsString().substr(0, 2 + odd.size()) ==
        "\x0a" + std::string(1, static_cast<char>(odd.size())) + odd);
}

TEST_CASE("so is what ops and requests say of files") {
  pb::Op op;
  auto& copy = *op.mutable_file()->add_actions()->mutable_copy();
  copy.set_src(odd);
  copy.add_include_patterns(odd);
  (*op.mutable_platform()->mutable_osfeatures()->Add()) = "x";
  auto back = there_and_back(op);
  CHECK(back.file().actions(0).copy().src() == odd);
  CHECK(back.file().actions(0).copy().include_patterns(0) == odd);
  pb::OpMetadata about;
  (*about.mutable_description())["llb.customname"] = odd;
  CHECK(there_and_back(about).description().at("llb.customname") == odd);
  moby::buildkit::v1::frontend::ReadFileRequest read;
  read.set_filepath(odd);
  CHECK(there_and_back(read).filepath() == odd);
}
