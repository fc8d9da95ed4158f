// One handler for all messages of an interface that have none of their own. So an interface is listed once,
// in messages/, and who relays it, refuses most of it or leaves it to somebody else names only the rest.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include <caf/all.hpp>

namespace kiln::actors {

namespace handle_rest_detail {

template <class Signature>
struct signature;

template <class... In, class... Out>
struct signature<caf::typed_mpi<caf::detail::type_list<In...>, caf::output_tuple<Out...>>> {
  using input = caf::detail::type_list<In...>;
  /// Parts are the handler's to move on; atoms are nothing but their type.
  template <class T>
  using part = std::conditional_t<caf::is_atom_constant<T>::value, T, T&>;

  template <class Ask, class Tell>
  static auto handler(const Ask& ask, const Tell& tell) {
    if constexpr (std::is_same_v<caf::output_tuple<Out...>, caf::output_tuple<void>>) {
      return [tell](part<In>... parts) { tell(std::move(parts)...); };
    } else {
      return [ask](part<In>... parts) -> caf::result<Out...> {
        return ask.template operator()<Out...>(std::move(parts)...);
      };
    }
  }
};

template <class Handler>
using input_of = typename signature<caf::deduce_mpi_t<Handler>>::input;

/// The handler of that message as a tuple; an empty one when one of `Own` is it.
template <class Signature, class... Own, class Ask, class Tell>
auto unless_own(const Ask& ask, const Tell& tell) {
  if constexpr ((std::is_same_v<typename signature<Signature>::input, input_of<Own>> || ...)) {
    return std::tuple<>();
  } else {
    return std::make_tuple(signature<Signature>::handler(ask, tell));
  }
}

}  // namespace handle_rest_detail

/// The behaviour of an `Actor`: each of `own` handles its message, in any order. Of all others
/// `ask.template operator()<Reply>(parts…)` answers those that have an answer, `tell(parts…)` takes those
/// that have none.
template <class Actor, class Ask, class Tell, class... Own>
typename Actor::behavior_type handle_rest(Ask ask, Tell tell, Own... own) {
  auto rest = [&]<class... Signatures>(caf::detail::type_list<Signatures...>) {
    return std::tuple_cat(handle_rest_detail::unless_own<Signatures, Own...>(ask, tell)...);
  }(typename Actor::signatures());
  return std::apply([](auto&&... handlers) { return typename Actor::behavior_type{std::move(handlers)...}; },
                    std::tuple_cat(std::move(rest), std::make_tuple(std::move(own)...)));
}

}  // namespace kiln::actors
