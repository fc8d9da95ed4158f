// The handlers of the ops that are not sources.
#pragma once

#include <memory>

#include "workers/worker_resources.hpp"

namespace kiln::workers {

std::shared_ptr<op_handler> make_exec_handler(worker_resources& resources);
std::shared_ptr<op_handler> make_file_handler(worker_resources& resources);
std::shared_ptr<op_handler> make_merge_handler(worker_resources& resources);
std::shared_ptr<op_handler> make_diff_handler(worker_resources& resources);
std::shared_ptr<op_handler> make_passthrough_handler(worker_resources& resources);

}  // namespace kiln::workers
