// Boost.Interprocess for the benchmark: a managed shared memory with either of its algorithms, as a
// table of C functions. `src/peer/boost.rs` mirrors the table and is its only user.
//
// No exception leaves a function: those that can fail give NULL and remember the text. The others
// end the process if they throw, which they only do where a lock is broken.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>

#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/mem_algo/simple_seq_fit.hpp>
#include <boost/version.hpp>

namespace bip = boost::interprocess;

namespace {

// The text of the last exception.
thread_local char last_error[256];

template <class Call> void *null_if_it_throws(Call call) noexcept {
    try {
        return call();
    } catch (const std::exception &error) {
        std::strncpy(last_error, error.what(), sizeof last_error - 1);
        return nullptr;
    }
}

struct Calls {
    void *(*create)(const char *name, std::size_t bytes);
    void *(*open)(const char *name);
    void (*close)(void *segment);
    void *(*allocate)(void *segment, std::size_t bytes);
    void (*deallocate)(void *segment, void *object);
    std::uint64_t (*handle)(const void *segment, const void *object);
    void *(*address)(const void *segment, std::uint64_t handle);
};

template <class Segment> struct Of {
    static Segment *segment(void *pointer) { return static_cast<Segment *>(pointer); }
    static const Segment *segment(const void *pointer) {
        return static_cast<const Segment *>(pointer);
    }

    static void *create(const char *name, std::size_t bytes) noexcept {
        return null_if_it_throws([=] { return new Segment(bip::create_only, name, bytes); });
    }
    static void *open(const char *name) noexcept {
        return null_if_it_throws([=] { return new Segment(bip::open_only, name); });
    }
    static void close(void *self) noexcept { delete segment(self); }

    static void *allocate(void *self, std::size_t bytes) noexcept {
        return segment(self)->allocate(bytes, std::nothrow);
    }
    static void deallocate(void *self, void *object) noexcept {
        segment(self)->deallocate(object);
    }

    static std::uint64_t handle(const void *self, const void *object) noexcept {
        return static_cast<std::uint64_t>(segment(self)->get_handle_from_address(object));
    }
    static void *address(const void *self, std::uint64_t handle) noexcept {
        using Handle = typename Segment::handle_t;
        return segment(self)->get_address_from_handle(static_cast<Handle>(handle));
    }

    static constexpr Calls calls() {
        return {create, open, close, allocate, deallocate, handle, address};
    }
};

// What `managed_shared_memory` is, with any algorithm.
template <class Algorithm>
using Managed = bip::basic_managed_shared_memory<char, Algorithm, bip::iset_index>;

using RbTree = Managed<bip::rbtree_best_fit<bip::mutex_family>>;
using SeqFit = Managed<bip::simple_seq_fit<bip::mutex_family>>;

} // namespace

extern "C" {

extern const Calls shim_boost_rbtree = Of<RbTree>::calls();
extern const Calls shim_boost_seq_fit = Of<SeqFit>::calls();

void shim_boost_remove(const char *name) noexcept { bip::shared_memory_object::remove(name); }

const char *shim_boost_last_error() noexcept { return last_error; }

// As "1_74".
const char *shim_boost_version() noexcept { return BOOST_LIB_VERSION; }
}
