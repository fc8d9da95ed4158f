// Documents of the history that no record names: a daemon was killed after it kept them and before it saved
// the record of their build.
#pragma once

namespace kiln::store {
class ref_store;
}

namespace kiln::actors {

/// Removes them; how many that were. Before any build runs: what one has just kept has no record yet either.
int sweep_history_documents(store::ref_store& store);

}  // namespace kiln::actors
