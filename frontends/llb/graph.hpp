// A builder of LLB: vertices in an arena, outputs that point at them, and the marshaller that turns an output
// into a `pb::Definition`. Operations are encoded exactly as BuildKit's client library encodes them, so that
// digests agree. Knows nothing of Dockerfiles. A graph may be filled from several threads; a vertex never
// changes once made, except that a deferred one is bound once before marshalling.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "frontends/llb/env_list.hpp"
#include "messages/platform.hpp"
#include "ops.pb.h"

namespace kiln::llb {

class vertex;

/// One output of a vertex. Null is scratch.
struct output {
  const vertex* node = nullptr;
  int slot = 0;  // exec: the mount, in order of addition; otherwise 0

  explicit operator bool() const noexcept { return node != nullptr; }
  bool operator==(const output&) const = default;
};

/// A source file that errors and warnings point into.
struct source_map {
  std::string filename;
  std::string language;
  std::string data;
  pb::Definition definition;  // how to load the file again
  std::string head_digest;    // the vertex that loads it

  pb::SourceInfo info() const;
};

struct source_location {
  std::shared_ptr<const source_map> map;
  std::vector<pb::Range> ranges;
};

/// What every operation carries besides itself. Not part of its digest, except the platform.
struct op_info {
  std::map<std::string, std::string> description;
  std::set<std::string> caps;
  bool ignore_cache = false;
  std::optional<pb::ProgressGroup> progress_group;
  std::optional<pb::LinuxResources> resources;
  std::optional<kiln::platform> platform;
  std::vector<source_location> locations;

  op_info& name(std::string text) {
    description["llb.customname"] = std::move(text);
    return *this;
  }
  op_info& command(std::string text) {
    description["com.docker.dockerfile.v1.command"] = std::move(text);
    return *this;
  }
};

/// The platform and settings a marshalling falls back to.
struct marshal_options {
  kiln::platform platform;
};

struct encoded_op {
  std::string bytes;
  std::string digest;
};

/// Resolves the inputs of the vertex being encoded; implemented by the marshaller.
class encoder {
 public:
  virtual ~encoder() = default;
  virtual const encoded_op& encoded(const vertex& v) const = 0;
  virtual const marshal_options& options() const = 0;

  /// The input message of an output that has been encoded already.
  pb::Input input_of(const output& out) const;
};

class vertex {
 public:
  explicit vertex(op_info info) : info_(std::move(info)) {}
  virtual ~vertex() = default;
  vertex(const vertex&) = delete;
  vertex& operator=(const vertex&) = delete;

  /// In the order in which they are marshalled; no scratch.
  virtual std::vector<output> inputs() const = 0;
  /// The operation's bytes. Inputs are encoded before.
  virtual result<std::string> encode(const encoder& e) const = 0;
  virtual pb::OpMetadata metadata() const;
  virtual std::int64_t output_index(int slot) const { return slot; }
  /// The vertex that stands for this one: itself, unless deferred or wrapping.
  virtual output forward(int slot) const { return {this, slot}; }

  const op_info& info() const noexcept { return info_; }

 private:
  op_info info_;
};

/// Owns vertices. Thread-safe.
class graph {
 public:
  template <class Vertex, class... Args>
  Vertex* make(Args&&... args) {
    auto owned = std::make_unique<Vertex>(std::forward<Args>(args)...);
    auto* raw = owned.get();
    std::lock_guard lock(mutex_);
    vertices_.push_back(std::move(owned));
    return raw;
  }

 private:
  std::mutex mutex_;
  std::deque<std::unique_ptr<vertex>> vertices_;
};

/// Stands for an output that is known only later (the build context, whose paths depend on all stages).
class deferred_vertex final : public vertex {
 public:
  deferred_vertex() : vertex({}) {}
  /// Binds to an output; call once, before marshalling. Scratch is allowed.
  void bind(output target) {
    target_ = target;
    bound_ = true;
  }
  bool bound() const noexcept { return bound_; }
  std::vector<output> inputs() const override { return {}; }
  result<std::string> encode(const encoder&) const override;
  output forward(int) const override;

 private:
  output target_;
  bool bound_ = false;
};

/// Follows deferred vertices to the real output.
output resolve(output out);

/// Adds the output's graph to a definition. Scratch gives an empty definition without metadata.
/// Source: client/llb/state.go Marshal.
result<pb::Definition> marshal(const output& out, const marshal_options& options);

/// Deterministic protobuf bytes: maps sorted by key, fields by number. Source: wire.md section 7.
std::string deterministic_bytes(const google::protobuf::MessageLite& message);

/// An operation's bytes as BuildKit's clients write them: deterministic, and the kind of operation (a oneof)
/// behind all other fields, as Go's protobuf orders them. Digests depend on it.
std::string op_bytes(pb::Op op);

/// The digest of the vertex a definition results in; empty for scratch.
std::string head_digest(const pb::Definition& definition);

/// Wraps a definition (a frontend input) as an output of this graph. invalid_argument when malformed.
/// Source: client/llb/definition.go.
result<output> import_definition(graph& g, const pb::Definition& definition);

}  // namespace kiln::llb
