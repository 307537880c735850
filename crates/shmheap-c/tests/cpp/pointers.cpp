// offset_ptr by itself: what it converts to, how it counts, and that it moves with its target.
#include "check.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <new>
#include <numeric>
#include <type_traits>

using shmheap::offset_ptr;

struct base {
    int number = 1;
};
struct other_base {
    int other_number = 2;
};
struct derived : other_base, base {};

template <class From, class To>
constexpr bool converts = std::is_convertible_v<offset_ptr<From>, offset_ptr<To>>;
template <class From, class To>
constexpr bool casts = std::is_constructible_v<offset_ptr<To>, offset_ptr<From>>;

static_assert(sizeof(offset_ptr<int>) == sizeof(int *));
static_assert(!std::is_trivially_copyable_v<offset_ptr<int>>, "or containers would copy its bytes");
static_assert(std::is_nothrow_move_constructible_v<offset_ptr<int>>);
static_assert(std::is_nothrow_move_assignable_v<offset_ptr<int>>);

static_assert(converts<int, const int> && converts<int, void> && converts<derived, base>);
static_assert(converts<const int, const void>);
static_assert(!converts<const int, int> && !casts<const int, int> && !casts<const void, int>);
static_assert(!converts<void, int> && casts<void, int>);
static_assert(!converts<base, derived> && casts<base, derived>);
static_assert(!converts<int, long> && !casts<int, long>);
static_assert(std::is_convertible_v<int *, offset_ptr<const int>>);
static_assert(!std::is_convertible_v<offset_ptr<int>, int *>, "or std::list would take it");
static_assert(!std::is_convertible_v<offset_ptr<int>, bool>);
static_assert(std::is_constructible_v<bool, offset_ptr<int>>);

using traits = std::pointer_traits<offset_ptr<int>>;
static_assert(std::is_same_v<traits::element_type, int>);
static_assert(std::is_same_v<traits::difference_type, std::ptrdiff_t>);
static_assert(std::is_same_v<traits::rebind<const char>, offset_ptr<const char>>);
using iterator = std::iterator_traits<offset_ptr<const int>>;
static_assert(std::is_same_v<iterator::value_type, int>);
static_assert(std::is_same_v<iterator::reference, const int &>);
static_assert(std::is_same_v<iterator::iterator_category, std::random_access_iterator_tag>);
#if __cplusplus >= 202002L
static_assert(std::contiguous_iterator<offset_ptr<int>>);
static_assert(std::contiguous_iterator<offset_ptr<const derived>>);
static_assert(!std::input_iterator<offset_ptr<void>>);
static_assert(std::three_way_comparable_with<offset_ptr<int>, offset_ptr<const int>>);
static_assert(std::sized_sentinel_for<offset_ptr<int>, offset_ptr<int>>);
#endif

static void null(const run &) {
    const offset_ptr<int> none, of_nullptr = nullptr, of_plain = static_cast<int *>(nullptr);
    for (const offset_ptr<int> &pointer : {none, of_nullptr, of_plain}) {
        CHECK(!pointer);
        CHECK(pointer == nullptr && nullptr == pointer && !(pointer != nullptr));
        CHECK(pointer.get() == nullptr);
        CHECK(pointer == none);
    }
    CHECK((offset_ptr<const void>(none) == nullptr));
    CHECK((static_cast<offset_ptr<derived>>(offset_ptr<base>()) == nullptr));
    CHECK((offset_ptr<base>(offset_ptr<derived>()) == nullptr));
    int target = 0;
    offset_ptr<int> pointer = &target;
    CHECK(pointer);
    pointer = nullptr;
    CHECK(!pointer);
}

// A pointer can be its own target, and then follows itself.
static void itself(const run &) {
    struct node {
        offset_ptr<node> next;
    };
    std::array<node, 2> nodes;
    nodes[0].next = &nodes[0];
    CHECK(nodes[0].next && nodes[0].next.get() == &nodes[0]);
    nodes[1] = nodes[0];
    CHECK(nodes[1].next.get() == &nodes[0]);
    nodes[1].next = nodes[1].next->next;
    CHECK(nodes[1].next == offset_ptr<node>(&nodes[0]));
    offset_ptr<void> to_itself;
    to_itself = &to_itself;
    CHECK(to_itself && to_itself.get() == &to_itself);
}

// What lies in shared memory is the same bytes at another address.
static void mapped_elsewhere(const run &) {
    struct shared {
        offset_ptr<int> to_number, to_none;
        int number;
    };
    alignas(shared) unsigned char here[sizeof(shared)], there[sizeof(shared)];
    auto *at_first = ::new (static_cast<void *>(here)) shared{nullptr, nullptr, 7};
    at_first->to_number = &at_first->number;
    std::memcpy(there, here, sizeof(shared));
    auto *now = std::launder(reinterpret_cast<shared *>(there));
    now->number = 8;
    CHECK(now->to_number.get() == &now->number && *now->to_number == 8);
    CHECK(now->to_none == nullptr);
    CHECK(*at_first->to_number == 7);
}

static void conversions(const run &) {
    derived object;
    const offset_ptr<derived> pointer = &object;
    const offset_ptr<base> to_base = pointer;
    CHECK(to_base.get() == &object && to_base->number == 1);
    CHECK(static_cast<void *>(to_base.get()) != &object && "the base must not come first");
    CHECK(static_cast<offset_ptr<derived>>(to_base) == pointer);
    const offset_ptr<const void> to_bytes = pointer;
    CHECK(to_bytes.get() == &object);
    CHECK(static_cast<offset_ptr<const derived>>(to_bytes) == pointer);
    CHECK(pointer == to_base && to_base == pointer && to_base == &object && &object == pointer);
    CHECK(std::pointer_traits<offset_ptr<derived>>::pointer_to(object) == pointer);
    CHECK((*pointer).other_number == 2);
    std::unique_ptr<derived> owner;
    CHECK(pointer != owner.get());
}

static void arithmetic(const run &) {
    std::array<int, 5> numbers{};
    std::iota(numbers.begin(), numbers.end(), 0);
    const offset_ptr<int> first = numbers.data(), end = first + 5;
    CHECK(end - first == 5 && first - end == -5 && end.get() == numbers.data() + 5);
    CHECK(1 + first == first + 1 && end - 5 == first && first[3] == 3 && *(first + 4) == 4);
    CHECK(first < end && first <= end && first <= first && end > first && end >= end);
    CHECK(!(end < first) && !(first > end));
    offset_ptr<int> it = first;
    CHECK(*it++ == 0 && *it == 1 && *++it == 2 && *it-- == 2 && *--it == 0);
    it += 3;
    CHECK(*it == 3);
    it -= 2;
    CHECK(*it == 1);
    const offset_ptr<const int> constant = it;
    CHECK(constant - first == 1 && constant == it && first < constant);
}

static void as_an_iterator(const run &) {
    std::array<int, 100> numbers{};
    const offset_ptr<int> first = numbers.data(), end = first + 100;
    std::iota(first, end, 0);
    std::reverse(first, end);
    CHECK(first[0] == 99);
    std::sort(first, end);
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
    CHECK(*std::lower_bound(first, end, 42) == 42);
    const std::vector<int> copy(first, end);
    CHECK(copy.size() == 100 && copy[42] == 42);
}

int main(int argc, char **argv) {
    return run_case({{"null", null},
                     {"itself", itself},
                     {"mapped_elsewhere", mapped_elsewhere},
                     {"conversions", conversions},
                     {"arithmetic", arithmetic},
                     {"as_an_iterator", as_an_iterator}},
                    argc, argv);
}
