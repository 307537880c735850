/**
 * @file shmheap/offset_ptr.hpp
 * @brief A pointer that may lie in shared memory. Part of shmheap.hpp.
 */
#ifndef SHMHEAP_OFFSET_PTR_HPP
#define SHMHEAP_OFFSET_PTR_HPP

#if __cplusplus >= 202002L
#include <compare>
#endif
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <type_traits>

namespace shmheap {

/**
 * A pointer that holds the distance from itself to its target.
 *
 * Where pointer and target lie in the same heap, the distance is the same in every process,
 * wherever each has mapped the heap. A pointer on a process's stack is valid in that process only,
 * as is one that points out of the heap. Two heaps are at different distances in different
 * processes: a pointer from one into the other is a mistake.
 *
 * It is what a "fancy pointer" is to containers: NullablePointer, random access iterator (from
 * C++20 on contiguous), std::pointer_traits; converts as T * does, and from T *. Nothing throws.
 *
 * - Copying works out a new distance, so it must not be copied as bytes (memcpy, realloc).
 * - Memory filled with zeroes is not null, but a pointer to itself.
 * - Loads and stores are not atomic, as those of T * are not.
 * - There is no std::hash: equal pointers would have other hashes in other processes.
 */
template <class T>
class offset_ptr {
    struct nothing;
    using object = std::conditional_t<std::is_void_v<T>, nothing, T>;

public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = offset_ptr;
    using reference = object &; // also for void: Boost has parameters of this type
    using iterator_category = std::random_access_iterator_tag;
#if __cplusplus >= 202002L
    using iterator_concept = std::contiguous_iterator_tag;
#endif

    /** Null. */
    constexpr offset_ptr() noexcept : distance_(null_distance) {}
    /** To the target of a plain pointer. Takes nullptr, too, and 0, by which Boost means it. */
    offset_ptr(T *target) noexcept : distance_(distance_to(target)) {}
    offset_ptr(const offset_ptr &other) noexcept : distance_(distance_to(other.get())) {}

    /** As T * converts: to const, to a base, to void. */
    template <class U, std::enable_if_t<std::is_convertible_v<U *, T *>, int> = 0>
    offset_ptr(const offset_ptr<U> &other) noexcept : distance_(distance_to(other.get())) {}

    /** As static_cast<T *> does where no conversion is: from void, to a derived class. */
    template <class U,
              std::enable_if_t<!std::is_convertible_v<U *, T *>, int> = 0,
              class = decltype(static_cast<T *>(std::declval<U *>()))>
    explicit offset_ptr(const offset_ptr<U> &other) noexcept
        : distance_(distance_to(static_cast<T *>(other.get()))) {}

    offset_ptr &operator=(const offset_ptr &other) noexcept {
        distance_ = distance_to(other.get());
        return *this;
    }

    /** The pointer to an object that std::pointer_traits asks for. */
    static offset_ptr pointer_to(reference target) noexcept { return std::addressof(target); }

    /** The target's address in this process. */
    T *get() const noexcept {
        if (distance_ == null_distance) {
            return nullptr;
        }
        // Numbers, for pointer arithmetic may not leave the object that it starts in.
        return reinterpret_cast<T *>(reinterpret_cast<std::uintptr_t>(this) + distance_);
    }

    T *operator->() const noexcept { return get(); }
    reference operator*() const noexcept { return *get(); }
    reference operator[](difference_type index) const noexcept { return get()[index]; }
    explicit operator bool() const noexcept { return distance_ != null_distance; }

    offset_ptr &operator+=(difference_type count) noexcept { return *this = get() + count; }
    offset_ptr &operator-=(difference_type count) noexcept { return *this = get() - count; }
    offset_ptr &operator++() noexcept { return *this += 1; }
    offset_ptr &operator--() noexcept { return *this -= 1; }
    offset_ptr operator++(int) noexcept {
        T *before = get();
        *this += 1;
        return before;
    }
    offset_ptr operator--(int) noexcept {
        T *before = get();
        *this -= 1;
        return before;
    }

    friend offset_ptr operator+(const offset_ptr &from, difference_type count) noexcept {
        return from.get() + count;
    }
    friend offset_ptr operator+(difference_type count, const offset_ptr &from) noexcept {
        return from.get() + count;
    }
    friend offset_ptr operator-(const offset_ptr &from, difference_type count) noexcept {
        return from.get() - count;
    }
    friend difference_type operator-(const offset_ptr &to, const offset_ptr &from) noexcept {
        return to.get() - from.get();
    }

    // By conversion of one side these also compare with nullptr, T *, and pointers to derived
    // classes and to non-const.
    friend bool operator==(const offset_ptr &left, const offset_ptr &right) noexcept {
        return left.get() == right.get();
    }
    friend bool operator!=(const offset_ptr &left, const offset_ptr &right) noexcept {
        return left.get() != right.get();
    }
    // std::less orders pointers into different objects, too.
    friend bool operator<(const offset_ptr &left, const offset_ptr &right) noexcept {
        return std::less<T *>()(left.get(), right.get());
    }
    friend bool operator>(const offset_ptr &left, const offset_ptr &right) noexcept {
        return right < left;
    }
    friend bool operator<=(const offset_ptr &left, const offset_ptr &right) noexcept {
        return !(right < left);
    }
    friend bool operator>=(const offset_ptr &left, const offset_ptr &right) noexcept {
        return !(left < right);
    }
#if __cplusplus >= 202002L
    friend std::strong_ordering operator<=>(const offset_ptr &left,
                                            const offset_ptr &right) noexcept {
        return std::compare_three_way()(left.get(), right.get());
    }
#endif

private:
    // No object begins at the second byte of a pointer to it, but one may hold a pointer to itself.
    static constexpr std::uintptr_t null_distance = 1;

    std::uintptr_t distance_to(T *target) const noexcept {
        if (target == nullptr) {
            return null_distance;
        }
        return reinterpret_cast<std::uintptr_t>(target) - reinterpret_cast<std::uintptr_t>(this);
    }

    std::uintptr_t distance_;
};

} // namespace shmheap

#endif // SHMHEAP_OFFSET_PTR_HPP
