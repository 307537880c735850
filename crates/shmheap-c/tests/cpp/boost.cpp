// Containers from Boost that several processes use, each at an address of its own.
#include "check.hpp"

#include <boost/container/deque.hpp>
#include <boost/container/flat_map.hpp>
#include <boost/container/list.hpp>
#include <boost/container/map.hpp>
#include <boost/container/set.hpp>
#include <boost/container/slist.hpp>
#include <boost/container/small_vector.hpp>
#include <boost/container/stable_vector.hpp>
#include <boost/container/string.hpp>
#include <boost/container/vector.hpp>
#include <boost/multi_index/hashed_index.hpp>
#include <boost/multi_index/identity.hpp>
#include <boost/multi_index/ordered_index.hpp>
#include <boost/multi_index_container.hpp>
#include <boost/unordered_map.hpp>
#include <boost/version.hpp>
#if BOOST_VERSION >= 108400
#include <boost/unordered/unordered_flat_map.hpp>
#endif

#include <scoped_allocator>

using shmheap::heap;

using allocator = shmheap::allocator<char>;
template <class T>
using allocator_of = shmheap::allocator<T>;
// Gives the strings in a container the container's allocator.
template <class T>
using nesting = std::scoped_allocator_adaptor<shmheap::allocator<T>>;

namespace container = boost::container;

using string = container::basic_string<char, std::char_traits<char>, allocator>;
template <class Value>
using map = container::map<string, Value, std::less<>, nesting<std::pair<const string, Value>>>;
template <class Key, class Value>
using hash_map = boost::unordered_map<Key, Value, boost::hash<Key>, std::equal_to<Key>,
                                      allocator_of<std::pair<const Key, Value>>>;
#if BOOST_VERSION >= 108400
template <class Key, class Value>
using flat_hash_map =
    boost::unordered_flat_map<Key, Value, boost::hash<Key>, std::equal_to<Key>,
                              allocator_of<std::pair<const Key, Value>>>;
#endif
namespace multi = boost::multi_index;
using table = multi::multi_index_container<
    int,
    multi::indexed_by<multi::ordered_unique<multi::identity<int>>,
                      multi::hashed_unique<multi::identity<int>>>,
    allocator_of<int>>;

using brief = container::small_vector<int, 4, allocator_of<int>>;
using brief_allocator = brief::allocator_type; // it converts explicitly only

struct shared {
    using allocator_type = allocator;

    explicit shared(const allocator &allocator)
        : text(allocator), vector(allocator), small(brief_allocator(allocator)),
          stable(allocator), deque(allocator), list(allocator), slist(allocator),
          set(std::less<int>(), allocator), flat(std::less<int>(), allocator), ages(allocator),
          squares(allocator),
#if BOOST_VERSION >= 108400
          flat_squares(allocator),
#endif
          numbers(table::ctor_args_list(), allocator) {
    }

    string text;
    container::vector<int, allocator_of<int>> vector;
    brief small;
    container::stable_vector<int, allocator_of<int>> stable;
    container::deque<int, allocator_of<int>> deque;
    container::list<int, allocator_of<int>> list;
    container::slist<int, allocator_of<int>> slist;
    container::set<int, std::less<int>, allocator_of<int>> set;
    container::flat_map<int, int, std::less<int>, allocator_of<std::pair<int, int>>> flat;
    map<int> ages;
    hash_map<int, int> squares;
#if BOOST_VERSION >= 108400
    flat_hash_map<int, int> flat_squares;
#endif
    table numbers;
};

static string name_of(int number, const heap &mem) {
    string name("the person whose number is ", mem);
    name += std::to_string(number).c_str();
    return name;
}

// Puts the numbers from `first` to before `end` into all of them.
static void add(shared &object, int first, int end, const heap &mem) {
    for (int number = first; number < end; number++) {
        object.text += static_cast<char>('a' + number % 26);
        object.vector.push_back(number);
        object.small.push_back(number);
        object.stable.push_back(number);
        object.deque.push_front(number);
        object.list.push_back(number);
        object.slist.push_front(number);
        object.set.insert(number);
        object.flat.emplace(number, number);
        object.ages.emplace(name_of(number, mem), number);
        object.squares[number] = number * number;
#if BOOST_VERSION >= 108400
        object.flat_squares[number] = number * number;
#endif
        object.numbers.insert(number);
    }
}

static void remove_odd(shared &object, int end, const heap &mem) {
    for (int number = 1; number < end; number += 2) {
        object.set.erase(number);
        object.flat.erase(number);
        object.ages.erase(name_of(number, mem));
        object.squares.erase(number);
#if BOOST_VERSION >= 108400
        object.flat_squares.erase(number);
#endif
        object.numbers.get<1>().erase(number);
    }
    object.list.remove_if([](int number) { return number % 2 == 1; });
    object.slist.remove_if([](int number) { return number % 2 == 1; });
}

static void check_rows(const shared &object, int end) {
    const auto size = static_cast<std::size_t>(end);
    CHECK(object.text.size() == size && object.vector.size() == size);
    CHECK(object.small.size() == size && object.stable.size() == size);
    CHECK(object.deque.size() == size);
    for (int number = 0; number < end; number++) {
        const auto at = static_cast<std::size_t>(number);
        CHECK(object.text[at] == 'a' + number % 26);
        CHECK(object.vector[at] == number && object.small[at] == number);
        CHECK(object.stable[at] == number && object.deque[size - 1 - at] == number);
    }
}

static void check_maps(const shared &object, int end, int step, const heap &mem) {
    const auto size = static_cast<std::size_t>((end + step - 1) / step);
    CHECK(object.list.size() == size && object.slist.size() == size);
    CHECK(object.set.size() == size && object.flat.size() == size);
    CHECK(object.ages.size() == size && object.squares.size() == size);
    CHECK(object.numbers.size() == size);
    const int last = (end - 1) / step * step;
    CHECK(object.list.back() == last && object.slist.front() == last);
    for (int number = 0; number < end; number += step) {
        CHECK(object.set.count(number) == 1 && object.flat.at(number) == number);
        CHECK(object.ages.at(name_of(number, mem)) == number);
        CHECK(object.squares.at(number) == number * number);
#if BOOST_VERSION >= 108400
        CHECK(object.flat_squares.at(number) == number * number);
#endif
        CHECK(object.numbers.count(number) == 1 && object.numbers.get<1>().count(number) == 1);
    }
    CHECK(object.ages.begin()->first.get_allocator() == allocator(mem));
}

static void exchanged(const run &run) {
    if (run.is_child()) {
        const heap mem = run.connect_elsewhere();
        auto *object = run.resolve<shared>(mem);
        check_rows(*object, 500);
        check_maps(*object, 500, 1, mem);
        add(*object, 500, 2000, mem);
        return remove_odd(*object, 2000, mem);
    }
    const heap mem = heap::create(run.heap.c_str(), run.options(1 << 24));
    auto *object = shmheap::construct<shared>(mem);
    add(*object, 0, 500, mem);
    run.run_child(mem, object);
    check_rows(*object, 2000);
    check_maps(*object, 2000, 2, mem);
    shmheap::destroy(mem, object);
    check_empty(mem);
    heap::destroy(run.heap.c_str());
}

// A string so short that it lies within itself, and one that does not, seen from elsewhere.
static void strings(const run &run) {
    struct pair {
        string brief, extended;
    };
    if (run.is_child()) {
        const heap mem = run.connect_elsewhere();
        auto *both = run.resolve<pair>(mem);
        CHECK(both->brief == "brief" && both->extended.size() == 1000);
        both->brief.swap(both->extended);
        both->extended += '!';
        return;
    }
    const heap mem = heap::create(run.heap.c_str(), run.options(1 << 24));
    auto *both = shmheap::construct<pair>(mem, pair{string("brief", mem), string(1000, 'x', mem)});
    run.run_child(mem, both);
    CHECK(both->extended == "brief!" && both->brief == string(1000, 'x', mem));
    shmheap::destroy(mem, both);
    check_empty(mem);
    heap::destroy(run.heap.c_str());
}

// The heap becomes full at every possible place of the work, and nothing leaks.
static void full(const run &run) {
    const heap mem = heap::create_memfd(run.options(1 << 21));
    auto *object = shmheap::construct<shared>(mem);
    CHECK_THROWS_BAD_ALLOC(for (int number = 0;; number++) add(*object, number, number + 1, mem));
    CHECK(errno == ENOMEM && mem.check() == 0 && object->vector.size() > 100);
    shmheap::destroy(mem, object);
    check_empty(mem);
}

int main(int argc, char **argv) {
    return run_case({{"exchanged", exchanged}, {"strings", strings}, {"full", full}}, argc, argv);
}
