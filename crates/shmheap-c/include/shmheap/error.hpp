/**
 * @file shmheap/error.hpp
 * @brief Errors of the library as exceptions. Part of shmheap.hpp.
 */
#ifndef SHMHEAP_ERROR_HPP
#define SHMHEAP_ERROR_HPP

#include <shmheap.h>

#include <cerrno>
#include <new>
#include <system_error>

namespace shmheap {

/**
 * A call that failed. code() compares with std::errc and holds the errno value that shmheap.h lists
 * for the call; what() begins with the text of shmheap_last_error(): what failed, of what, and what
 * to do about it.
 *
 * That a heap is full is no error of this class where memory is asked for, but std::bad_alloc.
 */
class SHMHEAP_API error : public std::system_error {
public:
    error(int errnum, const char *text)
        : std::system_error(errnum, std::generic_category(), text) {}
};

namespace detail {

/** Throws what the call of the library that has just failed on this thread has left. */
[[noreturn]] inline void throw_last_error() {
    const int errnum = errno;
    throw error(errnum, shmheap_last_error());
}

/** As throw_last_error(), where the call was to give memory. */
[[noreturn]] inline void throw_no_memory() {
    // ENOSPC: the heap may grow, but shared memory is full.
    if (errno == ENOMEM || errno == ENOSPC) {
        throw std::bad_alloc();
    }
    throw_last_error();
}

} // namespace detail
} // namespace shmheap

#endif // SHMHEAP_ERROR_HPP
