// Checks and processes for the test programs: the first check that fails ends the program and says
// where.
//
// A program is run as CASE HEAP POLICY. To look at a container from another process, it runs itself
// with the object's handle and with the address at which it has mapped the heap, and the child
// connects at another address.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <shmheap.hpp>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::cerr << __FILE__ << ':' << __LINE__ << ": not true: " << #condition << " (errno " \
                      << errno << ", last error '" << shmheap_last_error() << "')\n";              \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

// The expression throws shmheap::error of that errno, with a text.
#define CHECK_THROWS(expression, expected)                                                         \
    do {                                                                                           \
        bool is_thrown = false;                                                                    \
        try {                                                                                      \
            expression;                                                                            \
        } catch (const shmheap::error &thrown) {                                                   \
            is_thrown = true;                                                                      \
            CHECK(thrown.code() == std::error_code(expected, std::generic_category()));            \
            CHECK(std::strlen(thrown.what()) > 20);                                                \
        }                                                                                          \
        CHECK(is_thrown);                                                                          \
    } while (0)

#define CHECK_THROWS_BAD_ALLOC(expression)                                                         \
    do {                                                                                           \
        bool is_thrown = false;                                                                    \
        try {                                                                                      \
            expression;                                                                            \
        } catch (const std::bad_alloc &) {                                                         \
            is_thrown = true;                                                                      \
        }                                                                                          \
        CHECK(is_thrown);                                                                          \
    } while (0)

// What a run of the program was told.
struct run {
    std::string program;
    std::string name;
    std::string heap;
    std::string policy;
    // Of a child only.
    std::string parent_base;
    std::string object;

    bool is_child() const { return !object.empty(); }

    shmheap::options options(std::size_t len) const {
        const bool scalable = policy == "scalable";
        return {len, scalable ? shmheap::policy::scalable : shmheap::policy::first_fit};
    }

    // The heap, anywhere but where the parent has it.
    shmheap::heap connect_elsewhere() const {
        void *taken = reinterpret_cast<void *>(std::strtoull(parent_base.c_str(), nullptr, 10));
        shmheap::heap connected = shmheap::heap::connect(heap.c_str());
        if (connected.underlying() == taken) {
            connected.disconnect();
            // As long as a page of it is something else, the heap cannot be there.
            CHECK(mmap(taken, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                       0) == taken);
            connected = shmheap::heap::connect(heap.c_str());
        }
        CHECK(connected.underlying() != taken);
        return connected;
    }

    template <class T>
    T *resolve(const shmheap::heap &connected) const {
        const shmheap::handle<T> handle(std::strtoull(object.c_str(), nullptr, 10));
        return connected.resolve(handle);
    }

    // A child that runs the same case on the object.
    template <class T>
    pid_t start_child(const shmheap::heap &connected, T *shared) const {
        const std::string base =
            std::to_string(reinterpret_cast<std::uintptr_t>(connected.underlying()));
        const std::string handle = std::to_string(connected.to_handle(shared).raw());
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            execl(program.c_str(), program.c_str(), name.c_str(), heap.c_str(), policy.c_str(),
                  base.c_str(), handle.c_str(), static_cast<char *>(nullptr));
            _exit(127);
        }
        return child;
    }

    template <class T>
    void run_child(const shmheap::heap &connected, T *shared) const {
        int status = -1;
        CHECK(waitpid(start_child(connected, shared), &status, 0) > 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
};

// Nothing is left in the heap, and it is sound.
inline void check_empty(const shmheap::heap &heap) {
    CHECK(heap.stats().live_objects == 0);
    CHECK(heap.check() == 0);
}

using test_cases = std::vector<std::pair<std::string, void (*)(const run &)>>;

inline int run_case(const test_cases &cases, int argc, char **argv) {
    for (const auto &[name, function] : cases) {
        if ((argc == 4 || argc == 6) && name == argv[1]) {
            const bool is_child = argc == 6;
            const run run{argv[0], argv[1], argv[2], argv[3], is_child ? argv[4] : "",
                          is_child ? argv[5] : ""};
            try {
                function(run);
                return 0;
            } catch (const std::exception &error) {
                std::cerr << name << ": " << error.what() << '\n';
                return 1;
            }
        }
    }
    std::cerr << "usage: " << argv[0] << " CASE HEAP POLICY\n";
    return 2;
}

#endif
