/**
 * @file shmheap/labels.hpp
 * @brief A tag for as long as a scope lasts. Part of shmheap.hpp.
 */
#ifndef SHMHEAP_LABELS_HPP
#define SHMHEAP_LABELS_HPP

#include <shmheap/error.hpp>
#include <shmheap/heap.hpp>
#include <shmheap/labels.h>

#include <cerrno>

namespace shmheap {

/**
 * Has what this thread allocates in a heap counted under a tag, until its end: shmheap_tag_push()
 * and shmheap_tag_pop(). Containers included. The heap has to be connected until then, and the
 * scope ends on the thread where it began; several end in reverse order.
 *
 * @code
 *   const shmheap::tag_scope scope(heap, "parser");
 *   auto *tree = shmheap::construct<node>(heap);
 * @endcode
 *
 * Quotas and usage are those of shmheap/labels.h, with heap.get(). An allocation beyond a quota
 * throws shmheap::error, whose code() is EDQUOT.
 */
class [[nodiscard]] tag_scope {
public:
    tag_scope(const heap &heap, const char *tag) : mem_(heap.get()) {
        if (shmheap_tag_push(mem_, tag) != 0) {
            detail::throw_last_error();
        }
    }
    tag_scope(const tag_scope &) = delete;
    tag_scope &operator=(const tag_scope &) = delete;
    ~tag_scope() {
        const int before = errno;
        shmheap_tag_pop(mem_);
        errno = before;
    }

private:
    shmheap_memory_handle mem_;
};

} // namespace shmheap

#endif // SHMHEAP_LABELS_HPP
