// Downloads as records of the store: asked from servers, with the tags of what was downloaded before, or from
// the client's session. Thread-safe; blocks.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "distribution/hosts.hpp"
#include "messages/job.hpp"
#include "store/ref_store.hpp"
#include "workers/sources/http_downloads.hpp"
#include "workers/sources/http_reference.hpp"
#include "workers/sources/single_file.hpp"

namespace kiln::workers {

/// What the file is to look like.
file_look look_of(const http_reference& w, const download& d);

class http_fetcher {
 public:
  http_fetcher(store::ref_store& store, distribution::hosts& hosts)
      : store_(store), hosts_(hosts), downloads_(store) {}

  /// What the URL has now; its bytes are in the record that it names. failed_precondition when the checksum
  /// that the reference pins is another.
  result<download> fetch(const http_reference& w, const job_context& job);
  /// The record of a download that has this content and name; nothing when it is not here.
  std::optional<store::ref> find(const http_reference& w, const download& d) const;
  /// The content of a record by another name, or with another look.
  result<store::ref> copy(const http_reference& w, const download& d, const store::ref& content,
                          const std::string& name, const job_context& job);
  /// The record's directory, in which the file is by its name.
  result<store::mounted> mount(const store::ref& r, const job_context& job) const;

 private:
  result<download> fetch_upload(const http_reference& w, const job_context& job);
  result<download> get(const http_reference& w, distribution::request r,
                       const std::map<std::string, download>& by_etag, const job_context& job);
  result<single_file> begin_file(const http_reference& w, const job_context& job);
  result<download> keep(const http_reference& w, single_file file, download d);

  store::ref_store& store_;
  distribution::hosts& hosts_;
  http_downloads downloads_;
};

}  // namespace kiln::workers
