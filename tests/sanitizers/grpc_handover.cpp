// Tells ThreadSanitizer where gRPC hands something from thread to thread (handover.hpp). Linked into what is
// built with -fsanitize=thread and calls, or is called.
//
// What is told, and no more, lest real races hide behind it:
// - an operation: whoever is told of its end has seen what was done before it was begun;
// - a call: each side has seen what the other did before what it is told of. For that a client's call says in
// a header which it is, and a server takes that header out before anybody sees it;
// - a reaction that is put off: what runs later has seen what was done when it was put off, and the end of a
// call what all that happened in it did;
// - a server: who serves a call has seen what was done before servers were started, and who stopped a server
// what was done in its calls;
// - a mutex of abseil that code of ours locks, as gRPC's headers do.
// So two calls know nothing of each other, nor does who serves a call of what its thread did for another.
// Thread owner: all.
#include <absl/synchronization/mutex.h>
#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <grpc/grpc_posix.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/server_callback.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "handover.hpp"

// What TSan need not see of this file: what it remembers.
#define UNSEEN __attribute__((no_sanitize_thread))

using namespace kiln::handover;

namespace {

/// What stands for a call, at both its ends: some may share one.
constexpr unsigned wires_max = 1 << 16;
char wires[wires_max];

unsigned slot_of(const void* what) {
  auto at = reinterpret_cast<std::uintptr_t>(what);
  return static_cast<unsigned>((at >> 4) ^ (at >> 17)) % wires_max;
}

/// What is remembered of an operation that is under way, or of a server's call.
struct note {
  unsigned wire = 0;
  grpc_slice* text = nullptr;  // where gRPC will put a text of its own
};

/// Notes by address. Taking no lock that TSan knows, it orders nothing.
class note_table {
 public:
  UNSEEN void put(const void* key, note what) {
    at(key, true)->what = what;
    leave();
  }
  UNSEEN note get(const void* key, bool remove) {
    auto* found = at(key, false);
    note out;
    if (found) out = found->what;
    if (found && remove) found->key = removed;
    leave();
    return out;
  }

 private:
  struct slot {
    const void* key = nullptr;
    note what;
  };
  static constexpr const void* removed = &wires;

  /// Locked until leave().
  UNSEEN slot* at(const void* key, bool add) {
    while (__atomic_test_and_set(&busy_, __ATOMIC_ACQUIRE)) sched_yield();
    slot* free = nullptr;
    for (unsigned i = 0; i < wires_max; ++i) {
      auto& s = slots_[(slot_of(key) + i) % wires_max];
      if (s.key == key) return &s;
      if (!free && (!s.key || s.key == removed)) free = &s;
      if (!s.key) break;
    }
    if (!add) return nullptr;
    if (!free) std::abort();
    free->key = key;
    return free;
  }
  UNSEEN void leave() { __atomic_clear(&busy_, __ATOMIC_RELEASE); }

  slot slots_[wires_max];
  bool busy_ = false;
};

note_table served;                   // by a server's grpc_call
note_table under_way;                // by an operation's tag
thread_local unsigned incoming = 0;  // of the call whose headers this thread just read

const char wire_header[] = "kiln-handover";

/// Takes the header out, and with it what the client did.
void read_wire(grpc_metadata_array* headers) {
  incoming = 0;
  for (std::size_t i = 0; i < headers->count; ++i) {
    auto& header = headers->metadata[i];
    if (grpc_slice_str_cmp(header.key, wire_header) != 0) continue;
    const auto* digits = reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(header.value));
    for (std::size_t d = 0; d < GRPC_SLICE_LENGTH(header.value); ++d)
      incoming = (incoming * 10 + static_cast<unsigned>(digits[d] - '0')) % wires_max;
    header = headers->metadata[--headers->count];
    taken(&wires[incoming]);
    return;
  }
}

/// Told of an operation's end.
void ended(void* tag) {
  taken(tag);
  auto about = under_way.get(tag, true);
  if (about.wire != 0) taken(&wires[about.wire]);
  if (about.text == nullptr) return;
  // Made by strings of the standard library, which TSan sees. gRPC's copy it does not see.
  auto copy = grpc_slice_dup(*about.text);
  grpc_slice_unref(std::exchange(*about.text, copy));
}

using run_function = void (*)(grpc_completion_queue_functor*, int);

/// What functors are run by: a few functions of gRPC's headers and library.
constexpr int run_functions_max = 8;
run_function run_functions[run_functions_max];

template <int Index>
void run(grpc_completion_queue_functor* functor, int ok) {
  ended(functor);
  __atomic_load_n(&run_functions[Index], __ATOMIC_RELAXED)(functor, ok);
}

template <int... Index>
run_function replacement(run_function what, std::integer_sequence<int, Index...>) {
  static constexpr run_function runs[] = {run<Index>...};
  for (int i = 0; i < run_functions_max; ++i) {
    if (what == runs[i]) return what;
    run_function known = nullptr;
    if (__atomic_compare_exchange_n(&run_functions[i], &known, what, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED) ||
        known == what)
      return runs[i];
  }
  std::abort();  // gRPC has more kinds of them than this knows of
}

/// A tag is something with virtual functions, or begins with the address of the function that is to be
/// called.
UNSEEN void watch(void* tag) {
  auto* functor = static_cast<grpc_completion_queue_functor*>(tag);
  if (functor && of_program_or_grpc(reinterpret_cast<const void*>(functor->functor_run)))
    functor->functor_run =
        replacement(functor->functor_run, std::make_integer_sequence<int, run_functions_max>());
}

/// What stands for all servers: that they began, and what was done in calls that ended.
char servers_began, calls_ended;

}  // namespace

// Operations.
extern "C" grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* operations, size_t count,
                                                 void* tag, void* reserved) {
  static auto* next = in_library<decltype(grpc_call_start_batch)>("grpc_call_start_batch");
  static auto* is_client = in_library<std::uint8_t(grpc_call*)>("_Z19grpc_call_is_clientP9grpc_call");
  bool client = is_client(call) != 0;
  note about;
  std::vector<grpc_op> with_header;
  std::vector<grpc_metadata> headers;
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    if (operations[i].op == GRPC_OP_RECV_CLOSE_ON_SERVER) served.put(call, {incoming});  // its first
    if (operations[i].op == GRPC_OP_RECV_STATUS_ON_CLIENT)
      about.text = operations[i].data.recv_status_on_client.status_details;
    if (!client || operations[i].op != GRPC_OP_SEND_INITIAL_METADATA) continue;
    with_header.assign(operations, operations + count);
    auto& sent = with_header[i].data.send_initial_metadata;
    headers.assign(sent.metadata, sent.metadata + sent.count);
    text = std::to_string(slot_of(call));
    headers.push_back(
        {grpc_slice_from_static_string(wire_header), grpc_slice_from_copied_string(text.c_str()), {}});
    sent.metadata = headers.data();
    sent.count = headers.size();
    operations = with_header.data();
  }
  watch(tag);
  about.wire = client ? slot_of(call) : served.get(call, false).wire;
  under_way.put(tag, about);
  left(tag);
  if (about.wire != 0) left(&wires[about.wire]);
  auto result = next(call, operations, count, tag, reserved);
  if (!headers.empty()) grpc_slice_unref(headers.back().value);
  return result;
}

extern "C" grpc_event grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline,
                                                 void* reserved) {
  static auto* next = in_library<decltype(grpc_completion_queue_next)>("grpc_completion_queue_next");
  auto event = next(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) ended(event.tag);
  return event;
}

extern "C" grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag,
                                                  gpr_timespec deadline, void* reserved) {
  static auto* next = in_library<decltype(grpc_completion_queue_pluck)>("grpc_completion_queue_pluck");
  auto event = next(queue, tag, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) ended(tag);
  return event;
}

// Servers.
extern "C" void grpc_server_start(grpc_server* server) {
  static auto* next = in_library<decltype(grpc_server_start)>("grpc_server_start");
  left(&servers_began);
  next(server);
}

// Of gRPC's own; a server calls it before the first function of a header for a new call.
extern "C" void* grpc_call_arena_alloc(grpc_call* call, size_t bytes) {
  static auto* next = in_library<void*(grpc_call*, size_t)>("grpc_call_arena_alloc");
  taken(&servers_began);
  return next(call, bytes);
}

extern "C" void grpc_call_unref(grpc_call* call) {
  static auto* next = in_library<decltype(grpc_call_unref)>("grpc_call_unref");
  left(&calls_ended);
  next(call);
}

extern "C" grpc_tls_certificate_verifier* grpc_tls_certificate_verifier_external_create(
    grpc_tls_certificate_verifier_external* verifier) {
  static auto* next = in_library<decltype(grpc_tls_certificate_verifier_external_create)>(
      "grpc_tls_certificate_verifier_external_create");
  static decltype(verifier->verify) verify = verifier->verify;  // one function for all
  if (verifier->verify != verify) std::abort();
  verifier->verify = [](void* user, grpc_tls_custom_verification_check_request* request,
                        grpc_tls_on_custom_verification_check_done_cb done, void* argument,
                        grpc_status_code* status, char** details) {
    taken(user);
    auto at_once = verify(user, request, done, argument, status, details);
    left(user);
    return at_once;
  };
  static decltype(verifier->destruct) destruct = verifier->destruct;
  verifier->destruct = [](void* user) {
    taken(user);
    destruct(user);
  };
  left(verifier->user_data);
  return next(verifier);
}

// Connections. gRPC's close() is not seen, so what it gets is one that TSan does not know, and ours is
// closed.
namespace {

int unknown_copy(int fd) {
  auto copy = static_cast<int>(syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0));
  close(fd);
  return copy;
}

}  // namespace

extern "C" grpc_channel* grpc_channel_create_from_fd(const char* target, int fd,
                                                     grpc_channel_credentials* credentials,
                                                     const grpc_channel_args* arguments) {
  static auto* next = in_library<decltype(grpc_channel_create_from_fd)>("grpc_channel_create_from_fd");
  return next(target, unknown_copy(fd), credentials, arguments);
}

extern "C" void grpc_server_add_channel_from_fd(grpc_server* server, int fd,
                                                grpc_server_credentials* credentials) {
  static auto* next =
      in_library<decltype(grpc_server_add_channel_from_fd)>("grpc_server_add_channel_from_fd");
  next(server, unknown_copy(fd), credentials);
}

extern "C" void
new_connection(void* acceptor, grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters* with) asm(
    "_ZN4grpc8internal30ExternalConnectionAcceptorImpl19HandleNewConnectionEPNS_"
    "12experimental26ExternalConnectionAcceptor23NewConnectionParametersE");
void new_connection(void* acceptor,
                    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters* with) {
  static auto* next = in_library<decltype(new_connection)>(
      "_ZN4grpc8internal30ExternalConnectionAcceptorImpl19HandleNewConnectionEPNS_"
      "12experimental26ExternalConnectionAcceptor23NewConnectionParametersE");
  with->fd = unknown_copy(with->fd);
  next(acceptor, with);
}

// The constructor by which a server's call gets its headers, where it is not made before them.
extern "C" void context_with_headers(void* context, gpr_timespec deadline, grpc_metadata_array* headers) asm(
    "_ZN4grpc17ServerContextBaseC2E12gpr_timespecP19grpc_metadata_array");
void context_with_headers(void* context, gpr_timespec deadline, grpc_metadata_array* headers) {
  static auto* next = in_library<decltype(context_with_headers)>(
      "_ZN4grpc17ServerContextBaseC2E12gpr_timespecP19grpc_metadata_array");
  read_wire(headers);
  next(context, deadline, headers);
}

namespace grpc {

void ServerContextBase::BindDeadlineAndMetadata(gpr_timespec deadline, grpc_metadata_array* headers) {
  static auto* next = in_library<void(ServerContextBase*, gpr_timespec, grpc_metadata_array*)>(
      "_ZN4grpc17ServerContextBase23BindDeadlineAndMetadataE12gpr_timespecP19grpc_metadata_array");
  read_wire(headers);
  next(this, deadline, headers);
}

void Server::ShutdownInternal(gpr_timespec deadline) {
  static auto* next =
      in_library<void(Server*, gpr_timespec)>("_ZN4grpc6Server16ShutdownInternalE12gpr_timespec");
  next(this, deadline);
  taken(&calls_ended);
}

namespace internal {

// Reactions that a thread of gRPC's runs later. Its library gets somebody who stands for the call, or the
// reactor.

void ServerCallbackCall::ScheduleOnDone(bool at_once) {
  static auto* next =
      in_library<void(ServerCallbackCall*, bool)>("_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb");
  struct stand_in final : ServerCallbackCall {
    std::function<void()> done;
    ServerReactor* reactor() override { return nullptr; }
    void CallOnDone() override {
      taken(this);
      done();
      delete this;
    }
  };
  taken(&callbacks_outstanding_);
  if (at_once) return CallOnDone();
  auto* later = new stand_in;
  later->done = [this] { CallOnDone(); };
  left(later);
  next(later, false);
}

void ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
  static auto* next = in_library<void(ServerCallbackCall*, ServerReactor*)>(
      "_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE");
  struct stand_in final : ServerReactor {
    std::function<void()> cancel;
    void OnDone() override {}
    void OnCancel() override {
      taken(this);
      cancel();
      delete this;
    }
  };
  taken(&on_cancel_conditions_remaining_);
  if (reactor->InternalInlineable()) return reactor->OnCancel();
  auto* later = new stand_in;
  later->cancel = [this, reactor] {
    reactor->OnCancel();
    left(&callbacks_outstanding_);
  };
  left(later);
  next(this, later);
}

void ClientReactor::InternalScheduleOnDone(Status verdict) {
  static auto* next = in_library<void(ClientReactor*, Status)>(
      "_ZN4grpc8internal13ClientReactor22InternalScheduleOnDoneENS_6StatusE");
  struct stand_in final : ClientReactor {
    ClientReactor* of;
    void OnDone(const Status& verdict) override {
      taken(this);
      of->OnDone(verdict);
      delete this;
    }
  };
  auto* later = new stand_in;
  later->of = this;
  left(later);
  next(later, std::move(verdict));
}

}  // namespace internal
}  // namespace grpc

// Mutexes.
void absl::Mutex::Lock() {
  static auto* next = in_library<void(Mutex*)>("_ZN4absl7debian35Mutex4LockEv");
  next(this);
  if (of_program(__builtin_return_address(0))) taken(this);
}

void absl::Mutex::Unlock() {
  static auto* next = in_library<void(Mutex*)>("_ZN4absl7debian35Mutex6UnlockEv");
  if (of_program(__builtin_return_address(0))) left(this);
  next(this);
}
