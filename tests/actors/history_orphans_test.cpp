#include "actors/history/history_orphans.hpp"

#include "actors/history/history.hpp"
#include "tests/store/store_fixture.hpp"

using namespace kiln;
using namespace kiln::actors;
using kiln::store::testing::must;

TEST_CASE("Documents of a build whose record was never saved are swept, those of others are not") {
  store::testing::temporary_root root;
  auto store = store::testing::open_store(root);
  ctl::Descriptor log, shared, orphan;
  must(keep_document(*store, "saved", "its log", log));
  must(keep_document(*store, "saved", "a statement", shared));
  must(keep_document(*store, "killed", "a statement", shared));  // the label names who kept it last
  must(keep_document(*store, "killed", "a log without a record", orphan));
  auto other = must(store->blobs().put("nothing of the history's"));
  ctl::BuildHistoryRecord record;
  record.set_ref("saved");
  *record.mutable_logs() = log;
  *record.mutable_result()->add_attestations() = shared;
  must(store->values().set("history", "saved", record.SerializeAsString()));

  CHECK(sweep_history_documents(*store) == 1);
  CHECK(store->blobs().has(digest::trusted(log.digest())));
  CHECK(store->blobs().has(digest::trusted(shared.digest())));
  CHECK(!store->blobs().has(digest::trusted(orphan.digest())));
  CHECK(store->blobs().has(other));
  CHECK(sweep_history_documents(*store) == 0);
}
