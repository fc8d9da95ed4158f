// The local:// source: a client's directory, transferred differentially into a snapshot kept between builds.
#pragma once

#include <memory>

#include "workers/worker_resources.hpp"

namespace kiln::workers {

std::shared_ptr<source_handler> make_local_source(worker_resources& resources);

}  // namespace kiln::workers
