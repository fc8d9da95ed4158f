// A client's content store: the first packet answers Info, the others come in answer to Read.
#include "store/blobs/session_content.hpp"

#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/told_stream.hpp"

namespace kiln::fuzz {
namespace {

class told_session final : public session_caller {
 public:
  explicit told_session(std::string_view bytes) : in_(bytes) {}
  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return id_; }
  bool supports(std::string_view) const override { return true; }
  result<std::string> call(std::string_view, std::string_view, const call_metadata&,
                           std::chrono::milliseconds, std::stop_token) override {
    return in_.packet();
  }
  result<std::unique_ptr<message_stream>> open(std::string_view, const call_metadata&,
                                               std::stop_token) override {
    return std::unique_ptr<message_stream>(new told_stream(in_));
  }

 private:
  input in_;
  std::string id_ = "session";
};

}  // namespace

void try_input(std::string_view bytes) {
  store::session_content content(std::make_shared<told_session>(bytes), "local:x");
  (void)content.size(sha256("hello"), {});
  auto blob = content.read_all(sha256("hello"), 1 << 20, {});
  require(!blob.ok() || *blob == "hello", "a blob is what its digest says");
}

}  // namespace kiln::fuzz
