// Containers of the standard library that several processes use, each at an address of its own.
#include "check.hpp"

#include <algorithm>
#include <atomic>
#include <deque>
#include <numeric>
#include <scoped_allocator>

using shmheap::heap;

template <class T>
using vector = std::vector<T, shmheap::allocator<T>>;
template <class T>
using deque = std::deque<T, shmheap::allocator<T>>;
// Gives its elements, which are containers, its own allocator.
template <class T>
using nest = std::vector<T, std::scoped_allocator_adaptor<shmheap::allocator<T>>>;

struct leaf {
    int number;
    shmheap::offset_ptr<leaf> next;
};

struct shared {
    using allocator_type = shmheap::allocator<char>;

    explicit shared(const allocator_type &allocator)
        : numbers(allocator), queue(allocator), names(allocator) {}

    vector<int> numbers;
    deque<int> queue;
    nest<vector<char>> names;
    shmheap::unique_ptr<leaf> first;
    shmheap::unique_ptr<vector<int>> owned;
};

static const char long_name[] = "a name that is too long for the place where short ones are kept";

static void fill(shared &object, const heap &mem) {
    object.numbers.resize(1000);
    std::iota(object.numbers.begin(), object.numbers.end(), 0);
    for (int number = 0; number < 1000; number++) {
        object.queue.push_back(number);
        object.queue.push_front(-number);
    }
    object.names.emplace_back(long_name, long_name + sizeof long_name);
    object.first = shmheap::make_unique<leaf>(mem, leaf{1, nullptr});
    object.first->next = object.first.get();
    object.owned = shmheap::make_unique<vector<int>>(mem, 3u, 3);
}

static void change(shared &object, const heap &mem) {
    CHECK(object.numbers.get_allocator() == shmheap::allocator<int>(mem));
    CHECK(object.numbers.size() == 1000 && object.numbers[999] == 999);
    object.numbers.insert(object.numbers.begin(), 5000, -1);
    object.numbers.erase(object.numbers.begin() + 1, object.numbers.begin() + 5000);
    object.numbers.shrink_to_fit();

    CHECK(object.queue.front() == -999 && object.queue.back() == 999 && object.queue[1000] == 0);
    object.queue.erase(object.queue.begin() + 10, object.queue.end() - 10);
    for (int number = 0; number < 3000; number++) {
        object.queue.push_front(number);
    }
    std::sort(object.queue.begin(), object.queue.end());

    CHECK(std::equal(object.names[0].begin(), object.names[0].end(), long_name));
    for (int count = 0; count < 100; count++) {
        object.names.insert(object.names.begin(), object.names.back());
    }
    object.names[7].push_back('!');

    CHECK(object.first->next == object.first.get() && object.first->next->next->number == 1);
    auto second = shmheap::make_unique<leaf>(mem, leaf{2, object.first.get()});
    object.first->next = second.get();
    object.first.swap(second);
    second.release();

    object.owned = shmheap::make_unique<vector<int>>(mem, 4u, 4);
}

static void check_changed(shared &object, const heap &mem) {
    CHECK(object.numbers.size() == 1001 && object.numbers.capacity() == 1001);
    CHECK(object.numbers.front() == -1 && object.numbers.back() == 999);
    CHECK(object.queue.size() == 3020 && object.queue.front() == -999);
    CHECK(object.queue.back() == 2999);
    CHECK(object.names.size() == 101 && object.names[7].back() == '!');
    for (const auto &name : object.names) {
        CHECK(std::equal(long_name, long_name + sizeof long_name, name.begin()));
        CHECK(name.get_allocator() == shmheap::allocator<char>(mem));
    }
    leaf *first = object.first->next.get();
    CHECK(object.first->number == 2 && first->number == 1 && first->next == object.first.get());
    shmheap::destroy(mem, first);
    CHECK(object.owned->size() == 4 && object.owned->back() == 4);
}

// Built by the parent, changed by the child, looked at and ended by the parent.
static void exchanged(const run &run) {
    if (run.is_child()) {
        const heap mem = run.connect_elsewhere();
        return change(*run.resolve<shared>(mem), mem);
    }
    const heap mem = heap::create(run.heap.c_str(), run.options(1 << 24));
    auto *object = shmheap::construct<shared>(mem);
    fill(*object, mem);
    run.run_child(mem, object);
    check_changed(*object, mem);
    shmheap::destroy(mem, object);
    check_empty(mem);
    heap::destroy(run.heap.c_str());
}

// What one process has built, another ends.
static void ended_by_another(const run &run) {
    if (run.is_child()) {
        const heap mem = run.connect_elsewhere();
        return shmheap::destroy(mem, run.resolve<shared>(mem));
    }
    const heap mem = heap::create(run.heap.c_str(), run.options(1 << 24));
    auto *object = shmheap::construct<shared>(mem);
    fill(*object, mem);
    object->first->next = nullptr;
    run.run_child(mem, object);
    check_empty(mem);
    heap::destroy(run.heap.c_str());
}

// A container that finds the heap full stays as it was, and usable by the others.
static void full(const run &run) {
    if (run.is_child()) {
        const heap mem = run.connect_elsewhere();
        auto *numbers = run.resolve<vector<int>>(mem);
        CHECK_THROWS_BAD_ALLOC(for (;;) numbers->push_back(static_cast<int>(numbers->size())));
        return;
    }
    const heap mem = heap::create(run.heap.c_str(), run.options(1 << 21));
    auto *numbers = shmheap::construct<vector<int>>(mem, 1u);
    run.run_child(mem, numbers);
    CHECK(numbers->size() == numbers->capacity() && numbers->size() >= 1 << 17);
    for (std::size_t index = 0; index < numbers->size(); index++) {
        CHECK((*numbers)[index] == static_cast<int>(index));
    }
    CHECK_THROWS_BAD_ALLOC(numbers->push_back(0));
    *numbers = vector<int>(mem);
    numbers->push_back(1);
    shmheap::destroy(mem, numbers);
    check_empty(mem);
    heap::destroy(run.heap.c_str());
}

struct busy {
    std::atomic<int> rounds{0};
};

// Builds, changes and ends containers until it is killed.
[[noreturn]] static void work(const heap &mem, busy &object) {
    nest<vector<int>> numbers(mem);
    for (;;) {
        numbers.emplace_back(1000u, 7);
        if (numbers.size() == 50) {
            numbers.erase(numbers.begin(), numbers.begin() + 40);
        }
        shmheap::make_unique<deque<int>>(mem, 100u);
        object.rounds++;
    }
}

// A killed process costs the memory that its containers held, and nothing else.
static void killed(const run &run) {
    if (run.is_child()) {
        const heap mem = run.connect_elsewhere();
        work(mem, *run.resolve<busy>(mem));
    }
    const heap mem = heap::create(run.heap.c_str(), run.options(1 << 24));
    auto *own = shmheap::construct<shared>(mem);
    fill(*own, mem);
    for (int round = 0; round < 10; round++) {
        auto *object = shmheap::construct<busy>(mem);
        const pid_t child = run.start_child(mem, object);
        while (object->rounds < 100 + round) {
            CHECK(waitpid(child, nullptr, WNOHANG) == 0);
            own->numbers.insert(own->numbers.begin(), 100, round);
            own->numbers.erase(own->numbers.begin(), own->numbers.begin() + 100);
            own->numbers.shrink_to_fit();
        }
        CHECK(kill(child, SIGKILL) == 0);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        shmheap::destroy(mem, object);
        CHECK(mem.check() == 0);
    }
    change(*own, mem);
    check_changed(*own, mem);
    shmheap::destroy(mem, own);
    CHECK(mem.check() == 0);
    heap::destroy(run.heap.c_str());
}

int main(int argc, char **argv) {
    return run_case({{"exchanged", exchanged},
                     {"ended_by_another", ended_by_another},
                     {"full", full},
                     {"killed", killed}},
                    argc, argv);
}
