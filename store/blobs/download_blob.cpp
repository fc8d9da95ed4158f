#include "store/blobs/download_blob.hpp"

namespace kiln::store {

status download_blob(const descriptor& blob, blob_store& into, const job_context& job,
                     const std::string& too_long, const blob_reader& read) {
  KILN_TRY(auto writer, into.bring(blob.digest, blob.size, job.stop));
  if (!writer) return {};
  auto id = blob.digest.str();
  job.progress->progress(id, writer->offset(), blob.size, false);
  auto got = read(writer->offset(), [&](std::string_view bytes) -> status {
    KILN_CHECK(job.check());
    if (writer->offset() + static_cast<std::int64_t>(bytes.size()) > blob.size)
      return make_error(errc::data_loss, too_long);
    KILN_CHECK(writer->write(bytes));
    job.progress->progress(id, writer->offset(), blob.size, false);
    return {};
  });
  if (got.ok()) {
    auto committed = writer->commit();
    if (!committed.ok()) got = std::move(committed).error();
  }
  job.progress->progress(id, blob.size, blob.size, true);
  return got;
}

}  // namespace kiln::store
