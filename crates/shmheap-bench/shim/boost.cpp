// Boost.Interprocess for the benchmark: a managed shared memory with either of its algorithms, as a
// table of C functions, which `src/peer/boost.rs` mirrors; and a map and a mutex in one, which
// `src/typed/boost.rs` uses.
//
// No exception leaves a function: those that can fail give NULL and remember the text. The others
// end the process if they throw, which they only do where a lock is broken.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>

#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/mem_algo/simple_seq_fit.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/unordered_map.hpp>
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

struct Value {
    std::uint64_t numbers[2];
};

using Segment = bip::managed_shared_memory;
using Entry = std::pair<const std::uint64_t, Value>;
using Map = boost::unordered_map<std::uint64_t, Value, boost::hash<std::uint64_t>,
                                 std::equal_to<std::uint64_t>,
                                 bip::allocator<Entry, Segment::segment_manager>>;

// What all workers share: a map and two counts, each behind the mutex.
struct Shared {
    bip::interprocess_mutex mutex;
    std::uint64_t counts[2] = {0, 0};
    Map map;

    explicit Shared(Segment &segment)
        : map(0, Map::hasher(), Map::key_equal(), segment.get_segment_manager()) {}
};

// Their use by one process.
struct Site {
    Segment segment;
    Shared *shared;
};

using Lock = bip::scoped_lock<bip::interprocess_mutex>;

} // namespace

extern "C" {

extern const Calls shim_boost_rbtree = Of<RbTree>::calls();
extern const Calls shim_boost_seq_fit = Of<SeqFit>::calls();

void *shim_boost_site_create(const char *name, std::size_t bytes) noexcept {
    return null_if_it_throws([=] {
        Site *site = new Site{Segment(bip::create_only, name, bytes), nullptr};
        site->shared = site->segment.construct<Shared>("shared")(site->segment);
        return site;
    });
}

void *shim_boost_site_open(const char *name) noexcept {
    return null_if_it_throws([=] {
        Site *site = new Site{Segment(bip::open_only, name), nullptr};
        site->shared = site->segment.find<Shared>("shared").first;
        return site;
    });
}

void shim_boost_site_close(void *site) noexcept { delete static_cast<Site *>(site); }

bool shim_boost_map_get(void *site, std::uint64_t key, std::uint64_t value[2]) noexcept {
    Shared *shared = static_cast<Site *>(site)->shared;
    Lock lock(shared->mutex);
    Map::const_iterator found = shared->map.find(key);
    if (found == shared->map.end())
        return false;
    std::memcpy(value, found->second.numbers, sizeof found->second.numbers);
    return true;
}

// Ends the process if the segment is full.
void shim_boost_map_insert(void *site, std::uint64_t key, const std::uint64_t value[2]) noexcept {
    Shared *shared = static_cast<Site *>(site)->shared;
    Lock lock(shared->mutex);
    shared->map[key] = Value{{value[0], value[1]}};
}

void shim_boost_count(void *site, std::uint64_t counts[2]) noexcept {
    Shared *shared = static_cast<Site *>(site)->shared;
    Lock lock(shared->mutex);
    shared->counts[0] += 1;
    shared->counts[1] += 1;
    std::memcpy(counts, shared->counts, sizeof shared->counts);
}

void shim_boost_remove(const char *name) noexcept { bip::shared_memory_object::remove(name); }

const char *shim_boost_last_error() noexcept { return last_error; }

// As "1_74".
const char *shim_boost_version() noexcept { return BOOST_LIB_VERSION; }
}
