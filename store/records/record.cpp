#include "store/records/record.hpp"

#include <algorithm>
#include <iterator>

#include "store/files/file_facts.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/records/record_table.hpp"

namespace kiln::store {

namespace {

/// The peer first, which is near; then wherever else the blob can come from.
class either_provider final : public blob_provider {
 public:
  either_provider(std::shared_ptr<blob_provider> near, std::shared_ptr<blob_provider> far)
      : near_(std::move(near)), far_(std::move(far)) {}
  status fetch(const descriptor& blob, blob_store& into, const job_context& job) override {
    auto first = near_->fetch(blob, into, job);
    if (first.ok()) return first;
    KILN_CHECK(job.check());
    auto second = far_->fetch(blob, into, job);
    return second.ok() ? std::move(second) : std::move(first);
  }

 private:
  std::shared_ptr<blob_provider> near_, far_;
};

}  // namespace

record::record(std::shared_ptr<record_table> table, stored::Record data, std::vector<record_ptr> parents)
    : id(data.id()),
      kind(static_cast<record_kind>(data.kind())),
      computed(data.computed()),
      name(data.name()),
      origin(data.origin()),
      rebased(data.rebased()),
      shape(shape_of(kind, computed, parents)),
      table_(std::move(table)),
      parents_(std::move(parents)),
      data_(std::move(data)) {
  hold_blobs();
}

record::~record() {
  table_->forget(*this);
  // However many stand on each other, they go one after the other and not one within the other.
  thread_local std::vector<record_ptr>* going = nullptr;
  if (going != nullptr) {
    std::move(parents_.begin(), parents_.end(), std::back_inserter(*going));
    return;
  }
  std::vector<record_ptr> mine = std::move(parents_);
  going = &mine;
  while (!mine.empty()) {
    auto next = std::move(mine.back());
    mine.pop_back();
    next.reset();
  }
  going = nullptr;
}

stored::Record record::copy() const {
  std::lock_guard lock(mutex_);
  return data_;
}

std::uint64_t record::snapshot() const {
  std::lock_guard lock(mutex_);
  return data_.snapshot();
}

bool record::is_mutable() const {
  std::lock_guard lock(mutex_);
  return data_.is_mutable();
}

std::vector<layer_blob> record::blobs(blob_form form) const {
  std::lock_guard lock(mutex_);
  auto out = blobs_of(data_, form);
  for (auto& b : out)
    if (auto held = held_.find(b.blob.digest.str()); held != held_.end()) b.hold = held->second;
  return out;
}

void record::count_use() {
  std::lock_guard lock(mutex_);
  ++uses_;
  last_used_ns_ = now_ns();
}

void record::set_snapshot(std::uint64_t number) {
  std::lock_guard lock(mutex_);
  data_.set_snapshot(number);
  data_.set_snapshot_size(0);
}

void record::give_up_snapshot() {
  std::lock_guard lock(mutex_);
  data_.set_snapshot(0);
}

void record::set_size(const stored::Record& seen) {
  std::lock_guard lock(mutex_);
  take_size(seen, data_);
}

void record::end_writing() {
  std::lock_guard lock(mutex_);
  data_.set_is_mutable(false);
  data_.clear_name();
  data_.set_snapshot_size(0);
}

void record::freeze() {
  std::lock_guard lock(mutex_);
  is_frozen_ = true;
  data_.set_is_mutable(false);
}

void record::hold_blobs() {
  auto before = std::move(held_);
  held_.clear();
  for (const auto& blob : data_.blobs()) {
    auto known = before.find(blob.digest());
    held_[blob.digest()] =
        known != before.end() ? known->second : table_->blobs().hold(digest::trusted(blob.digest()));
  }
}

std::shared_ptr<blob_provider> record::provider() const {
  std::lock_guard lock(mutex_);
  if (!peer_ || !provider_) return peer_ ? peer_ : provider_;
  return std::make_shared<either_provider>(peer_, provider_);
}

void record::add_provider(std::shared_ptr<blob_provider> p) {
  if (!p) return;
  std::lock_guard lock(mutex_);
  (p->is_peer() ? peer_ : provider_) = std::move(p);
}

void record::add_peer(const std::shared_ptr<blob_provider>& peer) {
  std::lock_guard lock(mutex_);
  if (data_.snapshot() == 0 || peer_) peer_ = peer;
}

record_ptr record::form(const std::string& key) const {
  std::lock_guard lock(mutex_);
  auto known = forms_.find(key);
  return known == forms_.end() ? nullptr : known->second.lock();
}

void record::set_form(const std::string& key, const record_ptr& form) {
  std::lock_guard lock(mutex_);
  forms_[key] = form;
}

std::optional<bool> record::is_normalized() const {
  std::lock_guard lock(mutex_);
  return is_normalized_;
}

void record::set_normalized(bool is) {
  std::lock_guard lock(mutex_);
  is_normalized_ = is;
}

void record::pin(const record_ptr& form) {
  std::lock_guard lock(mutex_);
  if (std::find(pins_.begin(), pins_.end(), form) == pins_.end()) pins_.push_back(form);
}

// ---------------------------------------------------------------- what is stored

bool take_size(const stored::Record& seen, stored::Record& now) {
  bool was_used = now.is_mutable() && now.usage_count() != seen.usage_count();
  if (now.snapshot() != seen.snapshot() || was_used) return false;
  now.set_snapshot_size(seen.snapshot_size());
  return true;
}

stored::Blob to_stored(const layer_blob& blob, blob_form form) {
  stored::Blob out;
  out.set_form(static_cast<int>(form));
  out.set_media_type(blob.blob.media_type);
  out.set_digest(blob.blob.digest.str());
  out.set_size(blob.blob.size);
  for (const auto& [key, value] : blob.blob.annotations) (*out.mutable_annotations())[key] = value;
  for (const auto& url : blob.blob.urls) out.add_urls(url);
  out.set_diff_id(blob.diff_id.str());
  return out;
}

layer_blob from_stored(const stored::Blob& blob) {
  layer_blob out;
  out.blob.media_type = blob.media_type();
  out.blob.digest = digest::trusted(blob.digest());
  out.blob.size = blob.size();
  for (const auto& [key, value] : blob.annotations()) out.blob.annotations[key] = value;
  out.blob.urls.assign(blob.urls().begin(), blob.urls().end());
  out.diff_id = digest::trusted(blob.diff_id());
  return out;
}

std::vector<layer_blob> blobs_of(const stored::Record& r, blob_form form) {
  std::vector<layer_blob> out;
  for (const auto& blob : r.blobs())
    if (blob.form() == static_cast<int>(form)) out.push_back(from_stored(blob));
  return out;
}

void add_blob(stored::Record& r, const stored::Blob& blob) {
  for (const auto& b : r.blobs())
    if (b.digest() == blob.digest() && b.form() == blob.form()) return;
  *r.add_blobs() = blob;
}

// ---------------------------------------------------------------- handles

namespace {
const std::string no_id;
}

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

const std::string& ref::id() const { return record_ ? record_->id : no_id; }

record_options ref::options() const {
  if (!record_) return {};
  return record_->look([](const stored::Record& r) {
    return record_options{r.description(), static_cast<record_type>(r.type()), r.created_at_ns()};
  });
}

const std::string& mutable_ref::id() const { return record_ ? record_->id : no_id; }
mutable_ref& mutable_ref::operator=(mutable_ref&& other) noexcept = default;
mutable_ref::~mutable_ref() = default;  // the record's end takes the snapshot along, see record_table::forget

}  // namespace kiln::store
