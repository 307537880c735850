// Heaps, handles, objects and owners: shmheap.h with exceptions, and with types.
#include "check.hpp"

#include <atomic>
#include <scoped_allocator>
#include <stdexcept>
#include <thread>

using shmheap::heap;

template <class T>
using vector = std::vector<T, shmheap::allocator<T>>;

static_assert(!std::is_copy_constructible_v<heap> && !std::is_copy_assignable_v<heap>);
static_assert(std::is_nothrow_move_constructible_v<heap>);
static_assert(std::is_nothrow_move_assignable_v<heap>);
static_assert(std::is_trivially_copyable_v<shmheap::handle<int>>, "it is sent as bytes");

// Another connection to the same heap.
static heap again(const heap &mem) {
    const int fd = mem.fd();
    heap connected = heap::connect_fd(fd);
    close(fd);
    return connected;
}

static void lifetime(const run &run) {
    const char *name = run.heap.c_str();
    heap none;
    CHECK(!none && none.get() == nullptr && none.underlying() == nullptr);
    heap first = heap::create(name, run.options(1 << 20));
    CHECK(first && first.underlying() == shmheap_underlying(first.get()));
    CHECK(first.stats().peers_alive == 1);
    {
        heap second = heap::connect(name);
        CHECK(second.underlying() != first.underlying() && first.stats().peers_alive == 2);
        heap moved = std::move(second);
        CHECK(!second && moved && first.stats().peers_alive == 2);
        moved = again(first);
        CHECK(first.stats().peers_alive == 2);
    }
    CHECK(first.stats().peers_alive == 1);
    heap adopted = heap::adopt(first.release());
    CHECK(!first && adopted.stats().peers_alive == 1);
    heap::destroy(name);
    CHECK(!heap::try_connect(name) && errno == ENOENT);
    CHECK(adopted.alloc(100) != nullptr);
    adopted.disconnect();
    CHECK(!adopted);
    adopted.disconnect();

    heap unnamed = heap::create_memfd(run.options(1 << 20));
    CHECK(unnamed.try_alloc(100) != nullptr);
}

static void errors(const run &run) {
    const char *name = run.heap.c_str();
    CHECK_THROWS(heap::connect(name), ENOENT);
    CHECK_THROWS(heap::connect(name, 1 << 9), EINVAL);
    CHECK_THROWS(heap::connect_fd(-1), EBADF);
    CHECK_THROWS(heap::create(name, 0), EINVAL);
    CHECK_THROWS(heap::create(nullptr, 1 << 20), EINVAL);
    CHECK_THROWS(heap::destroy(name), ENOENT);
    CHECK_THROWS(heap::adopt(nullptr), ENOENT); // what the call before has left
    CHECK(!heap::try_destroy(name) && errno == ENOENT);

    heap mem = heap::create(name, run.options(1 << 20));
    CHECK_THROWS(heap::create(name, 1 << 20), EEXIST);
    CHECK(!heap::try_create(name, 1 << 20) && errno == EEXIST);
    int local = 0;
    CHECK_THROWS(mem.free(&local), EINVAL);
    CHECK(!mem.try_free(&local) && errno == EINVAL);
    CHECK_THROWS(mem.to_handle(&local), EINVAL);
    CHECK_THROWS(mem.resolve(shmheap::handle<int>()), EINVAL);
    CHECK_THROWS(mem.usable_size(&local), EINVAL);
    CHECK_THROWS(mem.grow(1 << 30), EINVAL);
    CHECK_THROWS(mem.aligned_alloc(3, 8), EINVAL);
    try {
        mem.free(&local);
    } catch (const std::system_error &error) {
        CHECK(std::string(error.what()).find(shmheap_last_error()) == 0);
        CHECK(error.code() == std::errc::invalid_argument);
    }

    errno = ERANGE;
    CHECK(mem.try_free(mem.alloc(8)) && mem.try_free(nullptr) && mem.trim() <= 1 << 20);
    heap(std::move(mem)).disconnect();
    CHECK(errno == ERANGE && "success leaves errno alone");
    CHECK_THROWS(mem.alloc(8), EINVAL);
    CHECK_THROWS(mem.stats(), EINVAL);
    CHECK_THROWS(mem.check(), EINVAL);
    CHECK_THROWS(mem.trim(), EINVAL);
    CHECK_THROWS(mem.fd(), EINVAL);
    heap::destroy(name);
}

static void bytes(const run &run) {
    const heap mem = heap::create_memfd(run.options(1 << 20));
    auto *object = static_cast<unsigned char *>(mem.calloc(10, 10));
    CHECK(object[0] == 0 && object[99] == 0 && mem.usable_size(object) >= 100);
    object[99] = 7;
    object = static_cast<unsigned char *>(mem.realloc(object, 1000));
    CHECK(object[99] == 7 && mem.usable_size(object) >= 1000);
    mem.free(object);
    void *aligned = mem.aligned_alloc(4096, 10);
    CHECK(reinterpret_cast<std::uintptr_t>(aligned) % 4096 == 0);
    mem.free(aligned);
    CHECK_THROWS_BAD_ALLOC(mem.alloc(2 << 20));
    CHECK_THROWS_BAD_ALLOC(mem.calloc(SIZE_MAX, 2));
    CHECK(mem.try_alloc(2 << 20) == nullptr && errno == ENOMEM);
    check_empty(mem);
}

static void choices(const run &run) {
    shmheap::options options = run.options(1 << 20);
    options.max_len = 1 << 21;
    const heap mem = heap::create(run.heap.c_str(), options);
    CHECK(mem.stats().max_len == 1 << 21 && mem.grow(1 << 21) == 1 << 21);
    const heap reader = heap::connect(run.heap.c_str(), SHMHEAP_READ_ONLY);
    int *number = shmheap::construct<int>(mem, 7);
    CHECK(*reader.resolve(mem.to_handle(number)) == 7);
    CHECK_THROWS(reader.alloc(8), EROFS);
    CHECK_THROWS(shmheap::construct<int>(reader), EROFS);
    heap::destroy(run.heap.c_str());
}

struct counted {
    static int alive;
    explicit counted(bool fails = false) {
        if (fails) {
            throw std::runtime_error("the constructor fails");
        }
        alive++;
    }
    counted(const counted &) = delete;
    ~counted() { alive--; }
};
int counted::alive = 0;

static void objects(const run &run) {
    const heap mem = heap::create_memfd(run.options(1 << 20));
    auto *object = shmheap::construct<counted>(mem);
    const auto handle = mem.to_handle(object);
    CHECK(counted::alive == 1 && mem.resolve(handle) == object);
    CHECK(shmheap::handle<counted>(handle.raw()) == handle && handle != shmheap::handle<counted>());
    shmheap::destroy(mem, object);
    CHECK(counted::alive == 0 && mem.try_resolve(handle) == nullptr);
    shmheap::destroy<counted>(mem, nullptr);

    bool is_thrown = false;
    try {
        shmheap::construct<counted>(mem, true);
    } catch (const std::runtime_error &) {
        is_thrown = true;
    }
    CHECK(is_thrown);
    check_empty(mem);
    counted foreign;
    counted::alive++; // it ends twice
    CHECK_THROWS(shmheap::destroy(mem, &foreign), EINVAL);
}

static void owners(const run &run) {
    const heap mem = heap::create_memfd(run.options(1 << 20));
    {
        auto owner = shmheap::make_unique<counted>(mem);
        CHECK(counted::alive == 1 && owner && owner.get() != nullptr);
        shmheap::unique_ptr<counted> none;
        none = std::move(owner);
        CHECK(!owner && counted::alive == 1);
        none.reset();
        CHECK(counted::alive == 0);

        // An owner may lie in the heap, and own what is there.
        auto owners = shmheap::make_unique<vector<shmheap::unique_ptr<counted>>>(mem);
        for (int count = 0; count < 10; count++) {
            owners->push_back(shmheap::make_unique<counted>(mem));
        }
        owners->erase(owners->begin() + 3);
        CHECK(counted::alive == 9);
    }
    CHECK(counted::alive == 0);
    check_empty(mem);
}

template <std::size_t Alignment>
struct alignas(Alignment) aligned {
    char bytes[Alignment];
};

template <std::size_t Alignment>
static void check_alignment(const heap &mem) {
    mem.alloc(8); // else all would be aligned by accident
    vector<aligned<Alignment>> objects(mem);
    for (int count = 0; count < 5; count++) {
        objects.emplace_back();
        CHECK(reinterpret_cast<std::uintptr_t>(objects.data()) % Alignment == 0);
    }
    auto *object = shmheap::construct<aligned<Alignment>>(mem);
    CHECK(reinterpret_cast<std::uintptr_t>(object) % Alignment == 0);
    shmheap::destroy(mem, object);
}

static void alignments(const run &run) {
    shmheap::options options = run.options(1 << 22);
    options.granule = run.policy == "scalable" ? 0 : 8;
    const heap mem = heap::create_memfd(options);
    check_alignment<1>(mem);
    check_alignment<8>(mem);
    check_alignment<16>(mem);
    check_alignment<64>(mem);
    check_alignment<4096>(mem);
    if (run.policy == "first-fit") {
        CHECK_THROWS((vector<aligned<8192>>(1, mem)), EINVAL);
    } else {
        check_alignment<8192>(mem);
    }
}

// Containers of a heap that is full, gone, or another one.
static void allocators(const run &run) {
    heap mem = heap::create_memfd(run.options(1 << 20));
    const heap other = heap::create_memfd(run.options(1 << 20));
    const shmheap::allocator<int> ints = mem, other_ints = other;
    CHECK(ints == shmheap::allocator<char>(ints) && ints != other_ints);
    CHECK(ints.max_size() == PTRDIFF_MAX / sizeof(int));
    CHECK_THROWS_BAD_ALLOC(static_cast<void>(shmheap::allocator<int>(mem).allocate(SIZE_MAX / 2)));
    {
        vector<int> numbers(mem);
        CHECK_THROWS_BAD_ALLOC(for (;;) numbers.push_back(static_cast<int>(numbers.size())));
        CHECK(numbers.size() >= 1 << 16 && errno == ENOMEM && mem.check() == 0);
        CHECK(numbers.back() == static_cast<int>(numbers.size()) - 1);
        vector<int> few({1, 2, 3}, other);
        numbers = few;
        CHECK(numbers == few && numbers.get_allocator() == ints);
        few = vector<int>({4, 5}, mem);
        CHECK(few.size() == 2 && few.get_allocator() == other_ints);
        numbers = std::move(few);
        CHECK(numbers.size() == 2 && numbers.get_allocator() == ints);
        auto *moved = shmheap::construct<vector<int>>(other, std::move(numbers));
        CHECK(moved->size() == 2 && moved->get_allocator() == other_ints);
        shmheap::destroy(other, moved);
    }
    check_empty(mem);
    check_empty(other);

    // Inner containers get the allocator of the outer one where they are asked to.
    using inner = vector<int>;
    using outer = std::vector<inner, std::scoped_allocator_adaptor<shmheap::allocator<inner>>>;
    auto nested = shmheap::make_unique<outer>(mem);
    nested->emplace_back(3, 7);
    nested->resize(5);
    CHECK((*nested)[0][2] == 7 && nested->back().get_allocator() == ints);
    nested.reset();

    vector<int> left({1, 2, 3}, mem);
    const heap twice = again(mem);
    CHECK(shmheap::allocator<int>(twice) != ints && "another mapping is another place");
    shmheap_memory_handle released = mem.release();
    CHECK_THROWS(left.reserve(1000), EINVAL);
    CHECK(left.size() == 3);
    mem = heap::adopt(released);
    left.reserve(1000);
    CHECK(left.back() == 3);
}

// More heaps than the table has buckets; places in it are used again.
static void many(const run &run) {
    for (int round = 0; round < 3; round++) {
        std::vector<heap> heaps;
        for (int count = 0; count < 200; count++) {
            heaps.push_back(heap::create_memfd(run.options(1 << 16)));
        }
        std::vector<vector<std::size_t>> each;
        for (std::size_t index = 0; index < heaps.size(); index++) {
            each.emplace_back(std::size_t(2), index, heaps[index]);
        }
        for (std::size_t index = 0; index < heaps.size(); index++) {
            CHECK(each[index][1] == index && heaps[index].stats().live_objects == 1);
        }
        each.clear();
        for (const heap &mem : heaps) {
            check_empty(mem);
        }
    }
}

// Threads that use one heap while others come and go.
static void threads(const run &run) {
    const heap mem = heap::create_memfd(run.options(1 << 23));
    std::vector<std::thread> all;
    for (int number = 0; number < 4; number++) {
        all.emplace_back([&, number] {
            for (int round = 0; round < 50; round++) {
                const heap own = heap::create_memfd(run.options(1 << 17));
                vector<int> here(100, number, own), there(mem);
                for (int count = 0; count < 100; count++) {
                    there.push_back(count);
                }
                CHECK(here[99] == number && there[99] == 99);
                CHECK(own.stats().live_objects == 1);
            }
        });
    }
    for (std::thread &thread : all) {
        thread.join();
    }
    check_empty(mem);
}

static void tags(const run &run) {
    shmheap::options options = run.options(4 << 20);
    options.flags = SHMHEAP_LABELS;
    const heap mem = heap::create(run.heap.c_str(), options);
    CHECK(shmheap_set_quota(mem.get(), SHMHEAP_QUOTA_TAG, "parser", 10000) == 0);
    {
        const shmheap::tag_scope outer(mem, "parser");
        vector<int> numbers(1000, 7, mem);
        CHECK_THROWS(numbers.resize(5000), EDQUOT);
        CHECK(numbers.size() == 1000 && numbers[999] == 7);
        const shmheap::tag_scope inner(mem, "");
        numbers.resize(5000); // moved, and counted under the other
        CHECK_THROWS(shmheap::tag_scope(mem, "\n"), EINVAL);
        CHECK_THROWS(shmheap::tag_scope(heap(), "x"), EINVAL);
    }
    CHECK(mem.try_alloc(20000) != nullptr);
    CHECK(shmheap_tag_pop(mem.get()) == -1 && errno == EINVAL);
    heap::destroy(run.heap.c_str());
}

int main(int argc, char **argv) {
    return run_case({{"lifetime", lifetime},
                     {"errors", errors},
                     {"bytes", bytes},
                     {"choices", choices},
                     {"objects", objects},
                     {"owners", owners},
                     {"alignments", alignments},
                     {"allocators", allocators},
                     {"many", many},
                     {"threads", threads},
                     {"tags", tags}},
                    argc, argv);
}
