#include "workers/sources/remote_blob.hpp"

#include <vector>

#include "distribution/client.hpp"
#include "store/blobs/session_content.hpp"
#include "store/ref_store.hpp"

namespace kiln::workers {
namespace {

status fetch(store::ref_store& store, distribution::hosts& hosts, const remote_blob& blob,
             const job_context& job) {
  auto& blobs = store.blobs();
  if (blobs.has(blob.ref.digest)) return {};
  descriptor d;
  d.digest = blob.ref.digest;
  if (blob.layout) {
    job_context own = job;
    if (!blob.session.empty()) own.sessions.ids = {blob.session};
    if (own.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
    return with_any_session(*own.directory, own.sessions, own.stop, [&](session_caller& s) -> status {
      KILN_TRY(auto caller, own.directory->find(s.id(), std::chrono::milliseconds(0), own.stop));
      store::session_content content(std::move(caller), "oci:" + blob.store_id);
      KILN_TRY(d.size, content.size(d.digest, own.stop));
      return content.fetch(d, blobs, own);
    });
  }
  KILN_TRY(auto repo,
           distribution::repository::open(hosts, blob.ref, distribution::repository::access::pull, job));
  KILN_TRY(d.size, repo->blob_size(d.digest));
  std::string id = d.digest.str();
  job.progress->progress(id, 0, d.size, false);
  auto s = repo->fetch_blob(d, blobs, [&](std::int64_t current, std::int64_t total) {
    job.progress->progress(id, current, total, false);
  });
  job.progress->progress(id, d.size, d.size, true);
  return s;
}

}  // namespace

status read_remote_blob(store::ref_store& store, distribution::hosts& hosts, const remote_blob& blob,
                        const job_context& job, const std::function<status(std::string_view)>& use) {
  auto& blobs = store.blobs();
  auto hold = blobs.hold(blob.ref.digest);
  bool had = blobs.has(blob.ref.digest);
  KILN_CHECK(fetch(store, hosts, blob, job));
  auto handed_on = [&]() -> status {
    KILN_TRY(auto in, blobs.read(blob.ref.digest));
    std::vector<char> buffer(256 << 10);
    for (;;) {
      KILN_CHECK(job.check());
      KILN_TRY(std::size_t n, in->read(buffer));
      if (n == 0) return {};
      KILN_CHECK(use({buffer.data(), n}));
    }
  }();
  // Nobody else names the blob.
  hold.reset();
  if (!had) (void)store.space().drop_blob(blob.ref.digest);
  return handed_on;
}

}  // namespace kiln::workers
