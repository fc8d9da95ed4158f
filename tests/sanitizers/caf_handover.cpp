// Tells ThreadSanitizer where CAF hands something from thread to thread (handover.hpp). Linked into what is
// built with -fsanitize=thread.
//
// What is told, and no more, lest real races hide behind it:
// - a message: whoever takes it out of a mailbox, or throws it away with the mailbox, has seen what its
// sender did before;
// - an actor: a thread that runs it has seen what the one that ran it before did in it, or the one that made
// it;
// - a reference: who destroys something has seen what all did before they let go of it.
// Thread owner: all.
#include <caf/all.hpp>

#include "handover.hpp"

using kiln::handover::in_library;
using kiln::handover::left;
using kiln::handover::taken;

namespace caf {

namespace {

/// What stands for a message: what it is deleted as.
const void* of(const mailbox_element& message) { return static_cast<const memory_managed*>(&message); }

}  // namespace

// References. ref_counted is what messages are, and behaviours.
void ref_counted::deref() const noexcept {
  static auto* next = in_library<void(const ref_counted*)>("_ZNK3caf11ref_counted5derefEv");
  left(this);
  taken(this);
  next(this);
}

void memory_managed::request_deletion(bool counted) const noexcept {
  static auto* next =
      in_library<void(const memory_managed*, bool)>("_ZNK3caf14memory_managed16request_deletionEb");
  taken(this);
  next(this, counted);
}

void intrusive_ptr_release(actor_control_block* block) {
  static auto* next =
      in_library<void(actor_control_block*)>("_ZN3caf21intrusive_ptr_releaseEPNS_19actor_control_blockE");
  left(block);
  taken(block);
  next(block);
}

void intrusive_ptr_release_weak(actor_control_block* block) {
  static auto* next = in_library<void(actor_control_block*)>(
      "_ZN3caf26intrusive_ptr_release_weakEPNS_19actor_control_blockE");
  left(&block->weak_refs);
  taken(&block->weak_refs);
  next(block);
}

// Actors that run on the pool's threads, or on one of their own.
void scheduled_actor::launch(execution_unit* unit, bool lazy, bool hide) {
  static auto* next = in_library<void(scheduled_actor*, execution_unit*, bool, bool)>(
      "_ZN3caf15scheduled_actor6launchEPNS_14execution_unitEbb");
  left(this);
  next(this, unit, lazy, hide);
}

void scheduled_actor::enqueue(mailbox_element_ptr message, execution_unit* unit) {
  static auto* next = in_library<void(scheduled_actor*, mailbox_element_ptr, execution_unit*)>(
      "_ZN3caf15scheduled_actor7enqueueESt10unique_ptrINS_15mailbox_elementENS_6detail8disposerEEPNS_"
      "14execution_unitE");
  left(of(*message));
  next(this, std::move(message), unit);
}

resumable::resume_result scheduled_actor::resume(execution_unit* unit, size_t most) {
  static auto* next = in_library<resume_result(scheduled_actor*, execution_unit*, size_t)>(
      "_ZN3caf15scheduled_actor6resumeEPNS_14execution_unitEm");
  taken(this);
  return next(
      this, unit,
      most);  // when it returns another thread may have it already: left() is said below, and in activate
}

bool scheduled_actor::activate(execution_unit* unit) {
  static auto* next = in_library<bool(scheduled_actor*, execution_unit*)>(
      "_ZN3caf15scheduled_actor8activateEPNS_14execution_unitE");
  auto alive = next(this, unit);
  left(this);
  return alive;
}

scheduled_actor::activation_result scheduled_actor::reactivate(mailbox_element& message) {
  static auto* next = in_library<activation_result(scheduled_actor*, mailbox_element&)>(
      "_ZN3caf15scheduled_actor10reactivateERNS_15mailbox_elementE");
  taken(of(message));
  auto result = next(this, message);
  left(this);
  return result;
}

// Actors that are a thread's own: scoped_actor.
void blocking_actor::enqueue(mailbox_element_ptr message, execution_unit* unit) {
  static auto* next = in_library<void(blocking_actor*, mailbox_element_ptr, execution_unit*)>(
      "_ZN3caf14blocking_actor7enqueueESt10unique_ptrINS_15mailbox_elementENS_6detail8disposerEEPNS_"
      "14execution_unitE");
  left(of(*message));
  next(this, std::move(message), unit);
}

intrusive::task_result blocking_actor::mailbox_visitor::operator()(mailbox_element& message) {
  static auto* next = in_library<intrusive::task_result(mailbox_visitor*, mailbox_element&)>(
      "_ZN3caf14blocking_actor15mailbox_visitorclERNS_15mailbox_elementE");
  taken(of(message));
  return next(this, message);
}

}  // namespace caf
