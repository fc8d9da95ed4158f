#include "store/ref_store.hpp"

#include "store/store_core.hpp"

namespace kiln::store {

std::string_view to_string(record_type t) {
  switch (t) {
    case record_type::regular: return "regular";
    case record_type::internal: return "internal";
    case record_type::frontend: return "frontend";
    case record_type::source_local: return "source.local";
    case record_type::source_git_checkout: return "source.git.checkout";
    case record_type::exec_cachemount: return "exec.cachemount";
  }
  return "regular";
}

namespace {
const std::string no_id;
}

const std::string& ref::id() const { return record_ ? record_->id : no_id; }
const std::string& mutable_ref::id() const { return record_ ? record_->id : no_id; }
mutable_ref& mutable_ref::operator=(mutable_ref&& other) noexcept = default;
mutable_ref::~mutable_ref() = default;  // the record's end takes the snapshot along, see store_core::forget

namespace {

/// The public face of store_core; closes it when the daemon lets go of the store.
class core_ref_store final : public ref_store {
 public:
  explicit core_ref_store(std::shared_ptr<store_core> core) : core_(std::move(core)) {}
  ~core_ref_store() override { core_->close(); }

  blob_store& blobs() override { return core_->blobs(); }
  cache_keys& keys() override { return core_->keys(); }
  snapshotter_kind snapshotter() const override { return core_->disk().kind(); }
  result<std::filesystem::path> temporary_directory(std::string_view purpose) override {
    return core_->temporary_directory(purpose);
  }

  result<ref> get(std::string_view id) override { return core_->get(id); }
  result<mutable_ref> create(const ref& parent, const record_options& o, const job_context& job) override {
    return core_->create(parent, o, job);
  }
  result<mutable_ref> acquire_named(std::string_view name, const ref& parent, const record_options& o,
                                    const job_context& job) override {
    return core_->acquire_named(name, parent, o, job);
  }
  result<ref> commit(mutable_ref m) override { return core_->commit(std::move(m)); }
  result<ref> freeze(mutable_ref m) override { return core_->freeze(std::move(m)); }
  status discard(mutable_ref m) override { return core_->discard(std::move(m)); }
  result<ref> commit_copy(const mutable_ref& m, const record_options& o, const job_context& job) override {
    return core_->commit_copy(m, o, job);
  }
  result<ref> layer(const ref& parent, layer_blob blob, std::shared_ptr<blob_provider> provider,
                    const record_options& o) override {
    return core_->layer(parent, std::move(blob), std::move(provider), o);
  }
  result<ref> merge(std::span<const ref> refs, const record_options& o) override {
    return core_->merge(refs, o);
  }
  result<ref> diff(const ref& lower, const ref& upper, const record_options& o) override {
    return core_->diff(lower, upper, o);
  }

  status unlazy(const ref& r, const job_context& job) override { return core_->unlazy(r.get(), job); }
  result<std::vector<mount_spec>> mounts(const ref& r, const job_context& job) override {
    return core_->mounts(r.get(), job);
  }
  result<std::vector<mount_spec>> mounts(const mutable_ref& m) override { return core_->mounts(m); }
  result<std::vector<layer_info>> layers(const ref& r, const job_context& job) override {
    return core_->layers(r.get(), job);
  }
  status write_layer_tar(std::string_view layer_id, byte_sink& out, const job_context& job) override {
    return core_->write_layer_tar(layer_id, out, job);
  }
  result<std::vector<shipped_layer>> export_to_peer(const ref& r, const job_context& job) override {
    return core_->export_to_peer(r.get(), job);
  }
  result<ref> receive(const ref& parent, const shipped_layer& layer, std::shared_ptr<blob_provider> provider,
                      const record_options& o) override {
    return core_->receive(parent, layer, std::move(provider), o);
  }
  void offer(const ref& r, const std::shared_ptr<blob_provider>& peer) override {
    core_->offer(r.get(), peer);
  }
  status fetch_blob(const ref& r, const digest& blob, const job_context& job) override {
    return core_->fetch_blob(r.get(), blob, job);
  }
  record_options options_of(const ref& r) override { return core_->options_of(r.get()); }
  status add_layer_blob(std::string_view layer_id, const layer_blob& blob) override {
    return core_->add_layer_blob(layer_id, blob);
  }

  std::optional<std::string> metadata(std::string_view record_id, std::string_view key) override {
    return core_->metadata(record_id, key);
  }
  status set_metadata(std::string_view record_id, std::string_view key, std::string_view value) override {
    return core_->set_metadata(record_id, key, value);
  }
  std::optional<std::string> value(std::string_view bucket, std::string_view key) override {
    return core_->value(bucket, key);
  }
  status set_value(std::string_view bucket, std::string_view key, std::string_view value) override {
    return core_->set_value(bucket, key, value);
  }
  status erase_value(std::string_view bucket, std::string_view key) override {
    return core_->erase_value(bucket, key);
  }
  std::vector<std::pair<std::string, std::string>> values(std::string_view bucket) override {
    return core_->values(bucket);
  }

  std::size_t record_count() override {
    std::size_t count = 0;
    auto s = core_->database().read([&](const transaction& t) { count = t.count(table::records); });
    return s.ok() ? count : 0;
  }
  std::optional<std::int64_t> own_size(const ref& r) override { return core_->own_size(r.get()); }
  status drop_blob(const digest& d) override {
    auto gone = core_->remove_blob(d);
    return gone.ok() ? status() : status(std::move(gone).error());
  }
  result<std::vector<usage_record>> disk_usage(const std::vector<std::string>& filters) override {
    return core_->disk_usage(filters);
  }
  status prune(const prune_options& options,
               const std::function<void(const usage_record&)>& removed) override {
    return core_->prune(options, removed);
  }

 private:
  std::shared_ptr<store_core> core_;
};

}  // namespace

result<std::unique_ptr<ref_store>> ref_store::open(ref_store_options options) {
  KILN_TRY(auto core, store_core::open(std::move(options)));
  return std::unique_ptr<ref_store>(std::make_unique<core_ref_store>(std::move(core)));
}

}  // namespace kiln::store
