/**
 * @file shmheap/allocator.hpp
 * @brief The allocator that puts containers into a heap. Part of shmheap.hpp.
 */
#ifndef SHMHEAP_ALLOCATOR_HPP
#define SHMHEAP_ALLOCATOR_HPP

#include <shmheap.h>
#include <shmheap/connections.hpp>
#include <shmheap/error.hpp>
#include <shmheap/heap.hpp>
#include <shmheap/offset_ptr.hpp>

#include <cerrno>
#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

namespace shmheap {
namespace detail {

/** Memory of the heap that is mapped at `base`. */
inline void *allocate(const void *base, std::size_t size, std::size_t alignment) {
    const shmheap_memory_handle mem = connections.find(base);
    if (mem == nullptr) {
        throw error(EINVAL, "the allocator's heap is not connected by a shmheap::heap here");
    }
    // Eight is what every heap gives to any size; those of granule 8 give no more by themselves.
    void *object = alignment <= 8 ? shmheap_alloc(mem, size)
                                  : shmheap_aligned_alloc(mem, alignment, size);
    if (object == nullptr) {
        throw_no_memory();
    }
    return object;
}

/** Gives it back, or leaves it allocated where that cannot be done. */
inline void deallocate(const void *base, void *object) noexcept {
    const int before = errno;
    shmheap_free(connections.find(base), object);
    errno = before;
}

template <class Node, class = void>
inline constexpr bool has_raw_next = false;
template <class Node>
inline constexpr bool has_raw_next<Node, std::void_t<decltype(std::declval<Node &>()._M_next)>> =
    std::is_pointer_v<std::remove_reference_t<decltype((std::declval<Node &>()._M_next))>>;

template <class Node, class = void>
inline constexpr bool has_raw_nxt = false;
template <class Node>
inline constexpr bool has_raw_nxt<Node, std::void_t<decltype(std::declval<Node &>()._M_nxt)>> =
    std::is_pointer_v<std::remove_reference_t<decltype((std::declval<Node &>()._M_nxt))>>;

/**
 * Nodes of those containers of libstdc++ that take any allocator and then link their nodes by plain
 * pointers: std::forward_list and the std::unordered_ ones, in the versions that do so.
 */
template <class T>
inline constexpr bool is_linked_by_raw_pointers = has_raw_next<T> || has_raw_nxt<T>;

} // namespace detail

/**
 * An allocator whose memory is a heap: for containers that several processes use.
 *
 * @code
 *   template <class T> using vector = std::vector<T, shmheap::allocator<T>>;
 *   auto *numbers = shmheap::construct<vector<int>>(heap); // the vector itself lies in the heap
 *   numbers->push_back(42);                                // and so do its elements
 * @endcode
 *
 * It holds where the heap begins as an offset_ptr, and nothing else. So it may lie in the heap, as
 * it does within a container there, and every process that changes the container allocates through
 * its own connection: the shmheap::heap by whose mapping it got at the container. Without one,
 * deallocation does nothing (the memory stays allocated), and allocation throws.
 *
 * **Containers.** They must keep the allocator's pointer type, as the standard permits but does not
 * demand. These do: std::vector (but for vector<bool>) and std::deque of libstdc++; those of
 * Boost.Container, Boost.MultiIndex and Boost.Unordered, of its flat and node ones from 1.84 on.
 * Those of libstdc++ that do not are refused by the compiler: std::string, list, map, set,
 * unordered_map ...; take the ones from Boost.
 *
 * **Elements.** What lies in a heap must be the same to every process: no T *, no reference, no
 * virtual function, and no container with another allocator.
 *
 * **Several heaps.** A container stays in its heap. Allocators are equal if they are of the same
 * connection, and are never handed from container to container by assignment or swap: between
 * heaps, assignment copies or moves elements one by one, and swap is undefined. The move
 * constructor takes the other's allocator: construct() in another heap gives it that heap's.
 *
 * **Processes.** Containers do not know that they are shared: what threads must not do at once,
 * processes must not either. A process that is killed inside a member function leaves the heap
 * sound, but that container as it was at this moment, perhaps torn; and it may leave memory
 * allocated that no container owns.
 *
 * **Sanitizers.** A library built for them knows what this process has freed, and not that another
 * has since put elements there, to which a container leads without naming them to the library.
 * Where several processes change a container, use a library that was built without.
 */
template <class T>
class allocator {
public:
    using value_type = T;
    using pointer = offset_ptr<T>;
    using const_pointer = offset_ptr<const T>;
    using void_pointer = offset_ptr<void>;
    using const_void_pointer = offset_ptr<const void>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    // A container whose allocator became that of another heap would point from heap to heap.
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::false_type;
    using propagate_on_container_swap = std::false_type;
    using is_always_equal = std::false_type;

    template <class U>
    struct rebind {
#ifdef __GLIBCXX__
        static_assert(!(std::is_same_v<T, bool> && std::is_same_v<U, unsigned long>),
                      "std::vector<bool> of libstdc++ holds plain pointers, which mean nothing to "
                      "another process; use vector<char>");
#endif
        using other = allocator<U>;
    };

    /** For objects of that heap. Implicit, so that a container's constructor takes a heap. */
    allocator(const heap &heap) noexcept : base_(heap.underlying()) {}
    template <class U>
    allocator(const allocator<U> &other) noexcept : base_(other.underlying()) {}

    /**
     * Memory for an array of T, aligned for T.
     *
     * std::bad_alloc: the heap is full (shmheap_last_error() has the details), or the array larger
     * than max_size(). shmheap::error: anything else; the heap is not connected here (EINVAL), or
     * read-only (EROFS), T needs a larger alignment than the policy gives (EINVAL), ...
     */
    [[nodiscard]] pointer allocate(size_type count) {
        static_assert(!detail::is_linked_by_raw_pointers<T>,
                      "this container of libstdc++ links its nodes by plain pointers, which mean "
                      "nothing to another process; use one from Boost");
        if (count > max_size()) {
            throw std::bad_array_new_length();
        }
        return static_cast<T *>(detail::allocate(underlying(), count * sizeof(T), alignof(T)));
    }

    void deallocate(pointer object, size_type) noexcept {
        detail::deallocate(underlying(), object.get());
    }

    size_type max_size() const noexcept {
        return static_cast<size_type>(std::numeric_limits<difference_type>::max()) / sizeof(T);
    }

    /** Where the heap begins in this process. */
    void *underlying() const noexcept { return base_.get(); }

    template <class U>
    friend bool operator==(const allocator &left, const allocator<U> &right) noexcept {
        return left.underlying() == right.underlying();
    }
    template <class U>
    friend bool operator!=(const allocator &left, const allocator<U> &right) noexcept {
        return !(left == right);
    }

private:
    offset_ptr<void> base_;
};

} // namespace shmheap

#endif // SHMHEAP_ALLOCATOR_HPP
