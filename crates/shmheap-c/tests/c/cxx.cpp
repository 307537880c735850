// The header from C++: an allocator for standard containers, and exceptions around the calls.
#include <shmheap.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            throw std::runtime_error(std::string(#condition) + ": " + shmheap_last_error());       \
        }                                                                                          \
    } while (0)

template <class T>
struct Allocator {
    using value_type = T;

    explicit Allocator(shmheap_memory_handle mem) : mem(mem) {}
    template <class U>
    Allocator(const Allocator<U> &other) : mem(other.mem) {}

    T *allocate(std::size_t count) {
        void *object = shmheap_calloc(mem, count, sizeof(T));
        if (object == nullptr) {
            throw std::bad_alloc();
        }
        return static_cast<T *>(object);
    }
    void deallocate(T *object, std::size_t) { shmheap_free(mem, object); }

    template <class U>
    bool operator==(const Allocator<U> &other) const { return mem == other.mem; }
    template <class U>
    bool operator!=(const Allocator<U> &other) const { return mem != other.mem; }

    shmheap_memory_handle mem;
};

static void run(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    options.len = 1 << 16;
    shmheap_memory_handle mem = shmheap_create_with(heap, &options);
    CHECK(mem != nullptr);
    {
        std::vector<int, Allocator<int>> numbers{Allocator<int>(mem)};
        bool is_full = false;
        try {
            for (int number = 0;; number++) {
                numbers.push_back(number);
            }
        } catch (const std::bad_alloc &) {
            is_full = errno == ENOMEM;
        }
        CHECK(is_full);
        CHECK(numbers.size() >= 4096);
        for (std::size_t index = 0; index < numbers.size(); index++) {
            CHECK(numbers[index] == static_cast<int>(index));
        }
    }
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    CHECK(shmheap_stats(mem, &statistics) == 0);
    CHECK(statistics.live_objects == 0);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    try {
        run(argc == 3 ? argv[2] : "");
        return 0;
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
