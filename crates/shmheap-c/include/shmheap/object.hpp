/**
 * @file shmheap/object.hpp
 * @brief Single objects in a heap, and who owns them. Part of shmheap.hpp.
 */
#ifndef SHMHEAP_OBJECT_HPP
#define SHMHEAP_OBJECT_HPP

#include <shmheap/allocator.hpp>
#include <shmheap/heap.hpp>
#include <shmheap/offset_ptr.hpp>

#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace shmheap {
namespace detail {

/** Builds a T and hands it the allocator, if it is of the kind that takes one. */
template <class T, class... Arguments>
T *construct_at(void *place, const allocator<T> &allocator, Arguments &&...arguments) {
    using given = const shmheap::allocator<T> &;
    if constexpr (!std::uses_allocator_v<T, shmheap::allocator<T>>) {
        return ::new (place) T(std::forward<Arguments>(arguments)...);
    } else if constexpr (std::is_constructible_v<T, std::allocator_arg_t, given, Arguments...>) {
        return ::new (place)
            T(std::allocator_arg, allocator, std::forward<Arguments>(arguments)...);
    } else if constexpr (std::is_constructible_v<T, Arguments..., given>) {
        return ::new (place) T(std::forward<Arguments>(arguments)..., allocator);
    } else {
        // The caller has put an allocator among the arguments.
        return ::new (place) T(std::forward<Arguments>(arguments)...);
    }
}

/** Memory that is freed unless an object has been built in it. */
template <class T>
class place {
public:
    explicit place(const allocator<T> &allocator)
        : allocator_(allocator), memory_(allocator_.allocate(1).get()) {}
    place(const place &) = delete;
    place &operator=(const place &) = delete;
    ~place() {
        if (memory_ != nullptr) {
            allocator_.deallocate(memory_, 1);
        }
    }

    template <class... Arguments>
    T *construct(Arguments &&...arguments) {
        T *object = construct_at<T>(memory_, allocator_, std::forward<Arguments>(arguments)...);
        memory_ = nullptr;
        return object;
    }

private:
    allocator<T> allocator_;
    T *memory_;
};

} // namespace detail

/**
 * Builds a T in the heap. A T that takes an allocator (std::uses_allocator: it has an
 * allocator_type and constructors for it, as containers have) is given the heap's by itself.
 *
 * Throws as allocator::allocate() does, and what T's constructor throws; then nothing is left in
 * the heap. If the process is killed before others know of the object, it stays allocated.
 */
template <class T, class... Arguments>
T *construct(const heap &heap, Arguments &&...arguments) {
    detail::place<T> place{allocator<T>(heap)};
    return place.construct(std::forward<Arguments>(arguments)...);
}

/**
 * Ends an object of the heap, whichever process built it, and frees it. Null is nothing to do.
 *
 * Throws shmheap::error if it is no object of this heap; its destructor has been called by then. If
 * the process is killed on the way, the object may be ended but not freed.
 */
template <class T>
void destroy(const heap &heap, T *object) {
    if (object != nullptr) {
        object->~T();
        heap.free(object);
    }
}

/**
 * Destroys an object for std::unique_ptr. It may lie in the heap, as allocators may, and so may the
 * unique_ptr, whose pointer is an offset_ptr.
 */
template <class T>
class deleter {
public:
    using pointer = offset_ptr<T>;

    /** For a unique_ptr that owns nothing. */
    deleter() noexcept = default;
    explicit deleter(const heap &heap) noexcept : base_(heap.underlying()) {}

    void operator()(pointer object) const noexcept {
        object->~T();
        detail::deallocate(base_.get(), object.get());
    }

private:
    offset_ptr<void> base_;
};

/**
 * The owner of an object in a heap: its end is the object's.
 *
 * On the stack it goes with its process, but not when that is killed: the object stays allocated.
 * In the heap it outlives its process.
 */
template <class T>
using unique_ptr = std::unique_ptr<T, deleter<T>>;

/** construct(), owned. */
template <class T, class... Arguments>
unique_ptr<T> make_unique(const heap &heap, Arguments &&...arguments) {
    T *object = construct<T>(heap, std::forward<Arguments>(arguments)...);
    return unique_ptr<T>(object, deleter<T>(heap));
}

} // namespace shmheap

#endif // SHMHEAP_OBJECT_HPP
