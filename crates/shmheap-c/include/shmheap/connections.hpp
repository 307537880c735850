/**
 * @file shmheap/connections.hpp
 * @brief Which heaps this process is connected to. Part of shmheap.hpp; nothing here is for users.
 *
 * A container in shared memory holds its allocator there, and every process that changes the
 * container uses that one allocator. It knows where the heap begins, which every process works out
 * from the allocator's own address. What it cannot hold is a memory handle, a number that means
 * something to one process only: this table leads from the one to the other.
 *
 *     allocator in the heap -- distance --> start of the heap -- table --> memory handle
 *
 * The table is on the path of every allocation, so a lookup is a few loads. It is lock-free, so a
 * child that was forked at any moment can use its copy. It needs no destructor: containers may be
 * used until the process ends.
 */
#ifndef SHMHEAP_CONNECTIONS_HPP
#define SHMHEAP_CONNECTIONS_HPP

#include <shmheap.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace shmheap {
namespace detail {

/** Memory handles by the addresses at which their heaps are mapped, different for each. */
class connection_table {
public:
    /** Tells whether there was memory for it. */
    bool insert(const void *base, shmheap_memory_handle mem) noexcept {
        std::atomic<entry *> &first = bucket(base);
        for (entry *it = first.load(std::memory_order_acquire); it != nullptr; it = it->next) {
            shmheap_memory_handle none = nullptr;
            // Acquire: with the release in remove().
            if (it->mem.compare_exchange_strong(none, mem, std::memory_order_acquire)) {
                // Release: with the acquire in find().
                it->base.store(base, std::memory_order_release);
                return true;
            }
        }
        entry *added = new (std::nothrow) entry{{base}, {mem}, first.load()};
        if (added == nullptr) {
            return false;
        }
        // Release: with the acquires that follow the list.
        while (!first.compare_exchange_weak(added->next, added, std::memory_order_release)) {
        }
        return true;
    }

    /** The entry stays for another heap: a thread may be looking at it. */
    void remove(const void *base) noexcept {
        entry *found = entry_of(base);
        if (found != nullptr) {
            found->base.store(nullptr, std::memory_order_relaxed);
            // Release: nobody fills the entry before its base is gone.
            found->mem.store(nullptr, std::memory_order_release);
        }
    }

    /** The handle of the heap that begins at `base`, or NULL. */
    shmheap_memory_handle find(const void *base) const noexcept {
        const entry *found = entry_of(base);
        return found == nullptr ? nullptr : found->mem.load(std::memory_order_relaxed);
    }

private:
    struct entry {
        std::atomic<const void *> base;         // null: free, or being filled
        std::atomic<shmheap_memory_handle> mem; // null: free
        entry *next;
    };

    static constexpr std::size_t bucket_bits = 6;

    static std::size_t bucket_of(const void *base) noexcept {
        // Pages are mapped close together; the multiplication (Fibonacci hashing) spreads them.
        const auto page = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(base)) >> 12;
        return static_cast<std::size_t>(page * 0x9e3779b97f4a7c15u >> (64 - bucket_bits));
    }

    std::atomic<entry *> &bucket(const void *base) noexcept { return buckets_[bucket_of(base)]; }

    entry *entry_of(const void *base) const noexcept {
        if (base == nullptr) {
            return nullptr;
        }
        entry *it = buckets_[bucket_of(base)].load(std::memory_order_acquire);
        // Acquire: the handle was stored before the base was.
        while (it != nullptr && it->base.load(std::memory_order_acquire) != base) {
            it = it->next;
        }
        return it;
    }

    std::atomic<entry *> buckets_[std::size_t(1) << bucket_bits] = {};
};

/** The one table of the process: visible, so that a program shares it with its libraries. */
SHMHEAP_API inline connection_table connections;

} // namespace detail
} // namespace shmheap

#endif // SHMHEAP_CONNECTIONS_HPP
